// SPDX-License-Identifier: Apache-2.0
#include "agent/pki/pki.h"

#include "netplane/base/strings.h"

#include <memory>
#include <openssl/bio.h>
#include <openssl/bn.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/sha.h>
#include <openssl/x509.h>
#include <openssl/x509v3.h>

namespace shoal::pki {
namespace {

template <auto Free>
struct Deleter {
  template <class T>
  void operator()(T* p) const {
    Free(p);
  }
};
using BioPtr = std::unique_ptr<BIO, Deleter<BIO_free_all>>;
using KeyPtr = std::unique_ptr<EVP_PKEY, Deleter<EVP_PKEY_free>>;
using CertPtr = std::unique_ptr<X509, Deleter<X509_free>>;
using RequestPtr = std::unique_ptr<X509_REQ, Deleter<X509_REQ_free>>;
using ExtensionPtr = std::unique_ptr<X509_EXTENSION, Deleter<X509_EXTENSION_free>>;

std::unexpected<Error> fail_ssl(Errc code, std::string_view what) {
  char text[256] = "no reason given";
  if (const unsigned long error = ERR_get_error())
    ERR_error_string_n(error, text, sizeof(text));
  ERR_clear_error();
  return fail(code, fmt::format("{}: {}", what, text));
}

BioPtr memory_bio(std::string_view text) {
  return BioPtr(BIO_new_mem_buf(text.data(), static_cast<int>(text.size())));
}

template <class Write>
Result<std::string> to_pem(Write write, std::string_view what) {
  BioPtr bio(BIO_new(BIO_s_mem()));
  if (!bio || write(bio.get()) != 1)
    return fail_ssl(Errc::kInternal, what);
  char* data = nullptr;
  const long size = BIO_get_mem_data(bio.get(), &data);
  return std::string(data, static_cast<std::size_t>(size));
}

Result<KeyPtr> make_key() {
  KeyPtr key(EVP_PKEY_Q_keygen(nullptr, nullptr, "ED25519"));
  if (!key)
    return fail_ssl(Errc::kInternal, "generate an Ed25519 key");
  return key;
}

Result<KeyPtr> read_key(std::string_view pem) {
  BioPtr bio = memory_bio(pem);
  KeyPtr key(PEM_read_bio_PrivateKey(bio.get(), nullptr, nullptr, nullptr));
  if (!key)
    return fail_ssl(Errc::kCorrupt, "read a private key");
  return key;
}

Result<CertPtr> read_cert(std::string_view pem) {
  BioPtr bio = memory_bio(pem);
  CertPtr cert(PEM_read_bio_X509(bio.get(), nullptr, nullptr, nullptr));
  if (!cert)
    return fail_ssl(Errc::kCorrupt, "read a certificate");
  return cert;
}

Result<std::string> key_pem(EVP_PKEY* key) {
  return to_pem(
      [&](BIO* bio) {
        return PEM_write_bio_PKCS8PrivateKey(bio, key, nullptr, nullptr, 0, nullptr, nullptr);
      },
      "write a private key");
}

Result<std::string> cert_pem(X509* cert) {
  return to_pem([&](BIO* bio) { return PEM_write_bio_X509(bio, cert); }, "write a certificate");
}

Result<> add_name(X509_NAME* name, const char* field, std::string_view value) {
  if (X509_NAME_add_entry_by_txt(name, field, MBSTRING_UTF8,
                                 reinterpret_cast<const unsigned char*>(value.data()),
                                 static_cast<int>(value.size()), -1, 0) != 1)
    return fail_ssl(Errc::kInvalid, fmt::format("set {} to \"{}\"", field, printable(value)));
  return {};
}

Result<> add_extension(X509* cert, X509* issuer, int nid, const std::string& value) {
  X509V3_CTX context;
  X509V3_set_ctx_nodb(&context);
  X509V3_set_ctx(&context, issuer, cert, nullptr, nullptr, 0);
  ExtensionPtr extension(X509V3_EXT_conf_nid(nullptr, &context, nid, value.c_str()));
  if (!extension || X509_add_ext(cert, extension.get(), -1) != 1)
    return fail_ssl(Errc::kInternal, fmt::format("add certificate extension {}", value));
  return {};
}

std::time_t seconds(WallTime time) {
  return std::chrono::floor<std::chrono::seconds>(time).time_since_epoch().count();
}

// Version, a random 128-bit serial (RFC 5280 asks for 64 bits of entropy at most 20 bytes), the
// validity.
Result<CertPtr> blank_cert(const Clock& clock, std::chrono::hours lifetime, Random& random) {
  CertPtr cert(X509_new());
  std::uint8_t serial[16];
  random.fill(serial);
  serial[0] &= 0x7f;
  std::unique_ptr<BIGNUM, Deleter<BN_free>> number(BN_bin2bn(serial, sizeof(serial), nullptr));
  if (!cert || !number || X509_set_version(cert.get(), X509_VERSION_3) != 1 ||
      !BN_to_ASN1_INTEGER(number.get(), X509_get_serialNumber(cert.get())) ||
      !ASN1_TIME_set(X509_getm_notBefore(cert.get()), seconds(clock.wall() - kBackdate)) ||
      !ASN1_TIME_set(X509_getm_notAfter(cert.get()), seconds(clock.wall() + lifetime)))
    return fail_ssl(Errc::kInternal, "make a certificate");
  return cert;
}

std::string sha256(std::string_view bytes) {
  unsigned char digest[SHA256_DIGEST_LENGTH];
  SHA256(reinterpret_cast<const unsigned char*>(bytes.data()), bytes.size(), digest);
  return std::string(reinterpret_cast<const char*>(digest), sizeof(digest));
}

}  // namespace

std::string ca_name(std::string_view cluster_id) { return fmt::format("shoal-ca-{}", cluster_id); }

Result<KeyPair> make_ca(std::string_view cluster_id, const Clock& clock, Random& random) {
  KeyPtr key = SHOAL_TRY(make_key());
  CertPtr cert = SHOAL_TRY(blank_cert(clock, kCaLifetime, random));
  X509_NAME* name = X509_get_subject_name(cert.get());
  SHOAL_TRY(add_name(name, "O", "shoal"));
  SHOAL_TRY(add_name(name, "CN", ca_name(cluster_id)));
  X509_set_issuer_name(cert.get(), name);
  X509_set_pubkey(cert.get(), key.get());
  SHOAL_TRY(
      add_extension(cert.get(), cert.get(), NID_basic_constraints, "critical,CA:TRUE,pathlen:0"));
  SHOAL_TRY(add_extension(cert.get(), cert.get(), NID_key_usage, "critical,keyCertSign,cRLSign"));
  SHOAL_TRY(add_extension(cert.get(), cert.get(), NID_subject_key_identifier, "hash"));
  if (X509_sign(cert.get(), key.get(), nullptr) == 0)
    return fail_ssl(Errc::kInternal, "sign the CA certificate");
  return KeyPair{SHOAL_TRY(key_pem(key.get())), SHOAL_TRY(cert_pem(cert.get()))};
}

Result<Request> make_request(std::string_view node_name) {
  KeyPtr key = SHOAL_TRY(make_key());
  RequestPtr request(X509_REQ_new());
  if (!request)
    return fail_ssl(Errc::kInternal, "make a certificate request");
  SHOAL_TRY(add_name(X509_REQ_get_subject_name(request.get()), "CN", node_name));
  if (X509_REQ_set_pubkey(request.get(), key.get()) != 1 ||
      X509_REQ_sign(request.get(), key.get(), nullptr) == 0)
    return fail_ssl(Errc::kInternal, "sign a certificate request");
  Request out;
  out.key = SHOAL_TRY(key_pem(key.get()));
  out.csr = SHOAL_TRY(to_pem([&](BIO* bio) { return PEM_write_bio_X509_REQ(bio, request.get()); },
                             "write a certificate request"));
  return out;
}

Result<std::string> sign_request(const KeyPair& ca, std::string_view csr,
                                 const NodeIdentity& identity, const Clock& clock, Random& random) {
  if (!is_dns_subdomain(identity.name))
    return fail(Errc::kInvalid,
                fmt::format("node name \"{}\" is not a DNS name", printable(identity.name)));
  KeyPtr ca_key = SHOAL_TRY(read_key(ca.key));
  CertPtr ca_cert = SHOAL_TRY(read_cert(ca.cert));
  BioPtr bio = memory_bio(csr);
  RequestPtr request(PEM_read_bio_X509_REQ(bio.get(), nullptr, nullptr, nullptr));
  if (!request)
    return fail_ssl(Errc::kInvalid, "read a certificate request");
  EVP_PKEY* key = X509_REQ_get0_pubkey(request.get());
  if (!key || X509_REQ_verify(request.get(), key) != 1)
    return fail_ssl(Errc::kInvalid, "check the signature of a certificate request");
  if (EVP_PKEY_get_id(key) != EVP_PKEY_ED25519)
    return fail(Errc::kInvalid, "a certificate request must be for an Ed25519 key");

  CertPtr cert = SHOAL_TRY(blank_cert(clock, kNodeLifetime, random));
  X509_NAME* name = X509_get_subject_name(cert.get());
  SHOAL_TRY(add_name(name, "O", kNodesOrganization));
  SHOAL_TRY(add_name(name, "CN", identity.name));
  X509_set_issuer_name(cert.get(), X509_get_subject_name(ca_cert.get()));
  X509_set_pubkey(cert.get(), key);
  std::string names = fmt::format("DNS:{}", identity.name);
  for (const IpAddress& address : identity.addresses)
    names += fmt::format(",IP:{}", address.to_string());
  SHOAL_TRY(add_extension(cert.get(), ca_cert.get(), NID_basic_constraints, "critical,CA:FALSE"));
  SHOAL_TRY(add_extension(cert.get(), ca_cert.get(), NID_key_usage, "critical,digitalSignature"));
  SHOAL_TRY(add_extension(cert.get(), ca_cert.get(), NID_ext_key_usage, "serverAuth,clientAuth"));
  SHOAL_TRY(add_extension(cert.get(), ca_cert.get(), NID_subject_alt_name, names));
  SHOAL_TRY(add_extension(cert.get(), ca_cert.get(), NID_authority_key_identifier, "keyid"));
  if (X509_sign(cert.get(), ca_key.get(), nullptr) == 0)
    return fail_ssl(Errc::kInternal, "sign a certificate");
  return cert_pem(cert.get());
}

Result<std::string> fingerprint(std::string_view cert) {
  CertPtr x = SHOAL_TRY(read_cert(cert));
  unsigned char digest[EVP_MAX_MD_SIZE];
  unsigned size = 0;
  if (X509_digest(x.get(), EVP_sha256(), digest, &size) != 1)
    return fail_ssl(Errc::kInternal, "digest a certificate");
  return hex(std::string_view(reinterpret_cast<const char*>(digest), size));
}

Result<std::string> common_name(std::string_view cert) {
  CertPtr x = SHOAL_TRY(read_cert(cert));
  char text[256];
  if (X509_NAME_get_text_by_NID(X509_get_subject_name(x.get()), NID_commonName, text,
                                sizeof(text)) < 0)
    return fail(Errc::kInvalid, "the certificate has no common name");
  return std::string(text);
}

Result<WallTime> not_after(std::string_view cert) {
  CertPtr x = SHOAL_TRY(read_cert(cert));
  tm time{};
  if (ASN1_TIME_to_tm(X509_get0_notAfter(x.get()), &time) != 1)
    return fail_ssl(Errc::kCorrupt, "read a certificate's end of validity");
  return WallTime(std::chrono::seconds(::timegm(&time)));
}

Result<> verify(std::string_view ca, std::string_view cert, WallTime when) {
  CertPtr root = SHOAL_TRY(read_cert(ca));
  CertPtr leaf = SHOAL_TRY(read_cert(cert));
  std::unique_ptr<X509_STORE, Deleter<X509_STORE_free>> roots(X509_STORE_new());
  std::unique_ptr<X509_STORE_CTX, Deleter<X509_STORE_CTX_free>> context(X509_STORE_CTX_new());
  if (!roots || !context || X509_STORE_add_cert(roots.get(), root.get()) != 1 ||
      X509_STORE_CTX_init(context.get(), roots.get(), leaf.get(), nullptr) != 1)
    return fail_ssl(Errc::kInternal, "set up certificate verification");
  X509_STORE_CTX_set_time(context.get(), 0, seconds(when));
  if (X509_verify_cert(context.get()) != 1)
    return fail(Errc::kPermission, fmt::format("certificate is not valid: {}",
                                               X509_verify_cert_error_string(
                                                   X509_STORE_CTX_get_error(context.get()))));
  return {};
}

Result<> check_key(std::string_view cert, std::string_view key) {
  const CertPtr certificate = SHOAL_TRY(read_cert(cert));
  const KeyPtr own = SHOAL_TRY(read_key(key));
  if (X509_check_private_key(certificate.get(), own.get()) != 1) {
    ERR_clear_error();
    return fail(Errc::kConflict, "the private key is not the certificate's");
  }
  return {};
}

namespace {
constexpr std::string_view kTokenPrefix = "shoal1.";
constexpr std::size_t kSecretBytes = 16;
}  // namespace

std::string JoinToken::to_string() const {
  std::string text = base64(*parse_hex(ca_fingerprint) + secret);
  for (char& c : text)
    c = c == '+' ? '-' : (c == '/' ? '_' : c);
  text.erase(text.find_last_not_of('=') + 1);
  return std::string(kTokenPrefix) + text;
}

Result<JoinToken> JoinToken::parse(std::string_view text) {
  std::string coded(trim(text));
  const bool prefixed = coded.starts_with(kTokenPrefix);
  coded = prefixed ? coded.substr(kTokenPrefix.size()) : "";
  for (char& c : coded)
    c = c == '-' ? '+' : (c == '_' ? '/' : c);
  coded.append((4 - coded.size() % 4) % 4, '=');
  const auto bytes = parse_base64(coded);
  if (!prefixed || !bytes || bytes->size() != SHA256_DIGEST_LENGTH + kSecretBytes)
    return fail(Errc::kInvalid,
                "the join token is malformed or cut short; copy it whole, or make a new one "
                "on a member host: shoal token create");
  return JoinToken{hex(bytes->substr(0, SHA256_DIGEST_LENGTH)),
                   bytes->substr(SHA256_DIGEST_LENGTH)};
}

JoinToken JoinToken::make(std::string ca_fingerprint, Random& random) {
  JoinToken token{std::move(ca_fingerprint), std::string(kSecretBytes, '\0')};
  random.fill({reinterpret_cast<std::uint8_t*>(token.secret.data()), token.secret.size()});
  return token;
}

std::string JoinToken::secret_hash() const { return hex(sha256(secret)); }

}  // namespace shoal::pki

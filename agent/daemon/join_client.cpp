// SPDX-License-Identifier: Apache-2.0
#include "agent/daemon/join_client.h"

#include "netplane/base/strings.h"

#include <boost/asio/connect.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/ssl.hpp>
#include <boost/beast/core.hpp>
#include <boost/beast/http.hpp>
#include <boost/json.hpp>
#include <openssl/pem.h>
#include <openssl/x509.h>

namespace shoal::daemon {
namespace {

namespace asio = boost::asio;
namespace beast = boost::beast;
namespace http = beast::http;
namespace json = boost::json;
using tcp = asio::ip::tcp;
using Stream = asio::ssl::stream<beast::tcp_stream>;

constexpr std::size_t kAnswerBytesMax = 1 << 20;

Result<json::object> parse_object(std::string_view text, std::string_view what) {
  boost::system::error_code error;
  json::value value = json::parse(text, error);
  if (error || !value.is_object())
    return fail(Errc::kInvalid,
                fmt::format("{}: {}", what, error ? error.message() : "not an object"));
  return std::move(value.as_object());
}

Result<std::string> text_at(const json::object& object, std::string_view key) {
  const json::value* value = object.if_contains(key);
  if (!value || !value->is_string())
    return fail(Errc::kInvalid, fmt::format("\"{}\" is missing or not a string", key));
  return std::string(value->as_string());
}

std::string pem_of(X509* cert) {
  BIO* bio = BIO_new(BIO_s_mem());
  std::string text;
  if (bio && PEM_write_bio_X509(bio, cert) == 1) {
    char* data = nullptr;
    const long size = BIO_get_mem_data(bio, &data);
    text.assign(data, static_cast<std::size_t>(size));
  }
  BIO_free(bio);
  return text;
}

// The peer must show a CA certificate with the token's fingerprint, and a certificate signed by it.
Result<> check_peer(SSL* ssl, const std::string& fingerprint, const Clock& clock) {
  STACK_OF(X509)* chain = SSL_get_peer_cert_chain(ssl);
  for (int i = 1; chain && i < sk_X509_num(chain); i++) {
    const std::string ca = pem_of(sk_X509_value(chain, i));
    auto print = pki::fingerprint(ca);
    if (!print || *print != fingerprint)
      continue;
    return pki::verify(ca, pem_of(sk_X509_value(chain, 0)), clock.wall());
  }
  return fail(Errc::kPermission, "it is not a member of the cluster that the token was made for: "
                                 "check the address, or make a token in that cluster (shoal token "
                                 "create)");
}

// Before a member has been reached: most likely the address is not one's.
Error not_reached(const beast::error_code& error, std::string_view what) {
  return Error(Errc::kUnavailable,
               fmt::format("{}: {}; is this the address and the port of a member's API (api.port, "
                           "6443 unless set), and does shoald run there?",
                           what, error.message()));
}

Error unavailable(const beast::error_code& error, std::string_view what) {
  return Error(Errc::kUnavailable, fmt::format("{}: {}", what, error.message()));
}

// One exchange on an io_context of its own, so that the whole is bounded in time.
class JoinExchange {
public:
  JoinExchange(const SocketAddress& member, const pki::JoinToken& token, const Clock& clock)
      : context_(asio::ssl::context::tls_client), stream_(io_, context_), token_(token),
        clock_(clock), endpoint_(asio::ip::make_address(member.ip.to_string()), member.port) {
    // Verified by hand in check_peer: the CA is not known beforehand, only its fingerprint.
    stream_.set_verify_mode(asio::ssl::verify_none);
    SSL_set_min_proto_version(stream_.native_handle(), TLS1_3_VERSION);
    parser_.body_limit(kAnswerBytesMax);
  }

  Result<std::pair<unsigned, std::string>> run(std::string body) {
    request_.method(http::verb::post);
    request_.target(std::string(kJoinPath));
    request_.set(http::field::host, "shoal");
    request_.set(http::field::content_type, "application/json");
    request_.body() = std::move(body);
    request_.prepare_payload();
    beast::get_lowest_layer(stream_).async_connect(
        endpoint_, [this](beast::error_code error) { connected(error); });
    io_.run_for(kJoinTimeout);
    if (!outcome_)
      return fail(Errc::kUnavailable,
                  fmt::format("no answer within {} s; is this the address and the port of a "
                              "member's API (api.port, 6443 unless set), and can it be reached?",
                              kJoinTimeout.count()));
    return std::move(*outcome_);
  }

private:
  using Outcome = Result<std::pair<unsigned, std::string>>;
  void finish(Error error) { outcome_ = Outcome(fail(std::move(error))); }

  void connected(beast::error_code error) {
    if (error)
      return finish(not_reached(error, "connect"));
    stream_.async_handshake(asio::ssl::stream_base::client,
                            [this](beast::error_code e) { greeted(e); });
  }

  void greeted(beast::error_code error) {
    if (error)
      return finish(not_reached(error, "TLS handshake"));
    if (auto good = check_peer(stream_.native_handle(), token_.ca_fingerprint, clock_); !good)
      return finish(std::move(good).error());
    http::async_write(stream_, request_, [this](beast::error_code e, std::size_t) {
      if (e)
        return finish(unavailable(e, "send"));
      http::async_read(stream_, buffer_, parser_, [this](beast::error_code e2, std::size_t) {
        if (e2)
          return finish(unavailable(e2, "read the answer"));
        outcome_ = Outcome(std::pair(parser_.get().result_int(), std::move(parser_.get().body())));
      });
    });
  }

  asio::io_context io_;
  asio::ssl::context context_;
  Stream stream_;
  const pki::JoinToken& token_;
  const Clock& clock_;
  tcp::endpoint endpoint_;
  http::request<http::string_body> request_;
  http::response_parser<http::string_body> parser_;
  beast::flat_buffer buffer_{kAnswerBytesMax};
  std::optional<Outcome> outcome_;
};

// A Kubernetes Status, or anything else a broken peer may say.
Error refusal(unsigned code, const std::string& body) {
  auto status = parse_object(body, "answer");
  std::string message = "HTTP " + std::to_string(code);
  if (status)
    if (auto text = text_at(*status, "message"))
      message = printable(*text, 512);
  switch (code) {
  case 401:
  case 403:
    return Error(Errc::kPermission, message);
  case 409:
    return Error(Errc::kExists, message);
  case 503:
    return Error(Errc::kUnavailable, message);
  default:
    return Error(Errc::kIo, message);
  }
}

}  // namespace

std::string to_json(const JoinRequest& request) {
  return json::serialize(json::object{{"secret", base64(request.secret)},
                                      {"node", request.node_name},
                                      {"address", request.address.to_string()},
                                      {"csr", request.csr}});
}

Result<JoinRequest> join_request_from_json(std::string_view text) {
  const json::object object = SHOAL_TRY(parse_object(text, "join request"));
  JoinRequest request;
  auto secret = parse_base64(SHOAL_TRY(text_at(object, "secret")));
  if (!secret)
    return fail(Errc::kInvalid, "\"secret\" is not base64");
  request.secret = std::move(*secret);
  request.node_name = SHOAL_TRY(text_at(object, "node"));
  if (!is_dns_subdomain(request.node_name))
    return fail(Errc::kInvalid, fmt::format("node name \"{}\" is not a DNS name (RFC 1123)",
                                            printable(request.node_name)));
  request.address = SHOAL_TRY(IpAddress::parse(SHOAL_TRY(text_at(object, "address"))));
  request.csr = SHOAL_TRY(text_at(object, "csr"));
  return request;
}

std::string join_answer_to_json(const ClusterFiles& files) {
  json::object object{{"clusterId", files.cluster_id},
                      {"storeApi", files.store_api.to_string()},
                      {"caCert", files.ca_cert},
                      {"nodeCert", files.node_cert},
                      {"gossipKey", base64(files.gossip_key)},
                      {"settings", json::parse(settings_to_json(files.settings))}};
  json::array& seeds = object["seeds"].emplace_array();
  for (const SocketAddress& seed : files.seeds)
    seeds.emplace_back(seed.to_string());
  return json::serialize(object);
}

Result<ClusterFiles> join_answer_from_json(std::string_view text) {
  const json::object object = SHOAL_TRY(parse_object(text, "join answer"));
  ClusterFiles files;
  files.cluster_id = SHOAL_TRY(text_at(object, "clusterId"));
  files.store_api = SHOAL_TRY(SocketAddress::parse(SHOAL_TRY(text_at(object, "storeApi"))));
  files.ca_cert = SHOAL_TRY(text_at(object, "caCert"));
  files.node_cert = SHOAL_TRY(text_at(object, "nodeCert"));
  auto key = parse_base64(SHOAL_TRY(text_at(object, "gossipKey")));
  if (!key)
    return fail(Errc::kInvalid, "\"gossipKey\" is not base64");
  files.gossip_key = std::move(*key);
  const json::value* seeds = object.if_contains("seeds");
  const json::value* settings = object.if_contains("settings");
  if (!seeds || !seeds->is_array() || !settings)
    return fail(Errc::kInvalid, "\"seeds\" or \"settings\" is missing");
  for (const json::value& seed : seeds->as_array())
    files.seeds.push_back(SHOAL_TRY(
        SocketAddress::parse(seed.is_string() ? std::string_view(seed.as_string()) : "")));
  files.settings = SHOAL_TRY(settings_from_json(json::serialize(*settings)));
  return files;
}

Result<ClusterFiles> join_cluster(const SocketAddress& member, const pki::JoinToken& token,
                                  const std::string& node_name, const IpAddress& address,
                                  const Clock& clock) {
  const std::string what = fmt::format("join through {}", member.to_string());
  pki::Request request = SHOAL_TRY(pki::make_request(node_name));
  auto exchange = std::make_unique<JoinExchange>(member, token, clock);
  const auto [code, body] = SHOAL_TRY_WRAP(
      exchange->run(to_json(JoinRequest{token.secret, node_name, address, request.csr})), what);
  if (code != 200)
    return fail(refusal(code, body).wrap(what));
  ClusterFiles files = SHOAL_TRY_WRAP(join_answer_from_json(body), what);
  SHOAL_TRY_WRAP(pki::verify(files.ca_cert, files.node_cert, clock.wall()), what);
  files.node_name = node_name;
  files.node_key = std::move(request.key);
  return files;
}

}  // namespace shoal::daemon

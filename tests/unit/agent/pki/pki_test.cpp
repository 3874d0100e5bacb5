// SPDX-License-Identifier: Apache-2.0
#include "agent/pki/pki.h"

#include "tests/fakes/fake_clock.h"

namespace shoal::pki {
namespace {

class Pki : public testing::Test {
protected:
  std::string sign(const std::string& csr, std::string name = "h1") {
    auto cert = sign_request(ca_, csr, {std::move(name), {*IpAddress::parse("198.18.0.11")}},
                             clock_, random_);
    EXPECT_TRUE(cert) << cert.error().message();
    return cert.value_or("");
  }
  FakeClock clock_;
  SeededRandom random_{11};
  KeyPair ca_ = *make_ca("c1", clock_, random_);
};

TEST_F(Pki, AHostsCertificateVerifiesAndNamesTheHost) {
  const auto request = make_request("whoever");
  ASSERT_TRUE(request);
  const std::string cert = sign(request->csr);
  EXPECT_TRUE(verify(ca_.cert, cert, clock_.wall()));
  // The signer's word counts, not the request's.
  EXPECT_EQ(*common_name(cert), "h1");
  EXPECT_EQ(*not_after(cert), clock_.wall() + kNodeLifetime);
}

TEST_F(Pki, AnotherCaOrAPassedDateDoesNotVerify) {
  const std::string cert = sign(make_request("h1")->csr);
  const KeyPair other = *make_ca("c2", clock_, random_);
  EXPECT_FALSE(verify(other.cert, cert, clock_.wall()));
  clock_.advance(kNodeLifetime + std::chrono::hours(1));
  const auto late = verify(ca_.cert, cert, clock_.wall());
  ASSERT_FALSE(late);
  EXPECT_NE(late.error().message().find("expired"), std::string::npos) << late.error().message();
}

TEST_F(Pki, AKeyBelongsToItsCertificateAlone) {
  const auto request = make_request("h1");
  const std::string cert = sign(request->csr);
  EXPECT_TRUE(check_key(cert, request->key));
  EXPECT_EQ(check_key(cert, make_request("h1")->key).error().code(), Errc::kConflict);
  EXPECT_FALSE(check_key(cert, "garbage"));
  EXPECT_FALSE(check_key("garbage", request->key));
}

TEST_F(Pki, RefusesGarbageAndForgedRequests) {
  EXPECT_FALSE(sign_request(ca_, "garbage", {"h1", {}}, clock_, random_));
  std::string csr = make_request("h1")->csr;
  const std::size_t middle = csr.size() / 2;
  csr[middle] = csr[middle] == 'A' ? 'B' : 'A';
  EXPECT_FALSE(sign_request(ca_, csr, {"h1", {}}, clock_, random_));
  EXPECT_FALSE(sign_request(ca_, make_request("h1")->csr, {"h1,DNS:evil", {}}, clock_, random_));
}

TEST_F(Pki, TokensRoundTripAndRefuseWhatIsCutShort) {
  const auto token = JoinToken::make(*fingerprint(ca_.cert), random_);
  const std::string text = token.to_string();
  const auto parsed = JoinToken::parse(text + "\n");
  ASSERT_TRUE(parsed);
  EXPECT_EQ(parsed->ca_fingerprint, *fingerprint(ca_.cert));
  EXPECT_EQ(parsed->secret_hash(), token.secret_hash());
  for (std::size_t n = 0; n < text.size(); n++)
    EXPECT_FALSE(JoinToken::parse(text.substr(0, n))) << n;
  EXPECT_FALSE(JoinToken::parse("shoal2" + text.substr(6)));
}

}  // namespace
}  // namespace shoal::pki

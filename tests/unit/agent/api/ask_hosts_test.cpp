// SPDX-License-Identifier: Apache-2.0
// One question to many hosts: those that answer, those that refuse, those that are not there.
#include "agent/api/ask_hosts.h"

#include "tests/unit/agent/api/tls_fixture.h"

namespace shoal::api {
namespace {

class AskHostsTest : public TlsFixture {
protected:
  std::vector<Result<std::string>> ask(std::vector<PeerHost> hosts, std::string target) {
    std::optional<std::vector<Result<std::string>>> out;
    ask_hosts(loop_.context(), {dir_ / "h2.crt", dir_ / "h2.key", dir_ / "ca.crt"},
              std::move(hosts), std::move(target),
              [&](std::vector<Result<std::string>> answers) { out = std::move(answers); });
    EXPECT_FALSE(out) << "from within the call";
    EXPECT_TRUE(loop_.run_until([&] { return out.has_value(); }));
    return std::move(*out);
  }
};

TEST_F(AskHostsTest, EachAnswersForItself) {
  int asked = 0;
  prepare_ = [&](Server& server) {
    server.route("GET", "/part", [&](const ExchangePtr& x) {
      ++asked;
      x->reply_text(x->request().header(kRelayedHeader).empty() ? 500 : 200,
                    fmt::format("part {}", x->request().query_or("q")));
    });
  };
  start();
  const PeerHost here{"h1", "127.0.0.1", server_->tls_port()};
  PeerHost liar = here, nowhere = here, broken = here;
  liar.name = "h3";  // its certificate says h1
  nowhere.port = 1;
  broken.address = "x";
  std::vector<PeerHost> hosts{here, liar, nowhere, broken};
  hosts.insert(hosts.end(), 2 * kHostsAtOnce, here);
  const auto answers = ask(hosts, "/part?q=a%20b");
  ASSERT_EQ(answers.size(), hosts.size());
  EXPECT_EQ(answers[0].value_or("-"), "part a b");
  EXPECT_EQ(answers.back().value_or("-"), "part a b");
  for (const std::size_t i : {1, 2, 3})
    EXPECT_EQ(answers[i].error().code(), Errc::kUnavailable) << i;
  EXPECT_EQ(asked, 1 + 2 * static_cast<int>(kHostsAtOnce));
  const auto refused = ask({here}, "/none");
  EXPECT_NE(refused[0].error().message().find("HTTP status 404"), std::string::npos)
      << refused[0].error().message();
  EXPECT_TRUE(ask({}, "/part").empty());
}

}  // namespace
}  // namespace shoal::api

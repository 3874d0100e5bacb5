// SPDX-License-Identifier: Apache-2.0
// Transactions over TLS, on the loopback:  [HttpsForwarder] --- 127.0.0.1 --- [Server ---
// FakeStore]
#include "agent/api/txn_forward.h"

#include "tests/unit/agent/api/tls_fixture.h"

namespace shoal::api {
namespace {

using store::Event;
using store::TxnResult;

class ForwardTest : public TlsFixture {
protected:
  ForwardTest() {
    prepare_ = [this](Server& server) {
      serve_store(server, store_, [](const Peer& peer) {
        return peer.organization == pki::kNodesOrganization && peer.common_name != "banned";
      });
      server.route(
          "POST", "/open", [](ExchangePtr x) { x->reply_text(200, "anyone"); }, BodyMode::kBuffered,
          Access::kAnonymous);
    };
  }
  std::unique_ptr<TxnForwarder> forwarder(const std::string& who, std::string host = "h1") {
    return make_https_forwarder(
        loop_.context(), {dir_ / (who + ".crt"), dir_ / (who + ".key"), dir_ / "ca.crt"},
        [this, host] { return StoreHost{host, "127.0.0.1", port_ ? port_ : server_->tls_port()}; });
  }
  Result<TxnResult> forward(TxnForwarder& forwarder, store::Txn txn) {
    std::optional<Result<TxnResult>> answer;
    forwarder.txn(std::move(txn), [&](Result<TxnResult> r) { answer = std::move(r); });
    EXPECT_FALSE(answer);
    EXPECT_TRUE(loop_.run_until([&] { return answer.has_value(); }));
    return std::move(*answer);
  }

  std::uint16_t port_ = 0;
};

TEST_F(ForwardTest, CommitsAndLostComparisonsComeBackWhole) {
  start();
  const auto remote = forwarder("h2");
  const auto done = forward(*remote, {{{"/a", 0}}, {{"/a", "\"täxt\n\""}}});
  ASSERT_TRUE(done) << done.error().message();
  EXPECT_TRUE(done->committed);
  EXPECT_EQ(done->events, (std::vector<Event>{{"/a", "\"täxt\n\"", 2, 2}}));
  const auto lost = forward(*remote, {{{"/a", 0}, {"/none", 3}}, {{"/a", "x"}}});
  ASSERT_TRUE(lost);
  EXPECT_FALSE(lost->committed);
  EXPECT_EQ(lost->lost, (std::vector<std::string>{"/a", "/none"}));
  EXPECT_EQ(lost->present.size(), 2U);
  EXPECT_EQ(lost->present[0].revision, 2U);
}

TEST_F(ForwardTest, ManyAtOnceAreAllAnswered) {
  start();
  const auto remote = forwarder("h2");
  int done = 0;
  for (int i = 0; i < 60; ++i)
    remote->txn({{}, {{fmt::format("/k{}", i), "v"}}}, [&](Result<TxnResult> r) {
      EXPECT_TRUE(r) << r.error().message();
      ++done;
    });
  EXPECT_TRUE(loop_.run_until([&] { return done == 60; }));
  EXPECT_EQ(store_.commits, 61U);
}

TEST_F(ForwardTest, AHostThatWasStartedAnewGetsANewConnection) {
  start();
  const auto remote = forwarder("h2");
  ASSERT_TRUE(forward(*remote, {{{"/a", 0}}, {{"/a", "1"}}}));
  options_.tls->port = server_->tls_port();
  server_.reset();
  start();
  const auto again = forward(*remote, {{{"/b", 0}}, {{"/b", "2"}}});
  ASSERT_TRUE(again) << again.error().message();
  EXPECT_TRUE(again->committed);
}

TEST_F(ForwardTest, TheWriterGoesThroughIt) {
  start();
  // Another host: its own replica, which knows only what it was given.
  store::Replica away;
  away.reset(store_.now());
  const auto remote = forwarder("h2");
  const auto writer = make_writer(
      away, [&](store::Txn t, TxnDone d) { remote->txn(std::move(t), std::move(d)); },
      loop_.poster(), clock_, random_, {.service_cidrs = {*IpPrefix::parse("10.96.0.0/30")}});
  const auto create = [&](const char* name) {
    std::optional<WriteResult> answer;
    writer->create(
        boost::json::parse(
            fmt::format(R"({{"apiVersion":"v1","kind":"Service","metadata":{{"name":"{}"}},
        "spec":{{"selector":{{"a":"b"}},"ports":[{{"port":80}}]}}}})",
                        name))
            .get_object(),
        [&](WriteResult r) { answer = std::move(r); });
    EXPECT_TRUE(loop_.run_until([&] { return answer.has_value(); }));
    return std::move(*answer);
  };
  // Somebody else took one of the two addresses, and this replica has not heard of it.
  store_.commit({{}, {{"/alloc/cluster-ips/10.96.0.1", "{}"}}});
  const auto made = create("web");
  ASSERT_TRUE(made) << made.error().message;
  EXPECT_TRUE(away.get("services", "default", "web")) << "in this host's replica at once";
  EXPECT_TRUE(store_.values().contains("/alloc/cluster-ips/10.96.0.2"));
  const auto full = create("more");
  ASSERT_FALSE(full);
  EXPECT_EQ(full.error().code, 507);
}

TEST_F(ForwardTest, StrangersAreRefused) {
  start();
  const auto strangers = *pki::make_ca("other", now_, random_);
  node("mallory", strangers);
  const auto unknown = forward(*forwarder("mallory"), {{}, {{"/a", "x"}}});
  ASSERT_FALSE(unknown);
  EXPECT_EQ(store_.commits, 1U);
  node("banned", ca_);
  const auto banned = forward(*forwarder("banned"), {{}, {{"/a", "x"}}});
  ASSERT_FALSE(banned);
  EXPECT_EQ(banned.error().code(), Errc::kPermission) << banned.error().message();
  // The other side must be who it is said to be.
  const auto other = forward(*forwarder("h2", "h9"), {{}, {{"/a", "x"}}});
  ASSERT_FALSE(other);
  EXPECT_EQ(other.error().code(), Errc::kUnavailable);
  EXPECT_THAT(other.error().message(), testing::HasSubstr("for the name h9"));
  EXPECT_EQ(store_.commits, 1U);
}

TEST_F(ForwardTest, AnUnreachableStoreSaysThatNothingWasWritten) {
  start();
  port_ = 1;  // nobody listens there
  const auto refused = forward(*forwarder("h2"), {{}, {{"/a", "x"}}});
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code(), Errc::kUnavailable);
  const auto nowhere =
      make_https_forwarder(loop_.context(), {dir_ / "h2.crt", dir_ / "h2.key", dir_ / "ca.crt"},
                           [] { return std::optional<StoreHost>(); });
  EXPECT_EQ(forward(*nowhere, {{}, {{"/a", "x"}}}).error().code(), Errc::kUnavailable);
  store_.failures.push_back(Error(Errc::kExhausted, "the disk is full"));
  port_ = 0;
  const auto full = forward(*forwarder("h2"), {{}, {{"/a", "x"}}});
  EXPECT_EQ(full.error().code(), Errc::kExhausted);
  EXPECT_THAT(full.error().message(), testing::HasSubstr("the disk is full"));
}

TEST_F(ForwardTest, WithoutACertificateOnlyWhatIsForEverybody) {
  start();
  const auto curl = [&](std::string_view arguments) {
    return call([this, text = std::string(arguments)] {
      const std::string command =
          fmt::format("curl -s --max-time 10 -o /dev/null -w '%{{http_code}}' --cacert {} {}",
                      (dir_ / "ca.crt").string(), text);
      FILE* pipe = ::popen(command.c_str(), "r");
      char bytes[64] = {};
      const std::size_t count = std::fread(bytes, 1, sizeof(bytes) - 1, pipe);
      ::pclose(pipe);
      return std::string(bytes, count);
    });
  };
  const std::string base = fmt::format("https://127.0.0.1:{}", server_->tls_port());
  const std::string mine = fmt::format(" --cert {0}/h2.crt --key {0}/h2.key ", dir_.string());
  EXPECT_EQ(curl(base + "/readyz"), "200");
  EXPECT_EQ(curl(base + "/api/v1/pods"), "401");
  EXPECT_EQ(curl(base + "/shoal/v1/snapshot"), "401");
  EXPECT_EQ(curl("-d x " + base + "/open"), "200");
  EXPECT_EQ(curl(mine + base + "/api/v1/pods"), "200");
  EXPECT_EQ(curl(mine + base + "/shoal/v1/snapshot"), "200");
  EXPECT_EQ(curl("--tls-max 1.2 " + base + "/readyz"), "000") << "TLS 1.3 only";
}

TEST_F(ForwardTest, MessagesSurviveTheTrip) {
  const store::Txn txn{{{"/a", 7}, {"/b", 0}}, {{"/a", "1"}, {"/b", std::nullopt}}};
  const auto back = txn_from_json(boost::json::parse(boost::json::serialize(to_json(txn))));
  ASSERT_TRUE(back);
  EXPECT_EQ(back->compares.size(), 2U);
  EXPECT_EQ(back->compares[0].mod_revision, 7U);
  EXPECT_FALSE(back->ops[1].value);
  const TxnResult result{true, 9, {{"/a", "1", 3, 9}}, {"/l"}, {{"/l", std::nullopt, 0, 8}}};
  const auto result_back =
      txn_result_from_json(boost::json::parse(boost::json::serialize(to_json(result))));
  ASSERT_TRUE(result_back);
  EXPECT_EQ(result_back->events, result.events);
  EXPECT_EQ(result_back->present, result.present);
  const store::Snapshot snapshot{4, {{"/a", "1", 2, 3}}};
  EXPECT_EQ(
      snapshot_from_json(boost::json::parse(boost::json::serialize(to_json(snapshot))))->values,
      snapshot.values);
  for (const char* bad : {"[]", "{}", R"({"compares":[],"ops":[{}]})",
                          R"({"compares":[{"key":"/a","mod_revision":-1}],"ops":[]})",
                          R"({"compares":[],"ops":[{"key":"/a","value":5}]})"})
    EXPECT_FALSE(txn_from_json(boost::json::parse(bad))) << bad;
}

}  // namespace
}  // namespace shoal::api

// SPDX-License-Identifier: Apache-2.0
#include "agent/daemon/cluster_admin.h"

#include "agent/store/sqlite_store.h"
#include "tests/fakes/fake_clock.h"

#include <condition_variable>
#include <deque>
#include <mutex>

namespace shoal::daemon {
namespace {

// The loop thread is the test's: what is posted runs when the test waits for something.
class Loop {
public:
  std::function<void(std::function<void()>)> post() {
    return [this](std::function<void()> run) {
      const std::lock_guard lock(mutex_);
      queue_.push_back(std::move(run));
      ready_.notify_one();
    };
  }
  void run_until(const std::function<bool()>& done) {
    while (!done()) {
      std::function<void()> run;
      {
        std::unique_lock lock(mutex_);
        ASSERT_TRUE(
            ready_.wait_for(lock, std::chrono::seconds(10), [&] { return !queue_.empty(); }));
        run = std::move(queue_.front());
        queue_.pop_front();
      }
      run();
    }
  }

private:
  std::mutex mutex_;
  std::condition_variable ready_;
  std::deque<std::function<void()>> queue_;
};

class ClusterAdminTest : public testing::Test {
protected:
  void SetUp() override {
    char name[] = "/tmp/shoal-cluster-admin.XXXXXX";
    ASSERT_NE(::mkdtemp(name), nullptr);
    dir_ = name;
    store::SqliteOptions options;
    options.path = dir_ / "store.db";
    auto opened = store::SqliteStore::open(options, loop_.post());
    ASSERT_TRUE(opened) << opened.error().message();
    store_ = std::move(*opened);
    store_->watch([this](store::Revision revision, std::span<const store::Event> events) {
      replica_.apply(events, revision);
    });
    ClusterSettings settings;
    settings.pod_cidrs = {*IpPrefix::parse("10.244.0.0/23"),
                          *IpPrefix::parse("fd10:244::/48")};  // two hosts' worth
    settings.service_cidrs = {*IpPrefix::parse("10.96.0.0/16"), *IpPrefix::parse("fd10:96::/112")};
    auto files =
        make_cluster("h1", *IpAddress::parse("198.18.0.11"), 6443, settings, clock_, random_);
    ASSERT_TRUE(files) << files.error().message();
    files_ = std::move(*files);
    admin_ =
        std::make_unique<ClusterAdmin>(files_, *store_, replica_, clock_, random_, loop_.post());
  }
  void TearDown() override {
    admin_.reset();
    store_.reset();
    std::filesystem::remove_all(dir_);
  }

  std::string make_token() {
    std::optional<Result<std::string>> got;
    admin_->create_token(std::chrono::hours(1),
                         [&](Result<std::string> token) { got = std::move(token); });
    loop_.run_until([&] { return got.has_value(); });
    EXPECT_TRUE(got && *got);
    return got && *got ? **got : "";
  }
  Result<ClusterFiles> admit(const std::string& token, const std::string& name) {
    JoinRequest request{pki::JoinToken::parse(token)->secret, name,
                        *IpAddress::parse("198.18.0.12"), pki::make_request(name)->csr};
    std::optional<Result<ClusterFiles>> got;
    admin_->admit(std::move(request), {},
                  [&](Result<ClusterFiles> files) { got = std::move(files); });
    EXPECT_FALSE(got) << "done must not run before the call returns";
    loop_.run_until([&] { return got.has_value(); });
    return std::move(*got);
  }

  std::filesystem::path dir_;
  FakeClock clock_;
  SeededRandom random_{5};
  Loop loop_;
  store::Replica replica_;
  ClusterFiles files_;
  std::unique_ptr<store::SqliteStore> store_;
  std::unique_ptr<ClusterAdmin> admin_;
};

TEST_F(ClusterAdminTest, ATokenAdmitsOneHostOnce) {
  const std::string token = make_token();
  const auto admitted = admit(token, "h2");
  ASSERT_TRUE(admitted) << admitted.error().message();
  EXPECT_EQ(admitted->cluster_id, files_.cluster_id);
  EXPECT_TRUE(admitted->ca_key.empty());
  EXPECT_TRUE(pki::verify(files_.ca_cert, admitted->node_cert, clock_.wall()));
  ASSERT_TRUE(replica_.get("nodes", "", "h2"));
  const auto again = admit(token, "h3");
  ASSERT_FALSE(again);
  EXPECT_EQ(again.error().code(), Errc::kPermission);
}

TEST_F(ClusterAdminTest, HostsGetDifferentCidrsUntilThePoolEnds) {
  ASSERT_TRUE(admit(make_token(), "h2"));
  ASSERT_TRUE(admit(make_token(), "h3"));
  EXPECT_NE(replica_.get("nodes", "", "h2")->body.at("spec").at("podCIDR"),
            replica_.get("nodes", "", "h3")->body.at("spec").at("podCIDR"));
  const std::string token = make_token();
  const auto full = admit(token, "h4");
  ASSERT_FALSE(full);
  EXPECT_EQ(full.error().code(), Errc::kExhausted);
  // A host that is removed gives its CIDR back, and the refused token is still good.
  store::Txn removal;
  removal.ops.push_back({store::object_key("nodes", "", "h2"), std::nullopt});
  store_->txn(std::move(removal), [](Result<store::TxnResult>) {});
  loop_.run_until([&] { return free_pod_cidrs(files_.settings, replica_).has_value(); });
  EXPECT_TRUE(admit(token, "h4"));
}

TEST_F(ClusterAdminTest, ANameIsTakenOnceAndATokenExpires) {
  ASSERT_TRUE(admit(make_token(), "h2"));
  const auto twice = admit(make_token(), "h2");
  ASSERT_FALSE(twice);
  EXPECT_EQ(twice.error().code(), Errc::kExists);
  EXPECT_THAT(twice.error().message(), testing::HasSubstr("shoal delete node h2"));
  const std::string token = make_token();
  clock_.advance(std::chrono::hours(2));
  EXPECT_EQ(admit(token, "h3").error().code(), Errc::kPermission);
}

TEST_F(ClusterAdminTest, RefusesARequestThatIsNotOne) {
  JoinRequest request{pki::JoinToken::parse(make_token())->secret, "h2",
                      *IpAddress::parse("198.18.0.12"), "no pem"};
  std::optional<Result<ClusterFiles>> got;
  admin_->admit(std::move(request), {},
                [&](Result<ClusterFiles> files) { got = std::move(files); });
  loop_.run_until([&] { return got.has_value(); });
  EXPECT_FALSE(*got);
  EXPECT_FALSE(replica_.get("nodes", "", "h2"));
  EXPECT_FALSE(join_request_from_json("{\"secret\":\"!\"}"));
  EXPECT_FALSE(join_request_from_json("[]"));
}

TEST_F(ClusterAdminTest, JoinMessagesRoundTrip) {
  files_.seeds = {*SocketAddress::parse("198.18.0.11:7946")};
  const auto back = join_answer_from_json(join_answer_to_json(files_));
  ASSERT_TRUE(back) << back.error().message();
  EXPECT_EQ(back->gossip_key, files_.gossip_key);
  EXPECT_EQ(back->seeds, files_.seeds);
  EXPECT_EQ(back->settings, files_.settings);
  const JoinRequest request{"secret", "h2", *IpAddress::parse("198.18.0.12"), "CSR"};
  const auto request_back = join_request_from_json(to_json(request));
  ASSERT_TRUE(request_back);
  EXPECT_EQ(request_back->secret, "secret");
  EXPECT_EQ(request_back->address, request.address);
}

}  // namespace
}  // namespace shoal::daemon

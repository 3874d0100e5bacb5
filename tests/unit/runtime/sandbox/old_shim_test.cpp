// SPDX-License-Identifier: Apache-2.0
// A shim of an earlier build, which knows less than its agent: what is told then.
#include "runtime/sandbox/shim_client.h"

#include <array>
#include <atomic>
#include <cstring>
#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <thread>
#include <unistd.h>

namespace shoal::runtime {
namespace {

using ::testing::HasSubstr;

// Answers one request as such a shim answers what it does not know.
class OldShim {
public:
  OldShim() {
    std::string name = (std::filesystem::temp_directory_path() / "shoal-old.XXXXXX").string();
    EXPECT_NE(::mkdtemp(name.data()), nullptr);
    folder_ = name;
    listener_ = UniqueFd(::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0));
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    std::strncpy(address.sun_path, path().c_str(), sizeof(address.sun_path) - 1);
    EXPECT_EQ(::bind(listener_.get(), reinterpret_cast<sockaddr*>(&address), sizeof(address)), 0);
    EXPECT_EQ(::listen(listener_.get(), 1), 0);
    thread_ = std::thread([this] {
      const UniqueFd peer(::accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC));
      std::string bytes(shim::kMessageBytesMax, '\0');
      const ssize_t n = ::recv(peer.get(), bytes.data(), bytes.size(), 0);
      const auto message =
          shim::decode_message(std::string_view(bytes).substr(0, static_cast<std::size_t>(n)));
      if (!message)
        return;
      asked = message->header.type;
      const shim::Reply reply{
          false, Errc::kUnsupported, "this shim does not know that request", {}};
      const std::string answer =
          shim::encode_message(shim::MessageType::kReply, message->header.seq, encode(reply));
      (void)::send(peer.get(), answer.data(), answer.size(), MSG_NOSIGNAL);
    });
  }
  ~OldShim() {
    thread_.join();
    std::filesystem::remove_all(folder_);
  }
  std::filesystem::path path() const { return folder_ / "shim.sock"; }

  std::atomic<shim::MessageType> asked{};

private:
  std::filesystem::path folder_;
  UniqueFd listener_;
  std::thread thread_;
};

TEST(OldShim, StartsNoContainerThatItWouldStartInAnotherWay) {
  for (const bool terminal : {false, true}) {
    OldShim old;
    shim::CreateRequest request{{"main", 0}, "/b", "/l"};
    request.open_stdin = !terminal;
    request.terminal = terminal;
    const auto made = ShimClient(old.path()).create(request);
    ASSERT_FALSE(made);
    EXPECT_EQ(old.asked, shim::MessageType::kCreateOpen);
    EXPECT_THAT(made.error().message(), HasSubstr("stdin and tty: this pod's shim was started by "
                                                  "an earlier build of Shoal"));
  }
  for (const bool open : {false, true}) {
    OldShim old;
    shim::CreateRequest request{{"main", 0}, "/b", "/l"};
    request.open_stdin = open;
    request.shares_pids = true;
    const auto made = ShimClient(old.path()).create(request);
    ASSERT_FALSE(made);
    EXPECT_EQ(old.asked, shim::MessageType::kCreateShared);
    EXPECT_THAT(made.error().message(),
                HasSubstr("shareProcessNamespace and hostPID: this pod's shim was started by an "
                          "earlier build of Shoal"));
  }
  // What it knows, it is asked for as ever.
  OldShim old;
  (void)ShimClient(old.path()).create({{"main", 0}, "/b", "/l"});
  EXPECT_EQ(old.asked, shim::MessageType::kCreate);
}

TEST(OldShim, CannotBeAttachedTo) {
  OldShim old;
  int ends[2];
  ASSERT_EQ(::pipe2(ends, O_CLOEXEC), 0);
  const UniqueFd ours(ends[0]);
  const UniqueFd theirs(ends[1]);
  auto session =
      ExecSession::attach(old.path(), {{"main", 0}, false, true, false}, std::array{theirs.get()});
  ASSERT_TRUE(session) << session.error().message();
  pollfd ready{session->fd(), POLLIN, 0};
  ASSERT_EQ(::poll(&ready, 1, 20'000), 1);
  const auto end = session->poll();
  ASSERT_FALSE(end);
  EXPECT_THAT(end.error().message(),
              HasSubstr("container main was started by an earlier build of Shoal, whose shim "
                        "cannot be attached to"));
}

}  // namespace
}  // namespace shoal::runtime

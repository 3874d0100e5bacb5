// SPDX-License-Identifier: Apache-2.0
// capture: what it asks, where the packets go, what it says at the end.
#include "agent/cli/commands.h"
#include "agent/stream/frames.h"
#include "netplane/base/fs.h"

#include <csignal>
#include <filesystem>
#include <fmt/format.h>
#include <sys/socket.h>
#include <unistd.h>

namespace shoal::cli {
namespace {

using stream::Channel;
using testing::HasSubstr;
using testing::IsEmpty;

class StringStreams final : public Streams {
public:
  void out(std::string_view text) override { output += text; }
  void err(std::string_view text) override { errors += text; }
  std::string output;
  std::string errors;
};

// Hands over one end of a socket pair; the test is the daemon at the other.
class FakeDaemon final : public Client {
public:
  FakeDaemon() : Client("/nonexistent") {
    int fds[2];
    EXPECT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
    near = UniqueFd(fds[0]);
    far = UniqueFd(fds[1]);
  }
  Result<Upgraded> upgrade(const Request& request, std::string_view protocol,
                           Response& refused) const override {
    asked = fmt::format("{} {} {}", request.method, request.target, protocol);
    refused = refusal;
    return refusal.status == 101 ? Upgraded{std::move(near), early} : Upgraded{};
  }
  void say(const std::string& bytes) const { EXPECT_TRUE(write_all(far.get(), bytes)); }

  mutable std::string asked;
  std::string early;
  Response refusal{101, "", {}};
  mutable UniqueFd near;
  UniqueFd far;
};

class CaptureTest : public testing::Test {
protected:
  CaptureTest() {
    std::string name = (std::filesystem::temp_directory_path() / "shoal-capture.XXXXXX").string();
    EXPECT_NE(::mkdtemp(name.data()), nullptr);
    folder = name;
    options.pod = "pod/web";
    options.file = (folder / "web.pcap").string();
  }
  ~CaptureTest() override { std::filesystem::remove_all(folder); }
  std::string written() const { return read_file(options.file, 1 << 20).value(); }

  FakeDaemon daemon;
  StringStreams streams;
  std::filesystem::path folder;
  CaptureOptions options;
};

TEST_F(CaptureTest, ThePacketsAreInTheFileAndTheCountsAreTold) {
  options.count = 2;
  options.duration_s = 30;
  options.port = 80;
  options.snaplen = 96;
  daemon.early = stream::encode_frame(Channel::kStdout, "head");
  daemon.say(stream::encode_frame(Channel::kStdout, std::string(50'000, 'p')) +
             stream::encode_frame(
                 Channel::kExit,
                 R"({"captured":2,"dropped":3,"checksumsLeft":1,"ended":"its count is reached"})"));
  EXPECT_EQ(*run_capture({daemon, streams}, options), 0);
  EXPECT_EQ(daemon.asked,
            "POST /shoal/v1/capture/default/web?snaplen=96&count=2&seconds=30&port=80 "
            "shoal-capture.v1");
  EXPECT_EQ(written(), "head" + std::string(50'000, 'p'));
  EXPECT_THAT(streams.output, IsEmpty());
  EXPECT_THAT(streams.errors,
              HasSubstr("2 packets captured, 3 dropped by the kernel: its count is reached\n"));
  EXPECT_THAT(streams.errors, HasSubstr("narrow it with --port or --snaplen"));
  EXPECT_THAT(streams.errors, HasSubstr("1 were seen before their checksum was filled in"));
}

TEST_F(CaptureTest, ASignalAsksForTheEndAndWhatCameIsKept) {
  sigset_t interrupt;
  sigset_t before;
  sigemptyset(&interrupt);
  sigaddset(&interrupt, SIGINT);
  ASSERT_EQ(::sigprocmask(SIG_BLOCK, &interrupt, &before), 0);
  ASSERT_EQ(::raise(SIGINT), 0);  // waits until the command looks
  daemon.say(stream::encode_frame(Channel::kStdout, "packets") +
             stream::encode_frame(Channel::kExit, R"({"captured":1,"dropped":0,"ended":"asked"})"));
  EXPECT_EQ(*run_capture({daemon, streams}, options), 0);
  ASSERT_EQ(::sigprocmask(SIG_SETMASK, &before, nullptr), 0);
  EXPECT_EQ(written(), "packets");
  char asked[16];
  const ssize_t n = ::recv(daemon.far.get(), asked, sizeof(asked), MSG_DONTWAIT);
  EXPECT_EQ(std::string(asked, static_cast<std::size_t>(std::max<ssize_t>(n, 0))),
            stream::encode_frame(Channel::kStdin, ""));
}

TEST_F(CaptureTest, ARefusalMakesNoFile) {
  daemon.refusal = {501, R"({"kind":"Status","code":501,"message":"pod web runs on host h2"})", {}};
  const Exit refused = run_capture({daemon, streams}, options);
  ASSERT_FALSE(refused);
  EXPECT_THAT(refused.error().message(), HasSubstr("runs on host h2"));
  EXPECT_FALSE(std::filesystem::exists(options.file));
}

TEST_F(CaptureTest, ADaemonThatGoesIsAnErrorAndWhatCameIsKept) {
  daemon.say(stream::encode_frame(Channel::kStdout, "packets"));
  daemon.far.reset();
  const Exit ended = run_capture({daemon, streams}, options);
  ASSERT_FALSE(ended);
  EXPECT_THAT(ended.error().message(), HasSubstr("shoald ended the connection"));
  EXPECT_EQ(written(), "packets");
}

}  // namespace
}  // namespace shoal::cli

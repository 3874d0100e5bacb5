// SPDX-License-Identifier: Apache-2.0
#include "netplane/base/process.h"

#include <csignal>
#include <fcntl.h>
#include <sys/wait.h>
#include <unistd.h>

namespace shoal {
namespace {

TEST(RunProcess, CarriesInputOutputAndExitCode) {
  RunOptions options;
  options.input = std::string(200'000, 'x');
  auto output = run_process({"sh", "-c", "cat; echo oops >&2; exit 3"}, options);
  ASSERT_TRUE(output) << output.error().message();
  EXPECT_EQ(output->exit_code, 3);
  EXPECT_EQ(output->out, options.input);
  EXPECT_EQ(output->err, "oops\n");
}

TEST(RunProcess, SaysWhatIsMissing) {
  const auto missing = run_process({"no-such-program-of-shoal"});
  ASSERT_FALSE(missing);
  EXPECT_EQ(missing.error().code(), Errc::kNotFound);
  EXPECT_NE(missing.error().message().find("no-such-program-of-shoal"), std::string::npos);
}

TEST(RunProcess, KillsTheGroupAtItsDeadline) {
  RunOptions options;
  options.timeout = std::chrono::milliseconds(100);
  const auto late = run_process({"sh", "-c", "sleep 60 & wait"}, options);
  ASSERT_FALSE(late);
  EXPECT_EQ(late.error().code(), Errc::kTimeout);
}

TEST(RunProcess, DoesNotWaitForAGrandchildThatHoldsThePipes) {
  RunOptions options;
  options.timeout = std::chrono::seconds(20);
  auto output = run_process({"sh", "-c", "sleep 30 & echo $!"}, options);
  ASSERT_TRUE(output) << output.error().message();
  const pid_t grandchild = std::stoi(output->out);
  EXPECT_EQ(::kill(grandchild, SIGKILL), 0);
}

TEST(RunProcess, HandsOnNoDescriptor) {
  const int leaky = ::open("/dev/null", O_RDONLY);  // as libraries open them: without O_CLOEXEC
  ASSERT_GE(leaky, 3);
  auto output = run_process({"sh", "-c", "ls /proc/self/fd"});
  ::close(leaky);
  ASSERT_TRUE(output);
  EXPECT_EQ(output->out, "0\n1\n2\n3\n");  // 3: the folder that ls reads
}

TEST(RunProcess, BoundsOutput) {
  RunOptions options;
  options.output_bytes_max = 1000;
  auto output = run_process({"sh", "-c", "head -c 1000000 /dev/zero"}, options);
  ASSERT_TRUE(output);
  EXPECT_EQ(output->out.size(), 1000U);
}

TEST(RunChecked, AFailureCarriesTheLastLine) {
  const auto failed = run_checked({"sh", "-c", "echo first >&2; echo why >&2; exit 9"});
  ASSERT_FALSE(failed);
  EXPECT_EQ(failed.error().message(), "sh exited with 9: why");
}

TEST(ProcessId, TellsAReusedPidApart) {
  const pid_t child = ::fork();
  if (child == 0) {
    ::pause();
    ::_exit(0);
  }
  auto id = identify_process(child);
  ASSERT_TRUE(id);
  EXPECT_TRUE(open_pidfd(*id));
  ProcessId other = *id;
  other.start_ticks++;
  EXPECT_EQ(open_pidfd(other).error().code(), Errc::kNotFound);
  auto fd = open_pidfd(*id);
  ASSERT_TRUE(fd);
  EXPECT_TRUE(signal_pidfd(fd->get(), SIGKILL));
  ::waitpid(child, nullptr, 0);
  EXPECT_FALSE(open_pidfd(*id));
  EXPECT_EQ(signal_pidfd(fd->get(), SIGKILL).error().code(), Errc::kNotFound);
}

TEST(BootId, LooksLikeOne) { EXPECT_EQ(boot_id()->size(), 36U); }

}  // namespace
}  // namespace shoal

// SPDX-License-Identifier: Apache-2.0
#include "runtime/shim/protocol.h"

#include "netplane/base/random.h"

#include <gtest/gtest.h>
#include <random>

namespace shoal::runtime::shim {
namespace {

ContainerState some_state(std::uint32_t attempt) {
  return {{"main", attempt},
          ContainerPhase::kExited,
          4711,
          99,
          1'000'000'000,
          2'000'000'000,
          137,
          9,
          true,
          3,
          0xfeed,
          "last words",
          true};
}

template <class T>
void expect_round_trip(const T& value) {
  const auto decoded = decode<T>(encode(value));
  ASSERT_TRUE(decoded) << decoded.error().message();
  EXPECT_EQ(*decoded, value);
}

TEST(ShimProtocol, RoundTrips) {
  expect_round_trip(ContainerRef{"web", 7});
  expect_round_trip(some_state(2));
  expect_round_trip(PodState{12, 34, {some_state(0), some_state(1)}, 0xfeed});
  expect_round_trip(
      CreateRequest{{"web", 1}, "/b", "/l", 1 << 20, 3, 500, "/m", true, true, true, true, true});
  expect_round_trip(AttachRequest{{"web", 1}, true, false, true});
  expect_round_trip(ResizeRequest{{"web", 1}, 24, 65535});
  expect_round_trip(SignalRequest{{"web", 1}, 15});
  expect_round_trip(StopRequest{{"web", 1}, 3, 1000});
  expect_round_trip(ExecRequest{{"web", 1}, R"({"args":["sh"]})", 20});
  expect_round_trip(EnterRequest{{"web", 1}, {"sh", "-c", ""}, 20, true, 24, 80});
  expect_round_trip(EnterRequest{{"web", 1}, {}, 0});
  expect_round_trip(ExecPlan{.uid = 101,
                             .gid = 102,
                             .groups = {200, 7},
                             .cwd = "/",
                             .env = std::string("A=1\0B=\0", 7),
                             .capabilities = 0x1fffffffffU,
                             .no_new_privileges = false,
                             .oom_score_adj = -998,
                             .has_oom_score_adj = true,
                             .nofile = 4096,
                             .cgroups = {"/a", "/b"},
                             .cgroup2 = "/c",
                             .seccomp = std::string("\0\1\2\3\4\5\6\7", 8),
                             .seccomp_flags = 2});
  expect_round_trip(ExecResult{-1, true});
  expect_round_trip(Reply{false, Errc::kNotFound, "no such container", std::string("\0\xff", 2)});
}

TEST(ShimProtocol, BytesOnTheWireAreFixed) {
  EXPECT_EQ(encode_message(MessageType::kStop, 0x01020304, "ab"),
            std::string("SH\x01\x00\x05\x00\x00\x00\x04\x03\x02\x01\x02\x00\x00\x00"
                        "ab",
                        18));
  EXPECT_EQ(encode(ContainerRef{"ab", 1}), std::string("\x02\x00\x00\x00"
                                                       "ab\x01\x00\x00\x00",
                                                       10));
}

TEST(ShimProtocol, ANewerPeersFieldsAreIgnored) {
  EXPECT_EQ(*decode<StopRequest>(encode(StopRequest{{"a", 1}, 15, 9}) + "more"),
            (StopRequest{{"a", 1}, 15, 9}));
}

// A shim that was started before its agent was upgraded.
TEST(ShimProtocol, AnOlderPeersMessageEndsEarlier) {
  const std::string state = encode(some_state(1));
  const std::size_t message = 4 + some_state(1).message.size() + 1;
  const auto decoded = decode<ContainerState>(std::string_view(state).substr(
      0, state.size() - message - sizeof(ContainerState::sandbox_id)));
  ASSERT_TRUE(decoded);
  EXPECT_EQ(decoded->message, "");
  EXPECT_EQ(decoded->sandbox_id, 0U);
  EXPECT_EQ(decoded->log_errors, 3U);
  // An agent that knew of no pid namespace but a container's own, and one that knew of no streams
  // but the output.
  CreateRequest open{{"a", 1}, "/b", "/l", 1 << 20, 3, 500, "/m", true, true, true, true, true};
  const std::string create = encode(open);
  const auto own = decode<CreateRequest>(std::string_view(create).substr(0, create.size() - 1));
  ASSERT_TRUE(own);
  open.shares_pids = false;
  EXPECT_EQ(*own, open);
  const auto closed = decode<CreateRequest>(std::string_view(create).substr(0, create.size() - 4));
  ASSERT_TRUE(closed);
  open.open_stdin = open.stdin_once = open.terminal = false;
  EXPECT_EQ(*closed, open);
}

TEST(ShimProtocol, RefusesWhatIsTorn) {
  const std::string whole =
      encode_message(MessageType::kCreate, 1, encode(CreateRequest{{"web", 1}, "/b", "/l"}));
  ASSERT_TRUE(decode_message(whole));
  for (std::size_t size = 0; size < whole.size(); ++size)
    EXPECT_FALSE(decode_message(whole.substr(0, size))) << size;
  EXPECT_FALSE(decode_message(whole + "x"));
  const std::string payload = encode(PodState{1, 2, {some_state(0)}});
  const std::size_t older = payload.size() - sizeof(PodState::sandbox_id);
  for (std::size_t size = 0; size < payload.size(); ++size)
    EXPECT_EQ(decode<PodState>(payload.substr(0, size)).has_value(), size == older) << size;
  std::string foreign = whole;
  foreign[0] = 'X';
  EXPECT_FALSE(decode_message(foreign));
}

TEST(ShimProtocol, ALyingCountAllocatesNothing) {
  std::string payload = encode(PodState{1, 2, {}});
  payload.replace(payload.size() - 4 - sizeof(PodState::sandbox_id), 4, "\xff\xff\xff\x7f");
  EXPECT_EQ(decode<PodState>(payload).error().code(), Errc::kCorrupt);
}

template <class T>
void decode_and_compare(std::string_view bytes) {
  // Whatever decodes must survive being sent on.
  const auto value = decode<T>(bytes);
  if (value) {
    EXPECT_EQ(*decode<T>(encode(*value)), *value);
  }
}

TEST(ShimProtocol, MutatedBytesNeverHarm) {
  const std::uint64_t seed = std::random_device{}();
  SCOPED_TRACE(::testing::Message() << "seed " << seed);
  SeededRandom random(seed);
  const std::vector<std::string> seeds = {
      encode_message(MessageType::kState, 1, {}),
      encode(some_state(1)),
      encode(PodState{1, 2, {some_state(0)}}),
      encode(CreateRequest{{"web", 1}, "/b", "/l"}),
      encode(ExecRequest{{"web", 1}, "{}", 0}),
      encode(Reply{true, Errc::kIo, "m", "b"}),
      encode(EnterRequest{{"web", 1}, {"sh", "-c"}, 1, true}),
      encode(ExecPlan{.groups = {1, 2}, .cwd = "/", .env = "A=", .cgroups = {"/a"}})};
  for (int round = 0; round < 20'000; ++round) {
    std::string bytes = seeds[random.below(seeds.size())];
    for (std::uint64_t left = random.below(4) + 1; left > 0 && !bytes.empty(); --left) {
      const std::size_t at = random.below(bytes.size());
      switch (random.below(3)) {
      case 0:
        bytes[at] = static_cast<char>(random.next());
        break;
      case 1:
        bytes.erase(at, random.below(8) + 1);
        break;
      default:
        bytes.insert(at, random.below(8), static_cast<char>(random.next()));
      }
    }
    (void)decode_message(bytes);
    decode_and_compare<ContainerRef>(bytes);
    decode_and_compare<ContainerState>(bytes);
    decode_and_compare<PodState>(bytes);
    decode_and_compare<CreateRequest>(bytes);
    decode_and_compare<SignalRequest>(bytes);
    decode_and_compare<StopRequest>(bytes);
    decode_and_compare<ExecRequest>(bytes);
    decode_and_compare<EnterRequest>(bytes);
    decode_and_compare<ExecPlan>(bytes);
    decode_and_compare<ExecResult>(bytes);
    decode_and_compare<Reply>(bytes);
    (void)decode_container_record(bytes);
  }
}

TEST(ShimProtocol, NamesAreDnsLabels) {
  for (const char* good : {"a", "web-1", "0"})
    EXPECT_TRUE(is_container_name(good)) << good;
  for (const char* bad : {"", "-a", "a-", "A", "a/b", "..", "a_b"})
    EXPECT_FALSE(is_container_name(bad)) << bad;
  EXPECT_FALSE(is_container_name(std::string(64, 'a')));
  EXPECT_EQ(container_id({"web", 3}), "web-3");
}

}  // namespace
}  // namespace shoal::runtime::shim

// SPDX-License-Identifier: Apache-2.0
#include "runtime/sandbox/container_record.h"

#include "netplane/base/fs.h"

#include <fstream>
#include <gtest/gtest.h>

namespace shoal::runtime {
namespace {

namespace fs = std::filesystem;
using shim::ContainerPhase;
using shim::ContainerState;

ContainerState state(std::uint32_t attempt, ContainerPhase phase) {
  ContainerState state;
  state.ref = {"web", attempt};
  state.phase = phase;
  state.pid = 77;
  state.start_ticks = 1234567;
  state.started_at_ns = 1'700'000'000'123'456'789;
  state.exit_code = 3;
  state.oom_killed = true;
  return state;
}

class ContainerRecordTest : public ::testing::Test {
protected:
  ContainerRecordTest() {
    std::string name = (fs::temp_directory_path() / "shoal-records.XXXXXX").string();
    EXPECT_NE(::mkdtemp(name.data()), nullptr);
    dir = name;
  }
  ~ContainerRecordTest() override { fs::remove_all(dir); }
  fs::path dir;
};

TEST_F(ContainerRecordTest, AreReadByAttempt) {
  for (const std::uint32_t attempt : {10U, 2U, 0U})
    ASSERT_TRUE(write_container_record(dir, state(attempt, ContainerPhase::kExited)));
  ASSERT_TRUE(write_container_record(dir, state(2, ContainerPhase::kRunning)));
  const auto records = read_container_records(dir);
  ASSERT_TRUE(records) << records.error().message();
  EXPECT_EQ(*records,
            (std::vector{state(0, ContainerPhase::kExited), state(2, ContainerPhase::kRunning),
                         state(10, ContainerPhase::kExited)}));
}

TEST_F(ContainerRecordTest, WhatCannotBeReadIsLeftOut) {
  EXPECT_TRUE(read_container_records(dir / "none")->empty());
  ASSERT_TRUE(write_container_record(dir, state(1, ContainerPhase::kExited)));
  std::ofstream(dir / "0.log") << "a log";
  std::ofstream(dir / "2.state") << "";
  std::ofstream(dir / "3.state") << std::string(shim::kContainerRecordBytesMax + 1, 'x');
  std::ofstream(dir / "4.state.new")
      << shim::encode_container_record(state(4, ContainerPhase::kRunning));
  std::ofstream(dir / "5.state") << shim::encode_container_record(
      state(6, ContainerPhase::kRunning));
  std::ofstream(dir / "7.state") << shim::encode_message(shim::MessageType::kReply, 0, "");
  const auto records = read_container_records(dir);
  ASSERT_TRUE(records);
  ASSERT_EQ(records->size(), 1U);
  EXPECT_EQ(records->front(), state(1, ContainerPhase::kExited));
}

}  // namespace
}  // namespace shoal::runtime

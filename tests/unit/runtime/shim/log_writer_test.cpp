// SPDX-License-Identifier: Apache-2.0
#include "runtime/shim/log_writer.h"

#include "netplane/base/clock.h"
#include "netplane/base/fs.h"

#include <filesystem>
#include <fmt/format.h>
#include <gtest/gtest.h>

namespace shoal::runtime::shim {
namespace {

namespace fs = std::filesystem;

class LogWriterTest : public ::testing::Test {
protected:
  LogWriterTest() {
    std::string name = (fs::temp_directory_path() / "shoal-log-writer.XXXXXX").string();
    EXPECT_NE(::mkdtemp(name.data()), nullptr);
    dir = name;
  }
  ~LogWriterTest() override { fs::remove_all(dir); }
  LogWriter open(std::uint64_t bytes_max = 1 << 20, std::uint32_t files_max = 3) {
    auto writer = LogWriter::open((dir / "a/b").string(), 0, bytes_max, files_max);
    EXPECT_TRUE(writer) << writer.error().message();
    return std::move(*writer);
  }
  std::string content(const char* file = "0.log") {
    return *read_file(dir / "a/b" / file, 1 << 24);
  }
  static constexpr std::int64_t kTime = 1'767'323'045'000'000'006;
  fs::path dir;
};

TEST(LogTime, IsAsTheClockHasIt) {
  for (const std::int64_t ns :
       {INT64_C(0), INT64_C(1'767'323'045'000'000'006), INT64_C(951'782'399'999'999'999),
        INT64_C(951'782'400'000'000'000), INT64_C(4'102'444'800'000'000'000), INT64_C(-1)}) {
    char text[30];
    format_log_time(ns, text);
    EXPECT_EQ(std::string(text, 30), rfc3339_nano(WallTime(Duration(ns))));
  }
}

TEST_F(LogWriterTest, WritesOneRecordALine) {
  LogWriter writer = open();
  writer.write(Stream::kStdout, "one\ntw", kTime);
  writer.write(Stream::kStderr, "bad\n", kTime);
  writer.write(Stream::kStdout, "o\n\nend", kTime);
  EXPECT_EQ(content(), "2026-01-02T03:04:05.000000006Z stdout F one\n"
                       "2026-01-02T03:04:05.000000006Z stderr F bad\n"
                       "2026-01-02T03:04:05.000000006Z stdout F two\n"
                       "2026-01-02T03:04:05.000000006Z stdout F \n");
  writer.finish(Stream::kStdout, kTime);
  writer.finish(Stream::kStdout, kTime);
  EXPECT_TRUE(content().ends_with("stdout F end\n"));
  EXPECT_EQ(writer.errors(), 0U);
}

TEST_F(LogWriterTest, CutsLongLines) {
  LogWriter writer = open();
  const std::string exact(kLogLineBytesMax, 'x');
  writer.write(Stream::kStdout, exact, kTime);
  writer.write(Stream::kStdout, "\n", kTime);
  writer.write(Stream::kStdout, exact + "yz\n", kTime);
  const std::string head = "2026-01-02T03:04:05.000000006Z stdout ";
  EXPECT_EQ(content(), head + "F " + exact + "\n" + head + "P " + exact + "\n" + head + "F yz\n");
}

// However the input is cut, the text is the same and no file is above its cap.
TEST_F(LogWriterTest, RotatesWithinItsCap) {
  LogWriter writer = open(kLogFileBytesMin, 3);
  std::string chunk;
  for (int line = 0; line < 20'000; ++line) {
    chunk += fmt::format("line {:06}\n", line);
    if (chunk.size() > 5000) {
      writer.write(Stream::kStdout, chunk, kTime);
      chunk.clear();
    }
  }
  writer.write(Stream::kStdout, chunk, kTime);
  EXPECT_TRUE(content().ends_with("line 019999\n"));
  for (const char* file : {"0.log", "0.log.1", "0.log.2"}) {
    const std::string text = content(file);
    EXPECT_LE(text.size(), kLogFileBytesMin) << file;
    EXPECT_EQ(text.back(), '\n') << file;
  }
  EXPECT_FALSE(fs::exists(dir / "a/b/0.log.3"));
  // Nothing between the kept files is lost.
  const std::string newest = content();
  const std::string first = newest.substr(newest.find("line ") + 5, 6);
  const std::string before = content("0.log.1");
  EXPECT_TRUE(before.ends_with(fmt::format("line {:06}\n", std::stoi(first) - 1)));
}

TEST_F(LogWriterTest, AFullDiskDropsAndCounts) {
  if (!fs::exists("/dev/full"))
    GTEST_SKIP() << "no /dev/full here";
  fs::create_directories(dir / "a/b");
  // A link is refused: a container must not choose where its log goes.
  fs::create_symlink("/dev/full", dir / "a/b/0.log");
  EXPECT_FALSE(LogWriter::open((dir / "a/b").string(), 0, 1 << 20, 3));
}

}  // namespace
}  // namespace shoal::runtime::shim

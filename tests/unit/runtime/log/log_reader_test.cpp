// SPDX-License-Identifier: Apache-2.0
#include "runtime/log/log_reader.h"

#include "netplane/base/fs.h"
#include "netplane/base/random.h"
#include "runtime/shim/log_writer.h"

#include <fmt/format.h>
#include <fstream>
#include <gtest/gtest.h>
#include <random>

namespace shoal::runtime {
namespace {

namespace fs = std::filesystem;
using shim::LogWriter;
using shim::Stream;

std::string time_of(int second) { return fmt::format("2026-01-02T03:04:{:02}.000000000Z", second); }

class LogReaderTest : public ::testing::Test {
protected:
  LogReaderTest() {
    std::string name = (fs::temp_directory_path() / "shoal-log-reader.XXXXXX").string();
    EXPECT_NE(::mkdtemp(name.data()), nullptr);
    dir = name;
  }
  ~LogReaderTest() override { fs::remove_all(dir); }
  void append(const std::string& text, const char* file = "0.log") {
    std::ofstream(dir / file, std::ios::app | std::ios::binary) << text;
  }
  static std::string record(int second, const std::string& text, const char* tag = "F",
                            const char* stream = "stdout") {
    return fmt::format("{} {} {} {}\n", time_of(second), stream, tag, text);
  }
  LogReader open(LogQuery query = {}, std::uint32_t attempt = 0) {
    auto reader = LogReader::open(dir, attempt, query);
    EXPECT_TRUE(reader) << reader.error().message();
    return std::move(*reader);
  }
  static std::string all(LogReader& reader) {
    std::string text;
    while (reader.read(text).value_or(0) > 0) {
    }
    return text;
  }
  std::string all(LogQuery query) {
    LogReader reader = open(query);
    return all(reader);
  }
  fs::path dir;
};

TEST(CriLine, IsReadStrictly) {
  const auto line = parse_cri_line("2026-01-02T03:04:05.000000006Z stderr P a b ");
  ASSERT_TRUE(line);
  EXPECT_EQ(line->time, "2026-01-02T03:04:05.000000006Z");
  EXPECT_EQ(line->stream, "stderr");
  EXPECT_TRUE(line->partial);
  EXPECT_EQ(line->text, "a b ");
  EXPECT_TRUE(parse_cri_line("2026-01-02T03:04:05.000000006Z stdout F "));
  for (const char* bad :
       {"", "hello", "2026-01-02T03:04:05.000000006Z stdout F",
        "2026-01-02T03:04:05.00000006Z stdout F x", "2026-01-02T03:04:05.000000006Z stdin_ F x",
        "2026-01-02T03:04:05.000000006Z stdout X x", "2026-01-02T03:04:05.00000000xZ stdout F x"})
    EXPECT_FALSE(parse_cri_line(bad)) << bad;
}

TEST_F(LogReaderTest, ReadsWholeLinesOnly) {
  append(record(1, "one") + record(2, "t", "P") + record(2, "wo") +
         "2026-01-02T03:04:03.000000000Z stdout F thr");
  LogReader reader = open();
  EXPECT_EQ(all(reader), "one\ntwo\n");
  append("ee\n");
  EXPECT_EQ(all(reader), "three\n");
  EXPECT_EQ(all(reader), "");
  EXPECT_EQ(reader.skipped_lines(), 0U);
}

TEST_F(LogReaderTest, SkipsWhatIsNoRecord) {
  append("garbage\n" + record(1, "one") + std::string(200'000, 'z') + "\n" + record(2, "two"));
  LogReader reader = open();
  EXPECT_EQ(all(reader), "one\ntwo\n");
  EXPECT_EQ(reader.skipped_lines(), 2U);
}

TEST_F(LogReaderTest, TailSinceTimestampsAndLimit) {
  append(record(1, "one") + record(2, "two") + record(3, "three"), "0.log.1");
  append(record(4, "fo", "P") + record(4, "ur") + record(5, "five"));
  EXPECT_EQ(all({.tail_lines = 0}), "");
  EXPECT_EQ(all({.tail_lines = 1}), "five\n");
  EXPECT_EQ(all({.tail_lines = 2}), "four\nfive\n");
  EXPECT_EQ(all({.tail_lines = 3}), "three\nfour\nfive\n");
  EXPECT_EQ(all({.tail_lines = 5}), "one\ntwo\nthree\nfour\nfive\n");
  EXPECT_EQ(all({.tail_lines = 99}), "one\ntwo\nthree\nfour\nfive\n");
  const WallTime third(std::chrono::seconds(1'767'323'043));
  EXPECT_EQ(all({.since = third}), "three\nfour\nfive\n");
  EXPECT_EQ(all({.tail_lines = 2, .timestamps = true}),
            time_of(4) + " four\n" + time_of(5) + " five\n");
  LogReader limited = open({.limit_bytes = 7});
  EXPECT_EQ(all(limited), "one\ntwo");
  EXPECT_TRUE(limited.at_limit());
}

TEST_F(LogReaderTest, ALineThatIsCutByARotationIsTailedWhole) {
  append(record(1, "one") + record(2, "a", "P"), "0.log.1");
  append(record(2, "b") + record(3, "three"));
  EXPECT_EQ(all({.tail_lines = 2}), "ab\nthree\n");
}

TEST_F(LogReaderTest, ListsAttempts) {
  EXPECT_TRUE(list_log_attempts(dir / "none")->empty());
  for (const char* file : {"0.log", "11.log", "2.log", "2.log.1", "x.log", "note.txt"})
    append("", file);
  EXPECT_EQ(*list_log_attempts(dir), (std::vector<std::uint32_t>{0, 2, 11}));
  EXPECT_EQ(LogReader::open(dir, 5, {}).error().code(), Errc::kNotFound);
}

TEST_F(LogReaderTest, DropsOldAttempts) {
  for (const char* file : {"0.log", "0.log.1", "1.log", "2.log", "2.log.1", "note.txt"})
    append("x", file);
  ASSERT_TRUE(drop_old_logs(dir, 2));
  EXPECT_EQ(*list_log_attempts(dir), (std::vector<std::uint32_t>{2}));
  EXPECT_TRUE(fs::exists(dir / "2.log.1") && fs::exists(dir / "note.txt"));
  EXPECT_FALSE(fs::exists(dir / "0.log.1"));
  EXPECT_TRUE(drop_old_logs(dir / "none", 5));
}

// Writer and reader in turn, at random: a follower gets every line once, in order, over all
// rotations, as long as it is not outrun by all kept files.
TEST_F(LogReaderTest, FollowsTheWriterOverRotations) {
  const std::uint64_t seed = std::random_device{}();
  SCOPED_TRACE(::testing::Message() << "seed " << seed);
  SeededRandom random(seed);
  auto writer = LogWriter::open(dir.string(), 0, shim::kLogFileBytesMin, 4);
  ASSERT_TRUE(writer);
  LogReader reader = open();
  std::string expected, got;
  for (int round = 0; round < 400; ++round) {
    std::string chunk;
    for (std::uint64_t lines = random.below(40); lines > 0; --lines) {
      chunk += std::string(random.below(20) == 0 ? random.below(40'000) : random.below(200),
                           'a' + static_cast<char>(random.below(26)));
      chunk += "\n";
    }
    expected += chunk;
    // Cut anywhere, also within a line.
    const std::size_t cut = random.below(chunk.size() + 1);
    writer->write(Stream::kStdout, std::string_view(chunk).substr(0, cut), 1);
    if (random.below(2) == 0) {
      ASSERT_TRUE(reader.read(got));
    }
    writer->write(Stream::kStdout, std::string_view(chunk).substr(cut), 2);
    if (random.below(3) == 0)
      got += all(reader);
  }
  got += all(reader);
  EXPECT_EQ(got.size(), expected.size());
  EXPECT_TRUE(got == expected);
  EXPECT_EQ(reader.skipped_lines(), 0U);
  // And a tail of n lines is the last n lines, whatever n and wherever the files were cut.
  std::vector<std::string> kept;
  {
    LogReader whole = open();
    const std::string text = all(whole);
    std::size_t at = 0;
    for (std::size_t end; (end = text.find('\n', at)) != std::string::npos; at = end + 1)
      kept.push_back(text.substr(at, end + 1 - at));
  }
  for (int round = 0; round < 50; ++round) {
    const std::size_t n = random.below(kept.size());
    std::string wanted;
    for (std::size_t i = kept.size() - n; i < kept.size(); ++i)
      wanted += kept[i];
    EXPECT_TRUE(all({.tail_lines = n}) == wanted) << n;
  }
}

}  // namespace
}  // namespace shoal::runtime

// SPDX-License-Identifier: Apache-2.0
#include "agent/stream/frames.h"

#include <gtest/gtest.h>

namespace shoal::stream {
namespace {

TEST(Frames, BytesOfAnyNumberComeBackInFramesOfABoundedSize) {
  std::string bytes(2 * kFrameBytesMax + 5, 'a');
  bytes[kFrameBytesMax] = 'b';
  const std::string sent = encode_frames(Channel::kStdout, bytes);
  FrameReader reader;
  std::string got;
  unsigned frames = 0;
  // In pieces that fall between frames nowhere.
  for (std::size_t at = 0; at < sent.size(); at += 1'000) {
    reader.append(std::string_view(sent).substr(at, 1'000));
    while (const auto frame = *reader.next()) {
      EXPECT_EQ(frame->channel, Channel::kStdout);
      EXPECT_LE(frame->payload.size(), kFrameBytesMax);
      got += frame->payload;
      ++frames;
    }
  }
  EXPECT_EQ(got, bytes);
  EXPECT_EQ(frames, 3U);
  EXPECT_EQ(encode_frames(Channel::kStdout, ""), "");
}

TEST(Frames, WhatIsNoFrameIsRefused) {
  FrameReader reader;
  reader.append("HTTP/1.1 400 Bad Request");
  const auto frame = reader.next();
  ASSERT_FALSE(frame);
  EXPECT_EQ(frame.error().code(), Errc::kCorrupt);
}

}  // namespace
}  // namespace shoal::stream

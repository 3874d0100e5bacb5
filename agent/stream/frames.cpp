// SPDX-License-Identifier: Apache-2.0
#include "agent/stream/frames.h"

#include <fmt/format.h>

namespace shoal::stream {
namespace {
constexpr std::size_t kHeaderBytes = 5;
constexpr std::uint8_t kChannelMax = static_cast<std::uint8_t>(Channel::kResize);
}  // namespace

std::string encode_frame(Channel channel, std::string_view payload) {
  SHOAL_ASSERT(payload.size() <= kFrameBytesMax);
  std::string out;
  out.reserve(kHeaderBytes + payload.size());
  out += static_cast<char>(channel);
  for (int shift = 24; shift >= 0; shift -= 8)
    out += static_cast<char>((payload.size() >> shift) & 0xFFU);
  out += payload;
  return out;
}

std::string encode_frames(Channel channel, std::string_view bytes) {
  std::string out;
  for (std::size_t at = 0; at < bytes.size(); at += kFrameBytesMax)
    out += encode_frame(channel, bytes.substr(at, kFrameBytesMax));
  return out;
}

Result<std::optional<Frame>> FrameReader::next() {
  const std::string_view rest = std::string_view(pending_).substr(read_);
  if (rest.size() >= kHeaderBytes) {
    const auto channel = static_cast<std::uint8_t>(rest[0]);
    std::size_t length = 0;
    for (std::size_t i = 1; i < kHeaderBytes; ++i)
      length = (length << 8U) | static_cast<std::uint8_t>(rest[i]);
    if (channel > kChannelMax || length > kFrameBytesMax)
      return fail(Errc::kCorrupt, fmt::format("a frame of channel {} and {} bytes: not of shoald",
                                              channel, length));
    if (rest.size() >= kHeaderBytes + length) {
      read_ += kHeaderBytes + length;
      return Frame{static_cast<Channel>(channel), std::string(rest.substr(kHeaderBytes, length))};
    }
  }
  pending_.erase(0, read_);
  read_ = 0;
  return std::optional<Frame>();
}

}  // namespace shoal::stream

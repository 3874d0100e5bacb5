// SPDX-License-Identifier: Apache-2.0
// The bytes of `shoal exec`, after the upgrade of
//
//   POST /shoal/v1/exec/NAMESPACE/POD    Upgrade: shoal-exec.v1
//   {"container": "", "command": ["sh", "-c", "..."], "stdin": false, "tty": false,
//    "size": {"width": W, "height": H}}
//
// and of `shoal attach`, after the same upgrade of
//
//   POST /api/v1/namespaces/NAMESPACE/pods/POD/attach?container=&stdin=&stdout=&stderr=&tty=
//
// where kExit is the container's end. A frame is a channel byte, a length as four bytes, most
// significant first, and that many bytes. Channels are those of Kubernetes' v5.channel.k8s.io; an
// empty kStdin frame is the end of input; kExit is the last frame and holds
// {"exitCode": N} or {"error": "..."}; kResize holds {"width": W, "height": H}.
//
// `shoal capture` uses the same frames, after the upgrade of
//
//   POST /shoal/v1/capture/NAMESPACE/POD?snaplen=BYTES&count=N&seconds=N&port=N
//        Upgrade: shoal-capture.v1
//
// kStdout is a pcap file (pcap.h), cut anywhere; an empty kStdin frame asks for the end; kExit is
// {"captured": N, "dropped": N, "checksumsLeft": N, "ended": "why"}, or {"error": "..."}. Pure.
#pragma once

#include "netplane/base/result.h"

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace shoal::stream {

inline constexpr std::string_view kExecProtocol = "shoal-exec.v1";
inline constexpr std::string_view kCaptureProtocol = "shoal-capture.v1";
inline constexpr std::size_t kFrameBytesMax = 64 << 10;

enum class Channel : std::uint8_t { kStdin = 0, kStdout = 1, kStderr = 2, kExit = 3, kResize = 4 };

struct Frame {
  Channel channel = Channel::kStdin;
  std::string payload;
};

// Asserts that the payload is at most kFrameBytesMax.
std::string encode_frame(Channel channel, std::string_view payload);

// The same for any number of bytes, in as many frames as it takes.
std::string encode_frames(Channel channel, std::string_view bytes);

// Takes bytes as they come and gives whole frames.
class FrameReader {
public:
  void append(std::string_view bytes) { pending_ += bytes; }
  // Nothing: more bytes are needed. kCorrupt: an unknown channel or a frame that is too long.
  Result<std::optional<Frame>> next();

private:
  std::string pending_;
  std::size_t read_ = 0;  // of pending_, given out already
};

}  // namespace shoal::stream

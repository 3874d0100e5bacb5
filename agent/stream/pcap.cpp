// SPDX-License-Identifier: Apache-2.0
#include "agent/stream/pcap.h"

#include "netplane/base/result.h"

namespace shoal::stream {
namespace {

constexpr std::uint32_t kMagicNanoseconds = 0xa1b23c4d;
constexpr std::uint16_t kVersionMajor = 2;
constexpr std::uint16_t kVersionMinor = 4;
constexpr std::uint32_t kLinkTypeEthernet = 1;
constexpr std::int64_t kNsPerS = 1'000'000'000;

template <class T>
void append(std::string& out, T number) {
  for (unsigned shift = 0; shift < sizeof(T) * 8; shift += 8)
    out += static_cast<char>((number >> shift) & 0xFFU);
}

}  // namespace

std::string pcap_file_header(std::uint32_t snaplen) {
  std::string out;
  append(out, kMagicNanoseconds);
  append(out, kVersionMajor);
  append(out, kVersionMinor);
  append(out, std::uint32_t{0});  // reserved: once the time zone
  append(out, std::uint32_t{0});  // reserved: once the accuracy of times
  append(out, snaplen);
  append(out, kLinkTypeEthernet);
  SHOAL_ASSERT(out.size() == kPcapFileHeaderBytes);
  return out;
}

void append_pcap_packet(std::string& out, std::int64_t time_ns, std::uint32_t original_bytes,
                        std::span<const std::uint8_t> bytes) {
  SHOAL_ASSERT(time_ns >= 0 && bytes.size() <= original_bytes);
  append(out, static_cast<std::uint32_t>(time_ns / kNsPerS));
  append(out, static_cast<std::uint32_t>(time_ns % kNsPerS));
  append(out, static_cast<std::uint32_t>(bytes.size()));
  append(out, original_bytes);
  out.append(reinterpret_cast<const char*>(bytes.data()), bytes.size());
}

}  // namespace shoal::stream

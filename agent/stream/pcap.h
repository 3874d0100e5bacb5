// SPDX-License-Identifier: Apache-2.0
// pcap: the file format of captured packets (draft-ietf-opsawg-pcap), as tcpdump and Wireshark read
// it: nanoseconds, LINKTYPE_ETHERNET, numbers least significant byte first. Pure.
#pragma once

#include <cstdint>
#include <span>
#include <string>

namespace shoal::stream {

inline constexpr std::size_t kPcapFileHeaderBytes = 24;
inline constexpr std::size_t kPcapPacketHeaderBytes = 16;

// snaplen: no packet of the file holds more bytes.
std::string pcap_file_header(std::uint32_t snaplen);

// Appends one packet. time_ns: since 1970, UTC, before 2106; original_bytes: on the wire, at least
// as many as are given.
void append_pcap_packet(std::string& out, std::int64_t time_ns, std::uint32_t original_bytes,
                        std::span<const std::uint8_t> bytes);

}  // namespace shoal::stream

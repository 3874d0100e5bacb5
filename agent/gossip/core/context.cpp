// SPDX-License-Identifier: Apache-2.0
#include "agent/gossip/core/context.h"

#include <algorithm>
#include <utility>

namespace shoal::gossip {

void Context::notify(Effect effect) { out->push_back(std::move(effect)); }

void Context::send_datagram(const SocketAddress& to, std::string bytes) {
  SHOAL_ASSERT(bytes.size() <= config.datagram_bytes_max);
  ++stats.datagrams_out;
  stats.datagram_bytes_out += bytes.size();
  out->push_back(SendDatagram{to, std::move(bytes)});
}

void Context::send_stream(const SocketAddress& to, std::string bytes) {
  SHOAL_ASSERT(bytes.size() <= kStreamMessageBytesMax);
  ++stats.streams_out;
  stats.stream_bytes_out += bytes.size();
  out->push_back(SendStream{to, std::move(bytes)});
}

void Context::send(const SocketAddress& to, std::span<const std::string> messages) {
  std::vector<std::string> datagrams;
  DatagramBuilder builder(config);
  bool fits = true;
  for (const std::string& message : messages) {
    if (builder.add(message))
      continue;
    datagrams.push_back(builder.take());
    fits = fits && builder.add(message) && datagrams.size() < kReplyDatagramsMax;
    if (!fits)
      break;
  }
  if (fits) {
    if (!builder.empty())
      datagrams.push_back(builder.take());
    for (std::string& datagram : datagrams)
      send_datagram(to, std::move(datagram));
    return;
  }
  std::string header;
  begin_packet(header, config.name);
  std::string bytes = header;
  for (const std::string& message : messages) {
    SHOAL_ASSERT(header.size() + message.size() <= kStreamMessageBytesMax);
    if (bytes.size() + message.size() > kStreamMessageBytesMax)
      send_stream(to, std::exchange(bytes, header));
    bytes += message;
  }
  send_stream(to, std::move(bytes));
}

DatagramBuilder::DatagramBuilder(const ProtocolConfig& config)
    : header_bytes_(0), bytes_max_(config.datagram_bytes_max) {
  begin_packet(header_, config.name);
  header_bytes_ = header_.size();
  bytes_ = header_;
}

bool DatagramBuilder::add(std::string_view message) {
  if (bytes_.size() + message.size() > bytes_max_)
    return false;
  bytes_ += message;
  return true;
}

std::string DatagramBuilder::take() { return std::exchange(bytes_, header_); }

}  // namespace shoal::gossip

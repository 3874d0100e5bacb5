// SPDX-License-Identifier: Apache-2.0
#include "netplane/ipam/lease_journal.h"

#include "netplane/base/strings.h"

#include <array>
#include <fmt/format.h>

namespace shoal::ipam {
namespace {

constexpr std::string_view kMagic = "shoal-leases";
constexpr std::string_view kVersion = "1";
constexpr std::uint32_t kPolynomial = 0x82F63B78;  // Castagnoli's, bits reversed
constexpr std::size_t kCrcDigits = 8;

constexpr std::array<std::uint32_t, 256> make_table() {
  std::array<std::uint32_t, 256> table{};
  for (std::uint32_t byte = 0; byte < 256; ++byte) {
    std::uint32_t value = byte;
    for (int bit = 0; bit < 8; ++bit)
      value = (value >> 1) ^ ((value & 1) != 0 ? kPolynomial : 0);
    table[byte] = value;
  }
  return table;
}
constexpr auto kTable = make_table();

std::string with_crc(std::string_view body) {
  return fmt::format("{} #{:08x}\n", body, crc32c(body));
}

// The words of a line without its CRC; nothing when that is wrong.
std::optional<std::vector<std::string_view>> checked_words(std::string_view line) {
  if (line.size() < kCrcDigits + 2)
    return std::nullopt;
  const std::string_view body = line.substr(0, line.size() - kCrcDigits - 2);
  if (line != std::string_view(with_crc(body)).substr(0, line.size()))
    return std::nullopt;
  return split(body, ' ');
}

std::optional<IpPrefix> parse_header(std::string_view line) {
  const auto words = checked_words(line);
  if (!words || words->size() != 3 || (*words)[0] != kMagic || (*words)[1] != kVersion)
    return std::nullopt;
  const auto cidr = IpPrefix::parse((*words)[2]);
  return cidr ? std::optional(*cidr) : std::nullopt;
}

std::optional<JournalRecord> parse_record(std::string_view line) {
  const auto words = checked_words(line);
  if (!words || words->size() < 2)
    return std::nullopt;
  const auto ip = IpAddress::parse((*words)[1]);
  if (!ip)
    return std::nullopt;
  JournalRecord record{.ip = *ip, .slot = {}, .is_cursor = (*words)[0] == "last"};
  if (record.is_cursor)
    return words->size() == 2 ? std::optional(record) : std::nullopt;
  record.slot.leased = (*words)[0] == "lease";
  if (!record.slot.leased && (*words)[0] != "free")
    return std::nullopt;
  if (words->size() != (record.slot.leased ? 5U : 4U))
    return std::nullopt;
  const auto generation = parse_uint((*words)[2], UINT16_MAX);
  if (!generation || *generation == 0)
    return std::nullopt;
  record.slot.generation = static_cast<std::uint16_t>(*generation);
  if (record.slot.leased) {
    record.slot.boot_id = (*words)[3];
    record.slot.owner = (*words)[4];
    return record;
  }
  const auto released_ms = parse_int((*words)[3]);
  if (!released_ms)
    return std::nullopt;
  record.slot.released_at = WallTime(std::chrono::milliseconds(*released_ms));
  return record;
}

}  // namespace

std::uint32_t crc32c(std::string_view bytes) {
  std::uint32_t value = UINT32_MAX;
  for (const char c : bytes)
    value = (value >> 8) ^ kTable[(value ^ static_cast<std::uint8_t>(c)) & 0xff];
  return ~value;
}

std::string header_line(const IpPrefix& cidr) {
  return with_crc(fmt::format("{} {} {}", kMagic, kVersion, cidr.to_string()));
}

std::string record_line(const JournalRecord& record) {
  const std::string ip = record.ip.to_string();
  if (record.is_cursor)
    return with_crc(fmt::format("last {}", ip));
  const Slot& slot = record.slot;
  if (slot.leased)
    return with_crc(
        fmt::format("lease {} {} {} {}", ip, slot.generation, slot.boot_id, slot.owner));
  const auto released_ms =
      std::chrono::floor<std::chrono::milliseconds>(slot.released_at.time_since_epoch()).count();
  return with_crc(fmt::format("free {} {} {}", ip, slot.generation, released_ms));
}

Result<Journal> parse_journal(std::string_view text) {
  Journal journal;
  std::size_t line_number = 0;
  std::size_t first_bad = 0;
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t newline = text.find('\n', at);
    if (newline == std::string_view::npos)
      break;  // not whole, whatever it holds
    const std::string_view line = text.substr(at, newline - at);
    at = newline + 1;
    ++line_number;
    const auto cidr = journal.cidr ? std::nullopt : parse_header(line);
    const auto record = cidr ? std::nullopt : parse_record(line);
    if (!cidr && !record) {
      first_bad = first_bad == 0 ? line_number : first_bad;
      continue;
    }
    if (first_bad != 0 || (record && !journal.cidr))
      return fail(Errc::kCorrupt,
                  fmt::format("line {} is damaged although good ones follow; stop shoald, remove "
                              "that line, and start it again",
                              first_bad == 0 ? line_number : first_bad));
    if (cidr)
      journal.cidr = cidr;
    else
      journal.records.push_back(*record);
    journal.good_bytes = at;
  }
  return journal;
}

}  // namespace shoal::ipam

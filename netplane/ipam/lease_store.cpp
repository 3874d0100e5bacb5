// SPDX-License-Identifier: Apache-2.0
#include "netplane/ipam/lease_store.h"

#include "netplane/base/fs.h"
#include "netplane/base/strings.h"

#include <array>
#include <cerrno>
#include <fcntl.h>
#include <fmt/format.h>
#include <sys/file.h>
#include <unistd.h>

namespace shoal::ipam {
namespace {

constexpr std::size_t kJournalBytesMax = 64U << 20;
constexpr std::string_view kMark = " #";

// CRC-32C (Castagnoli), reflected, bit by bit: a line is some hundred bytes.
std::uint32_t crc32c(std::string_view bytes) {
  std::uint32_t crc = ~std::uint32_t{0};
  for (const char c : bytes) {
    crc ^= static_cast<unsigned char>(c);
    for (int bit = 0; bit < 8; bit++)
      crc = (crc >> 1) ^ (0x82f63b78U & (0U - (crc & 1U)));
  }
  return ~crc;
}

std::string sealed(const std::string& text) {
  return fmt::format("{}{}{:08x}\n", text, kMark, crc32c(text));
}

// The text of a whole, good line; nothing otherwise.
std::optional<std::string_view> opened(std::string_view line) {
  const std::size_t mark = line.rfind(kMark);
  if (mark == std::string_view::npos)
    return std::nullopt;
  const std::string_view text = line.substr(0, mark);
  if (line.substr(mark + kMark.size()) != fmt::format("{:08x}", crc32c(text)))
    return std::nullopt;
  return text;
}

std::int64_t millis(WallTime time) {
  return std::chrono::floor<std::chrono::milliseconds>(time.time_since_epoch()).count();
}

std::string header(const IpPrefix& cidr) {
  return fmt::format("shoal-leases 1 {}", cidr.to_string());
}

std::string lease_line(const Lease& lease, WallTime now) {
  return fmt::format("lease {} {} {} {} {}", lease.ip.to_string(), lease.generation, millis(now),
                     lease.boot_id, lease.owner);
}

std::string free_line(const IpAddress& ip, std::uint16_t generation, WallTime released) {
  return fmt::format("free {} {} {}", ip.to_string(), generation, millis(released));
}

struct Record {
  IpAddress ip;
  Slot slot;
};

std::optional<Record> read_record(std::string_view text) {
  const auto words = split(text, ' ');
  const bool lease = words[0] == "lease" && words.size() == 6;
  if (!lease && !(words[0] == "free" && words.size() == 4))
    return std::nullopt;
  auto ip = IpAddress::parse(words[1]);
  const auto generation = parse_uint(words[2], UINT16_MAX);
  const auto when = parse_uint(words[3], INT64_MAX / 1'000'000);
  if (!ip || !generation || !when)
    return std::nullopt;
  Record record{*ip, {}};
  record.slot.generation = static_cast<std::uint16_t>(*generation);
  record.slot.leased = lease;
  if (lease) {
    record.slot.boot_id = words[4];
    record.slot.owner = words[5];
  } else {
    record.slot.released_at = WallTime(std::chrono::milliseconds(static_cast<std::int64_t>(*when)));
  }
  return record;
}

}  // namespace

LeaseStore::LeaseStore(std::filesystem::path path, std::string boot_id, const Clock& clock,
                       LeasePool pool)
    : path_(std::move(path)), boot_id_(std::move(boot_id)), clock_(&clock), pool_(std::move(pool)) {
}

Result<LeaseStore> LeaseStore::open(std::filesystem::path path, const IpPrefix& cidr,
                                    std::string boot_id, const Clock& clock, PoolOptions options) {
  LeasePool pool = SHOAL_TRY(LeasePool::make(cidr, std::move(options)));
  LeaseStore store(std::move(path), std::move(boot_id), clock, std::move(pool));
  // Beside the journal, which is replaced as a whole now and then.
  store.lock_ = SHOAL_TRY(lock_file(store.path_.string() + ".lock"));
  SHOAL_TRY_WRAP(store.load(), store.path_.string());
  return store;
}

Result<> LeaseStore::load() {
  auto text = read_file(path_, kJournalBytesMax);
  if (!text && text.error().code() != Errc::kNotFound)
    return fail(std::move(text).error());
  if (!text || text->empty())
    return compact();
  std::string_view rest = *text;
  std::size_t number = 0;
  std::size_t good_bytes = 0;
  std::optional<std::size_t> bad_line;
  while (!rest.empty()) {
    const std::size_t end = rest.find('\n');
    const std::string_view line = rest.substr(0, end);
    const std::size_t taken = end == std::string_view::npos ? rest.size() : end + 1;
    number++;
    const auto content = end == std::string_view::npos ? std::nullopt : opened(line);
    if (!content) {
      if (!bad_line)
        bad_line = number;
    } else if (bad_line) {
      return fail(
          Errc::kCorrupt,
          fmt::format("line {} is damaged and good ones follow it; with no pods running on this "
                      "host, remove the file",
                      *bad_line));
    } else if (number == 1) {
      if (*content != header(pool_.cidr())) {
        // Another CIDR's journal may go only when it holds nothing.
        bool holds = false;
        for (const std::string_view other : split(*text, '\n'))
          holds = holds || other.starts_with("lease ");
        if (holds || !content->starts_with("shoal-leases 1 "))
          return fail(
              Errc::kConflict,
              fmt::format("it begins with \"{}\" instead of \"{}\"; delete this host's pods, "
                          "then remove the file",
                          printable(*content), header(pool_.cidr())));
        return compact();
      }
      good_bytes += taken;
    } else {
      const auto record = read_record(*content);
      if (!record)
        return fail(Errc::kCorrupt, fmt::format("line {} is not a record of this version: {}",
                                                number, printable(*content)));
      SHOAL_TRY_WRAP(pool_.restore(record->ip, record->slot, clock_->wall()),
                     fmt::format("line {}", number));
      if (record->slot.leased)
        pool_.set_cursor(record->ip);
      good_bytes += taken;
      records_++;
    }
    rest.remove_prefix(taken);
  }
  if (good_bytes == 0)
    return bad_line && number > 1 ? Result<>(fail(Errc::kCorrupt, "line 1 is damaged")) : compact();
  file_ = UniqueFd(::open(path_.c_str(), O_RDWR | O_CLOEXEC));
  if (!file_)
    return fail_errno("open");
  // What a crash left of a change that was never acknowledged.
  if (good_bytes != text->size() &&
      (::ftruncate(file_.get(), static_cast<off_t>(good_bytes)) != 0 ||
       ::fdatasync(file_.get()) != 0))
    return fail_errno("cut off a torn line");
  file_bytes_ = good_bytes;
  return {};
}

Result<> LeaseStore::append(const std::string& line) {
  const std::string bytes = sealed(line);
  const ssize_t n =
      ::pwrite(file_.get(), bytes.data(), bytes.size(), static_cast<off_t>(file_bytes_));
  if (n != static_cast<ssize_t>(bytes.size()) || ::fdatasync(file_.get()) != 0) {
    Error error = n >= 0 && n != static_cast<ssize_t>(bytes.size())
                      ? Error::from_errno(ENOSPC, "write")
                      : Error::from_errno("write");
    // The next line is written over what there is of this one.
    if (::ftruncate(file_.get(), static_cast<off_t>(file_bytes_)) != 0)
      return fail(std::move(error).wrap("and cut off the torn line"));
    return fail(std::move(error));
  }
  file_bytes_ += bytes.size();
  records_++;
  return {};
}

Result<> LeaseStore::compact() {
  std::string text = sealed(header(pool_.cidr()));
  records_ = 0;
  // The address given last comes last, so that the round robin goes on from it.
  std::vector<std::string> lines;
  std::string last;
  for (const auto& [ip, slot] : pool_.used_slots()) {
    std::string line =
        slot.leased ? lease_line({ip, slot.generation, slot.owner, slot.boot_id}, clock_->wall())
                    : free_line(ip, slot.generation, slot.released_at);
    if (ip == pool_.cursor())
      last = std::move(line);
    else
      lines.push_back(std::move(line));
  }
  if (!last.empty())
    lines.push_back(std::move(last));
  for (const std::string& line : lines)
    text += sealed(line);
  SHOAL_TRY(write_file_atomic(path_, text, 0600));
  records_ = lines.size();
  file_ = UniqueFd(::open(path_.c_str(), O_RDWR | O_CLOEXEC));
  if (!file_)
    return fail_errno(fmt::format("open {}", path_.string()));
  file_bytes_ = text.size();
  return {};
}

Result<Lease> LeaseStore::allocate(std::string_view owner) {
  const WallTime now = clock_->wall();
  const auto held = pool_.find_owner(owner);
  Lease lease = SHOAL_TRY(pool_.allocate(owner, boot_id_, now));
  if (held && held->boot_id == lease.boot_id)
    return lease;
  if (auto written = append(lease_line(lease, now)); !written) {
    if (!held)
      (void)pool_.release(lease.ip, now);
    return fail(std::move(written).error().wrap(
        fmt::format("note the lease of {} in {}", lease.ip.to_string(), path_.string())));
  }
  if (records_ > kJournalRecordsMax + pool_.used_slots().size())
    SHOAL_TRY(compact());
  return lease;
}

Result<> LeaseStore::release(const IpAddress& ip) {
  const WallTime now = clock_->wall();
  const auto held = pool_.find_ip(ip);
  if (!held)
    return fail(Errc::kNotFound,
                fmt::format("{} is not leased from {}", ip.to_string(), pool_.cidr().to_string()));
  // The journal first: what it does not hold must not be given to another pod.
  SHOAL_TRY_WRAP(
      append(free_line(ip, held->generation, now)),
      fmt::format("note the end of the lease of {} in {}", ip.to_string(), path_.string()));
  SHOAL_TRY(pool_.release(ip, now));
  if (records_ > kJournalRecordsMax + pool_.used_slots().size())
    return compact();
  return {};
}

Result<bool> LeaseStore::release_owner(std::string_view owner) {
  const auto held = pool_.find_owner(owner);
  if (!held)
    return false;
  SHOAL_TRY(release(held->ip));
  return true;
}

Result<std::vector<Lease>>
LeaseStore::release_unless(const std::function<bool(const Lease&)>& alive) {
  std::vector<Lease> released;
  for (const Lease& lease : pool_.leases()) {
    if (alive(lease))
      continue;
    SHOAL_TRY(release(lease.ip));
    released.push_back(lease);
  }
  return released;
}

}  // namespace shoal::ipam

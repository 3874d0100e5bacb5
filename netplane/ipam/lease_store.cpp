// SPDX-License-Identifier: Apache-2.0
#include "netplane/ipam/lease_store.h"

#include "netplane/base/fs.h"
#include "netplane/ipam/lease_journal.h"

#include <algorithm>
#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

namespace shoal::ipam {
namespace {

constexpr std::size_t kJournalBytesMax = 64 << 20;
constexpr mode_t kMode = 0600;

}  // namespace

Result<LeaseStore> LeaseStore::open(std::filesystem::path path, const IpPrefix& cidr,
                                    std::string boot_id, const Clock& clock, PoolOptions options) {
  const std::string what = fmt::format("open leases {}", path.string());
  LeasePool pool = SHOAL_TRY_WRAP(LeasePool::make(cidr, std::move(options)), what);
  LeaseStore store(std::move(path), std::move(boot_id), clock, std::move(pool));
  store.lock_ = SHOAL_TRY_WRAP(lock_file(store.path_.string() + ".lock"), what);
  SHOAL_TRY_WRAP(store.load(), what);
  return store;
}

Result<> LeaseStore::load() {
  auto text = read_file(path_, kJournalBytesMax);
  if (!text && text.error().code() == Errc::kNotFound)
    return compact();
  if (!text)
    return fail(std::move(text).error());
  const Journal journal = SHOAL_TRY(parse_journal(*text));
  if (!journal.cidr)
    return compact();  // nothing was ever acknowledged
  if (*journal.cidr != pool_.cidr()) {
    auto former = SHOAL_TRY(LeasePool::make(*journal.cidr));
    for (const JournalRecord& record : journal.records)
      if (!record.is_cursor)
        SHOAL_TRY(former.restore(record.ip, record.slot, clock_->wall()));
    const auto leases = former.leases();
    const auto live = std::ranges::count(leases, boot_id_, &Lease::boot_id);
    if (live != 0)
      return fail(Errc::kConflict,
                  fmt::format("they are of pod CIDR {}, of which {} addresses are in use, and this "
                              "host now has {}; drain the host before its pod CIDR changes",
                              journal.cidr->to_string(), live, pool_.cidr().to_string()));
    return compact();
  }
  for (const JournalRecord& record : journal.records) {
    if (!record.is_cursor)
      SHOAL_TRY(pool_.restore(record.ip, record.slot, clock_->wall()));
    if ((record.is_cursor || record.slot.leased) && pool_.holds(record.ip))
      pool_.set_cursor(record.ip);
  }
  file_ = UniqueFd(::open(path_.c_str(), O_WRONLY | O_APPEND | O_CLOEXEC));
  if (!file_)
    return fail_errno(fmt::format("open {}", path_.string()));
  if (journal.good_bytes != text->size() &&
      (::ftruncate(file_.get(), static_cast<off_t>(journal.good_bytes)) != 0 ||
       ::fdatasync(file_.get()) != 0))
    return fail_errno("cut off the torn end");
  file_bytes_ = journal.good_bytes;
  records_ = journal.records.size();
  return {};
}

Result<> LeaseStore::compact() {
  std::string text = header_line(pool_.cidr());
  std::size_t records = 0;
  for (auto& [ip, slot] : pool_.used_slots()) {
    text += record_line({.ip = ip, .slot = std::move(slot)});
    ++records;
  }
  text += record_line({.ip = pool_.cursor(), .slot = {}, .is_cursor = true});
  SHOAL_TRY(write_file_atomic(path_, text, kMode));
  UniqueFd file(::open(path_.c_str(), O_WRONLY | O_APPEND | O_CLOEXEC));
  if (!file)
    return fail_errno(fmt::format("open {}", path_.string()));
  file_ = std::move(file);
  file_bytes_ = text.size();
  records_ = records + 1;
  return {};
}

Result<> LeaseStore::record(const IpAddress& ip) {
  // The rewrite holds this change, too.
  if (records_ >= kJournalRecordsMax + pool_.size())
    return compact();
  const std::string line = record_line({.ip = ip, .slot = pool_.slot(ip)});
  auto written = write_all(file_.get(), line);
  if (written && ::fdatasync(file_.get()) != 0)
    written = fail_errno("fdatasync");
  if (!written) {
    // Nothing of a change that is refused may be there after a restart. If it cannot be cut off the
    // next open finds a torn line, or a whole one that was never acknowledged: an address too many
    // in use, until the sweep.
    if (::ftruncate(file_.get(), static_cast<off_t>(file_bytes_)) != 0)
      return fail(std::move(written).error().wrap(
          fmt::format("{}: a part of the line could not be cut off; append", path_.string())));
    return fail(std::move(written).error().wrap(fmt::format("append to {}", path_.string())));
  }
  file_bytes_ += line.size();
  ++records_;
  return {};
}

std::optional<Lease> LeaseStore::find_owner(std::string_view owner) const {
  const std::lock_guard guard(*mutex_);
  return pool_.find_owner(owner);
}

std::vector<Lease> LeaseStore::leases() const {
  const std::lock_guard guard(*mutex_);
  return pool_.leases();
}

LeasePool LeaseStore::pool() const {
  const std::lock_guard guard(*mutex_);
  return pool_;
}

Result<Lease> LeaseStore::allocate(std::string_view owner) {
  const std::lock_guard guard(*mutex_);
  const WallTime now = clock_->wall();
  const auto before = pool_.find_owner(owner);
  const IpAddress cursor = pool_.cursor();
  // What is there to go back to when the change cannot be written.
  const Lease lease = SHOAL_TRY(pool_.allocate(owner, boot_id_, now));
  if (before == lease)
    return lease;
  if (auto recorded = record(lease.ip); !recorded) {
    Slot former = pool_.slot(lease.ip);
    if (before) {
      former.boot_id = before->boot_id;
    } else {
      // The generation stays raised in memory: one too many does no harm.
      former = Slot{.generation = lease.generation,
                    .leased = false,
                    .owner = {},
                    .boot_id = {},
                    .released_at = WallTime{}};
    }
    SHOAL_ASSERT(pool_.restore(lease.ip, std::move(former), now).has_value());
    pool_.set_cursor(cursor);
    return fail(std::move(recorded).error().wrap(fmt::format("lease an address to {}", owner)));
  }
  return lease;
}

Result<> LeaseStore::release_recorded(const Lease& lease) {
  const WallTime now = clock_->wall();
  const Slot before = pool_.slot(lease.ip);
  SHOAL_TRY(pool_.release(lease.ip, now));
  if (auto recorded = record(lease.ip); !recorded) {
    SHOAL_ASSERT(pool_.restore(lease.ip, before, now).has_value());
    return fail(std::move(recorded).error().wrap(
        fmt::format("give back {} of {}", lease.ip.to_string(), lease.owner)));
  }
  return {};
}

Result<> LeaseStore::release(const IpAddress& ip) {
  const std::lock_guard guard(*mutex_);
  const auto lease = pool_.find_ip(ip);
  if (!lease)
    return fail(Errc::kNotFound, fmt::format("{} is not leased", ip.to_string()));
  return release_recorded(*lease);
}

Result<bool> LeaseStore::release_owner(std::string_view owner) {
  const std::lock_guard guard(*mutex_);
  const auto lease = pool_.find_owner(owner);
  if (!lease)
    return false;
  SHOAL_TRY(release_recorded(*lease));
  return true;
}

}  // namespace shoal::ipam

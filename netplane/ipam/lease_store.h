// SPDX-License-Identifier: Apache-2.0
// LeaseStore: a LeasePool that survives kill -9 and power loss.
//
// A journal file: a header line with the CIDR, then one text line a change, each with its CRC-32C
// (see lease_journal.h). A line counts once it is whole: a torn end is what a crash left of a
// change that was never acknowledged, and is cut off at open. A bad line with good ones after it is
// damage, and is refused with the line's number. A change is on disk (fdatasync) before it is
// answered; when it cannot be written the pool is as before. The file is rewritten, atomically,
// when it has grown past kJournalRecordsMax records. An flock on PATH.lock keeps a second process
// out. Threading: any thread; calls take turns. Blocking: one fdatasync a change, some
// milliseconds, and a tenth of a second when the disk is busy: worker threads only.
#pragma once

#include "netplane/base/clock.h"
#include "netplane/base/unique_fd.h"
#include "netplane/ipam/lease_pool.h"

#include <filesystem>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

namespace shoal::ipam {

inline constexpr std::size_t kJournalRecordsMax = 8192;  // beyond the addresses in use

class LeaseStore {
public:
  // Makes the file when it is not there. kConflict: another process has it, or it is of another
  // CIDR and still holds leases of this boot.
  static Result<LeaseStore> open(std::filesystem::path path, const IpPrefix& cidr,
                                 std::string boot_id, const Clock& clock, PoolOptions options = {});

  Result<Lease> allocate(std::string_view owner);
  Result<> release(const IpAddress& ip);               // kNotFound when it is not leased
  Result<bool> release_owner(std::string_view owner);  // false: it had none

  std::optional<Lease> find_owner(std::string_view owner) const;
  std::vector<Lease> leases() const;  // by address
  LeasePool pool() const;             // a copy, as of now
  const std::string& boot_id() const { return boot_id_; }

private:
  LeaseStore(std::filesystem::path path, std::string boot_id, const Clock& clock, LeasePool pool)
      : path_(std::move(path)), boot_id_(std::move(boot_id)), clock_(&clock),
        pool_(std::move(pool)) {}
  Result<> load();
  Result<> compact();
  // Appends the present state of an address, on disk when it returns.
  Result<> record(const IpAddress& ip);
  Result<> release_recorded(const Lease& lease);

  std::unique_ptr<std::mutex> mutex_ = std::make_unique<std::mutex>();  // of all below
  std::filesystem::path path_;
  std::string boot_id_;
  const Clock* clock_;
  LeasePool pool_;
  UniqueFd lock_;
  UniqueFd file_;                 // open for appending
  std::uint64_t file_bytes_ = 0;  // of whole, good lines
  std::size_t records_ = 0;
};

}  // namespace shoal::ipam

// SPDX-License-Identifier: Apache-2.0
// ImageGc: keeps the file system of the images from filling up. Looked at once in kEvery, and when
// a pull found no room; above the high mark images go, the longest unused first, until no more than
// the low mark is used. Never: what was loaded by hand, what a container or a pod of this host
// names, what was used a moment ago. Layers that other images share stay with these. What was begun
// to be pulled and not finished goes after kPullAge, and above the high mark as soon as nobody
// works on it.
//
// Threading: the loop thread; the work is done on a worker.
#pragma once

#include "agent/images/disk_use.h"
#include "netplane/base/clock.h"
#include "runtime/image/store.h"

#include <boost/asio/io_context.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/thread_pool.hpp>
#include <functional>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

namespace shoal::images {

struct GcOptions {
  unsigned high_percent = 85;
  unsigned low_percent = 80;
  std::chrono::seconds min_age{120};
};

inline constexpr std::chrono::seconds kGcEvery{60};
inline constexpr std::chrono::hours kPullAge{24};

struct GcReport {
  DiskUse before;
  bool tried = false;               // the high mark was passed
  std::vector<std::string> images;  // removed, by their first name
  std::uint64_t freed_bytes = 0;
  bool enough = true;               // the low mark is reached
  std::uint64_t missing_bytes = 0;  // until it is; 0 where it is files that are too many
};

struct GcStats {
  std::uint64_t runs = 0;  // that had something to do
  std::uint64_t images = 0;
  std::uint64_t bytes = 0;
  std::uint64_t failures = 0;
  DiskUse disk;  // as of the last look
};

// Digests of what may go, the first first. named: references and digests that pods name.
std::vector<std::string> gc_order(const std::vector<runtime::ImageUse>& images,
                                  const std::set<std::string>& named, WallTime before);

// One look, and what follows from it. Blocking.
Result<GcReport> collect_images(runtime::ImageStore& store, const GcOptions& options,
                                const std::set<std::string>& named, WallTime now);

class ImageGc {
public:
  struct Hooks {
    // The images that pods of this host name; nothing while they are not all known.
    std::function<std::optional<std::set<std::string>>()> named;
    std::function<void(const GcReport&)> done;  // of a run that had something to do
    std::function<void(const Error&)> failed;
  };

  ImageGc(boost::asio::io_context& loop, boost::asio::thread_pool& workers,
          runtime::ImageStore& store, const Clock& clock, GcOptions options, Hooks hooks);
  ~ImageGc();
  ImageGc(const ImageGc&) = delete;
  ImageGc& operator=(const ImageGc&) = delete;

  void start();
  void run();  // now; one at a time
  // Everything that may go does, whatever the marks are: the host is short of disk. done: it is
  // gone, or could not be.
  void reclaim(std::function<void()> done);
  const GcStats& stats() const { return stats_; }

private:
  void arm();
  void reclaim_all();
  bool begin(const GcOptions& options, bool reclaiming);
  void ended(Result<GcReport> report, bool reclaiming);

  boost::asio::io_context& loop_;
  boost::asio::thread_pool& workers_;
  runtime::ImageStore& store_;
  const Clock& clock_;
  GcOptions options_;
  Hooks hooks_;
  boost::asio::steady_timer timer_;
  GcStats stats_;
  bool running_ = false;
  std::vector<std::function<void()>> reclaim_done_;
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
};

}  // namespace shoal::images

// SPDX-License-Identifier: Apache-2.0
#include "agent/images/image_gc.h"

#include "runtime/image/pull.h"
#include "runtime/image/reference.h"

#include <algorithm>
#include <boost/asio/post.hpp>
#include <utility>

namespace shoal::images {

namespace asio = boost::asio;

std::vector<std::string> gc_order(const std::vector<runtime::ImageUse>& images,
                                  const std::set<std::string>& named, WallTime before) {
  std::vector<const runtime::ImageUse*> free;
  for (const runtime::ImageUse& image : images) {
    const auto is_named = [&](const std::string& name) { return named.contains(name); };
    const bool needed = !image.holders.empty() || image.info.pinned ||
                        std::ranges::any_of(image.info.refs, is_named) ||
                        std::ranges::any_of(image.info.repo_digests, is_named) ||
                        is_named(image.info.digest);
    if (!needed && image.last_used < before)
      free.push_back(&image);
  }
  std::ranges::stable_sort(free, {}, &runtime::ImageUse::last_used);
  std::vector<std::string> out;
  for (const runtime::ImageUse* image : free)
    out.push_back(image->info.digest);
  return out;
}

Result<GcReport> collect_images(runtime::ImageStore& store, const GcOptions& options,
                                const std::set<std::string>& named, WallTime now) {
  GcReport report;
  // Names as the store has them.
  std::set<std::string> normal;
  for (const std::string& name : named)
    if (const auto reference = runtime::parse_reference(name))
      normal.insert(reference->str());
  SHOAL_TRY(runtime::drop_pulls(store, kPullAge));
  const std::filesystem::path place = store.pull_dir().parent_path();
  report.before = SHOAL_TRY(disk_use(place));
  report.tried = options.high_percent < 100 && report.before.used_percent() >= options.high_percent;
  if (!report.tried)
    return report;
  report.freed_bytes = SHOAL_TRY(runtime::drop_pulls(store, options.min_age));
  const std::uint64_t wanted = report.before.bytes_above(options.low_percent);
  const auto enough = [&]() -> Result<bool> {
    // Some file systems give room back later than they say so.
    const DiskUse now_used = SHOAL_TRY(disk_use(place));
    return now_used.used_percent() <= options.low_percent ||
           (wanted > 0 && report.freed_bytes >= wanted);
  };
  const WallTime before = now - options.min_age;
  const auto uses = store.uses();
  for (const std::string& digest : gc_order(uses, normal, before)) {
    if (SHOAL_TRY(enough()))
      break;
    auto removed = store.remove_unused(digest, before);
    if (!removed &&
        (removed.error().code() == Errc::kConflict || removed.error().code() == Errc::kNotFound))
      continue;  // somebody came to need it, or removed it, meanwhile
    if (!removed)
      return fail(std::move(removed).error());
    report.freed_bytes += removed->freed_bytes;
    report.images.push_back(removed->untagged.empty() ? digest : removed->untagged.front());
  }
  report.enough = SHOAL_TRY(enough());
  if (!report.enough)
    report.missing_bytes = wanted - std::min(wanted, report.freed_bytes);
  return report;
}

ImageGc::ImageGc(asio::io_context& loop, asio::thread_pool& workers, runtime::ImageStore& store,
                 const Clock& clock, GcOptions options, Hooks hooks)
    : loop_(loop), workers_(workers), store_(store), clock_(clock), options_(options),
      hooks_(std::move(hooks)), timer_(loop) {}

ImageGc::~ImageGc() { *alive_ = false; }

void ImageGc::start() {
  run();
  arm();
}

void ImageGc::arm() {
  timer_.expires_after(kGcEvery);
  timer_.async_wait([this](const boost::system::error_code& error) {
    if (error)
      return;
    run();
    arm();
  });
}

void ImageGc::run() { begin(options_, false); }

void ImageGc::reclaim(std::function<void()> done) {
  reclaim_done_.push_back(std::move(done));
  reclaim_all();
}

void ImageGc::reclaim_all() {
  GcOptions all = options_;
  all.high_percent = all.low_percent = 0;
  if (running_ || begin(all, true))
    return;  // behind what runs, which may stop early
  asio::post(loop_, [done = std::exchange(reclaim_done_, {})] {
    for (const auto& one : done)
      one();
  });
}

// False: one runs, or it is not known what is needed.
bool ImageGc::begin(const GcOptions& options, bool reclaiming) {
  auto named = running_ ? std::nullopt : hooks_.named();
  if (!named)
    return false;
  running_ = true;
  const auto work = [&store = store_, options, named = std::move(*named), now = clock_.wall()] {
    return collect_images(store, options, named, now);
  };
  asio::post(workers_, [this, alive = alive_, &loop = loop_, work, reclaiming] {
    asio::post(loop, [this, alive, report = work(), reclaiming] {
      if (*alive)
        ended(report, reclaiming);
    });
  });
  return true;
}

void ImageGc::ended(Result<GcReport> report, bool reclaiming) {
  running_ = false;
  if (!report) {
    stats_.failures++;
    hooks_.failed(report.error());
  } else {
    stats_.disk = report->before;
    // All that may go is as much as there is to free then.
    report->enough = report->enough || reclaiming;
    if (report->tried) {
      stats_.runs++;
      stats_.images += report->images.size();
      stats_.bytes += report->freed_bytes;
      stats_.failures += !report->enough;
      hooks_.done(*report);
    }
  }
  if (!reclaiming && !reclaim_done_.empty())
    return reclaim_all();
  for (const auto& done : std::exchange(reclaim_done_, {}))
    done();
}

}  // namespace shoal::images

// SPDX-License-Identifier: Apache-2.0
// Pulls one image from a registry into an ImageStore. skopeo speaks with the registry, as a child
// process; what it brings is believed only as far as the store's import checks it.
//
// The manifest is read first, so that an image whose parts are all here costs one request, and a
// registry that answers with another digest than asked for, or has nothing for this platform, is
// told at once. Blobs that the store or an earlier try of this pull has whole are not fetched
// again.
//
//   <store>/pulls/<hex of the manifest's digest>/   a layout folder; stays after a failure, so that
//                                                   the next try goes on from there, but for a full
//                                                   disk and for content that is wrong
//
// Bounded: each request for a document in time, the blobs by the sizes that the manifest says, and
// by `stall`: how long nothing may come. Blocking: a thread that may be held for minutes. Two pulls
// of one image at a time are the caller's to avoid.
#pragma once

#include "runtime/image/store.h"

#include <atomic>
#include <chrono>
#include <filesystem>
#include <functional>
#include <string>

namespace shoal::runtime {

struct PullOptions {
  std::string skopeo = "skopeo";
  std::filesystem::path registries_conf;  // containers-registries.conf(5); empty: the host's own
  // containers-auth.json(5), readable by root only; empty: nobody's credentials, not root's either.
  std::filesystem::path auth_file;
  bool insecure = false;  // plain HTTP and unknown certificates are fine
  std::chrono::milliseconds document_timeout{60'000};
  std::chrono::milliseconds stall{60'000};
  std::chrono::milliseconds blobs_timeout{std::chrono::hours(4)};
};

struct PullProgress {
  std::uint64_t bytes = 0;  // of blobs, here so far
  std::uint64_t total_bytes = 0;
};

struct PullHooks {
  std::function<void(const PullProgress&)> progress;  // on the pulling thread; may be empty
  const std::atomic<bool>* cancelled = nullptr;       // looked at a few times a second
};

// kNotFound, kPermission, kTimeout, kUnavailable (also when cancelled), kExhausted (limits, disk),
// kCorrupt, kUnsupported (platform, kind of artifact), with the registry's own words.
Result<ImageInfo> pull_image(ImageStore& store, std::string_view reference,
                             const PullOptions& options = {}, const PullHooks& hooks = {});

// The last message of skopeo's standard error, without its time and level.
std::string skopeo_message(std::string_view standard_error);

}  // namespace shoal::runtime

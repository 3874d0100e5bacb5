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
// Bounded by `stall`: how long nothing may come, and the blobs also by the sizes that the manifest
// says. skopeo gets its credentials by an open file without a name, and ends with this process.
// Blocking: a thread that may be held for as long as bytes come. Two pulls that lead to one
// manifest take turns, and the second finds all that the first has brought.
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
  std::filesystem::path cert_dir;         // containers-certs.d(5); empty: the host's own
  std::string auth;       // containers-auth.json(5); empty: nobody's credentials, not root's either
  bool insecure = false;  // plain HTTP and unknown certificates are fine
  std::chrono::milliseconds stall{60'000};
};

struct PullProgress {
  std::uint64_t bytes = 0;  // of layers, here so far
  std::uint64_t total_bytes = 0;
  std::size_t layers = 0;  // that are here whole
  std::size_t total_layers = 0;
};

struct PullHooks {
  std::function<void(const PullProgress&)> progress;  // on the pulling thread; may be empty
  const std::atomic<bool>* cancelled = nullptr;       // looked at a few times a second
};

struct Pulled {
  ImageInfo info;
  std::uint64_t fetched_bytes = 0;  // of layers
  bool was_here = false;            // nothing but the manifest was asked for
};

// kNotFound, kPermission, kTimeout, kUnavailable, kCancelled, kExhausted (limits, disk), kCorrupt,
// kUnsupported (platform, kind of artifact), with the registry's own words.
Result<Pulled> pull_image(ImageStore& store, std::string_view reference,
                          const PullOptions& options = {}, const PullHooks& hooks = {});

// Deletes what was begun and did not get whole, is nobody's now and was not touched for `age`.
// Returns the bytes of disk that came free.
Result<std::uint64_t> drop_pulls(ImageStore& store, std::chrono::seconds age);

// The last message of skopeo's standard error, without its time and level.
std::string skopeo_message(std::string_view standard_error);

}  // namespace shoal::runtime

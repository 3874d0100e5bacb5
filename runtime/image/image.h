// SPDX-License-Identifier: Apache-2.0
// Values that describe an image: what a manifest and its config say, as the OCI image
// specification 1.1 names it. Plain data, comparable, no IO. Digests are written "sha256:<64 hex
// digits>".
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

namespace shoal::runtime {

// The "config" object of an image config: how to start a container when the pod does not say
// otherwise.
struct ImageConfig {
  std::vector<std::string> entrypoint;
  std::vector<std::string> cmd;
  std::vector<std::string> env;            // "K=V", in the image's order
  std::string user;                        // "", "uid", "uid:gid", "name" or "name:group"
  std::string working_dir;                 // "" means "/"
  std::string stop_signal;                 // "" means SIGTERM; else "SIGQUIT" or a number
  std::vector<std::string> exposed_ports;  // "8080/tcp", sorted
  std::vector<std::string> volumes;        // paths, sorted
  std::map<std::string, std::string> labels;
  bool operator==(const ImageConfig&) const = default;
};

struct ImageInfo {
  std::string digest;  // of the manifest: what "name@sha256:..." names
  std::string id;      // digest of the config: the same for every way of packing the layers
  std::vector<std::string>
      refs;        // "docker.io/library/busybox:latest", sorted; empty: only held by leases
  std::string os;  // "linux"
  std::string architecture;  // "amd64"
  std::string variant;       // "v8" or ""
  std::string created;       // RFC 3339, or "" when the image does not say
  // "docker.io/library/busybox@sha256:...", sorted: by the digest of the index it came in, or its
  // own.
  std::vector<std::string> repo_digests;
  bool pinned = false;                // one of the refs is: loaded by hand, not pulled
  std::uint64_t size_bytes = 0;       // manifest, config and layers as stored (compressed)
  std::vector<std::string> diff_ids;  // digest of each uncompressed layer, the base first
  ImageConfig config;
  bool operator==(const ImageInfo&) const = default;
};

}  // namespace shoal::runtime

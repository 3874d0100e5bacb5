// SPDX-License-Identifier: Apache-2.0
// Manifests as people write them: YAML (or JSON) with several documents, turned into JSON objects
// that remember the line of every field, so that the server's complaints can be shown where they
// belong. Pure but for read_files.
//
// Scalars follow what Kubernetes' tools make of them: true/false are booleans, decimal, 0x, 0o and
// leading-zero octal numbers are numbers, null and ~ are null, what is quoted is text. yes, no, on
// and off stay text.
#pragma once

#include "netplane/base/result.h"

#include <boost/json/object.hpp>
#include <boost/json/value.hpp>
#include <map>
#include <string>
#include <string_view>
#include <vector>

namespace shoal::cli {

inline constexpr std::size_t kManifestBytesMax = 16 << 20;
inline constexpr std::size_t kManifestNodesMax = 200'000;  // after aliases are expanded
inline constexpr int kManifestDepthMax = 64;

struct Document {
  std::string file;  // "-" for standard input
  boost::json::object object;
  std::map<std::string, int>
      lines;  // "spec.template.spec.containers[0].image" -> line; "": the document's first

  // "FILE:LINE" of a field, or of the nearest one around it that the document has.
  std::string where(std::string_view field) const;
};

// Documents of `text`, lists (kind: List) taken apart, empty ones left out. Errors begin with
// FILE:LINE:COLUMN.
Result<std::vector<Document>> parse_manifests(std::string_view text, const std::string& file);

// Files, folders (their *.yaml, *.yml and *.json, by name) and "-".
Result<std::vector<Document>> read_manifests(const std::vector<std::string>& paths);

// A plain scalar's value, as above.
boost::json::value resolve_scalar(std::string_view text);

std::string to_yaml(const boost::json::value& value);
std::string to_pretty_json(const boost::json::value& value);  // four blanks, as kubectl prints it

}  // namespace shoal::cli

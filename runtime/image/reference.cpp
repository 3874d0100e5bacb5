// SPDX-License-Identifier: Apache-2.0
#include "runtime/image/reference.h"

#include "netplane/base/strings.h"

#include <algorithm>
#include <fmt/format.h>

namespace shoal::runtime {
namespace {

constexpr std::size_t kRepositoryMax = 255;
constexpr std::size_t kTagMax = 128;
constexpr std::string_view kDefaultDomain = "docker.io";
constexpr std::string_view kDefaultFolder = "library/";

bool is_lower_alnum(char c) { return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9'); }
bool is_alnum(char c) { return is_lower_alnum(c) || (c >= 'A' && c <= 'Z'); }

// [a-z0-9]+ joined by one '.', one or two '_' or any number of '-'.
bool is_path_component(std::string_view text) {
  if (text.empty() || !is_lower_alnum(text.front()) || !is_lower_alnum(text.back()))
    return false;
  for (std::size_t i = 0; i < text.size();) {
    if (is_lower_alnum(text[i])) {
      ++i;
      continue;
    }
    const std::size_t end = std::min(text.find_first_not_of(text[i], i), text.size());
    const std::size_t run = end - i;
    const bool separator =
        (text[i] == '.' && run == 1) || (text[i] == '_' && run <= 2) || text[i] == '-';
    if (!separator || !is_lower_alnum(text[end]))
      return false;
    i = end;
  }
  return true;
}

bool is_domain(std::string_view text) {
  if (const std::size_t colon = text.rfind(':'); colon != std::string_view::npos) {
    if (!parse_uint(text.substr(colon + 1), 65535))
      return false;
    text = text.substr(0, colon);
  }
  for (const std::string_view label : split(text, '.')) {
    if (label.empty() || !is_alnum(label.front()) || !is_alnum(label.back()))
      return false;
    if (!std::ranges::all_of(label, [](char c) { return is_alnum(c) || c == '-'; }))
      return false;
  }
  return true;
}

bool is_tag(std::string_view text) {
  if (text.empty() || text.size() > kTagMax || !(is_alnum(text.front()) || text.front() == '_'))
    return false;
  return std::ranges::all_of(
      text, [](char c) { return is_alnum(c) || c == '_' || c == '.' || c == '-'; });
}

// The first component is a registry when it looks like a host: a dot, a port, or "localhost".
Result<std::string> normal_repository(std::string_view name) {
  std::string_view domain = kDefaultDomain;
  std::string_view path = name;
  if (const std::size_t slash = name.find('/'); slash != std::string_view::npos) {
    const std::string_view first = name.substr(0, slash);
    if (first == "localhost" || first.find_first_of(".:") != std::string_view::npos) {
      domain = first == "index.docker.io" ? kDefaultDomain : first;
      path = name.substr(slash + 1);
    }
  }
  if (!is_domain(domain))
    return fail(Errc::kInvalid, fmt::format("\"{}\" is not a registry host", printable(domain)));
  for (const std::string_view part : split(path, '/'))
    if (!is_path_component(part))
      return fail(Errc::kInvalid,
                  fmt::format("\"{}\" is not a name: lower-case letters and digits, joined by "
                              "'.', '_', '__' or '-'",
                              printable(part)));
  const bool official = domain == kDefaultDomain && path.find('/') == std::string_view::npos;
  std::string repository = fmt::format("{}/{}{}", domain, official ? kDefaultFolder : "", path);
  if (repository.size() > kRepositoryMax)
    return fail(Errc::kInvalid, fmt::format("the name is longer than {} bytes", kRepositoryMax));
  return repository;
}

Result<Reference> parse(std::string_view text) {
  Reference reference;
  if (is_sha256_digest(text)) {
    reference.digest = text;
    return reference;
  }
  if (const std::size_t at = text.find('@'); at != std::string_view::npos) {
    reference.digest = text.substr(at + 1);
    text = text.substr(0, at);
    if (!is_sha256_digest(reference.digest))
      return fail(Errc::kInvalid, fmt::format("\"{}\" is not a digest: sha256: and 64 hex digits",
                                              printable(reference.digest)));
  }
  const std::size_t colon = text.rfind(':');
  // A colon before a slash belongs to a registry's port.
  if (colon != std::string_view::npos && text.find('/', colon) == std::string_view::npos) {
    reference.tag = text.substr(colon + 1);
    text = text.substr(0, colon);
    if (!is_tag(reference.tag))
      return fail(Errc::kInvalid, fmt::format("\"{}\" is not a tag", printable(reference.tag)));
  }
  reference.repository = SHOAL_TRY(normal_repository(text));
  if (!reference.digest.empty())
    reference.tag.clear();
  else if (reference.tag.empty())
    reference.tag = "latest";
  return reference;
}

}  // namespace

std::string Reference::str() const {
  if (repository.empty())
    return digest;
  return digest.empty() ? repository + ":" + tag : repository + "@" + digest;
}

Result<Reference> parse_reference(std::string_view text) {
  auto parsed = parse(text);
  if (!parsed)
    return fail(std::move(parsed).error().wrap(
        fmt::format("image reference \"{}\"", printable(text, 300))));
  return parsed;
}

bool is_sha256_digest(std::string_view text) {
  constexpr std::string_view kPrefix = "sha256:";
  return text.size() == kPrefix.size() + 64 && text.starts_with(kPrefix) &&
         std::ranges::all_of(text.substr(kPrefix.size()), [](char c) {
           return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f');
         });
}

}  // namespace shoal::runtime

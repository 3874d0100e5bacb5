// SPDX-License-Identifier: Apache-2.0
#include "agent/config/registries.h"

#include "netplane/base/strings.h"

#include <algorithm>
#include <fmt/format.h>

namespace shoal::config {
namespace {

constexpr std::size_t kRegistriesMax = 64;
constexpr std::size_t kMirrorsMax = 16;
constexpr std::size_t kNameBytesMax = 255;
constexpr std::string_view kKeys = "name, mirrors, insecure, ca";

bool is_host(std::string_view host) {
  if (host.starts_with('[') && host.ends_with(']')) {
    const auto address = IpAddress::parse(host.substr(1, host.size() - 2));
    return address && !address->is_v4();
  }
  return !host.empty() && host.front() != '.' && host.front() != '-' && host.back() != '.' &&
         std::ranges::all_of(host, [](char c) {
           return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '.' || c == '-';
         });
}

// "host" or "host:port".
bool is_place(std::string_view text) {
  const std::size_t bracket = text.rfind(']');
  const std::size_t colon = text.find(':', bracket == std::string_view::npos ? 0 : bracket);
  if (colon == std::string_view::npos)
    return is_host(text);
  const auto port = parse_uint(text.substr(colon + 1), 65535);
  return port && *port > 0 && is_host(text.substr(0, colon));
}

class EntryReader {
public:
  EntryReader(std::string path,
              const std::function<void(const YAML::Mark&, std::string_view, std::string)>& problem)
      : path_(std::move(path)), problem_(problem) {}

  std::optional<Registry> read(const YAML::Node& node) {
    if (!node.IsMap())
      return wrong(node, "", fmt::format("must be a mapping with {}", kKeys));
    for (const auto& item : node)
      member(item.first, item.second);
    if (fine_ && registry_.name.empty())
      return wrong(node, "name",
                   "is missing: the registry as image names have it, such as docker.io");
    return fine_ ? std::optional(registry_) : std::nullopt;
  }

private:
  std::nullopt_t wrong(const YAML::Node& node, std::string_view key, std::string what) {
    fine_ = false;
    problem_(node.Mark(), key.empty() ? path_ : fmt::format("{}.{}", path_, key), std::move(what));
    return std::nullopt;
  }

  void member(const YAML::Node& name, const YAML::Node& value) {
    const std::string key = name.IsScalar() ? name.Scalar() : "";
    if (key == "mirrors")
      return mirrors(value);
    if (key != "name" && key != "insecure" && key != "ca") {
      wrong(name, printable(key), fmt::format("unknown key; allowed here: {}", kKeys));
      return;
    }
    const std::string text = value.IsScalar() ? value.Scalar() : "";
    if (key == "name") {
      registry_.name = text;
      if (!is_registry_name(text))
        wrong(value, key,
              fmt::format("\"{}\" is not a registry as image names have it, such as docker.io or "
                          "registry.lan:5000",
                          printable(text)));
    } else if (key == "ca") {
      registry_.ca = text;
      if (!text.starts_with('/'))
        wrong(value, key, fmt::format("\"{}\" is not an absolute path", printable(text)));
    } else {
      registry_.insecure = text == "true";
      if (text != "true" && text != "false")
        wrong(value, key, fmt::format("\"{}\" is not true or false", printable(text)));
    }
  }

  void mirrors(const YAML::Node& value) {
    if (!value.IsSequence() || value.size() > kMirrorsMax) {
      wrong(value, "mirrors",
            fmt::format("must be a list of at most {} URLs, such as [https://mirror.lan:5000]",
                        kMirrorsMax));
      return;
    }
    for (const YAML::Node& item : value) {
      auto mirror = parse_mirror(item.IsScalar() ? item.Scalar() : "");
      if (mirror)
        registry_.mirrors.push_back(std::move(*mirror));
      else
        wrong(item, "mirrors", mirror.error().message());
    }
  }

  std::string path_;
  const std::function<void(const YAML::Mark&, std::string_view, std::string)>& problem_;
  Registry registry_;
  bool fine_ = true;
};

}  // namespace

bool is_registry_name(std::string_view text) {
  // Without a dot, a colon or this name it would be a part of a path on docker.io.
  const bool told_apart = text == "localhost" || text.find_first_of(".:") != std::string_view::npos;
  const bool alias = text == "index.docker.io" || text == "registry-1.docker.io";
  return told_apart && !alias && text.size() <= kNameBytesMax && is_place(text);
}

Result<Mirror> parse_mirror(std::string_view url) {
  Mirror mirror;
  std::string_view rest = url;
  mirror.plain_http = rest.starts_with("http://");
  for (const std::string_view scheme : {"https://", "http://"})
    if (rest.starts_with(scheme)) {
      rest.remove_prefix(scheme.size());
      break;
    }
  while (rest.ends_with('/'))
    rest.remove_suffix(1);
  const std::size_t slash = std::min(rest.find('/'), rest.size());
  const bool path_fine = std::ranges::all_of(rest.substr(slash), [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '/' || c == '.' || c == '-' ||
           c == '_';
  });
  if (rest.size() > kNameBytesMax || !is_place(rest.substr(0, slash)) || !path_fine)
    return fail(Errc::kInvalid,
                fmt::format("\"{}\" is not a mirror's URL, such as https://mirror.lan:5000 or "
                            "http://10.0.0.5:5000/hub",
                            printable(url)));
  mirror.location = rest;
  return mirror;
}

std::vector<Registry> read_registries(
    const YAML::Node& list, const std::string& path,
    const std::function<void(const YAML::Mark&, std::string_view key, std::string what)>& problem) {
  std::vector<Registry> out;
  if (list.size() > kRegistriesMax) {
    problem(list.Mark(), path, fmt::format("has more than {} entries", kRegistriesMax));
    return out;
  }
  std::size_t index = 0;
  for (const YAML::Node& node : list) {
    const std::string here = fmt::format("{}[{}]", path, index++);
    auto registry = EntryReader(here, problem).read(node);
    if (!registry)
      continue;
    if (std::ranges::find(out, registry->name, &Registry::name) != out.end())
      problem(node.Mark(), here, fmt::format("{} has an entry already", registry->name));
    else
      out.push_back(std::move(*registry));
  }
  return out;
}

}  // namespace shoal::config

// SPDX-License-Identifier: Apache-2.0
#include "agent/config/config.h"

#include "agent/config/keys.h"
#include "agent/config/registries.h"
#include "netplane/base/fs.h"
#include "netplane/base/strings.h"

#include <algorithm>
#include <fmt/format.h>
#include <map>
#include <set>
#include <unistd.h>
#include <yaml-cpp/yaml.h>

namespace shoal::config {
namespace {

bool is_section(std::string_view path) {
  return std::ranges::any_of(
      keys(), [&](const Key& key) { return key.path.starts_with(fmt::format("{}.", path)); });
}

std::size_t edit_distance(std::string_view a, std::string_view b) {
  std::vector<std::size_t> row(b.size() + 1);
  for (std::size_t j = 0; j <= b.size(); ++j)
    row[j] = j;
  for (std::size_t i = 1; i <= a.size(); ++i) {
    std::size_t diagonal = std::exchange(row[0], i);
    for (std::size_t j = 1; j <= b.size(); ++j) {
      const std::size_t replaced = diagonal + (a[i - 1] == b[j - 1] ? 0 : 1);
      diagonal = row[j];
      row[j] = std::min({row[j] + 1, row[j - 1] + 1, replaced});
    }
  }
  return row[b.size()];
}

// What may stand where an unknown key stands.
std::string unknown_key(std::string_view path) {
  const std::size_t dot = path.rfind('.');
  const std::string section =
      dot == std::string_view::npos ? "" : std::string(path.substr(0, dot + 1));
  std::set<std::string_view> names;
  for (const Key& key : keys()) {
    if (!key.path.starts_with(section) || key.type == Type::kNotYet)
      continue;
    const std::string_view rest = key.path.substr(section.size());
    names.insert(rest.substr(0, rest.find('.')));
  }
  const std::string_view last = path.substr(section.size());
  constexpr std::size_t kTypoDistance = 2;
  for (const std::string_view name : names)
    if (edit_distance(name, last) <= kTypoDistance)
      return fmt::format("unknown key; did you mean {}{}?", section, name);
  return fmt::format("unknown key; allowed here: {}", fmt::join(names, ", "));
}

class Reader {
public:
  Reader(std::string_view file, Config& config) : file_(file), config_(config) {}

  void read(const std::string& yaml) {
    try {
      const std::vector<YAML::Node> documents = YAML::LoadAll(yaml);
      if (documents.size() > 1)
        return problem(documents[1].Mark(), "", "one YAML document only");
      if (!documents.empty() && !documents[0].IsNull())
        mapping(documents[0], "");
    } catch (const YAML::Exception& error) {
      problem(error.mark, "", fmt::format("not YAML: {}", error.msg));
    }
  }

  void set(const Key& key, std::string_view text, const std::string& where) {
    auto value = read_value(key, text);
    if (!value) {
      add({where, std::string(key.path), value.error().message()});
      return;
    }
    key.set(config_, *value);
    origin_[std::string(key.path)] = where;
  }

  void add(Problem problem) {
    if (problems.size() < kProblemsMax)
      problems.push_back(std::move(problem));
  }
  // Where a key's present value came from.
  std::string origin(const std::string& key) const {
    const auto it = origin_.find(key);
    return it == origin_.end() ? std::string(file_) : it->second;
  }

  Problems problems;

private:
  static std::string joined(const YAML::Node& list) {
    std::string out;
    for (const auto& item : list)
      out += (out.empty() ? "" : ",") + item.Scalar();
    return out;
  }
  std::string at(const YAML::Mark& mark) const {
    return mark.is_null() ? std::string(file_)
                          : fmt::format("{}:{}:{}", file_, mark.line + 1, mark.column + 1);
  }
  void problem(const YAML::Mark& mark, std::string_view key, std::string message) {
    add({at(mark), std::string(key), std::move(message)});
  }

  void mapping(const YAML::Node& node, const std::string& prefix) {
    if (!node.IsMap())
      return problem(node.Mark(), prefix, "must be a mapping of keys to values");
    std::set<std::string> seen;
    for (const auto& item : node) {
      if (!item.first.IsScalar()) {
        problem(item.first.Mark(), prefix, "a key must be a plain word");
        continue;
      }
      const std::string path =
          prefix.empty() ? item.first.Scalar() : fmt::format("{}.{}", prefix, item.first.Scalar());
      if (!seen.insert(path).second) {
        problem(item.first.Mark(), path, "appears twice");
        continue;
      }
      entry(path, item.first.Mark(), item.second);
    }
  }

  void entry(const std::string& path, const YAML::Mark& mark, const YAML::Node& value) {
    if (is_section(path)) {
      if (!value.IsNull())  // "log:" with nothing below it
        mapping(value, path);
      return;
    }
    const Key* key = find_key(path);
    if (!key)
      return problem(mark, printable(path), unknown_key(path));
    if (key->is_list() && value.IsSequence() && value.size() > 0 &&
        std::ranges::all_of(value, [](const auto& item) { return item.IsScalar(); }))
      return set(*key, joined(value), at(value.Mark()));
    if (key->type == Type::kRegistries && value.IsSequence()) {
      Value registries;
      registries.registries = read_registries(
          value, path,
          [this](const YAML::Mark& mark_of, std::string_view key_path, std::string what) {
            problem(mark_of, key_path, std::move(what));
          });
      key->set(config_, registries);
      origin_[path] = at(value.Mark());
      return;
    }
    if (!value.IsScalar())
      return problem(value.IsNull() ? mark : value.Mark(), path,
                     fmt::format("{} where {} is expected",
                                 value.IsNull()  ? "nothing"
                                 : value.IsMap() ? "a mapping"
                                                 : "a list",
                                 allowed(*key)));
    set(*key, value.Scalar(), at(value.Mark()));
  }

  std::string_view file_;
  Config& config_;
  std::map<std::string, std::string> origin_;
};

std::string own_hostname() {
  char name[256] = {};
  ::gethostname(name, sizeof(name) - 1);
  return name;
}

}  // namespace

std::string Problem::str() const {
  std::string out = where;
  for (const std::string_view part : {std::string_view(key), std::string_view(message)})
    if (!part.empty())
      out += (out.empty() ? "" : ": ") + std::string(part);
  return out;
}

std::expected<Config, Problems> parse(std::string_view yaml, std::string_view file_name,
                                      std::span<const Override> overrides,
                                      std::string_view hostname) {
  Config config;
  for (const Key& key : keys()) {
    if (!key.set)
      continue;
    auto value = read_value(key, key.default_value);
    SHOAL_ASSERT(value.has_value());
    key.set(config, *value);
  }
  Reader reader(file_name, config);
  reader.read(std::string(yaml));
  for (const Override& given : overrides) {
    if (const Key* key = find_key(given.key))
      reader.set(*key, given.value, given.where);
    else
      reader.add({given.where, given.key, unknown_key(given.key)});
  }
  if (config.node_name.empty()) {
    config.node_name = to_lower(hostname);
    if (!is_node_name(config.node_name))
      reader.add({reader.origin("node_name"), "node_name",
                  fmt::format("the host's name \"{}\" cannot be used: set node_name to {}",
                              printable(hostname), allowed(*find_key("node_name")))});
  }
  if (reader.problems.empty())
    for (Problem& problem : check_relations(config)) {
      problem.where = reader.origin(problem.key);
      reader.add(std::move(problem));
    }
  if (!reader.problems.empty())
    return std::unexpected(std::move(reader.problems));
  return config;
}

std::expected<Config, Problems> load(const std::optional<std::filesystem::path>& file,
                                     std::span<const Override> overrides) {
  const std::filesystem::path path = file.value_or(kDefaultFile);
  auto text = read_file(path, kFileBytesMax);
  if (!text && !(text.error().code() == Errc::kNotFound && !file))
    return std::unexpected(Problems{{path.string(), "", text.error().message()}});
  return parse(text ? *text : "", path.string(), overrides, own_hostname());
}

}  // namespace shoal::config

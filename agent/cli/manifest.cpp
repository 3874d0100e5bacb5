// SPDX-License-Identifier: Apache-2.0
#include "agent/cli/manifest.h"

#include "netplane/base/fs.h"
#include "netplane/base/strings.h"

#include <algorithm>
#include <charconv>
#include <filesystem>
#include <fmt/format.h>
#include <optional>
#include <set>
#include <unistd.h>
#include <yaml-cpp/yaml.h>

namespace shoal::cli {
namespace {

namespace fs = std::filesystem;
namespace json = boost::json;

std::optional<std::int64_t> parse_based(std::string_view digits, int base, bool negative) {
  std::int64_t value = 0;
  const auto [end, error] =
      std::from_chars(digits.data(), digits.data() + digits.size(), value, base);
  if (error != std::errc() || end != digits.data() + digits.size() || digits.empty() ||
      digits.front() == '-')
    return std::nullopt;
  return negative ? -value : value;
}

std::optional<std::int64_t> parse_integer(std::string_view text) {
  const bool negative = text.starts_with('-');
  if (negative || text.starts_with('+'))
    text.remove_prefix(1);
  if (text.starts_with("0x"))
    return parse_based(text.substr(2), 16, negative);
  if (text.starts_with("0o"))
    return parse_based(text.substr(2), 8, negative);
  if (text.size() > 1 && text.starts_with('0'))
    return parse_based(text.substr(1), 8, negative);  // defaultMode: 0644
  return parse_based(text, 10, negative);
}

std::optional<double> parse_double(std::string_view text) {
  if (text.find_first_not_of("0123456789.eE+-") != std::string_view::npos ||
      text.find_first_of("0123456789") == std::string_view::npos)
    return std::nullopt;
  if (text.starts_with('+'))
    text.remove_prefix(1);
  double value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size())
    return std::nullopt;
  return value;
}

class Converter {
public:
  explicit Converter(Document& document) : document_(document) {}

  Result<json::value> convert(const YAML::Node& node, const std::string& path, int depth) {
    if (++nodes_ > kManifestNodesMax || depth > kManifestDepthMax)
      return wrong(node.Mark(), "the document is too large or nests too deep");
    switch (node.Type()) {
    case YAML::NodeType::Null:
    case YAML::NodeType::Undefined:
      return json::value(nullptr);
    case YAML::NodeType::Scalar:
      return scalar(node);
    case YAML::NodeType::Sequence: {
      json::array out;
      for (std::size_t i = 0; i < node.size(); ++i) {
        const std::string here = fmt::format("{}[{}]", path, i);
        note(here, node[i].Mark());
        out.push_back(SHOAL_TRY(convert(node[i], here, depth + 1)));
      }
      return json::value(std::move(out));
    }
    case YAML::NodeType::Map:
      return mapping(node, path, depth);
    }
    return json::value(nullptr);
  }

  std::unexpected<Error> wrong(const YAML::Mark& mark, std::string message) const {
    return fail(Errc::kInvalid, fmt::format("{}:{}:{}: {}", document_.file, mark.line + 1,
                                            mark.column + 1, message));
  }

private:
  // A plain scalar has the tag "?", a quoted one "!".
  static json::value scalar(const YAML::Node& node) {
    if (node.Tag() == "?" || node.Tag().empty())
      return resolve_scalar(node.Scalar());
    return json::value(json::string_view(node.Scalar()));
  }

  void note(const std::string& path, const YAML::Mark& mark) {
    if (!mark.is_null())
      document_.lines.emplace(path, mark.line + 1);
  }

  Result<json::value> mapping(const YAML::Node& node, const std::string& path, int depth) {
    json::object out;
    for (const auto& item : node) {
      if (!item.first.IsScalar())
        return wrong(item.first.Mark(), "a key must be a plain word");
      const std::string& key = item.first.Scalar();
      if (key == "<<")
        continue;
      const std::string here = path.empty() ? key : fmt::format("{}.{}", path, key);
      note(here, item.first.Mark());
      // How servers spell keys of maps: labels, annotations, selectors.
      note(fmt::format("{}[{}]", path, key), item.first.Mark());
      json::value value = SHOAL_TRY(convert(item.second, here, depth + 1));
      if (!out.emplace(key, std::move(value)).second)
        return wrong(item.first.Mark(), fmt::format("\"{}\" appears twice", printable(here)));
    }
    // Merge keys: what the mapping says itself wins.
    for (const auto& item : node) {
      if (!item.first.IsScalar() || item.first.Scalar() != "<<")
        continue;
      json::value merged = SHOAL_TRY(convert(item.second, path, depth + 1));
      if (!merged.is_object())
        return wrong(item.first.Mark(), "\"<<\" must name a mapping");
      for (auto& field : merged.get_object())
        out.emplace(field.key(), field.value());
    }
    return json::value(std::move(out));
  }

  Document& document_;
  std::size_t nodes_ = 0;
};

// The parser's own words for this are no help.
bool is_indented_by_tab(std::string_view text, int line) {
  for (; line > 0 && !text.empty(); --line)
    text.remove_prefix(std::min(text.find('\n'), text.size() - 1) + 1);
  const std::size_t indent = std::min(text.find_first_not_of(" \t"), text.size());
  return text.substr(0, indent).find('\t') != std::string_view::npos;
}

// The items of a List, each a document of its own with its own lines.
Result<> take_apart(Document list, std::vector<Document>& out) {
  const json::value* items = list.object.if_contains("items");
  if (!items || !items->is_array())
    return fail(Errc::kInvalid, fmt::format("{}: a List without items", list.where("")));
  for (std::size_t i = 0; i < items->get_array().size(); ++i) {
    const json::value& item = items->get_array()[i];
    const std::string prefix = fmt::format("items[{}]", i);
    if (!item.is_object())
      return fail(Errc::kInvalid, fmt::format("{}: an item that is no object", list.where(prefix)));
    Document document{list.file, item.get_object(), {}};
    for (auto it = list.lines.lower_bound(prefix);
         it != list.lines.end() && it->first.starts_with(prefix); ++it) {
      if (it->first == prefix)
        document.lines[""] = it->second;
      else if (it->first[prefix.size()] == '.')
        document.lines[it->first.substr(prefix.size() + 1)] = it->second;
    }
    out.push_back(std::move(document));
  }
  return {};
}

Result<std::string> read_stdin() {
  std::string text;
  char buffer[16384];
  for (;;) {
    const ssize_t n = ::read(STDIN_FILENO, buffer, sizeof(buffer));
    if (n < 0 && errno == EINTR)
      continue;
    if (n < 0)
      return fail_errno("read standard input");
    if (n == 0)
      return text;
    text.append(buffer, static_cast<std::size_t>(n));
    if (text.size() > kManifestBytesMax)
      return fail(Errc::kExhausted,
                  fmt::format("standard input is larger than {} bytes", kManifestBytesMax));
  }
}

Result<std::vector<fs::path>> manifest_files(const fs::path& folder) {
  std::vector<fs::path> out;
  std::error_code ec;
  for (auto it = fs::directory_iterator(folder, ec); !ec && it != fs::directory_iterator();
       it.increment(ec)) {
    const std::string extension = it->path().extension();
    if (extension == ".yaml" || extension == ".yml" || extension == ".json")
      out.push_back(it->path());
  }
  if (ec)
    return fail_errno(ec.value(), fmt::format("read folder {}", folder.string()));
  if (out.empty())
    return fail(Errc::kNotFound, fmt::format("{} has no *.yaml, *.yml or *.json", folder.string()));
  std::ranges::sort(out);
  return out;
}

bool must_quote(std::string_view text) {
  return text.empty() || !resolve_scalar(text).is_string() || text == "yes" || text == "no" ||
         text == "on" || text == "off" || text == "y" || text == "n";
}

void emit(YAML::Emitter& out, const json::value& value) {
  switch (value.kind()) {
  case json::kind::null:
    out << YAML::Null;
    break;
  case json::kind::bool_:
    out << value.get_bool();
    break;
  case json::kind::int64:
    out << value.get_int64();
    break;
  case json::kind::uint64:
    out << value.get_uint64();
    break;
  case json::kind::double_:
    out << fmt::format("{}", value.get_double());
    break;
  case json::kind::string: {
    const std::string text(value.get_string().data(), value.get_string().size());
    if (text.find('\n') != std::string::npos && text.find('\t') == std::string::npos &&
        !text.starts_with(' '))
      out << YAML::Literal << text;
    else if (must_quote(text))
      out << YAML::DoubleQuoted << text;
    else
      out << text;
    break;
  }
  case json::kind::array:
    out << (value.get_array().empty() ? YAML::Flow : YAML::Block) << YAML::BeginSeq;
    for (const json::value& item : value.get_array())
      emit(out, item);
    out << YAML::EndSeq;
    break;
  case json::kind::object:
    out << (value.get_object().empty() ? YAML::Flow : YAML::Block) << YAML::BeginMap;
    for (const auto& field : value.get_object()) {
      out << YAML::Key;
      emit(out, json::value(field.key()));
      out << YAML::Value;
      emit(out, field.value());
    }
    out << YAML::EndMap;
    break;
  }
}

void pretty(std::string& out, const json::value& value, std::size_t depth) {
  const std::string indent((depth + 1) * 4, ' ');
  const std::string end_indent(depth * 4, ' ');
  if (value.is_object() && !value.get_object().empty()) {
    out += "{\n";
    bool first = true;
    for (const auto& field : value.get_object()) {
      out += first ? "" : ",\n";
      first = false;
      out += indent + json::serialize(field.key()) + ": ";
      pretty(out, field.value(), depth + 1);
    }
    out += "\n" + end_indent + "}";
  } else if (value.is_array() && !value.get_array().empty()) {
    out += "[\n";
    bool first = true;
    for (const json::value& item : value.get_array()) {
      out += first ? indent : ",\n" + indent;
      first = false;
      pretty(out, item, depth + 1);
    }
    out += "\n" + end_indent + "]";
  } else {
    out += json::serialize(value);
  }
}

}  // namespace

std::string Document::where(std::string_view field) const {
  std::string path(field);
  for (;;) {
    if (const auto it = lines.find(path); it != lines.end())
      return fmt::format("{}:{}", file, it->second);
    const std::size_t cut = path.find_last_of(".[");
    if (path.empty())
      return file;
    path.resize(cut == std::string::npos ? 0 : cut);
  }
}

json::value resolve_scalar(std::string_view text) {
  if (text.empty() || text == "~" || text == "null" || text == "Null" || text == "NULL")
    return nullptr;
  if (text == "true" || text == "True" || text == "TRUE")
    return true;
  if (text == "false" || text == "False" || text == "FALSE")
    return false;
  const std::string_view digits =
      text.front() == '-' || text.front() == '+' ? text.substr(1) : text;
  if (!digits.empty() &&
      (digits.front() == '.' || (digits.front() >= '0' && digits.front() <= '9'))) {
    if (const auto integer = parse_integer(text))
      return *integer;
    if (const auto number = parse_double(text))
      return *number;
  }
  return json::value(json::string_view(text));
}

Result<std::vector<Document>> parse_manifests(std::string_view text, const std::string& file) {
  std::vector<Document> out;
  try {
    for (const YAML::Node& node : YAML::LoadAll(std::string(text))) {
      if (!node.IsDefined() || node.IsNull())
        continue;
      Document document{file, {}, {{"", node.Mark().line + 1}}};
      Converter converter(document);
      json::value value = SHOAL_TRY(converter.convert(node, "", 0));
      if (!value.is_object())
        return converter.wrong(node.Mark(),
                               "a document must be an object with apiVersion and kind");
      document.object = std::move(value.get_object());
      const json::value* kind = document.object.if_contains("kind");
      if (kind && kind->is_string() && kind->get_string() == "List")
        SHOAL_TRY(take_apart(std::move(document), out));
      else
        out.push_back(std::move(document));
    }
  } catch (const YAML::Exception& error) {
    return fail(Errc::kInvalid,
                fmt::format("{}:{}:{}: not YAML: {}", file, error.mark.line + 1,
                            error.mark.column + 1,
                            is_indented_by_tab(text, error.mark.line)
                                ? "a tab in the indentation, where only blanks may be"
                                : error.msg));
  }
  return out;
}

Result<std::vector<Document>> read_manifests(const std::vector<std::string>& paths) {
  std::vector<Document> out;
  const auto add = [&](std::string_view text, const std::string& file) -> Result<> {
    for (Document& document : SHOAL_TRY(parse_manifests(text, file)))
      out.push_back(std::move(document));
    return {};
  };
  for (const std::string& path : paths) {
    if (path == "-") {
      const std::string text = SHOAL_TRY(read_stdin());
      SHOAL_TRY(add(text, "-"));
      continue;
    }
    std::error_code ec;
    std::vector<fs::path> files = {path};
    if (fs::is_directory(path, ec))
      files = SHOAL_TRY(manifest_files(path));
    for (const fs::path& file : files) {
      const std::string text = SHOAL_TRY(read_file(file, kManifestBytesMax));
      SHOAL_TRY(add(text, file.string()));
    }
  }
  if (out.empty())
    return fail(Errc::kInvalid, "no objects given");
  return out;
}

std::string to_yaml(const json::value& value) {
  YAML::Emitter out;
  emit(out, value);
  return std::string(out.c_str()) + "\n";
}

std::string to_pretty_json(const json::value& value) {
  std::string out;
  pretty(out, value, 0);
  return out + "\n";
}

}  // namespace shoal::cli

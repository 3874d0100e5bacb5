// SPDX-License-Identifier: Apache-2.0
#include "agent/cli/output.h"

#include "netplane/base/strings.h"

#include <algorithm>
#include <boost/json.hpp>
#include <fmt/format.h>

namespace shoal::cli {
namespace {

namespace json = boost::json;

constexpr std::size_t kCellMax = 4096;

// Columns are as wide as their characters, not their bytes.
std::size_t width(std::string_view text) {
  return static_cast<std::size_t>(std::ranges::count_if(
      text, [](char c) { return (static_cast<unsigned char>(c) & 0xC0U) != 0x80U; }));
}

// What a server or a pod's name puts into a terminal must not steer it.
std::string tame(std::string_view text) {
  std::string out;
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (byte < 0x20 || byte == 0x7F)
      out += fmt::format("\\x{:02x}", byte);
    else
      out += c;
  }
  return out;
}

Errc code_of_status(int status) {
  switch (status) {
  case 400:
  case 422:
    return Errc::kInvalid;
  case 401:
  case 403:
    return Errc::kPermission;
  case 404:
    return Errc::kNotFound;
  case 409:
    return Errc::kConflict;
  case 415:
  case 501:
    return Errc::kUnsupported;
  case 429:
  case 507:
    return Errc::kExhausted;
  case 503:
    return Errc::kUnavailable;
  case 504:
    return Errc::kTimeout;
  default:
    return Errc::kIo;
  }
}

}  // namespace

std::string TextTable::str(bool with_header) const {
  std::vector<std::size_t> widths;
  for (const auto& row : rows_)
    for (std::size_t i = 0; i < row.size(); ++i) {
      widths.resize(std::max(widths.size(), i + 1));
      widths[i] = std::max(widths[i], width(tame(row[i])));
    }
  std::string out;
  for (std::size_t r = with_header ? 0 : 1; r < rows_.size(); ++r) {
    std::string line;
    for (std::size_t i = 0; i < rows_[r].size(); ++i) {
      const std::string text = tame(rows_[r][i]);
      line += text + std::string(widths[i] - width(text) + 3, ' ');
    }
    line.erase(line.find_last_not_of(' ') + 1);
    out += line + "\n";
  }
  return out;
}

std::string cell(const json::value& value) {
  if (value.is_null())
    return "<none>";
  if (value.is_string())
    return std::string(value.get_string().data(), std::min(value.get_string().size(), kCellMax));
  if (value.is_array()) {
    std::vector<std::string> parts;
    for (const json::value& item : value.get_array())
      parts.push_back(cell(item));
    return parts.empty() ? "<none>" : fmt::format("{}", fmt::join(parts, ","));
  }
  return json::serialize(value);
}

std::string text_at(const json::object& object, std::string_view key) {
  const json::value* value = object.if_contains(key);
  return !value || value->is_null() ? "" : cell(*value);
}

std::string human_bytes(std::uint64_t bytes) {
  constexpr std::string_view kUnits[] = {"B", "kB", "MB", "GB", "TB"};
  auto value = static_cast<double>(bytes);
  std::size_t unit = 0;
  while (value >= 1000 && unit + 1 < std::size(kUnits)) {
    value /= 1000;
    ++unit;
  }
  return unit == 0 ? fmt::format("{} B", bytes) : fmt::format("{:.1f} {}", value, kUnits[unit]);
}

Result<TextTable> from_server_table(const json::value& value, bool wide, bool with_namespace) {
  const auto broken = [] { return fail(Errc::kCorrupt, "shoald's answer is not a table"); };
  if (!value.is_object())
    return broken();
  const json::value* columns = value.get_object().if_contains("columnDefinitions");
  const json::value* rows = value.get_object().if_contains("rows");
  if (!columns || !columns->is_array())
    return broken();
  std::vector<std::string> header;
  std::vector<std::size_t> shown;
  if (with_namespace)
    header.emplace_back("NAMESPACE");
  for (std::size_t i = 0; i < columns->get_array().size(); ++i) {
    const json::value& column = columns->get_array()[i];
    if (!column.is_object())
      return broken();
    const json::value* priority = column.get_object().if_contains("priority");
    if (priority && priority->is_int64() && priority->get_int64() > 0 && !wide)
      continue;
    std::string name = text_at(column.get_object(), "name");
    std::ranges::transform(name, name.begin(), [](char c) {
      return c >= 'a' && c <= 'z' ? static_cast<char>(c - 32) : c;
    });
    header.push_back(std::move(name));
    shown.push_back(i);
  }
  TextTable table(std::move(header));
  if (!rows || !rows->is_array())
    return table;
  for (const json::value& row : rows->get_array()) {
    const json::value* cells = row.is_object() ? row.get_object().if_contains("cells") : nullptr;
    if (!cells || !cells->is_array())
      return broken();
    std::vector<std::string> out;
    if (with_namespace) {
      boost::system::error_code error;
      const json::value* ns = row.find_pointer("/object/metadata/namespace", error);
      out.push_back(ns ? cell(*ns) : "");
    }
    for (const std::size_t i : shown)
      out.push_back(i < cells->get_array().size() ? cell(cells->get_array()[i]) : "");
    table.add(std::move(out));
  }
  return table;
}

Refusal read_refusal(const Response& response) {
  Refusal refusal{response.status, "", "", {}};
  boost::system::error_code error;
  const json::value value = json::parse(response.body, error);
  if (!error && value.is_object()) {
    refusal.reason = text_at(value.get_object(), "reason");
    refusal.message = text_at(value.get_object(), "message");
    const json::value* causes = value.find_pointer("/details/causes", error);
    if (causes && causes->is_array())
      for (const json::value& cause : causes->get_array())
        if (cause.is_object())
          refusal.causes.push_back(
              {text_at(cause.get_object(), "field"), text_at(cause.get_object(), "message")});
  }
  if (refusal.message.empty())
    refusal.message = fmt::format("shoald answered with HTTP status {}: {}", response.status,
                                  printable(response.body, 200));
  return refusal;
}

Error to_error(const Refusal& refusal) {
  return Error(code_of_status(refusal.code), refusal.message);
}

std::vector<std::string> at_lines(const Refusal& refusal, const Document& document) {
  std::vector<std::string> out;
  for (const Cause& cause : refusal.causes) {
    const bool named = cause.field.empty() || cause.message.starts_with(cause.field);
    out.push_back(fmt::format("{}: {}{}", document.where(cause.field),
                              named ? "" : cause.field + ": ", cause.message));
  }
  if (out.empty())
    out.push_back(fmt::format("{}: {}", document.where(""), refusal.message));
  return out;
}

Result<json::value> parse_body(const Response& response) {
  if (!response.ok())
    return fail(to_error(read_refusal(response)));
  boost::system::error_code error;
  json::value value = json::parse(response.body, error);
  if (error)
    return fail(Errc::kCorrupt, fmt::format("shoald's answer is not JSON: {}", error.message()));
  return value;
}

}  // namespace shoal::cli

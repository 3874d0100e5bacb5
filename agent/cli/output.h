// SPDX-License-Identifier: Apache-2.0
// What commands print: tables as kubectl lays them out, and the server's own errors with their
// place in the manifest. Pure.
#pragma once

#include "agent/cli/client.h"
#include "agent/cli/manifest.h"

#include <boost/json/value.hpp>
#include <string>
#include <vector>

namespace shoal::cli {

class TextTable {
public:
  explicit TextTable(std::vector<std::string> header) { rows_.push_back(std::move(header)); }
  void add(std::vector<std::string> row) { rows_.push_back(std::move(row)); }
  bool empty() const { return rows_.size() == 1; }
  // Columns three blanks apart, nothing behind the last. Control characters are shown escaped.
  std::string str(bool with_header = true) const;

private:
  std::vector<std::vector<std::string>> rows_;
};

// A meta.k8s.io/v1 Table as the server sent it. wide: also columns of a priority above 0.
Result<TextTable> from_server_table(const boost::json::value& table, bool wide,
                                    bool with_namespace);

std::string
cell(const boost::json::value& value);  // text as it is, lists joined by commas, null as <none>
std::string text_at(const boost::json::object& object, std::string_view key);  // "" when absent
std::string human_bytes(std::uint64_t bytes);                                  // "1.3 MB"

// A refusal: the Status document of an answer.
struct Cause {
  std::string field;
  std::string message;
};
struct Refusal {
  int code = 0;
  std::string reason;
  std::string message;
  std::vector<Cause> causes;
};
Refusal read_refusal(const Response& response);
Error to_error(const Refusal& refusal);
// One line a cause: "FILE:LINE: field: message"; the whole message when there are no causes.
std::vector<std::string> at_lines(const Refusal& refusal, const Document& document);

Result<boost::json::value> parse_body(const Response& response);

}  // namespace shoal::cli

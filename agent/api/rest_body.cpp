// SPDX-License-Identifier: Apache-2.0
#include "agent/api/rest.h"
#include "netplane/base/strings.h"

#include <algorithm>
#include <boost/json/stream_parser.hpp>
#include <fmt/format.h>

namespace shoal::api {
namespace json = boost::json;

std::expected<json::object, ApiError> parse_body(const Request& request) {
  json::parse_options options;
  options.max_depth = 64;
  json::stream_parser parser({}, options);
  boost::system::error_code error;
  std::size_t used = parser.write_some(request.body.data(), request.body.size(), error);
  if (!error && used == request.body.size())
    parser.finish(error);
  else if (!error)
    error = json::error::extra_data;
  if (error) {
    const std::string_view before = std::string_view(request.body).substr(0, used);
    const auto line = std::count(before.begin(), before.end(), '\n') + 1;
    const std::size_t line_start = before.rfind('\n');
    const std::size_t column = used - (line_start == before.npos ? 0 : line_start + 1) + 1;
    return std::unexpected(bad_request(
        request.body.empty() ? "the request has no body; a JSON object is expected"
                             : fmt::format("the body is not JSON: line {}, column {} (byte {}): {}",
                                           line, column, used, error.message())));
  }
  json::value value = parser.release();
  if (!value.is_object())
    return std::unexpected(bad_request("the body must be a JSON object"));
  return std::move(value.get_object());
}

}  // namespace shoal::api

// SPDX-License-Identifier: Apache-2.0
#include "agent/cli/selection.h"

#include "agent/cli/client.h"
#include "netplane/base/strings.h"

#include <fmt/format.h>

namespace shoal::cli {

Result<Selection> parse_selection(const std::vector<std::string>& what) {
  Selection selection;
  if (what.empty())
    return fail(Errc::kInvalid, "say what: KIND, KIND NAME or KIND/NAME");
  if (what[0].find('/') == std::string::npos) {
    selection.kinds = SHOAL_TRY(find_kinds(what[0]));
    if (what.size() > 1 && selection.kinds.size() > 1)
      return fail(Errc::kInvalid, "names go with one kind; write KIND/NAME KIND/NAME");
    for (std::size_t i = 1; i < what.size(); ++i) {
      if (what[i].find('/') != std::string::npos)
        return fail(Errc::kInvalid,
                    fmt::format("\"{}\": KIND NAME and KIND/NAME do not go together", what[i]));
      selection.names.emplace_back(selection.kinds[0], what[i]);
    }
    return selection;
  }
  for (const std::string& item : what) {
    const std::size_t slash = item.find('/');
    if (slash == std::string::npos || slash + 1 == item.size() ||
        item.find('/', slash + 1) != std::string::npos)
      return fail(Errc::kInvalid, fmt::format("\"{}\" is not KIND/NAME", item));
    selection.names.emplace_back(SHOAL_TRY(find_kind(item.substr(0, slash))),
                                 item.substr(slash + 1));
  }
  return selection;
}

std::string query(const std::vector<std::pair<std::string, std::string>>& fields) {
  std::string out;
  for (const auto& [key, value] : fields)
    if (!value.empty())
      out += fmt::format("{}{}={}", out.empty() ? "?" : "&", key, percent_encode(value));
  return out;
}

Result<std::string> pod_name(const std::string& text) {
  const std::size_t slash = text.find('/');
  if (slash == std::string::npos)
    return text;
  const Kind* kind = SHOAL_TRY(find_kind(text.substr(0, slash)));
  if (kind->kind != "Pod")
    return fail(Errc::kInvalid, fmt::format("\"{}\" is not a pod", printable(text)));
  return text.substr(slash + 1);
}

}  // namespace shoal::cli

// SPDX-License-Identifier: Apache-2.0
// Deleting objects and waiting until they are gone: delete and drain.
#pragma once

#include "agent/cli/commands.h"
#include "agent/cli/kinds.h"

#include <boost/json/value.hpp>
#include <string>
#include <string_view>
#include <vector>

namespace shoal::cli {

struct Target {
  const Kind* kind;
  std::string ns;
  std::string name;
  std::string uid;            // set once deleted
  std::string title() const;  // pod "web-1"
};

// Of `options`: grace_s, wait, ignore_not_found. Goes on past refusals and gives the first's code.
Exit delete_targets(const Context& context, std::vector<Target> targets,
                    const DeleteOptions& options);

// The text at a JSON pointer; "" when there is none.
std::string text_in(const boost::json::value& value, std::string_view pointer);

}  // namespace shoal::cli

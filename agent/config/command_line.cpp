// SPDX-License-Identifier: Apache-2.0
// Flags and texts that are made from the table of keys.
#include "agent/config/keys.h"

#include <algorithm>
#include <fmt/format.h>

namespace shoal::config {
namespace {

constexpr std::size_t kExampleColumns = 100;

// "gossip.probe_interval_ms" -> "--gossip-probe-interval-ms"
std::string flag_of(const Key& key) {
  std::string flag = fmt::format("--{}", key.path);
  std::ranges::replace(flag, '.', '-');
  std::ranges::replace(flag, '_', '-');
  return flag;
}

const Key* key_of_flag(std::string_view flag) {
  const auto it =
      std::ranges::find_if(keys(), [&](const Key& key) { return flag_of(key) == flag; });
  return it == keys().end() ? nullptr : &*it;
}

// Words of text as comment lines.
std::string comment(std::string_view text, std::string_view indent) {
  std::string out;
  std::string line;
  const auto flush = [&] {
    if (!line.empty())
      out += fmt::format("{}#{}\n", indent, line);
    line.clear();
  };
  while (!text.empty()) {
    const std::size_t blank = std::min(text.find(' '), text.size());
    const std::string_view word = text.substr(0, blank);
    if (indent.size() + line.size() + word.size() + 2 > kExampleColumns)
      flush();
    line += fmt::format(" {}", word);
    text.remove_prefix(std::min(blank + 1, text.size()));
  }
  flush();
  return out;
}

}  // namespace

std::string example() {
  std::string out =
      "# SPDX-License-Identifier: Apache-2.0\n"
      "# Configuration of shoald: /etc/shoal/shoald.yaml. Every key with its default; all may be "
      "left out.\n"
      "# Made from the table in agent/config/keys.cpp by: shoald --print-example-config\n"
      "# Check a changed file with: shoald --check-config\n";
  std::string_view section;
  for (const Key& key : keys()) {
    if (key.type == Type::kNotYet)
      continue;
    const std::size_t dot = key.path.find('.');
    const std::string_view here = dot == std::string_view::npos ? "" : key.path.substr(0, dot);
    out += "\n";
    if (here != section)
      out += fmt::format("{}:\n", here);
    section = here;
    const std::string_view indent = here.empty() ? "" : "  ";
    out += comment(fmt::format("{} ({})", key.help, allowed(key)), indent);
    out += fmt::format("{}{}: {}\n", indent, key.path.substr(here.empty() ? 0 : dot + 1),
                       key.default_value);
  }
  return out;
}

std::string usage() {
  std::string out =
      "shoald: the agent of a Shoal host\n\n"
      "  --config FILE            default /etc/shoal/shoald.yaml\n"
      "  --check-config           read the configuration, report every problem, exit (0 or 1)\n"
      "  --print-example-config   the example file, with every key and its default\n"
      "  --set KEY=VALUE          any key, as in --set gossip.port=7946\n"
      "  --cleanup                take everything of Shoal out of this host's kernel; refused "
      "while shoald\n"
      "                           or pods run\n"
      "    --dry-run              only list what there is\n"
      "    --force                end running pods too\n"
      "  --version\n"
      "  --help\n\n"
      "Keys as flags; a flag wins over the file:\n";
  for (const Key& key : keys())
    if (key.type != Type::kNotYet)
      out +=
          fmt::format("  {:<34} {} (default {})\n", flag_of(key), allowed(key), key.default_value);
  return out;
}

Result<CommandLine> parse_command_line(std::span<const char* const> arguments) {
  CommandLine line;
  for (std::size_t i = 0; i < arguments.size(); ++i) {
    const std::string_view argument = arguments[i];
    const std::size_t equals = argument.find('=');
    const std::string flag(argument.substr(0, equals));
    const auto value = [&]() -> Result<std::string> {
      if (equals != std::string_view::npos)
        return std::string(argument.substr(equals + 1));
      if (i + 1 == arguments.size())
        return fail(Errc::kInvalid, fmt::format("{} needs a value", flag));
      return std::string(arguments[++i]);
    };
    bool* const switches[] = {&line.check_config, &line.print_example, &line.version, &line.help,
                              &line.cleanup,      &line.dry_run,       &line.force};
    constexpr std::string_view kSwitches[] = {
        "--check-config", "--print-example-config", "--version", "--help", "--cleanup", "--dry-run",
        "--force"};
    if (const auto it = std::ranges::find(kSwitches, argument); it != std::end(kSwitches)) {
      *switches[it - std::begin(kSwitches)] = true;
    } else if (flag == "--config") {
      line.file = SHOAL_TRY(value());
    } else if (flag == "--set") {
      const std::string pair = SHOAL_TRY(value());
      const std::size_t split_at = pair.find('=');
      if (split_at == std::string::npos)
        return fail(Errc::kInvalid,
                    fmt::format("--set {}: expected is KEY=VALUE, as in gossip.port=7946", pair));
      line.overrides.push_back({"--set", pair.substr(0, split_at), pair.substr(split_at + 1)});
    } else if (const Key* key = key_of_flag(flag)) {
      line.overrides.push_back({flag, std::string(key->path), SHOAL_TRY(value())});
    } else {
      return fail(Errc::kInvalid, fmt::format("unknown flag {}; see shoald --help", argument));
    }
  }
  if ((line.dry_run || line.force) && !line.cleanup)
    return fail(Errc::kInvalid, "--dry-run and --force go with --cleanup only");
  return line;
}

}  // namespace shoal::config

// SPDX-License-Identifier: Apache-2.0
#include "netplane/kernel/bpf/map_sets.h"

#include "netplane/base/fs.h"
#include "netplane/base/strings.h"
#include "netplane/kernel/bpf/abi_versions.h"
#include "netplane/kernel/bpf/handover.h"

#include <algorithm>
#include <bpf/bpf.h>
#include <cerrno>
#include <cstdio>
#include <fmt/format.h>
#include <sys/stat.h>

namespace shoal::kernel {
namespace {

constexpr std::string_view kConfigMap = "shoal_config";
constexpr std::string_view kVersionMember = "abi_version";

// What goes with a map that programs write to.
std::string_view loss_of(std::string_view map) {
  constexpr std::pair<std::string_view, std::string_view> table[] = {
      {"shoal_flows", "flows through this host pick their backend anew"},
      {"shoal_frags", "datagrams whose fragments are on their way are not completed"},
      {"shoal_affinity", "clients with session affinity pick their backend anew"},
      {"shoal_sk", "sockets that are connected go on, and show the backend as their peer"},
      {"shoal_udp_rev", "replies to UDP sockets that are not connected show the backend's address"},
      {"shoal_udp_pick", "UDP sockets that are not connected pick their backend anew"},
  };
  for (const auto& [name, text] : table)
    if (name == map)
      return text;
  return "its counters begin anew";
}

std::optional<unsigned> number_of(const std::string& name) {
  if (!name.starts_with('v'))
    return std::nullopt;
  const auto number = parse_uint(std::string_view(name).substr(1), UINT32_MAX);
  return number ? std::optional(static_cast<unsigned>(*number)) : std::nullopt;
}

Result<std::vector<std::string>> pins_in(const std::filesystem::path& set) {
  std::vector<std::string> out;
  std::error_code error;
  for (auto it = std::filesystem::directory_iterator(set, error);
       !error && it != std::filesystem::directory_iterator(); it.increment(error))
    out.push_back(it->path().filename());
  if (error)
    return fail_errno(error.value(), fmt::format("list {}", set.string()));
  return out;
}

SetPlan nothing_of(const std::filesystem::path& set, std::string_view why) {
  SetPlan out;
  out.anew = true;
  out.losses.push_back(
      fmt::format("the maps in {} are of another version ({}): all maps were made anew, flows and "
                  "clients with session affinity pick their backend anew, counters begin anew",
                  set.string(), why));
  return out;
}

}  // namespace

Result<std::vector<unsigned>> MapSets::numbers() const {
  std::vector<unsigned> out;
  for (const std::string& name : SHOAL_TRY(pins_in(root_)))
    if (const auto number = number_of(name))
      out.push_back(*number);
  std::ranges::sort(out);
  return out;
}

std::filesystem::path MapSets::folder(unsigned number) const {
  return root_ / fmt::format("v{}", number);
}

Result<std::filesystem::path> MapSets::stage() const {
  std::error_code error;
  std::filesystem::remove_all(root_ / "next", error);
  if (error)
    return fail_errno(error.value(), fmt::format("remove {}/next", root_.string()));
  SHOAL_TRY(make_dirs(root_ / "next", 0700));
  return root_ / "next";
}

Result<unsigned> MapSets::commit() const {
  const std::vector<unsigned> before = SHOAL_TRY(numbers());
  const unsigned number = before.empty() ? 1 : before.back() + 1;
  if (std::rename((root_ / "next").c_str(), folder(number).c_str()) != 0)
    return fail_errno(fmt::format("rename {}/next to v{}", root_.string(), number));
  return number;
}

Result<> MapSets::remove(unsigned number) const {
  std::error_code error;
  std::filesystem::remove_all(folder(number), error);
  if (error)
    return fail_errno(error.value(), fmt::format("remove {}", folder(number).string()));
  return {};
}

Result<std::uint32_t> version_of(const std::filesystem::path& set, ShapeReader& shapes) {
  const auto fd = open_pin(set / kConfigMap);
  if (!fd && fd.error().code() == Errc::kNotFound)
    return 0;
  if (!fd)
    return fail(fd.error());
  const MapShape shape = SHOAL_TRY_WRAP(shapes.of_map(fd->get()), kConfigMap);
  std::uint32_t out = 0;
  std::vector<std::uint8_t> value(shape.value_bytes);
  const __u32 zero = 0;
  if (bpf_map_lookup_elem(fd->get(), &zero, value.data()) != 0)
    return fail_errno("read shoal_config");
  if (shape.value)
    for (const Member& member : shape.value->members)
      if (member.name == kVersionMember && member.layout.bytes == sizeof(out))
        std::memcpy(&out, value.data() + member.offset, sizeof(out));
  return out;
}

Result<MapCopy> copy_from(std::uint32_t version, std::string_view map, MapShape shape,
                          const MapShape& to) {
  if (shape.value)
    use_todays_names(version, map, *shape.value);
  MapCopy out = SHOAL_TRY(MapCopy::between(shape, to));
  if (const auto missing = missing_bits(version, map))
    SHOAL_TRY(out.add_bits(missing->member, missing->bits));
  return out;
}

Result<SetPlan> plan_set(const std::filesystem::path& set, const WantedMaps& wanted,
                         ShapeReader& shapes) {
  SetPlan out;
  const std::uint32_t version = SHOAL_TRY(version_of(set, shapes));
  if (version != 0 && !understands_version(version))
    return nothing_of(set, fmt::format("{}, which this build does not know", version));
  for (const auto& [name, map] : wanted) {
    auto fd = open_pin(set / name);
    if (!fd && fd.error().code() == Errc::kNotFound)
      continue;  // new with this build
    if (!fd)
      return fail(std::move(fd).error());
    const MapShape shape = SHOAL_TRY_WRAP(shapes.of_map(fd->get()), name);
    if (map.shape.same_as(shape) && !missing_bits(version, name)) {
      out.reused.push_back(name);
      continue;
    }
    auto copy = copy_from(version, name, shape, map.shape);
    if (copy) {
      out.converted.emplace(name, std::move(*copy));
    } else if (map.shape.written_by_programs()) {
      out.losses.push_back(fmt::format("{} of an earlier version cannot be taken over ({}) and was "
                                       "made anew: {}",
                                       name, copy.error().message(), loss_of(name)));
    } else {
      // The rest names what is in here: services, backends, blocks.
      return nothing_of(set, fmt::format("{}: {}", name, copy.error().message()));
    }
  }
  std::size_t present = 0;
  for (const std::string& name : SHOAL_TRY(pins_in(set)))
    present += Handover::is_pin(name) ? 0 : 1;
  out.keep = out.reused.size() == wanted.size() && present == wanted.size();
  return out;
}

}  // namespace shoal::kernel

// SPDX-License-Identifier: Apache-2.0
#include "netplane/kernel/bpf/links.h"

#include "netplane/base/strings.h"
#include "netplane/base/unique_fd.h"
#include "netplane/kernel/bpf/syscalls.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <cerrno>
#include <cstring>
#include <fmt/format.h>
#include <linux/if_link.h>
#include <optional>

namespace shoal::kernel {
namespace {

// Ours among the filters of a device: this priority and handle.
constexpr std::uint32_t kFilterPriority = 0xc5;
constexpr std::uint32_t kFilterHandle = 0x53;  // 'S'

struct LinkInfo {
  std::uint32_t program_id = 0;
  std::uint32_t ifindex = 0;    // TCX, XDP: 0 when the device is gone
  std::uint64_t cgroup_id = 0;  // cgroup: 0 when the cgroup is gone
};

// The shapes of bpf_link_info that matter; the TCX one is newer than our headers, and begins as
// XDP's: ifindex, then attach type.
Result<LinkInfo> link_info(int fd) {
  bpf_link_info info{};
  __u32 bytes = sizeof(info);
  if (bpf_obj_get_info_by_fd(fd, &info, &bytes) != 0)
    return fail_errno("read a BPF link's description");
  LinkInfo out;
  out.program_id = info.prog_id;
  std::memcpy(&out.ifindex, &info.xdp.ifindex, sizeof(out.ifindex));
  out.cgroup_id = info.cgroup.cgroup_id;
  return out;
}

bpf_tc_hook hook_of(std::uint32_t ifindex, TcSide side) {
  bpf_tc_hook hook{};
  hook.sz = sizeof(hook);
  hook.ifindex = static_cast<int>(ifindex);
  hook.attach_point = side == TcSide::kIngress ? BPF_TC_INGRESS : BPF_TC_EGRESS;
  return hook;
}

bpf_tc_opts filter_opts() {
  bpf_tc_opts opts{};
  opts.sz = sizeof(opts);
  opts.handle = kFilterHandle;
  opts.priority = kFilterPriority;
  return opts;
}

// "tcx-7-ingress" -> 7, ingress; "xdp-7" -> 7.
enum class Kind : std::uint8_t { kTcx, kFilter, kXdp };
struct DeviceName {
  Kind kind = Kind::kTcx;
  std::uint32_t ifindex = 0;
  TcSide side = TcSide::kIngress;
};
std::optional<DeviceName> parse_device_name(std::string_view name) {
  auto parts = split(name, '-');
  const bool xdp = parts[0] == "xdp";
  if (parts.size() != (xdp ? 2 : 3) || (!xdp && parts[0] != "tcx" && parts[0] != "tc"))
    return std::nullopt;
  auto ifindex = parse_uint(parts[1], UINT32_MAX);
  if (!ifindex || (!xdp && parts[2] != "ingress" && parts[2] != "egress"))
    return std::nullopt;
  DeviceName out{Kind::kXdp, static_cast<std::uint32_t>(*ifindex)};
  if (!xdp) {
    out.kind = parts[0] == "tcx" ? Kind::kTcx : Kind::kFilter;
    out.side = parts[2] == "ingress" ? TcSide::kIngress : TcSide::kEgress;
  }
  return out;
}

Result<std::vector<std::string>> names_in(const std::filesystem::path& folder) {
  std::vector<std::string> out;
  std::error_code error;
  for (auto it = std::filesystem::directory_iterator(folder, error);
       !error && it != std::filesystem::directory_iterator(); it.increment(error))
    if (std::string name = it->path().filename().string(); !name.starts_with(kNewPinPrefix))
      out.push_back(std::move(name));
  if (error && error != std::errc::no_such_file_or_directory)
    return fail_errno(error.value(), fmt::format("list {}", folder.string()));
  return out;
}

// The pinned link, or an invalid descriptor when there is none.
Result<UniqueFd> open_link(const std::filesystem::path& pin) {
  auto fd = open_pin(pin);
  if (fd)
    return fd;
  if (fd.error().code() == Errc::kNotFound)
    return UniqueFd();
  return fd;
}

// Detaches the pinned link, if there is one, and forgets it. Dropping a pin alone also detaches,
// but the kernel does that later, from a work queue: the program would still see packets and
// connects for a while after we returned.
Result<> remove_link(const std::filesystem::path& pin) {
  UniqueFd link = SHOAL_TRY(open_link(pin));
  if (!link)
    return {};
  if (bpf_link_detach(link.get()) != 0)
    return fail_errno(fmt::format("detach {}", pin.string()));
  return remove_pin(pin);
}

}  // namespace

std::string_view to_string(TcSide side) { return side == TcSide::kIngress ? "ingress" : "egress"; }

std::filesystem::path Links::tcx_pin(std::uint32_t ifindex, TcSide side) const {
  return folder_ / fmt::format("tcx-{}-{}", ifindex, to_string(side));
}

std::filesystem::path Links::xdp_pin(std::uint32_t ifindex) const {
  return folder_ / fmt::format("xdp-{}", ifindex);
}

std::filesystem::path Links::filter_pin(std::uint32_t ifindex, TcSide side) const {
  return folder_ / fmt::format("tc-{}-{}", ifindex, to_string(side));
}

Result<> Links::attach_tc(std::uint32_t ifindex, TcSide side, int prog_fd) {
  const std::string what = fmt::format("attach to {} of interface {}", to_string(side), ifindex);
  if (tcx_) {
    SHOAL_TRY_WRAP(attach_tcx(ifindex, side, prog_fd), what);
    // An earlier agent may have used a filter: the link runs first and decides, so this leaves no
    // gap.
    return detach_filter(ifindex, side);
  }
  SHOAL_TRY_WRAP(attach_filter(ifindex, side, prog_fd), what);
  return remove_link(tcx_pin(ifindex, side));
}

Result<> Links::attach_pod_tc(std::uint32_t ifindex, TcSide side, int prog_fd) {
  const std::string what = fmt::format("attach to {} of interface {}", to_string(side), ifindex);
  if (tcx_ && SHOAL_TRY_WRAP(swap_link(tcx_pin(ifindex, side), ifindex, prog_fd), what))
    return {};
  if (filter_runs(ifindex, side, prog_fd))
    return {};
  SHOAL_TRY_WRAP(attach_filter(ifindex, side, prog_fd), what);
  return tcx_ ? Result<>() : remove_link(tcx_pin(ifindex, side));
}

Result<> Links::attach_tcx(std::uint32_t ifindex, TcSide side, int prog_fd) {
  const std::filesystem::path pin = tcx_pin(ifindex, side);
  if (SHOAL_TRY(swap_link(pin, ifindex, prog_fd)))
    return {};
  UniqueFd link(bpf_link_create(prog_fd, static_cast<int>(ifindex),
                                side == TcSide::kIngress ? kTcxIngress : kTcxEgress, nullptr));
  if (!link)
    return fail_errno("create a TCX link");
  return pin_fd(link.get(), pin);
}

// Gives the pinned link another program. False when there is none, or was one to a device that is
// gone.
Result<bool> Links::swap_link(const std::filesystem::path& pin, std::uint32_t ifindex,
                              int prog_fd) {
  UniqueFd link = SHOAL_TRY(open_link(pin));
  if (!link)
    return false;
  if (SHOAL_TRY(link_info(link.get())).ifindex != ifindex) {
    SHOAL_TRY(remove_link(pin));
    return false;
  }
  if (bpf_link_update(link.get(), prog_fd, nullptr) != 0)
    return fail_errno(fmt::format("swap the program of {}", pin.string()));
  return true;
}

Result<> Links::attach_xdp(std::uint32_t ifindex, int prog_fd) {
  const std::filesystem::path pin = xdp_pin(ifindex);
  if (SHOAL_TRY(swap_link(pin, ifindex, prog_fd)))
    return {};
  bpf_link_create_opts opts{};
  opts.sz = sizeof(opts);
  opts.flags = XDP_FLAGS_DRV_MODE;
  UniqueFd link(bpf_link_create(prog_fd, static_cast<int>(ifindex), BPF_XDP, &opts));
  if (link)
    return pin_fd(link.get(), pin);
  const int error = errno;
  if (error == EBUSY || error == EEXIST)  // the latter: one in generic mode
    return fail(Errc::kConflict, "another XDP program is on the device");
  if (error == EOPNOTSUPP)
    return fail(Errc::kUnsupported, "its driver has no native XDP");
  return fail(Error::from_errno(error,
                                "its driver refuses an XDP program, as it may where the MTU or "
                                "the number of queues is too large for one")
                  .with_code(error == ENODEV ? Errc::kNotFound : Errc::kUnsupported));
}

Result<> Links::detach_xdp_but(std::uint32_t ifindex) {
  for (const std::string& name : SHOAL_TRY(names_in(folder_)))
    if (const auto device = parse_device_name(name);
        device && device->kind == Kind::kXdp && device->ifindex != ifindex)
      SHOAL_TRY(remove_link(folder_ / name));
  return {};
}

Result<> Links::attach_filter(std::uint32_t ifindex, TcSide side, int prog_fd) const {
  bpf_tc_hook hook = hook_of(ifindex, side);
  const auto attach = [&] {
    bpf_tc_opts opts = filter_opts();
    opts.prog_fd = prog_fd;
    opts.flags = BPF_TC_F_REPLACE;
    return bpf_tc_attach(&hook, &opts);
  };
  // Mostly the qdisc is there: each of these waits for the lock on devices.
  int rc = attach();
  if (rc != 0) {
    if (int made = bpf_tc_hook_create(&hook); made != 0 && made != -EEXIST)
      return fail_errno(-made, "create a clsact qdisc");
    rc = attach();
  }
  if (rc != 0)
    return fail_errno(-rc, "install a clsact filter");
  return replace_pin(prog_fd, filter_pin(ifindex, side));
}

// The kernel's answer, and the pin: either may have been taken away.
bool Links::filter_runs(std::uint32_t ifindex, TcSide side, int prog_fd) const {
  bpf_prog_info info{};
  __u32 bytes = sizeof(info);
  if (::access(filter_pin(ifindex, side).c_str(), F_OK) != 0 ||
      bpf_obj_get_info_by_fd(prog_fd, &info, &bytes) != 0)
    return false;
  bpf_tc_hook hook = hook_of(ifindex, side);
  bpf_tc_opts opts = filter_opts();
  return bpf_tc_query(&hook, &opts) == 0 && opts.prog_id == info.id;
}

Result<> Links::detach_filter(std::uint32_t ifindex, TcSide side) {
  const std::filesystem::path pin = filter_pin(ifindex, side);
  if (!SHOAL_TRY(open_link(pin)))
    return {};
  // The clsact qdisc stays: others may have filters there.
  bpf_tc_hook hook = hook_of(ifindex, side);
  bpf_tc_opts opts = filter_opts();
  const int rc = bpf_tc_detach(&hook, &opts);
  if (rc != 0 && rc != -ENOENT && rc != -ENODEV && rc != -EINVAL)
    return fail_errno(
        -rc, fmt::format("remove the filter at {} of interface {}", to_string(side), ifindex));
  return remove_pin(pin);
}

Result<> Links::detach_tc(std::uint32_t ifindex, TcSide side) {
  SHOAL_TRY(remove_link(tcx_pin(ifindex, side)));
  return detach_filter(ifindex, side);
}

Result<> Links::forget_tc(std::uint32_t ifindex, TcSide side) {
  for (const std::filesystem::path& pin : {tcx_pin(ifindex, side), filter_pin(ifindex, side)})
    if (auto removed = remove_pin(pin); !removed && removed.error().code() != Errc::kNotFound)
      return removed;
  return {};
}

Result<> Links::attach_cgroup(std::string_view hook, bpf_attach_type type, int cgroup_fd,
                              std::uint64_t cgroup_id, int prog_fd) {
  const std::filesystem::path pin = folder_ / fmt::format("cgroup-{}", hook);
  UniqueFd old = SHOAL_TRY(open_link(pin));
  if (old && SHOAL_TRY(link_info(old.get())).cgroup_id == cgroup_id) {
    if (bpf_link_update(old.get(), prog_fd, nullptr) != 0)
      return fail_errno(fmt::format("swap the program of {}", pin.string()));
    return {};
  }
  UniqueFd link(bpf_link_create(prog_fd, cgroup_fd, type, nullptr));
  if (!link)
    return fail_errno(fmt::format("attach {} to the cgroup", hook));
  SHOAL_TRY(replace_pin(link.get(), pin));
  // Elsewhere, or its cgroup is gone: it goes now that the new one stands.
  if (old && bpf_link_detach(old.get()) != 0)
    return fail_errno(fmt::format("detach what was {} before", pin.string()));
  return {};
}

Result<> Links::detach_cgroup(std::string_view hook) {
  return remove_link(folder_ / fmt::format("cgroup-{}", hook));
}

Result<std::vector<HookedProgram>> Links::hooked() const {
  std::vector<HookedProgram> out;
  for (const std::string& name : SHOAL_TRY(names_in(folder_))) {
    if (SHOAL_TRY(is_defunct(name)))
      continue;
    const auto device = parse_device_name(name);
    if (!device || device->kind != Kind::kFilter) {
      const UniqueFd link = SHOAL_TRY(open_pin(folder_ / name));
      out.push_back({name, SHOAL_TRY_WRAP(link_info(link.get()), name).program_id});
      continue;
    }
    bpf_tc_hook hook = hook_of(device->ifindex, device->side);
    bpf_tc_opts opts = filter_opts();
    if (bpf_tc_query(&hook, &opts) == 0)
      out.push_back({name, opts.prog_id});
  }
  return out;
}

Result<> Links::swap(const std::string& pin, int prog_fd) const {
  const auto device = parse_device_name(pin);
  Result<> done;
  if (device && device->kind == Kind::kFilter) {
    done = attach_filter(device->ifindex, device->side, prog_fd);
  } else {
    const UniqueFd link = SHOAL_TRY(open_pin(folder_ / pin));
    if (bpf_link_update(link.get(), prog_fd, nullptr) != 0)
      done = fail_errno(fmt::format("swap the program of {}", pin));
  }
  if (!done && is_defunct(pin).value_or(false))
    return {};
  return done;
}

Result<std::set<std::uint32_t>> Links::interfaces() const {
  std::set<std::uint32_t> out;
  for (const std::string& name : SHOAL_TRY(names_in(folder_)))
    if (auto device = parse_device_name(name))
      out.insert(device->ifindex);
  return out;
}

Result<bool> Links::is_defunct(const std::string& name) const {
  const auto device = parse_device_name(name);
  if (device && device->kind == Kind::kFilter) {
    bpf_tc_hook hook = hook_of(device->ifindex, device->side);
    bpf_tc_opts opts = filter_opts();
    return bpf_tc_query(&hook, &opts) != 0;
  }
  UniqueFd fd = SHOAL_TRY(open_pin(folder_ / name));
  LinkInfo info = SHOAL_TRY_WRAP(link_info(fd.get()), name);
  return device ? info.ifindex != device->ifindex : info.cgroup_id == 0;
}

Result<std::vector<std::string>> Links::remove_defunct() {
  std::vector<std::string> out;
  for (const std::string& name : SHOAL_TRY(names_in(folder_))) {
    if (!SHOAL_TRY(is_defunct(name)))
      continue;
    SHOAL_TRY(remove_pin(folder_ / name));
    out.push_back(name);
  }
  return out;
}

Result<> Links::remove_all() {
  for (const std::string& name : SHOAL_TRY(names_in(folder_))) {
    const auto device = parse_device_name(name);
    if (device && device->kind == Kind::kFilter)
      SHOAL_TRY(detach_filter(device->ifindex, device->side));
    else
      SHOAL_TRY(remove_link(folder_ / name));
  }
  return {};
}

}  // namespace shoal::kernel

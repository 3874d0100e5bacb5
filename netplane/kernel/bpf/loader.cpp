// SPDX-License-Identifier: Apache-2.0
#include "netplane/kernel/bpf/loader.h"

#include "bpf/abi/shoal_abi.h"
#include "netplane/base/fs.h"
#include "netplane/kernel/bpf/bpf_maps.h"
#include "netplane/kernel/bpf/syscalls.h"

#include <algorithm>
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <cerrno>
#include <cstdarg>
#include <cstdio>
#include <cstring>
#include <fcntl.h>
#include <linux/magic.h>
#include <net/if.h>
#include <overlay.skel.h>
#include <pod.skel.h>
#include <sock_lb.skel.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>
#include <uplink.skel.h>

namespace shoal::kernel {
namespace {

constexpr std::size_t kVerifierLogBytesMax = 4096;  // the last of it: where the verifier gave up

// ---- libbpf's messages, into the error of the call at hand --------------------------------------

thread_local std::string t_libbpf_log;

int keep_message(libbpf_print_level level, const char* format, va_list args) {
  if (level == LIBBPF_DEBUG)
    return 0;
  char* line = nullptr;
  if (vasprintf(&line, format, args) < 0)
    return 0;
  t_libbpf_log += line;
  std::free(line);
  if (t_libbpf_log.size() > 2 * kVerifierLogBytesMax)
    t_libbpf_log.erase(0, t_libbpf_log.size() - kVerifierLogBytesMax);
  return 0;
}

// libbpf prints to stderr unless told otherwise. From the first use on, what it says is kept for
// errors instead.
void keep_libbpf_quiet() {
  libbpf_set_print(keep_message);
  t_libbpf_log.clear();
}

std::string libbpf_said() {
  const std::string& log = t_libbpf_log;
  return log.size() > kVerifierLogBytesMax ? log.substr(log.size() - kVerifierLogBytesMax) : log;
}

// ---- the four skeletons -------------------------------------------------------------------------

template <class S, void (*Destroy)(S*)>
struct SkeletonDeleter {
  void operator()(S* skeleton) const { Destroy(skeleton); }
};
template <class S, void (*Destroy)(S*)>
using Skeleton = std::unique_ptr<S, SkeletonDeleter<S, Destroy>>;

template <class S>
void set_features(S& skeleton, const Features& f) {
  skeleton.rodata->shoal_has_redirect_peer = f.redirect_peer;
  skeleton.rodata->shoal_has_redirect_neigh = f.redirect_neigh;
  skeleton.rodata->shoal_has_set_retval = f.set_retval;
  skeleton.rodata->shoal_has_sk_storage = f.sk_storage;
  skeleton.rodata->shoal_has_coarse_clock = f.coarse_clock;
}

// The size that the options give to a map, and the config key behind it, where there is one.
struct Sizing {
  std::string_view map;
  std::uint32_t entries;  // 0: the size in the program
  std::string_view config_key;
};

Sizing sizing_of(std::string_view map, const MapSizes& s) {
  const Sizing table[] = {
      {"shoal_frontends", s.frontends, ""},
      {"shoal_source_ranges", s.source_ranges, ""},
      {"shoal_affinity", s.affinity, ""},
      {"shoal_vips", s.vips, ""},
      {"shoal_ring_refs", s.services, "limits.services"},
      {"shoal_service_stats", s.services, "limits.services"},
      {"shoal_ring_blocks", s.ring_blocks, "limits.ring_blocks"},
      {"shoal_backends", s.backends, "limits.backends"},
      {"shoal_backend_stats", s.backends, "limits.backends"},
      {"shoal_pods", s.pods, ""},
      {"shoal_nodes", s.nodes, ""},
      {"shoal_peers", s.nodes, ""},
      {"shoal_flows", s.flows, "limits.flows"},
      {"shoal_udp_pick", s.udp_flows, ""},
      {"shoal_udp_rev", s.udp_flows, ""},
  };
  for (const Sizing& sizing : table)
    if (sizing.map == map)
      return sizing;
  return {map, 0, ""};
}

// A pin is used as it is, thrown away, or in the way.
Result<> admit_pin(const std::filesystem::path& pin, const bpf_map* map,
                   std::string_view config_key, bool remake) {
  auto fd = open_pin(pin);
  if (!fd) {
    if (fd.error().code() == Errc::kNotFound)
      return {};
    return fail(std::move(fd).error());
  }
  MapInfo info = SHOAL_TRY(map_info(fd->get()));
  if (info.type == static_cast<std::uint32_t>(bpf_map__type(map)) &&
      info.key_bytes == bpf_map__key_size(map) && info.value_bytes == bpf_map__value_size(map) &&
      info.entries_max == bpf_map__max_entries(map) && info.flags == bpf_map__map_flags(map))
    return {};
  if (remake)
    return remove_pin(pin);
  return fail(
      Errc::kConflict,
      fmt::format(
          "{} holds {} entries of {} + {} bytes (flags {:#x}), this agent wants {} of {} + {} "
          "(flags {:#x}); put {} back "
          "to what it was, or have the data plane made anew: stop shoald, rm -r {}, start "
          "shoald (until then this host balances nothing, and its flows begin afresh)",
          pin.string(), info.entries_max, info.key_bytes, info.value_bytes, info.flags,
          bpf_map__max_entries(map), bpf_map__key_size(map), bpf_map__value_size(map),
          bpf_map__map_flags(map), config_key.empty() ? "the earlier version" : config_key,
          pin.parent_path().parent_path().string()));
}

// Sizes and pins of an object's maps. Reuse of what is pinned is libbpf's part.
Result<> prepare_maps(bpf_object* object, const LoaderOptions& options, const Features& features,
                      const std::filesystem::path& folder) {
  bpf_map* map = nullptr;
  bpf_object__for_each_map(map, object) {
    if (bpf_map__is_internal(map))
      continue;
    const std::string name = bpf_map__name(map);
    if (name == "shoal_sk" && !features.sk_storage) {
      bpf_map__set_autocreate(map, false);
      continue;
    }
    const Sizing sizing = sizing_of(name, options.sizes);
    if (sizing.entries != 0)
      bpf_map__set_max_entries(map, sizing.entries);
    const std::filesystem::path pin = folder / name;
    SHOAL_TRY(admit_pin(pin, map, sizing.config_key, options.remake_maps));
    if (int rc = bpf_map__set_pin_path(map, pin.c_str()); rc != 0)
      return fail_errno(-rc, fmt::format("set the pin of {}", name));
  }
  return {};
}

template <class S>
Result<> load_skeleton(S* skeleton, int (*load)(S*), std::string_view name,
                       const LoaderOptions& options, const Features& features,
                       const std::filesystem::path& folder) {
  if (skeleton == nullptr)
    return fail_errno(fmt::format("open the BPF object {}", name));
  set_features(*skeleton, features);
  SHOAL_TRY(prepare_maps(skeleton->obj, options, features, folder));
  t_libbpf_log.clear();
  if (int rc = load(skeleton); rc != 0)
    return fail(
        Error::from_errno(-rc, fmt::format("load the BPF object {}", name) + "\n" + libbpf_said()));
  return {};
}

// ---- the host -----------------------------------------------------------------------------------

// Looked at before anything is made: a folder on another file system would only be in the way.
Result<> need_bpffs(const std::filesystem::path& root) {
  struct statfs fs{};
  std::filesystem::path there = root;
  while (statfs(there.c_str(), &fs) != 0) {
    if (errno != ENOENT || there == there.parent_path())
      return fail_errno(fmt::format("look at {}", there.string()));
    there = there.parent_path();
  }
  if (static_cast<std::uint64_t>(fs.f_type) != BPF_FS_MAGIC)
    return fail(Errc::kUnsupported,
                fmt::format("{} is not on a bpf file system: mount one (mount -t bpf bpf "
                            "/sys/fs/bpf), and let bpffs_dir in the config be a folder below one",
                            root.string()));
  SHOAL_TRY_WRAP(make_dirs(root, 0700), "the folder for BPF pins");
  return {};
}

// One question about a device, an ioctl.
Result<ifreq> ask_device(std::uint32_t ifindex, unsigned long question, std::string_view what) {
  ifreq request{};
  if (if_indextoname(ifindex, request.ifr_name) == nullptr)
    return fail_errno(fmt::format("find interface {}", ifindex));
  UniqueFd socket(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  if (!socket || ioctl(socket.get(), question, &request) != 0)
    return fail_errno(fmt::format("read the {} of {}", what, request.ifr_name));
  return request;
}

Result<shoal_uplink> read_mac(std::uint32_t ifindex) {
  const ifreq request = SHOAL_TRY(ask_device(ifindex, SIOCGIFHWADDR, "MAC address"));
  shoal_uplink out{};
  std::memcpy(out.mac, request.ifr_hwaddr.sa_data, sizeof(out.mac));
  return out;
}

}  // namespace

// ---- Loader -------------------------------------------------------------------------------------

class Loader::Impl {
public:
  Impl(const LoaderOptions& wanted, const Features& present)
      : options(wanted), features(present), links(wanted.root / "links", present.tcx) {}

  LoaderOptions options;
  Features features;
  Links links;
  Skeleton<sock_lb_bpf, sock_lb_bpf__destroy> sock;
  Skeleton<pod_bpf, pod_bpf__destroy> pod;
  Skeleton<uplink_bpf, uplink_bpf__destroy> uplink;
  Skeleton<overlay_bpf, overlay_bpf__destroy> overlay;

  std::filesystem::path maps_folder() const {
    return options.root / fmt::format("v{}", SHOAL_ABI_VERSION);
  }

  Result<> load() {
    const auto folder = maps_folder();
    SHOAL_TRY(make_dirs(folder, 0700));
    SHOAL_TRY(make_dirs(options.root / "links", 0700));
    sock.reset(sock_lb_bpf__open());
    SHOAL_TRY(load_skeleton(sock.get(), sock_lb_bpf__load, "sock_lb", options, features, folder));
    pod.reset(pod_bpf__open());
    SHOAL_TRY(load_skeleton(pod.get(), pod_bpf__load, "pod", options, features, folder));
    uplink.reset(uplink_bpf__open());
    SHOAL_TRY(load_skeleton(uplink.get(), uplink_bpf__load, "uplink", options, features, folder));
    overlay.reset(overlay_bpf__open());
    SHOAL_TRY(
        load_skeleton(overlay.get(), overlay_bpf__load, "overlay", options, features, folder));
    return set_config(std::nullopt);
  }

  struct Overlay {
    std::uint32_t ifindex = 0;
    std::uint32_t mtu = 0;
  };
  // Keeps the overlay that an earlier agent has set, unless a new one is given.
  Result<> set_config(const std::optional<Overlay>& wanted) {
    const int fd = bpf_map__fd(uplink->maps.shoal_config);
    const __u32 zero = 0;
    shoal_config config{};
    if (bpf_map_lookup_elem(fd, &zero, &config) != 0)
      return fail_errno("read shoal_config");
    config.abi_version = SHOAL_ABI_VERSION;
    config.hash_seed = options.hash_seed;
    if (wanted) {
      config.overlay_ifindex = wanted->ifindex;
      config.overlay_mtu = wanted->mtu;
    }
    if (bpf_map_update_elem(fd, &zero, &config, BPF_ANY) != 0)
      return fail_errno("write shoal_config");
    return {};
  }

  struct Hook {
    const char* name;
    bpf_attach_type type;
    bpf_program* program;
  };
  std::vector<Hook> hooks() const {
    return {{"connect4", BPF_CGROUP_INET4_CONNECT, sock->progs.shoal_connect4},
            {"connect6", BPF_CGROUP_INET6_CONNECT, sock->progs.shoal_connect6},
            {"sendmsg4", BPF_CGROUP_UDP4_SENDMSG, sock->progs.shoal_sendmsg4},
            {"sendmsg6", BPF_CGROUP_UDP6_SENDMSG, sock->progs.shoal_sendmsg6},
            {"recvmsg4", BPF_CGROUP_UDP4_RECVMSG, sock->progs.shoal_recvmsg4},
            {"recvmsg6", BPF_CGROUP_UDP6_RECVMSG, sock->progs.shoal_recvmsg6},
            {"getpeername4", BPF_CGROUP_INET4_GETPEERNAME, sock->progs.shoal_getpeer4},
            {"getpeername6", BPF_CGROUP_INET6_GETPEERNAME, sock->progs.shoal_getpeer6}};
  }
};

Loader::Loader(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Loader::~Loader() = default;

Result<std::unique_ptr<Loader>> Loader::open(const LoaderOptions& options) {
  libbpf_set_strict_mode(LIBBPF_STRICT_ALL);
  keep_libbpf_quiet();
  SHOAL_TRY(need_bpffs(options.root));
  const Features features = probe_features(options.allowed);
  auto impl = std::make_unique<Impl>(options, features);
  SHOAL_TRY_WRAP(impl->load(), "BPF data plane");
  return std::unique_ptr<Loader>(new Loader(std::move(impl)));
}

const Features& Loader::features() const { return impl_->features; }

std::vector<std::string> Loader::limitations() const {
  return kernel::limitations(impl_->features);
}

std::filesystem::path Loader::maps_folder() const { return impl_->maps_folder(); }

Result<std::unique_ptr<DataMaps>> Loader::maps() const { return open_bpf_maps(maps_folder()); }

std::vector<ProgramInfo> Loader::programs() const {
  std::vector<ProgramInfo> out;
  for (bpf_object* object :
       {impl_->sock->obj, impl_->pod->obj, impl_->uplink->obj, impl_->overlay->obj}) {
    bpf_program* program = nullptr;
    bpf_object__for_each_program(program, object) {
      bpf_prog_info info{};
      __u32 bytes = sizeof(info);
      const int fd = bpf_program__fd(program);
      if (bpf_obj_get_info_by_fd(fd, &info, &bytes) == 0)
        out.push_back({bpf_program__name(program), fd, info.verified_insns});
    }
  }
  return out;
}

Result<> Loader::attach_cgroup(const std::filesystem::path& cgroup) {
  struct statfs fs{};
  struct stat st{};
  UniqueFd fd(::open(cgroup.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!fd || fstatfs(fd.get(), &fs) != 0 || fstat(fd.get(), &st) != 0)
    return fail_errno(fmt::format("open cgroup {}", cgroup.string()));
  if (static_cast<std::uint64_t>(fs.f_type) != CGROUP2_SUPER_MAGIC)
    return fail(Errc::kInvalid,
                fmt::format("{} is not a cgroup2 folder: socket hooks need one (on a hybrid "
                            "layout it is below /sys/fs/cgroup/unified)",
                            cgroup.string()));
  for (const Impl::Hook& hook : impl_->hooks())
    SHOAL_TRY_WRAP(impl_->links.attach_cgroup(hook.name, hook.type, fd.get(), st.st_ino,
                                              bpf_program__fd(hook.program)),
                   cgroup.string());
  return {};
}

Result<> Loader::detach_cgroup() {
  for (const Impl::Hook& hook : impl_->hooks())
    SHOAL_TRY(impl_->links.detach_cgroup(hook.name));
  return {};
}

Result<> Loader::attach_pod(std::uint32_t ifindex) {
  SHOAL_TRY(impl_->links.attach_tc(ifindex, TcSide::kEgress,
                                   bpf_program__fd(impl_->pod->progs.shoal_pod_out)));
  return impl_->links.attach_tc(ifindex, TcSide::kIngress,
                                bpf_program__fd(impl_->pod->progs.shoal_pod));
}

Result<> Loader::detach_pod(std::uint32_t ifindex) {
  SHOAL_TRY(impl_->links.detach_tc(ifindex, TcSide::kEgress));
  return impl_->links.detach_tc(ifindex, TcSide::kIngress);
}

Result<> Loader::attach_uplink(std::uint32_t ifindex) {
  const shoal_uplink uplink = SHOAL_TRY(read_mac(ifindex));
  if (bpf_map_update_elem(bpf_map__fd(impl_->uplink->maps.shoal_uplinks), &ifindex, &uplink,
                          BPF_ANY) != 0)
    return fail_errno("write shoal_uplinks");
  SHOAL_TRY(impl_->links.attach_tc(ifindex, TcSide::kEgress,
                                   bpf_program__fd(impl_->uplink->progs.shoal_up_out)));
  return impl_->links.attach_tc(ifindex, TcSide::kIngress,
                                bpf_program__fd(impl_->uplink->progs.shoal_uplink));
}

Result<> Loader::detach_uplink(std::uint32_t ifindex) {
  SHOAL_TRY(impl_->links.detach_tc(ifindex, TcSide::kEgress));
  SHOAL_TRY(impl_->links.detach_tc(ifindex, TcSide::kIngress));
  if (bpf_map_delete_elem(bpf_map__fd(impl_->uplink->maps.shoal_uplinks), &ifindex) != 0 &&
      errno != ENOENT)
    return fail_errno("delete from shoal_uplinks");
  return {};
}

Result<std::set<std::uint32_t>> Loader::uplinks() const {
  const int fd = bpf_map__fd(impl_->uplink->maps.shoal_uplinks);
  std::set<std::uint32_t> out;
  std::uint32_t key = 0;
  const std::uint32_t* last = nullptr;
  while (bpf_map_get_next_key(fd, last, &key) == 0) {
    out.insert(key);
    last = &key;
  }
  if (errno != ENOENT)
    return fail_errno("read shoal_uplinks");
  return out;
}

Result<> Loader::attach_overlay(std::uint32_t ifindex) {
  SHOAL_TRY(impl_->links.attach_tc(ifindex, TcSide::kIngress,
                                   bpf_program__fd(impl_->overlay->progs.shoal_ovl_in)));
  SHOAL_TRY(impl_->links.attach_tc(ifindex, TcSide::kEgress,
                                   bpf_program__fd(impl_->overlay->progs.shoal_ovl_out)));
  const ifreq request = SHOAL_TRY(ask_device(ifindex, SIOCGIFMTU, "MTU"));
  return impl_->set_config(Impl::Overlay{ifindex, static_cast<std::uint32_t>(request.ifr_mtu)});
}

Result<> Loader::detach_overlay(std::uint32_t ifindex) {
  SHOAL_TRY(impl_->set_config(Impl::Overlay{}));
  SHOAL_TRY(impl_->links.detach_tc(ifindex, TcSide::kIngress));
  return impl_->links.detach_tc(ifindex, TcSide::kEgress);
}

Result<std::set<std::uint32_t>> Loader::attached_interfaces() const {
  return impl_->links.interfaces();
}

Result<std::vector<std::string>> Loader::remove_defunct() { return impl_->links.remove_defunct(); }

Result<> Loader::remove_old_versions() {
  std::error_code error;
  std::vector<std::filesystem::path> old;
  for (const auto& entry : std::filesystem::directory_iterator(impl_->options.root, error)) {
    const std::string name = entry.path().filename();
    if (name.starts_with("v") && entry.path() != maps_folder())
      old.push_back(entry.path());
  }
  for (const auto& path : old)
    std::filesystem::remove_all(path, error);
  if (error)
    return fail_errno(error.value(),
                      fmt::format("remove old maps below {}", impl_->options.root.string()));
  return {};
}

Result<std::vector<std::string>> list_data_plane(const std::filesystem::path& root) {
  std::vector<std::string> out;
  std::error_code error;
  std::filesystem::recursive_directory_iterator at(root, error);
  for (const std::filesystem::recursive_directory_iterator end; !error && at != end;
       at.increment(error)) {
    std::error_code ignored;
    if (!at->is_directory(ignored))
      out.push_back(at->path().lexically_relative(root).string());
  }
  if (error && error != std::errc::no_such_file_or_directory)
    return fail_errno(error.value(), fmt::format("list {}", root.string()));
  std::ranges::sort(out);
  return out;
}

Result<> remove_data_plane(const std::filesystem::path& root) {
  std::error_code error;
  if (!std::filesystem::exists(root, error))
    return {};
  keep_libbpf_quiet();
  SHOAL_TRY(Links(root / "links", true).remove_all());
  std::filesystem::remove_all(root, error);
  if (error)
    return fail_errno(error.value(), fmt::format("remove {}", root.string()));
  return {};
}

}  // namespace shoal::kernel

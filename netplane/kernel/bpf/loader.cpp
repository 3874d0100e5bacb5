// SPDX-License-Identifier: Apache-2.0
#include "netplane/kernel/bpf/loader.h"

#include "bpf/abi/shoal_abi.h"
#include "netplane/base/fs.h"
#include "netplane/kernel/bpf/bpf_maps.h"
#include "netplane/kernel/bpf/map_sets.h"
#include "netplane/kernel/bpf/skeleton.h"
#include "netplane/kernel/bpf/syscalls.h"

#include <algorithm>
#include <arpa/inet.h>
#include <array>
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <cerrno>
#include <cstdarg>
#include <cstdio>
#include <cstring>
#include <fcntl.h>
#include <functional>
#include <future>
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
#include <uplink_xdp.skel.h>

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

// ---- the objects --------------------------------------------------------------------------------

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

// Sizes and features of an object's maps; what is wanted of them goes into `wanted`.
Result<> declare_maps(bpf_object* object, const LoaderOptions& options, const Features& features,
                      WantedMaps& wanted) {
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
    wanted[name] = {SHOAL_TRY(ShapeReader::of_declaration(object, map)),
                    std::string(sizing.config_key)};
  }
  return {};
}

template <class S>
Result<> open_skeleton(S* skeleton, std::string_view name, const LoaderOptions& options,
                       const Features& features, WantedMaps& wanted) {
  if (skeleton == nullptr)
    return fail_errno(fmt::format("open the BPF object {}", name));
  set_features(*skeleton, features);
  return declare_maps(skeleton->obj, options, features, wanted);
}

// Reuse of what is pinned in the folder, and pins of what is not, are libbpf's part.
template <class S>
Result<> load_skeleton(S* skeleton, int (*load)(S*), std::string_view name,
                       const WantedMaps& wanted, const std::filesystem::path& folder) {
  bpf_map* map = nullptr;
  bpf_object__for_each_map(map, skeleton->obj) {
    if (!wanted.contains(bpf_map__name(map)))
      continue;
    if (int rc = bpf_map__set_pin_path(map, (folder / bpf_map__name(map)).c_str()); rc != 0)
      return fail_errno(-rc, fmt::format("set the pin of {}", bpf_map__name(map)));
  }
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
  Impl(const LoaderOptions& chosen, const Features& present)
      : options(chosen), features(present), links(chosen.root / "links", present.tcx),
        sets(chosen.root) {}

  LoaderOptions options;
  Features features;
  Links links;
  Skeleton<sock_lb_bpf, sock_lb_bpf__destroy> sock;
  Skeleton<pod_bpf, pod_bpf__destroy> pod;
  Skeleton<uplink_bpf, uplink_bpf__destroy> uplink;
  Skeleton<overlay_bpf, overlay_bpf__destroy> overlay;
  Skeleton<uplink_xdp_bpf, uplink_xdp_bpf__destroy> xdp;  // none without features.xdp

  MapSets sets;
  unsigned set = 0;  // the current one
  WantedMaps wanted;
  ShapeReader shapes;
  std::vector<std::string> losses;
  std::unique_ptr<Handover> handover;  // begun with a new set

  std::filesystem::path maps_folder() const { return sets.folder(set); }

  void step(const std::string& what) const {
    if (options.on_step)
      options.on_step(what);
  }

  Result<> load() {
    SHOAL_TRY(make_dirs(options.root / "links", 0700));
    sock.reset(sock_lb_bpf__open());
    SHOAL_TRY(open_skeleton(sock.get(), "sock_lb", options, features, wanted));
    pod.reset(pod_bpf__open());
    SHOAL_TRY(open_skeleton(pod.get(), "pod", options, features, wanted));
    uplink.reset(uplink_bpf__open());
    SHOAL_TRY(open_skeleton(uplink.get(), "uplink", options, features, wanted));
    overlay.reset(overlay_bpf__open());
    SHOAL_TRY(open_skeleton(overlay.get(), "overlay", options, features, wanted));
    if (features.xdp) {
      xdp.reset(uplink_xdp_bpf__open());
      SHOAL_TRY(open_skeleton(xdp.get(), "uplink_xdp", options, features, wanted));
    }

    const std::vector<unsigned> numbers = SHOAL_TRY(sets.numbers());
    SetPlan plan;
    plan.anew = numbers.empty();
    if (!numbers.empty()) {
      set = numbers.back();
      plan = SHOAL_TRY(plan_set(maps_folder(), wanted, shapes));
      losses = plan.losses;
    }
    SHOAL_TRY(plan.keep ? load_on(maps_folder(), true) : make_set(plan));
    // What an earlier agent has set of devices stays until they are attached anew.
    return edit_config([this](shoal_config& config) {
      config.abi_version = SHOAL_ABI_VERSION;
      config.hash_seed = options.hash_seed;
    });
  }

  // Nearly all of it is the verifier's time, which is of one processor a program. At once only
  // where all maps are there: objects that share a map that is not would each make one.
  Result<> load_on(const std::filesystem::path& folder, bool at_once) {
    const auto load = [&](auto* skeleton, auto* loads, std::string_view name) {
      return [=, this, &folder]() -> Result<> {
        return skeleton ? load_skeleton(skeleton, loads, name, wanted, folder) : Result<>();
      };
    };
    const std::array<std::function<Result<>()>, 5> objects{
        load(sock.get(), sock_lb_bpf__load, "sock_lb"),
        load(pod.get(), pod_bpf__load, "pod"),
        load(uplink.get(), uplink_bpf__load, "uplink"),
        load(xdp.get(), uplink_xdp_bpf__load, "uplink_xdp"),
        load(overlay.get(), overlay_bpf__load, "overlay"),
    };
    // By threads, or, where there is none to be had, as when not at once.
    const auto policy =
        at_once ? std::launch::async | std::launch::deferred : std::launch::deferred;
    std::vector<std::future<Result<>>> results;
    for (const auto& object : objects)
      results.push_back(std::async(policy, object));
    Result<> first;
    for (std::future<Result<>>& result : results) {
      Result<> loaded = result.get();
      if (!loaded && first)
        first = std::move(loaded);
      if (!first && !at_once)
        break;
    }
    return first;
  }

  // The next set, from what the current one holds where that can be. It becomes the current one by
  // a rename, when all that the agent wrote is in it.
  Result<> make_set(const SetPlan& plan) {
    const std::filesystem::path before = maps_folder();
    const std::filesystem::path staged = SHOAL_TRY(sets.stage());
    step("staged");
    for (const std::string& name : plan.reused) {
      const UniqueFd fd = SHOAL_TRY(open_pin(before / name));
      SHOAL_TRY(pin_fd(fd.get(), staged / name));
      step("took over " + name);
    }
    SHOAL_TRY(load_on(staged, false));
    if (!plan.anew)
      handover = SHOAL_TRY(Handover::open(staged, features));
    step("loaded");
    for (const auto& [name, copy] : plan.converted)
      if (!wanted[name].shape.written_by_programs()) {
        SHOAL_TRY(convert(name, copy, before, staged));
        step("converted " + name);
      }
    set = SHOAL_TRY(sets.commit());
    step("made current");
    return {};
  }

  // What does not fit is refused: the rest of the maps names it.
  Result<> convert(const std::string& name, const MapCopy& copy,
                   const std::filesystem::path& before, const std::filesystem::path& staged) {
    const UniqueFd from = SHOAL_TRY(open_pin(before / name));
    const UniqueFd to = SHOAL_TRY(open_pin(staged / name));
    const auto count = copy.copy(from.get(), to.get());
    if (count && count->lost == 0)
      return {};
    if (!count && count.error().code() != Errc::kExhausted)
      return fail(Error(count.error()).wrap(fmt::format("convert {}", name)));
    const std::string& key = wanted[name].config_key;
    return fail(
        Errc::kConflict,
        fmt::format("{}/{} holds more than the {} entries that this agent wants it to have: put {} "
                    "back to what it was, or have the data plane made anew: stop shoald, rm -r {}, "
                    "start shoald (until then this host balances nothing, and its flows begin "
                    "afresh)",
                    before.string(), name, wanted[name].shape.entries_max,
                    key.empty() ? "the earlier version" : key, options.root.string()));
  }

  Result<> remove_lower_sets() {
    for (const unsigned number : SHOAL_TRY(sets.numbers()))
      if (number < set) {
        step(fmt::format("removing v{}", number));
        SHOAL_TRY(sets.remove(number));
      }
    return {};
  }

  // ---- taking over from former programs

  using Counters = std::map<std::pair<unsigned, std::string>, CopiedCounters>;

  // Calls visit(map, its set, what copies, from, to) for what programs write to, of each set that
  // programs have been using.
  template <class F>
  Result<> each_lower_map(F&& visit) {
    for (const unsigned number : SHOAL_TRY(sets.numbers())) {
      if (number >= set || SHOAL_TRY(Handover::is_waiting(sets.folder(number))))
        continue;
      const std::uint32_t version = SHOAL_TRY(version_of(sets.folder(number), shapes));
      for (const auto& [name, map] : wanted) {
        if (!map.shape.written_by_programs())
          continue;
        const auto from = open_pin(sets.folder(number) / name);
        if (!from)
          continue;  // of an earlier build, or swept by an agent that ended
        const UniqueFd to = SHOAL_TRY(open_pin(maps_folder() / name));
        if (SHOAL_TRY(map_info(from->get())).id == SHOAL_TRY(map_info(to.get())).id)
          continue;
        if (const auto copy =
                copy_from(version, name, SHOAL_TRY(shapes.of_map(from->get())), map.shape)) {
          SHOAL_TRY_WRAP(visit(name, number, *copy, from->get(), to.get()), name);
          step("carried over " + name);
        }
      }
    }
    return {};
  }

  Result<> take_over() {
    if (!xdp)
      SHOAL_TRY(links.detach_xdp_but(0));
    const bool made_from_another = Handover::is_pinned(maps_folder());
    if (!made_from_another && SHOAL_TRY(sets.numbers()).size() == 1)
      return {};
    std::map<std::string, int> by_name;
    for (const ProgramInfo& program : programs())
      by_name[program.name] = program.fd;
    const StepObserver observer = [this](std::string_view what) { step(std::string(what)); };
    if (made_from_another) {
      if (!handover)
        handover = SHOAL_TRY(Handover::open(maps_folder(), features));
      SHOAL_TRY(hand_over(by_name, observer));
    }
    // Before their maps, and stand-ins' tables, lose their pins.
    SHOAL_TRY(give_to_hooks(links, by_name, observer));
    SHOAL_TRY(remove_lower_sets());
    step("lower sets removed");
    handover.reset();
    return Handover::remove_pins(maps_folder());
  }

  // Not from a set that the current one was not made from.
  Result<> hand_over(const std::map<std::string, int>& programs, const StepObserver& observer) {
    Counters counters;
    if (!handover->turned()) {
      SHOAL_TRY(handover->stand_in(links, programs, observer));
      SHOAL_TRY(each_lower_map([&](const std::string& name, unsigned number, const MapCopy& copy,
                                   int from, int to) -> Result<> {
        SHOAL_TRY(copy.copy(from, to, &counters[{number, name}]));
        return {};
      }));
      step("turning");
      SHOAL_TRY(handover->turn());
      step("turned");
    }
    // What former programs wrote between the copy and the turn.
    return each_lower_map([&](const std::string& name, unsigned number, const MapCopy& copy,
                              int from, int to) -> Result<> {
      if (!wanted[name].shape.per_cpu()) {
        SHOAL_TRY(copy.merge(from, to));
      } else if (const auto before = counters.find({number, name}); before != counters.end()) {
        SHOAL_TRY(copy.add_since(from, to, before->second));
      }
      return {};
    });
  }

  std::vector<ProgramInfo> programs() const {
    std::vector<ProgramInfo> out;
    std::vector<bpf_object*> objects = {sock->obj, pod->obj, uplink->obj, overlay->obj};
    if (xdp)
      objects.push_back(xdp->obj);
    for (bpf_object* object : objects) {
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

  template <class Edit>
  Result<> edit_config(Edit edit) {
    const int fd = bpf_map__fd(uplink->maps.shoal_config);
    const __u32 zero = 0;
    shoal_config config{};
    if (bpf_map_lookup_elem(fd, &zero, &config) != 0)
      return fail_errno("read shoal_config");
    edit(config);
    if (bpf_map_update_elem(fd, &zero, &config, BPF_ANY) != 0)
      return fail_errno("write shoal_config");
    return {};
  }

  Result<> set_overlay(std::uint32_t ifindex, std::uint32_t mtu) {
    return edit_config([&](shoal_config& config) {
      config.overlay_ifindex = ifindex;
      config.overlay_mtu = mtu;
    });
  }

  // Of which device XDP is the uplink's, and what it sends as; 0: it leaves everything alone.
  Result<> set_xdp(std::uint32_t ifindex, const shoal_uplink& device, const IpAddress& underlay,
                   std::uint16_t vxlan_port) {
    return edit_config([&](shoal_config& config) {
      config.uplink_ifindex = ifindex;
      std::memcpy(config.uplink_mac, device.mac, sizeof(config.uplink_mac));
      config.underlay = underlay.is_v4() ? htonl(underlay.v4_host_order()) : 0;
      config.vxlan_port = htons(vxlan_port);
    });
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

std::vector<ProgramInfo> Loader::programs() const { return impl_->programs(); }

const std::vector<std::string>& Loader::losses() const { return impl_->losses; }

Result<> Loader::take_over() {
  SHOAL_TRY_WRAP(impl_->take_over(), "take over from the former programs");
  return {};
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
  SHOAL_TRY(impl_->links.attach_pod_tc(ifindex, TcSide::kEgress,
                                       bpf_program__fd(impl_->pod->progs.shoal_pod_out)));
  return impl_->links.attach_pod_tc(ifindex, TcSide::kIngress,
                                    bpf_program__fd(impl_->pod->progs.shoal_pod));
}

Result<> Loader::detach_pod(std::uint32_t ifindex) {
  SHOAL_TRY(impl_->links.detach_tc(ifindex, TcSide::kEgress));
  return impl_->links.detach_tc(ifindex, TcSide::kIngress);
}

Result<> Loader::forget_pod(std::uint32_t ifindex) {
  SHOAL_TRY(impl_->links.forget_tc(ifindex, TcSide::kEgress));
  return impl_->links.forget_tc(ifindex, TcSide::kIngress);
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

Result<> Loader::attach_xdp(std::uint32_t ifindex, const IpAddress& underlay,
                            std::uint16_t vxlan_port) {
  if (!impl_->xdp)
    return fail(Errc::kUnsupported, "there is no XDP here");
  const shoal_uplink uplink = SHOAL_TRY(read_mac(ifindex));
  SHOAL_TRY(impl_->links.detach_xdp_but(ifindex));
  SHOAL_TRY(impl_->set_xdp(ifindex, uplink, underlay, vxlan_port));
  Result<> attached =
      impl_->links.attach_xdp(ifindex, bpf_program__fd(impl_->xdp->progs.shoal_xdp));
  if (!attached)
    SHOAL_TRY(impl_->set_xdp(0, {}, {}, 0));
  return attached;
}

Result<> Loader::detach_xdp() {
  SHOAL_TRY(impl_->links.detach_xdp_but(0));
  return impl_->set_xdp(0, {}, {}, 0);
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
  return impl_->set_overlay(ifindex, static_cast<std::uint32_t>(request.ifr_mtu));
}

Result<> Loader::detach_overlay(std::uint32_t ifindex) {
  SHOAL_TRY(impl_->set_overlay(0, 0));
  SHOAL_TRY(impl_->links.detach_tc(ifindex, TcSide::kIngress));
  return impl_->links.detach_tc(ifindex, TcSide::kEgress);
}

Result<std::set<std::uint32_t>> Loader::attached_interfaces() const {
  return impl_->links.interfaces();
}

Result<std::vector<std::string>> Loader::remove_defunct() { return impl_->links.remove_defunct(); }

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

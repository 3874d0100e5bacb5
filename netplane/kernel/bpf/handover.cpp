// SPDX-License-Identifier: Apache-2.0
#include "netplane/kernel/bpf/handover.h"

#include "netplane/kernel/bpf/skeleton.h"
#include "netplane/kernel/bpf/syscalls.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <cerrno>
#include <fmt/format.h>
#include <handover.skel.h>
#include <linux/membarrier.h>
#include <sys/syscall.h>
#include <unistd.h>

namespace shoal::kernel {
namespace {

constexpr std::string_view kTurnPin = "shoal_handover";
constexpr std::string_view kTablePrefix = "to_";  // "to_shoal_pod": a table of two programs
constexpr __u32 kFormer = 0, kNew = 1;

Result<bool> read_turn(int fd) {
  const __u32 zero = 0;
  __u32 value = 0;
  if (bpf_map_lookup_elem(fd, &zero, &value) != 0)
    return fail_errno("read shoal_handover");
  return value != 0;
}

Result<std::string> program_name(int fd) {
  bpf_prog_info info{};
  __u32 bytes = sizeof(info);
  if (bpf_obj_get_info_by_fd(fd, &info, &bytes) != 0)
    return fail_errno("read a program's description");
  return std::string(info.name);
}

// Its own maps are pinned when they are not there yet; of the set's it uses those that are.
Result<> find_map(bpf_map* map, const std::filesystem::path& folder) {
  const std::filesystem::path pin = folder / bpf_map__name(map);
  int rc = 0;
  if (Handover::is_pin(bpf_map__name(map))) {
    rc = bpf_map__set_pin_path(map, pin.c_str());
  } else if (const auto fd = open_pin(pin)) {
    rc = bpf_map__reuse_fd(map, fd->get());
  } else {
    rc = bpf_map__set_autocreate(map, false);
  }
  if (rc != 0)
    return fail_errno(-rc, "use " + pin.string());
  return {};
}

// Calls visit(hook, its program, the program's name).
Result<>
each_hook(const Links& links,
          const std::function<Result<>(const HookedProgram&, int, const std::string&)>& visit) {
  for (const HookedProgram& hook : SHOAL_TRY(links.hooked())) {
    const UniqueFd program(bpf_prog_get_fd_by_id(hook.program_id));
    if (!program)
      return fail_errno(fmt::format("open the program of {}", hook.pin));
    SHOAL_TRY(visit(hook, program.get(), SHOAL_TRY(program_name(program.get()))));
  }
  return {};
}

}  // namespace

class Handover::Impl {
public:
  Skeleton<handover_bpf, handover_bpf__destroy> skeleton;

  bpf_map* table(const std::string& program) const {
    return bpf_object__find_map_by_name(skeleton->obj,
                                        fmt::format("{}{}", kTablePrefix, program).c_str());
  }
};

Handover::Handover(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Handover::~Handover() = default;

Result<std::unique_ptr<Handover>> Handover::open(const std::filesystem::path& folder,
                                                 const Features& features) {
  auto impl = std::make_unique<Impl>();
  impl->skeleton.reset(handover_bpf__open());
  if (!impl->skeleton)
    return fail_errno("open the BPF object handover");
  set_features(*impl->skeleton, features);
  bpf_map* map = nullptr;
  bpf_object__for_each_map(map, impl->skeleton->obj) {
    if (!bpf_map__is_internal(map))
      SHOAL_TRY_WRAP(find_map(map, folder), bpf_map__name(map));
  }
  if (int rc = handover_bpf__load(impl->skeleton.get()); rc != 0)
    return fail_errno(-rc, "load the BPF object handover");
  return std::unique_ptr<Handover>(new Handover(std::move(impl)));
}

bool Handover::is_pinned(const std::filesystem::path& folder) {
  std::error_code ignored;
  return std::filesystem::exists(folder / kTurnPin, ignored);
}

Result<bool> Handover::is_waiting(const std::filesystem::path& folder) {
  if (!is_pinned(folder))
    return false;
  const UniqueFd fd = SHOAL_TRY(open_pin(folder / kTurnPin));
  return !SHOAL_TRY(read_turn(fd.get()));
}

bool Handover::is_pin(std::string_view name) {
  return name == kTurnPin || name.starts_with(kTablePrefix);
}

Result<> Handover::remove_pins(const std::filesystem::path& folder) {
  std::vector<std::filesystem::path> pins;
  std::error_code error;
  for (auto it = std::filesystem::directory_iterator(folder, error);
       !error && it != std::filesystem::directory_iterator(); it.increment(error))
    if (is_pin(it->path().filename().string()) && it->path().filename() != kTurnPin)
      pins.push_back(it->path());
  if (error)
    return fail_errno(error.value(), fmt::format("list {}", folder.string()));
  pins.push_back(folder / kTurnPin);  // the last: it says that there is something to remove
  for (const auto& pin : pins)
    SHOAL_TRY(remove_pin(pin));
  return {};
}

bool Handover::turned() const {
  return read_turn(bpf_map__fd(impl_->skeleton->maps.shoal_handover)).value_or(false);
}

Result<> Handover::stand_in(const Links& links, const std::map<std::string, int>& programs,
                            const StepObserver& step) {
  for (const auto& [name, fd] : programs)
    if (bpf_map* table = impl_->table(name))
      if (bpf_map_update_elem(bpf_map__fd(table), &kNew, &fd, BPF_ANY) != 0)
        return fail_errno(fmt::format("write the table of {}", name));
  return each_hook(links,
                   [&](const HookedProgram& hook, int former, const std::string& name) -> Result<> {
                     bpf_map* table = impl_->table(name);
                     if (table == nullptr || !programs.contains(name))
                       return {};
                     // Hooks of one name do the same, also where an agent that ended has put
                     // stand-ins into some.
                     __u32 known = 0;
                     if (bpf_map_lookup_elem(bpf_map__fd(table), &kFormer, &known) != 0 &&
                         bpf_map_update_elem(bpf_map__fd(table), &kFormer, &former, BPF_ANY) != 0)
                       return fail_errno(fmt::format("write the table of {}", name));
                     step("stand-in for " + hook.pin);
                     return links.swap(hook.pin, bpf_program__fd(bpf_object__find_program_by_name(
                                                     impl_->skeleton->obj, name.c_str())));
                   });
}

Result<> Handover::turn() {
  const __u32 zero = 0, one = 1;
  if (bpf_map_update_elem(bpf_map__fd(impl_->skeleton->maps.shoal_handover), &zero, &one,
                          BPF_ANY) != 0)
    return fail_errno("write shoal_handover");
  // Waits for programs that are at work, as the kernel's synchronize_rcu() does. Where there is no
  // such call, they will have ended by the time that a system call takes.
  ::syscall(SYS_membarrier, MEMBARRIER_CMD_GLOBAL, 0, 0);
  return {};
}

Result<> give_to_hooks(const Links& links, const std::map<std::string, int>& programs,
                       const StepObserver& step) {
  return each_hook(links, [&](const HookedProgram& hook, int, const std::string& name) -> Result<> {
    const auto program = programs.find(name);
    if (program == programs.end())
      return {};
    step("new program for " + hook.pin);
    return links.swap(hook.pin, program->second);
  });
}

}  // namespace shoal::kernel

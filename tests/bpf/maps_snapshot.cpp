// SPDX-License-Identifier: Apache-2.0
#include "tests/bpf/maps_snapshot.h"

#include "netplane/base/unique_fd.h"

#include <array>
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <linux/bpf.h>
#include <set>
#include <string>

namespace shoal::bpftest {
namespace {

[[noreturn]] void die(const std::string& map, const char* what, int rc) {
  std::fprintf(stderr, "snapshot of %s: %s: %s\n", map.c_str(), what, std::strerror(-rc));
  std::exit(1);
}

bool is_array(std::uint32_t type) {
  return type == BPF_MAP_TYPE_ARRAY || type == BPF_MAP_TYPE_PERCPU_ARRAY;
}
bool is_table(std::uint32_t type) {
  return type == BPF_MAP_TYPE_HASH || type == BPF_MAP_TYPE_LRU_HASH ||
         type == BPF_MAP_TYPE_LPM_TRIE;
}

std::set<std::uint32_t> maps_of(const kernel::Loader& loader) {
  std::set<std::uint32_t> ids;
  for (const kernel::ProgramInfo& program : loader.programs()) {
    std::array<std::uint32_t, 64> of_program{};
    bpf_prog_info info{};
    info.nr_map_ids = of_program.size();
    info.map_ids = reinterpret_cast<std::uint64_t>(of_program.data());
    std::uint32_t bytes = sizeof(info);
    if (const int rc = bpf_obj_get_info_by_fd(program.fd, &info, &bytes); rc != 0)
      die(std::string(program.name), "look at its maps", rc);
    ids.insert(of_program.begin(), of_program.begin() + info.nr_map_ids);
  }
  return ids;
}

}  // namespace

struct MapsSnapshot::Map {
  std::string name;
  UniqueFd fd;
  bpf_map_info info{};
  std::size_t value_bytes = 0;  // of all CPUs
  std::string keys, values;

  std::string next_key(const std::string& before) const {
    std::string key(info.key_size, '\0');
    const void* from = before.empty() ? nullptr : before.data();
    return bpf_map_get_next_key(fd.get(), from, key.data()) == 0 ? key : "";
  }
  void take() {
    for (std::string key = next_key(""); !key.empty(); key = next_key(key)) {
      std::string value(value_bytes, '\0');
      if (const int rc = bpf_map_lookup_elem(fd.get(), key.data(), value.data()); rc != 0)
        die(name, "read an entry", rc);
      keys += key;
      values += value;
    }
  }
  void clear() const {
    for (std::string key = next_key(""); !key.empty(); key = next_key(""))
      if (const int rc = bpf_map_delete_elem(fd.get(), key.data()); rc != 0)
        die(name, "delete an entry", rc);
  }
  void put_back() const {
    if (is_table(info.type))
      clear();
    for (std::size_t at = 0; at < keys.size() / info.key_size; ++at)
      if (const int rc = bpf_map_update_elem(fd.get(), keys.data() + at * info.key_size,
                                             values.data() + at * value_bytes, BPF_ANY);
          rc != 0)
        die(name, "write an entry", rc);
  }
};

MapsSnapshot::MapsSnapshot(const kernel::Loader& loader) {
  for (const std::uint32_t id : maps_of(loader)) {
    Map map;
    map.fd = UniqueFd(bpf_map_get_fd_by_id(id));
    std::uint32_t bytes = sizeof(map.info);
    const int rc = bpf_obj_get_info_by_fd(map.fd.get(), &map.info, &bytes);
    map.name = map.info.name;
    if (rc != 0)
      die(map.name, "look at it", rc);
    if (map.info.type == BPF_MAP_TYPE_SK_STORAGE || (map.info.map_flags & BPF_F_RDONLY_PROG) != 0)
      continue;
    if (!is_array(map.info.type) && !is_table(map.info.type))
      die(map.name, "its type cannot be put back", -EINVAL);
    map.value_bytes = map.info.value_size;
    if (map.info.type == BPF_MAP_TYPE_PERCPU_ARRAY)
      map.value_bytes =
          (map.info.value_size + 7) / 8 * 8 * static_cast<std::size_t>(libbpf_num_possible_cpus());
    map.take();
    maps_.push_back(std::move(map));
  }
}

MapsSnapshot::~MapsSnapshot() = default;

void MapsSnapshot::restore() const {
  for (const Map& map : maps_)
    map.put_back();
}

}  // namespace shoal::bpftest

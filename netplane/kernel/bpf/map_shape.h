// SPDX-License-Identifier: Apache-2.0
// MapShape: all that must agree for a program to use a BPF map as its own: type, sizes, flags, and
// what lies where. Of a map in the kernel, or of one that an object file declares.
#pragma once

#include "netplane/kernel/bpf/layout.h"
#include "netplane/kernel/bpf/syscalls.h"

#include <map>
#include <memory>
#include <optional>

struct bpf_map;
struct bpf_object;

namespace shoal::kernel {

struct MapShape {
  std::uint32_t type = 0;
  std::uint32_t key_bytes = 0;
  std::uint32_t value_bytes = 0;
  std::uint32_t entries_max = 0;
  std::uint32_t flags = 0;
  // Nothing: the kernel took the map without its types.
  std::optional<Layout> key;
  std::optional<Layout> value;

  // Without types on one side, sizes must do.
  bool same_as(const MapShape& other) const;
  bool per_cpu() const;
  // Programs write to it, and only they.
  bool written_by_programs() const;
};

// Reads the types of maps, those that several maps share once.
class ShapeReader {
public:
  ShapeReader();
  ~ShapeReader();
  Result<MapShape> of_map(int fd);
  static Result<MapShape> of_declaration(const bpf_object* object, const bpf_map* map);

private:
  struct BtfDeleter {
    void operator()(btf* types) const;
  };
  std::map<std::uint32_t, std::unique_ptr<btf, BtfDeleter>> types_;
};

}  // namespace shoal::kernel

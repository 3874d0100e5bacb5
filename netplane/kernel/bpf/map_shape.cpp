// SPDX-License-Identifier: Apache-2.0
#include "netplane/kernel/bpf/map_shape.h"

#include <bpf/btf.h>
#include <bpf/libbpf.h>
#include <fmt/format.h>

namespace shoal::kernel {

bool MapShape::same_as(const MapShape& other) const {
  if (type != other.type || key_bytes != other.key_bytes || value_bytes != other.value_bytes ||
      entries_max != other.entries_max || flags != other.flags)
    return false;
  return !key || !other.key || (key == other.key && value == other.value);
}

bool MapShape::per_cpu() const {
  return type == BPF_MAP_TYPE_PERCPU_ARRAY || type == BPF_MAP_TYPE_PERCPU_HASH;
}

bool MapShape::written_by_programs() const {
  return per_cpu() || type == BPF_MAP_TYPE_LRU_HASH || type == BPF_MAP_TYPE_SK_STORAGE;
}

void ShapeReader::BtfDeleter::operator()(btf* types) const { btf__free(types); }
ShapeReader::ShapeReader() = default;
ShapeReader::~ShapeReader() = default;

Result<MapShape> ShapeReader::of_map(int fd) {
  const MapInfo info = SHOAL_TRY(map_info(fd));
  MapShape out{.type = info.type,
               .key_bytes = info.key_bytes,
               .value_bytes = info.value_bytes,
               .entries_max = info.entries_max,
               .flags = info.flags};
  if (info.btf_id == 0 || info.btf_key_type == 0 || info.btf_value_type == 0)
    return out;
  auto& types = types_[info.btf_id];
  if (!types)
    types.reset(btf__load_from_kernel_by_id(info.btf_id));
  if (!types)
    return fail_errno("read the types of a BPF map");
  out.key = SHOAL_TRY(layout_of(types.get(), info.btf_key_type));
  out.value = SHOAL_TRY(layout_of(types.get(), info.btf_value_type));
  return out;
}

Result<MapShape> ShapeReader::of_declaration(const bpf_object* object, const bpf_map* map) {
  MapShape out{.type = static_cast<std::uint32_t>(bpf_map__type(map)),
               .key_bytes = bpf_map__key_size(map),
               .value_bytes = bpf_map__value_size(map),
               .entries_max = bpf_map__max_entries(map),
               .flags = bpf_map__map_flags(map)};
  const btf* types = bpf_object__btf(object);
  if (types == nullptr || bpf_map__btf_key_type_id(map) == 0)
    return fail(Errc::kInternal, fmt::format("{} is declared without types", bpf_map__name(map)));
  out.key = SHOAL_TRY_WRAP(layout_of(types, bpf_map__btf_key_type_id(map)), bpf_map__name(map));
  out.value = SHOAL_TRY_WRAP(layout_of(types, bpf_map__btf_value_type_id(map)), bpf_map__name(map));
  return out;
}

}  // namespace shoal::kernel

// SPDX-License-Identifier: Apache-2.0
// What DataMaps refuses before the kernel sees it: the same for the real maps and the fake.
#pragma once

#include "netplane/kernel/bpf/data_maps.h"

namespace shoal::kernel {

Result<> check_backend(const MapSizes& sizes, const BackendWrite& write);
Result<> check_ring_blocks(const MapSizes& sizes, std::uint32_t first_block,
                           std::span<const model::BackendId> slots);
Result<> check_frontend(const MapSizes& sizes, const FrontendWrite& write);
Result<> check_ring(const MapSizes& sizes, model::ServiceIndex service, const model::RingRef& ref);
Result<> check_service(const MapSizes& sizes, model::ServiceIndex service);
Result<> check_backend_id(const MapSizes& sizes, model::BackendId id);
Result<> check_node(const IpPrefix& cidr, const model::NodeEntry& entry);

// "the map shoal_frontends is full (131072 entries); raise data_plane.frontends ..."
Error map_full(std::string_view map, std::string_view config_key, std::uint64_t entries);

}  // namespace shoal::kernel

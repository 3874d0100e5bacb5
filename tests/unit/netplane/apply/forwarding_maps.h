// SPDX-License-Identifier: Apache-2.0
// DataMaps that belong to somebody else, with faults: from a given write on everything fails, as
// when memory is short, until mended. Works on the fake maps and on the real ones.
#pragma once

#include "netplane/kernel/bpf/data_maps.h"

#include <functional>
#include <memory>
#include <optional>

namespace shoal::apply {

// Shared between the ports that a DataPlane owns and the test.
struct MapFaults {
  std::optional<unsigned> fail_from;  // the n-th write from now, and all after it
  std::optional<unsigned> fail_once;
  unsigned writes = 0;
  std::function<void()> after_write;
};

class ForwardingMaps : public kernel::DataMaps {
public:
  explicit ForwardingMaps(kernel::DataMaps& to, std::shared_ptr<MapFaults> faults = nullptr)
      : to_(to), faults_(std::move(faults)) {}
  ForwardingMaps(std::unique_ptr<kernel::DataMaps> to, std::shared_ptr<MapFaults> faults)
      : owned_(std::move(to)), to_(*owned_), faults_(std::move(faults)) {}

  const kernel::MapSizes& sizes() const override { return to_.sizes(); }
  Result<> put_backends(std::span<const kernel::BackendWrite> w) override {
    return write([&] { return to_.put_backends(w); });
  }
  Result<> put_ring_blocks(std::uint32_t first_block,
                           std::span<const model::BackendId> slots) override {
    return write([&] { return to_.put_ring_blocks(first_block, slots); });
  }
  Result<std::vector<model::BackendId>> ring_blocks(std::uint32_t first_block,
                                                    std::uint32_t count) const override {
    return to_.ring_blocks(first_block, count);
  }
  Result<> switch_ring(model::ServiceIndex service, model::RingRef ref) override {
    return write([&] { return to_.switch_ring(service, ref); });
  }
  Result<model::RingRef> ring_ref(model::ServiceIndex service) const override {
    return to_.ring_ref(service);
  }
  Result<> put_frontends(std::span<const kernel::FrontendWrite> w) override {
    return write([&] { return to_.put_frontends(w); });
  }
  Result<> delete_frontends(std::span<const model::FrontendKey> keys) override {
    return write([&] { return to_.delete_frontends(keys); });
  }
  Result<> put_source_range(model::ServiceIndex service, const IpPrefix& range) override {
    return write([&] { return to_.put_source_range(service, range); });
  }
  Result<> delete_source_range(model::ServiceIndex service, const IpPrefix& range) override {
    return write([&] { return to_.delete_source_range(service, range); });
  }
  Result<> put_vips(std::span<const kernel::VipWrite> w) override {
    return write([&] { return to_.put_vips(w); });
  }
  Result<> delete_vip(const IpAddress& ip) override {
    return write([&] { return to_.delete_vip(ip); });
  }
  Result<> put_pod(const IpAddress& ip, const model::PodEntry& entry) override {
    return write([&] { return to_.put_pod(ip, entry); });
  }
  Result<> delete_pod(const IpAddress& ip) override {
    return write([&] { return to_.delete_pod(ip); });
  }
  Result<> put_host(const model::HostEntry& entry) override {
    return write([&] { return to_.put_host(entry); });
  }
  Result<> put_node(const IpPrefix& cidr, const model::NodeEntry& entry) override {
    return write([&] { return to_.put_node(cidr, entry); });
  }
  Result<> delete_node(const IpPrefix& cidr) override {
    return write([&] { return to_.delete_node(cidr); });
  }
  Result<model::DataPlane> read() const override { return to_.read(); }
  Result<std::vector<kernel::ServiceStats>>
  service_stats(std::span<const model::ServiceIndex> services) const override {
    return to_.service_stats(services);
  }
  Result<std::vector<kernel::BackendStats>>
  backend_stats(std::span<const model::BackendId> backends) const override {
    return to_.backend_stats(backends);
  }
  Result<> clear_service_stats(std::span<const model::ServiceIndex> services) override {
    return write([&] { return to_.clear_service_stats(services); });
  }
  Result<> clear_backend_stats(model::BackendId backend) override {
    return write([&] { return to_.clear_backend_stats(backend); });
  }
  Result<std::vector<kernel::DropCount>> drops() const override { return to_.drops(); }
  Result<bool> next_flows(kernel::TableWalk& walk,
                          const std::function<void(const kernel::Flow&)>& visit) const override {
    return to_.next_flows(walk, visit);
  }
  Result<std::optional<kernel::Flow>> find_flow(const kernel::FlowTuple& packet) const override {
    return to_.find_flow(packet);
  }
  Result<std::optional<kernel::Affinity>> find_affinity(model::ServiceIndex service,
                                                        const IpAddress& client) const override {
    return to_.find_affinity(service, client);
  }
  Result<bool> tally(kernel::LruTable table, kernel::TableWalk& walk,
                     kernel::Tally& tally) const override {
    return to_.tally(table, walk, tally);
  }

private:
  template <class F>
  Result<> write(F&& now) {
    if (faults_ == nullptr)
      return now();
    faults_->writes++;
    const bool fails = (faults_->fail_from && faults_->writes >= *faults_->fail_from) ||
                       (faults_->fail_once && faults_->writes == *faults_->fail_once);
    Result<> done = fails ? Result<>(fail(Errc::kIo, "injected fault")) : now();
    if (faults_->after_write)
      faults_->after_write();
    return done;
  }

  std::unique_ptr<kernel::DataMaps> owned_;
  kernel::DataMaps& to_;
  std::shared_ptr<MapFaults> faults_;
};

}  // namespace shoal::apply

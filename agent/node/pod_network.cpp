// SPDX-License-Identifier: Apache-2.0
#include "agent/node/pod_network.h"

#include <boost/asio/post.hpp>
#include <fmt/format.h>

namespace shoal::node {
namespace {

namespace asio = boost::asio;

class RealPodNetwork final : public PodNetwork {
public:
  RealPodNetwork(asio::io_context& loop, asio::thread_pool& workers, ipam::LeaseStore& leases,
                 apply::DataPlane& data_plane,
                 std::function<void(std::vector<model::LocalPod>)> on_local_pods)
      : loop_(loop), journal_(asio::make_strand(workers.get_executor())), leases_(leases),
        data_plane_(data_plane), on_local_pods_(std::move(on_local_pods)) {}

  void attach(const std::string& pod_key, const std::string& uid, UniqueFd netns,
              std::function<void(Result<PodAddress>)> done) override {
    auto fd = std::make_shared<UniqueFd>(std::move(netns));
    on_journal<Result<ipam::Lease>>(
        [this, uid] { return leases_.allocate(uid); },
        [this, pod_key, uid, fd, done = std::move(done)](Result<ipam::Lease> lease) {
          if (!lease)
            return done(fail(std::move(lease).error().wrap("lease an address")));
          apply::PodAttachment attachment{pod_key, uid, fd->get(), lease->ip, lease->generation};
          auto attached = data_plane_.attach_pod(attachment);
          // The lease is kept on failure: the next try gets the same address.
          if (!attached)
            return done(fail(std::move(attached).error()));
          pods_.insert_or_assign(uid, std::move(*attached));
          tell();
          done(PodAddress{lease->ip, lease->generation});
        });
  }

  void detach(const std::string& uid, std::function<void(Result<>)> done) override {
    if (const auto pod = pods_.find(uid); pod != pods_.end()) {
      if (auto detached = data_plane_.detach_pod(uid, pod->second.ip); !detached)
        return asio::post(loop_,
                          [done = std::move(done), error = std::move(detached).error()]() mutable {
                            done(fail(std::move(error)));
                          });
      pods_.erase(pod);
      tell();
    }
    on_journal<Result<>>(
        [this, uid]() -> Result<> {
          SHOAL_TRY(leases_.release_owner(uid));
          return {};
        },
        std::move(done));
  }

  void keep_only(const std::set<std::string>& uids, std::function<void(Result<>)> done) override {
    on_journal<Result<std::vector<ipam::Lease>>>(
        [this, uids] {
          return leases_.release_unless(
              [&](const ipam::Lease& l) { return uids.contains(l.owner); });
        },
        [this, done = std::move(done)](Result<std::vector<ipam::Lease>> released) {
          if (!released)
            return done(fail(std::move(released).error()));
          // What an earlier agent left in the kernel for them goes too.
          Result<> first;
          for (const ipam::Lease& lease : *released)
            if (auto detached = data_plane_.detach_pod(lease.owner, lease.ip); !detached && first)
              first = std::move(detached);
          done(std::move(first));
        });
  }

private:
  // The journal is written on a worker, one change at a time; what follows runs on the loop.
  template <class R>
  void on_journal(std::function<R()> work, std::function<void(R)> then) {
    asio::post(journal_, [this, work = std::move(work), then = std::move(then)]() mutable {
      auto result = std::make_shared<R>(work());
      asio::post(loop_, [then = std::move(then), result] { then(std::move(*result)); });
    });
  }

  void tell() const {
    std::vector<model::LocalPod> pods;
    for (const auto& [uid, pod] : pods_)
      pods.push_back(pod);
    on_local_pods_(std::move(pods));
  }

  asio::io_context& loop_;
  asio::strand<asio::thread_pool::executor_type> journal_;
  ipam::LeaseStore& leases_;
  apply::DataPlane& data_plane_;
  std::function<void(std::vector<model::LocalPod>)> on_local_pods_;
  std::map<std::string, model::LocalPod> pods_;
};

}  // namespace

std::unique_ptr<PodNetwork>
make_pod_network(asio::io_context& loop, asio::thread_pool& workers, ipam::LeaseStore& leases,
                 apply::DataPlane& data_plane,
                 std::function<void(std::vector<model::LocalPod>)> on_local_pods) {
  return std::make_unique<RealPodNetwork>(loop, workers, leases, data_plane,
                                          std::move(on_local_pods));
}

}  // namespace shoal::node

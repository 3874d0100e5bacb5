// SPDX-License-Identifier: Apache-2.0
#include "agent/node/stats_sampler.h"

#include <boost/asio/post.hpp>
#include <utility>

namespace shoal::node {

namespace asio = boost::asio;

StatsSampler::StatsSampler(asio::io_context& loop, asio::thread_pool& workers, const Clock& clock,
                           Hooks hooks)
    : loop_(loop), workers_(workers), clock_(clock), hooks_(std::move(hooks)), timer_(loop) {}

StatsSampler::~StatsSampler() { *alive_ = false; }

void StatsSampler::sample(OnSample done) {
  sample_waiting_.push_back(std::move(done));
  advance();
}

void StatsSampler::rates(OnRates done) {
  rates_waiting_.push_back(std::move(done));
  advance();
}

template <class Waiting, class... Args>
void StatsSampler::serve(std::vector<Waiting>& waiting, Args... args) {
  for (Waiting& done : std::exchange(waiting, {}))
    asio::post(loop_, [alive = alive_, done = std::move(done), args...] {
      if (*alive)
        done(args...);
    });
}

void StatsSampler::advance() {
  if (reading_)
    return;
  const Duration age = last_ ? clock_.now() - last_->at : Duration::max();
  const bool fresh = age < kStatsFresh;
  if (fresh) {
    serve(sample_waiting_, last_);
    if (base_)
      serve(rates_waiting_, base_, last_);
  }
  if (!sample_waiting_.empty() || (!rates_waiting_.empty() && !fresh))
    return read();
  if (rates_waiting_.empty() || resting_)
    return;
  resting_ = true;
  timer_.expires_after(kStatsFresh - age);
  timer_.async_wait([this, alive = alive_](const boost::system::error_code& error) {
    if (error || !*alive)
      return;
    resting_ = false;
    advance();
  });
}

void StatsSampler::read() {
  reading_ = true;
  asio::post(workers_,
             [this, alive = alive_, &loop = loop_, take = hooks_.take, targets = hooks_.targets()] {
               auto sample = std::make_shared<HostSample>(take(targets));
               asio::post(loop, [this, alive, sample] {
                 if (*alive)
                   taken(std::move(*sample));
               });
             });
}

void StatsSampler::taken(HostSample sample) {
  reading_ = false;
  if (last_) {
    const Duration apart = sample.at - last_->at;
    base_ = apart >= kStatsFresh && apart <= kStatsWindowMax ? last_ : nullptr;
  }
  last_ = std::make_shared<const HostSample>(std::move(sample));
  // Who asked while it was taken is served by it, however long it took.
  serve(sample_waiting_, last_);
  if (base_)
    serve(rates_waiting_, base_, last_);
  advance();
}

}  // namespace shoal::node

// SPDX-License-Identifier: Apache-2.0
#include "agent/images/puller.h"

#include "runtime/image/credentials.h"
#include "runtime/image/push.h"
#include "runtime/image/reference.h"

#include <algorithm>
#include <atomic>
#include <boost/asio/post.hpp>
#include <fmt/format.h>
#include <mutex>

namespace shoal::images {

namespace asio = boost::asio;

namespace {

constexpr std::size_t kCredentialsMax = 16;  // tried for one image

// Another login may do better.
bool is_refusal(const Error& error) {
  return error.code() == Errc::kPermission || error.code() == Errc::kNotFound;
}

}  // namespace

struct ImagePuller::Job {
  std::string key;
  PullRequest request;
  std::string destination;  // of a push
  std::atomic<bool> cancelled{false};
  std::atomic<bool> running{false};
  mutable std::mutex mutex;
  runtime::PullProgress progress;  // mutex
  // The loop's.
  std::map<std::uint64_t, Done> waiters;
  std::weak_ptr<std::map<std::string, std::shared_ptr<Job>>> jobs;

  PullView view() const {
    const std::lock_guard guard(mutex);
    return {request.image, !destination.empty(), running, progress};
  }
};

ImagePuller::Ticket::~Ticket() {
  job_->waiters.erase(id_);
  if (!job_->waiters.empty())
    return;
  // From here on a new request begins anew.
  job_->cancelled = true;
  if (const auto jobs = job_->jobs.lock())
    if (const auto it = jobs->find(job_->key); it != jobs->end() && it->second == job_)
      jobs->erase(it);
}

PullView ImagePuller::Ticket::view() const { return job_->view(); }

ImagePuller::ImagePuller(asio::io_context& loop, runtime::ImageStore& store, const Clock& clock,
                         PullerOptions options)
    : loop_(loop), store_(store), clock_(clock), options_(std::move(options)),
      registries_(options_.registries, options_.dir),
      jobs_(std::make_shared<std::map<std::string, std::shared_ptr<Job>>>()),
      threads_(options_.parallel) {}

ImagePuller::~ImagePuller() {
  for (const auto& begun : begun_)
    if (const auto job = begun.lock())
      job->cancelled = true;
  threads_.join();
}

Result<> ImagePuller::start() { return registries_.write(); }

ImagePuller::TicketPtr ImagePuller::pull(PullRequest request, Done done) {
  const auto reference = runtime::parse_reference(request.image);
  std::string key = reference ? reference->str() : request.image;
  // Only what counts for this image: the rest of a secret makes no other pull of it.
  if (reference)
    if (const auto logins = runtime::credentials_for(*reference, request.docker_configs))
      for (const runtime::Credential& login : *logins)
        key += "\n" + login.auth;
  return join(std::move(key), std::move(request), "", std::move(done));
}

ImagePuller::TicketPtr ImagePuller::push(PullRequest request, std::string destination, Done done) {
  std::string key = fmt::format("push {}", next_id_);  // never shared
  return join(std::move(key), std::move(request), std::move(destination), std::move(done));
}

ImagePuller::TicketPtr ImagePuller::join(std::string key, PullRequest request,
                                         std::string destination, Done done) {
  std::shared_ptr<Job>& place = (*jobs_)[key];
  const bool begin = !place;
  if (begin) {
    place = std::make_shared<Job>();
    place->key = std::move(key);
    place->request = std::move(request);
    place->destination = std::move(destination);
    place->jobs = jobs_;
  }
  const std::shared_ptr<Job> job = place;
  const std::uint64_t id = next_id_++;
  job->waiters.emplace(id, std::move(done));
  if (begin) {
    std::erase_if(begun_, [](const auto& one) { return one.expired(); });
    begun_.push_back(job);
    asio::post(threads_, [this, job] {
      const MonoTime began = clock_.now();
      job->running = true;
      auto pulled = run(*job);
      job->running = false;
      const auto took = std::chrono::duration_cast<std::chrono::milliseconds>(clock_.now() - began);
      Result<PullResult> result = PullResult{};
      if (pulled)
        result = PullResult{std::move(*pulled), took};
      else
        result = fail(std::move(pulled).error());
      asio::post(loop_, [this, alive = std::weak_ptr(jobs_), job, result = std::move(result)] {
        if (alive.lock())
          ended(job, result);
      });
    });
  }
  return TicketPtr(new Ticket(job, id));
}

// On a thread of the pool.
Result<runtime::Pulled> ImagePuller::run(Job& job) const {
  if (job.cancelled)
    return fail(Errc::kCancelled, "cancelled: nobody waits for it any more");
  const std::string& name = job.destination.empty() ? job.request.image : job.destination;
  const runtime::Reference reference = SHOAL_TRY(runtime::parse_reference(name));
  runtime::PullOptions options = SHOAL_TRY_WRAP(registries_.options_for(reference),
                                                fmt::format("pull image {}", reference.str()));
  options.stall = options_.stall;
  const auto logins_at = [&](const runtime::Reference& at) {
    return runtime::credentials_for(at, job.request.docker_configs);
  };
  auto logins = SHOAL_TRY_WRAP(logins_at(reference), fmt::format("pull image {}", reference.str()));
  if (logins.size() > kCredentialsMax)
    logins.resize(kCredentialsMax);
  // A mirror's first one, beside each of the registry's.
  std::vector<std::pair<std::string, runtime::Credential>> mirrors;
  for (const std::string& host : registries_.mirror_hosts(reference))
    if (const auto own = logins_at({host + "/x", "latest", ""}); own && !own->empty())
      mirrors.emplace_back(host, own->front());
  std::optional<Error> first;
  for (std::size_t i = 0; i == 0 || i < logins.size(); ++i) {
    auto known = mirrors;
    if (!logins.empty())
      known.emplace_back(runtime::registry_of(reference), logins[i]);
    options.auth = runtime::render_auth_file(known);
    auto pulled = run_with(job, options);
    if (pulled || !is_refusal(pulled.error()))
      return pulled;
    if (!first)
      first = std::move(pulled).error();
  }
  return fail(std::move(*first));
}

Result<runtime::Pulled> ImagePuller::run_with(Job& job, runtime::PullOptions options) const {
  if (!job.destination.empty())
    return runtime::Pulled{SHOAL_TRY(runtime::push_image(store_, job.request.image, job.destination,
                                                         options, &job.cancelled)),
                           0, false};
  runtime::PullHooks hooks;
  hooks.cancelled = &job.cancelled;
  hooks.progress = [&job](const runtime::PullProgress& progress) {
    const std::lock_guard guard(job.mutex);
    job.progress = progress;
  };
  return runtime::pull_image(store_, job.request.image, options, hooks);
}

void ImagePuller::ended(const std::shared_ptr<Job>& job, Result<PullResult> result) {
  if (const auto it = jobs_->find(job->key); it != jobs_->end() && it->second == job)
    jobs_->erase(it);
  if (job->destination.empty()) {
    if (!result)
      (result.error().code() == Errc::kCancelled ? stats_.cancelled : stats_.failed)++;
    else
      (result->pulled.was_here ? stats_.known : stats_.pulled)++;
    if (result)
      stats_.bytes += result->pulled.fetched_bytes;
  }
  if (!result && result.error().code() == Errc::kExhausted && on_full_)
    on_full_();
  // A callback may drop other tickets of this job.
  while (!job->waiters.empty()) {
    auto waiter = job->waiters.extract(job->waiters.begin());
    waiter.mapped()(result);
  }
}

std::vector<PullView> ImagePuller::views() const {
  std::vector<PullView> out;
  for (const auto& [key, job] : *jobs_)
    out.push_back(job->view());
  std::ranges::sort(out, {}, &PullView::image);
  return out;
}

PullStats ImagePuller::stats() const {
  PullStats out = stats_;
  for (const auto& [key, job] : *jobs_)
    (job->running ? out.running : out.waiting)++;
  return out;
}

}  // namespace shoal::images

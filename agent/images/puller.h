// SPDX-License-Identifier: Apache-2.0
// ImagePuller: what this host pulls and pushes, for pods and for people. It owns a few threads of
// its own, so that a registry that hangs holds up nothing but other pulls.
//
// Requests for one image with the same credentials are one pull; those with others are not, or
// somebody would get what only the others may have. A pull that nobody waits for any more is ended.
// Credentials are tried in their order until one is let in; without any the registry is asked as
// nobody.
//
// Threading: the loop thread. Callbacks come on it, never from within pull() or push().
#pragma once

#include "agent/images/registries.h"
#include "netplane/base/clock.h"
#include "runtime/image/store.h"

#include <boost/asio/io_context.hpp>
#include <boost/asio/thread_pool.hpp>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

namespace shoal::images {

struct PullerOptions {
  std::size_t parallel = 3;
  std::chrono::milliseconds stall{60'000};
  std::vector<config::Registry> registries;
  std::filesystem::path dir;  // Registries' own
};

struct PullRequest {
  std::string image;
  std::vector<std::string> docker_configs;  // as docker_config() gives them
};

struct PullResult {
  runtime::Pulled pulled;
  std::chrono::milliseconds took{0};  // without the wait for a thread
};

struct PullView {
  std::string image;
  bool pushing = false;
  bool running = false;  // else it waits for a thread
  runtime::PullProgress progress;
};

struct PullStats {
  std::uint64_t pulled = 0;  // brought something
  std::uint64_t known = 0;   // the registry had what is here
  std::uint64_t failed = 0;
  std::uint64_t cancelled = 0;
  std::uint64_t bytes = 0;  // of layers
  std::size_t running = 0;
  std::size_t waiting = 0;
};

class ImagePuller {
  struct Job;

public:
  // Whoever holds it waits for the pull; dropping it is no longer wanting it, and then nothing is
  // called back.
  class Ticket {
  public:
    ~Ticket();
    Ticket(const Ticket&) = delete;
    Ticket& operator=(const Ticket&) = delete;
    PullView view() const;

  private:
    friend class ImagePuller;
    Ticket(std::shared_ptr<Job> job, std::uint64_t id) : job_(std::move(job)), id_(id) {}
    std::shared_ptr<Job> job_;
    std::uint64_t id_;
  };
  using TicketPtr = std::unique_ptr<Ticket>;
  using Done = std::function<void(Result<PullResult>)>;

  ImagePuller(boost::asio::io_context& loop, runtime::ImageStore& store, const Clock& clock,
              PullerOptions options);
  ~ImagePuller();  // ends what runs, and waits for it
  ImagePuller(const ImagePuller&) = delete;
  ImagePuller& operator=(const ImagePuller&) = delete;

  Result<> start();
  // The disk had no room for a pull.
  void on_full(std::function<void()> run) { on_full_ = std::move(run); }

  TicketPtr pull(PullRequest request, Done done);
  // An image of the store, to a registry.
  TicketPtr push(PullRequest request, std::string destination, Done done);

  std::vector<PullView> views() const;
  PullStats stats() const;

private:
  TicketPtr join(std::string key, PullRequest request, std::string destination, Done done);
  Result<runtime::Pulled> run(Job& job) const;
  Result<runtime::Pulled> run_with(Job& job, runtime::PullOptions options) const;
  void ended(const std::shared_ptr<Job>& job, Result<PullResult> result);

  boost::asio::io_context& loop_;
  runtime::ImageStore& store_;
  const Clock& clock_;
  PullerOptions options_;
  Registries registries_;
  std::function<void()> on_full_;
  std::shared_ptr<std::map<std::string, std::shared_ptr<Job>>> jobs_;  // by what is the same pull
  std::uint64_t next_id_ = 0;
  PullStats stats_;
  std::vector<std::weak_ptr<Job>> begun_;  // also those that nobody wants any more
  boost::asio::thread_pool threads_;
};

}  // namespace shoal::images

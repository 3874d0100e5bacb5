// SPDX-License-Identifier: Apache-2.0
#include "agent/daemon/lobby.h"

#include "agent/api/server.h"
#include "agent/api/store_writer.h"
#include "agent/daemon/cluster_admin.h"
#include "agent/daemon/join_client.h"
#include "agent/daemon/ports.h"
#include "agent/daemon/sd_notify.h"

#include <boost/asio/io_context.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/signal_set.hpp>
#include <boost/asio/thread_pool.hpp>
#include <boost/json.hpp>
#include <csignal>
#include <spdlog/spdlog.h>

namespace shoal::daemon {
namespace {

namespace asio = boost::asio;
namespace json = boost::json;

constexpr std::string_view kNotMember = "this host is in no cluster yet: run `shoal init` to begin "
                                        "one, or `shoal join ADDRESS TOKEN` with a token "
                                        "that `shoal token create` printed on a member";

class Lobby {
public:
  Lobby(const Options& options, const IpAddress& underlay, const Clock& clock, Random& random)
      : options_(options), underlay_(underlay), clock_(clock), random_(random),
        writer_(api::make_writer(
            replica_,
            [this](store::Txn, api::TxnDone done) {
              asio::post(loop_,
                         [done] { done(fail(Errc::kUnavailable, std::string(kNotMember))); });
            },
            [this](std::function<void()> run) { asio::post(loop_, std::move(run)); }, clock, random,
            {})),
        server_(loop_, replica_, *writer_, clock, {options.socket(), std::nullopt, {}}) {}

  Result<Ended> run() {
    routes();
    SHOAL_TRY(server_.start());
    asio::signal_set signals(loop_, SIGTERM, SIGINT);
    signals.async_wait([this](const boost::system::error_code& error, int) {
      if (!error)
        loop_.stop();
    });
    spdlog::info("{}; listening on {}", kNotMember, options_.socket().string());
    watchdog_.start();
    sd_notify("READY=1\nSTATUS=in no cluster yet");
    loop_.run();
    server_.stop();
    workers_.join();
    return ended_;
  }

private:
  void routes() {
    server_.route("GET", "/shoal/v1/status", [this](api::ExchangePtr x) {
      x->reply(200, json::object{{"phase", "NotMember"},
                                 {"node", options_.node_name},
                                 {"version", kVersion},
                                 {"message", kNotMember}});
    });
    server_.route("POST", "/shoal/v1/init", [this](api::ExchangePtr x) { init(x); });
    server_.route("POST", "/shoal/v1/join", [this](api::ExchangePtr x) { join(x); });
    for (const char* method : {"GET", "POST", "PUT", "PATCH", "DELETE"})
      for (const char* path : {"/api/*", "/apis/*", "/shoal/*"})
        server_.route(method, path, [](api::ExchangePtr x) {
          x->reply_error(Error(Errc::kUnavailable, std::string(kNotMember)));
        });
  }

  bool begin(const api::ExchangePtr& x) {
    if (busy_) {
      x->reply_error(Error(Errc::kConflict, "an init or join is under way already"));
      return false;
    }
    // Before anything is written or a token used up: a member that cannot listen is none.
    if (auto free = check_ports(options_); !free) {
      x->reply_error(free.error());
      return false;
    }
    return busy_ = true;
  }

  void init(const api::ExchangePtr& x) {
    if (!begin(x))
      return;
    auto files = make_cluster(options_.node_name, underlay_, options_.api.port, options_.cluster,
                              clock_, random_);
    finish(x, std::move(files));
  }

  void join(const api::ExchangePtr& x) {
    boost::system::error_code error;
    const json::value body = json::parse(x->request().body, error);
    const json::object* object = error ? nullptr : body.if_object();
    const auto text = [&](std::string_view key) {
      const json::value* value = object ? object->if_contains(key) : nullptr;
      return value && value->is_string() ? std::string(value->as_string()) : std::string();
    };
    auto member = SocketAddress::parse(text("address"));
    auto token = pki::JoinToken::parse(text("token"));
    if (!member)
      return x->reply_error(std::move(member).error().wrap("address"));
    if (!token)
      return x->reply_error(token.error());
    if (!begin(x))
      return;
    spdlog::info("joining through {}", member->to_string());
    asio::post(workers_, [this, x, member = *member, token = std::move(*token)] {
      auto files = join_cluster(member, token, options_.node_name, underlay_, clock_);
      asio::post(loop_,
                 [this, x, files = std::move(files)]() mutable { finish(x, std::move(files)); });
    });
  }

  void finish(const api::ExchangePtr& x, Result<ClusterFiles> files) {
    busy_ = false;
    if (files)
      if (auto saved = files->save(options_.state_dir); !saved)
        files = fail(std::move(saved).error());
    if (!files) {
      spdlog::error("{}", files.error().message());
      return x->reply_error(files.error());
    }
    x->reply(200, json::object{{"node", files->node_name}, {"clusterId", files->cluster_id}});
    ended_ = Ended::kChanged;
    busy_ = true;  // nothing more: the answer goes out, then the agent begins anew
    linger_.expires_after(std::chrono::milliseconds(100));
    linger_.async_wait([this](const boost::system::error_code&) { loop_.stop(); });
  }

  const Options& options_;
  const IpAddress underlay_;
  const Clock& clock_;
  Random& random_;
  asio::io_context loop_{1};
  asio::thread_pool workers_{1};
  asio::steady_timer linger_{loop_};
  Watchdog watchdog_{loop_};
  store::Replica replica_;
  std::unique_ptr<api::Writer> writer_;
  api::Server server_;
  Ended ended_ = Ended::kStopped;
  bool busy_ = false;
};

}  // namespace

Result<Ended> run_lobby(const Options& options, const IpAddress& underlay, const Clock& clock,
                        Random& random) {
  Lobby lobby(options, underlay, clock, random);
  return lobby.run();
}

}  // namespace shoal::daemon

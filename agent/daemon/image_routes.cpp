// SPDX-License-Identifier: Apache-2.0
// The images of this host: what is asked for at Shoal's own endpoints, and their garbage
// collection.
//
//   POST /shoal/v1/images/pull?name=REF                  body: {"credentials": TEXT}, may be empty
//   POST /shoal/v1/images/push?name=REF&destination=REF  the same
//
// Both answer 200 and a JSON document a line: {"phase", "bytes", "totalBytes", "layers",
// "totalLayers"} while it lasts, then {"image"} or {"error": {"code", "message"}}. A client that
// goes away ends what nobody else waits for.
#include "agent/daemon/agent_impl.h"
#include "agent/daemon/views.h"
#include "agent/images/pull_secrets.h"
#include "netplane/base/fs.h"
#include "runtime/image/reference.h"

#include <boost/asio/post.hpp>
#include <boost/json.hpp>
#include <fcntl.h>
#include <fmt/ranges.h>
#include <spdlog/spdlog.h>

namespace shoal::daemon {
namespace {

namespace asio = boost::asio;
namespace json = boost::json;

constexpr std::uint64_t kImageBytesMax = 64ULL << 30;
constexpr std::chrono::milliseconds kProgressEvery{200};

json::object progress_view(const images::PullView& view) {
  return {{"image", view.image},
          {"phase", !view.running  ? "waiting"
                    : view.pushing ? "pushing"
                                   : "pulling"},
          {"bytes", view.progress.bytes},
          {"totalBytes", view.progress.total_bytes},
          {"layers", view.progress.layers},
          {"totalLayers", view.progress.total_layers}};
}

// Tells one client of one pull, as fast as it reads.
class PullStream : public std::enable_shared_from_this<PullStream> {
public:
  PullStream(asio::io_context& loop, api::ExchangePtr exchange)
      : exchange_(std::move(exchange)), timer_(loop) {}

  template <class Begin>
  void start(Begin begin) {
    exchange_->begin(200, "application/x-ndjson");
    exchange_->on_gone([weak = weak_from_this()] {
      if (const auto self = weak.lock())
        self->stop();
    });
    ticket_ = begin([self = shared_from_this()](const Result<images::PullResult>& result) {
      self->end(result);
    });
    tick();
  }

private:
  void stop() {
    ticket_.reset();
    timer_.cancel();
    over_ = true;
  }

  void tick() {
    if (over_ || !ticket_)
      return;
    std::string line = json::serialize(progress_view(ticket_->view())) + "\n";
    if (!writing_ && line != told_) {
      told_ = line;
      write(std::move(line));
    }
    timer_.expires_after(kProgressEvery);
    timer_.async_wait([self = shared_from_this()](const boost::system::error_code& error) {
      if (!error)
        self->tick();
    });
  }

  void write(std::string line) {
    writing_ = true;
    exchange_->write(std::move(line), [self = shared_from_this()](bool ok) {
      self->writing_ = false;
      ok ? self->write_last() : self->stop();
    });
  }

  void write_last() {
    if (last_.empty() || over_ || writing_)
      return;
    over_ = true;
    exchange_->write(std::move(last_), [self = shared_from_this()](bool ok) {
      if (ok)
        self->exchange_->end();
    });
  }

  void end(const Result<images::PullResult>& result) {
    timer_.cancel();
    ticket_.reset();
    if (over_)
      return;
    json::object last;
    if (result)
      last = {{"image", image_view(result->pulled.info)},
              {"fetchedBytes", result->pulled.fetched_bytes},
              {"wasHere", result->pulled.was_here}};
    else
      last["error"] = json::object{{"code", to_string(result.error().code())},
                                   {"message", result.error().message()}};
    last_ = json::serialize(last) + "\n";
    write_last();
  }

  api::ExchangePtr exchange_;
  asio::steady_timer timer_;
  images::ImagePuller::TicketPtr ticket_;
  std::string told_;
  std::string last_;
  bool writing_ = false;
  bool over_ = false;
};

// The body of a pull or a push: credentials for the registry of `name`.
Result<images::PullRequest> read_request(const api::Request& request, std::string_view at) {
  images::PullRequest out;
  out.image = request.query_or("name");
  const runtime::Reference reference =
      SHOAL_TRY(runtime::parse_reference(at.empty() ? std::string_view(out.image) : at));
  if (request.body.empty())
    return out;
  boost::system::error_code error;
  const json::value body = json::parse(request.body, error);
  if (error || !body.is_object())
    return fail(Errc::kInvalid, "the body is not a JSON object");
  const json::value* text = body.get_object().if_contains("credentials");
  if (text && text->is_string() && !text->get_string().empty())
    out.docker_configs.push_back(SHOAL_TRY(
        images::docker_config_of_login(text->get_string(), runtime::registry_of(reference))));
  return out;
}

std::string not_enough(const images::GcReport& report) {
  if (report.missing_bytes == 0)
    return fmt::format("Failed to garbage collect required amount of images. Of the file system's "
                       "{} inodes {} were free, and no more images were eligible to free.",
                       report.before.inodes, report.before.inodes_free);
  return fmt::format("Failed to garbage collect required amount of images. Attempted to free {} "
                     "bytes, but only found {} bytes eligible to free.",
                     report.freed_bytes + report.missing_bytes, report.freed_bytes);
}

}  // namespace

Result<> Agent::Impl::open_images() {
  images = SHOAL_TRY(runtime::ImageStore::open(options.state_dir));
  images::PullerOptions pulling;
  pulling.parallel = options.parallel_pulls;
  pulling.stall = options.pull_stall;
  pulling.registries = options.registries;
  pulling.dir = options.run_dir / "images";
  puller = std::make_unique<images::ImagePuller>(loop, *images, clock, std::move(pulling));
  SHOAL_TRY_WRAP(puller->start(), "prepare what skopeo is told of registries");
  images::ImageGc::Hooks hooks;
  hooks.named = [this]() -> std::optional<std::set<std::string>> {
    return pods && pods->settled() ? std::optional(pods->images()) : std::nullopt;
  };
  hooks.done = [this](const images::GcReport& report) {
    if (!report.images.empty() || report.freed_bytes > 0)
      spdlog::info("images were {} % of their file system: {} bytes came free, removed were [{}]",
                   report.before.used_percent(), report.freed_bytes,
                   fmt::join(report.images, ", "));
    if (!report.enough)
      tell_of_node("FreeDiskSpaceFailed", not_enough(report));
  };
  hooks.failed = [this](const Error& error) { tell_of_node("ImageGCFailed", error.message()); };
  image_gc = std::make_unique<images::ImageGc>(loop, workers, *images, clock, options.image_gc,
                                               std::move(hooks));
  puller->on_full([this] { image_gc->run(); });
  return {};
}

void Agent::Impl::tell_of_node(std::string_view reason, const std::string& message) {
  spdlog::warn("{}: {}", reason, message);
  if (const auto node = view.get(view::kNodes, "", files.node_name))
    writer->event(*node, "Warning", reason, message, "shoald");
}

// Holders are containers: UID_NAME-ATTEMPT. A pod that the API has no more is told by its uid.
json::array Agent::Impl::pods_of(const std::vector<std::string>& holders) const {
  std::set<std::string> names;
  for (const std::string& holder : holders) {
    const std::string uid = holder.substr(0, holder.find('_'));
    const auto pod = view.by_uid(uid);
    names.insert(pod ? fmt::format("{}/{}", pod->ns, pod->name) : uid);
  }
  json::array out;
  for (const std::string& name : names)
    out.emplace_back(name);
  return out;
}

json::object Agent::Impl::images_view() const {
  json::array list;
  for (const runtime::ImageUse& use : images->uses()) {
    json::object image = image_view(use.info);
    image["pinned"] = use.info.pinned;
    image["lastUsed"] = rfc3339(use.last_used);
    image["usedBy"] = pods_of(use.holders);
    list.push_back(std::move(image));
  }
  json::array running;
  for (const images::PullView& pull : puller->views())
    running.push_back(progress_view(pull));
  return {{"images", std::move(list)}, {"pulls", std::move(running)}};
}

void Agent::Impl::pull_image(const api::ExchangePtr& x) {
  auto request = read_request(x->request(), "");
  if (!request)
    return x->reply_error(request.error());
  std::make_shared<PullStream>(loop, x)->start(
      [&](images::ImagePuller::Done done) { return puller->pull(*request, std::move(done)); });
}

void Agent::Impl::push_image(const api::ExchangePtr& x) {
  std::string destination(x->request().query_or("destination"));
  if (destination.empty())
    destination = x->request().query_or("name");
  auto request = read_request(x->request(), destination);
  if (!request)
    return x->reply_error(request.error());
  if (const auto here = images->resolve(request->image); !here)
    return x->reply_error(here.error());
  std::make_shared<PullStream>(loop, x)->start([&](images::ImagePuller::Done done) {
    return puller->push(*request, destination, std::move(done));
  });
}

// The body goes to a temporary file of the state folder on the loop, in small pieces; the load runs
// on a worker.
void Agent::Impl::load_image(const api::ExchangePtr& x) {
  const std::filesystem::path folder = options.state_dir / "uploads";
  if (auto made = make_dirs(folder, 0700); !made)
    return x->reply_error(made.error());
  UniqueFd fd(::open(folder.c_str(), O_TMPFILE | O_RDWR | O_CLOEXEC, 0600));
  if (!fd)
    return x->reply_error(
        Error::from_errno(fmt::format("make a temporary file in {}", folder.string())));
  auto held = std::make_shared<UniqueFd>(std::move(fd));
  std::optional<std::string> name;
  if (const std::string_view text = x->request().query_or("name"); !text.empty())
    name = text;
  x->body_to_file(held->get(), kImageBytesMax, [this, x, held, name](Result<std::uint64_t> size) {
    if (!size)
      return x->reply_error(Error(size.error())
                                .wrap(fmt::format("receive the image into {}",
                                                  (options.state_dir / "uploads").string())));
    asio::post(workers, [this, x, held, name] {
      ::lseek(held->get(), 0, SEEK_SET);
      auto loaded = images->load_fd(held->get(), name);
      asio::post(loop, [x, loaded = std::move(loaded)] {
        if (!loaded)
          return x->reply_error(loaded.error());
        json::array list;
        for (const runtime::ImageInfo& image : *loaded)
          list.push_back(image_view(image));
        x->reply(200, json::object{{"images", std::move(list)}});
      });
    });
  });
}

void Agent::Impl::remove_image(const api::ExchangePtr& x) {
  const std::string reference = x->request().params.at("*");
  asio::post(workers, [this, x, reference] {
    auto removed = images->remove(reference);
    asio::post(loop, [this, x, removed = std::move(removed)] {
      if (!removed)
        return x->reply_error(removed.error());
      x->reply(200, json::object{{"untagged", json::value_from(removed->untagged)},
                                 {"deleted", removed->deleted},
                                 {"freedBytes", removed->freed_bytes},
                                 {"refs", json::value_from(removed->refs)},
                                 {"usedBy", pods_of(removed->holders)}});
    });
  });
}

}  // namespace shoal::daemon

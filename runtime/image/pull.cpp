// SPDX-License-Identifier: Apache-2.0
#include "runtime/image/pull.h"

#include "netplane/base/fs.h"
#include "netplane/base/process_watch.h"
#include "netplane/base/strings.h"
#include "runtime/image/manifest.h"
#include "runtime/image/reference.h"
#include "runtime/image/sha256.h"

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <fmt/format.h>
#include <sys/stat.h>
#include <system_error>
#include <unistd.h>

namespace shoal::runtime {
namespace {

namespace fs = std::filesystem;

constexpr std::chrono::milliseconds kLook{200};
constexpr std::size_t kMessageBytesMax = 1000;
constexpr std::uint64_t kSlackBytes = 16 << 20;  // documents, and what skopeo writes beside blobs

Error classify(std::string message) {
  const auto has = [&](std::string_view word) { return message.find(word) != std::string::npos; };
  Errc code = Errc::kUnavailable;
  if (has("no space left on device"))
    code = Errc::kExhausted;
  else if (has("manifest unknown") || has("name unknown") || has("not found"))
    code = Errc::kNotFound;
  else if (has("unauthorized") || has("authentication required") || has("denied"))
    code = Errc::kPermission;
  else if (has("igest") && (has("mismatch") || has("did not match") || has("does not match")))
    code = Errc::kCorrupt;
  return Error(code, std::move(message));
}

// Everything below a folder; what goes meanwhile is not counted.
std::uint64_t bytes_in(const fs::path& dir) {
  std::uint64_t bytes = 0;
  std::error_code ec;
  for (auto it = fs::recursive_directory_iterator(dir, ec);
       !ec && it != fs::recursive_directory_iterator(); it.increment(ec)) {
    struct stat st{};
    if (::lstat(it->path().c_str(), &st) == 0 && S_ISREG(st.st_mode))
      bytes += static_cast<std::uint64_t>(st.st_size);
  }
  return bytes;
}

class Pull {
public:
  Pull(ImageStore& store, Reference reference, const PullOptions& options, const PullHooks& hooks)
      : store_(store), reference_(std::move(reference)), options_(options), hooks_(hooks) {}

  Result<ImageInfo> run();

private:
  struct Document {
    Descriptor entry;
    std::string text;
  };

  Result<> not_cancelled() const {
    if (hooks_.cancelled && hooks_.cancelled->load())
      return fail(Errc::kUnavailable, "the pull was cancelled");
    return {};
  }
  std::string source(const std::string& digest) const {
    return digest.empty() ? "docker://" + reference_.str()
                          : fmt::format("docker://{}@{}", reference_.repository, digest);
  }
  Result<std::string> skopeo(std::vector<std::string> argv, std::chrono::milliseconds timeout,
                             std::function<Result<>()> watch = {}) const;
  Result<std::string> inspect(const std::string& digest, bool config) const;
  Result<Document> document(const std::string& digest) const;
  Result<Document> manifest_of(const Document& top) const;
  Result<> fetch(const Document& top, const Document& image) const;
  Result<> fetch_layers(const std::string& digest, const Manifest& manifest) const;
  Result<> write_blob(const std::string& digest, std::string_view bytes) const {
    return write_file_atomic(blob(digest), bytes);
  }
  fs::path blob(const std::string& digest) const {
    return dir_ / "blobs" / "sha256" / digest_hex(digest);
  }

  ImageStore& store_;
  Reference reference_;
  const PullOptions& options_;
  const PullHooks& hooks_;
  fs::path dir_;
};

Result<std::string> Pull::skopeo(std::vector<std::string> argv, std::chrono::milliseconds timeout,
                                 std::function<Result<>()> watch) const {
  SHOAL_TRY(not_cancelled());
  const fs::path work = store_.pull_dir();
  // Neither root's own credentials nor a configuration of its home.
  const fs::path no_auth = work / "no-auth.json";
  if (options_.auth_file.empty())
    SHOAL_TRY(write_file_atomic(no_auth, "{}"));
  std::vector<std::string> all = {options_.skopeo, "--tmpdir", work.string(), "--insecure-policy"};
  all.insert(all.end(), argv.begin(), argv.end());
  all.insert(
      all.begin() + 5,
      {"--authfile", options_.auth_file.empty() ? no_auth.string() : options_.auth_file.string()});
  RunOptions run;
  run.timeout = timeout;
  run.output_bytes_max = store_.options().limits.json_bytes_max + 1;
  run.env = {"HOME=" + work.string(), "LC_ALL=C"};
  for (const char* name : {"PATH", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy",
                           "https_proxy", "no_proxy", "SSL_CERT_FILE", "SSL_CERT_DIR"})
    if (const char* value = std::getenv(name))
      run.env.push_back(fmt::format("{}={}", name, value));
  if (!options_.registries_conf.empty())
    run.env.push_back("CONTAINERS_REGISTRIES_CONF=" + options_.registries_conf.string());
  auto output = run_watched(
      all, run,
      [&]() -> Result<> {
        SHOAL_TRY(not_cancelled());
        return watch ? watch() : Result<>();
      },
      kLook);
  if (!output && output.error().code() == Errc::kTimeout && !watch)
    return fail(Errc::kTimeout,
                fmt::format("the registry did not answer within {} s", timeout.count() / 1000));
  if (!output && output.error().sys_errno() == ENOENT)
    return fail(Errc::kUnavailable,
                fmt::format("{} is not installed: pulling from registries needs "
                            "it (apt-get install skopeo)",
                            options_.skopeo));
  if (!output)
    return fail(std::move(output).error());
  if (output->exit_code != 0)
    return fail(classify(skopeo_message(output->err)));
  return std::move(output->out);
}

Result<std::string> Pull::inspect(const std::string& digest, bool config) const {
  std::vector<std::string> argv = {"inspect", "--raw"};
  if (config)
    argv.emplace_back("--config");
  if (options_.insecure)
    argv.emplace_back("--tls-verify=false");
  argv.push_back(source(digest));
  std::string text = SHOAL_TRY(skopeo(std::move(argv), options_.document_timeout));
  if (text.size() > store_.options().limits.json_bytes_max)
    return fail(Errc::kExhausted, fmt::format("the registry's document is larger than {} bytes",
                                              store_.options().limits.json_bytes_max));
  return text;
}

// `digest` empty: what the reference names.
Result<Pull::Document> Pull::document(const std::string& digest) const {
  Document out;
  out.text = SHOAL_TRY(inspect(digest, false));
  const std::string wanted = digest.empty() ? reference_.digest : digest;
  out.entry.digest = sha256_digest(out.text);
  if (!wanted.empty() && out.entry.digest != wanted)
    return fail(Errc::kCorrupt, fmt::format("the registry answers with {}, and asked for was {}",
                                            out.entry.digest, wanted));
  out.entry.size = out.text.size();
  out.entry.media_type = SHOAL_TRY(document_type(out.text));
  return out;
}

Result<Pull::Document> Pull::manifest_of(const Document& top) const {
  if (is_manifest_type(top.entry.media_type))
    return top;
  const Platform& platform = store_.options().platform;
  const PlatformName want{platform.os, platform.architecture, platform.variant};
  std::vector<std::string> seen;
  for (const Descriptor& entry : SHOAL_TRY(parse_index(top.text))) {
    if (is_attestation(entry) || !is_manifest_type(entry.media_type))
      continue;
    if (!entry.platform || entry.platform->os.empty() || platform_fits(*entry.platform, want))
      return document(entry.digest);
    seen.push_back(entry.platform->str());
  }
  return fail(Errc::kUnsupported,
              fmt::format("no image for {}: the index has {}", want.str(), fmt::join(seen, ", ")));
}

Result<> Pull::fetch_layers(const std::string& digest, const Manifest& manifest) const {
  std::uint64_t total = 0;
  std::uint64_t here = 0;
  for (const Descriptor& layer : manifest.layers) {
    if (layer.size > store_.options().limits.blob_bytes_max)
      return fail(Errc::kExhausted,
                  fmt::format("layer {} has {} bytes, more than {}", layer.digest, layer.size,
                              store_.options().limits.blob_bytes_max));
    total += layer.size;
    std::error_code ec;
    const auto size = fs::file_size(blob(layer.digest), ec);
    if (!ec && size == layer.size)
      here += size;
    else
      fs::remove(blob(layer.digest), ec);
  }
  const auto tell = [&](std::uint64_t bytes) {
    if (hooks_.progress)
      hooks_.progress({std::min(bytes, total), total});
  };
  tell(here);
  if (here == total)
    return {};
  auto moved = std::chrono::steady_clock::now();
  std::uint64_t last = 0;
  const auto watch = [&]() -> Result<> {
    const std::uint64_t bytes = bytes_in(dir_);
    const auto now = std::chrono::steady_clock::now();
    if (bytes > total + manifest.config.size + kSlackBytes)
      return fail(Errc::kExhausted, fmt::format("the registry sends more than the {} bytes that "
                                                "the image's manifest says",
                                                total));
    if (bytes != last)
      moved = now;
    last = bytes;
    tell(bytes);
    if (now - moved >= options_.stall)
      return fail(Errc::kTimeout, fmt::format("the registry sent nothing for {} s; {} of {} bytes "
                                              "are here",
                                              options_.stall.count() / 1000, bytes, total));
    return {};
  };
  std::vector<std::string> argv = {"copy", "--quiet", "--remove-signatures"};
  if (options_.insecure)
    argv.emplace_back("--src-tls-verify=false");
  argv.push_back(source(digest));
  argv.push_back(fmt::format("oci:{}:pull", dir_.string()));
  SHOAL_TRY(skopeo(std::move(argv), options_.blobs_timeout, watch));
  tell(total);
  return {};
}

Result<> Pull::fetch(const Document& top, const Document& image) const {
  const Manifest manifest = SHOAL_TRY(parse_manifest(image.text));
  SHOAL_TRY(make_dirs(dir_ / "blobs" / "sha256", 0700));
  // What a killed skopeo left half.
  std::error_code ec;
  for (auto it = fs::directory_iterator(dir_, ec); !ec && it != fs::directory_iterator();
       it.increment(ec))
    if (it->is_regular_file(ec))
      fs::remove(it->path(), ec);
  for (const Descriptor& layer : manifest.layers)
    if (const auto stored = store_.blob_file(layer.digest))
      (void)::link(stored->c_str(), blob(layer.digest).c_str());  // else it is fetched
  SHOAL_TRY(fetch_layers(image.entry.digest, manifest));
  // skopeo may have written these anew in another form: the store gets them as the registry has
  // them.
  if (!store_.blob_file(manifest.config.digest)) {
    const std::string config = SHOAL_TRY(inspect(image.entry.digest, true));
    if (sha256_digest(config) != manifest.config.digest)
      return fail(Errc::kCorrupt, fmt::format("the registry's image config is {}, the manifest "
                                              "says {}",
                                              sha256_digest(config), manifest.config.digest));
    SHOAL_TRY(write_blob(manifest.config.digest, config));
  }
  SHOAL_TRY(write_blob(top.entry.digest, top.text));
  SHOAL_TRY(write_blob(image.entry.digest, image.text));
  SHOAL_TRY(write_file_atomic(dir_ / "oci-layout", R"({"imageLayoutVersion":"1.0.0"})"));
  return write_file_atomic(dir_ / "index.json", render_layout_index(top.entry));
}

Result<ImageInfo> Pull::run() {
  if (reference_.repository.empty())
    return fail(Errc::kInvalid, "a digest alone names no registry to pull from");
  SHOAL_TRY(make_dirs(store_.pull_dir(), 0700));
  const Document top = SHOAL_TRY(document(""));
  if (auto known = store_.resolve(top.entry.digest);
      known && std::ranges::find(known->refs, reference_.str()) != known->refs.end())
    return known;
  const Document image = SHOAL_TRY(manifest_of(top));
  dir_ = store_.pull_dir() / digest_hex(image.entry.digest);
  auto fetched = fetch(top, image);
  Result<std::vector<ImageInfo>> loaded = std::vector<ImageInfo>();
  if (fetched)
    loaded = store_.load(dir_, reference_.str());
  const Error* error = !fetched ? &fetched.error() : !loaded ? &loaded.error() : nullptr;
  const bool go_on = error && error->code() != Errc::kExhausted && error->code() != Errc::kCorrupt;
  std::error_code ignored;  // what stays is looked at by the next pull of it
  if (!go_on)
    fs::remove_all(dir_, ignored);
  if (error)
    return fail(Error(*error));
  return std::move(loaded->front());
}

}  // namespace

std::string skopeo_message(std::string_view text) {
  text = trim(text);
  text = text.substr(text.rfind('\n') == std::string_view::npos ? 0 : text.rfind('\n') + 1);
  constexpr std::string_view kField = " msg=\"";
  const std::size_t at = text.find(kField);
  if (at == std::string_view::npos)
    return printable(text, kMessageBytesMax);
  std::string out;
  for (std::size_t i = at + kField.size(); i < text.size() && text[i] != '"'; ++i) {
    if (text[i] == '\\' && i + 1 < text.size())
      ++i;
    out += text[i];
  }
  return printable(out, kMessageBytesMax);
}

Result<ImageInfo> pull_image(ImageStore& store, std::string_view text, const PullOptions& options,
                             const PullHooks& hooks) {
  Reference reference = SHOAL_TRY(parse_reference(text));
  const std::string name = reference.str();
  auto pulled = Pull(store, std::move(reference), options, hooks).run();
  if (!pulled)
    return fail(std::move(pulled).error().wrap(fmt::format("pull image {}", name)));
  return pulled;
}

}  // namespace shoal::runtime

// SPDX-License-Identifier: Apache-2.0
#include "runtime/image/pull.h"

#include "netplane/base/fs.h"
#include "runtime/image/manifest.h"
#include "runtime/image/reference.h"
#include "runtime/image/sha256.h"
#include "runtime/image/skopeo.h"
#include "runtime/image/tree.h"

#include <algorithm>
#include <cerrno>
#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <system_error>
#include <unistd.h>

namespace shoal::runtime {
namespace {

namespace fs = std::filesystem;

constexpr std::uint64_t kSlackBytes = 16 << 20;  // documents, and what skopeo writes beside blobs

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

  Result<Pulled> run();

private:
  struct Document {
    Descriptor entry;
    std::string text;
  };

  std::string source(const std::string& digest) const {
    return digest.empty() ? "docker://" + reference_.str()
                          : fmt::format("docker://{}@{}", reference_.repository, digest);
  }
  Result<std::string> skopeo(std::vector<std::string> arguments,
                             std::function<Result<>()> watch = {}) const;
  Result<std::string> inspect(const std::string& digest, bool config) const;
  Result<Document> document(const std::string& digest) const;
  Result<Document> manifest_of(const Document& top) const;
  Result<std::uint64_t> fetch(const Document& top, const Document& image) const;
  Result<std::uint64_t> fetch_layers(const std::string& digest, const Manifest& manifest) const;
  std::size_t whole_layers(const Manifest& manifest) const;
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

Result<std::string> Pull::skopeo(std::vector<std::string> arguments,
                                 std::function<Result<>()> watch) const {
  const SkopeoRun run{std::move(arguments), store_.pull_dir(),
                      store_.options().limits.json_bytes_max + 1, std::move(watch)};
  return run_skopeo(options_, run, hooks_.cancelled);
}

Result<std::string> Pull::inspect(const std::string& digest, bool config) const {
  std::vector<std::string> argv = {"inspect", "--raw"};
  if (config)
    argv.emplace_back("--config");
  if (options_.insecure)
    argv.emplace_back("--tls-verify=false");
  if (!options_.cert_dir.empty())
    argv.insert(argv.end(), {"--cert-dir", options_.cert_dir.string()});
  argv.push_back(source(digest));
  std::string text = SHOAL_TRY(skopeo(std::move(argv)));
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

std::size_t Pull::whole_layers(const Manifest& manifest) const {
  const auto whole = [&](const Descriptor& layer) {
    std::error_code ec;
    return fs::file_size(blob(layer.digest), ec) == layer.size && !ec;
  };
  return static_cast<std::size_t>(std::ranges::count_if(manifest.layers, whole));
}

// Returns how many bytes were not here before.
Result<std::uint64_t> Pull::fetch_layers(const std::string& digest,
                                         const Manifest& manifest) const {
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
      hooks_.progress(
          {std::min(bytes, total), total, whole_layers(manifest), manifest.layers.size()});
  };
  tell(here);
  if (here == total)
    return 0;
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
  if (!options_.cert_dir.empty())
    argv.insert(argv.end(), {"--src-cert-dir", options_.cert_dir.string()});
  argv.push_back(source(digest));
  argv.push_back(fmt::format("oci:{}:pull", dir_.string()));
  SHOAL_TRY(skopeo(std::move(argv), watch));
  tell(total);
  return total - here;
}

Result<std::uint64_t> Pull::fetch(const Document& top, const Document& image) const {
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
      fs::create_hard_link(*stored, blob(layer.digest), ec);  // else it is fetched
  const std::uint64_t bytes = SHOAL_TRY(fetch_layers(image.entry.digest, manifest));
  // skopeo may have written these anew in another form, under another name then: the store gets
  // them as the registry has them.
  const auto written =
      read_file(blob(manifest.config.digest), store_.options().limits.json_bytes_max);
  const bool have = written && sha256_digest(*written) == manifest.config.digest;
  if (!have && !store_.blob_file(manifest.config.digest)) {
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
  SHOAL_TRY(write_file_atomic(dir_ / "index.json", render_layout_index(top.entry)));
  return bytes;
}

Result<Pulled> Pull::run() {
  if (reference_.repository.empty())
    return fail(Errc::kInvalid, "a digest alone names no registry to pull from");
  SHOAL_TRY(make_dirs(store_.pull_dir(), 0700));
  const Document top = SHOAL_TRY(document(""));
  if (auto known = store_.resolve(top.entry.digest);
      known && std::ranges::find(known->refs, reference_.str()) != known->refs.end())
    return Pulled{std::move(*known), 0, true};
  const Document image = SHOAL_TRY(manifest_of(top));
  const std::string folder(digest_hex(image.entry.digest));
  const auto claim = SHOAL_TRY(
      store_.pulls().claim(folder, [&] { return not_cancelled(hooks_.cancelled); }, kSkopeoLook));
  dir_ = store_.pull_dir() / folder;
  auto fetched = fetch(top, image);
  Result<std::vector<ImageInfo>> loaded = std::vector<ImageInfo>();
  if (fetched)
    loaded = store_.load(dir_, reference_.str(), Origin::kPulled);
  const Error* error = !fetched ? &fetched.error() : !loaded ? &loaded.error() : nullptr;
  const bool go_on = error && error->code() != Errc::kExhausted && error->code() != Errc::kCorrupt;
  std::error_code ignored;  // what stays is looked at by the next pull of it
  if (!go_on)
    fs::remove_all(dir_, ignored);
  if (error)
    return fail(Error(*error));
  return Pulled{std::move(loaded->front()), *fetched, false};
}

}  // namespace

Result<Pulled> pull_image(ImageStore& store, std::string_view text, const PullOptions& options,
                          const PullHooks& hooks) {
  Reference reference = SHOAL_TRY(parse_reference(text));
  const std::string name = reference.str();
  auto pulled = Pull(store, std::move(reference), options, hooks).run();
  if (!pulled)
    return fail(std::move(pulled).error().wrap(fmt::format("pull image {}", name)));
  return pulled;
}

Result<std::uint64_t> drop_pulls(ImageStore& store, std::chrono::seconds age) {
  std::uint64_t freed = 0;
  const fs::path dir = store.pull_dir();
  std::vector<std::string> names;
  std::error_code ec;
  for (auto it = fs::directory_iterator(dir, ec); !ec && it != fs::directory_iterator();
       it.increment(ec))
    names.push_back(it->path().filename());
  if (names.empty())
    return freed;
  const UniqueFd fd = SHOAL_TRY(open_folder(AT_FDCWD, dir.c_str()));
  const auto before = fs::file_time_type::clock::now() - age;
  for (const std::string& name : names) {
    const auto hold = store.pulls().try_claim(name);
    if (!hold)
      continue;
    auto touched = fs::last_write_time(dir / name / "blobs" / "sha256", ec);
    if (ec)
      touched = fs::last_write_time(dir / name, ec);
    if (!ec && touched <= before)
      freed += SHOAL_TRY_WRAP(remove_tree(fd.get(), name), dir.string());
  }
  return freed;
}

}  // namespace shoal::runtime

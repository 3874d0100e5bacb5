// SPDX-License-Identifier: Apache-2.0
#include "runtime/image/push.h"

#include "netplane/base/fs.h"
#include "runtime/image/manifest.h"
#include "runtime/image/reference.h"
#include "runtime/image/sha256.h"
#include "runtime/image/skopeo.h"

#include <fmt/format.h>
#include <system_error>

namespace shoal::runtime {
namespace {

namespace fs = std::filesystem;

// A layout folder of links to the store's blobs.
Result<> make_layout(const ImageStore& store, const ImageInfo& info, const fs::path& dir) {
  SHOAL_TRY(make_dirs(dir / "blobs" / "sha256", 0700));
  const auto link = [&](const std::string& digest) -> Result<fs::path> {
    const auto file = store.blob_file(digest);
    const fs::path to = dir / "blobs" / "sha256" / digest_hex(digest);
    std::error_code ec;
    if (file)
      fs::create_hard_link(*file, to, ec);
    if (!file || (ec && ec != std::errc::file_exists))
      return fail(Errc::kUnavailable, fmt::format("blob {} was removed meanwhile", digest));
    return to;
  };
  const fs::path manifest_file = SHOAL_TRY(link(info.digest));
  const std::string text =
      SHOAL_TRY(read_file(manifest_file, store.options().limits.json_bytes_max));
  const Manifest manifest = SHOAL_TRY(parse_manifest(text));
  SHOAL_TRY(link(manifest.config.digest));
  for (const Descriptor& layer : manifest.layers)
    SHOAL_TRY(link(layer.digest));
  Descriptor entry;
  entry.media_type = SHOAL_TRY(document_type(text));
  entry.digest = info.digest;
  entry.size = text.size();
  SHOAL_TRY(write_file_atomic(dir / "oci-layout", R"({"imageLayoutVersion":"1.0.0"})"));
  return write_file_atomic(dir / "index.json", render_layout_index(entry));
}

}  // namespace

Result<ImageInfo> push_image(ImageStore& store, std::string_view image,
                             std::string_view destination_text, const PullOptions& options,
                             const std::atomic<bool>* cancelled) {
  const Reference destination = SHOAL_TRY(parse_reference(destination_text));
  if (destination.tag.empty() || destination.repository.empty())
    return fail(Errc::kInvalid,
                fmt::format("{}: images are pushed to a repository and a tag", destination_text));
  const ImageInfo info = SHOAL_TRY(store.resolve(image));
  const auto run = [&]() -> Result<> {
    const std::string name = fmt::format("push-{}", digest_hex(info.digest));
    const auto claim =
        SHOAL_TRY(store.pulls().claim(name, [&] { return not_cancelled(cancelled); }, kSkopeoLook));
    const fs::path dir = store.pull_dir() / name;
    auto made = make_layout(store, info, dir);
    if (made) {
      SkopeoRun skopeo;
      skopeo.work_dir = store.pull_dir();
      skopeo.arguments = {"copy", "--quiet", "--preserve-digests"};
      if (options.insecure)
        skopeo.arguments.emplace_back("--dest-tls-verify=false");
      if (!options.cert_dir.empty())
        skopeo.arguments.insert(skopeo.arguments.end(),
                                {"--dest-cert-dir", options.cert_dir.string()});
      skopeo.arguments.push_back(fmt::format("oci:{}", dir.string()));
      skopeo.arguments.push_back("docker://" + destination.str());
      // What is sent cannot be seen from here: it ends when whoever asked has had enough.
      skopeo.watch = [] { return Result<>(); };
      if (auto sent = run_skopeo(options, skopeo, cancelled); !sent)
        made = fail(std::move(sent).error());
    }
    std::error_code ignored;  // drop_pulls() finds it
    fs::remove_all(dir, ignored);
    return made;
  };
  SHOAL_TRY(make_dirs(store.pull_dir(), 0700));
  if (auto pushed = run(); !pushed)
    return fail(std::move(pushed).error().wrap(fmt::format("push image {}", destination.str())));
  return info;
}

}  // namespace shoal::runtime

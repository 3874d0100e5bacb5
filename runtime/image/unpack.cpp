// SPDX-License-Identifier: Apache-2.0
#include "runtime/image/unpack.h"

#include "runtime/image/layer_writer.h"
#include "runtime/image/sha256.h"
#include "runtime/image/stream.h"

#include <fmt/format.h>

namespace shoal::runtime {
namespace {

// Passes a stream on, hashed and bounded.
class HashedSource final : public ByteSource {
public:
  HashedSource(ByteSource& from, std::uint64_t bytes_max) : from_(from), bytes_max_(bytes_max) {}

  Result<std::string_view> next() override {
    const std::string_view bytes = SHOAL_TRY(from_.next());
    count_ += bytes.size();
    if (count_ > bytes_max_)
      return fail(Errc::kExhausted,
                  fmt::format("the layer unpacks to more than {} bytes", bytes_max_));
    hash_.update(bytes);
    return bytes;
  }

  // The rest of the stream (tar readers stop at the end marker), then the digest of all of it.
  Result<std::string> drain() {
    while (!SHOAL_TRY(next()).empty()) {
    }
    return hash_.digest();
  }
  std::uint64_t count() const { return count_; }

private:
  ByteSource& from_;
  Sha256 hash_;
  std::uint64_t bytes_max_;
  std::uint64_t count_ = 0;
};

}  // namespace

Result<UnpackStats> unpack_layer(int blob_fd, std::string_view diff_id, int root_fd,
                                 const UnpackLimits& limits) {
  const Utf8Locale locale;
  FdSource file(blob_fd);
  Decompressor plain(file);
  HashedSource hashed(plain, limits.bytes_max);
  LayerWriter writer(root_fd);
  {
    TarReader tar(hashed);
    while (archive_entry* entry = SHOAL_TRY(tar.next())) {
      if (++writer.stats.entries > limits.entries_max)
        return fail(Errc::kExhausted,
                    fmt::format("the layer has more than {} entries", limits.entries_max));
      SHOAL_TRY(writer.add(entry, tar));
    }
  }
  const std::string digest = SHOAL_TRY(hashed.drain());
  if (digest != diff_id)
    return fail(Errc::kCorrupt, fmt::format("the layer's content is {}, its image config says {}",
                                            digest, diff_id));
  SHOAL_TRY(writer.finish());
  writer.stats.bytes = hashed.count();
  return writer.stats;
}

}  // namespace shoal::runtime

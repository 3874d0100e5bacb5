// SPDX-License-Identifier: Apache-2.0
// HTTP/1.1 to the daemon over its unix socket, one request a connection, synchronous and bounded in
// time. What the daemon answers with a status above 299 is a value here (Response); an Error means
// that no answer came (with a sys_errno when there was nobody to ask).
#pragma once

#include "netplane/base/result.h"
#include "netplane/base/unique_fd.h"

#include <chrono>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

namespace shoal::cli {

inline constexpr std::string_view kDefaultSocket = "/run/shoal/shoald.sock";
inline constexpr std::size_t kBodyBytesMax = 256 << 20;  // of an answer that is kept whole
inline constexpr std::chrono::seconds kAnswerTimeout{60};
inline constexpr std::chrono::seconds kUploadProgressTimeout{60};

struct Response {
  int status = 0;
  std::string body;
  std::vector<std::string> warnings;  // the text of Warning: 299 headers
  bool ok() const { return status >= 200 && status < 300; }
};

struct Request {
  std::string method = "GET";
  std::string target;  // path and query, percent-encoded
  std::string body;
  std::string content_type = "application/json";
  std::string accept = "application/json";
};

// A connection that has left HTTP, and what the peer sent right behind its headers.
struct Upgraded {
  UniqueFd fd;
  std::string early;
};

class Client {
public:
  explicit Client(std::filesystem::path socket) : socket_(std::move(socket)) {}
  virtual ~Client() = default;

  virtual Result<Response> send(const Request& request) const;
  // Gives the body piece by piece as it comes, without a bound on time, until it ends or `on_bytes`
  // returns false. The body of a refusal is collected into the Response instead.
  virtual Result<Response> stream(const Request& request,
                                  const std::function<bool(std::string_view)>& on_bytes) const;
  // Sends `bytes` bytes from fd as the body; on_progress gets the bytes sent so far.
  virtual Result<Response> upload(const Request& request, int fd, std::uint64_t bytes,
                                  const std::function<void(std::uint64_t)>& on_progress) const;
  // 101: the connection is handed over. Anything else: refused holds the answer.
  virtual Result<Upgraded> upgrade(const Request& request, std::string_view protocol,
                                   Response& refused) const;

private:
  std::filesystem::path socket_;
};

}  // namespace shoal::cli

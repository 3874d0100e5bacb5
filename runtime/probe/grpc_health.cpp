// SPDX-License-Identifier: Apache-2.0
#include "runtime/probe/grpc_health.h"

#include "netplane/base/strings.h"

#include <algorithm>
#include <array>
#include <fmt/format.h>
#include <nghttp2/nghttp2.h>

namespace shoal::runtime {
namespace {

constexpr std::size_t kPrefixBytes = 5;  // before a message: whether it is compressed, its length
constexpr std::size_t kAnswerBytesMax = 4096;
constexpr std::size_t kHeaderTextMax = 1024;  // of what is kept of a header

constexpr std::array kCodeNames = std::to_array<std::string_view>(
    {"OK", "Canceled", "Unknown", "InvalidArgument", "DeadlineExceeded", "NotFound",
     "AlreadyExists", "PermissionDenied", "ResourceExhausted", "FailedPrecondition", "Aborted",
     "OutOfRange", "Unimplemented", "Internal", "Unavailable", "DataLoss", "Unauthenticated"});
enum Code : unsigned {
  kOk = 0,
  kUnknown = 2,
  kDeadlineExceeded = 4,
  kPermissionDenied = 7,
  kResourceExhausted = 8,
  kUnimplemented = 12,
  kInternal = 13,
  kUnavailable = 14,
  kUnauthenticated = 16,
};

std::string go_duration(std::chrono::milliseconds time) {
  const auto whole = time.count() / 1000;
  if (time.count() % 1000 != 0)
    return whole == 0 ? fmt::format("{}ms", time.count())
                      : fmt::format("{}s", static_cast<double>(time.count()) / 1000);
  if (whole < 60)
    return fmt::format("{}s", whole);
  return whole < 3600 ? fmt::format("{}m{}s", whole / 60, whole % 60)
                      : fmt::format("{}h{}m{}s", whole / 3600, whole / 60 % 60, whole % 60);
}

// What stands for a status of HTTP where the server speaks no gRPC.
Code code_of_http(unsigned status) {
  switch (status) {
  case 400:
    return kInternal;
  case 401:
    return kUnauthenticated;
  case 403:
    return kPermissionDenied;
  case 404:
    return kUnimplemented;
  case 429:
  case 502:
  case 503:
  case 504:
    return kUnavailable;
  default:
    return kUnknown;
  }
}

// grpc-message is percent-encoded.
std::string decoded(std::string_view text) {
  const auto digit = [](char c) {
    return c >= '0' && c <= '9' ? c - '0' : (c | 32) >= 'a' && (c | 32) <= 'f' ? (c | 32) - 87 : -1;
  };
  std::string out;
  for (std::size_t at = 0; at < text.size(); ++at) {
    const int high = text[at] == '%' && at + 2 < text.size() ? digit(text[at + 1]) : -1;
    const int low = high >= 0 ? digit(text[at + 2]) : -1;
    if (low < 0) {
      out.push_back(text[at]);
      continue;
    }
    out.push_back(static_cast<char>(high * 16 + low));
    at += 2;
  }
  return printable(out, kHeaderTextMax);
}

// ---- HealthCheckRequest {string service = 1;} and HealthCheckResponse {enum status = 1;}

std::string framed(std::string_view message) {
  std::string out(1, '\0');
  for (int shift = 24; shift >= 0; shift -= 8)
    out.push_back(static_cast<char>(message.size() >> shift));
  return out.append(message);
}

std::string health_request(std::string_view service) {
  if (service.empty())
    return framed({});
  std::string out(1, '\x0a');
  std::size_t length = service.size();
  for (; length >= 0x80; length >>= 7)
    out.push_back(static_cast<char>(length | 0x80));
  out.push_back(static_cast<char>(length));
  return framed(out.append(service));
}

std::optional<std::uint64_t> take_varint(std::string_view& bytes) {
  std::uint64_t value = 0;
  for (unsigned shift = 0; shift < 64 && !bytes.empty(); shift += 7) {
    const auto byte = static_cast<unsigned char>(bytes.front());
    bytes.remove_prefix(1);
    value |= std::uint64_t{byte & 0x7fU} << shift;
    if ((byte & 0x80) == 0)
      return value;
  }
  return std::nullopt;
}

// Fields that it has no name for are skipped. None: not such a message.
std::optional<std::uint64_t> serving_status(std::string_view bytes) {
  std::uint64_t status = 0;
  while (!bytes.empty()) {
    const auto tag = take_varint(bytes);
    if (!tag || *tag >> 3 == 0)
      return std::nullopt;
    std::uint64_t skip = 0;
    switch (*tag & 7) {
    case 0: {
      const auto value = take_varint(bytes);
      if (!value)
        return std::nullopt;
      if (*tag >> 3 == 1)
        status = *value;
      continue;
    }
    case 1:
      skip = 8;
      break;
    case 2: {
      const auto length = take_varint(bytes);
      if (!length)
        return std::nullopt;
      skip = *length;
      break;
    }
    case 5:
      skip = 4;
      break;
    default:
      return std::nullopt;
    }
    if (skip > bytes.size())
      return std::nullopt;
    bytes.remove_prefix(skip);
  }
  return status;
}

std::string status_name(std::uint64_t status) {
  constexpr std::array kNames =
      std::to_array<std::string_view>({"UNKNOWN", "SERVING", "NOT_SERVING", "SERVICE_UNKNOWN"});
  return status < kNames.size() ? std::string(kNames[status]) : std::to_string(status);
}

}  // namespace

struct GrpcHealthCall::Impl {
  Impl(std::string_view to, std::string_view service, std::chrono::milliseconds limit)
      : authority(to), timeout(limit), request(health_request(service)) {}
  ~Impl() { nghttp2_session_del(session); }
  Impl(const Impl&) = delete;
  Impl& operator=(const Impl&) = delete;

  Result<> begin();
  void fail_with(Code code, std::string_view message);
  void connection_ended(std::string_view why);
  void judge();
  void judge_message();

  static Impl& of(void* user) { return *static_cast<Impl*>(user); }
  static ssize_t read_request(nghttp2_session* /*session*/, std::int32_t /*stream*/,
                              std::uint8_t* buffer, std::size_t space, std::uint32_t* flags,
                              nghttp2_data_source* /*source*/, void* user) {
    Impl& self = of(user);
    const std::size_t length = std::min(space, self.request.size() - self.sent);
    std::copy_n(self.request.data() + self.sent, length, buffer);
    self.sent += length;
    if (self.sent == self.request.size())
      *flags |= NGHTTP2_DATA_FLAG_EOF;
    return static_cast<ssize_t>(length);
  }
  static int on_header(nghttp2_session* /*session*/, const nghttp2_frame* frame,
                       const std::uint8_t* name, std::size_t name_length, const std::uint8_t* value,
                       std::size_t value_length, std::uint8_t /*flags*/, void* user) {
    Impl& self = of(user);
    if (frame->hd.stream_id != self.stream)
      return 0;
    const std::string_view key(reinterpret_cast<const char*>(name), name_length);
    const std::string_view text(reinterpret_cast<const char*>(value),
                                std::min(value_length, kHeaderTextMax));
    if (key == ":status")
      self.http_status = static_cast<unsigned>(parse_uint(text, 999).value_or(0));
    else if (key == "content-type")
      self.content_type = text;
    else if (key == "grpc-status")
      self.grpc_status = static_cast<unsigned>(parse_uint(text, 1000).value_or(kUnknown));
    else if (key == "grpc-message")
      self.grpc_message = decoded(text);
    return 0;
  }
  static int on_data(nghttp2_session* /*session*/, std::uint8_t /*flags*/, std::int32_t stream,
                     const std::uint8_t* data, std::size_t length, void* user) {
    Impl& self = of(user);
    if (stream != self.stream)
      return 0;
    self.answer.append(reinterpret_cast<const char*>(data), length);
    if (self.answer.size() > kAnswerBytesMax)
      self.fail_with(kResourceExhausted,
                     fmt::format("grpc: received message larger than max ({})", kAnswerBytesMax));
    return 0;
  }
  static int on_frame(nghttp2_session* /*session*/, const nghttp2_frame* frame, void* user) {
    Impl& self = of(user);
    if (frame->hd.type == NGHTTP2_SETTINGS && (frame->hd.flags & NGHTTP2_FLAG_ACK) == 0)
      self.connected = true;
    return 0;
  }
  // It ends the connection: what came is no HTTP/2.
  static int on_sent(nghttp2_session* /*session*/, const nghttp2_frame* frame, void* user) {
    if (frame->hd.type == NGHTTP2_GOAWAY && frame->goaway.error_code != NGHTTP2_NO_ERROR)
      of(user).connection_ended(
          fmt::format("{}: {}", nghttp2_http2_strerror(frame->goaway.error_code),
                      std::string_view(reinterpret_cast<const char*>(frame->goaway.opaque_data),
                                       frame->goaway.opaque_data_len)));
    return 0;
  }
  static int on_close(nghttp2_session* /*session*/, std::int32_t stream, std::uint32_t error,
                      void* user) {
    Impl& self = of(user);
    if (stream != self.stream)
      return 0;
    // A server that has answered may cut off what it did not read.
    if (error == NGHTTP2_NO_ERROR || self.grpc_status)
      self.judge();
    else
      self.fail_with(error == NGHTTP2_REFUSED_STREAM ? kUnavailable : kInternal,
                     fmt::format("stream terminated by RST_STREAM with error code: {}",
                                 nghttp2_http2_strerror(error)));
    return 0;
  }

  const std::string authority;
  const std::chrono::milliseconds timeout;
  const std::string request;
  std::size_t sent = 0;
  nghttp2_session* session = nullptr;
  std::int32_t stream = -1;
  bool connected = false;  // the server has said that it speaks HTTP/2
  unsigned http_status = 0;
  std::string content_type;
  std::optional<unsigned> grpc_status;
  std::string grpc_message;
  std::string answer;
  std::optional<GrpcVerdict> verdict;
};

Result<> GrpcHealthCall::Impl::begin() {
  nghttp2_session_callbacks* callbacks = nullptr;
  if (nghttp2_session_callbacks_new(&callbacks) != 0)
    return fail(Errc::kExhausted, "grpc: no memory");
  nghttp2_session_callbacks_set_on_header_callback(callbacks, on_header);
  nghttp2_session_callbacks_set_on_data_chunk_recv_callback(callbacks, on_data);
  nghttp2_session_callbacks_set_on_frame_recv_callback(callbacks, on_frame);
  nghttp2_session_callbacks_set_on_frame_send_callback(callbacks, on_sent);
  nghttp2_session_callbacks_set_on_stream_close_callback(callbacks, on_close);
  const int made = nghttp2_session_client_new(&session, callbacks, this);
  nghttp2_session_callbacks_del(callbacks);
  if (made != 0)
    return fail(Errc::kExhausted, fmt::format("grpc: {}", nghttp2_strerror(made)));
  const nghttp2_settings_entry no_push{NGHTTP2_SETTINGS_ENABLE_PUSH, 0};
  int error = nghttp2_submit_settings(session, NGHTTP2_FLAG_NONE, &no_push, 1);
  const std::string limit = fmt::format("{}m", std::min<std::int64_t>(timeout.count(), 99'999'999));
  const auto header = [](std::string_view name, std::string_view value) {
    const auto bytes = [](std::string_view text) {
      return reinterpret_cast<std::uint8_t*>(const_cast<char*>(text.data()));
    };
    return nghttp2_nv{bytes(name), bytes(value), name.size(), value.size(), NGHTTP2_NV_FLAG_NONE};
  };
  const nghttp2_nv headers[] = {
      header(":method", "POST"),
      header(":scheme", "http"),
      header(":path", "/grpc.health.v1.Health/Check"),
      header(":authority", authority),
      header("content-type", "application/grpc"),
      header("user-agent", "shoal-probe/1"),
      header("te", "trailers"),
      header("grpc-timeout", limit),
  };
  nghttp2_data_provider body{};
  body.read_callback = read_request;
  if (error == 0)
    error = stream =
        nghttp2_submit_request(session, nullptr, headers, std::size(headers), &body, nullptr);
  if (error < 0)
    return fail(Errc::kInvalid, fmt::format("grpc: {}", nghttp2_strerror(error)));
  return {};
}

// The first one holds.
void GrpcHealthCall::Impl::fail_with(Code code, std::string_view message) {
  if (verdict)
    return;
  std::string text;
  if (code == kUnimplemented)
    text = fmt::format("error: this server does not implement the grpc health protocol "
                       "(grpc.health.v1.Health): {}",
                       message);
  else if (code == kDeadlineExceeded)
    text = fmt::format("timeout: health rpc did not complete within {}", go_duration(timeout));
  else
    text = fmt::format("error: health rpc probe failed: rpc error: code = {} desc = {}",
                       code < kCodeNames.size() ? std::string(kCodeNames[code])
                                                : fmt::format("Code({})", unsigned{code}),
                       message);
  verdict = GrpcVerdict{false, std::move(text)};
}

void GrpcHealthCall::Impl::connection_ended(std::string_view why) {
  if (connected)
    return fail_with(kUnavailable, fmt::format("error reading from server: {}", why));
  if (!verdict)
    verdict = GrpcVerdict{
        false,
        grpc_connect_failure(authority, fmt::format("error reading server preface: {}", why))};
}

// The whole of the answer is here.
void GrpcHealthCall::Impl::judge() {
  if (!grpc_status && http_status != 200)
    return fail_with(
        code_of_http(http_status),
        fmt::format("unexpected HTTP status code received from server: {}", http_status));
  if (!content_type.starts_with("application/grpc"))
    return fail_with(
        kUnknown, fmt::format("received unexpected content-type \"{}\"", printable(content_type)));
  if (!grpc_status)
    return fail_with(kInternal, "server closed the stream without sending trailers");
  if (*grpc_status != kOk)
    return fail_with(static_cast<Code>(*grpc_status), grpc_message);
  judge_message();
}

void GrpcHealthCall::Impl::judge_message() {
  if (answer.size() >= kPrefixBytes && answer[0] != '\0')
    return fail_with(kInternal, "the server sent a compressed message, which was not asked for");
  if (answer.size() < kPrefixBytes || framed(answer.substr(kPrefixBytes)) != answer)
    return fail_with(kInternal, "the server did not send one whole message");
  const auto status = serving_status(std::string_view(answer).substr(kPrefixBytes));
  if (!status)
    return fail_with(kInternal, "the server's message is no HealthCheckResponse");
  if (verdict)
    return;
  verdict = *status == 1
                ? GrpcVerdict{true, "service healthy"}
                : GrpcVerdict{false, fmt::format("service unhealthy (responded with \"{}\")",
                                                 status_name(*status))};
}

GrpcHealthCall::GrpcHealthCall(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
GrpcHealthCall::GrpcHealthCall(GrpcHealthCall&&) noexcept = default;
GrpcHealthCall& GrpcHealthCall::operator=(GrpcHealthCall&&) noexcept = default;
GrpcHealthCall::~GrpcHealthCall() = default;

Result<GrpcHealthCall> GrpcHealthCall::make(std::string_view authority, std::string_view service,
                                            std::chrono::milliseconds timeout) {
  auto impl = std::make_unique<Impl>(authority, service, timeout);
  SHOAL_TRY(impl->begin());
  return GrpcHealthCall(std::move(impl));
}

std::string GrpcHealthCall::take_output() {
  std::string out;
  const std::uint8_t* data = nullptr;
  for (ssize_t length; (length = nghttp2_session_mem_send(impl_->session, &data)) > 0;)
    out.append(reinterpret_cast<const char*>(data), static_cast<std::size_t>(length));
  return out;
}

void GrpcHealthCall::receive(std::string_view bytes) {
  const ssize_t taken = nghttp2_session_mem_recv(
      impl_->session, reinterpret_cast<const std::uint8_t*>(bytes.data()), bytes.size());
  if (taken < 0)
    ended(nghttp2_strerror(static_cast<int>(taken)));
}

void GrpcHealthCall::ended(std::string_view why) { impl_->connection_ended(why); }

void GrpcHealthCall::expired() {
  if (impl_->connected)
    return impl_->fail_with(kDeadlineExceeded, {});
  if (!impl_->verdict)
    impl_->verdict = GrpcVerdict{false, grpc_connect_timeout(impl_->authority, impl_->timeout)};
}

const std::optional<GrpcVerdict>& GrpcHealthCall::verdict() const { return impl_->verdict; }

std::string grpc_connect_timeout(std::string_view authority, std::chrono::milliseconds timeout) {
  return fmt::format("timeout: failed to connect service \"{}\" within {}: context deadline "
                     "exceeded",
                     printable(authority, kHeaderTextMax), go_duration(timeout));
}

std::string grpc_connect_failure(std::string_view authority, std::string_view why) {
  return fmt::format("error: failed to connect service at \"{}\": {}",
                     printable(authority, kHeaderTextMax), why);
}

}  // namespace shoal::runtime

// SPDX-License-Identifier: Apache-2.0
#include "tests/fakes/grpc_health_server.h"

#include <algorithm>
#include <map>
#include <nghttp2/nghttp2.h>
#include <sys/types.h>
#include <vector>

namespace shoal::fakes {
namespace {

constexpr std::size_t kPrefixBytes = 5;

struct Stream {
  std::string path;
  std::string request;
  HealthAnswer answer;
  std::string body;
  std::size_t sent = 0;
  std::string grpc_status;
};

nghttp2_nv header(std::string_view name, std::string_view value) {
  const auto bytes = [](std::string_view text) {
    return reinterpret_cast<std::uint8_t*>(const_cast<char*>(text.data()));
  };
  return {bytes(name), bytes(value), name.size(), value.size(), NGHTTP2_NV_FLAG_NONE};
}

// Of HealthCheckRequest: a service whose name is shorter than 128 bytes.
std::string service_of(std::string_view request) {
  if (request.size() < kPrefixBytes + 2 || request[kPrefixBytes] != '\x0a')
    return {};
  return std::string(request.substr(kPrefixBytes + 2));
}

}  // namespace

struct GrpcHealthConnection::Impl {
  std::function<HealthAnswer(std::string_view)> answer;
  nghttp2_session* session = nullptr;
  std::map<std::int32_t, Stream> streams;

  static Impl& of(void* user) { return *static_cast<Impl*>(user); }
  static int on_header(nghttp2_session* /*session*/, const nghttp2_frame* frame,
                       const std::uint8_t* name, std::size_t name_length, const std::uint8_t* value,
                       std::size_t value_length, std::uint8_t /*flags*/, void* user) {
    if (std::string_view(reinterpret_cast<const char*>(name), name_length) == ":path")
      of(user).streams[frame->hd.stream_id].path.assign(reinterpret_cast<const char*>(value),
                                                        value_length);
    return 0;
  }
  static int on_data(nghttp2_session* /*session*/, std::uint8_t /*flags*/, std::int32_t stream,
                     const std::uint8_t* data, std::size_t length, void* user) {
    of(user).streams[stream].request.append(reinterpret_cast<const char*>(data), length);
    return 0;
  }
  static int on_frame(nghttp2_session* /*session*/, const nghttp2_frame* frame, void* user) {
    // The same bit is ACK elsewhere.
    if ((frame->hd.type == NGHTTP2_HEADERS || frame->hd.type == NGHTTP2_DATA) &&
        (frame->hd.flags & NGHTTP2_FLAG_END_STREAM) != 0)
      of(user).respond(frame->hd.stream_id);
    return 0;
  }
  static ssize_t read_body(nghttp2_session* session, std::int32_t id, std::uint8_t* buffer,
                           std::size_t space, std::uint32_t* flags, nghttp2_data_source* /*source*/,
                           void* user) {
    Stream& stream = of(user).streams[id];
    const std::size_t length = std::min(space, stream.body.size() - stream.sent);
    std::copy_n(stream.body.data() + stream.sent, length, buffer);
    stream.sent += length;
    if (stream.sent == stream.body.size()) {
      *flags |= NGHTTP2_DATA_FLAG_EOF | NGHTTP2_DATA_FLAG_NO_END_STREAM;
      const nghttp2_nv trailers[] = {header("grpc-status", stream.grpc_status),
                                     header("grpc-message", stream.answer.grpc_message)};
      nghttp2_submit_trailer(session, id, trailers, std::size(trailers));
    }
    return static_cast<ssize_t>(length);
  }

  void respond(std::int32_t id) {
    Stream& stream = streams[id];
    if (stream.path == "/grpc.health.v1.Health/Check")
      stream.answer = answer(service_of(stream.request));
    else
      stream.answer.grpc_status = 12;
    if (stream.answer.silent)
      return;
    if (stream.answer.reset != 0) {
      nghttp2_submit_rst_stream(session, NGHTTP2_FLAG_NONE, id, stream.answer.reset);
      return;
    }
    stream.grpc_status = std::to_string(stream.answer.grpc_status);
    std::vector<nghttp2_nv> headers{header(":status", stream.answer.http_status),
                                    header("content-type", stream.answer.content_type)};
    // An error comes without a message, all in one block.
    if (stream.answer.grpc_status != 0 || stream.answer.http_status != "200") {
      if (stream.answer.http_status == "200") {
        headers.push_back(header("grpc-status", stream.grpc_status));
        headers.push_back(header("grpc-message", stream.answer.grpc_message));
      }
      nghttp2_submit_response(session, id, headers.data(), headers.size(), nullptr);
      return;
    }
    stream.body = stream.answer.raw;
    if (stream.body.empty()) {
      const char message[] = {0, 0, 0, 0, 2, 8, static_cast<char>(stream.answer.serving_status)};
      stream.body.assign(message, sizeof(message));
    }
    nghttp2_data_provider body{};
    body.read_callback = read_body;
    nghttp2_submit_response(session, id, headers.data(), headers.size(), &body);
  }
};

GrpcHealthConnection::GrpcHealthConnection(
    std::function<HealthAnswer(std::string_view service)> answer)
    : impl_(std::make_unique<Impl>()) {
  impl_->answer = std::move(answer);
  nghttp2_session_callbacks* callbacks = nullptr;
  nghttp2_session_callbacks_new(&callbacks);
  nghttp2_session_callbacks_set_on_header_callback(callbacks, Impl::on_header);
  nghttp2_session_callbacks_set_on_data_chunk_recv_callback(callbacks, Impl::on_data);
  nghttp2_session_callbacks_set_on_frame_recv_callback(callbacks, Impl::on_frame);
  nghttp2_session_server_new(&impl_->session, callbacks, impl_.get());
  nghttp2_session_callbacks_del(callbacks);
  nghttp2_submit_settings(impl_->session, NGHTTP2_FLAG_NONE, nullptr, 0);
}

GrpcHealthConnection::~GrpcHealthConnection() { nghttp2_session_del(impl_->session); }

bool GrpcHealthConnection::receive(std::string_view bytes) {
  return nghttp2_session_mem_recv(impl_->session,
                                  reinterpret_cast<const std::uint8_t*>(bytes.data()),
                                  bytes.size()) >= 0;
}

std::string GrpcHealthConnection::take_output() {
  std::string out;
  const std::uint8_t* data = nullptr;
  for (ssize_t length; (length = nghttp2_session_mem_send(impl_->session, &data)) > 0;)
    out.append(reinterpret_cast<const char*>(data), static_cast<std::size_t>(length));
  return out;
}

}  // namespace shoal::fakes

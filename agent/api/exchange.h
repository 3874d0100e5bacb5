// SPDX-License-Identifier: Apache-2.0
// The Exchange that a Session hands out. Internal to agent/api.
#pragma once

#include "agent/api/session.h"

namespace shoal::api {

class ExchangeImpl final : public Exchange, public std::enable_shared_from_this<ExchangeImpl> {
public:
  explicit ExchangeImpl(std::shared_ptr<Session> session);
  ~ExchangeImpl() override;  // unanswered: 500

  const Request& request() const override { return request_; }
  void reply_bytes(int status, std::string_view content_type, std::string body,
                   const std::vector<std::string>& warnings) override;
  void begin(int status, std::string_view content_type) override;
  void write(std::string bytes, std::function<void(bool ok)> done) override;
  void end() override;
  void be_patient() override { session_->patient_ = true; }
  void upgrade(std::string_view protocol, std::function<void(RawStreamPtr)> on_stream) override;
  void body_to_file(int fd, std::uint64_t bytes_max,
                    std::function<void(Result<std::uint64_t>)> done) override;
  void on_gone(std::function<void()> run) override;

  void close_after() { keep_alive_ = false; }
  void gone();

private:
  enum class State : std::uint8_t { kOpen, kStreaming, kDone };
  std::string head(int status, std::string_view content_type,
                   const std::vector<std::string>& warnings) const;

  std::shared_ptr<Session> session_;
  Request request_;
  State state_ = State::kOpen;
  bool keep_alive_ = true;
  bool chunked_ = true;  // HTTP/1.0 peers get the plain bytes and then the end of the connection
  bool head_only_ = false;
  std::string pending_head_;  // goes out with the first write
  std::function<void()> on_gone_;
};

}  // namespace shoal::api

// SPDX-License-Identifier: Apache-2.0
// An io_context that a test drives: it runs until a condition holds, never for a fixed time.
#pragma once

#include <boost/asio/io_context.hpp>
#include <boost/asio/post.hpp>
#include <chrono>
#include <functional>

namespace shoal::fakes {

class AsioLoop {
public:
  boost::asio::io_context& context() { return context_; }
  std::function<void(std::function<void()>)> poster() {
    return [this](std::function<void()> run) { boost::asio::post(context_, std::move(run)); };
  }
  // False: the condition did not come true in time.
  bool run_until(const std::function<bool()>& condition,
                 std::chrono::milliseconds limit = std::chrono::seconds(20)) {
    const auto end = std::chrono::steady_clock::now() + limit;
    while (!condition()) {
      if (std::chrono::steady_clock::now() >= end)
        return false;
      context_.run_one_for(std::chrono::milliseconds(20));
      context_.restart();
    }
    return true;
  }
  // Everything that is ready now.
  void drain() {
    while (context_.poll() > 0)
      context_.restart();
    context_.restart();
  }

private:
  boost::asio::io_context context_;
};

}  // namespace shoal::fakes

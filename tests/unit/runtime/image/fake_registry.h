// SPDX-License-Identifier: Apache-2.0
// A registry on 127.0.0.1 that serves what it is told, also wrong things: for the answers that a
// real one does not give. One request a connection; a thread of its own.
#pragma once

#include <atomic>
#include <map>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

namespace shoal::testing_images {

class FakeRegistry {
public:
  enum class Fault : unsigned char { kNone, kHang, kEndless };

  FakeRegistry();  // brings the namespace's loopback device up
  ~FakeRegistry();
  FakeRegistry(const FakeRegistry&) = delete;
  FakeRegistry& operator=(const FakeRegistry&) = delete;

  std::string host() const;  // "127.0.0.1:PORT"
  // By path, as in "/v2/test/app/manifests/1". A fault begins after the headers.
  void serve(const std::string& path, std::string body, std::string type = "",
             Fault fault = Fault::kNone);
  void require(const std::string& basic);  // "dXNlcjpwYXNz": nothing without it
  std::vector<std::string> asked();        // paths since the last call, without /v2/ itself

private:
  struct Answer {
    std::string body;
    std::string type;
    Fault fault = Fault::kNone;
  };
  void run();
  void answer(int fd);

  int listen_ = -1;
  unsigned short port_ = 0;
  std::atomic<bool> stop_{false};
  std::mutex mutex_;
  std::map<std::string, Answer> answers_;
  std::vector<std::string> asked_;
  std::string required_;
  std::vector<std::thread> connections_;
  std::thread thread_;
};

}  // namespace shoal::testing_images

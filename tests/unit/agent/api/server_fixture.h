// SPDX-License-Identifier: Apache-2.0
// A server over a fake store on a unix socket, and a client that speaks HTTP by hand.
//
//   [Client: own thread, blocking socket] --- unix socket --- [Server --- Writer --- FakeStore], on
//   the test's loop
#pragma once

#include "agent/api/server.h"
#include "agent/api/store_writer.h"
#include "netplane/base/fs.h"
#include "netplane/base/random.h"
#include "netplane/base/strings.h"
#include "tests/fakes/asio_loop.h"
#include "tests/fakes/fake_clock.h"
#include "tests/fakes/fake_store.h"

#include <boost/json/parse.hpp>
#include <boost/json/serialize.hpp>
#include <future>
#include <gtest/gtest.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

namespace shoal::api {

struct Answer {
  int status = 0;
  std::string head;
  std::string body;
  boost::json::object json() const { return boost::json::parse(body).get_object(); }
};

// One connection. Every call blocks; use it from another thread than the loop's (Fixture::call).
class Client {
public:
  explicit Client(const std::filesystem::path& path)
      : fd_(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    path.string().copy(address.sun_path, sizeof(address.sun_path) - 1);
    EXPECT_EQ(::connect(fd_.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)),
              0);
    const timeval limit{20, 0};
    ::setsockopt(fd_.get(), SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
  }
  bool send(std::string_view bytes) { return write_all(fd_.get(), bytes).has_value(); }
  // Up to and with the mark; what came before the end otherwise.
  std::string read_until(std::string_view mark) {
    std::size_t at;
    while ((at = buffer_.find(mark)) == buffer_.npos)
      if (!more())
        return std::exchange(buffer_, {});
    std::string taken = buffer_.substr(0, at + mark.size());
    buffer_.erase(0, at + mark.size());
    return taken;
  }
  std::string read_bytes(std::size_t count) {
    while (buffer_.size() < count && more()) {
    }
    std::string taken = buffer_.substr(0, count);
    buffer_.erase(0, taken.size());
    return taken;
  }
  bool at_end() { return buffer_.empty() && !more(); }
  Answer read_answer(bool head_only = false) {
    Answer answer;
    answer.head = read_until("\r\n\r\n");
    if (answer.head.size() > 12)
      answer.status = std::atoi(answer.head.c_str() + 9);
    const std::string lower = to_lower(answer.head);
    if (head_only || answer.status == 101 || answer.status == 100)
      return answer;
    if (const auto at = lower.find("content-length: "); at != lower.npos)
      answer.body = read_bytes(std::strtoul(lower.c_str() + at + 16, nullptr, 10));
    else
      for (;;) {
        const std::size_t size = std::strtoul(read_until("\r\n").c_str(), nullptr, 16);
        answer.body += read_bytes(size);
        read_until("\r\n");
        if (size == 0)
          break;
      }
    return answer;
  }
  // One chunk of a stream; empty at the end.
  std::string read_chunk() {
    const std::size_t size = std::strtoul(read_until("\r\n").c_str(), nullptr, 16);
    std::string chunk = read_bytes(size);
    read_until("\r\n");
    return chunk;
  }
  int fd() const { return fd_.get(); }
  void close() { fd_.reset(); }

private:
  bool more() {
    char bytes[16384];
    const ssize_t count = ::recv(fd_.get(), bytes, sizeof(bytes), 0);
    if (count <= 0)
      return false;
    buffer_.append(bytes, static_cast<std::size_t>(count));
    return true;
  }
  UniqueFd fd_;
  std::string buffer_;
};

inline std::string http(std::string_view method, std::string_view target,
                        std::string_view body = "", std::string_view headers = "") {
  return fmt::format("{} {} HTTP/1.1\r\nHost: shoal\r\n{}Content-Length: {}\r\n\r\n{}", method,
                     target, headers, body.size(), body);
}

class ServerFixture : public testing::Test {
protected:
  ServerFixture() {
    std::string pattern = (std::filesystem::temp_directory_path() / "shoal-api-XXXXXX").string();
    dir_ = ::mkdtemp(pattern.data());
    store_.watch([this](store::Revision revision, std::span<const store::Event> events) {
      replica_.apply(events, revision);
    });
    store_.commit(bootstrap_txn(clock_, random_));
    const WriterOptions writing{.service_cidrs = {*IpPrefix::parse("10.96.0.0/16")},
                                .load_balancer_pools = {*IpPrefix::parse("198.18.0.200/29")}};
    writer_ = make(writing);
    WriterOptions dry = writing;
    dry.dry_run = true;
    dry_writer_ = make(dry);
    options_.unix_path = dir_ / "api.sock";
    options_.dry_run_writer = dry_writer_.get();
  }
  ~ServerFixture() override {
    server_.reset();
    loop_.drain();
    std::error_code ignored;
    std::filesystem::remove_all(dir_, ignored);
  }
  std::unique_ptr<Writer> make(WriterOptions options) {
    return make_writer(
        replica_, [this](store::Txn t, TxnDone d) { store_.txn(std::move(t), std::move(d)); },
        loop_.poster(), clock_, random_, std::move(options));
  }
  void start() {
    if (!replica_.synced())
      replica_.reset(store_.now());
    server_ = std::make_unique<Server>(loop_.context(), replica_, *writer_, clock_, options_);
    if (prepare_)
      prepare_(*server_);
    const auto started = server_->start();
    ASSERT_TRUE(started) << started.error().message();
  }
  // Runs blocking client code while the loop serves it.
  template <class Code>
  auto call(Code code) {
    auto future = std::async(std::launch::async, std::move(code));
    EXPECT_TRUE(loop_.run_until([&] {
      return future.wait_for(std::chrono::seconds(0)) == std::future_status::ready;
    })) << "the client got no answer";
    return future.get();
  }
  Answer request(std::string bytes) {
    return call([this, text = std::move(bytes)] {
      Client client(options_.unix_path);
      client.send(text);
      return client.read_answer(text.starts_with("HEAD "));
    });
  }
  Answer get(std::string_view target, std::string_view headers = "") {
    return request(http("GET", target, "", headers));
  }
  Answer post(std::string_view target, std::string_view body) {
    return request(http("POST", target, body, "Content-Type: application/json\r\n"));
  }
  void put_pod(std::string_view name, std::string_view label = "web") {
    const Answer made = post(
        "/api/v1/namespaces/default/pods",
        fmt::format(
            R"({{"apiVersion":"v1","kind":"Pod","metadata":{{"name":"{}","labels":{{"app":"{}"}}}},
                        "spec":{{"containers":[{{"name":"c","image":"web:1"}}]}}}})",
            name, label));
    ASSERT_EQ(made.status, 201) << made.body;
  }

  fakes::AsioLoop loop_;
  FakeClock clock_;
  SeededRandom random_{7};
  store::Replica replica_;
  fakes::FakeStore store_{loop_.poster()};
  std::unique_ptr<Writer> writer_, dry_writer_;
  ServerOptions options_;
  std::filesystem::path dir_;
  std::function<void(Server&)> prepare_;
  std::unique_ptr<Server> server_;
};

}  // namespace shoal::api

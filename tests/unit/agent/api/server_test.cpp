// SPDX-License-Identifier: Apache-2.0
// HTTP itself: framing, limits, streams, upgrades, peers that go away.
#include "tests/unit/agent/api/server_fixture.h"

#include <fcntl.h>
#include <sys/stat.h>

namespace shoal::api {
namespace {

class ServerTest : public ServerFixture {};

TEST_F(ServerTest, TheSocketIsRootsOnlyAndGoesWithTheServer) {
  start();
  struct stat info{};
  ASSERT_EQ(::stat(options_.unix_path.c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 0777, 0600U);
  server_.reset();
  EXPECT_NE(::stat(options_.unix_path.c_str(), &info), 0);
}

TEST_F(ServerTest, AStaleSocketIsReplacedALiveOneIsAnError) {
  start();
  Server second(loop_.context(), replica_, *writer_, clock_, options_);
  const auto refused = second.start();
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code(), Errc::kExists);
  EXPECT_THAT(refused.error().message(), testing::HasSubstr("another shoald answers there"));
  EXPECT_EQ(get("/livez").status, 200) << "the first one is unharmed";
  server_.reset();
  {
    // Left behind by a crash: bound, nobody listens.
    const UniqueFd fd(::socket(AF_UNIX, SOCK_STREAM, 0));
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    options_.unix_path.string().copy(address.sun_path, sizeof(address.sun_path) - 1);
    ASSERT_EQ(::bind(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)), 0);
  }
  start();
  EXPECT_EQ(get("/livez").status, 200);
}

TEST_F(ServerTest, ConnectionsAreKeptAndRequestsMayBePipelined) {
  start();
  const auto answers = call([this] {
    Client client(options_.unix_path);
    client.send(http("GET", "/version") + http("GET", "/livez") + http("GET", "/nothing"));
    std::vector<Answer> list;
    for (int i = 0; i < 3; ++i)
      list.push_back(client.read_answer());
    client.send(http("HEAD", "/version"));
    list.push_back(client.read_answer(true));
    client.send(http("GET", "/livez", "", "Connection: close\r\n"));
    list.push_back(client.read_answer());
    EXPECT_TRUE(client.at_end());
    return list;
  });
  EXPECT_EQ(answers[0].json().at("major"), "1");
  EXPECT_EQ(answers[1].body, "ok");
  EXPECT_EQ(answers[2].status, 404);
  EXPECT_EQ(answers[2].json().at("kind"), "Status");
  EXPECT_EQ(answers[3].status, 200);
  EXPECT_THAT(answers[4].head, testing::HasSubstr("Connection: close"));
}

TEST_F(ServerTest, RequestsMayArriveByteByByte) {
  start();
  const Answer answer = call([this] {
    Client client(options_.unix_path);
    for (const char c : http("GET", "/livez"))
      client.send(std::string_view(&c, 1));
    return client.read_answer();
  });
  EXPECT_EQ(answer.body, "ok");
}

TEST_F(ServerTest, WhatIsNoHttpIsRefused) {
  start();
  EXPECT_EQ(request("GARBAGE\r\n\r\n").status, 400);
  EXPECT_EQ(request("GET no-slash HTTP/1.1\r\n\r\n").status, 400);
  EXPECT_EQ(request(http("GET", "/%zz")).status, 400);
  EXPECT_EQ(request("GET / HTTP/1.1\r\nX: " + std::string(100'000, 'x') + "\r\n\r\n").status, 431);
}

TEST_F(ServerTest, BodiesAreBounded) {
  options_.limits.body_bytes_max = 1000;
  start();
  const Answer declared = request(http("POST", "/api/v1/namespaces", std::string(2000, ' ')));
  EXPECT_EQ(declared.status, 413) << declared.body;
  // Without a length: chunked, and too long.
  const Answer chunked =
      request("POST /api/v1/namespaces HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n"
              "7d0\r\n" +
              std::string(2000, ' ') + "\r\n0\r\n\r\n");
  EXPECT_EQ(chunked.status, 413) << chunked.body;
  EXPECT_EQ(get("/livez").status, 200);
}

TEST_F(ServerTest, ChunkedBodiesAndExpectContinue) {
  start();
  const std::string body = R"({"apiVersion":"v1","kind":"Namespace","metadata":{"name":"team"}})";
  const Answer made =
      request(fmt::format("POST /api/v1/namespaces HTTP/1.1\r\nTransfer-Encoding: "
                          "chunked\r\n\r\n{:x}\r\n{}\r\n{:x}\r\n{}\r\n0\r\n\r\n",
                          10, body.substr(0, 10), body.size() - 10, body.substr(10)));
  EXPECT_EQ(made.status, 201) << made.body;
  const auto answers = call([&] {
    Client client(options_.unix_path);
    const std::string second =
        R"({"apiVersion":"v1","kind":"Namespace","metadata":{"name":"two"}})";
    const std::string all = http("POST", "/api/v1/namespaces", second, "Expect: 100-continue\r\n");
    client.send(all.substr(0, all.size() - second.size()));
    const Answer go_on = client.read_answer();
    client.send(second);
    return std::pair(go_on.status, client.read_answer().status);
  });
  EXPECT_EQ(answers, std::pair(100, 201));
}

TEST_F(ServerTest, ABodyThatComesWithoutWaitingForContinue) {
  start();
  const auto statuses = call([&] {
    Client client(options_.unix_path);
    client.send(http("POST", "/api/v1/namespaces",
                     R"({"apiVersion":"v1","kind":"Namespace","metadata":{"name":"two"}})",
                     "Expect: 100-continue\r\n"));
    const int first = client.read_answer().status;
    return first == 100 ? client.read_answer().status : first;
  });
  EXPECT_EQ(statuses, 201);
}

TEST_F(ServerTest, SlowHeadersAndIdleConnectionsAreCutOff) {
  options_.limits.header_timeout_ms = std::chrono::milliseconds(50);
  options_.limits.idle_timeout_ms = std::chrono::milliseconds(50);
  start();
  EXPECT_TRUE(call([this] {
    Client client(options_.unix_path);
    client.send("GET / HT");
    return client.at_end();
  }));
  EXPECT_TRUE(call([this] {
    Client client(options_.unix_path);
    client.send(http("GET", "/livez"));
    client.read_answer();
    return client.at_end();
  }));
}

TEST_F(ServerTest, ConnectionsAreBounded) {
  options_.limits.connections_max = 2;
  start();
  EXPECT_TRUE(call([this] {
    Client a(options_.unix_path), b(options_.unix_path);
    a.send(http("GET", "/livez"));
    a.read_answer();
    b.send(http("GET", "/livez"));
    b.read_answer();
    Client c(options_.unix_path);
    return c.at_end();
  }));
  EXPECT_EQ(get("/livez").status, 200) << "room again";
}

TEST_F(ServerTest, RoutesBindSegments) {
  prepare_ = [](Server& server) {
    server.route("GET", "/shoal/v1/items/{a}/x/{b}", [](ExchangePtr x) {
      x->reply_text(200, x->request().params.at("a") + "+" + x->request().params.at("b") +
                             std::string(x->request().query_or("q")));
    });
    server.route("GET", "/shoal/v1/rest/*",
                 [](ExchangePtr x) { x->reply_text(200, x->request().params.at("*")); });
    server.route("GET", "/api/v1/namespaces/{namespace}/pods/{name}/log", [](ExchangePtr x) {
      x->reply_text(200, "log of " + x->request().params.at("name"));
    });
  };
  start();
  EXPECT_EQ(get("/shoal/v1/items/1/x/2%2F3?q=%20y").body, "1+2/3 y")
      << "an escaped slash stays inside";
  EXPECT_EQ(get("/shoal/v1/rest/a/b").body, "a/b");
  EXPECT_EQ(get("/api/v1/namespaces/default/pods/web/log").body, "log of web");
  EXPECT_EQ(get("/shoal/v1/items/1").status, 404);
}

TEST_F(ServerTest, AHandlerThatForgetsIsAnsweredFor) {
  prepare_ = [](Server& server) { server.route("GET", "/forget", [](ExchangePtr) {}); };
  start();
  EXPECT_EQ(get("/forget").status, 500);
}

TEST_F(ServerTest, StreamsAreChunkedAndEnd) {
  prepare_ = [](Server& server) {
    server.route("GET", "/count", [](ExchangePtr x) {
      x->begin(200, "text/plain");
      auto step = std::make_shared<std::function<void(int)>>();
      *step = [x, step](int i) {
        if (i == 3) {
          x->end();
          *step = nullptr;
          return;
        }
        x->write(fmt::format("line {}\n", i), [step, i](bool ok) {
          if (ok) {
            const auto next = *step;
            next(i + 1);
          }
        });
      };
      const auto first = *step;
      first(0);
    });
  };
  start();
  const Answer answer = get("/count");
  EXPECT_EQ(answer.body, "line 0\nline 1\nline 2\n");
  const std::string old = call([this] {
    Client client(options_.unix_path);
    client.send("GET /count HTTP/1.0\r\n\r\n");
    client.read_until("\r\n\r\n");
    return client.read_until("no such mark");
  });
  EXPECT_EQ(old, "line 0\nline 1\nline 2\n") << "HTTP/1.0 knows no chunks";
}

TEST_F(ServerTest, AStreamLearnsThatItsReaderHasGone) {
  ExchangePtr kept;
  bool gone = false;
  prepare_ = [&](Server& server) {
    server.route("GET", "/wait", [&](ExchangePtr x) {
      x->on_gone([&] { gone = true; });
      x->begin(200, "text/plain");
      x->write("begun\n", [](bool) {});
      kept = std::move(x);
    });
  };
  start();
  call([this] {
    Client client(options_.unix_path);
    client.send(http("GET", "/wait"));
    client.read_until("begun\n");
    return 0;
  });
  EXPECT_TRUE(loop_.run_until([&] { return gone; }));
  bool told = true, answered = false;
  kept->write("more", [&](bool ok) {
    told = ok;
    answered = true;
  });
  EXPECT_TRUE(loop_.run_until([&] { return answered; }));
  EXPECT_FALSE(told);
}

TEST_F(ServerTest, UploadsGoToAFile) {
  const UniqueFd file(::open(dir_.c_str(), O_TMPFILE | O_RDWR | O_CLOEXEC, 0600));
  std::optional<Result<std::uint64_t>> got;
  prepare_ = [&](Server& server) {
    server.route(
        "POST", "/upload",
        [&](ExchangePtr x) {
          x->body_to_file(file.get(), 8 << 20, [&, x](Result<std::uint64_t> size) {
            got = size;
            if (size)
              x->reply_text(200, std::to_string(*size));
            else
              x->reply_error(size.error());
          });
        },
        BodyMode::kStreamed);
  };
  start();
  std::string body(5 << 20, 'a');
  body.back() = 'z';
  EXPECT_EQ(request(http("POST", "/upload", body)).body, std::to_string(body.size()));
  char last = 0;
  EXPECT_EQ(::pread(file.get(), &last, 1, static_cast<off_t>(body.size()) - 1), 1);
  EXPECT_EQ(last, 'z');
  EXPECT_EQ(request(http("POST", "/upload", "")).body, "0");
  const Answer large = request(http("POST", "/upload", std::string(9 << 20, 'b')));
  EXPECT_EQ(large.status, 507) << large.body;
  // The sender dies in the middle.
  got.reset();
  call([this] {
    Client client(options_.unix_path);
    client.send("POST /upload HTTP/1.1\r\nContent-Length: 1000\r\n\r\nonly this");
    return 0;
  });
  ASSERT_TRUE(loop_.run_until([&] { return got.has_value(); }));
  EXPECT_EQ(got->error().code(), Errc::kCancelled);
  EXPECT_EQ(get("/livez").status, 200);
}

TEST_F(ServerTest, UpgradedConnectionsCarryBytesBothWays) {
  prepare_ = [](Server& server) {
    server.route("POST", "/echo", [](ExchangePtr x) {
      x->upgrade("shoal-echo", [](RawStreamPtr stream) {
        auto pump = std::make_shared<std::function<void()>>();
        *pump = [stream, pump] {
          stream->read([stream, pump](Result<std::string_view> bytes) {
            if (!bytes || bytes->empty()) {
              stream->close();
              *pump = nullptr;
              return;
            }
            stream->write(std::string(*bytes), [pump](Result<> ok) {
              if (ok && *pump) {
                const auto next = *pump;
                next();
              }
            });
          });
        };
        const auto first = *pump;
        first();
      });
    });
  };
  start();
  const std::string echoed = call([this] {
    Client client(options_.unix_path);
    // The first bytes ride along with the request.
    client.send("POST /echo HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: shoal-echo\r\n\r\nhello");
    EXPECT_EQ(client.read_answer().status, 101);
    std::string all = client.read_bytes(5);
    client.send(" world");
    all += client.read_bytes(6);
    ::shutdown(client.fd(), SHUT_WR);
    EXPECT_TRUE(client.at_end());
    return all;
  });
  EXPECT_EQ(echoed, "hello world");
}

}  // namespace
}  // namespace shoal::api

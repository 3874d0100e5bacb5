// SPDX-License-Identifier: Apache-2.0
// Probes against servers on loopback.
#include "agent/node/prober.h"

#include "tests/fakes/grpc_health_server.h"

#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/read_until.hpp>
#include <boost/asio/write.hpp>
#include <gtest/gtest.h>

namespace shoal::node {
namespace {

namespace asio = boost::asio;
using asio::ip::tcp;

// Answers every connection with `answer`, once a request is there. An empty answer: stays silent.
class Server {
public:
  explicit Server(asio::io_context& loop, std::string answer)
      : answer_(std::move(answer)),
        acceptor_(loop, tcp::endpoint(asio::ip::address_v4::loopback(), 0)) {
    accept();
  }
  std::uint16_t port() const { return acceptor_.local_endpoint().port(); }
  std::string request;
  std::string answer_;
  int connections = 0;

private:
  void accept() {
    acceptor_.async_accept([this](const boost::system::error_code& error, tcp::socket socket) {
      if (error)
        return;
      ++connections;
      sockets_.push_back(std::make_unique<tcp::socket>(std::move(socket)));
      asio::async_read_until(
          *sockets_.back(), asio::dynamic_buffer(request), "\r\n\r\n",
          [this, s = sockets_.back().get()](const boost::system::error_code& read, std::size_t) {
            boost::system::error_code ignored;
            if (!read && !answer_.empty())
              asio::write(*s, asio::buffer(answer_), ignored);
          });
      accept();
    });
  }
  tcp::acceptor acceptor_;
  std::vector<std::unique_ptr<tcp::socket>> sockets_;
};

// Health answers by nghttp2.
class GrpcServer {
public:
  GrpcServer(asio::io_context& loop, fakes::HealthAnswer says)
      : answer(std::move(says)),
        acceptor_(loop, tcp::endpoint(asio::ip::address_v4::loopback(), 0)) {
    accept();
  }
  std::uint16_t port() const { return acceptor_.local_endpoint().port(); }
  std::string service;
  fakes::HealthAnswer answer;

private:
  struct Connection {
    Connection(tcp::socket from, std::function<fakes::HealthAnswer(std::string_view)> says)
        : socket(std::move(from)), http(std::move(says)) {}
    tcp::socket socket;
    fakes::GrpcHealthConnection http;
    char buffer[4096];
  };
  void accept() {
    acceptor_.async_accept([this](const boost::system::error_code& error, tcp::socket socket) {
      if (error)
        return;
      auto one = std::make_shared<Connection>(std::move(socket), [this](std::string_view asked) {
        service = asked;
        return answer;
      });
      serve(one);
      accept();
    });
  }
  void serve(const std::shared_ptr<Connection>& one) {
    boost::system::error_code ignored;
    asio::write(one->socket, asio::buffer(one->http.take_output()), ignored);
    one->socket.async_read_some(asio::buffer(one->buffer),
                                [this, one](const boost::system::error_code& error, std::size_t n) {
                                  if (!error && one->http.receive({one->buffer, n}))
                                    serve(one);
                                });
  }
  tcp::acceptor acceptor_;
};

class ProberTest : public ::testing::Test {
protected:
  ProbeSpec probe(Action::Kind kind, std::uint16_t port) const {
    ProbeSpec out;
    out.action.kind = kind;
    out.action.port = port;
    out.action.path = "/ok";
    out.timing.period_ms = 10;
    out.timing.timeout_ms = 200;
    out.timing.failure_threshold = 2;
    return out;
  }
  void begin(ProbeSpec what) {
    prober = std::make_unique<Prober>(loop, clock, std::move(what),
                                      ActionTarget{*IpAddress::parse("127.0.0.1"), {}, {}, {}},
                                      clock.now(), false, [this](const ProbeNews& news) {
                                        last = news;
                                        if (news.changed)
                                          told.push_back(news.passing);
                                      });
  }
  bool run_until(const std::function<bool()>& done) {
    const auto deadline = clock.now() + std::chrono::seconds(10);
    while (!done() && clock.now() < deadline)
      loop.run_one_for(std::chrono::milliseconds(50));
    return done();
  }
  static constexpr auto kHttp = Action::Kind::kHttp;
  static constexpr auto kGrpc = Action::Kind::kGrpc;
  static constexpr auto kTcp = Action::Kind::kTcp;
  SystemClock clock;
  asio::io_context loop;
  std::unique_ptr<Prober> prober;
  std::vector<bool> told;
  ProbeNews last;
};

TEST_F(ProberTest, HttpFollowsTheStatus) {
  Server server(loop, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
  begin(probe(kHttp, server.port()));
  ASSERT_TRUE(run_until([&] { return told.size() == 1; }));
  EXPECT_TRUE(told[0]);
  EXPECT_TRUE(server.request.starts_with("GET /ok HTTP/1.1\r\n")) << server.request;
  server.answer_ = "HTTP/1.1 503 Busy\r\n\r\n";
  ASSERT_TRUE(run_until([&] { return told.size() == 2; }));
  EXPECT_FALSE(told[1]);
}

TEST_F(ProberTest, TcpPassesWhenItConnects) {
  Server server(loop, "");
  begin(probe(kTcp, server.port()));
  ASSERT_TRUE(run_until([&] { return !told.empty(); }));
  EXPECT_TRUE(told[0]);
}

TEST_F(ProberTest, RefusedSilentAndForeignServersFail) {
  std::uint16_t closed = 0;
  {
    tcp::acceptor unused(loop, tcp::endpoint(asio::ip::address_v4::loopback(), 0));
    closed = unused.local_endpoint().port();
  }
  Server silent(loop, "");
  Server foreign(loop, "SSH-2.0-x\r\n");
  for (const std::uint16_t port : {closed, silent.port(), foreign.port()}) {
    told.clear();
    begin(probe(kHttp, port));
    ASSERT_TRUE(run_until([&] { return !told.empty(); })) << port;
    EXPECT_FALSE(told[0]);
  }
}

// The first result is told even when it changes nothing: a pod that was taken up waits for it.
TEST_F(ProberTest, TellsTheFirstResultAndThenChangesOnly) {
  Server server(loop, "HTTP/1.0 500 No\r\n\r\n");
  begin(probe(kHttp, server.port()));
  ASSERT_TRUE(run_until([&] { return server.connections >= 4; }));
  EXPECT_EQ(told, std::vector<bool>{false});
}

TEST_F(ProberTest, FailuresAreToldInKubernetesWords) {
  Server busy(loop, "HTTP/1.0 503 No\r\n\r\n");
  Server silent(loop, "");
  std::uint16_t closed = 0;
  {
    tcp::acceptor unused(loop, tcp::endpoint(asio::ip::address_v4::loopback(), 0));
    closed = unused.local_endpoint().port();
  }
  const std::string refused =
      fmt::format("dial tcp 127.0.0.1:{}: connect: connection refused", closed);
  for (const auto& [what, words] :
       {std::pair{probe(kHttp, busy.port()), std::string("HTTP probe failed with statuscode: 503")},
        {probe(kTcp, closed), refused},
        {probe(kHttp, closed), fmt::format("Get \"http://127.0.0.1:{}/ok\": {}", closed, refused)},
        {probe(kHttp, silent.port()),
         fmt::format("Get \"http://127.0.0.1:{}/ok\": context deadline exceeded (Client.Timeout "
                     "exceeded while awaiting headers)",
                     silent.port())}}) {
    told.clear();
    begin(what);
    ASSERT_TRUE(run_until([&] { return last.failed; }));  // the second in a row
    EXPECT_EQ(last.last.message, words);
    last = {};
  }
}

TEST_F(ProberTest, GrpcFollowsTheServiceAskedFor) {
  GrpcServer server(loop, {});
  ProbeSpec spec = probe(kGrpc, server.port());
  spec.action.service = "shop.Cart";
  begin(spec);
  ASSERT_TRUE(run_until([&] { return told.size() == 1; }));
  EXPECT_TRUE(told[0]) << last.last.message;
  EXPECT_EQ(server.service, "shop.Cart");
  server.answer.serving_status = 2;
  ASSERT_TRUE(run_until([&] { return told.size() == 2; }));
  EXPECT_FALSE(told[1]);
  EXPECT_EQ(last.last.message, "service unhealthy (responded with \"NOT_SERVING\")");
}

TEST_F(ProberTest, GrpcFailuresAreToldInKubernetesWords) {
  fakes::HealthAnswer quiet;
  quiet.silent = true;
  GrpcServer slow(loop, quiet);
  Server silent(loop, "");
  Server http1(loop, "HTTP/1.0 400 No\r\n\r\n");
  std::uint16_t closed = 0;
  {
    tcp::acceptor unused(loop, tcp::endpoint(asio::ip::address_v4::loopback(), 0));
    closed = unused.local_endpoint().port();
  }
  for (const auto& [port, words] :
       {std::pair{slow.port(), std::string("timeout: health rpc did not complete within 200ms")},
        {silent.port(), fmt::format("timeout: failed to connect service \"127.0.0.1:{}\" within "
                                    "200ms: context deadline exceeded",
                                    silent.port())},
        {closed, fmt::format("error: failed to connect service at \"127.0.0.1:{0}\": dial tcp "
                             "127.0.0.1:{0}: connect: connection refused",
                             closed)},
        {http1.port(), fmt::format("error: failed to connect service at \"127.0.0.1:{}\": error "
                                   "reading server preface: ",
                                   http1.port())}}) {
    begin(probe(kGrpc, port));
    ASSERT_TRUE(run_until([&] { return last.failed; }));
    EXPECT_TRUE(last.last.message.starts_with(words)) << last.last.message;
    last = {};
  }
}

TEST_F(ProberTest, AnotherHostAndACommandWithoutAContainer) {
  Server server(loop, "HTTP/1.0 200 OK\r\n\r\n");
  ProbeSpec named = probe(kHttp, server.port());
  named.action.host = "localhost";
  begin(named);
  ASSERT_TRUE(run_until([&] { return !told.empty(); }));
  EXPECT_TRUE(told[0]) << last.last.message;
  told.clear();
  ProbeSpec command = probe(Action::Kind::kExec, 0);
  command.action.command = {"true"};
  begin(command);
  // It neither passes nor fails.
  ASSERT_TRUE(run_until([&] { return last.last.unknown; }));
  EXPECT_NE(last.last.message, "");
  EXPECT_TRUE(told.empty());
}

TEST_F(ProberTest, IsSilentOnceDestroyed) {
  Server server(loop, "HTTP/1.0 200 OK\r\n\r\n");
  begin(probe(kHttp, server.port()));
  ASSERT_TRUE(run_until([&] { return server.connections == 1; }));
  const std::size_t before = told.size();
  prober.reset();
  loop.run_for(std::chrono::milliseconds(30));
  EXPECT_EQ(told.size(), before);
}

}  // namespace
}  // namespace shoal::node

// SPDX-License-Identifier: Apache-2.0
// Requests that another host answers. One server is both:
//
//   [client] -- unix socket -- [Server: relay()] -- TLS, 127.0.0.1 -- [the same Server, as h1]
#include "agent/api/relay.h"

#include "tests/unit/agent/api/tls_fixture.h"

namespace shoal::api {
namespace {

class RelayTest : public TlsFixture {
protected:
  // What the far host does with what it gets.
  void far(std::string_view method, Handler handler) {
    prepare_ = [this, method, handler = std::move(handler)](Server& server) {
      server.route(method, "/pods/{name}/do", [this, handler](ExchangePtr x) {
        if (!x->request().header(kRelayedHeader).empty())
          return handler(std::move(x));
        relay(loop_.context(), {dir_ / "h2.crt", dir_ / "h2.key", dir_ / "ca.crt"},
              {host_, "127.0.0.1", port_ != 0 ? port_ : server_->tls_port()}, std::move(x));
      });
    };
    start();
  }
  std::string host_ = "h1";
  std::uint16_t port_ = 0;
};

TEST_F(RelayTest, TheRequestArrivesWholeAndSoDoesTheAnswer) {
  far("POST", [](const ExchangePtr& x) {
    const Request& asked = x->request();
    x->reply_bytes(418, "text/strange",
                   fmt::format("{} {} {} {} {} {}", asked.path, asked.query_or("a b"),
                               asked.query_or("c"), asked.header("content-type"), asked.body,
                               asked.peer.common_name));
  });
  const Answer answer = post("/pods/x%2Fy%20z/do?a%20b=%26&c=", std::string(100'000, 'x'));
  EXPECT_EQ(answer.status, 418);
  EXPECT_NE(answer.head.find("text/strange"), std::string::npos) << answer.head;
  EXPECT_EQ(answer.body, "/pods/x/y z/do &  application/json " + std::string(100'000, 'x') + " h2");
}

TEST_F(RelayTest, AStreamComesPieceByPiece) {
  ExchangePtr held;
  far("GET", [&](const ExchangePtr& x) {
    x->begin(200, "text/plain");
    x->write("first\n", [&held, x](bool ok) { held = ok ? x : nullptr; });
  });
  auto client = std::make_shared<Client>(options_.unix_path);
  EXPECT_EQ(call([client] {
              client->send(http("GET", "/pods/p/do"));
              client->read_until("\r\n\r\n");
              return client->read_chunk();
            }),
            "first\n");
  ASSERT_TRUE(held);
  held->write("second\n", [&held](bool ok) {
    ASSERT_TRUE(ok);
    held->end();
  });
  EXPECT_EQ(call([client] { return client->read_chunk() + client->read_chunk(); }), "second\n");
  held.reset();
}

TEST_F(RelayTest, AStreamEndsWithItsReader) {
  bool gone = false;
  ExchangePtr held;
  far("GET", [&](const ExchangePtr& x) {
    x->on_gone([&] {
      gone = true;
      held.reset();
    });
    x->begin(200, "text/plain");
    x->write("first\n", [&held, x](bool) { held = x; });
  });
  auto client = std::make_shared<Client>(options_.unix_path);
  call([client] {
    client->send(http("GET", "/pods/p/do"));
    return client->read_until("first");
  });
  client->close();
  EXPECT_TRUE(loop_.run_until([&] { return gone; }));
}

TEST_F(RelayTest, AnUpgradedConnectionCarriesBytesBothWays) {
  struct Echo : std::enable_shared_from_this<Echo> {
    RawStreamPtr raw;
    bool* ended;
    void next() {
      raw->read([self = shared_from_this()](Result<std::string_view> bytes) {
        if (!bytes || bytes->empty()) {
          *self->ended = true;
          return self->raw->close();
        }
        self->raw->write("<" + std::string(*bytes) + ">", [self](Result<>) { self->next(); });
      });
    }
  };
  bool ended = false;
  far("POST", [&](const ExchangePtr& x) {
    EXPECT_EQ(x->request().header("upgrade"), "echo");
    x->upgrade("echo", [&ended](RawStreamPtr raw) {
      auto echo = std::make_shared<Echo>();
      echo->raw = std::move(raw);
      echo->ended = &ended;
      echo->next();
    });
  });
  auto client = std::make_shared<Client>(options_.unix_path);
  const std::string head = call([client] {
    client->send(http("POST", "/pods/p/do", "{}", "Connection: Upgrade\r\nUpgrade: echo\r\n"));
    return client->read_until("\r\n\r\n");
  });
  EXPECT_TRUE(head.starts_with("HTTP/1.1 101")) << head;
  EXPECT_NE(head.find("Upgrade: echo"), std::string::npos) << head;
  EXPECT_EQ(call([client] {
              client->send("one");
              std::string seen = client->read_until(">");
              client->send("two");
              return seen + client->read_until(">");
            }),
            "<one><two>");
  client->close();
  EXPECT_TRUE(loop_.run_until([&] { return ended; }));
}

TEST_F(RelayTest, AHostThatCannotBeAskedIsNamed) {
  far("GET", [](const ExchangePtr& x) { x->reply_text(200, "never"); });
  host_ = "h3";  // the certificate there is h1's
  Answer answer = get("/pods/p/do");
  EXPECT_EQ(answer.status, 503);
  EXPECT_NE(answer.body.find("host h3 (127.0.0.1:"), std::string::npos) << answer.body;
  EXPECT_NE(answer.body.find("TLS"), std::string::npos) << answer.body;
  host_ = "h1";
  port_ = 1;
  answer = get("/pods/p/do");
  EXPECT_EQ(answer.status, 503);
  EXPECT_NE(answer.body.find("refused"), std::string::npos) << answer.body;
}

}  // namespace
}  // namespace shoal::api

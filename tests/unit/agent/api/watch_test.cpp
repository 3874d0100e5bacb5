// SPDX-License-Identifier: Apache-2.0
// Watches: order, beginnings, selections, slow readers.
#include "agent/api/selector.h"
#include "tests/unit/agent/api/server_fixture.h"

namespace shoal::api {
namespace {

namespace json = boost::json;

// A watch that is open: lines arrive as "TYPE name revision".
class Watch {
public:
  Watch(const std::filesystem::path& path, std::string_view target, std::string_view headers = "")
      : client_(path) {
    client_.send(http("GET", target, "", headers));
    head_ = client_.read_until("\r\n\r\n");
  }
  const std::string& head() const { return head_; }
  // "" at the end.
  std::string line() {
    std::size_t at;
    while ((at = lines_.find('\n')) == lines_.npos) {
      const std::string chunk = client_.read_chunk();
      if (chunk.empty())
        return "";
      lines_ += chunk;
    }
    const json::object event = json::parse(lines_.substr(0, at)).get_object();
    lines_.erase(0, at + 1);
    const json::object& object = event.at("object").as_object();
    const std::string type(event.at("type").as_string());
    if (type == "ERROR")
      return fmt::format("ERROR {}", object.at("code").as_int64());
    if (find_string(object, "kind") == "Table")
      return fmt::format("{} table {}", type,
                         std::string(object.at("rows").at(0).at("cells").at(0).as_string()));
    return fmt::format("{} {} {}", type, find_string(object, "metadata.name"),
                       find_string(object, "metadata.resourceVersion"));
  }

private:
  Client client_;
  std::string head_;
  std::string lines_;
};
using Lines = std::vector<std::string>;

class WatchTest : public ServerFixture {
protected:
  std::unique_ptr<Watch> open(std::string_view target, std::string_view headers = "") {
    return call([&] { return std::make_unique<Watch>(options_.unix_path, target, headers); });
  }
  Lines read(Watch& watch, int count) {
    return call([&watch, count] {
      Lines lines;
      for (int i = 0; i < count; ++i)
        lines.push_back(watch.line());
      return lines;
    });
  }
  store::Event pod(std::string_view name, store::Revision revision, std::string_view uid = "u1",
                   std::string_view app = "web", std::string_view node = "") {
    return {store::object_key("pods", "default", name),
            fmt::format(
                R"({{"apiVersion":"v1","kind":"Pod","metadata":{{"name":"{}","namespace":"default",
                            "uid":"{}","labels":{{"app":"{}"}}}},"spec":{{"nodeName":"{}"}}}})",
                name, uid, app, node),
            revision, revision};
  }
  void apply(std::vector<store::Event> events, store::Revision complete) {
    replica_.apply(events, complete);
  }
  void report(std::string_view name, std::string_view phase, std::string_view uid = "u1") {
    replica_.apply_status("h1", "pods", "default", name, json::object{{"phase", phase}}, uid);
  }
};

TEST_F(WatchTest, BeginsWithWhatIsThereAndFollows) {
  start();
  apply({pod("a", 2), pod("b", 3)}, 3);
  const auto watch = open("/api/v1/pods?watch=true");
  EXPECT_THAT(watch->head(), testing::HasSubstr("Transfer-Encoding: chunked"));
  EXPECT_EQ(read(*watch, 2), (Lines{"ADDED a 2", "ADDED b 3"}));
  apply({pod("c", 4)}, 4);
  apply({pod("a", 5)}, 5);
  apply({{store::object_key("pods", "default", "b"), std::nullopt, 0, 6}}, 6);
  EXPECT_EQ(read(*watch, 3), (Lines{"ADDED c 4", "MODIFIED a 5", "DELETED b 6"}));
}

TEST_F(WatchTest, GoesOnFromARevisionWithoutLossOrRepetition) {
  start();
  apply({pod("a", 2)}, 2);
  apply({pod("b", 3)}, 3);
  apply({pod("a", 4)}, 4);
  apply({pod("a", 5)}, 5);
  const auto watch = open("/api/v1/pods?watch=1&resourceVersion=3");
  apply({pod("c", 6)}, 6);
  EXPECT_EQ(read(*watch, 2), (Lines{"MODIFIED a 5", "ADDED c 6"})) << "the latest state of a, once";
}

TEST_F(WatchTest, ALifeThatEndedInBetweenIsTold) {
  start();
  apply({pod("a", 2)}, 2);
  apply({{store::object_key("pods", "default", "a"), std::nullopt, 0, 3}}, 3);
  apply({pod("a", 4, "u2")}, 4);
  const auto watch = open("/api/v1/pods?watch=1&resourceVersion=2");
  EXPECT_EQ(read(*watch, 2), (Lines{"DELETED a 3", "ADDED a 4"}));
}

TEST_F(WatchTest, ChangesOfStatusAreSeenByWhoeverMayHaveMissedThem) {
  start();
  apply({pod("a", 2, "u1", "web", "h1"), pod("b", 3, "u1", "web", "h1")}, 3);
  report("a", "Running");
  report("a", "Failed");
  const auto watch = open("/api/v1/pods?watch=1&resourceVersion=3");
  report("b", "Running");
  EXPECT_EQ(read(*watch, 2), (Lines{"MODIFIED a 2", "MODIFIED b 3"})) << "a once, as it is now";
}

TEST_F(WatchTest, StatusThatFellOutOfTheHistoryIsMadeGood) {
  options_.limits.watch_history_events_max = 4;
  start();
  apply({pod("a", 2, "u1", "web", "h1"), pod("b", 3, "u1", "web", "h1")}, 3);
  report("b", "Running");
  for (int i = 0; i < 20; ++i)  // no commit: the revision stays, and must stay good to begin from
    report("a", i % 2 ? "Running" : "Failed");
  const auto watch = open("/api/v1/pods?watch=1&resourceVersion=3");
  EXPECT_EQ(read(*watch, 2), (Lines{"MODIFIED a 2", "MODIFIED b 3"}));
}

TEST_F(WatchTest, CommitsArePassedOnInOrderWhateverGossipDoes) {
  start();
  apply({}, 2);
  const auto watch = open("/api/v1/pods?watch=1&resourceVersion=2");
  apply({pod("late", 5)}, 0);  // ahead: 3 and 4 are not known yet
  apply({pod("x", 3)}, 0);
  apply({pod("y", 4)}, 5);
  EXPECT_EQ(read(*watch, 3), (Lines{"ADDED x 3", "ADDED y 4", "ADDED late 5"}));
}

TEST_F(WatchTest, SelectionsAreEnteredAndLeft) {
  start();
  apply({pod("a", 2), pod("b", 3, "u1", "api")}, 3);
  const auto watch = open("/api/v1/namespaces/default/pods?watch=1&labelSelector=app%3Dweb");
  EXPECT_EQ(read(*watch, 1), (Lines{"ADDED a 2"}));
  apply({pod("b", 4)}, 4);                 // enters
  apply({pod("a", 5, "u1", "api")}, 5);    // leaves
  apply({pod("a", 6, "u1", "other")}, 6);  // unseen
  apply({pod("b", 7)}, 7);
  EXPECT_EQ(read(*watch, 3), (Lines{"ADDED b 4", "DELETED a 5", "MODIFIED b 7"}));
  const auto one = open(
      "/api/v1/namespaces/default/pods?watch=1&fieldSelector=metadata.name%3Db&resourceVersion=0");
  EXPECT_EQ(read(*one, 1), (Lines{"ADDED b 7"}));
}

TEST_F(WatchTest, TooOldARevisionIsExpired) {
  options_.limits.watch_history_events_max = 2;
  start();
  for (store::Revision r = 2; r < 10; ++r)
    apply({pod(fmt::format("p{}", r), r)}, r);
  const auto watch = open("/api/v1/pods?watch=1&resourceVersion=3");
  EXPECT_EQ(read(*watch, 2), (Lines{"ERROR 410", ""}));
  const auto recent = open("/api/v1/pods?watch=1&resourceVersion=8");
  EXPECT_EQ(read(*recent, 1), (Lines{"ADDED p9 9"}));
}

TEST_F(WatchTest, ASlowReaderIsCutOff) {
  options_.limits.watch_queue_events_max = 8;
  start();
  const auto watch = open("/api/v1/pods?watch=1");
  for (store::Revision r = 2; r < 4000; ++r)
    apply({pod("a", r, "u1", std::string(60, 'x'))}, r);
  const std::string last = call([&] {
    std::string line, before;
    while (!(line = watch->line()).empty())
      before = line;
    return before;
  });
  EXPECT_EQ(last, "ERROR 410");
  EXPECT_EQ(get("/livez").status, 200);
}

TEST_F(WatchTest, EndsWhenAskedTo) {
  start();
  const auto watch = open("/api/v1/pods?watch=1&timeoutSeconds=1");
  EXPECT_EQ(read(*watch, 1), (Lines{""}));
}

TEST_F(WatchTest, Tables) {
  start();
  apply({pod("a", 2)}, 2);
  const auto watch =
      open("/api/v1/pods?watch=1", "Accept: application/json;as=Table;v=v1;g=meta.k8s.io\r\n");
  EXPECT_EQ(read(*watch, 1), (Lines{"ADDED table a"}));
}

TEST_F(WatchTest, WatchesAreBounded) {
  options_.limits.watches_max = 2;
  start();
  auto a = open("/api/v1/pods?watch=1");
  const auto b = open("/api/v1/pods?watch=1");
  EXPECT_EQ(get("/api/v1/pods?watch=1").status, 429);
  a.reset();  // its place is free once the server has noticed
  ASSERT_TRUE(loop_.run_until([&] {
    const auto answer = call([&] {
      Watch w(options_.unix_path, "/api/v1/pods?watch=1");
      return w.head();
    });
    return answer.starts_with("HTTP/1.1 200");
  }));
}

TEST_F(WatchTest, StreamingListsAreRefusedSoThatClientsFallBack) {
  start();
  EXPECT_EQ(
      get("/api/v1/pods?watch=1&sendInitialEvents=true&resourceVersionMatch=NotOlderThan").status,
      422);
}

}  // namespace
}  // namespace shoal::api

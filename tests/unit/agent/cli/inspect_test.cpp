// SPDX-License-Identifier: Apache-2.0
// drops, flows and trace: what they ask, what they print, and what --follow says from look to look.
#include "agent/cli/commands.h"

#include <deque>
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sstream>

namespace shoal::cli {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;

class StringStreams final : public Streams {
public:
  void out(std::string_view text) override { output += text; }
  void err(std::string_view text) override { errors += text; }
  std::string output;
  std::string errors;
};

// One answer a look.
class Looks final : public Client {
public:
  explicit Looks(std::deque<std::string> answers)
      : Client("/nonexistent"), answers_(std::move(answers)) {}
  Result<Response> send(const Request& request) const override {
    asked.push_back(request.target);
    Response response{200, answers_.front(), {}};
    answers_.pop_front();
    return response;
  }
  bool more() const { return !answers_.empty(); }
  mutable std::vector<std::string> asked;

private:
  mutable std::deque<std::string> answers_;
};

constexpr const char* kDrops =
    R"({"atMilliseconds":5000,"drops":[{"reason":"TTL","meaning":"the hop limit ran out","packets":3},
       {"reason":"FIB","meaning":"no route","packets":0}]})";

TEST(Drops, OnlyWhatHappenedUnlessAllIsAskedFor) {
  StringStreams streams;
  const Looks api({kDrops, kDrops, R"({"drops":[]})"});
  EXPECT_EQ(*run_drops({api, streams}, {}, {}), 0);
  EXPECT_EQ(streams.output,
            "REASON   PACKETS   MEANING\nTTL      3         the hop limit ran out\n");
  streams.output.clear();
  EXPECT_EQ(*run_drops({api, streams}, {.all = true}, {}), 0);
  EXPECT_THAT(streams.output, HasSubstr("FIB      0         no route\n"));
  EXPECT_EQ(*run_drops({api, streams}, {}, {}), 0);
  EXPECT_THAT(streams.errors, HasSubstr("no packet was dropped"));
}

TEST(Drops, FollowTellsWhatCameSinceTheLastLookAndHowFast) {
  StringStreams streams;
  const Looks api(
      {kDrops,
       R"({"atMilliseconds":7000,"drops":[{"reason":"TTL","packets":13},{"reason":"FIB","packets":0}]})",
       R"({"atMilliseconds":8000,"drops":[{"reason":"TTL","packets":13},{"reason":"FIB","packets":1}]})",
       // Counters that went back: the maps were made anew.
       R"({"atMilliseconds":9000,"drops":[{"reason":"TTL","packets":2},{"reason":"FIB","packets":1}]})"});
  EXPECT_EQ(*run_drops({api, streams}, {.follow = true, .json = true}, [&] { return api.more(); }),
            0);
  EXPECT_EQ(streams.output, R"({"reason":"TTL","packets":13,"since":10,"perSecond":5E0}
{"reason":"FIB","packets":1,"since":1,"perSecond":1E0}
{"reason":"TTL","packets":2,"since":2,"perSecond":2E0}
)");
}

std::string flows(std::initializer_list<std::pair<int, const char*>> ports, bool complete = true) {
  std::string list;
  for (const auto& [port, state] : ports)
    list += fmt::format(
        R"({}{{"protocol":"TCP","direction":"forward","client":"198.18.0.101:{}","clientPod":"","frontend":"198.18.0.208:80","backend":"10.244.0.2:8080","pod":"default/web-1","service":"default/web","idleSeconds":2,"state":"{}"}})",
        list.empty() ? "" : ",", port, state);
  return fmt::format(R"({{"flows":[{}],"read":{},"complete":{}}})", list, ports.size(), complete);
}

TEST(Flows, AreListedByTheirRolesAndTheFilterIsSent) {
  StringStreams streams;
  const Looks api({flows({{4, "open"}}, false), flows({})});
  EXPECT_EQ(*run_flows({api, streams},
                       {.ns = "shop", .service = "web", .pod = "other/p", .limit = 1}, {}),
            0);
  EXPECT_THAT(api.asked, ElementsAre("/shoal/v1/flows?service=shop%2Fweb&pod=other%2Fp&limit=1"));
  EXPECT_THAT(streams.output,
              HasSubstr("TCP     forward     198.18.0.101:4   198.18.0.208:80   10.244.0.2:8080   "
                        "default/web-1   default/web   2s     open\n"));
  EXPECT_THAT(streams.errors, HasSubstr("the table holds more: 1 entries were read"));
  EXPECT_EQ(*run_flows({api, streams}, {}, {}), 0);
  EXPECT_EQ(api.asked.back(), "/shoal/v1/flows");
}

TEST(Flows, FollowTellsWhatBeginsAndEnds) {
  StringStreams streams;
  const Looks api({flows({{1, "open"}, {2, "open"}, {3, "closing"}}),
                   flows({{1, "open"}, {2, "closing"}, {4, "open"}}),
                   // 2 begins again under the same addresses; 1 was forgotten.
                   flows({{2, "open"}, {4, "open"}})});
  EXPECT_EQ(*run_flows({api, streams}, {.follow = true}, [&] { return api.more(); }), 0);
  std::vector<std::string> lines;
  std::istringstream in(streams.output);
  for (std::string line; std::getline(in, line);)
    lines.push_back(line.substr(0, line.find("   198.18.0.208")));
  EXPECT_THAT(lines, ElementsAre("new    TCP   forward   198.18.0.101:4",
                                 "ended  TCP   forward   198.18.0.101:2",
                                 "new    TCP   forward   198.18.0.101:2",
                                 "ended  TCP   forward   198.18.0.101:1"));
  EXPECT_THAT(streams.errors, HasSubstr("2 flows are open"));
  EXPECT_THAT(streams.errors, Not(HasSubstr("larger")));
  EXPECT_THAT(api.asked.front(), HasSubstr("limit=65536"));
}

TEST(Flows, FollowSaysOnceThatTheTableIsLarger) {
  StringStreams streams;
  const Looks api({flows({{1, "open"}}, false), flows({{1, "open"}}, false)});
  EXPECT_EQ(*run_flows({api, streams}, {.follow = true}, [&] { return api.more(); }), 0);
  const std::size_t at = streams.errors.find("larger than the 1 entries");
  ASSERT_NE(at, std::string::npos);
  EXPECT_EQ(streams.errors.find("larger", at + 1), std::string::npos);
  EXPECT_THAT(streams.output, IsEmpty());
}

TEST(TraceCommand, IsReadable) {
  StringStreams streams;
  const std::string answer =
      R"({"from":"outside client 198.18.0.101, port 4","to":"198.18.0.208:80","protocol":"TCP",
      "steps":[{"stage":"frontend","text":"it is"},{"stage":"pick","text":"by hash"}],"verdict":"backend","reason":"",
      "shares":[{"id":1,"share":0.75,"group":"v=blue","pod":"default/a","address":"10.244.0.2:80","way":"pod here"},
      {"id":2,"share":0.25,"group":"v=green","pod":"default/b","address":"10.244.1.2:80","way":"overlay to h2"}],
      "backend":{"id":2,"pod":"default/b","address":"10.244.1.2:80","way":"overlay to h2"}})";
  const Looks api({answer, answer, R"({"verdict":"refused","reason":"NO_BACKEND"})"});
  EXPECT_EQ(*run_trace({api, streams},
                       {.from = "outside:198.18.0.101", .to = "198.18.0.208:80", .source_port = 4}),
            0);
  EXPECT_EQ(streams.output, R"(TCP from outside client 198.18.0.101, port 4 to 198.18.0.208:80

  frontend  it is
  pick      by hash

SHARE   GROUP     BACKEND     ADDRESS         WAY
75.0%   v=blue    default/a   10.244.0.2:80   pod here
25.0%   v=green   default/b   10.244.1.2:80   overlay to h2   <- this one

result: backend default/b at 10.244.1.2:80, overlay to h2
)");
  EXPECT_EQ(
      *run_trace({api, streams}, {.ns = "shop", .from = "web-1", .to = "198.18.0.208:53/udp"}), 0);
  EXPECT_THAT(
      api.asked,
      ElementsAre("/shoal/v1/trace?from=outside%3A198.18.0.101&to=198.18.0.208%3A80&sourcePort=4",
                  "/shoal/v1/trace?from=shop%2Fweb-1&to=198.18.0.208%3A53%2Fudp"));
  streams.output.clear();
  EXPECT_EQ(*run_trace({api, streams}, {.from = "host", .to = "1.2.3.4:1"}), 0);
  EXPECT_THAT(streams.output,
              HasSubstr("result: refused at once, counted as NO_BACKEND (shoal drops)"));
}

}  // namespace
}  // namespace shoal::cli

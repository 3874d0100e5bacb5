// SPDX-License-Identifier: Apache-2.0
// Random clusters that change at random, and after every single item of every plan an outside look
// at the maps: does each service still serve what it served, and is nothing given away too early?
// Also: planning again is idle, order does not matter, a restart changes nothing.
//   SHOAL_TEST_SEED=n plan_test --gtest_filter='PlanFuzz*'     replays one
#include "map_state.h"
#include "netplane/base/random.h"
#include "netplane/plan/lb.h"
#include "netplane/plan/maglev.h"
#include "netplane/plan/render.h"
#include "plan_fixtures.h"

#include <cstdlib>

namespace shoal::plan {
namespace {

constexpr int kSeeds = 60;
constexpr int kSteps = 25;
constexpr unsigned kServicesMax = 6;

using Endpoint = std::pair<IpAddress, std::uint16_t>;
using Side = std::pair<FrontendKey, bool>;  // true: for clients outside
using Serving = std::map<Side, std::set<Endpoint>>;

class World {
public:
  explicit World(std::uint64_t seed) : random_(seed) { desired_ = three_hosts(); }

  void change() {
    const std::uint64_t what = random_.below(10);
    if (what == 0)
      desired_.nodes[1 + random_.below(2)].alive = random_.below(3) != 0;
    if (what <= 2 || desired_.services.empty())
      add_or_drop();
    if (random_.below(4) == 0)
      split_or_join();
    for (model::ServicePort& service : desired_.services)
      if (random_.below(3) == 0)
        change_service(service);
    shuffle(desired_.services);
  }

  // What a frontend may be answered by, read off the input by hand.
  Serving serving() const {
    Serving out;
    for (const model::ServicePort& service : desired_.services) {
      for (const model::Frontend& f : service.frontends) {
        const FrontendKey key{f.ip, f.port, f.proto};
        if (service.clients != model::Clients::kOutside)
          out[{key, false}] = eligible(service);
        if (service.clients != model::Clients::kInside && f.kind != model::FrontendKind::kClusterIp)
          out[{key, true}] = eligible(service);
      }
    }
    return out;
  }

  std::set<Endpoint> eligible(const model::ServicePort& service) const {
    for (const auto state : {model::BackendState::kReady, model::BackendState::kServing}) {
      std::set<Endpoint> out;
      for (const model::Backend& b : service.backends)
        if (b.state == state && alive(b.host) && weight(service, b.group) > 0)
          out.insert({b.ip, b.port});
      if (!out.empty())
        return out;
    }
    return {};
  }

  static std::uint32_t weight(const model::ServicePort& service, const std::string& group) {
    if (service.groups.empty())
      return 1;
    for (const model::WeightGroup& g : service.groups)
      if (g.name == group)
        return g.weight;
    return 0;
  }

  bool alive(const std::string& host) const {
    for (const model::Node& node : desired_.nodes)
      if (node.name == host)
        return node.alive || host == desired_.self;
    return false;
  }

  model::Desired shuffled() {
    model::Desired out = desired_;
    shuffle(out.services);
    shuffle(out.nodes);
    for (model::ServicePort& service : out.services) {
      shuffle(service.backends.edit());
      shuffle(service.groups);
      shuffle(service.frontends);
    }
    return out;
  }

  const model::Desired& desired() const { return desired_; }
  std::uint64_t below(std::uint64_t n) { return random_.below(n); }

private:
  template <class T>
  void shuffle(std::vector<T>& values) {
    for (std::size_t i = values.size(); i-- > 1;)
      std::swap(values[i], values[random_.below(i + 1)]);
  }

  void add_or_drop() {
    const auto n = static_cast<unsigned>(random_.below(kServicesMax));
    const std::string name = service(n, 0).name;
    if (std::erase_if(desired_.services, [&](const auto& s) { return s.name == name; }) == 0)
      desired_.services.push_back(
          in_family(service(n, static_cast<unsigned>(random_.below(5))), n));
  }

  // Every other service is an IPv6 one.
  static bool is_v6(unsigned n) { return n % 2 == 1; }
  static IpAddress in_family(const IpAddress& ip, unsigned n) {
    static const IpAddress base = *IpAddress::parse("fd00::");
    return is_v6(n) ? base.plus(ip.v4_host_order()) : ip;
  }
  static model::ServicePort in_family(model::ServicePort service, unsigned n) {
    if (is_v6(n))
      service.family = IpFamily::kV6;
    for (model::Frontend& frontend : service.frontends)
      frontend.ip = in_family(frontend.ip, n);
    for (model::Backend& backend : service.backends.edit())
      backend.ip = in_family(backend.ip, n);
    return service;
  }

  // One ring for all clients becomes two, with fewer backends for those outside, or the other way.
  void split_or_join() {
    if (desired_.services.empty())
      return;
    const auto chosen = static_cast<std::size_t>(random_.below(desired_.services.size()));
    const std::string name = desired_.services[chosen].name;
    const auto outside = [&](const model::ServicePort& s) {
      return s.name == name && s.clients == model::Clients::kOutside;
    };
    const bool was_split = std::erase_if(desired_.services, outside) > 0;
    for (std::size_t i = 0; i < desired_.services.size(); i++) {
      if (desired_.services[i].name != name)
        continue;
      desired_.services[i].clients = was_split ? model::Clients::kAll : model::Clients::kInside;
      if (was_split)
        return;
      model::ServicePort twin = desired_.services[i];
      twin.clients = model::Clients::kOutside;
      std::erase_if(twin.frontends, [](const model::Frontend& f) {
        return f.kind == model::FrontendKind::kClusterIp;
      });
      std::erase_if(twin.backends.edit(),
                    [&](const model::Backend&) { return random_.below(2) == 0; });
      desired_.services.push_back(twin);
      return;
    }
  }

  void change_service(model::ServicePort& service) {
    static const char* const kGroups[] = {"blue", "green", "red"};
    const auto n = static_cast<unsigned>(service.name[1] - '0');
    switch (random_.below(9)) {
    case 0:
      if (!service.backends.empty())
        service.backends.edit().erase(
            service.backends.edit().begin() +
            static_cast<std::ptrdiff_t>(random_.below(service.backends.size())));
      break;
    case 1: {
      model::Backend b =
          backend(n, static_cast<unsigned>(random_.below(8)), kGroups[random_.below(3)]);
      b.ip = in_family(b.ip, n);
      b.generation = static_cast<std::uint16_t>(1 + random_.below(3));
      std::erase_if(service.backends.edit(),
                    [&](const auto& o) { return o.ip == b.ip && o.port == b.port; });
      service.backends.push_back(b);
      break;
    }
    case 2:
      for (model::Backend& b : service.backends.edit()) {
        const std::uint64_t state = random_.below(6);
        b.state = state == 0   ? model::BackendState::kTerminating
                  : state <= 2 ? model::BackendState::kServing
                               : model::BackendState::kReady;
      }
      break;
    case 3:
      service.groups.clear();
      for (const char* name : kGroups)
        if (random_.below(3) != 0)
          service.groups.push_back({name, static_cast<std::uint32_t>(random_.below(4) * 30)});
      break;
    case 4: {
      const model::Frontend extra{in_family(IpAddress::v4(0xcb007100 + n), n), 80, L4Proto::kTcp,
                                  model::FrontendKind::kLoadBalancer};
      if (std::erase(service.frontends, extra) == 0)
        service.frontends.push_back(extra);
      break;
    }
    case 7: {  // on an address that others have too
      const model::Frontend extra{in_family(IpAddress::v4(0xcb0071c8), n),
                                  static_cast<std::uint16_t>(9000 + n), L4Proto::kTcp,
                                  model::FrontendKind::kExternalIp};
      if (std::erase(service.frontends, extra) == 0)
        service.frontends.push_back(extra);
      break;
    }
    case 5:
      service.affinity_s = random_.below(2) == 0 ? 0 : 60;
      break;
    case 6:
      service.source_ranges.clear();
      for (std::uint64_t i = random_.below(4); i > 0; i--)
        service.source_ranges.push_back(IpPrefix::containing(
            in_family(IpAddress::v4(0xc6336400 + static_cast<std::uint32_t>(random_.below(4) << 6)),
                      n),
            is_v6(n) ? 122 : 26));
      break;
    default:
      for (model::Backend& b : service.backends.edit())
        b.group = kGroups[random_.below(3)];
    }
  }

  SeededRandom random_;
  model::Desired desired_;
};

class PlanFuzz : public testing::Test {
protected:
  // One item after the other, with a look in between.
  void apply(const Plan& plan, const Serving& before, const Serving& after) {
    stamp_++;
    for (const Learned& learned : plan.learned)
      actual_.learn(learned);
    for (const Op& op : split_items(plan)) {
      maps_.apply(op);
      actual_.note(op, stamp_);
      for (const auto& [side, was] : before)
        if (const auto is = after.find(side);
            is != after.end() && !was.empty() && !is->second.empty())
          expect_serves(side, allowed(side, was, after));
      for (const auto& [side, is] : after)  // a new frontend appears when it can serve
        if (!is.empty() && !before.contains(side) && maps_.has_frontend(side.first, side.second))
          expect_serves(side, allowed(side, {}, after));
    }
  }

  // Who may answer in between: whoever did or will. When one ring becomes two, or two one, the
  // other side's backends too: a ring is switched before the entries that lead elsewhere are.
  static std::set<Endpoint> allowed(const Side& side, std::set<Endpoint> before,
                                    const Serving& after) {
    for (const bool outside : {false, true})
      if (const auto is = after.find({side.first, outside}); is != after.end())
        before.insert(is->second.begin(), is->second.end());
    return before;
  }

  void expect_serves(const Side& side, const std::set<Endpoint>& allowed) {
    const auto picks = maps_.picks(side.first, side.second);
    ASSERT_FALSE(picks.empty()) << side.first.ip.to_string() << " refuses "
                                << (side.second ? "outside" : "inside") << " in between";
    for (const auto& [id, slots] : picks) {
      const BackendEntry* entry = maps_.backend(id);
      ASSERT_NE(entry, nullptr);
      const Endpoint at{entry->ip, entry->port};
      ASSERT_TRUE(allowed.contains(at)) << "a stranger's backend";
    }
  }

  // The shares, computed by hand: weight over sum of weights, evenly within the group.
  void expect_shares(const World& world) {
    for (const model::ServicePort& service : world.desired().services) {
      std::map<std::string, std::pair<double, double>> groups;  // weight, backends
      double sum = 0;
      for (const model::Backend& b : service.backends) {
        if (!world.eligible(service).contains({b.ip, b.port}))
          continue;
        auto& group = groups[service.groups.empty() ? "" : b.group];
        if (group.second++ == 0) {
          group.first = World::weight(service, b.group);
          sum += group.first;
        }
      }
      for (const model::Frontend& f : service.frontends) {
        const bool outside = service.clients == model::Clients::kOutside;
        const auto picks = maps_.picks({f.ip, f.port, f.proto}, outside);
        double slots = 0;
        for (const auto& [id, count] : picks)
          slots += count;
        std::set<Endpoint> named;
        for (const auto& [id, count] : picks) {
          const BackendEntry* entry = maps_.backend(id);
          ASSERT_NE(entry, nullptr);
          named.insert({entry->ip, entry->port});
          for (const model::Backend& b : service.backends) {
            if (b.ip != entry->ip || b.port != entry->port)
              continue;
            ASSERT_EQ(b.generation, entry->generation);
            const auto& group = groups[service.groups.empty() ? "" : b.group];
            ASSERT_NEAR(count, slots * group.first / sum / group.second, 2.0);
          }
        }
        ASSERT_EQ(named, world.eligible(service)) << service.id();
      }
    }
  }

  // A plan for the services that differ alone, where that is enough.
  std::optional<Plan> plan_changed(const model::Desired& before, const model::Desired& now) {
    if (before.nodes != now.nodes)
      return std::nullopt;
    std::vector<ChangedService> changed;
    bool reshaped = false;
    const auto find = [](const model::Desired& in, const model::ServicePort& service) {
      const auto at = std::find_if(in.services.begin(), in.services.end(),
                                   [&](const auto& s) { return s.id() == service.id(); });
      return at == in.services.end() ? nullptr : &*at;
    };
    // One that no frontend leads to has no index.
    for (const model::ServicePort& was : before.services)
      if (!index_of_.contains(was.id()))
        return std::nullopt;
    for (const model::ServicePort& service : now.services) {
      const model::ServicePort* was = find(before, service);
      if (was != nullptr && *was == service)
        continue;
      changed.push_back({was, &service, was != nullptr ? index_of_.at(was->id()) : 0});
      reshaped |= was == nullptr || !model::same_but_backends(*was, service);
    }
    for (const model::ServicePort& was : before.services)
      if (find(now, was) == nullptr) {
        changed.push_back({&was, nullptr, index_of_.at(was.id())});
        reshaped = true;
      }
    std::optional<Plan> plan = plan_changes(now, changed, actual_);
    if (reshaped)
      (plan ? reshaped_plans_ : refused_plans_)++;
    return plan;
  }

  void run(std::uint64_t seed) {
    World world(seed);
    index_of_.clear();
    actual_ =
        Actual({.services = 16, .frontends = 64, .vips = 64, .backends = 128, .ring_blocks = 4096});
    maps_ = MapState();
    for (int step = 0; step < kSteps && !HasFatalFailure(); step++) {
      SCOPED_TRACE(fmt::format("SHOAL_TEST_SEED={} step {}", seed, step));
      const auto before = world.serving();
      const model::Desired was = world.desired();
      world.change();
      Plan plan = plan_services(world.desired(), actual_);
      ASSERT_TRUE(plan.issues.empty()) << render(plan);
      ASSERT_EQ(render(plan), render(plan_services(world.shuffled(), actual_)));
      bool adoptable = false;
      std::optional<Plan> known = plan_changed(was, world.desired());
      index_of_.clear();
      for (const Learned& learned : plan.learned)
        index_of_[learned.name] = learned.service;
      if (known) {
        // Strays may be taken up by services that did not change; whoever does not look at these
        // leaves them to their end.
        adoptable = !actual_.strays().empty();
        (adoptable ? known_beside_strays_ : known_plans_)++;
        if (!adoptable) {
          ASSERT_EQ(render(*known), render(plan));
        }
        for (const Learned& learned : known->learned)
          ASSERT_EQ(index_of_[learned.name], learned.service);
        plan = *std::move(known);
      }
      apply(plan, before, world.serving());
      ASSERT_THAT(maps_.violations(), testing::IsEmpty()) << render(plan);
      expect_shares(world);
      const Plan again = plan_services(world.desired(), actual_);
      if (adoptable) {
        ASSERT_EQ(render(again).find("ring"), std::string::npos) << render(again);
      } else {
        ASSERT_TRUE(again.empty()) << render(again) << "after\n"
                                   << render(plan) << "for\n"
                                   << render(world.desired());
      }
      if (world.below(3) == 0) {
        actual_.release(stamp_);
        maps_.grace();
      }
      if (world.below(4) == 0)
        restart(world);
    }
  }

  void restart(const World& world) {
    while (actual_.waiting()) {
      actual_.release(stamp_);
      maps_.grace();
      apply(plan_services(world.desired(), actual_), {}, {});
    }
    actual_ = Actual::recover(maps_.dump(), actual_.limits());
    const Plan plan = plan_services(world.desired(), actual_);
    ASSERT_TRUE(plan.empty()) << "after a restart:\n" << render(plan);
    for (const Learned& learned : plan.learned)
      actual_.learn(learned);
  }

  Actual actual_;
  MapState maps_;
  std::map<std::string, ServiceIndex> index_of_;
  unsigned known_plans_ = 0, known_beside_strays_ = 0, reshaped_plans_ = 0, refused_plans_ = 0;
  Stamp stamp_ = 0;
};

TEST_F(PlanFuzz, EveryPrefixServes) {
  if (const char* text = std::getenv("SHOAL_TEST_SEED")) {
    run(std::strtoull(text, nullptr, 10));
    return;
  }
  fmt::print("seeds 1 to {}\n", kSeeds);
  for (std::uint64_t seed = 1; seed <= kSeeds && !HasFailure(); seed++)
    run(seed);
  EXPECT_GT(known_plans_, kSeeds);
  EXPECT_GT(known_beside_strays_, kSeeds);
  EXPECT_GT(reshaped_plans_, kSeeds);
  EXPECT_GT(refused_plans_, 0U);
}

}  // namespace
}  // namespace shoal::plan

// SPDX-License-Identifier: Apache-2.0
#include "agent/gossip/core/member_table.h"

#include "agent/gossip/core/context.h"
#include "netplane/base/hash.h"

#include <algorithm>

namespace shoal::gossip {

Standing settled_standing(Standing s) {
  if (s.state == MemberState::kSuspect)
    s.state = MemberState::kAlive;
  return s;
}

bool Suspicion::accuse(const std::string& name) {
  if (accusers.size() >= kAccusersMax || std::ranges::find(accusers, name) != accusers.end())
    return false;
  accusers.push_back(name);
  return true;
}

MemberTable::MemberTable(Member self) {
  std::string name = self.name;
  self_ = &nodes_.emplace(std::move(name), Node{std::move(self), {}, {}}).first->second;
}

Node* MemberTable::find(std::string_view name) {
  const auto found = nodes_.find(name);
  return found == nodes_.end() ? nullptr : &found->second;
}

const Node* MemberTable::find(std::string_view name) const {
  const auto found = nodes_.find(name);
  return found == nodes_.end() ? nullptr : &found->second;
}

Node* MemberTable::insert(Member member, MonoTime since) {
  if (nodes_.size() >= kMembersMax)
    return nullptr;
  std::string name = member.name;
  return &nodes_.emplace(std::move(name), Node{std::move(member), since, {}}).first->second;
}

void MemberTable::erase(std::string_view name) {
  const auto found = nodes_.find(name);
  SHOAL_ASSERT(found != nodes_.end() && &found->second != self_);
  nodes_.erase(found);
}

std::size_t MemberTable::live() const {
  return static_cast<std::size_t>(
      std::ranges::count_if(nodes_, [](const auto& n) { return n.second.member.is_live(); }));
}

std::vector<const Node*>
MemberTable::choose_live(std::size_t count, Random& random,
                         const std::function<bool(const Member&)>& skip) const {
  std::vector<const Node*> out;
  for (const auto& [name, node] : nodes_)
    if (&node != self_ && node.member.is_live() && (!skip || !skip(node.member)))
      out.push_back(&node);
  choose(out, count, random);
  return out;
}

std::vector<const Node*> MemberTable::choose_dead(std::size_t count, Random& random) const {
  std::vector<const Node*> out;
  for (const auto& [name, node] : nodes_)
    if (&node != self_ && node.member.state == MemberState::kDead)
      out.push_back(&node);
  choose(out, count, random);
  return out;
}

std::vector<MemberDigest> MemberTable::digests() const {
  std::vector<MemberDigest> out;
  for (const auto& [name, node] : nodes_) {
    const Standing s = settled_standing(standing(node.member));
    out.push_back(MemberDigest{name, s.state, s.start_id, s.incarnation});
  }
  return out;
}

std::uint64_t MemberTable::summary() const {
  std::uint64_t sum = 0;
  for (const auto& [name, node] : nodes_) {
    const Standing s = settled_standing(standing(node.member));
    sum += hash64(name, mix64(s.start_id) ^ mix64(~s.incarnation) ^
                            mix64(static_cast<std::uint64_t>(s.state) << 56));
  }
  return sum;
}

}  // namespace shoal::gossip

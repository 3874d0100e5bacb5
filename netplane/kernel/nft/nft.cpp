// SPDX-License-Identifier: Apache-2.0
#include "netplane/kernel/nft/nft.h"

#include "netplane/kernel/nft/objects.h"
#include "netplane/kernel/rtnl/netns.h"

#include <algorithm>
#include <arpa/inet.h>
#include <fmt/format.h>
#include <functional>
#include <libmnl/libmnl.h>
#include <libnftnl/common.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>
#include <optional>

namespace shoal::kernel {
namespace {

using nft::Range;

constexpr std::size_t kMessageBytes =
    256 * 1024;  // a set of 4096 ranges takes 8192 elements of some 24 bytes
constexpr std::size_t kBatchBytes = 1 << 20;
constexpr std::size_t kElementsPerMessage = 1024;
constexpr int kReceiveTimeoutMs = 5000;

std::string join(std::vector<std::string> lines) {
  std::sort(lines.begin(), lines.end());
  std::string text;
  for (const std::string& line : lines)
    text += line + "\n";
  return text;
}

// One transaction: messages between a begin and an end, answered one by one.
class Batch {
public:
  Batch()
      : memory_(kBatchBytes),
        batch_(mnl_nlmsg_batch_start(memory_.data(), kBatchBytes - kMessageBytes)) {
    nftnl_batch_begin(next(), sequence_++);
    advance();
  }
  ~Batch() { mnl_nlmsg_batch_stop(batch_); }
  Batch(const Batch&) = delete;
  Batch& operator=(const Batch&) = delete;

  template <class Build>
  void add(std::uint16_t type, std::uint16_t flags, Build build) {
    nlmsghdr* header =
        nftnl_nlmsg_build_hdr(next(), type, NFPROTO_INET, flags | NLM_F_ACK, sequence_++);
    build(header);
    advance();
    messages_++;
  }
  void finish() {
    nftnl_batch_end(next(), sequence_++);
    advance();
  }
  void* data() { return mnl_nlmsg_batch_head(batch_); }
  std::size_t size() { return mnl_nlmsg_batch_size(batch_); }
  unsigned messages() const { return messages_; }

private:
  char* next() { return static_cast<char*>(mnl_nlmsg_batch_current(batch_)); }
  void advance() { SHOAL_ASSERT(mnl_nlmsg_batch_next(batch_)); }

  std::vector<char> memory_;
  mnl_nlmsg_batch* batch_;
  std::uint32_t sequence_ = 1;
  unsigned messages_ = 0;
};

using SocketPtr = std::unique_ptr<mnl_socket, nft::Deleter<mnl_socket_close>>;

class KernelNft final : public Nft {
public:
  explicit KernelNft(SocketPtr socket) : socket_(std::move(socket)) {}

  Result<> apply(const NftRules& rules) override {
    const auto pods = SHOAL_TRY(nft::ranges_of(rules.pods));
    const auto cluster = SHOAL_TRY(nft::ranges_of(rules.cluster));
    const auto nodes = SHOAL_TRY(nft::ranges_of(rules.nodes));
    Batch batch;
    drop_table(batch);
    const nft::TablePtr table = nft::make_table();
    batch.add(NFT_MSG_NEWTABLE, NLM_F_CREATE,
              [&](nlmsghdr* h) { nftnl_table_nlmsg_build_payload(h, table.get()); });
    const nft::ChainPtr chain = nft::make_chain();
    batch.add(NFT_MSG_NEWCHAIN, NLM_F_CREATE,
              [&](nlmsghdr* h) { nftnl_chain_nlmsg_build_payload(h, chain.get()); });
    add_set(batch, nft::kPodsSet, 1, true, pods);
    add_set(batch, nft::kClusterSet, 2, true, cluster);
    add_set(batch, nft::kNodesSet, 3, false, nodes);
    const nft::RulePtr rule = nft::make_rule(rules.internal_links);
    batch.add(NFT_MSG_NEWRULE, NLM_F_CREATE | NLM_F_APPEND,
              [&](nlmsghdr* h) { nftnl_rule_nlmsg_build_payload(h, rule.get()); });
    return commit(batch, "replace table inet shoal");
  }

  Result<> remove() override {
    Batch batch;
    drop_table(batch);
    return commit(batch, "remove table inet shoal");
  }

  Result<std::string> dump() override {
    std::vector<std::string> lines;
    bool exists = false;
    SHOAL_TRY(list(NFT_MSG_GETCHAIN, [&](const nlmsghdr* h) {
      nft::ChainPtr chain(nftnl_chain_alloc());
      if (nftnl_chain_nlmsg_parse(h, chain.get()) != 0 ||
          !ours(nftnl_chain_get_str(chain.get(), NFTNL_CHAIN_TABLE),
                nftnl_chain_get_u32(chain.get(), NFTNL_CHAIN_FAMILY)))
        return;
      exists = true;
      lines.push_back(nft::describe(chain.get()));
    }));
    if (!exists)
      return std::string();
    for (const char* name : {nft::kPodsSet, nft::kClusterSet, nft::kNodesSet}) {
      const auto ranges = SHOAL_TRY(read_set(name, name != std::string_view(nft::kNodesSet)));
      for (std::string& line : nft::describe(name, ranges))
        lines.push_back(std::move(line));
    }
    SHOAL_TRY(list(NFT_MSG_GETRULE, [&](const nlmsghdr* h) {
      nft::RulePtr rule(nftnl_rule_alloc());
      if (nftnl_rule_nlmsg_parse(h, rule.get()) == 0 &&
          ours(nftnl_rule_get_str(rule.get(), NFTNL_RULE_TABLE),
               nftnl_rule_get_u32(rule.get(), NFTNL_RULE_FAMILY)))
        lines.push_back(nft::describe(rule.get()));
    }));
    return join(std::move(lines));
  }

  Result<std::vector<std::string>> foreign_drops() override {
    std::vector<std::string> found;
    SHOAL_TRY(list(
        NFT_MSG_GETCHAIN,
        [&](const nlmsghdr* h) {
          nft::ChainPtr chain(nftnl_chain_alloc());
          if (nftnl_chain_nlmsg_parse(h, chain.get()) != 0)
            return;
          const std::string table = nftnl_chain_get_str(chain.get(), NFTNL_CHAIN_TABLE);
          const std::uint32_t family = nftnl_chain_get_u32(chain.get(), NFTNL_CHAIN_FAMILY);
          if (ours(table.c_str(), family) ||
              !nftnl_chain_is_set(chain.get(), NFTNL_CHAIN_HOOKNUM) ||
              nftnl_chain_get_u32(chain.get(), NFTNL_CHAIN_HOOKNUM) != NF_INET_FORWARD ||
              !nftnl_chain_is_set(chain.get(), NFTNL_CHAIN_POLICY) ||
              nftnl_chain_get_u32(chain.get(), NFTNL_CHAIN_POLICY) != NF_DROP)
            return;
          const char* name = family == NFPROTO_IPV4   ? "ip"
                             : family == NFPROTO_INET ? "inet"
                                                      : nullptr;
          if (name)
            found.push_back(fmt::format("{} {} {} policy drop", name, table,
                                        nftnl_chain_get_str(chain.get(), NFTNL_CHAIN_NAME)));
        },
        NFPROTO_UNSPEC));
    std::sort(found.begin(), found.end());
    return found;
  }

private:
  static bool ours(const char* table, std::uint32_t family) {
    return table && family == NFPROTO_INET && kNftTable == table;
  }

  // Made first so that the removal never fails for want of a table; all of it is one transaction.
  static void drop_table(Batch& batch) {
    const nft::TablePtr table = nft::make_table();
    batch.add(NFT_MSG_NEWTABLE, NLM_F_CREATE,
              [&](nlmsghdr* h) { nftnl_table_nlmsg_build_payload(h, table.get()); });
    batch.add(NFT_MSG_DELTABLE, 0,
              [&](nlmsghdr* h) { nftnl_table_nlmsg_build_payload(h, table.get()); });
  }

  static void add_set(Batch& batch, const char* name, std::uint32_t id, bool interval,
                      const std::vector<Range>& ranges) {
    const nft::SetPtr empty = nft::make_set(name, id, interval, {});
    batch.add(NFT_MSG_NEWSET, NLM_F_CREATE,
              [&](nlmsghdr* h) { nftnl_set_nlmsg_build_payload(h, empty.get()); });
    for (std::size_t at = 0; at < ranges.size(); at += kElementsPerMessage) {
      const std::vector<Range> part(ranges.begin() + static_cast<std::ptrdiff_t>(at),
                                    ranges.begin() + static_cast<std::ptrdiff_t>(std::min(
                                                         at + kElementsPerMessage, ranges.size())));
      const nft::SetPtr set = nft::make_set(name, id, interval, part);
      batch.add(NFT_MSG_NEWSETELEM, NLM_F_CREATE,
                [&](nlmsghdr* h) { nftnl_set_elems_nlmsg_build_payload(h, set.get()); });
    }
  }

  // The kernel answers each message of a batch that asked for it; the first error is the
  // transaction's.
  Result<> commit(Batch& batch, std::string_view what) {
    batch.finish();
    if (mnl_socket_sendto(socket_.get(), batch.data(), batch.size()) < 0)
      return fail_errno(fmt::format("{}: send", what));
    int error = 0;
    std::vector<char> buffer(MNL_SOCKET_BUFFER_SIZE);
    for (unsigned answers = 0; answers < batch.messages();) {
      const ssize_t n = mnl_socket_recvfrom(socket_.get(), buffer.data(), buffer.size());
      if (n < 0)
        return fail_errno(fmt::format("{}: receive", what));
      int left = static_cast<int>(n);
      for (auto* h = reinterpret_cast<nlmsghdr*>(buffer.data()); mnl_nlmsg_ok(h, left);
           h = mnl_nlmsg_next(h, &left)) {
        if (h->nlmsg_type != NLMSG_ERROR)
          continue;
        answers++;
        const auto* answer = static_cast<const nlmsgerr*>(mnl_nlmsg_get_payload(h));
        if (answer->error && !error)
          error = -answer->error;
      }
      if (error)
        break;  // an aborted transaction need not answer the rest
    }
    if (error) {
      drain();
      return fail_errno(error, std::string(what));
    }
    return {};
  }

  void drain() {
    std::vector<char> buffer(MNL_SOCKET_BUFFER_SIZE);
    while (::recv(mnl_socket_get_fd(socket_.get()), buffer.data(), buffer.size(), MSG_DONTWAIT) >
           0) {
    }
  }

  Result<> request(nlmsghdr* header, const std::function<void(const nlmsghdr*)>& each,
                   std::string_view what) {
    const std::uint32_t sequence = ++sequence_;
    header->nlmsg_seq = sequence;
    if (mnl_socket_sendto(socket_.get(), header, header->nlmsg_len) < 0)
      return fail_errno(fmt::format("{}: send", what));
    std::vector<char> buffer(kMessageBytes);
    for (;;) {
      const ssize_t n = mnl_socket_recvfrom(socket_.get(), buffer.data(), buffer.size());
      if (n < 0)
        return fail_errno(fmt::format("{}: receive", what));
      int left = static_cast<int>(n);
      for (auto* h = reinterpret_cast<nlmsghdr*>(buffer.data()); mnl_nlmsg_ok(h, left);
           h = mnl_nlmsg_next(h, &left)) {
        if (h->nlmsg_seq != sequence)
          continue;
        if (h->nlmsg_type == NLMSG_DONE)
          return {};
        if (h->nlmsg_type == NLMSG_ERROR) {
          const int error = -static_cast<const nlmsgerr*>(mnl_nlmsg_get_payload(h))->error;
          if (error)
            return fail_errno(error, std::string(what));
          return {};
        }
        each(h);
      }
    }
  }

  Result<> list(std::uint16_t type, const std::function<void(const nlmsghdr*)>& each,
                std::uint16_t family = NFPROTO_INET) {
    alignas(nlmsghdr) char buffer[1024];
    nlmsghdr* header = nftnl_nlmsg_build_hdr(buffer, type, family, NLM_F_DUMP, 0);
    return request(header, each, "list nftables objects");
  }

  Result<std::vector<Range>> read_set(const char* name, bool interval) {
    const nft::SetPtr wanted = nft::make_set(name, 0, interval, {});
    nftnl_set_unset(wanted.get(), NFTNL_SET_ID);
    alignas(nlmsghdr) char buffer[1024];
    nlmsghdr* header =
        nftnl_nlmsg_build_hdr(buffer, NFT_MSG_GETSETELEM, NFPROTO_INET, NLM_F_DUMP, 0);
    nftnl_set_elems_nlmsg_build_payload(header, wanted.get());
    const nft::SetPtr found(nftnl_set_alloc());
    SHOAL_TRY(request(
        header, [&](const nlmsghdr* h) { nftnl_set_elems_nlmsg_parse(h, found.get()); },
        fmt::format("list set {}", name)));
    return nft::elements_of(found.get(), interval);
  }

  SocketPtr socket_;
  std::uint32_t sequence_ = 0;
};

}  // namespace

std::string render(const NftRules& rules) {
  std::vector<std::string> lines = {nft::describe(nft::make_chain().get())};
  const std::pair<const char*, Result<std::vector<Range>>> sets[] = {
      {nft::kPodsSet, nft::ranges_of(rules.pods)},
      {nft::kClusterSet, nft::ranges_of(rules.cluster)},
      {nft::kNodesSet, nft::ranges_of(rules.nodes)}};
  for (const auto& [name, ranges] : sets)
    for (std::string& line : nft::describe(name, ranges.value_or(std::vector<Range>())))
      lines.push_back(std::move(line));
  const nft::RulePtr rule = nft::make_rule(rules.internal_links);
  lines.push_back(nft::describe(rule.get()));
  return join(std::move(lines));
}

Result<std::unique_ptr<Nft>> open_nft(int netns_fd) {
  std::optional<NetnsScope> scope;
  if (netns_fd >= 0)
    scope.emplace(SHOAL_TRY(NetnsScope::enter(netns_fd)));
  SocketPtr socket(mnl_socket_open2(NETLINK_NETFILTER, SOCK_CLOEXEC));
  if (!socket || mnl_socket_bind(socket.get(), 0, MNL_SOCKET_AUTOPID) < 0)
    return fail_errno("open nftables over netlink (is the kernel built with nf_tables?)");
  timeval timeout{kReceiveTimeoutMs / 1000, 0};
  ::setsockopt(mnl_socket_get_fd(socket.get()), SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof(timeout));
  return std::make_unique<KernelNft>(std::move(socket));
}

}  // namespace shoal::kernel

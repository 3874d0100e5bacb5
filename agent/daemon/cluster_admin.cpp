// SPDX-License-Identifier: Apache-2.0
#include "agent/daemon/cluster_admin.h"

#include "netplane/base/strings.h"

#include <boost/json.hpp>

namespace shoal::daemon {
namespace {

namespace json = boost::json;

constexpr std::string_view kTokenPrefix = "/alloc/join-tokens/";
constexpr std::string_view kCidrPrefix = "/alloc/pod-cidrs/";
constexpr int kAdmitTries = 16;

std::string cidr_key(const IpPrefix& cidr) {
  return fmt::format("{}{}", kCidrPrefix, cidr.address().to_string());
}

std::int64_t unix_seconds(WallTime time) {
  return std::chrono::floor<std::chrono::seconds>(time).time_since_epoch().count();
}

std::string random_bytes(Random& random, std::size_t n) {
  std::string bytes(n, '\0');
  random.fill({reinterpret_cast<std::uint8_t*>(bytes.data()), bytes.size()});
  return bytes;
}

// RFC 4122, version 4.
std::string make_uid(Random& random) {
  std::string b = random_bytes(random, 16);
  b[6] = static_cast<char>((static_cast<unsigned char>(b[6]) & 0x0f) | 0x40);
  b[8] = static_cast<char>((static_cast<unsigned char>(b[8]) & 0x3f) | 0x80);
  const std::string h = hex(b);
  return fmt::format("{}-{}-{}-{}-{}", h.substr(0, 8), h.substr(8, 4), h.substr(12, 4),
                     h.substr(16, 4), h.substr(20));
}

// Unused once expired; a value that does not parse counts as expired.
std::int64_t expiry_of(const store::Event& token) {
  boost::system::error_code error;
  const json::value value = json::parse(token.value.value_or(""), error);
  const json::value* expires =
      error || !value.is_object() ? nullptr : value.as_object().if_contains("expires");
  return expires && expires->is_int64() ? expires->as_int64() : 0;
}

}  // namespace

Result<ClusterFiles> make_cluster(std::string node_name, const IpAddress& address,
                                  std::uint16_t api_port, const ClusterSettings& settings,
                                  const Clock& clock, Random& random) {
  ClusterFiles files;
  files.cluster_id = hex(random_bytes(random, 8));
  files.node_name = std::move(node_name);
  files.store_host = true;
  files.store_api = {address, api_port};
  files.settings = settings;
  pki::KeyPair ca = SHOAL_TRY(pki::make_ca(files.cluster_id, clock, random));
  pki::Request request = SHOAL_TRY(pki::make_request(files.node_name));
  files.node_cert =
      SHOAL_TRY(pki::sign_request(ca, request.csr, {files.node_name, {address}}, clock,
                                  random)) +
      ca.cert;  // the chain: a joining host knows the CA by its fingerprint only
  files.node_key = std::move(request.key);
  files.ca_cert = std::move(ca.cert);
  files.ca_key = std::move(ca.key);
  files.gossip_key = random_bytes(random, 32);
  return files;
}

store::Txn register_node_txn(const std::string& node_name, const IpAddress& address,
                             const std::vector<IpPrefix>& pod_cidrs, const Clock& clock,
                             Random& random) {
  json::array cidrs;
  for (const IpPrefix& cidr : pod_cidrs)
    cidrs.emplace_back(cidr.to_string());
  json::object node{
      {"apiVersion", "v1"},
      {"kind", "Node"},
      {"metadata",
       {{"name", node_name},
        {"uid", make_uid(random)},
        {"creationTimestamp", rfc3339(clock.wall())},
        {"labels",
         {{"kubernetes.io/hostname", node_name},
          {"kubernetes.io/os", "linux"},
          {"kubernetes.io/arch", "amd64"}}}}},
      {"spec", {{"podCIDR", pod_cidrs.front().to_string()}, {"podCIDRs", std::move(cidrs)}}},
      {"status",
       {{"addresses", json::array{{{"type", "InternalIP"}, {"address", address.to_string()}},
                                  {{"type", "Hostname"}, {"address", node_name}}}}}}};
  const std::string node_key = store::object_key("nodes", "", node_name);
  store::Txn txn;
  txn.compares = {{node_key, 0}};
  for (const IpPrefix& cidr : pod_cidrs) {
    txn.compares.push_back({cidr_key(cidr), 0});
    txn.ops.push_back({cidr_key(cidr), json::serialize(json::object{{"owner", node_name}})});
  }
  txn.ops.push_back({node_key, json::serialize(node)});
  return txn;
}

namespace {

Result<IpPrefix> free_cidr(const IpPrefix& range, unsigned length, const store::Replica& replica) {
  const std::uint64_t count = range.count_of(length);
  for (std::uint64_t n = 0; n < count; n++) {
    IpPrefix cidr = SHOAL_TRY(range.nth(length, n));
    if (!replica.value(cidr_key(cidr)))
      return cidr;
  }
  return fail(Errc::kExhausted,
              fmt::format("all {} pod CIDRs of /{} in {} are taken; remove hosts that are gone "
                          "(shoal delete node NAME)",
                          count, length, range.to_string()));
}

}  // namespace

Result<std::vector<IpPrefix>> free_pod_cidrs(const ClusterSettings& settings,
                                             const store::Replica& replica) {
  std::vector<IpPrefix> cidrs;
  for (const IpPrefix& range : settings.pod_cidrs)
    cidrs.push_back(SHOAL_TRY(free_cidr(
        range, range.is_v4() ? settings.node_prefix_length : settings.node_prefix_length_v6,
        replica)));
  return cidrs;
}

ClusterAdmin::ClusterAdmin(const ClusterFiles& files, store::Store& store, store::Replica& replica,
                           const Clock& clock, Random& random, Post post)
    : files_(files), store_(store), replica_(replica), clock_(clock), random_(random),
      post_(std::move(post)) {
  node_changes_ = replica_.subscribe("nodes", [this](const store::Change& change) {
    if (change.kind == store::ChangeKind::kDeleted)
      free_cidrs_of(change.object->name);
  });
}

void ClusterAdmin::free_cidrs_of(const std::string& node_name) {
  const std::string owner = json::serialize(json::object{{"owner", node_name}});
  store::Txn txn;
  replica_.for_each_value(kCidrPrefix, [&](const store::Event& held) {
    if (held.value == owner && txn.ops.size() < store::kTxnOpsMax) {
      txn.compares.push_back({held.key, held.revision});
      txn.ops.push_back({held.key, std::nullopt});
    }
  });
  // A failure leaves the CIDR held, which only costs one of the pool.
  if (!txn.ops.empty())
    store_.txn(std::move(txn), [](Result<store::TxnResult>) {});
}

void ClusterAdmin::create_token(std::chrono::seconds lifetime, TokenDone done) {
  store::Txn txn;
  std::size_t live = 0;
  const std::int64_t now = unix_seconds(clock_.wall());
  replica_.for_each_value(kTokenPrefix, [&](const store::Event& held) {
    if (expiry_of(held) > now)
      live++;
    else if (txn.ops.size() < store::kTxnOpsMax / 2)
      txn.ops.push_back({held.key, std::nullopt});
  });
  if (live >= kTokensMax) {
    std::string text =
        fmt::format("{} unused join tokens exist already; they expire by themselves", live);
    return post_([done, text] { done(fail(Errc::kExhausted, text)); });
  }
  auto print = pki::fingerprint(files_.ca_cert);
  if (!print)
    return post_([done, error = print.error()] { done(fail(error)); });
  const pki::JoinToken token = pki::JoinToken::make(*print, random_);
  const std::string key = std::string(kTokenPrefix) + token.secret_hash();
  txn.compares.push_back({key, 0});
  txn.ops.push_back({key, json::serialize(json::object{{"expires", now + lifetime.count()}})});
  store_.txn(std::move(txn), [done, text = token.to_string()](Result<store::TxnResult> result) {
    if (!result)
      done(fail(std::move(result).error().wrap("create a join token")));
    else if (!result->committed)
      done(fail(Errc::kConflict, "create a join token: try again"));
    else
      done(text);
  });
}

void ClusterAdmin::admit(JoinRequest request, std::vector<SocketAddress> seeds, AdmitDone done) {
  admit_again(std::make_shared<JoinRequest>(std::move(request)),
              std::make_shared<std::vector<SocketAddress>>(std::move(seeds)), kAdmitTries,
              std::move(done));
}

void ClusterAdmin::admit_again(std::shared_ptr<JoinRequest> request,
                               std::shared_ptr<std::vector<SocketAddress>> seeds, int tries_left,
                               AdmitDone done) {
  const auto refuse = [this, done](Error error) { post_([done, error] { done(fail(error)); }); };
  const pki::JoinToken token{"", request->secret};
  const std::string token_key = std::string(kTokenPrefix) + token.secret_hash();
  const auto held = replica_.value(token_key);
  if (!held || expiry_of(*held) <= unix_seconds(clock_.wall()))
    return refuse(Error(Errc::kPermission,
                        "the join token is unknown, used up or expired; make a new one "
                        "on a member host: shoal token create"));
  if (replica_.get("nodes", "", request->node_name))
    return refuse(
        Error(Errc::kExists,
              fmt::format("a host named {0} is a member already; if it is gone for good, remove "
                          "it (shoal delete node {0}), or set node_name in the new host's config",
                          request->node_name)));
  auto cidrs = free_pod_cidrs(files_.settings, replica_);
  if (!cidrs)
    return refuse(std::move(cidrs).error());
  auto answer = answer_for(*request, *seeds);
  if (!answer)
    return refuse(std::move(answer).error());
  store::Txn txn = register_node_txn(request->node_name, request->address, *cidrs, clock_, random_);
  txn.compares.push_back({token_key, held->revision});
  txn.ops.push_back({token_key, std::nullopt});
  store_.txn(std::move(txn), [this, request, seeds, tries_left, done,
                              files = std::move(*answer)](Result<store::TxnResult> result) {
    if (!result)
      return done(fail(std::move(result).error().wrap("admit " + request->node_name)));
    if (result->committed)
      return done(files);
    if (tries_left <= 1)
      return done(fail(Errc::kConflict,
                       "admit " + request->node_name + ": too many joins at once; try again"));
    // What was lost is in the replica by now: look again.
    admit_again(request, seeds, tries_left - 1, done);
  });
}

Result<ClusterFiles> ClusterAdmin::answer_for(const JoinRequest& request,
                                              const std::vector<SocketAddress>& seeds) {
  ClusterFiles answer;
  answer.cluster_id = files_.cluster_id;
  answer.node_name = request.node_name;
  answer.store_api = files_.store_api;
  answer.seeds = seeds;
  answer.settings = files_.settings;
  answer.ca_cert = files_.ca_cert;
  answer.gossip_key = files_.gossip_key;
  answer.node_cert =
      SHOAL_TRY(pki::sign_request({files_.ca_key, files_.ca_cert}, request.csr,
                                  {request.node_name, {request.address}}, clock_, random_)) +
      files_.ca_cert;
  return answer;
}

}  // namespace shoal::daemon

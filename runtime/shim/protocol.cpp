// SPDX-License-Identifier: Apache-2.0
#include "runtime/shim/protocol.h"

#include <type_traits>

namespace shoal::runtime::shim {
namespace {

class Writer {
public:
  template <class T>
  void number(T value) {
    using U = std::make_unsigned_t<T>;
    const U bits = static_cast<U>(value);
    for (std::size_t i = 0; i < sizeof(T); ++i)
      out_.push_back(static_cast<char>((bits >> (8 * i)) & 0xff));
  }
  void boolean(bool value) { number<std::uint8_t>(value ? 1 : 0); }
  void text(std::string_view value) {
    number(static_cast<std::uint32_t>(value.size()));
    out_.append(value);
  }
  void raw(std::string_view bytes) { out_.append(bytes); }
  std::string take() { return std::move(out_); }

private:
  std::string out_;
};

// Reads until the first shortage; from then on gives zeros and says so in ok().
class Reader {
public:
  explicit Reader(std::string_view bytes) : rest_(bytes) {}
  bool ok() const { return ok_; }

  template <class T>
  T number() {
    using U = std::make_unsigned_t<T>;
    if (!has(sizeof(T)))
      return 0;
    U bits = 0;
    for (std::size_t i = 0; i < sizeof(T); ++i)
      bits =
          static_cast<U>(bits | (static_cast<U>(static_cast<unsigned char>(rest_[i])) << (8 * i)));
    rest_.remove_prefix(sizeof(T));
    return static_cast<T>(bits);
  }
  bool boolean() { return number<std::uint8_t>() != 0; }
  // Fields from here on were added later: an older peer's message ends here.
  bool more() const { return ok_ && !rest_.empty(); }
  std::string text() {
    const auto size = number<std::uint32_t>();
    if (!has(size))
      return {};
    std::string value(rest_.substr(0, size));
    rest_.remove_prefix(size);
    return value;
  }
  // A count of elements that take at least bytes_each: a lying count cannot make us allocate.
  std::uint32_t count(std::size_t bytes_each) {
    const auto items = number<std::uint32_t>();
    if (items > kListItemsMax || !has(items * bytes_each)) {
      ok_ = false;
      return 0;
    }
    return items;
  }
  std::string_view rest() const { return rest_; }

private:
  bool has(std::size_t bytes) {
    ok_ = ok_ && rest_.size() >= bytes;
    return ok_;
  }
  std::string_view rest_;
  bool ok_ = true;
};

std::unexpected<Error> torn(const char* what) {
  return fail(Errc::kCorrupt, std::string("shim protocol: ") + what + " is torn");
}

void put(Writer& out, const ContainerRef& value) {
  out.text(value.name);
  out.number(value.attempt);
}
ContainerRef get_ref(Reader& in) {
  ContainerRef value;
  value.name = in.text();
  value.attempt = in.number<std::uint32_t>();
  return value;
}

// A list element carries its length, so that a newer shim may append fields to it.
std::string state_body(const ContainerState& value) {
  Writer out;
  put(out, value.ref);
  out.number(static_cast<std::uint8_t>(value.phase));
  out.number(value.pid);
  out.number(value.start_ticks);
  out.number(value.started_at_ns);
  out.number(value.finished_at_ns);
  out.number(value.exit_code);
  out.number(value.signal);
  out.boolean(value.oom_killed);
  out.number(value.log_errors);
  out.number(value.sandbox_id);
  out.text(value.message);
  out.boolean(value.enterable);
  return out.take();
}

template <class T>
void put_list(Writer& out, const std::vector<T>& list) {
  out.number(static_cast<std::uint32_t>(list.size()));
  for (const T& element : list)
    if constexpr (std::is_integral_v<T>)
      out.number(element);
    else
      out.text(element);
}
template <class T>
void get_list(Reader& in, std::vector<T>& list) {
  for (std::uint32_t left = in.count(4); in.ok() && left > 0; --left)
    if constexpr (std::is_integral_v<T>)
      list.push_back(in.number<T>());
    else
      list.push_back(in.text());
}

}  // namespace

std::string container_id(const ContainerRef& ref) {
  return ref.name + "-" + std::to_string(ref.attempt);
}

std::string container_record_name(std::uint32_t attempt) {
  return std::to_string(attempt) + ".state";
}

bool is_container_name(std::string_view name) {
  if (name.empty() || name.size() > kContainerNameMax || name.front() == '-' || name.back() == '-')
    return false;
  for (const char c : name)
    if (!((c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-'))
      return false;
  return true;
}

std::string encode_message(MessageType type, std::uint32_t seq, std::string_view payload) {
  Writer out;
  out.number(kMagic);
  out.number(kProtocolVersion);
  out.number(static_cast<std::uint16_t>(type));
  out.number(std::uint16_t{0});
  out.number(seq);
  out.number(static_cast<std::uint32_t>(payload.size()));
  out.raw(payload);
  return out.take();
}

Result<Message> decode_message(std::string_view bytes) {
  Reader in(bytes);
  const auto magic = in.number<std::uint16_t>();
  Message message;
  message.header.version = in.number<std::uint16_t>();
  message.header.type = static_cast<MessageType>(in.number<std::uint16_t>());
  in.number<std::uint16_t>();
  message.header.seq = in.number<std::uint32_t>();
  const auto payload_bytes = in.number<std::uint32_t>();
  if (!in.ok())
    return torn("header");
  if (magic != kMagic)
    return fail(Errc::kCorrupt, "shim protocol: the peer speaks something else");
  if (payload_bytes != in.rest().size())
    return torn("message");
  message.payload = in.rest();
  return message;
}

std::string encode(const ContainerRef& value) {
  Writer out;
  put(out, value);
  return out.take();
}

std::string encode(const ContainerState& value) { return state_body(value); }

std::string encode(const PodState& value) {
  Writer out;
  out.number(value.shim_pid);
  out.number(value.shim_start_ticks);
  out.number(static_cast<std::uint32_t>(value.containers.size()));
  for (const ContainerState& container : value.containers)
    out.text(state_body(container));
  out.number(value.sandbox_id);
  return out.take();
}

std::string encode(const CreateRequest& value) {
  Writer out;
  put(out, value.ref);
  out.text(value.bundle);
  out.text(value.log_dir);
  out.number(value.log_file_bytes_max);
  out.number(value.log_files_max);
  out.number(value.timeout_ms);
  out.text(value.termination_log);
  out.boolean(value.termination_from_log);
  out.boolean(value.open_stdin);
  out.boolean(value.stdin_once);
  out.boolean(value.terminal);
  out.boolean(value.shares_pids);
  return out.take();
}

std::string encode(const SignalRequest& value) {
  Writer out;
  put(out, value.ref);
  out.number(value.signal);
  return out.take();
}

std::string encode(const StopRequest& value) {
  Writer out;
  put(out, value.ref);
  out.number(value.signal);
  out.number(value.grace_ms);
  return out.take();
}

std::string encode(const ExecRequest& value) {
  Writer out;
  put(out, value.ref);
  out.text(value.process);
  out.number(value.timeout_ms);
  return out.take();
}

std::string encode(const EnterRequest& value) {
  Writer out;
  put(out, value.ref);
  put_list(out, value.args);
  out.number(value.timeout_ms);
  out.boolean(value.terminal);
  out.number(value.rows);
  out.number(value.columns);
  return out.take();
}

std::string encode(const AttachRequest& value) {
  Writer out;
  put(out, value.ref);
  out.boolean(value.input);
  out.boolean(value.output);
  out.boolean(value.error);
  return out.take();
}

std::string encode(const ResizeRequest& value) {
  Writer out;
  put(out, value.ref);
  out.number(value.rows);
  out.number(value.columns);
  return out.take();
}

std::string encode(const ExecPlan& value) {
  Writer out;
  out.number(value.uid);
  out.number(value.gid);
  put_list(out, value.groups);
  out.text(value.cwd);
  out.text(value.env);
  out.number(value.capabilities);
  out.boolean(value.no_new_privileges);
  out.boolean(value.has_oom_score_adj);
  out.number(value.oom_score_adj);
  out.number(value.nofile);
  put_list(out, value.cgroups);
  out.text(value.cgroup2);
  out.text(value.seccomp);
  out.number(value.seccomp_flags);
  return out.take();
}

std::string encode(const ExecResult& value) {
  Writer out;
  out.number(value.exit_code);
  out.boolean(value.timed_out);
  return out.take();
}

std::string encode(const Reply& value) {
  Writer out;
  out.boolean(value.ok);
  out.number(static_cast<std::uint8_t>(value.code));
  out.text(value.message);
  out.text(value.body);
  return out.take();
}

template <>
Result<ContainerRef> decode(std::string_view payload) {
  Reader in(payload);
  ContainerRef value = get_ref(in);
  if (!in.ok())
    return torn("container");
  return value;
}

template <>
Result<ContainerState> decode(std::string_view payload) {
  Reader in(payload);
  ContainerState value;
  value.ref = get_ref(in);
  const auto phase = in.number<std::uint8_t>();
  value.pid = in.number<std::int32_t>();
  value.start_ticks = in.number<std::uint64_t>();
  value.started_at_ns = in.number<std::int64_t>();
  value.finished_at_ns = in.number<std::int64_t>();
  value.exit_code = in.number<std::int32_t>();
  value.signal = in.number<std::int32_t>();
  value.oom_killed = in.boolean();
  value.log_errors = in.number<std::uint64_t>();
  if (in.more())
    value.sandbox_id = in.number<std::uint64_t>();
  if (in.more())
    value.message = in.text();
  if (in.more())
    value.enterable = in.boolean();
  if (!in.ok() || phase < 1 || phase > 3)
    return torn("container state");
  value.phase = static_cast<ContainerPhase>(phase);
  return value;
}

template <>
Result<PodState> decode(std::string_view payload) {
  Reader in(payload);
  PodState value;
  value.shim_pid = in.number<std::int32_t>();
  value.shim_start_ticks = in.number<std::uint64_t>();
  for (std::uint32_t left = in.count(4); in.ok() && left > 0; --left)
    value.containers.push_back(SHOAL_TRY(decode<ContainerState>(in.text())));
  if (in.more())
    value.sandbox_id = in.number<std::uint64_t>();
  if (!in.ok())
    return torn("pod state");
  return value;
}

template <>
Result<CreateRequest> decode(std::string_view payload) {
  Reader in(payload);
  CreateRequest value;
  value.ref = get_ref(in);
  value.bundle = in.text();
  value.log_dir = in.text();
  value.log_file_bytes_max = in.number<std::uint64_t>();
  value.log_files_max = in.number<std::uint32_t>();
  value.timeout_ms = in.number<std::uint32_t>();
  if (in.more()) {
    value.termination_log = in.text();
    value.termination_from_log = in.boolean();
  }
  if (in.more()) {
    value.open_stdin = in.boolean();
    value.stdin_once = in.boolean();
    value.terminal = in.boolean();
  }
  if (in.more())
    value.shares_pids = in.boolean();
  if (!in.ok())
    return torn("create request");
  return value;
}

template <>
Result<SignalRequest> decode(std::string_view payload) {
  Reader in(payload);
  SignalRequest value;
  value.ref = get_ref(in);
  value.signal = in.number<std::int32_t>();
  if (!in.ok())
    return torn("signal request");
  return value;
}

template <>
Result<StopRequest> decode(std::string_view payload) {
  Reader in(payload);
  StopRequest value;
  value.ref = get_ref(in);
  value.signal = in.number<std::int32_t>();
  value.grace_ms = in.number<std::uint32_t>();
  if (!in.ok())
    return torn("stop request");
  return value;
}

template <>
Result<ExecRequest> decode(std::string_view payload) {
  Reader in(payload);
  ExecRequest value;
  value.ref = get_ref(in);
  value.process = in.text();
  value.timeout_ms = in.number<std::uint32_t>();
  if (!in.ok())
    return torn("exec request");
  return value;
}

template <>
Result<EnterRequest> decode(std::string_view payload) {
  Reader in(payload);
  EnterRequest value;
  value.ref = get_ref(in);
  get_list(in, value.args);
  value.timeout_ms = in.number<std::uint32_t>();
  value.terminal = in.boolean();
  value.rows = in.number<std::uint16_t>();
  value.columns = in.number<std::uint16_t>();
  if (!in.ok())
    return torn("enter request");
  return value;
}

template <>
Result<AttachRequest> decode(std::string_view payload) {
  Reader in(payload);
  AttachRequest value;
  value.ref = get_ref(in);
  value.input = in.boolean();
  value.output = in.boolean();
  value.error = in.boolean();
  if (!in.ok())
    return torn("attach request");
  return value;
}

template <>
Result<ResizeRequest> decode(std::string_view payload) {
  Reader in(payload);
  ResizeRequest value;
  value.ref = get_ref(in);
  value.rows = in.number<std::uint16_t>();
  value.columns = in.number<std::uint16_t>();
  if (!in.ok())
    return torn("resize request");
  return value;
}

template <>
Result<ExecPlan> decode(std::string_view payload) {
  Reader in(payload);
  ExecPlan value;
  value.uid = in.number<std::uint32_t>();
  value.gid = in.number<std::uint32_t>();
  get_list(in, value.groups);
  value.cwd = in.text();
  value.env = in.text();
  value.capabilities = in.number<std::uint64_t>();
  value.no_new_privileges = in.boolean();
  value.has_oom_score_adj = in.boolean();
  value.oom_score_adj = in.number<std::int32_t>();
  value.nofile = in.number<std::uint64_t>();
  get_list(in, value.cgroups);
  value.cgroup2 = in.text();
  value.seccomp = in.text();
  value.seccomp_flags = in.number<std::uint32_t>();
  if (!in.ok())
    return torn("exec plan");
  return value;
}

template <>
Result<ExecResult> decode(std::string_view payload) {
  Reader in(payload);
  ExecResult value;
  value.exit_code = in.number<std::int32_t>();
  value.timed_out = in.boolean();
  if (!in.ok())
    return torn("exec result");
  return value;
}

template <>
Result<Reply> decode(std::string_view payload) {
  Reader in(payload);
  Reply value;
  value.ok = in.boolean();
  const auto code = in.number<std::uint8_t>();
  value.message = in.text();
  value.body = in.text();
  if (!in.ok())
    return torn("reply");
  value.code = code <= static_cast<std::uint8_t>(Errc::kInternal) ? static_cast<Errc>(code)
                                                                  : Errc::kInternal;
  return value;
}

std::string encode_container_record(const ContainerState& state) {
  return encode_message(MessageType::kEvent, 0, encode(state));
}

Result<ContainerState> decode_container_record(std::string_view bytes) {
  const Message message = SHOAL_TRY(decode_message(bytes));
  if (message.header.type != MessageType::kEvent || message.header.version != kProtocolVersion)
    return fail(Errc::kCorrupt, "not a container's record");
  return decode<ContainerState>(message.payload);
}

}  // namespace shoal::runtime::shim

// SPDX-License-Identifier: Apache-2.0
#include "runtime/spec/seccomp_filter.h"

#include "netplane/base/strings.h"
#include "netplane/base/unique_fd.h"

#include <algorithm>
#include <array>
#include <boost/json.hpp>
#include <cerrno>
#include <fmt/format.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <seccomp.h>
#include <span>
#include <sys/mman.h>
#include <unistd.h>

namespace shoal::runtime {
namespace {

namespace json = boost::json;

constexpr std::size_t kArgsMax = 6;

struct Context {
  scmp_filter_ctx it;
  explicit Context(std::uint32_t default_action) : it(seccomp_init(default_action)) {}
  Context(const Context&) = delete;
  Context& operator=(const Context&) = delete;
  ~Context() { seccomp_release(it); }
};

std::unexpected<Error> bad(std::string what) {
  return fail(Errc::kInvalid, "seccomp profile: " + std::move(what));
}

Result<std::string> text_of(const json::object& object, std::string_view key) {
  const json::value* value = object.if_contains(key);
  if (value == nullptr || !value->is_string())
    return bad(fmt::format("\"{}\" must be a string", key));
  return std::string(value->as_string());
}

Result<std::uint64_t> number_of(const json::object& object, std::string_view key,
                                std::uint64_t fallback) {
  const json::value* value = object.if_contains(key);
  if (value == nullptr)
    return fallback;
  boost::system::error_code error;
  const auto number = value->to_number<std::uint64_t>(error);
  if (error)
    return bad(fmt::format("\"{}\" must be a number from 0", key));
  return number;
}

Result<const json::array*> list_of(const json::object& object, std::string_view key) {
  static const json::array kNone;
  const json::value* value = object.if_contains(key);
  if (value == nullptr || value->is_null())
    return &kNone;
  if (!value->is_array())
    return bad(fmt::format("\"{}\" must be a list", key));
  return &value->as_array();
}

Result<std::uint32_t> action_of(const std::string& name, std::uint64_t errno_ret) {
  if (errno_ret > UINT16_MAX)
    return bad("an errnoRet is larger than 65535");
  const auto data = static_cast<std::uint16_t>(errno_ret);
  if (name == "SCMP_ACT_ALLOW")
    return SCMP_ACT_ALLOW;
  if (name == "SCMP_ACT_ERRNO")
    return SCMP_ACT_ERRNO(data);
  if (name == "SCMP_ACT_KILL" || name == "SCMP_ACT_KILL_THREAD")
    return SCMP_ACT_KILL_THREAD;
  if (name == "SCMP_ACT_KILL_PROCESS")
    return SCMP_ACT_KILL_PROCESS;
  if (name == "SCMP_ACT_TRAP")
    return SCMP_ACT_TRAP;
  if (name == "SCMP_ACT_TRACE")
    return SCMP_ACT_TRACE(data);
  if (name == "SCMP_ACT_LOG")
    return SCMP_ACT_LOG;
  if (name == "SCMP_ACT_NOTIFY")
    return fail(Errc::kUnsupported, "seccomp profile: SCMP_ACT_NOTIFY is not supported");
  return bad(fmt::format("unknown action \"{}\"", printable(name)));
}

Result<scmp_compare> compare_of(const std::string& name) {
  using Pair = std::pair<std::string_view, scmp_compare>;
  constexpr std::array kNames = std::to_array<Pair>({{"SCMP_CMP_NE", SCMP_CMP_NE},
                                                     {"SCMP_CMP_LT", SCMP_CMP_LT},
                                                     {"SCMP_CMP_LE", SCMP_CMP_LE},
                                                     {"SCMP_CMP_EQ", SCMP_CMP_EQ},
                                                     {"SCMP_CMP_GE", SCMP_CMP_GE},
                                                     {"SCMP_CMP_GT", SCMP_CMP_GT},
                                                     {"SCMP_CMP_MASKED_EQ", SCMP_CMP_MASKED_EQ}});
  const auto* at = std::ranges::find(kNames, name, &Pair::first);
  if (at == kNames.end())
    return bad(fmt::format("unknown comparison \"{}\"", printable(name)));
  return at->second;
}

Result<std::vector<scmp_arg_cmp>> conditions_of(const json::object& rule) {
  std::vector<scmp_arg_cmp> conditions;
  for (const json::value& value : *SHOAL_TRY(list_of(rule, "args"))) {
    if (!value.is_object())
      return bad("an entry of \"args\" must be an object");
    const json::object& arg = value.as_object();
    const std::uint64_t index = SHOAL_TRY(number_of(arg, "index", 0));
    if (index >= kArgsMax)
      return bad("a system call has arguments 0 to 5");
    const scmp_compare op = SHOAL_TRY(compare_of(SHOAL_TRY(text_of(arg, "op"))));
    conditions.push_back({static_cast<unsigned>(index), op, SHOAL_TRY(number_of(arg, "value", 0)),
                          SHOAL_TRY(number_of(arg, "valueTwo", 0))});
  }
  return conditions;
}

bool same_argument_twice(std::span<const scmp_arg_cmp> conditions) {
  std::array<int, kArgsMax> seen{};
  return std::ranges::any_of(conditions,
                             [&](const scmp_arg_cmp& each) { return seen[each.arg]++ > 0; });
}

Result<> add(const Context& context, std::uint32_t action, const std::string& name,
             std::span<const scmp_arg_cmp> conditions) {
  const int number = seccomp_syscall_resolve_name(name.c_str());
  if (number == __NR_SCMP_ERROR)
    return {};  // of another architecture, or newer than the library
  const int rc = seccomp_rule_add_array(
      context.it, action, number, static_cast<unsigned>(conditions.size()), conditions.data());
  if (rc != 0 && rc != -EEXIST)
    return fail_errno(-rc, fmt::format("seccomp profile: the rule for {}", printable(name)));
  return {};
}

Result<> add_rule(const Context& context, std::uint32_t default_action, const json::object& rule) {
  const std::uint32_t action = SHOAL_TRY(
      action_of(SHOAL_TRY(text_of(rule, "action")), SHOAL_TRY(number_of(rule, "errnoRet", EPERM))));
  const std::vector<scmp_arg_cmp> conditions = SHOAL_TRY(conditions_of(rule));
  if (action == default_action)
    return {};
  for (const json::value& value : *SHOAL_TRY(list_of(rule, "names"))) {
    if (!value.is_string())
      return bad("an entry of \"names\" must be a string");
    const std::string name(value.as_string());
    if (!same_argument_twice(conditions)) {
      SHOAL_TRY(add(context, action, name, conditions));
      continue;
    }
    for (const scmp_arg_cmp& each : conditions)
      SHOAL_TRY(add(context, action, name, {&each, 1}));
  }
  return {};
}

Result<> add_architectures(const Context& context, const json::object& profile) {
  for (const json::value& value : *SHOAL_TRY(list_of(profile, "architectures"))) {
    constexpr std::string_view kPrefix = "SCMP_ARCH_";
    const std::string_view name = value.is_string() ? std::string_view(value.as_string()) : "";
    const std::uint32_t token =
        name.starts_with(kPrefix)
            ? seccomp_arch_resolve_name(to_lower(name.substr(kPrefix.size())).c_str())
            : 0;
    if (token == 0)
      return bad(fmt::format("unknown architecture \"{}\"", printable(name)));
    if (const int rc = seccomp_arch_add(context.it, token); rc != 0 && rc != -EEXIST)
      return fail_errno(-rc, fmt::format("seccomp profile: architecture {}", name));
  }
  return {};
}

Result<std::uint32_t> flags_of(const json::object& profile) {
  std::uint32_t flags = 0;
  for (const json::value& value : *SHOAL_TRY(list_of(profile, "flags"))) {
    const std::string_view name = value.is_string() ? std::string_view(value.as_string()) : "";
    if (name == "SECCOMP_FILTER_FLAG_LOG")
      flags |= SECCOMP_FILTER_FLAG_LOG;
    else if (name == "SECCOMP_FILTER_FLAG_SPEC_ALLOW")
      flags |= SECCOMP_FILTER_FLAG_SPEC_ALLOW;
    else if (name != "SECCOMP_FILTER_FLAG_TSYNC")  // a new process has one thread
      return bad(fmt::format("unknown flag \"{}\"", printable(name)));
  }
  return flags;
}

Result<std::string> program_of(const Context& context) {
  const UniqueFd file(::memfd_create("seccomp", MFD_CLOEXEC));
  if (!file)
    return fail_errno("make a memfd");
  if (const int rc = seccomp_export_bpf(context.it, file.get()); rc != 0)
    return fail_errno(-rc, "make a seccomp program");
  std::string program(static_cast<std::size_t>(::lseek(file.get(), 0, SEEK_END)), '\0');
  if (::pread(file.get(), program.data(), program.size(), 0) !=
      static_cast<ssize_t>(program.size()))
    return fail_errno("read a seccomp program");
  return program;
}

}  // namespace

Result<SeccompFilter> seccomp_filter(std::string_view profile) {
  boost::system::error_code error;
  const json::value parsed = json::parse(profile, error);
  if (error || !parsed.is_object())
    return bad(fmt::format("not a JSON object{}", error ? ": " + error.message() : ""));
  const json::object& object = parsed.as_object();
  const std::uint32_t default_action =
      SHOAL_TRY(action_of(SHOAL_TRY(text_of(object, "defaultAction")),
                          SHOAL_TRY(number_of(object, "defaultErrnoRet", EPERM))));
  const Context context(default_action);
  if (context.it == nullptr)
    return bad("this default action cannot be used");
  SHOAL_TRY(add_architectures(context, object));
  for (const json::value& value : *SHOAL_TRY(list_of(object, "syscalls"))) {
    if (!value.is_object())
      return bad("an entry of \"syscalls\" must be an object");
    SHOAL_TRY(add_rule(context, default_action, value.as_object()));
  }
  // A tree instead of a list: a call is found by a few comparisons.
  seccomp_attr_set(context.it, SCMP_FLTATR_CTL_OPTIMIZE, 2);
  return SeccompFilter{SHOAL_TRY(program_of(context)), SHOAL_TRY(flags_of(object))};
}

}  // namespace shoal::runtime

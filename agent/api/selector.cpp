// SPDX-License-Identifier: Apache-2.0
#include "agent/api/selector.h"

#include "netplane/base/strings.h"

#include <algorithm>
#include <fmt/format.h>

namespace shoal::api {
namespace json = boost::json;
namespace {

constexpr std::size_t kLabelNameMax = 63;
constexpr std::size_t kRequirementsMax = 128;

bool is_alnum(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
}

bool is_qualified_name(std::string_view text) {
  if (text.empty() || text.size() > kLabelNameMax || !is_alnum(text.front()) ||
      !is_alnum(text.back()))
    return false;
  return std::all_of(text.begin(), text.end(),
                     [](char c) { return is_alnum(c) || c == '-' || c == '_' || c == '.'; });
}

// A tokenizer for set-based selectors: words, and the signs = == != , ( ).
class Lexer {
public:
  explicit Lexer(std::string_view text) : rest_(text) { next(); }
  std::string_view token() const { return token_; }
  bool at_end() const { return token_.empty(); }
  void next() {
    while (!rest_.empty() && (rest_.front() == ' ' || rest_.front() == '\t'))
      rest_.remove_prefix(1);
    std::size_t size = 0;
    if (rest_.starts_with("==") || rest_.starts_with("!="))
      size = 2;
    else if (!rest_.empty() && is_sign(rest_.front()))
      size = 1;
    else
      while (size < rest_.size() && !is_sign(rest_[size]) && rest_[size] != ' ' &&
             rest_[size] != '\t')
        ++size;
    token_ = rest_.substr(0, size);
    rest_.remove_prefix(size);
  }
  bool take(std::string_view wanted) {
    if (token_ != wanted)
      return false;
    next();
    return true;
  }
  std::string take_word() {
    std::string word;
    if (!token_.empty() && !is_sign(token_.front())) {
      word = token_;
      next();
    }
    return word;
  }

private:
  static bool is_sign(char c) { return c == '=' || c == '!' || c == ',' || c == '(' || c == ')'; }
  std::string_view rest_, token_;
};

std::unexpected<Error> bad(std::string_view text, std::string_view why) {
  return fail(Errc::kInvalid,
              fmt::format("unable to parse selector \"{}\": {}", printable(text), why));
}

Result<LabelSelector::Requirement> parse_requirement(Lexer& lexer, std::string_view whole) {
  using Operator = LabelSelector::Operator;
  LabelSelector::Requirement requirement;
  const bool absent = lexer.take("!");
  requirement.key = lexer.take_word();
  if (std::string problem = label_key_problem(requirement.key); !problem.empty())
    return bad(whole, fmt::format("key \"{}\": {}", requirement.key, problem));
  if (absent) {
    requirement.op = Operator::kDoesNotExist;
    return requirement;
  }
  if (lexer.at_end() || lexer.token() == ",") {
    requirement.op = Operator::kExists;
    return requirement;
  }
  if (lexer.take("=") || lexer.take("==")) {
    requirement.values.push_back(lexer.take_word());
  } else if (lexer.take("!=")) {
    requirement.op = Operator::kNotIn;
    requirement.values.push_back(lexer.take_word());
  } else {
    const std::string word = lexer.take_word();
    if (word != "in" && word != "notin")
      return bad(whole,
                 fmt::format("after \"{}\": expected =, ==, !=, in or notin", requirement.key));
    requirement.op = word == "in" ? Operator::kIn : Operator::kNotIn;
    if (!lexer.take("("))
      return bad(whole, fmt::format("expected \"(\" after \"{}\"", word));
    do
      requirement.values.push_back(lexer.take_word());
    while (lexer.take(","));
    if (!lexer.take(")"))
      return bad(whole, "expected \")\"");
  }
  for (const std::string& value : requirement.values)
    if (std::string problem = label_value_problem(value); !problem.empty())
      return bad(whole, fmt::format("value \"{}\": {}", value, problem));
  return requirement;
}

Result<LabelSelector::Requirement> requirement_from_json(const json::object& expression) {
  using Operator = LabelSelector::Operator;
  LabelSelector::Requirement requirement;
  requirement.key = find_string(expression, "key");
  const std::string_view op = find_string(expression, "operator");
  if (op == "In")
    requirement.op = Operator::kIn;
  else if (op == "NotIn")
    requirement.op = Operator::kNotIn;
  else if (op == "Exists")
    requirement.op = Operator::kExists;
  else if (op == "DoesNotExist")
    requirement.op = Operator::kDoesNotExist;
  else
    return fail(Errc::kInvalid,
                fmt::format("operator \"{}\": must be In, NotIn, Exists or DoesNotExist", op));
  if (const json::array* values = find_array(expression, "values"))
    for (const json::value& value : *values)
      if (value.is_string())
        requirement.values.emplace_back(value.get_string());
  const bool wants_values = requirement.op == Operator::kIn || requirement.op == Operator::kNotIn;
  if (wants_values == requirement.values.empty())
    return fail(Errc::kInvalid,
                fmt::format("operator {} {} values", op, wants_values ? "needs" : "takes no"));
  return requirement;
}

bool holds(const LabelSelector::Requirement& requirement, const json::object* labels) {
  using Operator = LabelSelector::Operator;
  const json::value* found = labels ? labels->if_contains(requirement.key) : nullptr;
  const bool present = found && found->is_string();
  const auto listed = [&] {
    return std::any_of(requirement.values.begin(), requirement.values.end(),
                       [&](const std::string& v) { return found->get_string() == v; });
  };
  switch (requirement.op) {
  case Operator::kIn:
    return present && listed();
  case Operator::kNotIn:
    return !present || !listed();  // Kubernetes: an absent label is not in the set
  case Operator::kExists:
    return present;
  case Operator::kDoesNotExist:
    return !present;
  }
  return false;
}

}  // namespace

LabelSelector LabelSelector::nothing() {
  LabelSelector selector;
  selector.nothing_ = true;
  return selector;
}

Result<LabelSelector> LabelSelector::parse(std::string_view text) {
  LabelSelector selector;
  if (trim(text).empty())
    return selector;
  Lexer lexer(text);
  do {
    if (selector.requirements_.size() >= kRequirementsMax)
      return bad(text, "too many requirements");
    selector.requirements_.push_back(SHOAL_TRY(parse_requirement(lexer, text)));
  } while (lexer.take(","));
  if (!lexer.at_end())
    return bad(text, fmt::format("unexpected \"{}\"", lexer.token()));
  return selector;
}

LabelSelector LabelSelector::from_labels(const json::object* labels) {
  if (!labels || labels->empty())
    return nothing();
  LabelSelector selector;
  for (const auto& [key, value] : *labels)
    if (value.is_string())
      selector.requirements_.push_back(
          {std::string(key), Operator::kIn, {std::string(value.get_string())}});
  return selector;
}

Result<LabelSelector> LabelSelector::from_json(const json::object& json_selector) {
  LabelSelector selector;
  if (const json::object* labels = find_object(json_selector, "matchLabels");
      labels && !labels->empty())
    selector = from_labels(labels);
  if (const json::array* expressions = find_array(json_selector, "matchExpressions"))
    for (const json::value& expression : *expressions) {
      if (!expression.is_object())
        return fail(Errc::kInvalid, "matchExpressions: expected objects");
      selector.requirements_.push_back(SHOAL_TRY(requirement_from_json(expression.get_object())));
    }
  return selector;
}

bool LabelSelector::matches(const json::object* labels) const {
  return !nothing_ && std::all_of(requirements_.begin(), requirements_.end(),
                                  [&](const Requirement& r) { return holds(r, labels); });
}

Result<std::vector<FieldRequirement>> parse_field_selector(std::string_view text) {
  std::vector<FieldRequirement> requirements;
  if (trim(text).empty())
    return requirements;
  for (std::string_view part : split(text, ',')) {
    part = trim(part);
    const std::size_t at = part.find('=');
    if (at == part.npos || at == 0)
      return fail(Errc::kInvalid,
                  fmt::format("invalid field selector \"{}\": expected field=value or field!=value",
                              printable(part)));
    FieldRequirement requirement;
    requirement.negate = part[at - 1] == '!';
    requirement.field = part.substr(0, requirement.negate ? at - 1 : at);
    std::string_view value = part.substr(at + 1);
    if (value.starts_with('='))
      value.remove_prefix(1);
    requirement.value = value;
    requirements.push_back(std::move(requirement));
  }
  return requirements;
}

const json::value* find_path(const json::object& body, std::string_view dotted) {
  const json::object* at = &body;
  for (;;) {
    const std::size_t dot = dotted.find('.');
    const json::value* found = at->if_contains(dotted.substr(0, dot));
    if (!found || dot == dotted.npos)
      return found;
    at = found->if_object();
    if (!at)
      return nullptr;
    dotted.remove_prefix(dot + 1);
  }
}

std::string_view find_string(const json::object& body, std::string_view dotted) {
  const json::value* found = find_path(body, dotted);
  return found && found->is_string() ? std::string_view(found->get_string()) : std::string_view{};
}

std::int64_t find_int(const json::object& body, std::string_view dotted, std::int64_t otherwise) {
  const json::value* found = find_path(body, dotted);
  if (!found)
    return otherwise;
  if (found->is_int64())
    return found->get_int64();
  if (found->is_uint64() && found->get_uint64() <= INT64_MAX)
    return static_cast<std::int64_t>(found->get_uint64());
  return otherwise;
}

const json::object* find_object(const json::object& body, std::string_view dotted) {
  const json::value* found = find_path(body, dotted);
  return found ? found->if_object() : nullptr;
}

const json::array* find_array(const json::object& body, std::string_view dotted) {
  const json::value* found = find_path(body, dotted);
  return found ? found->if_array() : nullptr;
}

const json::object* labels_of(const json::object& body) {
  return find_object(body, "metadata.labels");
}
const json::object* annotations_of(const json::object& body) {
  return find_object(body, "metadata.annotations");
}

std::string label_key_problem(std::string_view key) {
  std::string_view name = key;
  if (const std::size_t slash = key.find('/'); slash != key.npos) {
    if (!is_dns_subdomain(key.substr(0, slash)))
      return "prefix part must be a lowercase RFC 1123 subdomain";
    name = key.substr(slash + 1);
  }
  if (!is_qualified_name(name))
    return "name part must consist of 1 to 63 alphanumeric characters, '-', '_' or '.', and must "
           "start and end with an alphanumeric character";
  return {};
}

std::string label_value_problem(std::string_view value) {
  if (value.empty() || is_qualified_name(value))
    return {};
  return "a valid label must be an empty string or consist of at most 63 alphanumeric characters, "
         "'-', '_' or '.', and must start and end with an alphanumeric character";
}

}  // namespace shoal::api

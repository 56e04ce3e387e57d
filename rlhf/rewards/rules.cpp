#include "rlhf/rewards/rules.h"

#include <algorithm>
#include <cmath>
#include <numbers>
#include <set>

#include "rlhf/core/config_node.h"
#include "rlhf/core/options.h"
#include "rlhf/rewards/accuracy.h"
#include "rlhf/rewards/ascii.h"
#include "rlhf/rewards/plugin_rule.h"
#include "rlhf/rewards/regex_rule.h"

namespace rlhf {
namespace {

constexpr std::string_view kThink = "<think>";
constexpr std::string_view kThought = "</think>";

/// Every parameter of every rule; a rule reads those that its row of the table names.
struct Parameters {
  std::optional<std::string> column;
  int64_t max_len = 1000;
  double min_value_wrong = -1.0;
  double max_value_wrong = -0.5;
  double min_value_correct = 0.5;
  double max_value_correct = 1.0;
  int64_t target = 0;
  int64_t ngram_size = 3;
  double max_penalty = -1.0;
  int64_t max_completion_len = 0;
  int64_t soft_punish_cache = 0;
  std::string pattern;
  std::string flags;
  bool full = false;
  std::optional<RegexRule> regex;  ///< made of the three above
};

using Score = std::optional<double> (*)(const Parameters&, const RewardInput&);

std::vector<std::string> solution_columns(const Parameters& parameters) {
  if (parameters.column) return {*parameters.column};
  return {"solution", "answer"};
}

/// The known solution: a text as it stands, anything else as it is written in JSON.
std::string solution_of(const Parameters& parameters, const Json& columns) {
  for (const auto& name : solution_columns(parameters)) {
    const auto found = columns.find(name);
    if (found == columns.end() || found->is_null()) continue;
    return found->is_string() ? found->get<std::string>() : found->dump();
  }
  return "";
}

std::optional<double> score_accuracy(const Parameters& parameters, const RewardInput& input) {
  return accuracy(input.text, solution_of(parameters, input.columns));
}

std::optional<double> score_reasoning(const Parameters& parameters, const RewardInput& input) {
  const std::string solution = solution_of(parameters, input.columns);
  const size_t end = input.text.rfind(kThought);
  if (end == std::string_view::npos) {
    // Without an answer there is nothing right; without a solution nothing can be said.
    return accuracy("", solution) ? std::optional(0.0) : std::nullopt;
  }
  return accuracy(input.text.substr(end + kThought.size()), solution);
}

std::optional<double> score_exact(const Parameters& parameters, const RewardInput& input) {
  return exact_match(input.text, solution_of(parameters, input.columns));
}

std::optional<double> score_think(const Parameters&, const RewardInput& input) {
  const bool opens = input.text.starts_with(kThink) &&
                     input.text.find(kThink, kThink.size()) == std::string_view::npos;
  return opens && input.text.find(kThought) != std::string_view::npos ? 1.0 : 0.0;
}

std::optional<double> score_cosine(const Parameters& parameters, const RewardInput& input) {
  const auto right = score_accuracy(parameters, input);
  if (!right) return std::nullopt;
  const bool correct = *right == 1.0;
  const double low = correct ? parameters.min_value_correct : parameters.max_value_wrong;
  const double high = correct ? parameters.max_value_correct : parameters.min_value_wrong;
  const double progress =
      static_cast<double>(input.ids.size()) / static_cast<double>(parameters.max_len);
  return low + 0.5 * (high - low) * (1.0 + std::cos(progress * std::numbers::pi));
}

std::optional<double> score_length(const Parameters& parameters, const RewardInput& input) {
  const double target = static_cast<double>(parameters.target);
  return -std::abs(static_cast<double>(input.ids.size()) - target) / target;
}

std::optional<double> score_repetition(const Parameters& parameters, const RewardInput& input) {
  const auto size = static_cast<size_t>(parameters.ngram_size);
  if (input.ids.size() < size) return 0.0;
  std::set<std::vector<int32_t>> distinct;
  const size_t all = input.ids.size() - size + 1;
  for (size_t i = 0; i < all; ++i) {
    const auto ngram = input.ids.subspan(i, size);
    distinct.emplace(ngram.begin(), ngram.end());
  }
  const double repeated = 1.0 - static_cast<double>(distinct.size()) / static_cast<double>(all);
  return repeated > 0.0 ? repeated * parameters.max_penalty : 0.0;
}

std::optional<double> score_overlong(const Parameters& parameters, const RewardInput& input) {
  const auto tokens = static_cast<int64_t>(input.ids.size());
  const int64_t free = parameters.max_completion_len - parameters.soft_punish_cache;
  if (tokens <= free) return 0.0;
  if (tokens > parameters.max_completion_len) return -1.0;
  return static_cast<double>(free - tokens) / static_cast<double>(parameters.soft_punish_cache);
}

std::optional<double> score_digits(const Parameters&, const RewardInput& input) {
  if (input.text.empty()) return 0.0;
  const auto digits = std::count_if(input.text.begin(), input.text.end(), is_digit);
  return static_cast<double>(digits) / static_cast<double>(input.text.size());
}

std::optional<double> score_regex(const Parameters& parameters, const RewardInput& input) {
  return parameters.regex->matches(input.text) ? 1.0 : 0.0;
}

struct Rule {
  std::string_view name;
  std::vector<std::string_view> trl_names;
  std::vector<std::string_view> parameters;
  bool needs_solution;
  Score score;
};

const std::vector<Rule>& rules() {
  static const std::vector<Rule> all = {
      {"accuracy", {"accuracy_reward"}, {"column"}, true, score_accuracy},
      {"reasoning_accuracy", {"reasoning_accuracy_reward"}, {"column"}, true, score_reasoning},
      {"exact_match", {}, {"column"}, true, score_exact},
      {"think_format", {"think_format_reward"}, {}, false, score_think},
      {"cosine",
       {"get_cosine_scaled_reward", "cosine_scaled_reward"},
       {"column", "max_len", "min_value_wrong", "max_value_wrong", "min_value_correct",
        "max_value_correct"},
       true,
       score_cosine},
      {"length", {}, {"target"}, false, score_length},
      {"repetition_penalty",
       {"get_repetition_penalty_reward", "repetition_penalty_reward"},
       {"ngram_size", "max_penalty"},
       false,
       score_repetition},
      {"soft_overlong",
       {"get_soft_overlong_punishment", "soft_overlong_punishment_reward"},
       {"max_completion_len", "soft_punish_cache"},
       false,
       score_overlong},
      {"digit_share", {}, {}, false, score_digits},
      {"regex", {}, {"pattern", "full", "flags"}, false, score_regex}};
  return all;
}

const Rule* find_rule(std::string_view name) {
  for (const auto& rule : rules()) {
    const auto& other = rule.trl_names;
    if (rule.name == name || std::find(other.begin(), other.end(), name) != other.end())
      return &rule;
  }
  return nullptr;
}

/// Declares those of `parameters` that the rule reads.
void declare(OptionSet& set, const Rule& rule, Parameters& parameters) {
  for (const auto name : rule.parameters) {
    if (name == "column") set.add("column", parameters.column, "Column with the known solution.");
    if (name == "max_len")
      set.add("max_len", parameters.max_len, "Length at which the cosine ends.").at_least(1);
    if (name == "min_value_wrong")
      set.add("min_value_wrong", parameters.min_value_wrong, "Of the shortest wrong answer.");
    if (name == "max_value_wrong")
      set.add("max_value_wrong", parameters.max_value_wrong, "Of the longest wrong answer.");
    if (name == "min_value_correct")
      set.add("min_value_correct", parameters.min_value_correct, "Of the longest right answer.");
    if (name == "max_value_correct")
      set.add("max_value_correct", parameters.max_value_correct, "Of the shortest right answer.");
    if (name == "target") set.add("target", parameters.target, "Wanted length.").at_least(1);
    if (name == "ngram_size")
      set.add("ngram_size", parameters.ngram_size, "Tokens of an n-gram.").at_least(1);
    if (name == "max_penalty")
      set.add("max_penalty", parameters.max_penalty, "Reward of pure repetition.").between(-1e9, 0);
    if (name == "max_completion_len")
      set.add("max_completion_len", parameters.max_completion_len, "L.").at_least(1);
    if (name == "soft_punish_cache")
      set.add("soft_punish_cache", parameters.soft_punish_cache, "c.").at_least(0);
    if (name == "pattern") set.add("pattern", parameters.pattern, "Regular expression.");
    if (name == "full") set.add("full", parameters.full, "The whole text must match.");
    if (name == "flags") set.add("flags", parameters.flags, "Letters of i, s, m, x.");
  }
}

/// Opens the shared library of an entry with a `plugin`; all other keys are for the library.
void read_plugin(const Json& entry, const std::string& name, std::vector<RewardRule>& made,
                 Problems& problems) {
  const Json& path = entry.at("plugin");
  if (!path.is_string()) {
    problems.add("reward_funcs." + name,
                 fmt::format("`plugin` was expected to be the path of a shared library, got {}.",
                             path.dump()));
    return;
  }
  if (find_rule(name) != nullptr) {
    problems.add("reward_funcs." + name, "a plugin was expected to have a name of its own.",
                 "choose a name that is no rule's.");
    return;
  }
  Json parameters = entry;
  parameters.erase("name");
  parameters.erase("plugin");
  try {
    made.push_back(open_plugin_rule(name, path.get<std::string>(), parameters));
  } catch (const UserError& error) {
    problems.add(error);
  }
}

/// Reads one entry of reward_funcs.
void read_one(const Json& entry, int64_t longest, std::vector<RewardRule>& made,
              Problems& problems) {
  const bool map = entry.is_object();
  const Json name = map ? entry.value("name", Json()) : entry;
  if (!name.is_string()) {
    problems.add("reward_funcs",
                 fmt::format("a name or a map with `name` was expected, got {}.", entry.dump()),
                 "write accuracy, or {name: cosine, max_len: 1000}.");
    return;
  }
  const auto text = name.get<std::string>();
  if (map && entry.contains("plugin")) {
    read_plugin(entry, text, made, problems);
    return;
  }
  const Rule* rule = find_rule(text);
  if (rule == nullptr && map && entry.contains("pattern")) rule = find_rule("regex");
  if (rule == nullptr) {
    const auto nearest = nearest_name(text, reward_rule_names());
    problems.add("reward_funcs", fmt::format("a known reward was expected, got {}.", text),
                 fmt::format("{}known: {}.",
                             nearest.empty() ? "" : fmt::format("did you mean {}? ", nearest),
                             fmt::join(reward_rule_names(), ", ")));
    return;
  }
  Parameters parameters;
  parameters.max_completion_len = longest;
  OptionSet set;
  declare(set, *rule, parameters);
  if (map) {
    Json rest = entry;
    rest.erase("name");
    set.apply(parse_config_text(rest.dump(), "reward_funcs"), "", "reward_funcs." + text, problems,
              nullptr);
  }
  if (rule->name == "length" && parameters.target == 0)
    problems.add("reward_funcs.length", "a `target` in tokens was expected.",
                 "write {name: length, target: 200}.");
  if (rule->name == "regex") {
    try {
      parameters.regex.emplace(parameters.pattern, parameters.flags, parameters.full,
                               "reward_funcs." + text);
    } catch (const UserError& error) {
      problems.add(error);
    }
  }
  made.push_back(
      {.name = text,
       .columns = rule->needs_solution ? solution_columns(parameters) : std::vector<std::string>{},
       .score = [score = rule->score, parameters](const RewardInput& input) {
         return score(parameters, input);
       }});
}

}  // namespace

std::vector<std::string> reward_rule_names() {
  std::vector<std::string> names;
  for (const auto& rule : rules()) names.emplace_back(rule.name);
  return names;
}

std::vector<RewardRule> read_reward_rules(const Json& reward_funcs, int64_t longest,
                                          Problems& problems) {
  std::vector<RewardRule> made;
  if (reward_funcs.is_null()) return made;
  const Json list = reward_funcs.is_array() ? reward_funcs : Json::array({reward_funcs});
  for (const auto& entry : list) read_one(entry, longest, made, problems);
  for (size_t i = 0; i < made.size(); ++i) {
    for (size_t j = 0; j < i; ++j) {
      if (made[i].name == made[j].name)
        problems.add("reward_funcs",
                     fmt::format("each name once was expected, got {} twice.", made[i].name));
    }
  }
  return made;
}

}  // namespace rlhf

#include "rlhf/rewards/external_options.h"

#include <algorithm>

#include "rlhf/core/config_node.h"
#include "rlhf/core/options.h"

namespace rlhf {
namespace {

constexpr const char* kWhere = "reward_funcs";

std::string name_of(const Json& entry) {
  const Json name = entry.is_object() ? entry.value("name", Json()) : entry;
  return name.is_string() ? name.get<std::string>() : "";
}

OutsideEntry read_outside(const Json& entry, size_t judge, Problems& problems) {
  OutsideEntry worker{.name = {}, .command = {}, .url = {}, .judge = judge};
  OptionSet set;
  set.add("name", worker.name, "Name in logs.");
  set.add("command", worker.command, "For /bin/sh -c.");
  set.add("url", worker.url, "http:// or https:// address.");
  const std::string name = name_of(entry);
  set.apply(parse_config_text(entry.dump(), kWhere), "",
            name.empty() ? kWhere : fmt::format("{}.{}", kWhere, name), problems, nullptr);
  if (name.empty())
    problems.add(
        kWhere,
        fmt::format("a `name` beside `command` or `url` was expected, got {}.", entry.dump()),
        "write {name: my_reward, command: \"python3 …\"}.");
  if (!worker.command.empty() && !worker.url.empty()) {
    problems.add(kWhere,
                 fmt::format("a command or a url was expected, got both: {}.", entry.dump()),
                 "make it two entries.");
  }
  if (worker.command.empty() && worker.url.empty())
    problems.add(kWhere, fmt::format("a command was expected, got {}.", entry.dump()),
                 "write {name: my_reward, command: \"python3 …\"}.");
  return worker;
}

/// A name is the key of its judge in logs and completions.jsonl; read_reward_rules() compares the
/// rules among themselves.
void check_distinct(const RewardEntries& entries, Problems& problems) {
  const auto& names = entries.names;
  const auto& rules = entries.rule_judges;
  const auto is_rule = [&](size_t judge) {
    return std::find(rules.begin(), rules.end(), judge) != rules.end();
  };
  for (size_t i = 0; i < names.size(); ++i) {
    for (size_t j = 0; j < i; ++j) {
      if (names[i] == names[j] && !names[i].empty() && !(is_rule(i) && is_rule(j)))
        problems.add(kWhere, fmt::format("each name once was expected, got {} twice.", names[i]));
    }
  }
}

}  // namespace

RewardEntries split_reward_funcs(const std::vector<Json>& reward_funcs, Problems& problems) {
  RewardEntries entries;
  for (const Json& entry : reward_funcs) {
    const size_t judge = entries.names.size();
    entries.names.push_back(name_of(entry));
    if (entry.is_object() && (entry.contains("command") || entry.contains("url"))) {
      entries.outside.push_back(read_outside(entry, judge, problems));
    } else {
      entries.rules.push_back(entry);
      entries.rule_judges.push_back(judge);
    }
  }
  check_distinct(entries, problems);
  return entries;
}

}  // namespace rlhf

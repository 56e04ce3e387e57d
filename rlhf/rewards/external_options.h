// Entries of `reward_funcs` that name a judge outside this program: those with a `command` or a
// `url`. The rest are rules (rules.h).
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "rlhf/core/error.h"
#include "rlhf/core/json.h"

namespace rlhf {

/// A judge of worker processes (worker_pool.h), `{name: my_reward, command: "python3 …"}`, or one
/// behind HTTP (http_judge.h), `{name: my_reward, url: "http://…"}`.
struct OutsideEntry {
  std::string name;
  std::string command;  ///< or
  std::string url;
  size_t judge = 0;  ///< its place in reward_funcs
};

/// `reward_funcs`, parted by what reads it.
struct RewardEntries {
  std::vector<std::string> names;   ///< of all, as far as they can be read; in order
  Json rules = Json::array();       ///< for read_reward_rules()
  std::vector<size_t> rule_judges;  ///< their places in reward_funcs
  std::vector<OutsideEntry> outside;
};

/// Parts the entries. Everything wrong with those outside goes into `problems`: no name, a name that
/// stands twice, an empty command, another parameter.
RewardEntries split_reward_funcs(const std::vector<Json>& reward_funcs, Problems& problems);

}  // namespace rlhf

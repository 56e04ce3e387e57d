// Questions for the fake workers of tests/rewards/workers.
#pragma once

#include <string>
#include <vector>

#include "rlhf/rewards/worker_pool.h"

namespace rlhf::testing {

inline std::string script(const std::string& name) {
  return std::string(RLHF_FIXTURES) + "/../rewards/workers/" + name;
}

/// The command of fake.py in a mode; `exec`, so that signals reach it and not a shell around it.
inline std::string fake(const std::string& mode, const std::string& file = "") {
  return "exec python3 -S -E '" + script("fake.py") + "' " + mode + " " + file;
}

inline Json question(int64_t id, const std::string& act, Json prompt = "p") {
  return {{"id", id},
          {"name", "mine"},
          {"prompt", std::move(prompt)},
          {"completion", "c"},
          {"prompt_ids", {1, 2}},
          {"completion_ids", {3}},
          {"step", 12},
          {"columns", {{"do", act}, {"key", id}}}};
}

/// Answers of a pool to what each item is told to do; ids are `first`, `first` + 1, …
inline std::vector<JudgeAnswer> ask(ExternalJudge& judge, const std::vector<std::string>& acts,
                                    int64_t first = 1) {
  for (const auto& act : acts) judge.submit(question(first++, act));
  return judge.collect();
}

}  // namespace rlhf::testing

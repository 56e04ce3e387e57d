// Shared by the tests of configurations: a run that is right but for what a test changes.
#pragma once

#include <string>
#include <vector>

#include "rlhf/config/sft_config.h"

namespace rlhf {

using Texts = std::vector<std::string>;

/// The problems that `rlhf sft` with a model, data and `args` reports; empty where it would run.
inline Texts problems_of(const Texts& args) {
  Texts all = {"--model_name_or_path", "model", "--dataset_name", "data.jsonl"};
  all.insert(all.end(), args.begin(), args.end());
  Texts texts;
  try {
    read_sft_config(all, nullptr);
  } catch (const UserError& error) {
    for (const auto& problem : error.problems()) texts.push_back(problem.text());
  }
  return texts;
}

/// The configuration of the same; notes are dropped where not asked for.
inline SftConfig config_of(const Texts& args, Texts* notes = nullptr) {
  Texts all = {"--model_name_or_path", "model", "--dataset_name", "data.jsonl"};
  all.insert(all.end(), args.begin(), args.end());
  return read_sft_config(all, notes);
}

}  // namespace rlhf

// Runs of `rlhf sft` on the tiny model of tests/fixtures/train.
#pragma once

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <map>
#include <string>
#include <vector>

#include "rlhf/core/file.h"
#include "rlhf/models/folder.h"
#include "rlhf/train/sft.h"

namespace rlhf::testing {

inline fs::path fixtures() { return fs::path(RLHF_FIXTURES) / "train"; }

/// A new folder for one test.
inline fs::path scratch(const std::string& name) {
  const fs::path folder = fs::path(::testing::TempDir()) / "rlhf_sft" / name;
  fs::remove_all(folder);
  fs::create_directories(folder);
  return folder;
}

using Arguments = std::vector<std::string>;

/// `defaults` and then `more`; of a flag that stands several times the last one is kept, since the
/// program takes each once.
inline Arguments merged(const Arguments& defaults, const Arguments& more) {
  std::map<std::string, Arguments> values;
  std::string flag;
  for (const Arguments* part : {&defaults, &more}) {
    for (const auto& word : *part) {
      if (word.starts_with("--")) {
        flag = word;
        values[flag].clear();
      } else {
        values[flag].push_back(word);
      }
    }
  }
  Arguments all;
  for (const auto& [name, words] : values) {
    all.push_back(name);
    all.insert(all.end(), words.begin(), words.end());
  }
  return all;
}

inline Arguments with(Arguments base, const Arguments& more) {
  base.insert(base.end(), more.begin(), more.end());
  return base;
}

/// What all runs here share: fp32, two threads, no checkpoints unless asked for.
inline Arguments common_arguments(const fs::path& output, const std::string& data) {
  return {"--model_name_or_path",
          (fixtures() / "model").string(),
          "--dataset_name",
          (fixtures() / (data + ".jsonl")).string(),
          "--output_dir",
          output.string(),
          "--cache_dir",
          (output.parent_path() / "cache").string(),
          "--max_length",
          "64",
          "--logging_steps",
          "1",
          "--save_strategy",
          "no",
          "--gradient_checkpointing",
          "false",
          "--threads",
          "2",
          "--learning_rate",
          "2e-3"};
}

inline SftConfig config_of(const fs::path& output, const std::string& data, const Arguments& more) {
  return read_sft_config(merged(common_arguments(output, data), more), nullptr);
}

inline std::vector<Json> metrics_of(const fs::path& run) {
  std::vector<Json> lines;
  std::istringstream text(read_file(run / "metrics.jsonl"));
  for (std::string line; std::getline(text, line);) lines.push_back(Json::parse(line));
  return lines;
}

/// Metrics without what a clock or the memory of the process decides.
inline std::vector<Json> comparable(const fs::path& run) {
  auto lines = metrics_of(run);
  for (auto& line : lines) {
    for (const char* name : {"step_time", "tokens_per_second", "peak_memory", "eval_runtime",
                             "eval_samples_per_second", "time/rollout", "time/reward",
                             "time/reference", "time/update", "time/optimizer"}) {
      line.erase(name);
    }
  }
  return lines;
}

inline std::map<std::string, at::Tensor> weights_of(const fs::path& folder) {
  std::map<std::string, at::Tensor> weights;
  const Model model = load_model(folder);
  for (const auto& [name, tensor] : model.decoder.tensors()) weights[name] = tensor.clone();
  return weights;
}

inline void expect_same_bits(const fs::path& a, const fs::path& b) {
  const auto left = weights_of(a);
  const auto right = weights_of(b);
  ASSERT_EQ(left.size(), right.size());
  for (const auto& [name, tensor] : left) EXPECT_TRUE(tensor.equal(right.at(name))) << name;
}

inline double largest_difference(const fs::path& a, const fs::path& b) {
  const auto left = weights_of(a);
  const auto right = weights_of(b);
  double largest = 0.0;
  for (const auto& [name, tensor] : left) {
    largest = std::max(largest, (tensor - right.at(name)).abs().max().item<double>());
  }
  return largest;
}

}  // namespace rlhf::testing

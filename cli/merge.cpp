// rlhf merge: folds an adapter into its base and checks that the result computes the same.
#include <ATen/core/grad_mode.h>

#include <algorithm>
#include <cmath>

#include "cli/commands.h"
#include "cli/inference.h"
#include "cli/score.h"
#include "cli/terminal.h"
#include "rlhf/core/random.h"
#include "rlhf/generate/score.h"
#include "rlhf/models/adapter.h"
#include "rlhf/models/packed_forward.h"

namespace rlhf::cli {
namespace {

struct MergeOptions {
  std::string model;
  std::string adapter;
  std::string output;
  std::optional<std::string> data;
  std::string split = "train";
  std::optional<Dtype> save_dtype;
  double max_difference = 1e-3;
  int64_t probe_rows = 8;
  int64_t probe_tokens = 64;
  int64_t seed = 42;
  int64_t threads = 0;
};

void declare(OptionSet& set, MergeOptions& options) {
  set.group("Folders");
  set.add("model", options.model, "Base model folder; default what the adapter names.");
  set.add("adapter", options.adapter, "PEFT adapter folder.");
  set.add("output", options.output, "Model folder to write; it must not exist.");
  set.add("save_dtype", options.save_dtype,
          "Type of the weights that are written; null: as the base stores each.")
      .one_of({"float32", "bfloat16", "float16"});
  set.group("Check");
  set.add("max_difference", options.max_difference,
          "Largest difference of a log-probability (a reward model: of a score) between the merged "
          "model and the adapter; above it nothing is written.")
      .at_least(0)
      .written("d");
  set.add("probe_rows", options.probe_rows, "Rows of random ids that are compared.").at_least(1);
  set.add("probe_tokens", options.probe_tokens, "Tokens of each.").at_least(2);
  set.add("seed", options.seed, "Of the random ids.").at_least(0);
  set.add("data", options.data, "JSONL rows that are compared too: prompt-completion or text.");
  set.add("split", options.split, "Which files of a data folder are read.");
  set.group("Machine");
  set.add("threads", options.threads, "Threads; 0 takes every core this process may use.")
      .at_least(0);
}

/// Rows of uniform random ids, each with its own stream.
std::vector<std::vector<int32_t>> probe(const DecoderConfig& config, const MergeOptions& options) {
  const int64_t length = std::min(options.probe_tokens, config.context);
  std::vector<std::vector<int32_t>> rows(static_cast<size_t>(options.probe_rows));
  for (size_t row = 0; row < rows.size(); ++row) {
    Random random(static_cast<uint64_t>(options.seed), {kRandomSampling, row});
    for (int64_t t = 0; t < length; ++t) {
      rows[row].push_back(
          static_cast<int32_t>(random.below(static_cast<uint64_t>(config.vocab_size))));
    }
  }
  return rows;
}

/// Every log-probability of every row, or the scores of all tokens of a classifier.
std::vector<float> numbers(const Decoder& decoder, const std::vector<std::vector<int32_t>>& rows) {
  std::vector<std::vector<uint8_t>> all;
  std::vector<PackRow> pack;
  for (const auto& row : rows) all.emplace_back(row.size(), uint8_t{1});
  for (size_t i = 0; i < rows.size(); ++i) {
    pack.push_back({.ids = rows[i], .supervised = all[i], .row = static_cast<int64_t>(i)});
  }
  std::vector<float> found;
  if (!decoder.config().is_classifier()) {
    for (const auto& row : score_rows(decoder, pack))
      found.insert(found.end(), row.begin(), row.end());
    return found;
  }
  const at::NoGradGuard no_grad;
  for (const auto& row : pack) {
    const PackedBatch batch = batch_rows({&row, 1});
    const auto scores = decoder.score(packed_forward(decoder, batch, /*rows=*/{}))
                            .to(at::kCPU, at::kFloat)
                            .contiguous();
    const float* values = scores.const_data_ptr<float>();
    found.insert(found.end(), values, values + scores.numel());
  }
  return found;
}

struct Difference {
  double largest = 0.0;
  double mean = 0.0;
  size_t count = 0;
};

Difference compare(const std::vector<float>& a, const std::vector<float>& b) {
  Difference found{.count = a.size()};
  for (size_t i = 0; i < a.size(); ++i) {
    const double difference = std::abs(static_cast<double>(a[i]) - static_cast<double>(b[i]));
    found.largest = std::isnan(difference) ? INFINITY : std::max(found.largest, difference);
    found.mean += difference / static_cast<double>(a.size());
  }
  return found;
}

void check_folders(const MergeOptions& options) {
  Problems problems;
  if (fs::exists(options.output)) {
    problems.add("--output", fmt::format("a new folder was expected, {} exists.", options.output),
                 "choose another name, or remove it.");
  }
  if (!is_adapter_folder(options.adapter)) {
    problems.add("--adapter", fmt::format("a folder with adapter_config.json was expected, got {}.",
                                          options.adapter));
  }
  problems.throw_if_any();
}

InferenceOptions inference_options(const MergeOptions& options) {
  InferenceOptions inference;
  inference.model = options.adapter;
  if (!options.model.empty()) inference.base_model = options.model;
  inference.data = options.data.value_or("");
  inference.split = options.split;
  inference.threads = options.threads;
  inference.device = DeviceChoice::cpu;
  return inference;
}

/// Runs both models on the same rows. UserError where they differ by more than the bound.
Json check_difference(const Decoder& adapted, const Decoder& merged,
                      const std::vector<std::vector<int32_t>>& rows, double bound) {
  const auto found = compare(numbers(adapted, rows), numbers(merged, rows));
  if (!(found.largest <= bound)) {
    throw UserError(
        "rlhf merge",
        fmt::format("a largest difference of at most {} was expected; {:.3g} was found, "
                    "{:.3g} on average. Nothing was written.",
                    bound, found.largest, found.mean),
        "store more digits (--save_dtype float32), or allow more (--max_difference).");
  }
  return {{"largest_difference", found.largest},
          {"mean_difference", found.mean},
          {"compared", found.count},
          {"rows", rows.size()}};
}

void write_folder(const fs::path& target, const LoadedModel& loaded, const Model& merged,
                  const SaveOptions& save) {
  AtomicFolder folder(target);
  save_model(merged, folder.path(), save);
  if (loaded.text) {
    for (const auto& [name, bytes] : loaded.text->files) write_file(folder.path() / name, bytes);
  }
  folder.commit();
}

/// What training chose stands in the adapter's tokenizer files: the token that ends a text, and the
/// padding; a classifier's scores stand at the last id that is not `pad_token_id`.
void name_tokens(const LoadedModel& loaded, Model& merged) {
  if (!loaded.text) return;
  const auto& tokenizer = loaded.text->tokenizer;
  if (const auto eos = tokenizer.eos_id()) align_eos(merged, *eos);
  if (!merged.decoder.config().is_classifier()) return;
  if (const auto id = tokenizer.token_to_id(tokenizer.pad_token()))
    merged.config["pad_token_id"] = *id;
}

}  // namespace

int run_merge(std::span<const std::string> args) {
  MergeOptions options;
  OptionSet set;
  declare(set, options);
  if (!read_arguments(set, args,
                      "Usage: rlhf merge --adapter DIR --output DIR [--model DIR] [--key value "
                      "...]\n\n"
                      "Writes the model that computes what base and adapter compute together. "
                      "Changed matrices are computed in\n"
                      "float32 and rounded once to the type they are stored in. Both are then run "
                      "on the same rows;\nstandard output gets a line with the largest and the "
                      "mean difference. Tokenizer files are copied.",
                      {"adapter", "output"})) {
    return 0;
  }
  const Terminal terminal;
  check_folders(options);
  const InferenceOptions inference = inference_options(options);
  const LoadedModel loaded = load(inference);
  const SaveOptions save{.dtype = torch_dtype(options.save_dtype)};
  Model merged = merge_adapter(loaded.model, /*number=*/0, save.dtype);
  auto rows = probe(merged.decoder.config(), options);
  if (options.data) {
    for (auto& row : completion_rows(loaded, inference)) rows.push_back(std::move(row.ids));
  }
  name_tokens(loaded, merged);
  const Json found =
      check_difference(loaded.model.decoder, merged.decoder, rows, options.max_difference);
  write_folder(options.output, loaded, merged, save);
  JsonLines standard(std::nullopt);
  standard.write(found);
  standard.finish();
  return 0;
}

}  // namespace rlhf::cli

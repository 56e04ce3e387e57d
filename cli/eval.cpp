// rlhf eval: samples answers and says how often they are right; or says how often a model prefers
// the chosen answer of preference data.
#include <algorithm>
#include <array>

#include "cli/commands.h"
#include "cli/eval_measures.h"
#include "cli/eval_preference.h"
#include "cli/inference.h"
#include "cli/terminal.h"
#include "rlhf/rewards/accuracy.h"
#include "rlhf/rewards/estimates.h"

namespace rlhf {

namespace cli {
enum class EvalReward { accuracy, exact_match, preference };
}
template <>
struct EnumNames<cli::EvalReward> {
  static constexpr std::array<std::string_view, 3> names = {"accuracy", "exact_match",
                                                            "preference"};
};

namespace cli {
namespace {

struct EvalOptions {
  EvalReward reward = EvalReward::accuracy;
  std::optional<std::string> gold_column;
  std::vector<int64_t> k;
  std::optional<std::string> completions;
};

std::optional<double> reward_of(EvalReward reward, const std::string& text,
                                const std::string& gold) {
  return reward == EvalReward::accuracy ? accuracy(text, gold) : exact_match(text, gold);
}

/// The known solution of a row: the column named, else `answer`, else `solution`.
std::string gold_of(const Record& record, const std::optional<std::string>& column) {
  for (const std::string& name : column ? std::vector<std::string>{*column}
                                        : std::vector<std::string>{"answer", "solution"}) {
    if (record.has(name)) {
      const Json& gold = record.at(name);
      return gold.is_string() ? gold.get<std::string>() : gold.dump();  // a number as it is written
    }
  }
  throw UserError(
      record.where,
      fmt::format("a column {} with the known solution was expected.",
                  column ? fmt::format("`{}`", *column) : std::string("`answer` or `solution`")),
      "name it with --gold_column.");
}

std::vector<std::string> read_gold(const std::vector<PromptRow>& rows,
                                   const std::optional<std::string>& column) {
  std::vector<std::string> gold;
  Problems problems;
  for (const PromptRow& row : rows) {
    try {
      gold.push_back(gold_of(row.record, column));
    } catch (const UserError& error) {
      problems.add(error);
    }
  }
  problems.throw_if_any();
  return gold;
}

/// Values to report: 1 and the number of samples unless some are asked for.
std::vector<int64_t> read_k(std::vector<int64_t> k, int64_t samples) {
  if (k.empty()) {
    k = {1, samples};
  }
  Problems problems;
  for (const int64_t one : k) {
    if (one < 1 || one > samples) {
      problems.add("--k",
                   fmt::format("numbers from 1 to num_generations ({}) were expected, got {}.",
                               samples, one),
                   "raise --num_generations.");
    }
  }
  problems.throw_if_any();
  std::sort(k.begin(), k.end());
  k.erase(std::unique(k.begin(), k.end()), k.end());
  return k;
}

/// Rewards of one prompt's samples, and the tokens they took.
struct Outcome {
  std::vector<double> rewards;  ///< empty where the gold answer cannot be parsed
  int64_t tokens = 0;
  int64_t cut = 0;  ///< samples that max_new_tokens ended
};

Json estimate_json(const std::vector<Outcome>& outcomes,
                   const std::function<double(const Outcome&)>& value) {
  std::vector<double> values;
  for (const Outcome& one : outcomes) {
    if (!one.rewards.empty()) {
      values.push_back(value(one));
    }
  }
  if (values.empty()) {
    return nullptr;
  }
  return to_json(estimate(values));
}

double mean_reward(const Outcome& one) {
  double sum = 0.0;
  for (const double reward : one.rewards) sum += reward;
  return sum / static_cast<double>(one.rewards.size());
}

Json summary(const std::vector<Outcome>& outcomes, const EvalOptions& options,
             const std::vector<int64_t>& ks, int64_t samples) {
  int64_t scored = 0;
  int64_t cut = 0;
  int64_t tokens = 0;
  for (const Outcome& one : outcomes) {
    scored += !one.rewards.empty();
    cut += one.cut;
    tokens += one.tokens;
  }
  const double completions = static_cast<double>(outcomes.size()) * static_cast<double>(samples);
  Json out = {{"reward", enum_text(options.reward)},
              {"prompts", scored},
              {"not_applicable", static_cast<int64_t>(outcomes.size()) - scored},
              {"num_generations", samples}};
  for (const int64_t k : ks) {
    out[fmt::format("pass@{}", k)] = estimate_json(outcomes, [&](const Outcome& one) {
      return pass_at_k(samples, std::count(one.rewards.begin(), one.rewards.end(), 1.0), k);
    });
  }
  out[fmt::format("mean@{}", samples)] = estimate_json(outcomes, mean_reward);
  out["mean_length"] = completions > 0 ? static_cast<double>(tokens) / completions : 0.0;
  out["truncated"] = completions > 0 ? static_cast<double>(cut) / completions : 0.0;
  return out;
}

std::string readable(const Json& result) {
  std::string text =
      fmt::format("{}: {} prompts x {}", result.at("reward").get<std::string>(),
                  result.at("prompts").get<int64_t>(), result.at("num_generations").get<int64_t>());
  for (const auto& [name, value] : result.items()) {
    if (value.is_object() && name.find('@') != std::string::npos) {
      text += fmt::format(" · {} {:.1f}% [{:.1f}, {:.1f}]", name,
                          100.0 * value.at("value").get<double>(),
                          100.0 * value.at("interval")[0].get<double>(),
                          100.0 * value.at("interval")[1].get<double>());
    }
  }
  for (const auto& [key, meaning] : {std::pair{"kl", "KL"}, {"reward_model", "reward model"}}) {
    if (!result.contains(key)) continue;
    const Json& found = result.at(key);
    text +=
        fmt::format(" · {} {:.3g} [{:.3g}, {:.3g}]", meaning, found.at("value").get<double>(),
                    found.at("interval")[0].get<double>(), found.at("interval")[1].get<double>());
  }
  if (const auto skipped = result.at("not_applicable").get<int64_t>(); skipped > 0) {
    text += fmt::format(" · {} prompts left out: their solution cannot be parsed", skipped);
  }
  return text;
}

constexpr std::array<std::string_view, 17> kSamplingKeys = {
    "completions", "gold_column", "k",     "num_generations",    "temperature",
    "top_k",       "top_p",       "min_p", "repetition_penalty", "max_new_tokens",
    "stop",        "ignore_eos",  "seed",  "prompt_column",      "cache_gib",
    "max_rows",    "reward_model"};
constexpr std::array<std::string_view, 1> kPreferenceKeys = {"beta"};

/// Samples answers and compares them with the known solutions.
Json evaluate_samples(const InferenceOptions& inference, const SamplingFlags& flags,
                      const EvalOptions& eval, const MeasureOptions& measured) {
  const int64_t samples = flags.options.num_generations;
  const std::vector<int64_t> ks = read_k(eval.k, samples);
  const LoadedModel loaded = load(inference, ModelTask::language_model);
  if (!loaded.text) {
    throw UserError(inference.model, "a tokenizer was expected: rewards read text.",
                    "copy tokenizer.json into the folder.");
  }
  const std::vector<PromptRow> rows = read_prompts(loaded, inference, flags.prompt_column);
  const std::vector<std::string> gold = read_gold(rows, eval.gold_column);
  Measures measures(measured, inference, loaded, flags.options.temperature);
  std::optional<JsonLines> lines;
  if (eval.completions) {
    lines.emplace(eval.completions);
  }
  std::vector<Outcome> outcomes(rows.size());
  sample(loaded, rows, flags, [&](size_t row, std::vector<TextCompletion>& done) {
    measures.add(rows[row], done);
    Json out = rows[row].record.row;
    out["completions"] = Json::array();
    for (const TextCompletion& one : done) {
      const auto reward = reward_of(eval.reward, *one.text, gold[row]);
      if (reward) {
        outcomes[row].rewards.push_back(*reward);
      }
      outcomes[row].tokens += static_cast<int64_t>(one.completion.ids.size());
      outcomes[row].cut += one.completion.finish_reason == FinishReason::length;
      Json completion = to_json(one);
      completion["reward"] = reward ? Json(*reward) : Json(nullptr);
      out["completions"].push_back(std::move(completion));
    }
    if (lines) {
      lines->write(out);
    }
  });
  if (lines) {
    lines->finish();
  }
  Json out = summary(outcomes, eval, ks, samples);
  out.update(measures.summary());
  return out;
}

/// Whether pairs are judged; refuses flags that the other way of evaluating has.
bool judges_pairs(const ParsedArguments& parsed, const InferenceOptions& inference,
                  const EvalOptions& eval) {
  const DecoderConfig config = model_config(inference);
  if (eval.reward != EvalReward::preference) {
    if (config.is_classifier()) {
      throw UserError("--reward",
                      fmt::format("preference was expected for {}, got {}.",
                                  config.row->class_for(config.task), enum_text(eval.reward)),
                      "write --reward preference: a reward model judges pairs.");
    }
    refuse_unused(parsed, kPreferenceKeys, fmt::format("--reward {}", enum_text(eval.reward)));
    return false;
  }
  std::vector<std::string_view> unused(kSamplingKeys.begin(), kSamplingKeys.end());
  if (config.is_classifier()) {
    unused.insert(unused.end(), {"ref_model", "beta"});
  }
  refuse_unused(
      parsed, unused,
      config.is_classifier() ? "a reward model that judges pairs" : "--reward preference");
  return true;
}

}  // namespace

int run_eval(std::span<const std::string> args) {
  InferenceOptions inference;
  SamplingFlags flags;
  EvalOptions eval;
  MeasureOptions measured;
  double beta = 0.1;
  OptionSet set;
  declare(set, inference);
  set.group("Reward");
  set.add("reward", eval.reward,
          "accuracy finds and compares answers (GSM8K ####, \\boxed{}, numbers, LaTeX); "
          "exact_match compares texts; preference "
          "judges the pairs of preference data.");
  set.add("gold_column", eval.gold_column,
          "Column with the known solution; default answer, else solution.");
  set.add("k", eval.k, "Values of k for pass@k; default 1 and num_generations.");
  declare(set, flags);
  declare(set, measured);
  set.add("beta", beta,
          "Preference data: factor on the implicit reward; accuracy does not depend on it.")
      .above(0);
  set.group("Output");
  set.add("completions", eval.completions,
          "File for the completions with their rewards, JSON lines.");
  const auto parsed = read_arguments(
      set, args,
      "Usage: rlhf eval --model DIR --data rows.jsonl --reward accuracy [--num_generations N] "
      "[--key value ...]\n\n"
      "Samples answers and writes one JSON line: pass@k (unbiased, Chen et al. 2021) and "
      "mean@k over prompts, each with a\n"
      "95% interval and the method it was found by (Wilson, or bootstrap over prompts). With "
      "--ref_model also the KL divergence\n"
      "from it, with --reward_model the mean score of the samples.\n"
      "With --reward preference: how often a reward model, or a policy's implicit reward (beta "
      "times its log-probability less\n"
      "--ref_model's), prefers the chosen answer; the mean margin; and what length alone would "
      "reach.",
      {"model", "data"});
  if (!parsed) {
    return 0;
  }
  Terminal terminal;
  const bool pairs = judges_pairs(*parsed, inference, eval);
  const Json result = pairs ? evaluate_preference(inference, measured, beta)
                            : evaluate_samples(inference, flags, eval, measured);
  JsonLines standard(std::nullopt);
  standard.write(result);
  standard.finish();
  terminal.line(pairs ? readable_preference(result) : readable(result));
  return 0;
}

}  // namespace cli
}  // namespace rlhf

#include "rlhf/config/rollout_options.h"

namespace rlhf {
namespace {

void declare_batches(OptionSet& set, RolloutOptions& options) {
  set.group("Rollouts");
  set.add("prompts_per_step", options.prompts_per_step,
          "Prompts of an optimizer step, each with num_generations completions; null: as "
          "per_device_train_batch_size (counted in completions) says.")
      .between(1, kMostCount);
  set.add("generation_batch_size", options.generation_batch_size,
          "Completions drawn at once; null: per_device_train_batch_size × steps_per_generation.")
      .between(1, kMostCount);
  set.add("steps_per_generation", options.steps_per_generation,
          "Batches of per_device_train_batch_size drawn at once; null: "
          "gradient_accumulation_steps.")
      .between(1, kMostCount);
  set.add("num_iterations", options.num_iterations, "How often each completion is trained on.")
      .between(1, kMostCount)
      .written("μ");
}

void declare_prompts(OptionSet& set, RolloutOptions& options) {
  set.add("num_generations", options.num_generations, "Completions sampled of each prompt.")
      .between(1, kMostCount)
      .written("G");
  set.add("num_generations_eval", options.num_generations_eval,
          "The same in evaluations; null: num_generations.")
      .between(1, kMostCount);
  set.add("shuffle_dataset", options.shuffle_dataset,
          "Take the prompts of each epoch in an order of its own.");
  set.add("max_prompt_length", options.max_prompt_length,
          "Longer prompts, in tokens, are left out and counted; null: no limit.")
      .at_least(1);
  set.add("chat_template_kwargs", options.chat_template_kwargs,
          "Variables for the chat template, such as enable_thinking: false.");
}

void declare_sampling(OptionSet& set, RolloutOptions& options, const OldRolloutNames& old) {
  set.group("Sampling");
  auto& longest = set.add("max_completion_length", options.max_completion_length,
                          "Longest completion, in tokens.")
                      .between(1, kMostLength);
  if (old.max_completion_length != nullptr) longest.old_name(old.max_completion_length);
  set.add("temperature", options.temperature,
          "Of sampling, and of every log-probability in training.")
      .above(0)
      .written("T");
  set.add("top_p", options.top_p, "Keep the smallest set of tokens with this mass.").between(0, 1);
  set.add("top_k", options.top_k, "Keep the k most likely tokens; 0 keeps all.").at_least(0);
  set.add("min_p", options.min_p,
          "Keep tokens with this share of the most likely one's probability.")
      .between(0, 1);
  set.add("repetition_penalty", options.repetition_penalty,
          "Divides logits of tokens seen already; 1 is none.")
      .above(0);
  set.add("stop", options.stop, "Texts that end a completion.");
  set.add("rollout_cache_gib", options.rollout_cache_gib,
          "Most memory for keys and values of running completions, in GiB.")
      .above(0)
      .at_most(kMostCount);
  set.add("rollout_rows", options.rollout_rows, "Most completions that grow together.").at_least(1);
  set.add_inert({InertKey::Status::refused, "generation_kwargs", nullptr,
                 "write temperature, top_p, top_k, min_p, repetition_penalty and stop as keys of "
                 "their own."});
}

void declare_rows(OptionSet& set, RolloutOptions& options) {
  set.group("Completions");
  set.add("mask_truncated_completions", options.mask_truncated_completions,
          "Learn nothing from completions that reached max_completion_length.");
  set.add("dynamic_sampling", options.dynamic_sampling,
          "DAPO (arXiv 2503.14476): replace groups whose rewards are all equal by other prompts.");
  set.add("dynamic_sampling_rounds", options.dynamic_sampling_rounds,
          "Most rounds of drawing until a batch is full; then groups without spread fill it.")
      .at_least(1);
  set.add("replay_completions", options.replay_completions,
          "Train on the recorded completions and rewards of this JSONL file in place of sampling.");
  set.add("log_completions", options.log_completions,
          "Show sample completions at every logged step.");
  set.add("num_completions_to_print", options.num_completions_to_print,
          "How many; null: all of the step.")
      .at_least(1);
  set.add("log_unique_prompts", options.log_unique_prompts,
          "Show one completion of each prompt only.");
}

void declare_inert(OptionSet& set) {
  constexpr auto kAccepted = InertKey::Status::accepted;
  constexpr const char* kOwnEngine =
      "completions are drawn on the trained weights themselves; there is no second engine.";
  for (const auto& [name, harmless] : std::initializer_list<std::pair<const char*, Json>>{
           {"use_vllm", false},
           {"vllm_mode", "colocate"},
           {"vllm_model_impl", "vllm"},
           {"vllm_enable_sleep_mode", false},
           {"vllm_server_base_url", nullptr},
           {"vllm_server_host", "0.0.0.0"},
           {"vllm_server_port", 8000},
           {"vllm_server_timeout", 240.0},
           {"vllm_group_port", 51216},
           {"vllm_gpu_memory_utilization", 0.3},
           {"vllm_max_model_length", nullptr},
           {"vllm_tensor_parallel_size", 1},
           {"use_transformers_continuous_batching", false},
           {"transformers_continuous_batching_config", nullptr},
           {"use_transformers_paged", false},
           {"cache_implementation", nullptr},
           {"ds3_gather_for_generation", true}}) {
    set.add_inert({kAccepted, name, harmless, kOwnEngine});
  }
  set.add_inert(
      {InertKey::Status::refused, "vllm_structured_outputs_regex", nullptr,
       "remove it; reward the form you want with reward_funcs: {name: regex, pattern: ...}."});
  set.add_inert({kAccepted, "log_multimodal", true, "rows are text."});
}

void check_batches(const RolloutOptions& options, const TrainingOptions& training, bool needs_group,
                   Problems& problems) {
  if (needs_group && options.num_generations < 2) {
    problems.add("num_generations",
                 "at least 2 were expected: the samples of a prompt are compared with each other.",
                 "set num_generations: 8.");
  }
  const int64_t drawn = completions_per_generation(options, training);
  if (options.generation_batch_size && *options.generation_batch_size != drawn) {
    problems.add(
        "generation_batch_size",
        fmt::format("a multiple of per_device_train_batch_size ({}) that steps_per_generation"
                    " does not contradict was expected, got {}.",
                    training.per_device_train_batch_size, *options.generation_batch_size),
        "set one of generation_batch_size and steps_per_generation.");
  }
  if (drawn % options.num_generations != 0) {
    problems.add("num_generations",
                 fmt::format("completions drawn at once ({} = per_device_train_batch_size × "
                             "steps_per_generation) must be a multiple of it, got {}.",
                             drawn, options.num_generations),
                 "set prompts_per_step, which always fits.");
  }
  if (options.prompts_per_step &&
      completions_per_step(training) != *options.prompts_per_step * options.num_generations) {
    problems.add("prompts_per_step",
                 fmt::format("{} × num_generations ({}) is not the {} completions that "
                             "per_device_train_batch_size and gradient_accumulation_steps ask for.",
                             *options.prompts_per_step, options.num_generations,
                             completions_per_step(training)),
                 "remove those two keys.");
  }
}

}  // namespace

void declare(OptionSet& set, RolloutOptions& options) {
  declare_batches(set, options);
  declare_rollouts(set, options, {});
}

void declare_rollouts(OptionSet& set, RolloutOptions& options, const OldRolloutNames& old) {
  set.group("Rollouts");
  declare_prompts(set, options);
  declare_sampling(set, options, old);
  declare_judges(set, options, old.reward_model_name_or_path);
  declare_rows(set, options);
  declare_disable_dropout(set, options.disable_dropout);
  declare_live(set, options.reference);
  declare_inert(set);
}

void resolve(RolloutOptions& options, TrainingOptions& training) {
  const TrainingOptions unset;
  if (options.prompts_per_step &&
      training.per_device_train_batch_size == unset.per_device_train_batch_size &&
      training.gradient_accumulation_steps == unset.gradient_accumulation_steps) {
    training.per_device_train_batch_size = *options.prompts_per_step * options.num_generations;
  }
  if (!options.steps_per_generation) {
    const int64_t micro = training.per_device_train_batch_size;
    options.steps_per_generation = options.generation_batch_size.value_or(0) >= micro
                                       ? *options.generation_batch_size / micro
                                       : training.gradient_accumulation_steps;
  }
  options.generation_batch_size =
      options.generation_batch_size.value_or(completions_per_generation(options, training));
  follow_eval_reward(training);
}

void follow_eval_reward(TrainingOptions& training) {
  if (needs_a_metric(training) && !training.metric_for_best_model)
    training.metric_for_best_model = "eval_reward";
}

void note_sampler(const RolloutOptions& options, std::vector<std::string>* notes) {
  const RolloutOptions unset;
  const bool whole = options.top_p == unset.top_p && options.top_k == unset.top_k &&
                     options.min_p.value_or(0.0) == 0.0 &&
                     options.repetition_penalty == unset.repetition_penalty;
  if (whole || notes == nullptr) return;
  notes->push_back(
      "[sampling] top_p, top_k, min_p or repetition_penalty changes what is sampled, not the "
      "log-probabilities that are trained. HINT: leave them out, and lower temperature instead.");
}

void validate_judges(const RolloutOptions& options, const CommonConfig& config,
                     Problems& problems) {
  if (options.top_p == 0) {
    problems.add("top_p", "a mass above 0 was expected, got 0.",
                 "set top_k: 1 for the most likely token.");
  }
  validate_judges(options, problems);
  if (options.replay_completions) {
    if (options.any()) {
      problems.add("reward_funcs", "replay_completions brings its own rewards.",
                   "keep one of the two.");
    }
    if (evaluates(config.training)) {
      problems.add("eval_strategy", "replay_completions has no judge for evaluations.",
                   "keep one of the two.");
    }
    if (options.dynamic_sampling) {
      problems.add("dynamic_sampling", "replay_completions has no further prompts to draw.",
                   "keep one of the two.");
    }
  } else if (!options.any()) {
    problems.add("reward_funcs", "something that judges completions was expected, got nothing.",
                 "set reward_funcs: accuracy, or reward_model_name_or_path.");
  }
  if (config.training.train_sampling_strategy == SamplingStrategy::group_by_length) {
    problems.add("train_sampling_strategy",
                 "completions have no length before they are drawn, got group_by_length.",
                 "remove the key; shuffle_dataset says whether prompts are shuffled.");
  }
}

void validate_clip_range(const std::optional<std::vector<double>>& range, Problems& problems) {
  if (!range || (range->size() == 2 && (*range)[0] < (*range)[1])) return;
  problems.add("reward_clip_range",
               fmt::format("two numbers, the smaller one first, were expected, got {}.",
                           fmt::join(*range, ", ")),
               "write reward_clip_range: [-5, 5].");
}

void validate(const RolloutOptions& options, const CommonConfig& config, bool needs_group,
              Problems& problems) {
  check_batches(options, config.training, needs_group, problems);
  validate_judges(options, config, problems);
}

}  // namespace rlhf

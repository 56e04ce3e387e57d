#include "rlhf/train/policy_gradient.h"

#include <algorithm>

#include "rlhf/core/error.h"
#include "rlhf/data/prepare.h"
#include "rlhf/generate/interrupted.h"
#include "rlhf/train/grpo_step.h"
#include "rlhf/train/memory_run.h"
#include "rlhf/train/reference_maker.h"
#include "rlhf/train/rollout_source.h"
#include "rlhf/train/run_data.h"
#include "rlhf/train/stop_ids.h"

namespace rlhf {
namespace {

/// Every evaluation draws from the same random streams: figures of different steps compare.
constexpr uint64_t kEvaluationDraw = uint64_t{1} << 62;

/// Everything a run reads, checked.
struct PolicyGradientSetup : Prepared {
  std::optional<Judges> judges;
  std::optional<Replay> replay;
  RunData<PromptDataset> data;
  std::optional<Critic> critic;
  MicrobatchSize size;  ///< how a step is cut for the policy
  MicrobatchSize critic_size;
};

ReadRows<PromptDataset> read_prompts(const GrpoConfig& config, const TextSide& text,
                                     const std::optional<Judges>& judges, const DataSpec& spec) {
  const auto& rollout = config.grpo.rollout;
  PromptOptions options{.max_length = rollout.max_prompt_length,
                        .text = text_options(text, config.data)};
  if (!rollout.chat_template_kwargs.is_null())
    options.text.chat_template_kwargs = rollout.chat_template_kwargs;
  // Judges that could not be read ask for nothing: rows are looked at all the same.
  const auto required =
      judges ? judges->required_columns() : std::vector<std::vector<std::string>>();
  Statistics statistics;
  auto data = prepare_prompts(spec, text.tokenizer, text.chat,
                              text_fingerprint(text.folder, text.template_text), options, required,
                              cache_folder(config.data), &statistics);
  return {std::move(data), statistics.table()};
}

/// Ids that end a completion of a replay: those that end one, and the padding token, as in TRL.
std::vector<int32_t> ends_of(const Policy& policy, const TextSide& text) {
  auto ends = find_stop_ids(policy.model, &text.tokenizer);
  if (const auto pad = text.tokenizer.pad_id()) ends.push_back(*pad);
  return ends;
}

/// UserError where there are fewer prompts than are drawn at once.
void check_enough(const GrpoConfig& config, const PolicyGradientMethod& method, int64_t prompts,
                  const char* what) {
  const int64_t drawn = prompts_per_generation(config.grpo.rollout, config.training);
  if (prompts >= drawn) return;
  throw UserError(
      what,
      fmt::format("at least the {} prompts that are drawn at once were expected, got {}.", drawn,
                  prompts),
      method.fewer_prompts);
}

void check_weights(const RolloutOptions& rollout, size_t judges) {
  if (!rollout.reward_weights || rollout.reward_weights->size() == judges) return;
  throw UserError(
      "reward_weights",
      fmt::format("one weight for each of the {} recorded rewards was expected, got {}.", judges,
                  rollout.reward_weights->size()),
      "they stand in the order in which replay_completions names them.");
}

/// UserError where a reward model is asked in text and cannot render a row's conversation.
void check_template(const Judges& judges, const PromptDataset& data) {
  if (!judges.text || judges.text->has_template()) return;
  for (int64_t row = 0; row < data.rows(); ++row) {
    const auto problem = missing_template(judges, data.columns(row), data.source(row));
    if (!problem) continue;
    Problems problems;
    problems.add(*problem);
    problems.throw_if_any();
  }
}

/// UserError where prompt and completion would not fit the table of positions of who reads them.
void check_positions(const RolloutOptions& rollout, const DecoderConfig& reader,
                     std::string_view name, int64_t longest_prompt) {
  const int64_t longest = longest_prompt + rollout.max_completion_length;
  if (reader.rope.width > 0 || longest <= reader.context) return;
  throw UserError(
      "max_completion_length",
      fmt::format("room for a prompt of {} tokens and a completion of {} was expected, the {} has "
                  "{} positions.",
                  longest_prompt, rollout.max_completion_length, name, reader.context),
      "lower it, or set max_prompt_length.");
}

/// The policy's positions, and a warning where rows are longer than it was made for.
void check_length(const RolloutOptions& rollout, const Policy& policy, int64_t longest_prompt) {
  check_positions(rollout, policy.config(), "model", longest_prompt);
  check_rows_fit({.longest = longest_prompt + rollout.max_completion_length}, policy.config(),
                 "max_completion_length");
}

/// The positions of the others who read the policy's ids.
void check_readers(const RolloutOptions& rollout, const PolicyGradientSetup& setup) {
  if (!setup.data.train) return;
  const int64_t prompt = longest_row(*setup.data.train);
  if (setup.judges && setup.judges->model && !setup.judges->text) {
    check_positions(rollout, setup.judges->model->decoder.config(), "reward model", prompt);
  }
  if (setup.critic)
    check_positions(rollout, setup.critic->model().decoder.config(), "critic", prompt);
}

/// UserError where the keys and values of one completion alone would not fit the budget.
void check_cache(const RolloutOptions& rollout, const Policy& policy, int64_t longest_prompt) {
  const int64_t needed =
      cache_bytes_of_sample(policy.decoder(), longest_prompt, rollout.max_completion_length);
  if (needed <= rollout_cache_bytes(rollout)) return;
  throw UserError(
      "rollout_cache_gib",
      fmt::format("{:.2f} GiB for keys and values of a prompt of {} tokens and a completion of {} "
                  "were expected at least, got {}.",
                  static_cast<double>(needed) / kGibibyte, longest_prompt,
                  rollout.max_completion_length, rollout.rollout_cache_gib),
      "raise it, or set max_prompt_length or max_completion_length lower.");
}

void read_rows(GrpoConfig& config, const PolicyGradientMethod& method, const TrainHooks& hooks,
               PolicyGradientSetup& setup, SetupChecks& checks) {
  const auto& rollout = config.grpo.rollout;
  if (rollout.replay_completions) {
    if (!setup.policy) return;
    checks.attempt([&] {
      setup.replay.emplace(*rollout.replay_completions, rollout.num_generations,
                           ends_of(*setup.policy, *setup.text));
      check_rows_fit(setup.replay->limits(), setup.policy->config());
      check_enough(config, method, setup.replay->groups(), "replay_completions");
      check_weights(rollout, setup.replay->judges().size());
    });
    return;
  }
  setup.data = read_run_data<PromptDataset>(
      config, hooks, setup.policy, checks, [&](const DataSpec& spec, bool) {
        return read_prompts(config, *setup.text, setup.judges, spec);
      });
  if (!setup.data.train) return;
  checks.attempt([&] { check_enough(config, method, setup.data.train->rows(), "dataset_name"); });
  for (const auto* data : {&setup.data.train, &setup.data.eval}) {
    if (*data && setup.judges) checks.attempt([&] { check_template(*setup.judges, **data); });
  }
  if (!setup.policy) return;
  checks.attempt([&] {
    const int64_t prompt = longest_row(*setup.data.train);
    check_length(rollout, *setup.policy, prompt);
    check_cache(rollout, *setup.policy, prompt);
  });
}

/// The run's plan, with prompts as long as the options let them be.
RunMemory memory_of(const GrpoConfig& config, const PolicyGradientMethod& method) {
  RunMemory memory = run_memory(config);
  memory.has_reference = method.kl != KlTerm::none;
  if (method.critic) memory.critic = method.critic->folder;
  return memory;
}

PolicyGradientSetup set_up(GrpoConfig& config, const PolicyGradientMethod& method,
                           const TrainHooks& hooks) {
  const bool reference = method.kl != KlTerm::none;
  SetupChecks checks;
  const auto& rollout = config.grpo.rollout;
  const PolicyRequest request{
      .adapter_dropout = adapter_dropout(config.lora, rollout.disable_dropout),
      .keeps_start_adapter = reference && !rollout.reference.ref_model_name_or_path};
  PolicyGradientSetup setup;
  static_cast<Prepared&>(setup) = prepare_run(
      config, memory_of(config, method), [&](const TextSide*) { return request; }, checks);
  if (!rollout.replay_completions) {
    checks.attempt([&] {
      Problems problems;
      setup.judges.emplace(read_judges(rollout, rollout.max_completion_length,
                                       setup.text ? &*setup.text : nullptr,
                                       setup.policy ? &setup.policy->model : nullptr, problems));
      problems.throw_if_any();
    });
  }
  if (method.read) checks.attempt(method.read);
  if (setup.text) read_rows(config, method, hooks, setup, checks);
  if (setup.policy && reference)
    checks.attempt([&] { check_reference_folder(rollout.reference, *setup.policy); });
  if (method.critic && setup.policy && setup.text) {
    checks.attempt([&] {
      const bool judged = setup.judges && setup.judges->model;
      setup.critic.emplace(config, rollout, *method.critic, *setup.text, *setup.policy,
                           judged ? &*setup.judges->model : nullptr);
    });
  }
  checks.attempt([&] { check_readers(rollout, setup); });
  checks.throw_if_any();
  return setup;
}

/// Draws completions of every evaluation prompt and logs what the judges say. Where an end of the run
/// is asked for meanwhile the evaluation is given up; the step's end hears it too.
void evaluate_and_note(const GrpoConfig& config, const PolicyGradientMethod& method,
                       const PolicyGradientSetup& setup, RolloutMaker& maker, TrainRun& run,
                       const std::function<bool()>& should_stop) {
  const auto start = std::chrono::steady_clock::now();
  std::vector<Group> groups;
  try {
    groups = maker.groups(*setup.data.eval, all_rows(setup.data.eval->rows()),
                          {.generations = config.grpo.rollout.eval_generations(),
                           .draw = kEvaluationDraw,
                           .step = run.step()},
                          should_stop);
  } catch (const Interrupted&) {
    return;
  }
  const auto no_spread = method.without_spread(groups, setup.judges->weights);
  run.note_evaluation(rollout_metrics(groups, setup.judges->names, no_spread, "eval_"),
                      seconds_since(start), setup.data.eval->rows());
}

/// The run's plan, with the prompts as they are.
RunMemory memory_of(const GrpoConfig& config, const PolicyGradientMethod& method,
                    const PolicyGradientSetup& setup) {
  RunMemory memory = memory_of(config, method);
  if (setup.replay) {
    fit_rows(memory, setup.replay->limits().longest, {});
    return memory;
  }
  memory.longest_prompt = longest_row(*setup.data.train);
  fit_rows(memory, memory.longest_prompt + config.grpo.rollout.max_completion_length,
           setup.data.train->lengths());
  return memory;
}

RunParts run_parts(const GrpoConfig& config, const PolicyGradientMethod& method,
                   const PolicyGradientSetup& setup, const TrainHooks& hooks) {
  const int64_t prompts = setup.replay ? setup.replay->groups() : setup.data.train->rows();
  return {
      .method = method.name,
      .training = config.training,
      .hooks = hooks,
      .text = *setup.text,
      .config_yaml = method.config_yaml(config),
      .rows = prompts,
      .data_fingerprint = setup.replay ? setup.replay->fingerprint() : setup.data.train_fingerprint,
      .lengths = {},
      .steps_per_epoch = steps_per_epoch(config.grpo.rollout, config.training, prompts),
      .check_resumed = [&](const Json& extra) {
        check_same_batches(extra.at("source"), config.grpo.rollout, config.training, method);
      }};
}

/// Prompt and completion of every sample that is trained on.
int64_t tokens_of(const std::vector<Slice>& slices) {
  int64_t tokens = 0;
  for (const auto& slice : slices) {
    for (const auto& row : slice.rows)
      tokens += std::ssize(row.group->prompt) + row.sample->tokens();
  }
  return tokens;
}

/// Reference, old log-probabilities and values of a fresh rollout: what its losses compare with.
void add_logprobs(const GrpoConfig& config, const PolicyGradientMethod& method,
                  PolicyGradientSetup& setup, const References& references, Rollout& rollout,
                  int64_t first_later, Metrics& metrics) {
  const auto start = std::chrono::steady_clock::now();
  Policy& policy = *setup.policy;
  if (references.train) add_reference(config, policy, *references.train, rollout);
  const bool now = method.kl == KlTerm::reward || setup.critic.has_value();
  add_old_logprobs(config, policy, rows_of(rollout, now ? 0 : first_later, rollout.samples()));
  if (setup.critic) setup.critic->add_values(rows_of(rollout, 0, rollout.samples()));
  metrics.emplace_back("time/reference", seconds_since(start));
}

/// What stands beside policy and critic and lives through all steps. Refers to what it is made of.
struct Roles {
  Roles(const GrpoConfig& config, const PolicyGradientMethod& method, PolicyGradientSetup& setup,
        TrainRun& run, const TrainHooks& hooks);
  Roles(const Roles&) = delete;
  Roles& operator=(const Roles&) = delete;

  References references;
  std::vector<std::string> judges;
  std::vector<double> weights;        ///< of the judges
  std::optional<RolloutMaker> maker;  ///< absent with a replay
  EntropyControl entropy;
  std::optional<RolloutSource> source;
};

Roles::Roles(const GrpoConfig& config, const PolicyGradientMethod& method,
             PolicyGradientSetup& setup, TrainRun& run, const TrainHooks& hooks) {
  const RolloutOptions& rollout = config.grpo.rollout;
  Policy& policy = *setup.policy;
  if (method.kl != KlTerm::none && !run.over()) {
    references =
        ReferenceMaker(config, rollout.reference, policy, run, hooks).live(rollout.temperature);
  }
  judges = setup.judges ? setup.judges->names : setup.replay->judges();
  weights = setup.judges ? setup.judges->weights
                         : rollout.reward_weights.value_or(std::vector<double>(judges.size(), 1.0));
  if (setup.judges) {
    maker.emplace(rollout, static_cast<uint64_t>(config.training.seed), policy, *setup.text,
                  *setup.judges);
  }
  const Json& resumed = run.resumed_extra();
  entropy.coefficient = config.grpo.entropy_coef;
  if (config.grpo.use_adaptive_entropy && !resumed.is_null())
    entropy = EntropyControl::from_json(resumed.at("entropy"));
  source.emplace(RolloutParts{.options = rollout,
                              .training = config.training,
                              .text = *setup.text,
                              .judges = judges,
                              .weights = weights,
                              .maker = maker ? &*maker : nullptr,
                              .prompts = setup.data.train ? &*setup.data.train : nullptr,
                              .replay = setup.replay ? &*setup.replay : nullptr,
                              .method = method,
                              .add_logprobs =
                                  [&](Rollout& fresh, int64_t first_later, Metrics& metrics) {
                                    add_logprobs(config, method, setup, references, fresh,
                                                 first_later, metrics);
                                  },
                              .should_stop = hooks.should_stop},
                 run.folder(), resumed.is_null() ? Json() : resumed.at("source"),
                 policy.resumed_from);
}

/// Critic and method go on from the run's checkpoint.
void resume(const PolicyGradientMethod& method, PolicyGradientSetup& setup, const TrainRun& run) {
  const auto& folder = setup.policy->resumed_from;
  if (setup.critic && folder) setup.critic->resume(*folder, run.step(), run.optimizer_resumed());
  const Json& resumed = run.resumed_extra();
  if (method.set_state && !resumed.is_null()) method.set_state(resumed.at("method"));
}

/// Says what a checkpoint holds beside the policy.
void add_to_checkpoints(const PolicyGradientMethod& method, PolicyGradientSetup& setup,
                        const Roles& roles, TrainRun& run) {
  run.set_extra_state([&] {
    return Json{{"source", roles.source->state()},
                {"entropy", roles.entropy.to_json()},
                {"method", method.state ? method.state() : Json()}};
  });
  run.add_tensors(RolloutSource::kFile, [&] { return roles.source->tensors(run.step()); });
  if (setup.critic) run.add_tensors(Critic::kFile, [&] { return setup.critic->tensors(); });
}

/// The critic's gradients and its update; gradients of the policy's loss over the step's
/// completions, unless it waits for its critic (`hold`). Returns the step's loss.
double learn(GrpoConfig& config, const PolicyGradientMethod& method, PolicyGradientSetup& setup,
             Roles& roles, std::vector<Slice>& slices, const TrainRun& run, bool hold,
             Metrics& metrics) {
  const GrpoOptions& grpo = config.grpo;
  // The critic first: its gradients are gone before the policy's come.
  Metrics of_critic;
  double critic_loss = 0.0;
  if (setup.critic) {
    critic_loss = setup.critic->accumulate_gradients(
        slices, setup.critic_size, grpo.rollout.mask_truncated_completions, run.step(), of_critic);
    setup.critic->update(run.learning_rate(), of_critic);
  }
  GrpoStepResult result;
  if (!hold) {
    if (method.kl_weight) config.grpo.loss.beta = method.kl_weight();
    result = accumulate_gradients(config, *setup.policy, setup.size, slices, run.step(),
                                  roles.source->reused(), roles.entropy.weight(grpo));
    const auto said = method.step_metrics ? method.step_metrics(result) : result.metrics;
    metrics.insert(metrics.end(), said.begin(), said.end());
  }
  metrics.insert(metrics.end(), of_critic.begin(), of_critic.end());
  roles.entropy.follow(grpo, result.entropy);
  if (grpo.has_entropy_bonus()) metrics.emplace_back("entropy_coef", roles.entropy.coefficient);
  return result.loss + critic_loss;
}

}  // namespace

OptionalRewards rewards_of(const std::vector<Group>& groups) {
  OptionalRewards rewards;
  for (const auto& group : groups) {
    for (const auto& sample : group.samples) rewards.push_back(sample.reward);
  }
  return rewards;
}

TrainResult train_policy_gradient(GrpoConfig config, const PolicyGradientMethod& method,
                                  const TrainHooks& hooks) {
  if (hooks.on_text) hooks.on_text(method.config_table);
  // Everything that can be wrong is looked at before anything is written, and reported together.
  PolicyGradientSetup setup = set_up(config, method, hooks);
  Policy& policy = *setup.policy;
  const RunMemory memory = memory_of(config, method, setup);
  check_memory(memory, policy.device.is_cpu());
  const MemoryRequest planned = memory_request(memory);
  setup.size = planned.size;
  setup.critic_size = planned.critic_size;
  TrainRun run(run_parts(config, method, setup, hooks), policy);
  // Before the log of completions is cut to the checkpoint's: a critic that is at fault leaves it.
  resume(method, setup, run);
  Roles roles(config, method, setup, run, hooks);
  add_to_checkpoints(method, setup, roles, run);
  const std::optional<Critic>& critic = setup.critic;
  const RolloutOptions& rollout = config.grpo.rollout;
  const auto evaluate = [&] {
    evaluate_and_note(config, method, setup, *roles.maker, run, hooks.should_stop);
  };
  if (!run.over() && run.evaluation_is_due()) evaluate();

  while (!run.over()) {
    run.begin_step();
    // 1. The completions of this step, drawn anew where the last ones are used up.
    Metrics metrics;
    int64_t tokens = 0;
    std::vector<Slice> slices;
    try {
      slices = roles.source->take(run.step(), metrics, tokens);
    } catch (const Interrupted&) {
      run.interrupt();
      break;
    }
    // 2. Gradients of the loss over all of them; the critic and the entropy bonus move on.
    const auto start = std::chrono::steady_clock::now();
    const bool hold = critic && critic->warms_up(run.step());
    const double loss = learn(config, method, setup, roles, slices, run, hold, metrics);
    // 3. Clip, update, and say what happened.
    metrics.emplace_back(kTimeUpdate, seconds_since(start));
    run.update(loss, metrics, {tokens, tokens_of(slices)}, hold);
    if (run.logged() && rollout.log_completions && hooks.on_text)
      hooks.on_text(roles.source->shown());
    // 4. The reference follows the policy where it is told to.
    roles.references.follow(policy, rollout.reference, run.step());
    // 5. Evaluate and save when it is time; stop when asked.
    if (run.evaluation_is_due()) evaluate();
    run.end_step();
  }
  // The critic that is kept is the policy's: of the best step, or of the last.
  if (const auto best = run.load_best(); best && critic) setup.critic->restore(*best);
  auto result = run.finish();
  if (critic && !run.interrupted()) critic->save(run.folder());
  return result;
}

}  // namespace rlhf

// The tables of other programs' keys, each in a file of its own, and what several of them say:
// plain data.
#pragma once

#include <span>

namespace rlhf {

/// A key of another program.
struct PeerKey {
  /// As its users write it, with dots between nested keys; `a*` is every key that begins so and has
  /// no row of its own.
  const char* key;
  /// The key here, or several, as `a, b`. ` | ` parts names that commands have instead of each
  /// other, the first that the command at hand reads being meant. Empty: none.
  const char* ours;
  /// What differs, or what to do where there is no key; a clause without a full stop. May be empty
  /// where there is a key.
  const char* how;
};

/// PeerKey::how, where several tables say the same.
namespace said {

inline constexpr const char* kOneProcess = "remove it: one process trains on one device";
inline constexpr const char* kOwnEngine =
    "remove it: completions are drawn on the trained weights themselves, without a second engine";
inline constexpr const char* kSameWeights = "remove it: sampler and trainer are the same weights";
inline constexpr const char* kAttention = "remove it: one exact attention serves every device";
inline constexpr const char* kCheckpointing = "remove it: one way of checkpointing serves all";
inline constexpr const char* kNoExperts =
    "remove it: mixtures of experts are not among the architectures";
inline constexpr const char* kNoMedia = "remove it: rows are text";
inline constexpr const char* kNoTracker =
    "remove it: metrics.jsonl and TensorBoard files hold the metrics";
inline constexpr const char* kThroughput =
    "remove it: tokens_per_second and peak_memory are always logged";
inline constexpr const char* kOwnCheckpoints =
    "remove it: checkpoints are folders of this program, whole or absent";
inline constexpr const char* kNoHub = "remove it: nothing is sent to or read from a hub";
inline constexpr const char* kTokenizerFile = "remove it: tokenizer.json is read as it is";
inline constexpr const char* kOneTurn = "not offered: completions have one turn";
inline constexpr const char* kNoAverage =
    "not offered: sync_ref_model keeps a moving average of the policy as the reference";
inline constexpr const char* kTestSplit =
    "the file of that name in the folder of dataset_name; or set test_split_size";
inline constexpr const char* kShareOfRows =
    "the weight of a part is the share of its rows that is taken; or cut the file with head -n";
inline constexpr const char* kTokens = "tokens of one pass; never changes a result";
inline constexpr const char* kCompletions = "in completions: prompts times num_generations";
inline constexpr const char* kRowsOfAStep =
    "their product is the rows of a step (of grpo, rloo and ppo completions); one process trains, "
    "so it is train_batch_size itself";
inline constexpr const char* kRewardServer =
    "an entry with a url; a Python function is a command that runs share/reward_worker.py "
    "(docs/rewards.md)";
inline constexpr const char* kEstimators =
    "gae is rlhf ppo, which needs no key; rloo, reinforce and reinforce_baseline are of rlhf rloo; "
    "group_norm is rlhf grpo, dr_grpo too with loss_type: dr_grpo and scale_rewards: none";
inline constexpr const char* kKlInLoss =
    "ppo takes kl_estimator k2 or k3 with it; weighted by beta, the KL of grpo is always in the "
    "loss and that of rloo in the reward";

}  // namespace said

std::span<const PeerKey> trl_keys();
std::span<const PeerKey> openrlhf_keys();         ///< before version 0.10
std::span<const PeerKey> openrlhf_dotted_keys();  ///< from version 0.10 on
std::span<const PeerKey> llama_factory_keys();
std::span<const PeerKey> verl_keys();
std::span<const PeerKey> torchtune_keys();
/// Keys of training that `rlhf generate`, `score` and `eval` call otherwise; of no other program.
std::span<const PeerKey> inference_keys();

}  // namespace rlhf

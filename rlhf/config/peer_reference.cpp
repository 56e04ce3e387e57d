#include "rlhf/config/commands.h"
#include "rlhf/config/foreign_keys.h"
#include "rlhf/config/reference.h"

namespace rlhf {
namespace {

constexpr const char* kIntroduction = R"(# Coming from other programs

Written by the program from the tables in `rlhf/config/peer_keys_*.cpp`; do not edit. To write it again after a change, run
the test `config` with `RLHF_WRITE_GOLDENS=1`.

Keys are TRL's. A key or flag of another program is an error that says whose it is and what to use, all of a file at once,
with their lines; nested keys and Hydra's `a.b=c` too:

```
$ rlhf dpo --config llama_factory.yaml
error: [llama_factory.yaml:6 cutoff_len] `cutoff_len` is LLaMA-Factory's. HINT: max_length means that here: a longer answer is cut at its end, where LLaMA-Factory cuts prompt and answer in proportion.
$ rlhf rloo --n_samples_per_prompt 8
error: [--n_samples_per_prompt] `n_samples_per_prompt` is OpenRLHF's. HINT: num_generations means that here.
$ rlhf grpo data.train_batch_size=1024
error: [--data.train_batch_size] `data.train_batch_size` is verl's. HINT: generation_batch_size means that here: in completions: prompts there, times num_generations here; of sft in rows.
```

A flag wins over the file, also where the file's value would be refused: a file can stay as it is. Models and data are folders and
files of this machine; `docs/data-formats.md` has the rows that are read.

**Batches.** A step has `per_device_train_batch_size` × `gradient_accumulation_steps` rows; how many are computed at once follows
`max_tokens_per_microbatch` and changes no result. What others split over machines is that product here: OpenRLHF's
`--train_batch_size 256 --micro_train_batch_size 2` on any number of machines is `--per_device_train_batch_size 256`; TRL's,
LLaMA-Factory's and torchtune's rows of a device, times the devices, are `per_device_train_batch_size`. Of `grpo`, `rloo` and `ppo`
the rows are completions: 128 prompts with 8 completions each are 1024, or `prompts_per_step: 128` and `num_generations: 8`.

## alignment-handbook

Its recipes are TRL's keys, and run with `model_name_or_path` and the paths in their mixtures replaced: `rlhf sft --config sft.yaml`,
`rlhf dpo --config dpo.yaml`, and for ORPO `rlhf dpo --config orpo.yaml --loss_type orpo` (the recipe itself does not name
its loss: without the flag it is DPO's `sigmoid`). A recipe that starts from an adapter and asks for a new one needs `rlhf merge` first.

| key | here |
|---|---|
| `dataset_mixture` | read: `id`, `config` (a folder inside), `split`, `columns`, `weight` (the first rows instead of random ones), `test_split_size`; the run's `seed` sets test rows aside |
| `dataset_mixer`, `dataset_splits` | read: `{path: share}`, and the splits that have train and test in their names |
| `chat_template`, `tokenizer_name_or_path`, `eos_token` | read |
| `torch_dtype`, `max_seq_length`, `preprocessing_num_workers`, `evaluation_strategy` | read by their names today, with a note |
| `packing_strategy: ffd` | read as `bfd` |
| `optim: paged_adamw_32bit` | read as `adamw_torch`, which computes the same |
| `optim: adamw_bnb_8bit`, `paged_adamw_8bit` | read as `adamw_8bit`: codes in blocks of 256, 32 bits for embeddings and below 4096 numbers |
| `load_in_4bit`, `load_in_8bit` | refused: weights are held in `dtype` |
| `max_prompt_length`, `padding_free`, `use_liger_kernel`, `attn_implementation`, `gradient_checkpointing_kwargs`, `ddp_timeout`, `push_to_hub`, `hub_*`, `report_to: wandb` and others | no effect, with a note that says why |

QLoRA's recipes train the same adapter on a base in `dtype`:

```
rlhf dpo --config dpo/config_qlora.yaml --load_in_4bit false --model_name_or_path models/sft --dataset_mixer '{data/preferences: 1.0}'
```

)";

constexpr const char* kInference =
    "## Commands without training\n\n`rlhf generate`, `score` and `eval` have short names of their "
    "own; `chat_template_path`, "
    "`temperature`, `top_p`,\n`num_generations` and others are those of training.\n\n| of training "
    "| here | |\n|---|---|---|\n";

std::string quoted(const std::vector<std::string>& names) {
  std::string text;
  for (const auto& name : names) text += fmt::format("{}`{}`", text.empty() ? "" : ", ", name);
  return text;
}

/// `epsilon` (grpo, rloo) or `cliprange` (ppo)
std::string here(const PeerKey& row) {
  std::string text;
  for (const auto& names : alternatives_of(row)) {
    const std::string commands = commands_with(names.front());
    const bool everywhere = commands.empty() || commands == "every training command";
    text += fmt::format("{}{}{}", text.empty() ? "" : " or ", quoted(names),
                        everywhere ? "" : fmt::format(" ({})", commands));
  }
  return text.empty() ? "–" : text;
}

std::string rows(std::span<const PeerKey> keys) {
  std::string text;
  for (const PeerKey& row : keys)
    text += fmt::format("| `{}` | {} | {} |\n", row.key, here(row), row.how);
  return text;
}

}  // namespace

std::string coming_from_markdown() {
  std::string text = kIntroduction;
  for (const Peer& peer : peers()) {
    text += fmt::format("## {}\n\nCommands: {}.\n\n| {} | here | |\n|---|---|---|\n{}\n",
                        peer.heading, peer.commands, peer.name, rows(peer.keys));
  }
  return text + kInference + rows(inference_keys());
}

}  // namespace rlhf

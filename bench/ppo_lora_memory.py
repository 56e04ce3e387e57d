"""Peak memory of PPO with four roles on one base, beside that of supervised fine-tuning on the same rows, both with LoRA.

Run:  python bench/ppo_lora_memory.py --rlhf build/release/cli/rlhf --data DIR/gsm8k/train.jsonl --tokenizer DIR/tokenizers/qwen3

The Python that runs this needs torch, transformers and tokenizers. A random model of --size is made as for compare_grpo.py (GSM8K's questions as
words of its own tokenizer) and stored in --stored; everything runs in fp32, so that bfloat16 is converted once. `rlhf reward --use_peft` makes a
reward adapter of it in one step; `rlhf ppo --use_peft` then runs with policy, reference, critic and reward model on that base; `rlhf sft
--use_peft` trains on PPO's own prompts and completions, as many rows a step and as many tokens a micro-batch. Peak memory is the operating system's
figure for the whole process. With --gradient_checkpointing weights weigh most.
"""

import json
import pathlib
import tempfile

import compare_common as common
import inputs

LEARNING_RATE = 1e-5


def make_inputs(args, folder: pathlib.Path) -> None:
    import torch
    from transformers import LlamaForCausalLM

    shape = common.model_shape(args)
    inputs.make_word_model(folder / "model", shape, eos=inputs.EOS)
    if args.stored == "bfloat16":
        LlamaForCausalLM.from_pretrained(folder / "model", dtype=torch.bfloat16).save_pretrained(folder / "model")
    length = args.length and args.length - args.new_tokens
    texts = inputs.word_prompts(args, shape["vocab_size"], args.prompts * args.steps, length, eos=inputs.EOS)
    inputs.write_rows(folder / "prompts.jsonl", [{"prompt": text} for text in texts])
    inputs.write_rows(folder / "pairs.jsonl", [{"prompt": text, "chosen": " 1 2 3", "rejected": " 4 5"} for text in texts])


def run(args, command: str, folder: pathlib.Path, data: str, **options) -> dict:
    """A run of `command` with what all three share; its peak and its wall time."""
    options = {"model_name_or_path": folder / "model", "dataset_name": folder / data, "output_dir": folder / command, "cache_dir": folder / "cache",
               "dtype": "float32", "use_peft": True, "lora_r": 16, "lora_target_modules": "all-linear", "threads": args.threads,
               **common.shared_options(args, args.prompts, LEARNING_RATE), **options}
    return common.measured([args.rlhf, command, *common.flags(options), *args.extra.split()], args.threads)[1]


def main() -> None:
    parser = common.arguments(__doc__)
    parser.add_argument("--prompts", type=int, default=16, help="prompts of a rollout, rows of a step of sft")
    parser.add_argument("--new_tokens", type=int, default=128)
    parser.add_argument("--stored", choices=("float32", "bfloat16"), default="float32", help="type of the base on disk")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = pathlib.Path(scratch)
        make_inputs(args, folder)
        reward = run(args, "reward", folder, "pairs.jsonl", max_steps=1, per_device_train_batch_size=2)
        ppo = run(args, "ppo", folder, "prompts.jsonl", reward_model_name_or_path=folder / "reward", max_completion_length=args.new_tokens,
                  num_ppo_epochs=2, temperature=1.0)
        drawn = inputs.read_rows(folder / "ppo" / "completions.jsonl")
        inputs.write_rows(folder / "rows.jsonl", [{key: row[key] for key in ("prompt_ids", "completion_ids")} for row in drawn])
        sft = run(args, "sft", folder, "rows.jsonl")
    print(json.dumps({"size": args.size, "stored": args.stored, "prompts": args.prompts, "new_tokens": args.new_tokens, "threads": args.threads,
                      "gradient_checkpointing": args.gradient_checkpointing,
                      "peak_gb": {name: round(figures["peak"] / 1e9, 3) for name, figures in (("reward", reward), ("ppo", ppo), ("sft", sft))},
                      "ratio": round(ppo["peak"] / sft["peak"], 3)}))


if __name__ == "__main__":
    main()

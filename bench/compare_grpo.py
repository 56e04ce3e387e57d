"""GRPO side by side with TRL: the same prompts, model, reward, threads and precision, runs taken in turn (compare_common.py).

Run:  python bench/compare_grpo.py --rlhf build/release/cli/rlhf --data DIR/gsm8k/train.jsonl --tokenizer DIR/tokenizers/qwen3

The Python that runs this needs torch, trl 1.16.0 and transformers. A step is 2 prompts x 8 samples x 128 new tokens at temperature 1 without
filters, beta 0.04 (a reference model in memory on both sides), one update; AdamW, fp32, no gradient checkpointing unless asked for, rows in file
order. Prompts are GSM8K questions (with --length joined, and cut so that prompt and completion have so many tokens), encoded with the tokenizer given
and folded into the model's vocabulary; both sides get them as text of the model's own tokenizer, one word a token. The reward is the share of digits
among the text's bytes on both sides, `digit_share` here and the same in Python there.

No sample ends early: the token that ends a text has the id one past the model's vocabulary, which no model can draw. Both sides look for it in every
step and never find it, so that all completions have exactly 128 tokens.

TRL's best settings on a CPU: transformers' generate with its cache (vLLM is not for CPUs here), attn_implementation sdpa, the whole batch at once
(--trl_batch cuts TRL's passes over it, which takes less memory and more time). rlhf cuts by tokens, by default.

Samples differ, as the random numbers of the two sides do. Compared before anything is reported: tokens of every step, mean completion length,
the first step's loss (0: advantages of a group add up to 0, all lengths are equal), KL (0: the policy is the reference) and entropy (of the same
weights, 2,048 places drawn alike: within 1%).

Needs a machine without other work: two threads that wait for each other lose most where a third wants their core, TRL's many small operations
more than rlhf's.

Phases, seconds a step: rollout (prompts to texts), reward, reference (its log-probabilities), gradients (forward and backward of the loss), rest
(clipping, the update, the log). Sampling alone: completion tokens a second of rollout.
"""

import json
import math
import pathlib

import compare_common as common
import flops
import inputs

LEARNING_RATE = 1e-6
SKIPPED_STEPS = 1


def make_inputs(args, folder: pathlib.Path) -> None:
    shape = common.model_shape(args)
    inputs.make_word_model(folder / "model", shape)
    length = args.length and args.length - args.new_tokens
    prompts = inputs.word_prompts(args, shape["vocab_size"], args.prompts * args.steps, length)
    inputs.write_rows(folder / "rows.jsonl", [{"prompt": prompt} for prompt in prompts])


def grpo_options(args) -> dict:
    """Options that both sides get, under the names both know."""
    return dict(num_generations=args.samples, max_completion_length=args.new_tokens, beta=0.04, temperature=1.0, shuffle_dataset=False)


def completions(args) -> int:
    return args.prompts * args.samples


def digit_share(completions, **_) -> list[float]:
    """What rlhf's reward of this name gives."""
    return [sum(c in "0123456789" for c in text) / len(text.encode()) if text else 0.0 for text in completions]


def child(args, folder: pathlib.Path) -> None:
    import torch
    from datasets import Dataset
    from transformers import AutoTokenizer
    from trl import GRPOConfig, GRPOTrainer

    torch.set_num_threads(args.threads)
    clock = common.Clock()
    options = common.shared_options(args, args.trl_batch or completions(args), LEARNING_RATE)
    config = GRPOConfig(**common.trl_options(folder), **options, **grpo_options(args),
                        gradient_accumulation_steps=completions(args) // options["per_device_train_batch_size"],
                        model_init_kwargs={"dtype": "float32", "attn_implementation": "sdpa"})
    trainer = GRPOTrainer(model=str(folder / "model"), args=config, train_dataset=Dataset.from_list(inputs.read_rows(folder / "rows.jsonl")),
                          reward_funcs=digit_share, processing_class=AutoTokenizer.from_pretrained(folder / "model"),
                          callbacks=[common.step_clock(clock)])
    trainer._generate = clock.timed("rollout", trainer._generate)
    trainer._calculate_rewards = clock.timed("reward", trainer._calculate_rewards)
    trainer._get_per_token_logps_and_entropies = clock.timed("reference", trainer._get_per_token_logps_and_entropies,
                                                             when=lambda model, *_: model is trainer.ref_model)
    common.train_trl(args, trainer, clock)


def rlhf(args, folder: pathlib.Path) -> dict:
    options = {"model_name_or_path": folder / "model", **common.shared_options(args, completions(args), LEARNING_RATE), **grpo_options(args),
               "reward_funcs": "digit_share"}
    del options["train_sampling_strategy"]  # shuffle_dataset says it
    return common.run_rlhf(args, "grpo", folder, options)


def check(args, results: dict[str, list[dict]]) -> dict:
    """Stops unless both sides did the same work; returns the first steps' figures."""
    first = {name: runs[0]["lines"][0] for name, runs in results.items()}
    counts = [line["num_tokens"] for line in results["rlhf"][0]["lines"]]
    for name, runs in results.items():
        for run in runs:
            assert len(run["times"]) == len(run["lines"]) == args.steps, f"{name}: other steps than asked for"
            for line in run["lines"]:
                assert line["completions/mean_length"] == args.new_tokens, f"{name}: completions of other lengths"
            assert [line["num_tokens"] for line in run["lines"]] == counts, f"{name}: other tokens are counted"
        assert math.isfinite(first[name]["loss"]) and abs(first[name]["loss"]) < 1e-3, f"{name}: the first loss is {first[name]['loss']}"
        assert abs(first[name]["kl"]) < 1e-6, f"{name}: the first KL is {first[name]['kl']}"
        assert first[name]["reward_std"] > 0.0, f"{name}: nothing to learn from"
        difference = first[name]["entropy"] / first["rlhf"]["entropy"] - 1.0
        assert abs(difference) < 0.01, f"{name}: the first entropy differs by {difference}: not the same policy"
    kept = ("loss", "kl", "entropy", "reward", "reward_std", "grad_norm")
    return {"first_step": {name: {key: line[key] for key in kept} for name, line in first.items()}}


def gflop(args, folder: pathlib.Path) -> dict:
    """A prompt once a group; the last sampled token is not read by the rollout."""
    rows = common.timed_rows(args, inputs.read_rows(folder / "rows.jsonl"), args.prompts)
    prompts = [len(row["prompt"].split()) for row in rows]
    scored = len(prompts) * args.samples * args.new_tokens
    groups, read = ([(prompt, [new] * args.samples) for prompt in prompts] for new in (args.new_tokens, args.new_tokens - 1))
    shape = common.shape(args)
    counted = {"rollout": flops.forward(shape, read, scored), "reference": flops.forward(shape, groups, scored),
               "gradients": flops.train(shape, groups, scored)}
    counted["step"] = sum(counted.values())
    return {phase: value * 1e-9 / (args.steps - args.skipped) for phase, value in counted.items()}


def main() -> None:
    parser = common.arguments(__doc__)
    parser.add_argument("--prompts", type=int, default=2, help="prompts a step")
    parser.add_argument("--samples", type=int, default=8, help="samples a prompt")
    parser.add_argument("--new_tokens", type=int, default=128)
    parser.add_argument("--trl_batch", type=int, help="completions of one of TRL's passes; all of a step by default")
    args = parser.parse_args()
    report = common.run(args, __file__, make_inputs=make_inputs, rlhf=rlhf, child=child, check=check, counts={"gflop": gflop}, skipped=SKIPPED_STEPS)
    if not report:
        return
    for side in common.sides(report):
        side["sampled_tokens_per_second"] = common.figure(completions(args) * args.new_tokens / side["phases"]["rollout"])
    if not args.alone:
        report["sampling_ratio"] = common.figure(report["trl"]["phases"]["rollout"] / report["rlhf"]["phases"]["rollout"])
    print(json.dumps({"method": "grpo", "prompts": args.prompts, "samples": args.samples, "new_tokens": args.new_tokens, "length": args.length,
                      "trl_batch": args.trl_batch or completions(args), **report}))


if __name__ == "__main__":
    main()

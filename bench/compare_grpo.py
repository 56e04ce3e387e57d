"""GRPO side by side with TRL: the same prompts, model, reward, threads and precision, runs taken in turn (compare_common.py).

Run:  python bench/compare_grpo.py --rlhf build/release/cli/rlhf --data DIR/gsm8k/train.jsonl --tokenizer DIR/tokenizers/qwen3

The Python that runs this needs torch, trl 1.16.0 and transformers. A step is 2 prompts x 8 samples x 128 new tokens at temperature 1 without
filters, beta 0.04 (a reference model in memory on both sides), one update; AdamW, fp32, no gradient checkpointing, rows in file order. Prompts are
GSM8K questions, encoded with the tokenizer given and folded into the model's vocabulary; both sides get them as text of the model's own tokenizer,
one word a token: a word is its id in hexadecimal, so that random samples have digits to be paid for. The reward is the share of digits among the
text's bytes on both sides, `digit_share` here and the same in Python there.

No sample ends early: the token that ends a text has the id one past the model's vocabulary, which no model can draw. Both sides look for it in every
step and never find it, so that all completions have exactly 128 tokens.

TRL's best settings on a CPU: transformers' generate with its cache (vLLM is not for CPUs here), attn_implementation sdpa, the whole batch at once
(--trl_batch cuts TRL's passes over it, which takes less memory and more time). rlhf cuts by tokens, by default.

Samples differ, as the random numbers of the two sides do. Compared before anything is reported: tokens of every step, mean completion length,
the first step's loss (0: advantages of a group add up to 0, all lengths are equal), KL (0: the policy is the reference) and entropy (of the same
weights, 2,048 places drawn alike: within 1%).

Needs a machine without other work: two threads that wait for each other lose most where a third wants their core, TRL's many small operations
more than rlhf's (`load` in the report is the machine's load average before the first run, and should be below 0.5).

Phases, seconds a step: rollout (prompts to texts), reward, reference (its log-probabilities), gradients (forward and backward of the loss), rest
(clipping, the update, the log). Sampling alone: completion tokens a second of rollout.
"""

import math
import os
import pathlib
import statistics
import tempfile
import time

import compare_common as common

LEARNING_RATE = 1e-6
SKIPPED_STEPS = 1
SPECIAL = (common.PAD, 2)  # ids of <pad> and <unk>: no word
PHASES = {"rollout": "time/rollout", "reward": "time/reward", "reference": "time/reference", "gradients": "time/update"}


def word(token: int) -> str:
    return f"{token:x}"


def make_inputs(args, folder: pathlib.Path) -> None:
    shape = common.SHAPES[args.size]
    vocabulary = shape["vocab_size"]
    common.make_model(folder / "model", shape, eos=vocabulary, words={word(i): i for i in range(vocabulary) if i not in SPECIAL})
    tokenizer = common.FoldedTokenizer(args.tokenizer, vocabulary)
    rows = []
    for row in common.read_rows(args.data)[: args.prompts * args.steps]:
        ids = [i for i in tokenizer.encode(row["question"]) if i not in SPECIAL]
        rows.append({"prompt": " ".join(word(i) for i in ids)})
    common.write_rows(folder / "rows.jsonl", rows)


def grpo_options(args) -> dict:
    """Options that both sides get, under the names both know."""
    return dict(num_generations=args.samples, max_completion_length=args.new_tokens, beta=0.04, temperature=1.0, shuffle_dataset=False)


def completions(args) -> int:
    return args.prompts * args.samples


def digit_share(completions, **_) -> list[float]:
    """What rlhf's reward of this name gives."""
    return [sum(c in "0123456789" for c in text) / len(text.encode()) if text else 0.0 for text in completions]


def clocked(trainer_class, phases: dict):
    """The trainer with a clock around the calls that make a phase; `phases` collects seconds by step."""

    class Clocked(trainer_class):
        def clock(self, phase, call, *args, **kwargs):
            start = time.perf_counter()
            try:
                return call(*args, **kwargs)
            finally:
                steps = phases.setdefault(phase, [])
                steps += [0.0] * (self.state.global_step + 1 - len(steps))
                steps[self.state.global_step] += time.perf_counter() - start

        def _generate(self, *args, **kwargs):
            return self.clock("rollout", super()._generate, *args, **kwargs)

        def _calculate_rewards(self, *args, **kwargs):
            return self.clock("reward", super()._calculate_rewards, *args, **kwargs)

        def _get_per_token_logps_and_entropies(self, model, *args, **kwargs):
            call = super()._get_per_token_logps_and_entropies
            return self.clock("reference", call, model, *args, **kwargs) if model is self.ref_model else call(model, *args, **kwargs)

        def compute_loss(self, *args, **kwargs):
            return self.clock("gradients", super().compute_loss, *args, **kwargs)

        def train(self, *args, **kwargs):
            backward = self.accelerator.backward
            self.accelerator.backward = lambda *a, **k: self.clock("gradients", backward, *a, **k)
            return super().train(*args, **kwargs)

    return Clocked


def child(args, folder: pathlib.Path) -> None:
    from datasets import Dataset
    from transformers import AutoTokenizer
    from trl import GRPOConfig, GRPOTrainer

    phases = {}

    def trainer(callbacks):
        options = common.shared_options(args.steps, args.trl_batch or completions(args), LEARNING_RATE)
        config = GRPOConfig(**common.trl_options(folder), **options, **grpo_options(args),
                            gradient_accumulation_steps=completions(args) // options["per_device_train_batch_size"],
                            model_init_kwargs={"dtype": "float32", "attn_implementation": "sdpa"})
        rows = Dataset.from_list(common.read_rows(str(folder / "rows.jsonl")))
        return clocked(GRPOTrainer, phases)(model=str(folder / "model"), args=config, train_dataset=rows, reward_funcs=digit_share,
                                            processing_class=AutoTokenizer.from_pretrained(folder / "model"), callbacks=callbacks)

    common.train_trl(trainer, args.threads, phases=phases)


def run_rlhf(args, folder: pathlib.Path) -> dict:
    options = {"model_name_or_path": folder / "model", **common.shared_options(args.steps, completions(args), LEARNING_RATE), **grpo_options(args),
               "reward_funcs": "digit_share"}
    del options["train_sampling_strategy"]  # shuffle_dataset says it
    run = common.run_rlhf(args, "grpo", folder, options)
    return {**run, "phases": {phase: [line[key] for line in run["lines"]] for phase, key in PHASES.items()}}


def check(args, results: dict[str, list[dict]]) -> dict:
    """Stops unless both sides did the same work; returns the first steps' figures."""
    first = {name: runs[0]["lines"][0] for name, runs in results.items()}
    for name, runs in results.items():
        for run in runs:
            assert len(run["times"]) == len(run["lines"]) == args.steps, f"{name}: other steps than asked for"
            for line in run["lines"]:
                assert line["completions/mean_length"] == args.new_tokens, f"{name}: completions of other lengths"
        assert math.isfinite(first[name]["loss"]) and abs(first[name]["loss"]) < 1e-3, f"{name}: the first loss is {first[name]['loss']}"
        assert abs(first[name]["kl"]) < 1e-6, f"{name}: the first KL is {first[name]['kl']}"
        assert first[name]["reward_std"] > 0.0, f"{name}: nothing to learn from"
    tokens = [[line["num_tokens"] for line in results[name][0]["lines"]] for name in ("rlhf", "trl")]
    assert tokens[0] == tokens[1], "the two sides count other tokens: nothing is compared"
    entropies = [first[name]["entropy"] for name in ("rlhf", "trl")]
    assert abs(entropies[0] / entropies[1] - 1.0) < 0.01, f"the first entropies are {entropies}: not the same policy"
    return {name: {key: line[key] for key in ("loss", "kl", "entropy", "reward", "reward_std", "grad_norm")} for name, line in first.items()}


def phase_report(args, runs: list[dict]) -> dict:
    """Medians over steps and rounds."""
    kept = slice(SKIPPED_STEPS, None)
    seconds = {phase: statistics.median(s for run in runs for s in run["phases"][phase][kept]) for phase in PHASES}
    rest = [step - sum(run["phases"][phase][i] for phase in PHASES) for run in runs for i, step in list(enumerate(run["times"]))[kept]]
    sampled = completions(args) * args.new_tokens
    return {"seconds": {phase: round(s, 4) for phase, s in seconds.items()} | {"rest": round(statistics.median(rest), 4)},
            "sampled_tokens_per_second": round(sampled / seconds["rollout"], 1)}


def main() -> None:
    parser = common.arguments(__doc__)
    parser.add_argument("--prompts", type=int, default=2, help="prompts a step")
    parser.add_argument("--samples", type=int, default=8, help="samples a prompt")
    parser.add_argument("--new_tokens", type=int, default=128)
    parser.add_argument("--trl_batch", type=int, help="completions of one of TRL's passes; all of a step by default")
    args = parser.parse_args()
    if args.steps <= SKIPPED_STEPS:
        parser.error(f"more than {SKIPPED_STEPS} steps: the first ones are not counted")
    if args.child:
        return child(args, pathlib.Path(args.child))
    load = round(os.getloadavg()[0], 2)
    with tempfile.TemporaryDirectory() as scratch:
        folder = pathlib.Path(scratch)
        make_inputs(args, folder)
        results = common.in_turn(args, lambda: run_rlhf(args, folder), lambda: common.run_trl(args, __file__, folder))
    report = {"method": "grpo", "prompts": args.prompts, "samples": args.samples, "new_tokens": args.new_tokens,
              "trl_batch": args.trl_batch or completions(args), "size": args.size, "threads": args.threads, "load": load,
              "first_step": check(args, results)}
    tokens = results["trl"][0]["tokens"]
    for name, runs in results.items():
        report[name] = common.side_report(runs, tokens, SKIPPED_STEPS) | phase_report(args, runs)
    report["sampling_ratio"] = round(report["rlhf"]["sampled_tokens_per_second"] / report["trl"]["sampled_tokens_per_second"], 2)
    common.print_report(report)


if __name__ == "__main__":
    main()

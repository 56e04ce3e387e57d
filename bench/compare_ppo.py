"""PPO side by side with TRL 1.12.0: the same prompts, models, threads and precision, runs taken in turn (compare_common.py).

Run:  python bench/compare_ppo.py --rlhf build/release/cli/rlhf --data DIR/gsm8k/train.jsonl --tokenizer DIR/tokenizers/qwen3 --trl DIR

The Python that runs this needs torch and transformers; --trl is a folder that holds TRL 1.12.0, the last with PPO (pip install --no-deps --target DIR
trl==1.12.0), where the Python's own TRL is another. A round is 32 prompts, one completion of 128 new tokens each at temperature 1 without filters,
judged by a reward model, then 4 passes over them, an update each, of policy and critic: four models of one shape on both sides (policy, reference,
critic, reward model). AdamW, fp32, no gradient checkpointing, rows in file order. Prompts are GSM8K questions, encoded with the tokenizer given and
folded into the model's vocabulary; rlhf gets them as text of the model's own tokenizer, one word a token, TRL as ids. No token ends a text.

TRL's best settings on a CPU: transformers' generate with its cache, attn_implementation sdpa, the whole batch at once (--trl_batch cuts TRL's passes
over it, which takes less memory and more time). rlhf cuts by tokens, by default.

Samples differ, as the random numbers of the two sides do. Compared before anything is reported: tokens of every round, the first round's KL (0: the
policy is the reference) and entropy (of the same weights, 4,096 places drawn alike: within 1%). The last is a mean over
rows of what is drawn, and TRL does not look behind a padding token, which one round in eight draws: each such row is added to what is allowed.

Needs a machine without other work (`load` in the report is the load average before the first run, and should be below 0.5).

Phases, seconds a round: rollout (prompts to completions), scoring (reward model, reference, critic, log-probabilities), update (the four passes and
what is left). Steps are optimizer steps: four a round.
"""

import math
import os
import pathlib
import statistics
import sys
import tempfile
import time

import compare_common as common

LEARNING_RATE = 1e-6
SKIPPED = 1
EPOCHS = 4
SPECIAL = (common.PAD, 2)  # ids of <pad> and <unk>: no word
PHASES = {"rollout": ["time/rollout"], "scoring": ["time/reward", "time/reference"]}


def word(token: int) -> str:
    return f"{token:x}"


def make_inputs(args, folder: pathlib.Path) -> None:
    shape = common.SHAPES[args.size]
    vocabulary = shape["vocab_size"]
    words = {word(i): i for i in range(vocabulary) if i not in SPECIAL}
    common.make_model(folder / "model", shape, eos=vocabulary, words=words)
    common.make_model(folder / "reward", shape, classifier=True, eos=vocabulary, words=words)
    tokenizer = common.FoldedTokenizer(args.tokenizer, vocabulary)
    rows = []
    for row in common.read_rows(args.data)[: args.prompts * args.steps]:
        ids = [i for i in tokenizer.encode(row["question"]) if i not in SPECIAL]
        rows.append({"prompt": " ".join(word(i) for i in ids)})
    common.write_rows(folder / "rows.jsonl", rows)


def ppo_options(args) -> dict:
    """Options that both sides get, under the names both know."""
    return dict(response_length=args.new_tokens, temperature=1.0, num_ppo_epochs=EPOCHS, num_mini_batches=1, kl_coef=0.05, learning_rate=LEARNING_RATE,
                lr_scheduler_type="constant", logging_steps=1, save_strategy="no", gradient_checkpointing=False)


def child(args, folder: pathlib.Path) -> None:
    import json

    import torch

    if args.trl:
        sys.path.insert(0, args.trl)
    torch.set_num_threads(args.threads)
    import trl
    from datasets import Dataset
    from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer, TrainerCallback
    from trl.experimental.ppo import PPOConfig, PPOTrainer, ppo_trainer

    assert trl.__version__ == "1.12.0", trl.__version__
    phases = {"rollout": [0.0], "scoring": [0.0]}
    times, drawn = [], []

    def clocked(phase, call, note=lambda found: None, when=lambda: True):
        def timed(*a, **k):
            if not when():
                return call(*a, **k)
            start = time.perf_counter()
            found = call(*a, **k)
            phases[phase][-1] += time.perf_counter() - start
            note(found)
            return found
        return timed

    def note_drawn(found):
        drawn.append(int((found[0][:, -args.new_tokens:] == common.PAD).sum()))

    loader = ppo_trainer.DataLoader
    ppo_trainer.DataLoader = lambda *a, shuffle=False, **k: loader(*a, shuffle=False, **k)
    ppo_trainer.batch_generation = clocked("rollout", ppo_trainer.batch_generation, note_drawn)
    ppo_trainer.get_reward = clocked("scoring", ppo_trainer.get_reward)
    ppo_trainer.forward = clocked("scoring", ppo_trainer.forward, when=lambda: not torch.is_grad_enabled())

    class Clock(TrainerCallback):
        def on_train_begin(self, *a, **k):
            self.start = time.perf_counter()

        def on_step_end(self, *a, **k):
            now = time.perf_counter()
            times.append(now - self.start)
            self.start = now
            for seconds in phases.values():
                seconds.append(0.0)

    tokenizer = AutoTokenizer.from_pretrained(folder / "model", padding_side="left")
    load = dict(dtype=torch.float32, attn_implementation="sdpa")
    batch = args.trl_batch or args.prompts
    config = PPOConfig(**common.trl_options(folder), **ppo_options(args), per_device_train_batch_size=batch, num_sample_generations=0,
                       gradient_accumulation_steps=args.prompts // batch, local_rollout_forward_batch_size=batch, total_episodes=args.prompts * args.steps)
    rows = [tokenizer(row["prompt"])["input_ids"] for row in common.read_rows(str(folder / "rows.jsonl"))]
    data = Dataset.from_dict({"input_ids": rows})
    judge = lambda: AutoModelForSequenceClassification.from_pretrained(folder / "reward", num_labels=1, **load)
    policy = lambda: AutoModelForCausalLM.from_pretrained(folder / "model", **load)
    trainer = PPOTrainer(args=config, processing_class=tokenizer, model=policy(), ref_model=policy(), reward_model=judge(), value_model=judge(),
                         train_dataset=data, eval_dataset=data, callbacks=[Clock()])
    trainer.train()
    lines = [line for line in trainer.state.log_history if "objective/kl" in line]
    tokens = [sum(len(row) + args.new_tokens for row in rows[i * args.prompts:(i + 1) * args.prompts]) for i in range(args.steps)]
    print("RESULT " + json.dumps({"times": times, "lines": lines, "tokens": statistics.mean(tokens), "counts": tokens, "padding": drawn,
                                  "phases": {name: seconds[:-1] for name, seconds in phases.items()}}))


def run_rlhf(args, folder: pathlib.Path) -> dict:
    options = {"model_name_or_path": folder / "model", **ppo_options(args), "per_device_train_batch_size": args.prompts, "shuffle_dataset": False,
               "max_steps": args.steps * EPOCHS, "reward_model_name_or_path": folder / "reward"}
    run = common.run_rlhf(args, "ppo", folder, options)
    rounds = [run["lines"][i:i + EPOCHS] for i in range(0, len(run["lines"]), EPOCHS)]
    counts = [lines[-1]["num_tokens"] for lines in rounds]
    return {**run, "times": [sum(line["step_time"] for line in lines) for lines in rounds], "lines": [lines[0] for lines in rounds],
            "counts": [b - a for a, b in zip([0] + counts, counts)], "padding": [0] * args.steps,
            "phases": {phase: [sum(lines[0][key] for key in keys) for lines in rounds] for phase, keys in PHASES.items()}}


def check(args, results: dict[str, list[dict]]) -> dict:
    """Stops unless both sides did the same work; returns the first rounds' figures."""
    for name, runs in results.items():
        for run in runs:
            assert len(run["times"]) == len(run["lines"]) == args.steps, f"{name}: other rounds than asked for"
            assert run["counts"] == results["trl"][0]["counts"], f"{name}: other tokens"
            assert abs(run["lines"][0]["objective/kl"]) < 1e-2, f"{name}: the first KL is {run['lines'][0]['objective/kl']}"
            assert all(math.isfinite(line["objective/rlhf_reward"]) for line in run["lines"]), f"{name}: rewards"
    first = {name: runs[0]["lines"][0] for name, runs in results.items()}
    entropies = [first[name]["objective/entropy"] for name in ("rlhf", "trl")]
    unseen = max(run["padding"][0] for run in results["trl"]) / args.prompts
    assert abs(entropies[0] / entropies[1] - 1.0) < 0.01 + unseen, f"the first entropies are {entropies}: not the same policy"
    kept = ("objective/kl", "objective/entropy", "objective/scores", "policy/entropy_avg")
    return {name: {key: line[key] for key in kept} for name, line in first.items()}


def phase_report(runs: list[dict]) -> dict:
    """Medians over rounds and runs."""
    kept = slice(SKIPPED, None)
    seconds = {phase: statistics.median(s for run in runs for s in run["phases"][phase][kept]) for phase in PHASES}
    update = [whole - sum(run["phases"][phase][i] for phase in PHASES) for run in runs for i, whole in list(enumerate(run["times"]))[kept]]
    return {"seconds": {phase: round(s, 3) for phase, s in seconds.items()} | {"update": round(statistics.median(update), 3)}}


def main() -> None:
    parser = common.arguments(__doc__)
    parser.set_defaults(size="25m", steps=3, rounds=1)
    parser.add_argument("--trl", help="folder that holds TRL 1.12.0")
    parser.add_argument("--prompts", type=int, default=32, help="prompts a round")
    parser.add_argument("--new_tokens", type=int, default=128)
    parser.add_argument("--trl_batch", type=int, help="completions of one of TRL's passes; all of a round by default")
    args = parser.parse_args()
    if args.steps <= SKIPPED:
        parser.error(f"more than {SKIPPED} steps (rounds of drawing): the first ones are not counted")
    if args.child:
        return child(args, pathlib.Path(args.child))
    load = round(os.getloadavg()[0], 2)
    with tempfile.TemporaryDirectory() as scratch:
        folder = pathlib.Path(scratch)
        make_inputs(args, folder)
        results = common.in_turn(args, lambda: run_rlhf(args, folder), lambda: common.run_trl(args, __file__, folder))
    report = {"method": "ppo", "prompts": args.prompts, "new_tokens": args.new_tokens, "epochs": EPOCHS, "trl_batch": args.trl_batch or args.prompts,
              "size": args.size, "threads": args.threads, "load": load, "first_round": check(args, results)}
    for name, runs in results.items():
        side = common.side_report(runs, results["trl"][0]["tokens"], SKIPPED)
        report[name] = {"seconds_per_round": side.pop("seconds_per_step"), **side, **phase_report(runs)}
    common.print_report(report)


if __name__ == "__main__":
    main()

"""PPO side by side with TRL 1.12.0: the same prompts, models, threads and precision, runs taken in turn (compare_common.py).

Run:  python bench/compare_ppo.py --rlhf build/release/cli/rlhf --data DIR/gsm8k/train.jsonl --tokenizer DIR/tokenizers/qwen3 --trl DIR

The Python that runs this needs torch and transformers; --trl is a folder that holds TRL 1.12.0, the last with PPO (pip install --no-deps --target DIR
trl==1.12.0), where the Python's own TRL is another. A round is 32 prompts, one completion of 128 new tokens each at temperature 1 without filters,
judged by a reward model, then 4 passes over them, an update each, of policy and critic: four models of one shape on both sides (policy, reference,
critic, reward model). AdamW, fp32, no gradient checkpointing unless asked for, rows in file order. Prompts are GSM8K questions (with --length joined,
and cut so that prompt and completion have so many tokens), encoded with the tokenizer given and folded into the model's vocabulary; rlhf gets them as
text of the model's own tokenizer, one word a token, TRL as ids. No token ends a text.

TRL's best settings on a CPU: transformers' generate with its cache, attn_implementation sdpa, the whole batch at once (--trl_batch cuts TRL's passes
over it, which takes less memory and more time). rlhf cuts by tokens, by default.

Samples differ, as the random numbers of the two sides do. Compared before anything is reported: tokens of every round, the first round's KL (0: the
policy is the reference) and entropy (of the same weights, 4,096 places drawn alike: within 1%). The last is a mean over
rows of what is drawn, and TRL does not look behind a padding token, which one round in eight draws: each such row is added to what is allowed.

Needs a machine without other work.

What the report calls a step is a round; --steps are rounds. Phases: rollout (prompts to completions), scoring (reward model, reference, critic,
log-probabilities), update (the four passes and what is left).
"""

import json
import math
import pathlib
import statistics
import sys

import compare_common as common
import flops
import inputs

LEARNING_RATE = 1e-6
SKIPPED_ROUNDS = 1
EPOCHS = 4
PHASES = {"rollout": ["time/rollout"], "scoring": ["time/reward", "time/reference"]}


def make_inputs(args, folder: pathlib.Path) -> None:
    shape = common.model_shape(args)
    inputs.make_word_model(folder / "model", shape)
    inputs.make_word_model(folder / "reward", shape, classifier=True)
    length = args.length and args.length - args.new_tokens
    prompts = inputs.word_prompts(args, shape["vocab_size"], args.prompts * args.steps, length)
    inputs.write_rows(folder / "rows.jsonl", [{"prompt": prompt} for prompt in prompts])


def prompt_lengths(folder: pathlib.Path) -> list[int]:
    return [len(row["prompt"].split()) for row in inputs.read_rows(folder / "rows.jsonl")]


def ppo_options(args) -> dict:
    """Options that both sides get, under the names both know."""
    options = common.shared_options(args, args.prompts, LEARNING_RATE)
    for name in ("max_steps", "per_device_train_batch_size", "train_sampling_strategy"):
        del options[name]  # each side names its rounds, batches and order in its own way
    return {**options, **dict(response_length=args.new_tokens, temperature=1.0, num_ppo_epochs=EPOCHS, num_mini_batches=1, kl_coef=0.05)}


def child(args, folder: pathlib.Path) -> None:
    if args.trl:
        sys.path.insert(0, args.trl)
    import torch

    torch.set_num_threads(args.threads)
    import trl
    from datasets import Dataset
    from transformers import AutoTokenizer
    from trl.experimental.ppo import PPOConfig, PPOTrainer, ppo_trainer

    assert trl.__version__ == "1.12.0", trl.__version__
    clock = common.Clock()
    drawn = []

    def note_drawn(found):
        drawn.append(int((found[0][:, -args.new_tokens:] == inputs.PAD).sum()))

    loader = ppo_trainer.DataLoader
    ppo_trainer.DataLoader = lambda *a, shuffle=False, **k: loader(*a, shuffle=False, **k)
    ppo_trainer.batch_generation = clock.timed("rollout", ppo_trainer.batch_generation, note=note_drawn)
    ppo_trainer.get_reward = clock.timed("scoring", ppo_trainer.get_reward)
    ppo_trainer.forward = clock.timed("scoring", ppo_trainer.forward, when=lambda *_: not torch.is_grad_enabled())

    tokenizer = AutoTokenizer.from_pretrained(folder / "model", padding_side="left")
    batch = args.trl_batch or args.prompts
    config = PPOConfig(**common.trl_options(folder), **ppo_options(args), per_device_train_batch_size=batch, num_sample_generations=0,
                       gradient_accumulation_steps=args.prompts // batch, local_rollout_forward_batch_size=batch,
                       total_episodes=args.prompts * args.steps)
    rows = Dataset.from_dict({"input_ids": [tokenizer(row["prompt"])["input_ids"] for row in inputs.read_rows(folder / "rows.jsonl")]})
    policy = lambda: common.trl_model(folder)
    judge = lambda: common.trl_model(folder, "reward", classifier=True)
    trainer = PPOTrainer(args=config, processing_class=tokenizer, model=policy(), ref_model=policy(), reward_model=judge(), value_model=judge(),
                         train_dataset=rows, eval_dataset=rows, callbacks=[common.step_clock(clock, steps_follow=True)])
    trainer.train()
    lengths = [length + args.new_tokens for length in prompt_lengths(folder)]
    tokens = [sum(lengths[i * args.prompts:(i + 1) * args.prompts]) for i in range(args.steps)]
    common.send(times=clock.times, lines=[line for line in trainer.state.log_history if "objective/kl" in line], tokens=statistics.mean(tokens[args.skipped:]),
                counts=tokens, padding=drawn, phases=clock.phases())


def rlhf(args, folder: pathlib.Path) -> dict:
    options = {"model_name_or_path": folder / "model", **ppo_options(args), "per_device_train_batch_size": args.prompts, "shuffle_dataset": False,
               "max_steps": args.steps * EPOCHS, "reward_model_name_or_path": folder / "reward"}
    run = common.run_rlhf(args, "ppo", folder, options)
    rounds = [run["lines"][i:i + EPOCHS] for i in range(0, len(run["lines"]), EPOCHS)]
    totals = [lines[-1]["num_tokens"] for lines in rounds]
    counts = [b - a for a, b in zip([0] + totals, totals)]
    return {**run, "times": [sum(line["step_time"] for line in lines) for lines in rounds], "lines": [lines[0] for lines in rounds],
            "counts": counts, "tokens": statistics.mean(counts[args.skipped:]), "padding": [0] * args.steps,
            "phases": {phase: [sum(lines[0][key] for key in keys) for lines in rounds] for phase, keys in PHASES.items()}}


def check(args, results: dict[str, list[dict]]) -> dict:
    """Stops unless both sides did the same work; returns the first rounds' figures."""
    first = {name: runs[0]["lines"][0] for name, runs in results.items()}
    for name, runs in results.items():
        for run in runs:
            assert len(run["times"]) == len(run["lines"]) == args.steps, f"{name}: other rounds than asked for"
            assert run["counts"] == results["rlhf"][0]["counts"], f"{name}: other tokens"
            assert abs(run["lines"][0]["objective/kl"]) < 1e-2, f"{name}: the first KL is {run['lines'][0]['objective/kl']}"
            assert all(math.isfinite(line["objective/rlhf_reward"]) for line in run["lines"]), f"{name}: rewards"
        unseen = max(run["padding"][0] for run in runs) / args.prompts
        difference = first[name]["objective/entropy"] / first["rlhf"]["objective/entropy"] - 1.0
        assert abs(difference) < 0.01 + unseen, f"{name}: the first entropy differs by {difference}: not the same policy"
    kept = ("objective/kl", "objective/entropy", "objective/scores", "policy/entropy_avg")
    return {"first_round": {name: {key: line[key] for key in kept} for name, line in first.items()}}


def gflop(args, folder: pathlib.Path) -> dict:
    """Old log-probabilities come with the samples; reward model, reference and critic read them once, policy and critic are trained EPOCHS times."""
    prompts = common.timed_rows(args, prompt_lengths(folder), args.prompts)
    scored = len(prompts) * args.new_tokens
    groups, read = ([(prompt, [new]) for prompt in prompts] for new in (args.new_tokens, args.new_tokens - 1))
    shape = common.shape(args)
    judge, critic = (flops.forward(shape, groups, rows, scalar=True) for rows in (len(prompts), scored))
    counted = {"rollout": flops.forward(shape, read, scored), "scoring": flops.forward(shape, groups, scored) + critic + judge,
               "update": EPOCHS * (flops.train(shape, groups, scored) + flops.train(shape, groups, scored, scalar=True))}
    counted["step"] = sum(counted.values())
    return {phase: value * 1e-9 / (args.steps - args.skipped) for phase, value in counted.items()}


def main() -> None:
    parser = common.arguments(__doc__)
    parser.set_defaults(size="25m", steps=3, rounds=1)
    parser.add_argument("--trl", help="folder that holds TRL 1.12.0")
    parser.add_argument("--prompts", type=int, default=32, help="prompts a round")
    parser.add_argument("--new_tokens", type=int, default=128)
    parser.add_argument("--trl_batch", type=int, help="completions of one of TRL's passes; all of a round by default")
    args = parser.parse_args()
    report = common.run(args, __file__, make_inputs=make_inputs, rlhf=rlhf, child=child, check=check, counts={"gflop": gflop}, skipped=SKIPPED_ROUNDS,
                        rest="update")
    if report:
        print(json.dumps({"method": "ppo", "prompts": args.prompts, "new_tokens": args.new_tokens, "length": args.length, "epochs": EPOCHS,
                          "trl_batch": args.trl_batch or args.prompts, **report}))


if __name__ == "__main__":
    main()

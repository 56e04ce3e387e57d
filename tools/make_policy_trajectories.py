"""Records 20-step trajectories of TRL's GRPOTrainer on recorded completions: the oracle of tests/train/policy_trajectory_test.cpp.

Run: python tools/make_policy_trajectories.py [--only CASE ...] [--check]      (seed 7, one thread)
  with trl 1.16.0 (torch 2.13.0 CPU, transformers 5.24.0)

Reads tests/fixtures/train/model and writes tests/fixtures/train/policy/:
  replay.jsonl.gz         a line a completion: {"prompt_ids", "completion_ids", "rewards": {"first", "second"}}; groups of four
  trajectories.json.gz    {"made_with", "cases": {name: {"options", "steps": {metric: a number or null for each step}}}}

TRL runs for real; its generation returns the recorded completions, its rewards are the recorded ones, its two shuffles (of prompts and of a drawn
batch) are the identity. Completions are random ids of varied lengths, some ending in EOS, some cut at the longest length; in some groups all
rewards are equal, some rewards are null. gradient_accumulation_steps is 1: TRL computes its means over each local batch, rlhf over the step. In the
cases with several iterations, or several steps a generation, some ratio is clipped (asserted).

--check runs every case again with other padding and prints how far TRL is from its own recording: the noise any bound must allow.
"""

import argparse
import gzip
import json
import os
import pathlib
import random
import tempfile

os.environ["CUDA_VISIBLE_DEVICES"] = ""

import torch
import transformers
import trl
import trl.trainer.grpo_trainer as grpo_module
from datasets import Dataset
from transformers import AutoModelForCausalLM, AutoTokenizer
from trl import GRPOConfig, GRPOTrainer

TRAIN = pathlib.Path(__file__).resolve().parent.parent / "tests" / "fixtures" / "train"
OUT = TRAIN / "policy"
SEED = 7
STEPS = 20
GROUP = 4
LONGEST = 12
ROWS = 8  # completions of a batch
NAMES = ["first", "second"]
COMMON = dict(
    max_steps=STEPS, per_device_train_batch_size=ROWS, gradient_accumulation_steps=1, learning_rate=2e-3, weight_decay=0.1,
    lr_scheduler_type="linear", warmup_steps=0, max_grad_norm=1.0, num_generations=GROUP, max_completion_length=LONGEST, logging_steps=1,
    seed=SEED, shuffle_dataset=False, gradient_checkpointing=False, save_strategy="no",
)
REUSED = dict(num_iterations=2, learning_rate=1e-2)  # far enough from the sampler that ratios are clipped
NOT_METRICS = {"epoch", "step", "step_time"}

CASES = {
    "dapo": {},
    "grpo_paper": dict(loss_type="grpo", beta=0.04, use_bias_correction_kl=False, **REUSED),
    "grpo_bias_corrected": dict(loss_type="grpo", beta=0.1, **REUSED),
    "bnpo": dict(loss_type="bnpo", **REUSED),
    "dapo_reused": dict(loss_type="dapo", beta=0.04, epsilon_high=0.28, **REUSED),
    "dr_grpo": dict(loss_type="dr_grpo", scale_rewards="none", **REUSED),
    "luspo": dict(loss_type="luspo", importance_sampling_level="sequence", learning_rate=2e-3, num_iterations=3, epsilon=0.02),
    "cispo": dict(loss_type="cispo", epsilon_high=1.1, num_iterations=2, learning_rate=5e-3),
    "sapo": dict(loss_type="sapo", **REUSED),
    "vespo": dict(loss_type="vespo", num_iterations=2, learning_rate=5e-3),
    "gspo": dict(loss_type="grpo", importance_sampling_level="sequence", epsilon=0.02, epsilon_high=0.03, beta=0.04, **REUSED),
    "delta": dict(loss_type="grpo", delta=1.3, **REUSED),
    "three_iterations": dict(loss_type="dapo", num_iterations=3, learning_rate=1e-2),
    "two_steps_a_generation": dict(loss_type="dapo", steps_per_generation=2, learning_rate=2e-2),
    "scale_batch": dict(scale_rewards="batch", **REUSED),
    "gdpo": dict(multi_objective_aggregation="normalize_then_sum", reward_weights=[1.0, 0.5], **REUSED),
    "weights": dict(reward_weights=[0.3, 2.0]),
    "entropy_bonus": dict(entropy_coef=0.02, **REUSED),
    "entropy_adaptive": dict(entropy_coef=0.02, use_adaptive_entropy=True, entropy_target=4.03, entropy_coef_delta=0.01, **REUSED),
    "top_entropy": dict(top_entropy_quantile=0.4, beta=0.04, **REUSED),
    "mask_truncated": dict(mask_truncated_completions=True, loss_type="grpo", **REUSED),
    "mask_truncated_dapo": dict(mask_truncated_completions=True, loss_type="dapo"),
    "off_policy_mask": dict(off_policy_mask_threshold=0.01, num_iterations=3, learning_rate=1e-2),
    "temperature": dict(temperature=0.7, beta=0.04, **REUSED),
    "sync_ref": dict(beta=0.1, sync_ref_model=True, ref_model_sync_steps=6, ref_model_mixup_alpha=0.6, **REUSED),
}
CLIPS = ["clip_ratio/region_mean", "cispo_clip_ratio"]


def make_replay(tokenizer) -> list[dict]:
    random.seed(SEED)
    ordinary = [i for i in range(len(tokenizer)) if i not in tokenizer.all_special_ids]
    lines = []
    for group in range(2 * ROWS * STEPS // GROUP):
        prompt = random.choices(ordinary, k=random.randint(3, 9))
        flat = group % 5 == 3
        for _ in range(GROUP):
            cut = random.random() < 0.3
            length = LONGEST if cut else random.randint(1, LONGEST)
            ids = random.choices(ordinary, k=length)
            if not cut:
                ids[-1] = tokenizer.eos_token_id
            first = 1.0 if flat else round(random.uniform(-1, 2), 3)
            second = 0.5 if flat else (None if random.random() < 0.2 else float(random.randint(0, 3)))
            if not flat and second is None and random.random() < 0.3:
                first = None
            lines.append({"prompt_ids": prompt, "completion_ids": ids, "rewards": {"first": first, "second": second}})
    return lines


class Replaying(GRPOTrainer):
    """GRPOTrainer on recorded completions."""

    def replay(self, lines):
        self.lines, self.next = lines, 0

    def _tokenize_prompts(self, prompts):
        self.now = self.lines[self.next:self.next + len(prompts)]
        self.next += len(prompts)
        assert len(self.now) == len(prompts)
        return [line["prompt_ids"] for line in self.now], None, {}

    def _generate_single_turn(self, prompt_ids, *args, **kwargs):
        return [line["completion_ids"] for line in self.now], None


def run(options: dict, lines: list[dict], threads: int, padding: int | None) -> dict:
    torch.set_num_threads(threads)
    torch.manual_seed(SEED)
    tokenizer = AutoTokenizer.from_pretrained(TRAIN / "model")
    model = AutoModelForCausalLM.from_pretrained(TRAIN / "model", dtype=torch.float32, attn_implementation="eager")
    grpo_module.shuffle_sequence_dict = lambda batch: batch
    trainer = None

    def recorded(name):
        def reward(prompts, **kwargs):
            return [line["rewards"][name] for line in trainer.now]
        reward.__name__ = name
        return reward

    with tempfile.TemporaryDirectory() as folder:
        settings = {**COMMON, **options}
        if settings.get("steps_per_generation") is None:
            settings.pop("steps_per_generation", None)
        if padding:
            settings["pad_to_multiple_of"] = padding
        config = GRPOConfig(output_dir=folder, use_cpu=True, report_to="none", bf16=False, disable_tqdm=True, **settings)
        trainer = Replaying(model=model, reward_funcs=[recorded(name) for name in NAMES], args=config,
                            train_dataset=Dataset.from_dict({"prompt": ["x"] * 400}), processing_class=tokenizer)
        trainer.replay(lines)
        trainer.train()
        logs = [entry for entry in trainer.state.log_history if "loss" in entry]
    names = sorted({name for entry in logs for name in entry} - NOT_METRICS)
    return {name: [None if entry.get(name) is None else float(f"{entry[name]:.9g}") for entry in logs] for name in names}


def noise(one: dict, other: dict) -> str:
    worst = {name: max((abs(a - b) for a, b in zip(one[name], other[name]) if a is not None and b is not None), default=0.0) for name in one}
    loss = worst["loss"]
    name, most = max(((n, v) for n, v in worst.items() if n not in ("loss", "grad_norm")), key=lambda pair: pair[1])
    return f"loss {loss:.1e}, grad_norm {worst['grad_norm']:.1e}, {name} {most:.1e}"


def write(path: pathlib.Path, text: str) -> None:
    with open(path, "wb") as raw, gzip.GzipFile(filename="", fileobj=raw, mode="wb", mtime=0) as out:
        out.write(text.encode())


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--only", nargs="*")
    parser.add_argument("--check", action="store_true")
    args = parser.parse_args()
    assert trl.__version__ == "1.16.0", trl.__version__
    OUT.mkdir(exist_ok=True)
    lines = make_replay(AutoTokenizer.from_pretrained(TRAIN / "model"))
    cases = {}
    for name, options in CASES.items():
        if args.only and name not in args.only:
            continue
        steps = run(options, lines, threads=1, padding=None)
        clipped = max((v for clip in CLIPS for v in steps.get(clip, []) if v is not None), default=0.0)
        reused = options.get("num_iterations", 1) > 1 or options.get("steps_per_generation", 1) > 1
        if reused and any(clip in steps for clip in CLIPS):
            assert clipped > 0, f"{name}: no ratio was clipped"
        cases[name] = {"options": options, "steps": steps}
        print(name, f"clipped {clipped:.3f}", noise(steps, run(options, lines, threads=2, padding=8)) if args.check else "", flush=True)
    if args.only:
        return
    write(OUT / "replay.jsonl.gz", "".join(json.dumps(line) + "\n" for line in lines))
    versions = {"trl": trl.__version__, "torch": torch.__version__, "transformers": transformers.__version__}
    write(OUT / "trajectories.json.gz", json.dumps({"made_with": versions, "cases": cases}))


if __name__ == "__main__":
    main()

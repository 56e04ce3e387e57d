"""Records 20-step trajectories of TRL's GRPOTrainer and RLOOTrainer on recorded completions: the oracle of tests/train/policy_trajectory_test.cpp.

Run: python tools/make_policy_trajectories.py [--only CASE ...] [--check]      (seed 7, one thread)
  with trl 1.16.0 (torch 2.13.0 CPU, transformers 5.24.0, peft 0.21.2)

Reads tests/fixtures/train/model and train/preference/adapter_lora, and writes tests/fixtures/train/policy/:
  replay.jsonl.gz              a line a completion: {"prompt_ids", "completion_ids", "rewards": {"first", "second"}}; groups of four
  sparse.jsonl.gz              the same; its batches of eight are the awkward ones: see SPARSE
  trajectories.json.gz         GRPOTrainer on the whole model and replay.jsonl.gz
  trajectories_sparse.json.gz  the same on sparse.jsonl.gz
  trajectories_lora.json.gz    GRPOTrainer on adapter_lora, on the frozen model
  trajectories_rloo.json.gz    RLOOTrainer
Each is {"made_with", "common", "cases": {name: {"replay", "adapter"?, "reference"?, "options", "clipped", "outside", "steps": {metric: a number or
null for each step}}}}. "options" and "common" are TRL's names; those of the case win. "reference" is the adapter as it starts, or the model without
it. A metric is null where TRL logs none: what is counted when completions are drawn, at steps that draw none; means over nothing. Numbers have nine
significant digits. "clipped" is the largest share that any step logs as clipped (null: no such metric); "outside" the largest share of a
step's ratios (of tokens; of completions for RLOO) further than 0.2 from 1. In every case that uses completions after an update both are above 0,
asserted.

TRL runs for real, in fp32, without dropout and gradient checkpointing. Its generation returns the recorded completions, its rewards are the recorded
ones, its two shuffles (of prompts and of a drawn batch) are the identity, asserted. Completions are random ids of varied lengths, some ending in
EOS, some cut at the longest length; in some groups all rewards are equal, some rewards are null.

How batches map. A local batch is per_device_train_batch_size completions, whole groups here. Completions are drawn for steps_per_generation (null:
gradient_accumulation_steps) local batches at once; they are used in order, slice 0 to the last, and the whole round num_iterations times; an
optimizer step takes gradient_accumulation_steps of them. So with steps_per_generation 2 and num_iterations 2 the steps use slices 0, 1, 0, 1, and
the file holds per_device_train_batch_size × steps_per_generation lines for each draw, whatever num_iterations is.

TRL computes per local batch what rlhf computes over the step, and averages its local results over the accumulated batches: entropy, kl and clip
shares (means over tokens, so the mean of two batches is not theirs together), the least and largest share of a completion, the divisor of bnpo and of
the entropy bonus, the threshold of top_entropy_quantile; and, where a step draws more than once (steps_per_generation below
gradient_accumulation_steps), reward statistics and the divisor of dapo, cispo and vespo. gradient_accumulation_steps is therefore 1, but
for the cases "accumulated…", whose losses add up exactly; these metrics are left out there.

--check runs every case again with two threads and other padding, and prints how far TRL is from its own recording: the noise any bound must
allow. It fails where the loss strays by more than 1e-4·max(1, |loss|) at a step or 1e-5 in the mean.
"""

import argparse
import gzip
import json
import logging
import os
import pathlib
import random
import tempfile

os.environ["CUDA_VISIBLE_DEVICES"] = ""

import peft
import torch
import transformers
import trl
import trl.trainer.grpo_trainer as grpo_module
import trl.trainer.rloo_trainer as rloo_module
from datasets import Dataset
from peft import LoraConfig, PeftModel, set_peft_model_state_dict
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer
from trl import GRPOConfig, GRPOTrainer, RLOOConfig, RLOOTrainer

TRAIN = pathlib.Path(__file__).resolve().parent.parent / "tests" / "fixtures" / "train"
OUT = TRAIN / "policy"
ADAPTER = TRAIN / "preference" / "adapter_lora"
SEED = 7
STEPS = 20
GROUP = 4
LONGEST = 12
ROWS = 8  # completions of a local batch
PROMPTS = 400  # more than any case draws: an epoch's end would shorten its accumulation
NAMES = ["first", "second"]
COMMON = dict(
    max_steps=STEPS, per_device_train_batch_size=ROWS, gradient_accumulation_steps=1, learning_rate=2e-3, weight_decay=0.1,
    lr_scheduler_type="linear", warmup_steps=0, max_grad_norm=1.0, num_generations=GROUP, max_completion_length=LONGEST, logging_steps=1,
    seed=SEED, shuffle_dataset=False, gradient_checkpointing=False, save_strategy="no",
)
REUSED = dict(num_iterations=2, learning_rate=1e-2)  # far enough from the sampler that ratios are clipped
SLOWER = dict(num_iterations=2, learning_rate=5e-3)
ACCUMULATED = dict(gradient_accumulation_steps=2)
BY_SEQUENCE = dict(importance_sampling_level="sequence")
NARROW = dict(epsilon=0.02, epsilon_high=0.03)  # ratios of whole sequences move less
BY_LOCAL_BATCH = ("entropy", "kl", "clip_ratio/", "cispo_clip_ratio", "vespo/")
BY_DRAW = ("reward", "frac_reward_zero_std", "completions/")
NOT_METRICS = {"epoch", "step", "step_time"}

GRPO = {
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
    "accumulated": dict(loss_type="dapo", learning_rate=2e-3, **ACCUMULATED),
    "accumulated_grpo": dict(loss_type="grpo", beta=0.04, **REUSED, **ACCUMULATED),
    "accumulated_luspo": dict(loss_type="luspo", epsilon=0.02, **BY_SEQUENCE, **SLOWER, **ACCUMULATED),
    "accumulated_dr_grpo_half_a_draw": dict(loss_type="dr_grpo", steps_per_generation=4, learning_rate=2e-2, **ACCUMULATED),
    "accumulated_dapo_half_a_draw": dict(loss_type="dapo", steps_per_generation=4, learning_rate=2e-2, **ACCUMULATED),
    "accumulated_two_draws": dict(loss_type="grpo", scale_rewards="batch", steps_per_generation=1, **ACCUMULATED),
    "slices_in_turn": dict(loss_type="dapo", steps_per_generation=2, **REUSED),
    "bnpo_steps": dict(loss_type="bnpo", steps_per_generation=2, learning_rate=2e-2),
    "cispo_steps": dict(loss_type="cispo", epsilon_high=1.1, steps_per_generation=2, **SLOWER),
    "vespo_steps": dict(loss_type="vespo", steps_per_generation=2, **SLOWER),
    "mask_truncated_steps": dict(mask_truncated_completions=True, loss_type="dapo", steps_per_generation=2, learning_rate=2e-2),
    "bnpo_three_iterations": dict(loss_type="bnpo", beta=0.04, num_iterations=3, learning_rate=5e-3),
    "dr_grpo_kl": dict(loss_type="dr_grpo", beta=0.04, **REUSED),
    "luspo_token": dict(loss_type="luspo", beta=0.04, **SLOWER),
    "luspo_kl": dict(loss_type="luspo", beta=0.04, epsilon=0.02, **BY_SEQUENCE, **SLOWER),
    "cispo_default_cap": dict(loss_type="cispo", **SLOWER),
    "cispo_sequence_kl": dict(loss_type="cispo", epsilon_high=1.02, beta=0.04, **BY_SEQUENCE, **SLOWER),
    "sapo_sequence_kl": dict(loss_type="sapo", sapo_temperature_pos=2.0, sapo_temperature_neg=3.0, beta=0.04, **BY_SEQUENCE, **REUSED),
    "vespo_kl": dict(loss_type="vespo", vespo_k_pos=1.5, vespo_lambda_pos=2.0, vespo_k_neg=2.5, vespo_lambda_neg=1.0, beta=0.04, **SLOWER),
    "dapo_sequence": dict(loss_type="dapo", **NARROW, **BY_SEQUENCE, **REUSED),
    "bnpo_sequence": dict(loss_type="bnpo", **NARROW, **BY_SEQUENCE, **REUSED),
    "gspo_plain_kl": dict(loss_type="grpo", beta=0.04, use_bias_correction_kl=False, **NARROW, **BY_SEQUENCE, **REUSED),
    "delta_below_epsilon": dict(loss_type="grpo", delta=1.1, beta=0.04, **REUSED),
    "off_policy_mask_kl": dict(off_policy_mask_threshold=0.01, beta=0.04, **REUSED),
    "top_entropy_bonus": dict(top_entropy_quantile=0.5, entropy_coef=0.02, loss_type="grpo", **REUSED),
    "mask_truncated_sequence": dict(mask_truncated_completions=True, loss_type="grpo", **NARROW, **BY_SEQUENCE, **REUSED),
    "mask_truncated_luspo": dict(mask_truncated_completions=True, loss_type="luspo", epsilon=0.02, **BY_SEQUENCE, **SLOWER),
    "mask_truncated_vespo": dict(mask_truncated_completions=True, loss_type="vespo", **SLOWER),
    "mask_truncated_bnpo_kl": dict(mask_truncated_completions=True, loss_type="bnpo", beta=0.04, **REUSED),
    "scale_batch_weights": dict(scale_rewards="batch", reward_weights=[0.3, 2.0], loss_type="grpo"),
    "scale_none_steps": dict(scale_rewards="none", steps_per_generation=2, learning_rate=1e-2),
    "groups_of_two": dict(num_generations=2, loss_type="grpo"),
}
SPARSE_GRPO = {
    "sparse": dict(loss_type="dapo", **REUSED),
    "sparse_batch": dict(scale_rewards="batch", loss_type="grpo", **REUSED),
    "sparse_none_kl": dict(scale_rewards="none", loss_type="grpo", beta=0.04, **SLOWER),
    "sparse_gdpo": dict(multi_objective_aggregation="normalize_then_sum"),
    "sparse_masked": dict(mask_truncated_completions=True, loss_type="dapo", **SLOWER),
    "sparse_masked_grpo_kl": dict(mask_truncated_completions=True, loss_type="grpo", beta=0.04, **SLOWER),
    "sparse_masked_sequence": dict(mask_truncated_completions=True, loss_type="grpo", **NARROW, **BY_SEQUENCE, **REUSED),
    "sparse_masked_vespo": dict(mask_truncated_completions=True, loss_type="vespo", **SLOWER),
    "sparse_masked_cispo": dict(mask_truncated_completions=True, loss_type="cispo", epsilon_high=1.1, **SLOWER),
    "sparse_masked_entropy": dict(mask_truncated_completions=True, top_entropy_quantile=0.5, entropy_coef=0.02, loss_type="bnpo", **SLOWER),
}
ADAPTED = dict(loss_type="grpo", beta=0.04, num_iterations=2)
LORA = {
    "lora": ("adapter", dict(learning_rate=2e-2, **ADAPTED)),
    "lora_base": ("model", dict(learning_rate=2e-2, **ADAPTED)),
    "lora_no_kl": (None, dict(loss_type="dapo", num_iterations=2, learning_rate=3e-2)),
}
GENTLE = dict(num_iterations=2, learning_rate=1e-3)  # log-ratios of whole completions are sums
RLOO = {
    "rloo": dict(),
    "rloo_pairs": dict(num_generations=2),
    "rloo_reused": dict(**GENTLE),
    "rloo_no_kl": dict(beta=0.0, **GENTLE),
    "rloo_epsilons": dict(beta=0.0, epsilon=0.1, epsilon_high=0.4, num_iterations=3, learning_rate=1e-3),
    "rloo_normalized": dict(normalize_advantages=True, **GENTLE),
    "rloo_clip_range": dict(reward_clip_range=[-0.5, 2.0], **GENTLE),
    "rloo_weights": dict(reward_weights=[0.3, 2.0], normalize_advantages=True),
    "rloo_mask_truncated": dict(mask_truncated_completions=True, **GENTLE),
    "rloo_steps": dict(steps_per_generation=2, learning_rate=2e-3),
    "rloo_accumulated": dict(**GENTLE, **ACCUMULATED),
    "rloo_temperature": dict(temperature=0.7, **GENTLE),
    "rloo_sync_ref": dict(beta=0.1, sync_ref_model=True, ref_model_sync_steps=6, ref_model_mixup_alpha=0.6, **GENTLE),
    "rloo_sparse": dict(**GENTLE),
    "rloo_sparse_normalized": dict(beta=0.0, normalize_advantages=True, mask_truncated_completions=True, **GENTLE),
}


def left_out(options: dict) -> tuple:
    """Metrics that TRL averages over local batches, or draws, of one step."""
    if options.get("gradient_accumulation_steps", 1) == 1:
        return ()
    return BY_LOCAL_BATCH + (BY_DRAW if options.get("steps_per_generation") == 1 else ())


def make_cases() -> dict[str, dict]:
    """All cases, each with the file it is written to."""
    cases = {name: {"file": "trajectories", "options": options} for name, options in GRPO.items()}
    cases |= {name: {"file": "trajectories_sparse", "options": options} for name, options in SPARSE_GRPO.items()}
    for name, (reference, options) in LORA.items():
        cases[name] = {"file": "trajectories_lora", "adapter": ADAPTER.name, **({"reference": reference} if reference else {}), "options": options}
    cases |= {name: {"file": "trajectories_rloo", "options": options} for name, options in RLOO.items()}
    return {name: {"replay": "sparse.jsonl.gz" if "sparse" in name else "replay.jsonl.gz", **case} for name, case in cases.items()}


CASES = make_cases()


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


# The batches of sparse.jsonl.gz, in turn: what the rewards, and what the completions of its two groups are.
SPARSE = [
    (("rated", "rated"), ("mixed", "mixed")),
    (("none", "rated"), ("mixed", "mixed")),  # a group without any reward
    (("one", "two"), ("mixed", "mixed")),  # a single rated completion; two
    (("first", "first"), ("mixed", "mixed")),  # the second reward applies nowhere
    (("rated", "rated"), ("cut", "cut")),  # all completions truncated
    (("second", "first"), ("mixed", "cut")),
    (("none", "none"), ("mixed", "mixed")),  # no reward at all
    (("rated", "rated"), ("ended", "ended")),  # half of them nothing but the end token
    (("flat", "flat"), ("mixed", "mixed")),  # no spread
    (("rated", "one"), ("cut", "ended")),
]


def make_sparse(tokenizer) -> list[dict]:
    random.seed(SEED + 1)
    ordinary = [i for i in range(len(tokenizer)) if i not in tokenizer.all_special_ids]

    def completion(kind: str, place: int) -> list[int]:
        # Not the whole group: the gradient of equal completions is 0 but for rounding, and AdamW would make full steps of that.
        if kind == "ended" and place < GROUP // 2:
            return [tokenizer.eos_token_id]
        if kind == "cut" or random.random() < 0.3:
            return random.choices(ordinary, k=LONGEST)
        return random.choices(ordinary, k=random.randint(0, LONGEST - 1)) + [tokenizer.eos_token_id]

    def rewards(kind: str, place: int) -> dict:
        if kind == "flat":
            return {"first": 1.0, "second": 0.5}
        rated = {"rated": GROUP, "first": GROUP, "second": GROUP, "none": 0, "one": 1, "two": 2}[kind]
        first, second = round(random.uniform(-1, 2), 3), float(random.randint(0, 3))
        if kind == "two":  # in one order: opposite ones would cancel in normalize_then_sum, but for rounding
            first, second = round(place + first / 10, 3), float(place)
        # The rated ones stand last: a group does not begin with them.
        applies = place >= GROUP - rated
        return {"first": first if applies and kind != "second" else None, "second": second if applies and kind != "first" else None}

    lines = []
    for batch in range(2 * STEPS):
        judged, written = SPARSE[batch % len(SPARSE)]
        for reward, kind in zip(judged, written):
            prompt = random.choices(ordinary, k=random.randint(1, 9))
            lines += [{"prompt_ids": prompt, "completion_ids": completion(kind, place), "rewards": rewards(reward, place)} for place in range(GROUP)]
    return lines


class Replaying:
    """A trainer on recorded completions that also notes how far its ratios go."""

    def replay(self, lines: list[dict]) -> None:
        self.lines, self.next, self.outside = lines, 0, 0.0

    def _tokenize_prompts(self, prompts):
        self.now = self.lines[self.next:self.next + len(prompts)]
        assert len(self.now) == len(prompts), "the file is too short"
        # Prompt i of the data set stands for group i of the file: nothing was shuffled.
        assert prompts == [str((self.next + i) // self.num_generations) for i in range(len(prompts))], prompts
        self.next += len(prompts)
        return [line["prompt_ids"] for line in self.now], None, {}

    def _get_per_token_logps_and_entropies(self, *args, **kwargs):
        found = super()._get_per_token_logps_and_entropies(*args, **kwargs)
        self.logps = found[0].detach()
        return found

    def _compute_loss(self, model, inputs):
        loss = super()._compute_loss(model, inputs)
        mask = inputs["completion_mask"].bool()
        if "old_logps" in inputs:  # RLOO
            moved = (self.logps * mask).sum(1) - inputs["old_logps"]
        else:
            moved = (self.logps - inputs.get("old_per_token_logps", self.logps))[mask]
        if moved.numel() > 0:
            self.outside = max(self.outside, (moved.exp() - 1).abs().gt(0.2).float().mean().item())
        return loss


class ReplayingGrpo(Replaying, GRPOTrainer):
    def _generate_single_turn(self, *args, **kwargs):
        return [line["completion_ids"] for line in self.now], None


class ReplayingRloo(Replaying, RLOOTrainer):
    def _generate_single_turn(self, *args, **kwargs):
        return [line["completion_ids"] for line in self.now]


def model_of(case: dict) -> tuple:
    """The model to train and, where TRL is to make the adapter, its configuration."""
    model = AutoModelForCausalLM.from_pretrained(TRAIN / "model", dtype=torch.float32, attn_implementation="eager")
    if "adapter" not in case:
        return model, None
    if case.get("reference") == "model":
        adapter = LoraConfig.from_pretrained(ADAPTER)
        adapter.inference_mode = False
        return model, adapter
    return PeftModel.from_pretrained(model, ADAPTER, is_trainable=True), None


def run(case: dict, lines: list[dict], threads: int = 1, padding: int | None = None) -> tuple[list[dict], float]:
    """TRL's log lines, and the largest share of ratios further than 0.2 from 1."""
    torch.set_num_threads(threads)
    torch.manual_seed(SEED)
    grpo_module.shuffle_sequence_dict = rloo_module.shuffle_sequence_dict = lambda batch: batch
    rloo = case["file"] == "trajectories_rloo"
    make_trainer, make_config = (ReplayingRloo, RLOOConfig) if rloo else (ReplayingGrpo, GRPOConfig)
    trainer = None

    def recorded_reward(name):
        def reward(prompts, **kwargs):
            return [line["rewards"][name] for line in trainer.now]
        reward.__name__ = name
        return reward

    model, adapter = model_of(case)
    with tempfile.TemporaryDirectory() as folder:
        config = make_config(
            output_dir=folder, use_cpu=True, report_to="none", bf16=False, disable_tqdm=True, pad_to_multiple_of=padding,
            **{**COMMON, **case["options"]},
        )
        trainer = make_trainer(
            model=model, reward_funcs=[recorded_reward(name) for name in NAMES], args=config, peft_config=adapter,
            train_dataset=Dataset.from_dict({"prompt": [str(i) for i in range(PROMPTS)]}),
            processing_class=AutoTokenizer.from_pretrained(TRAIN / "model"),
        )
        if adapter is not None:  # TRL starts a random adapter: ours in its place
            set_peft_model_state_dict(trainer.model, load_file(ADAPTER / "adapter_model.safetensors"))
        # The printed log lines are of no use here.
        trainer.remove_callback(transformers.PrinterCallback)
        trainer.replay(lines)
        trainer.train()
    return [entry for entry in trainer.state.log_history if "loss" in entry], trainer.outside


def recorded(name: str, case: dict, lines: list[dict], **changed) -> dict:
    logs, outside = run(case, lines, **changed)
    assert len(logs) == STEPS, len(logs)
    names = sorted({metric for entry in logs for metric in entry} - NOT_METRICS)
    steps = {metric: [None if entry.get(metric) is None else float(f"{entry[metric]:.9g}") for entry in logs] for metric in names}
    shares = [value for clip in ("clip_ratio/region_mean", "cispo_clip_ratio") for value in steps.get(clip, []) if value is not None]
    options = {**COMMON, **case["options"]}
    clipped = max(shares) if shares else None
    if options.get("num_iterations", 1) > 1 or options.get("steps_per_generation", 1) > options["gradient_accumulation_steps"]:
        assert (clipped is None or clipped > 0) and outside > 0, f"{name}: no ratio was clipped ({clipped}, {outside})"
    kept = {key: value for key, value in case.items() if key != "file"}
    steps = {metric: values for metric, values in steps.items() if not metric.startswith(left_out(case["options"]))}
    return {**kept, "clipped": clipped, "outside": float(f"{outside:.3g}"), "steps": steps}


def check(name: str, known: dict, again: dict) -> bool:
    """Prints TRL's distance from its own recording under another order of summation; whether its loss stays within the bounds."""

    def distances(metric: str, scale) -> list[float]:
        pairs = zip(known["steps"][metric], again["steps"][metric])
        return [(b - a) / scale(a) for a, b in pairs if a is not None and b is not None]

    def largest(metric: str, scale=lambda a: max(1.0, abs(a))) -> float:
        return max(map(abs, distances(metric, scale)), default=0.0)

    assert [[v is None for v in values] for values in known["steps"].values()] == [[v is None for v in values] for values in again["steps"].values()]
    loss = distances("loss", lambda a: max(1.0, abs(a)))
    drift = abs(sum(loss)) / len(loss)
    good = largest("loss") <= 1e-4 and drift <= 1e-5
    worst = max((metric for metric in known["steps"] if metric not in ("loss", "grad_norm")), key=largest)
    norm = largest("grad_norm", lambda a: max(abs(a), 1e-3))  # below that, rounding of 0
    line = f"loss {largest('loss'):.1e} drift {drift:.1e} grad_norm {norm:.1e} worst {worst} {largest(worst):.1e}"
    print(f"{name:32} {line}{'' if good else '   TOO MUCH'}", flush=True)
    return good


def write(path: pathlib.Path, text: str) -> None:
    with open(path, "wb") as raw, gzip.GzipFile(filename="", fileobj=raw, mode="wb", mtime=0) as out:
        out.write(text.encode())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=CASES)
    parser.add_argument("--check", action="store_true")
    arguments = parser.parse_args()
    assert trl.__version__ == "1.16.0", trl.__version__
    transformers.logging.set_verbosity_error()
    logging.getLogger("trl").setLevel(logging.ERROR)
    OUT.mkdir(exist_ok=True)
    tokenizer = AutoTokenizer.from_pretrained(TRAIN / "model")
    replays = {"replay.jsonl.gz": make_replay(tokenizer), "sparse.jsonl.gz": make_sparse(tokenizer)}
    paths = {case["file"]: OUT / f"{case['file']}.json.gz" for case in CASES.values()}
    known = {file: json.loads(gzip.decompress(path.read_bytes()))["cases"] if path.exists() else {} for file, path in paths.items()}
    good = True
    for name in arguments.only or CASES:
        case = CASES[name]
        lines = replays[case["replay"]]
        if arguments.check:
            good &= check(name, known[case["file"]][name], recorded(name, case, lines, threads=2, padding=8))
            continue
        one = known[case["file"]][name] = recorded(name, case, lines)
        loss, norms = one["steps"]["loss"], one["steps"]["grad_norm"]
        line = f"loss {loss[0]:.5f} {loss[9]:.5f} {loss[-1]:.5f} grad_norm {norms[0]:.4f} {norms[-1]:.4f}"
        print(f"{name:32} {line} clipped {one['clipped']} outside {one['outside']}", flush=True)
    if arguments.check:
        raise SystemExit(not good)
    for file, lines in replays.items():
        write(OUT / file, "".join(json.dumps(line) + "\n" for line in lines))
    versions = {library.__name__: library.__version__ for library in (torch, trl, transformers, peft)}
    for file, path in paths.items():
        cases = {name: known[file][name] for name, case in CASES.items() if case["file"] == file and name in known[file]}
        write(path, json.dumps({"made_with": {**versions, "seed": SEED}, "common": COMMON, "cases": cases}))


if __name__ == "__main__":
    main()

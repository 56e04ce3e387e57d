"""Records PPO runs of ten optimizer steps on recorded completions: the oracle of tests/train/ppo_trajectory_test.cpp.

Run, with TRL 1.12.0 where Python finds it first:  python tools/make_ppo_trajectories.py [--only CASE ...] [--check]      (seed 7, one thread)
  with torch 2.13.0 CPU, transformers 5.24.0, peft 0.21.2, trl 1.12.0 (PYTHONPATH=DIR of pip install --no-deps --target DIR trl==1.12.0)

Reads tests/fixtures/train/{model,preference/reward_model,preference/adapter_lora,preference/adapter_reward}, and writes tests/fixtures/train/ppo/:
  mixed.jsonl.gz         a line a completion: {"prompt_ids", "completion_ids", "rewards": {"reward_model"}}; some end in EOS, some are cut
  full.jsonl.gz          the same, all cut at the longest length: the rows on which TRL's PPOTrainer does the same
  unrated.jsonl.gz       mixed.jsonl.gz with some rewards null
  prompts.jsonl.gz       {"prompt_ids"} for cases that draw: the most likely token at each place, judged by the reward model
  trajectories.json.gz   {"made_with", "common", "cases": {name: {"rows", "critic", "adapter"?, "moments"?, "options", "clipped", "value_clipped",
                         "steps": {metric: a number or null for each step}, "trl"?: {metric: a number for each rollout}}}}
"options" and "common" are the program's names; those of the case win. "critic" and "adapter" are the folders that critic and policy start from;
the critic of "model" gets a new score head. "moments" are the mean and deviation that the reward model's configuration has to say.
A metric is null where none is logged: what is said of a rollout at the steps that draw none, the policy's while the critic warms up.
"clipped" and "value_clipped" are the largest shares that any step logs; above 0 in every case that clips, asserted.

The PPO here is plain PyTorch on transformers' models, completion by completion without padding, in fp32: formulas from the papers
that rlhf/math/{token_rewards,gae,whiten,adaptive_kl}.h and rlhf/losses/{policy,value}_loss.h name, nothing of this project's code but its random numbers.
AdamW is torch's, gradients of policy and critic are clipped each by its own norm, the learning rate warms up and falls on a line.

TRL 1.12.0's PPOTrainer runs for real in the cases that have "trl": its generation returns the recorded completions, its two shuffles are the identity.
It does not clip gradients and moves its learning rate by rollouts, so those cases clip none and keep theirs. It is asserted to agree with the plain
form within 5e-5·max(1, |x|), rollout by rollout, in every number that both have; val/ratio_var is another quantity there (a variance of means).

--check runs every case again with two threads and prints how far it is from its recording: what any bound must allow.
"""

import argparse
import gzip
import json
import math
import os
import pathlib
import random
import tempfile
import types

os.environ["CUDA_VISIBLE_DEVICES"] = ""

import numpy
import peft
import torch
import transformers
import trl
from make_random import stream
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer

TRAIN = pathlib.Path(__file__).resolve().parent.parent / "tests" / "fixtures" / "train"
OUT = TRAIN / "ppo"
MODEL, PREFERENCE = TRAIN / "model", TRAIN / "preference"
SEED = 7
STEPS = 10
ROWS = 8  # completions of a rollout
LONGEST = 12
ROLLOUTS = 10
NORMAL_INIT = 2  # the purpose of the program's random stream for new tensors
COMMON = dict(max_steps=STEPS, per_device_train_batch_size=ROWS, gradient_accumulation_steps=1, response_length=LONGEST, learning_rate=3e-3,
              lr_scheduler_type="constant", weight_decay=0.1, max_grad_norm=1.0, num_ppo_epochs=2, num_mini_batches=1, temperature=1.0, seed=SEED)
# The method's own defaults, as the papers and TRL have them.
PLAIN = dict(kl_coef=0.05, kl_estimator="k1", use_kl_loss=False, kl_target=None, kl_horizon=10000.0, cliprange=0.2, cliprange_value=0.2, vf_coef=0.1,
             gamma=1.0, lam=0.95, whiten_rewards=False, missing_eos_penalty=None, reward_clip_range=None, normalize_scores=False,
             critic_learning_rate=None, critic_warmup=0, warmup_steps=0)
# What TRL does not have is off; small values are clipped as it clips them.
AS_TRL = dict(max_grad_norm=0.0, learning_rate=1e-3, cliprange=0.1)
FASTER = dict(num_ppo_epochs=5)

CASES = {
    "k1": dict(rows="mixed", options=dict(kl_coef=0.5)),
    "k2": dict(rows="mixed", options=dict(kl_estimator="k2", kl_coef=0.5)),
    "k3": dict(rows="mixed", options=dict(kl_estimator="k3", kl_coef=0.5)),
    "no_kl": dict(rows="mixed", options=dict(kl_coef=0.0)),
    "five_epochs": dict(rows="mixed", options=FASTER),
    "mini_batches": dict(rows="mixed", options=dict(num_mini_batches=2)),
    "four_mini_batches": dict(rows="mixed", options=dict(num_mini_batches=4, num_ppo_epochs=1, learning_rate=1e-2)),
    "whiten_rewards": dict(rows="mixed", options=dict(whiten_rewards=True, kl_coef=0.2)),
    "missing_eos_penalty": dict(rows="mixed", options=dict(missing_eos_penalty=1.5)),
    "reward_clip": dict(rows="mixed", options=dict(reward_clip_range=[-0.3, 0.4], missing_eos_penalty=0.5)),
    "adaptive": dict(rows="mixed", options=dict(kl_target=0.5, kl_horizon=20.0, kl_coef=0.2)),
    "discounts": dict(rows="mixed", options=dict(gamma=0.9, lam=0.8)),
    "monte_carlo": dict(rows="mixed", options=dict(lam=1.0, vf_coef=1.0)),
    "temperature": dict(rows="mixed", options=dict(temperature=0.7)),
    "warmup": dict(rows="mixed", options=dict(lr_scheduler_type="linear", warmup_steps=3, learning_rate=5e-3)),
    "critic_warmup": dict(rows="mixed", options=dict(critic_warmup=3, critic_learning_rate=1e-3, **FASTER)),
    "no_clipping": dict(rows="mixed", options=dict(max_grad_norm=0.0, cliprange=1e6, cliprange_value=0.0), clips=False),
    "unrated": dict(rows="unrated", options=dict(whiten_rewards=True)),
    "critic_sft": dict(rows="mixed", critic="model"),
    "lora": dict(rows="mixed", adapter="adapter_lora", critic="adapter_reward", options=dict(learning_rate=1e-2, kl_coef=0.2)),
    "loss_k2": dict(rows="mixed", options=dict(use_kl_loss=True, kl_estimator="k2", kl_coef=0.2)),
    "loss_k3": dict(rows="mixed", options=dict(use_kl_loss=True, kl_estimator="k3", kl_coef=0.2, num_mini_batches=2)),
    "loss_adaptive": dict(rows="mixed", options=dict(use_kl_loss=True, kl_estimator="k2", kl_coef=0.2, kl_target=0.3, kl_horizon=20.0)),
    "drawn": dict(rows="prompts", options=dict(learning_rate=1e-3, cliprange=0.02)),
    "drawn_normalized": dict(rows="prompts", moments=[0.2, 1.5],
                             options=dict(learning_rate=7e-4, cliprange=0.02, normalize_scores=True, reward_clip_range=[-0.4, 0.1])),
    "trl_k1": dict(rows="full", trl=True, options=AS_TRL),
    "trl_k3": dict(rows="full", trl=True, options=dict(kl_estimator="k3", kl_coef=0.2, **AS_TRL)),
    "trl_five_epochs": dict(rows="full", trl=True, options=AS_TRL | FASTER),
    "trl_mini_batches": dict(rows="full", trl=True, options=dict(num_mini_batches=2, **AS_TRL) | {"num_ppo_epochs": 1}),
    "trl_whiten_rewards": dict(rows="full", trl=True, options=dict(whiten_rewards=True, **AS_TRL)),
    "trl_missing_eos": dict(rows="full", trl=True, options=dict(missing_eos_penalty=1.0, **AS_TRL)),
    "trl_discounts": dict(rows="full", trl=True, options=dict(gamma=0.9, lam=0.8, vf_coef=0.5, cliprange_value=0.05, **AS_TRL)),
    "trl_temperature": dict(rows="full", trl=True, options=dict(temperature=0.7, **AS_TRL)),
    "trl_critic_sft": dict(rows="full", trl=True, critic="model", options=AS_TRL),
}


# Models.


def normals(count: int, seed: int, name: str) -> list[float]:
    """The program's normal numbers for a new tensor of this name: Philox words, Box and Muller."""
    name_hash = 14695981039346656037
    for byte in name.encode():  # FNV-1a
        name_hash = ((name_hash ^ byte) * 1099511628211) % 2**64
    words = stream(seed, [NORMAL_INIT, name_hash], blocks=count)
    uniform = [((words[i] << 32 | words[i + 1]) >> 11) * 2.0**-53 for i in range(0, len(words), 2)]
    return [math.sqrt(-2.0 * math.log1p(-a)) * math.cos(2.0 * math.pi * b) for a, b in zip(uniform[::2], uniform[1::2])]


def language_model(folder=MODEL):
    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager")


def classifier(folder):
    return AutoModelForSequenceClassification.from_pretrained(folder, dtype=torch.float32, num_labels=1, attn_implementation="eager")


def policy_of(case: dict):
    if "adapter" in case:
        return PeftModel.from_pretrained(language_model(), PREFERENCE / case["adapter"], is_trainable=True)
    return language_model()


def critic_of(case: dict):
    start = case.get("critic", "reward_model")
    if start == "model":
        critic = classifier(MODEL)
        weight = critic.score.weight
        weight.data = torch.tensor(normals(weight.numel(), SEED, "score.weight"), dtype=torch.float32).reshape(weight.shape) * critic.config.initializer_range
        return critic
    if "adapter" in case:
        return PeftModel.from_pretrained(classifier(MODEL), PREFERENCE / start, is_trainable=True)
    return classifier(PREFERENCE / start)


def scores_of(model, ids: list[int]) -> torch.Tensor:
    """A classifier's score at each place."""
    if isinstance(model, PeftModel):
        model = model.base_model.model
    return model.score(model.model(input_ids=torch.tensor([ids])).last_hidden_state)[0, :, 0]


def token_logprobs(model, row: dict, temperature: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Of the completion's tokens; and the entropy where each was drawn."""
    ids, begin = row["prompt_ids"] + row["completion_ids"], len(row["prompt_ids"])
    every = torch.log_softmax(model(input_ids=torch.tensor([ids])).logits[0, begin - 1:-1] / temperature, dim=-1)
    return every.gather(1, torch.tensor(ids[begin:])[:, None])[:, 0], -(every.exp() * every).sum(-1)


def token_values(critic, row: dict) -> torch.Tensor:
    """What the critic expects where each token of the completion was decided on."""
    begin = len(row["prompt_ids"])
    return scores_of(critic, row["prompt_ids"] + row["completion_ids"])[begin - 1:-1]


# Rows.


def judged(reward_model, row: dict) -> dict:
    with torch.no_grad():
        score = scores_of(reward_model, row["prompt_ids"] + row["completion_ids"])[-1].item()
    return {**row, "rewards": {"reward_model": score}}


def make_rows(tokenizer) -> dict[str, list[dict]]:
    random.seed(SEED)
    reward_model = classifier(PREFERENCE / "reward_model")
    ordinary = [i for i in range(len(tokenizer)) if i not in tokenizer.all_special_ids]

    def row(full: bool) -> dict:
        prompt = random.choices(ordinary, k=random.randint(3, 9))
        if full or random.random() < 0.4:
            return judged(reward_model, {"prompt_ids": prompt, "completion_ids": random.choices(ordinary, k=LONGEST)})
        completion = random.choices(ordinary, k=random.randint(0, LONGEST - 1)) + [tokenizer.eos_token_id]
        return judged(reward_model, {"prompt_ids": prompt, "completion_ids": completion})

    mixed = [row(full=False) for _ in range(ROLLOUTS * ROWS)]
    full = [row(full=True) for _ in range(ROLLOUTS * ROWS)]
    unrated = [{**one, "rewards": {"reward_model": None}} if i % 5 == 2 else one for i, one in enumerate(mixed)]
    prompts = [{"prompt_ids": random.choices(ordinary, k=random.randint(3, 9))} for _ in range(ROLLOUTS * ROWS)]
    return {"mixed": mixed, "full": full, "unrated": unrated, "prompts": prompts}


def drawn(policy, reward_model, row: dict, eos: int) -> dict:
    """The most likely completion, far enough from the second most likely one that rounding decides nothing."""
    prompt, completion = row["prompt_ids"], []
    while len(completion) < LONGEST and eos not in completion:
        with torch.no_grad():
            first, second = policy(input_ids=torch.tensor([prompt + completion])).logits[0, -1].topk(2).values
            completion.append(int(policy(input_ids=torch.tensor([prompt + completion])).logits[0, -1].argmax()))
        assert first - second > 2e-4, "a near tie: take another seed"
    return judged(reward_model, {"prompt_ids": prompt, "completion_ids": completion})


# PPO by formula.


def kl_of(kind: str, logprobs, ref):
    """joschu.net/blog/kl-approx.html; reverse KL, from samples of the policy."""
    log_ratio = logprobs - ref
    return {"k1": log_ratio, "k2": log_ratio**2 / 2, "k3": torch.expm1(-log_ratio) + log_ratio}[kind]


def whitened(rows: list, rated: list[bool], keep_mean: bool) -> list:
    every = torch.cat([row for row, there in zip(rows, rated) if there])
    mean, root = every.mean(), (every.var(unbiased=True) + 1e-8).sqrt()
    return [(row - mean) / root + (mean if keep_mean else 0.0) if there else torch.zeros_like(row) for row, there in zip(rows, rated)]


def advantages_of(rewards: torch.Tensor, values: torch.Tensor, gamma: float, lam: float) -> torch.Tensor:
    """1506.02438, eq. 16, written out."""
    ahead = torch.cat([values[1:], torch.zeros(1, dtype=values.dtype)])
    deltas = rewards + gamma * ahead - values
    return torch.stack([sum((gamma * lam) ** (s - t) * deltas[s] for s in range(t, len(deltas))) for t in range(len(deltas))])


class Plain:
    """A run of the plain form."""

    def __init__(self, case: dict, rows: list[dict], eos: int, make_policy=policy_of, make_critic=critic_of):
        self.case, self.rows, self.eos = case, rows, eos
        self.o = types.SimpleNamespace(**{**PLAIN, **COMMON, **case.get("options", {})})
        self.policy, self.critic, self.reference = make_policy(case), make_critic(case), make_policy(case)
        self.reward_model = classifier(PREFERENCE / "reward_model")
        self.beta = self.o.kl_coef
        self.optimizers = {"policy": self.optimizer(self.policy), "critic": self.optimizer(self.critic)}
        self.steps: list[dict] = []

    def optimizer(self, model):
        """AdamW; biases and norms do not decay."""
        trained = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
        rests = [p for name, p in trained if "norm" in name or name.endswith("bias")]
        decays = [p for name, p in trained if not any(p is other for other in rests)]
        return torch.optim.AdamW([{"params": decays, "weight_decay": self.o.weight_decay}, {"params": rests, "weight_decay": 0.0}], lr=0.0)

    def learning_rate(self, step: int) -> float:
        if step < self.o.warmup_steps:
            return self.o.learning_rate * step / self.o.warmup_steps
        if self.o.lr_scheduler_type == "constant":
            return self.o.learning_rate
        return self.o.learning_rate * (STEPS - step) / (STEPS - self.o.warmup_steps)

    def update(self, name: str, model, rate: float) -> float:
        """The gradients' norm before it is clipped."""
        parameters = [p for p in model.parameters() if p.requires_grad]
        norm = torch.sqrt(sum(p.grad.square().sum() for p in parameters)).item()
        if self.o.max_grad_norm > 0 and norm > self.o.max_grad_norm:
            for p in parameters:
                p.grad *= self.o.max_grad_norm / (norm + 1e-6)
        for group in self.optimizers[name].param_groups:
            group["lr"] = rate
        self.optimizers[name].step()
        self.optimizers[name].zero_grad()
        return norm

    def score(self, row: dict):
        score = row["rewards"]["reward_model"]
        if score is None:
            return None
        if self.o.normalize_scores:
            mean, deviation = self.case["moments"]
            score = (score - mean) / deviation
        if self.o.reward_clip_range:
            score = min(max(score, self.o.reward_clip_range[0]), self.o.reward_clip_range[1])
        ended = row["completion_ids"][-1] == self.eos
        return score if ended or self.o.missing_eos_penalty is None else score - self.o.missing_eos_penalty

    @torch.no_grad()
    def rollout(self, number: int) -> tuple[list[dict], dict]:
        """Completions with advantages and returns, and what is logged of them."""
        rows = self.rows[number * ROWS:(number + 1) * ROWS]
        if self.case["rows"] == "prompts":
            rows = [drawn(self.policy, self.reward_model, row, self.eos) for row in rows]
        made = []
        for row in rows:
            old, _ = token_logprobs(self.policy, row, self.o.temperature)
            ref, _ = token_logprobs(self.reference, row, self.o.temperature)
            made.append({**row, "old": old.double(), "ref": ref.double(), "values": token_values(self.critic, row).double(), "score": self.score(row)})
        rated = [row["score"] is not None for row in made]
        kl = [kl_of(self.o.kl_estimator, row["old"], row["ref"]) for row in made]
        mean_kl = sum(k.sum().item() for k in kl) / len(kl)
        if self.o.use_kl_loss:
            self.control(mean_kl)
        acts = self.beta
        rewards = []
        for row, k, there in zip(made, kl, rated):
            paid = torch.zeros_like(k) if self.o.use_kl_loss or not there else -acts * k
            if there:
                paid[-1] += row["score"]
            rewards.append(paid)
        if self.o.whiten_rewards:
            rewards = whitened(rewards, rated, keep_mean=True)
        raw = [advantages_of(r, row["values"], self.o.gamma, self.o.lam) if there else torch.zeros_like(r)
               for r, row, there in zip(rewards, made, rated)]
        for row, a, white in zip(made, raw, whitened(raw, rated, keep_mean=False)):
            row["returns"], row["advantages"] = (a + row["values"]).float(), white.float()
        if not self.o.use_kl_loss:
            self.control(mean_kl)
        count = sum(rated)
        score = sum(row["score"] for row in made if row["score"] is not None) / count
        rated_kl = sum(k.sum().item() for k, there in zip(kl, rated) if there) / count
        said = {"objective/scores": score, "objective/kl_coef": acts, "objective/non_score_reward": -acts * rated_kl,
                "objective/rlhf_reward": score - acts * rated_kl,
                "objective/entropy": -sum(row["old"].sum().item() for row, there in zip(made, rated) if there) / count,
                "val/num_eos_tokens": float(sum(row["completion_ids"][-1] == self.eos for row in made))}
        if self.o.kl_coef > 0:
            said["objective/kl"] = rated_kl
        return made, said

    def control(self, kl: float) -> None:
        """1909.08593, section 2.2."""
        if self.o.kl_target is not None:
            error = min(max(kl / self.o.kl_target - 1, -0.2), 0.2)
            self.beta *= 1 + error * ROWS / self.o.kl_horizon

    def step(self, rows: list[dict]) -> dict:
        """One optimizer step on a mini-batch; what is logged of it."""
        number = len(self.steps)
        tokens = sum(len(row["completion_ids"]) for row in rows)
        said = {"learning_rate": self.learning_rate(number)}
        loss = 0.0
        if number >= self.o.critic_warmup:
            policy, said_of_policy = self.policy_loss(rows, tokens)
            policy.backward()
            loss += policy.item()
            said |= said_of_policy
            said["grad_norm"] = self.update("policy", self.policy, self.learning_rate(number))
        values = [(token_values(self.critic, row), row["values"].float(), row["returns"]) for row in rows]
        now, old, returns = (torch.cat(each) for each in zip(*values))
        errors = (now - returns) ** 2
        clipped = torch.zeros_like(errors, dtype=torch.bool)
        if self.o.cliprange_value > 0:
            held = (torch.minimum(torch.maximum(now, old - self.o.cliprange_value), old + self.o.cliprange_value) - returns) ** 2
            clipped, errors = held > errors, torch.maximum(errors, held)
        value_loss = errors.sum() / tokens / 2
        (self.o.vf_coef * value_loss).backward()
        scale = (self.o.critic_learning_rate or self.o.learning_rate) / self.o.learning_rate
        said["val/grad_norm"] = self.update("critic", self.critic, self.learning_rate(number) * scale)
        left = (returns - now).detach().double()
        said |= {"loss/value_avg": value_loss.item(), "val/clipfrac_avg": clipped.double().mean().item(), "val/mean": now.mean().item(),
                 "val/explained_variance": 1 - (left.var() / returns.double().var()).item(), "loss": loss + self.o.vf_coef * value_loss.item()}
        return said

    def policy_loss(self, rows: list[dict], tokens: int):
        found = [token_logprobs(self.policy, row, self.o.temperature) for row in rows]
        new, entropy = torch.cat([one[0] for one in found]), torch.cat([one[1] for one in found])
        moved = new - torch.cat([row["old"] for row in rows]).float()
        advantages = torch.cat([row["advantages"] for row in rows])
        ratio = moved.exp()
        free, held = -advantages * ratio, -advantages * ratio.clamp(1 - self.o.cliprange, 1 + self.o.cliprange)
        surrogate = torch.maximum(free, held).sum() / tokens
        said = {"loss/policy_avg": surrogate.item(), "policy/clipfrac_avg": (held > free).double().mean().item(),
                "policy/approxkl_avg": moved.double().square().mean().item() / 2, "policy/entropy_avg": entropy.mean().item(),
                "val/ratio": ratio.double().mean().item(), "val/ratio_var": ratio.double().var(unbiased=False).item()}
        if not self.o.use_kl_loss:
            return surrogate, said
        kl = kl_of(self.o.kl_estimator, new, torch.cat([row["ref"] for row in rows]).float()).sum() / tokens
        return surrogate + self.beta * kl, said | {"loss/kl_avg": kl.item()}

    def run(self) -> list[dict]:
        number = 0
        while len(self.steps) < STEPS:
            rows, said = self.rollout(number)
            number += 1
            cut = ROWS // self.o.num_mini_batches
            for _ in range(self.o.num_ppo_epochs):
                for begin in range(0, ROWS, cut):
                    if len(self.steps) < STEPS:
                        self.steps.append(said | self.step(rows[begin:begin + cut]))
                        said = {}
        return self.steps


# TRL.


def run_trl(case: dict, rows: list[dict], tokenizer) -> list[dict]:
    """What PPOTrainer logs, a line a rollout."""
    from datasets import Dataset
    from trl.experimental.ppo import PPOConfig, PPOTrainer, ppo_trainer

    o = {**PLAIN, **COMMON, **case["options"]}
    rollouts = STEPS // (o["num_ppo_epochs"] * o["num_mini_batches"])
    place = 0

    def replayed(model, queries, size, pad, generation_config):
        nonlocal place
        now = rows[place:place + len(queries)]
        place += len(queries)
        for query, row in zip(queries.tolist(), now):  # nothing was shuffled
            assert [i for i in query if i != pad] == row["prompt_ids"]
        whole = torch.cat([queries, torch.tensor([row["completion_ids"] for row in now])], 1)
        return whole, ppo_trainer.forward(model, whole, pad).logits[:, queries.shape[1] - 1:-1] / o["temperature"]

    loader = ppo_trainer.DataLoader
    ppo_trainer.batch_generation = replayed
    ppo_trainer.DataLoader = lambda *a, shuffle=False, **k: loader(*a, shuffle=False, **k)
    ppo_trainer.np = types.SimpleNamespace(random=types.SimpleNamespace(permutation=numpy.arange))
    kept = ("num_ppo_epochs", "num_mini_batches", "kl_coef", "kl_estimator", "cliprange", "cliprange_value", "vf_coef", "gamma", "lam", "whiten_rewards",
            "missing_eos_penalty", "temperature", "learning_rate", "weight_decay", "seed", "response_length", "per_device_train_batch_size")
    critic = critic_of(case)
    try:
        with tempfile.TemporaryDirectory() as folder:
            config = PPOConfig(output_dir=folder, use_cpu=True, bf16=False, report_to="none", disable_tqdm=True, gradient_checkpointing=False,
                               save_strategy="no", num_sample_generations=0, lr_scheduler_type="constant", logging_steps=1, stop_token="eos",
                               total_episodes=rollouts * ROWS, **{key: o[key] for key in kept})
            data = Dataset.from_dict({"input_ids": [row["prompt_ids"] for row in rows]})
            trainer = PPOTrainer(args=config, processing_class=tokenizer, model=language_model(), ref_model=language_model(), value_model=critic,
                                 reward_model=classifier(PREFERENCE / "reward_model"), train_dataset=data, eval_dataset=data)
            trainer.remove_callback(transformers.PrinterCallback)
            trainer.train()
    finally:
        ppo_trainer.DataLoader = loader
    return [line for line in trainer.state.log_history if "objective/kl" in line]


NOT_OF_TRL = {"eps", "lr", "episode", "epoch", "step", "val/ratio_var"}


def of_trl(name: str, case: dict, rows: list[dict], tokenizer, steps: list[dict]) -> dict:
    """TRL's numbers of each rollout, after they agreed with the plain form's."""
    lines = run_trl(case, rows, tokenizer)
    every = STEPS // len(lines)
    found = {key: [line[key] for line in lines] for key in lines[0] if key not in NOT_OF_TRL}
    worst = ("", 0.0)
    for key, values in found.items():
        for i, theirs in enumerate(values):
            ours = [step[key] for step in steps[i * every:(i + 1) * every] if key in step]
            away = abs(sum(ours) / len(ours) - theirs) / max(1.0, abs(theirs))
            worst = max(worst, (key, away), key=lambda one: one[1])
    print(f"{name:22} TRL is at most {worst[1]:.1e} away ({worst[0]})")
    assert worst[1] <= 5e-5, name
    return {key: [float(f"{x:.9g}") for x in values] for key, values in found.items()}


# Files.


def write(path: pathlib.Path, text: str) -> None:
    with open(path, "wb") as raw, gzip.GzipFile(filename="", fileobj=raw, mode="wb", mtime=0) as out:
        out.write(text.encode())


def columns(steps: list[dict]) -> dict:
    return {key: [float(f"{step[key]:.9g}") if key in step else None for step in steps] for key in sorted({k for step in steps for k in step})}


def recorded(name: str, case: dict, rows: list[dict], tokenizer) -> dict:
    torch.manual_seed(SEED)
    steps = Plain(case, rows, tokenizer.eos_token_id).run()
    clipped, value_clipped = (max(step.get(key, 0.0) for step in steps) for key in ("policy/clipfrac_avg", "val/clipfrac_avg"))
    if case.get("clips", True):
        assert clipped > 0 and value_clipped > 0, f"{name}: nothing was clipped ({clipped}, {value_clipped})"
    made = {"critic": "reward_model", "options": {}, **{key: value for key, value in case.items() if key not in ("trl", "clips")},
            "clipped": float(f"{clipped:.3g}"), "value_clipped": float(f"{value_clipped:.3g}"), "steps": columns(steps)}
    if case.get("trl"):
        made["trl"] = of_trl(name, case, rows, tokenizer, steps)
    return made


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=CASES)
    parser.add_argument("--check", action="store_true")
    arguments = parser.parse_args()
    assert trl.__version__ == "1.12.0", trl.__version__
    transformers.logging.set_verbosity_error()
    torch.set_num_threads(2 if arguments.check else 1)
    OUT.mkdir(exist_ok=True)
    tokenizer = AutoTokenizer.from_pretrained(MODEL, padding_side="left")
    rows = make_rows(tokenizer)
    path = OUT / "trajectories.json.gz"
    known = json.loads(gzip.decompress(path.read_bytes()))["cases"] if path.exists() else {}
    for name in arguments.only or CASES:
        case = CASES[name]
        if arguments.check:
            again = columns(Plain(case, rows[case["rows"]], tokenizer.eos_token_id).run())
            away = {key: max(abs(a - b) / max(1.0, abs(a)) for a, b in zip(values, again[key]) if a is not None) for key, values in known[name]["steps"].items()}
            print(f"{name:22} " + ", ".join(f"{key} {away[key]:.1e}" for key in sorted(away, key=away.get)[-3:]), flush=True)
            continue
        known[name] = one = recorded(name, case, rows[case["rows"]], tokenizer)
        print(f"{name:22} loss {one['steps']['loss'][0]:.5f} {one['steps']['loss'][-1]:.5f} clipped {one['clipped']} {one['value_clipped']}", flush=True)
    if arguments.check:
        return
    for name in ("k1", "k2", "k3", "loss_k2"):  # the KL term is felt
        if name in known:
            assert max(abs(a - b) for a, b in zip(known[name]["steps"]["loss"], known["no_kl"]["steps"]["loss"])) > 1e-3, name
    for file, lines in rows.items():
        write(OUT / f"{file}.jsonl.gz", "".join(json.dumps(line) + "\n" for line in lines))
    versions = {library.__name__: library.__version__ for library in (torch, trl, transformers, peft)}
    cases = {name: known[name] for name in CASES if name in known}
    write(path, json.dumps({"made_with": {**versions, "seed": SEED}, "common": COMMON, "cases": cases}))


if __name__ == "__main__":
    main()

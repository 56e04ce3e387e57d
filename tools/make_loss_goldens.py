"""Records the expected values and gradients of tests/losses.

Values come from two sources that share nothing with this project: formulas written here in double from the papers named
beside them, and TRL's own code run on given log-probabilities (DPOTrainer, CPOTrainer, ORPOTrainer, KTOTrainer,
RewardTrainer of 1.16.0; with a second interpreter BCOTrainer of 1.12.0). Each case that both cover is asserted to agree
before it is written.

Run: python tools/make_loss_goldens.py [--bco-python PYTHON_WITH_TRL_1.12]
(made with torch 2.13.0, trl 1.16.0 and trl 1.12.0; seed 20251126).
"""

import argparse
import json
import pathlib
import subprocess
import sys
import types

import torch

SEED = 20251126
OUT = pathlib.Path(__file__).resolve().parent.parent / "tests" / "fixtures" / "losses" / "losses.json"
PAIRS = 6


def log_sigmoid(x):
    return -torch.log1p(torch.exp(-x))  # plain: the recorded log-ratios are moderate


def sigma(x):
    return 1 / (1 + torch.exp(-x))


def score(log_ratio, kind, alpha):
    """f' of f-DPO (arXiv 2309.16240) at u = exp(log_ratio), less its value at 1."""
    u = torch.exp(log_ratio)
    return {"reverse_kl": lambda: torch.log(u),
            "forward_kl": lambda: 1 - 1 / u,
            "js_divergence": lambda: torch.log(2 * u / (1 + u)),
            "alpha_divergence": lambda: (u ** (alpha - 1) - 1) / (alpha - 1)}[kind]()


def conservative(x, eps):
    return -(1 - eps) * log_sigmoid(x) - eps * log_sigmoid(-x)


def pair_loss(name, p, o):
    """p: policy and reference sums and token counts (B); o: options. Returns (B)."""
    b, eps = o["beta"], o["label_smoothing"]
    d_w, d_l = p["chosen"] - p["ref_chosen"], p["rejected"] - p["ref_rejected"]
    s_w, s_l = (score(d, o["f_divergence"], o["f_alpha"]) for d in (d_w, d_l))
    x = b * (s_w - s_l)
    q = sigma(x)
    mean_w, mean_l = p["chosen"] / p["chosen_tokens"], p["rejected"] / p["rejected_tokens"]
    if name == "sigmoid":  # 2305.18290; smoothed: Mitchell 2023
        return conservative(x, eps)
    if name == "hinge":  # 2305.10425, 2309.06657
        return torch.where(x < 1, 1 - x, torch.zeros_like(x))
    if name == "ipo":  # 2310.12036, per token
        return (s_w / p["chosen_tokens"] - s_l / p["rejected_tokens"] - 0.5 / b) ** 2
    if name == "exo_pair":  # 2402.00856
        return q * torch.log(q / (1 - eps)) + (1 - q) * torch.log((1 - q) / eps)
    if name == "nca_pair":  # 2402.05369
        return -log_sigmoid(b * d_w) - (log_sigmoid(-b * d_w) + log_sigmoid(-b * d_l)) / 2
    if name == "robust":  # 2403.00409
        return (-(1 - eps) * log_sigmoid(x) + eps * log_sigmoid(-x)) / (1 - 2 * eps)
    if name == "bco_pair":  # 2404.04656 without shift
        return -torch.log(sigma(b * d_w) * (1 - sigma(b * d_l)))
    if name == "sppo_hard":  # 2405.00675
        return (d_w - 0.5 / b) ** 2 + (d_l + 0.5 / b) ** 2
    if name == "aot":  # 2406.05882
        policy, reference = p["chosen"] - p["rejected"], p["ref_chosen"] - p["ref_rejected"]
        return conservative(b * (policy[policy.argsort()] - reference[reference.argsort()]), eps)
    if name == "aot_unpaired":
        return conservative(b * (d_w[d_w.argsort()] - d_l[d_l.argsort()]), eps)
    if name == "apo_zero":  # 2408.06266
        return 1 - sigma(b * d_w) + sigma(b * d_l)
    if name == "apo_down":
        return sigma(b * d_w) + 1 - sigma(b * (d_w - d_l))
    if name == "discopop":  # 2406.08414
        m = sigma(x / o["discopop_tau"])
        return (1 - m) * -log_sigmoid(x) + m * torch.exp(-x)
    if name == "sigmoid_norm":  # 2411.15124
        return -log_sigmoid(b * (s_w / p["chosen_tokens"] - s_l / p["rejected_tokens"]))
    if name == "cpo":  # 2401.08417
        return conservative(b * (p["chosen"] - p["rejected"]), eps)
    if name == "simpo":  # 2405.14734
        return conservative(b * (mean_w - mean_l) - o["simpo_gamma"], eps)
    if name == "orpo":  # 2403.07691
        odds_w, odds_l = (torch.exp(m) / (1 - torch.exp(m)) for m in (mean_w, mean_l))
        return -b * torch.log(sigma(torch.log(odds_w / odds_l)))
    raise KeyError(name)


def unpaired_loss(name, p, o):
    """arXiv 2402.01306, 2408.06266, 2404.04656."""
    reward, good = o["beta"] * p["log_ratios"], p["desirable"]
    if name == "kto":
        gain = reward - o["beta"] * o["anchor"]
        loss = torch.where(good, 1 - sigma(gain), 1 - sigma(-gain))
    elif name == "apo_zero_unpaired":
        loss = torch.where(good, 1 - sigma(reward), sigma(reward))
    else:
        loss = torch.where(good, -log_sigmoid(reward - o["anchor"]), -log_sigmoid(o["anchor"] - reward))
    return torch.where(good, o["desirable_weight"] * loss, o["undesirable_weight"] * loss)


# TRL on given log-probabilities: a stand-in for the trainer and for the model's outputs.


def trl_pair_mean(name, p, o):
    """Mean loss by TRL 1.16.0, or None where it has no such form."""
    if name in ("cpo", "simpo"):
        from trl.experimental.cpo.cpo_trainer import CPOTrainer
        scale = (p["chosen_tokens"], p["rejected_tokens"]) if name == "simpo" else (1.0, 1.0)
        me = stand_in(alpha=0.0, beta=o["beta"], simpo_gamma=o["simpo_gamma"], label_smoothing=o["label_smoothing"],
                      loss_type={"cpo": "sigmoid", "simpo": "simpo"}[name])
        return CPOTrainer.cpo_loss(me, p["chosen"] / scale[0], p["rejected"] / scale[1])[0].mean()
    if name == "orpo":
        from trl.experimental.orpo.orpo_trainer import ORPOTrainer
        losses = ORPOTrainer.odds_ratio_loss(stand_in(beta=o["beta"]), p["chosen"] / p["chosen_tokens"],
                                             p["rejected"] / p["rejected_tokens"])[0]
        return -losses.mean()
    if name == "sigmoid" and o["label_smoothing"] > 0:
        return None
    return trl_dpo_mean(name, p, o)


class Recorder(dict):
    def __missing__(self, key):
        self[key] = []
        return self[key]


def stand_in(**attributes):
    from contextlib import nullcontext
    accelerator = types.SimpleNamespace(device=torch.device("cpu"), gather=lambda t: t, gather_for_metrics=lambda t: t,
                                        unwrap_model=lambda m: m)
    return types.SimpleNamespace(accelerator=accelerator, model=types.SimpleNamespace(training=True),
                                 _metrics={"train": Recorder()}, _total_train_tokens=0, _tp_size=1,
                                 aux_loss_enabled=False, compute_loss_context_manager=nullcontext, **attributes)


def spread(sums, tokens, width):
    """Per-token log-probabilities (B, width) with these sums, and their mask."""
    mask = torch.arange(width)[None] < tokens[:, None]
    return torch.where(mask, (sums / tokens)[:, None], torch.zeros(())), mask


def model_outputs(log_probs):
    zeros = torch.zeros_like(log_probs.detach())
    return types.SimpleNamespace(log_probs=log_probs, entropy=zeros, mean_logits=zeros, is_top1=zeros.bool())


def trl_dpo_mean(name, p, o):
    from trl.trainer.dpo_trainer import DPOTrainer
    if o["f_divergence"] == "alpha_divergence":  # TRL has no double form of it
        p = {k: v.float() for k, v in p.items()}
    tokens = torch.cat([p["chosen_tokens"], p["rejected_tokens"]]).long()
    width = int(tokens.max())
    log_probs, mask = spread(torch.cat([p["chosen"], p["rejected"]]), tokens, width)
    completion_mask = torch.cat([torch.zeros(len(tokens), 1, dtype=torch.long), mask.long()], dim=1)
    me = stand_in(ld_alpha=None, precompute_ref_logps=True, f_divergence_type=o["f_divergence"],
                  f_alpha_divergence_coef=o["f_alpha"], beta=o["beta"], label_smoothing=o["label_smoothing"],
                  loss_types=[name], loss_weights=[1.0], use_weighting=False,
                  args=types.SimpleNamespace(discopop_tau=o["discopop_tau"]))
    inputs = {"input_ids": torch.zeros_like(completion_mask), "attention_mask": torch.ones_like(completion_mask),
              "completion_mask": completion_mask, "ref_chosen_logps": p["ref_chosen"],
              "ref_rejected_logps": p["ref_rejected"]}
    return DPOTrainer._compute_loss(me, lambda **_: model_outputs(log_probs), inputs, return_outputs=False)


def trl_kto_mean(name, p, o):
    from trl.trainer.kto_trainer import KTOTrainer
    count = len(p["log_ratios"])
    completion_mask = torch.tensor([[0, 1]]).expand(count, 2)
    me = stand_in(loss_type=name, beta=o["beta"], desirable_weight=o["desirable_weight"], calculate_KL=name == "kto",
                  undesirable_weight=o["undesirable_weight"], precompute_ref_logps=True,
                  _compute_kl_logps=lambda *_: torch.full((count,), o["anchor"], dtype=torch.double))
    zeros = torch.zeros(count, dtype=torch.double)
    inputs = {"input_ids": torch.zeros(count, 2, dtype=torch.long), "attention_mask": torch.ones(count, 2),
              "completion_mask": completion_mask, "label": p["desirable"], "ref_logps": zeros, "ref_KL_logps": zeros}
    return KTOTrainer._compute_loss(me, lambda **_: model_outputs(p["log_ratios"][:, None]), inputs, False)


def trl_reward_mean(chosen, rejected, margin, centring):
    from trl.trainer.reward_trainer import RewardTrainer
    me = stand_in(args=types.SimpleNamespace(center_rewards_coefficient=centring))
    logits = torch.cat([chosen, rejected])[:, None]
    inputs = {"attention_mask": torch.ones(len(logits), 1)} | ({} if margin is None else {"margin": margin})
    return RewardTrainer.compute_loss(me, lambda **_: types.SimpleNamespace(logits=logits), inputs)


BCO_PROBE = """
import json, sys, types, torch
from trl.experimental.bco.bco_trainer import BCOTrainer, RunningMoments
given = json.load(sys.stdin)
moments = RunningMoments(types.SimpleNamespace(use_distributed=False))
out = []
for batch in given["batches"]:
    me = types.SimpleNamespace(beta=given["beta"], running=moments, match_underlying_distribution=False)
    chosen, rejected = (torch.tensor(batch[k], dtype=torch.double) for k in ("chosen", "rejected"))
    zero = torch.zeros((), dtype=torch.double)
    losses = BCOTrainer.bco_loss(me, chosen, rejected, zero, zero, None, None)[0]
    out.append({"losses": losses.tolist(), "mean": moments.mean, "variance": moments.var, "count": moments.count})
print(json.dumps(out))
"""


def bco_run(generator, python):
    """Three batches through TRL 1.12.0: its losses and running moments, by itself in fp32."""
    batches = [{"chosen": (torch.randn(n, generator=generator, dtype=torch.double) * 3 + 2).tolist(),
                "rejected": (torch.randn(m, generator=generator, dtype=torch.double) * 3 - 1).tolist()}
               for n, m in ((4, 3), (1, 2), (5, 5))]
    given = {"beta": 0.2, "batches": batches}
    answer = subprocess.run([python, "-c", BCO_PROBE], input=json.dumps(given), capture_output=True, text=True,
                            check=True)
    steps = json.loads(answer.stdout.strip().splitlines()[-1])
    seen = torch.empty(0, dtype=torch.double)
    for batch, step in zip(batches, steps):  # the definition, over all numbers so far
        seen = torch.cat([seen, given["beta"] * torch.tensor(batch["chosen"] + batch["rejected"], dtype=torch.double)])
        mean, variance = seen.mean().item(), seen.var(correction=0).item()
        assert abs(mean - step["mean"]) < 1e-6 and abs(variance - step["variance"]) < 1e-5
        step.update(mean=mean, variance=variance, count=len(seen))
    return given | {"steps": steps}


def plain(tensor):
    return tensor.detach().tolist()


def agree(name, ours, theirs):
    # fp32 in TRL: the alpha-divergence, where sums near 50 carry 4e-6, ORPO, and the ε of exo_pair.
    single = theirs is not None and (theirs.dtype == torch.float or name in ("orpo", "exo_pair"))
    bound = 2e-5 if single else 1e-12
    assert theirs is None or abs(ours.item() - theirs.item()) <= bound * max(1, abs(ours.item())), (name, ours, theirs)


def record_pair(generator, name, scale, **options):
    o = {"beta": 0.1, "label_smoothing": 0.0, "discopop_tau": 0.05, "f_divergence": "reverse_kl", "f_alpha": 0.5,
         "simpo_gamma": 0.5} | options
    draw = lambda shift: torch.randn(PAIRS, generator=generator, dtype=torch.double) * scale + shift
    tokens = lambda: torch.randint(2, 12, (PAIRS,), generator=generator).double()
    p = {"ref_chosen": -torch.rand(PAIRS, generator=generator, dtype=torch.double) * 20 - 8 * scale,
         "ref_rejected": -torch.rand(PAIRS, generator=generator, dtype=torch.double) * 20 - 8 * scale,
         "chosen_tokens": tokens(), "rejected_tokens": tokens(), "weights": draw(0.0)}
    p["chosen"] = torch.clamp(p["ref_chosen"] + draw(0.5), max=-0.3).requires_grad_()
    p["rejected"] = torch.clamp(p["ref_rejected"] + draw(-0.5), max=-0.3).requires_grad_()
    loss = pair_loss(name, p, o)
    agree(name, loss.mean(), trl_pair_mean(name, p, o))
    grads = torch.autograd.grad((loss * p["weights"]).sum(), [p["chosen"], p["rejected"]])
    return {"loss": name, "options": o, "pairs": {k: plain(v) for k, v in p.items()}, "losses": plain(loss),
            "grad_chosen": plain(grads[0]), "grad_rejected": plain(grads[1])}


def record_unpaired(generator, name, **options):
    o = {"beta": 0.1, "desirable_weight": 1.0, "undesirable_weight": 1.0, "anchor": 0.0} | options
    ratios = (torch.randn(PAIRS, generator=generator, dtype=torch.double) * 5).requires_grad_()
    weights = torch.randn(PAIRS, generator=generator, dtype=torch.double)
    p = {"log_ratios": ratios, "desirable": torch.tensor([True, False, True, True, False, False])}
    loss = unpaired_loss(name, p, o)
    if name != "bco":
        agree(name, loss.mean(), trl_kto_mean(name, p, o))
    grad = torch.autograd.grad((loss * weights).sum(), ratios)[0]
    return {"loss": name, "options": o, "log_ratios": plain(ratios), "desirable": plain(p["desirable"].long()),
            "weights": plain(weights), "losses": plain(loss), "grad": plain(grad)}


def record_reward(generator, with_margin, centring):
    draw = lambda: torch.randn(PAIRS, generator=generator, dtype=torch.double) * 2
    chosen, rejected, weights = draw().requires_grad_(), draw().requires_grad_(), draw()
    margin = draw().abs() if with_margin else None
    loss = -log_sigmoid(chosen - rejected - (margin if with_margin else 0)) + centring * (chosen + rejected) ** 2
    agree("bradley_terry", loss.mean(), trl_reward_mean(chosen, rejected, margin, centring or None))
    grads = torch.autograd.grad((loss * weights).sum(), [chosen, rejected])
    return {"chosen": plain(chosen), "rejected": plain(rejected), "margin": None if margin is None else plain(margin),
            "centring": centring, "weights": plain(weights), "losses": plain(loss), "grad_chosen": plain(grads[0]),
            "grad_rejected": plain(grads[1])}


def main():
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--bco-python", default=sys.executable)
    arguments = arguments.parse_args()
    generator = torch.Generator().manual_seed(SEED)
    divergences = [{"f_divergence": "forward_kl"}, {"f_divergence": "js_divergence"},
                   {"f_divergence": "alpha_divergence"}, {"f_divergence": "alpha_divergence", "f_alpha": 1.5},
                   {"f_divergence": "alpha_divergence", "f_alpha": 0.0}]
    pairs = []
    for name in ("sigmoid", "hinge", "ipo", "exo_pair", "robust", "discopop", "sigmoid_norm"):
        eps = {"label_smoothing": 1e-3 if name == "exo_pair" else 0.1} if name in ("exo_pair", "robust") else {}
        pairs += [record_pair(generator, name, 4.0, **eps), record_pair(generator, name, 1.0, beta=0.7, **eps)]
        pairs += [record_pair(generator, name, 1.0, beta=0.4, **eps, **f) for f in divergences]
    pairs.append(record_pair(generator, "sigmoid", 3.0, label_smoothing=0.2))
    pairs.append(record_pair(generator, "robust", 3.0))
    pairs.append(record_pair(generator, "exo_pair", 3.0, label_smoothing=0.3))
    pairs.append(record_pair(generator, "discopop", 1.0, beta=0.5, discopop_tau=1.5))
    for name in ("nca_pair", "bco_pair", "sppo_hard", "aot", "aot_unpaired", "apo_zero", "apo_down", "cpo", "simpo",
                 "orpo"):
        pairs += [record_pair(generator, name, 4.0), record_pair(generator, name, 1.0, beta=0.7)]
    for name in ("aot", "aot_unpaired", "cpo", "simpo"):
        pairs.append(record_pair(generator, name, 2.0, label_smoothing=0.15))
    pairs.append(record_pair(generator, "simpo", 2.0, beta=2.5, simpo_gamma=1.4))
    unpaired = [record_unpaired(generator, "kto", anchor=0.8),
                record_unpaired(generator, "kto", beta=0.5, desirable_weight=1.33, undesirable_weight=0.7),
                record_unpaired(generator, "apo_zero_unpaired"),
                record_unpaired(generator, "apo_zero_unpaired", beta=0.4, desirable_weight=0.5),
                record_unpaired(generator, "bco", anchor=0.3),
                record_unpaired(generator, "bco", beta=0.6, anchor=-0.9, undesirable_weight=2.0)]
    rewards = [record_reward(generator, False, 0.0), record_reward(generator, True, 0.0),
               record_reward(generator, True, 0.01)]
    bco = bco_run(generator, arguments.bco_python)
    OUT.parent.mkdir(parents=True, exist_ok=True)
    OUT.write_text(json.dumps({"pairs": pairs, "unpaired": unpaired, "rewards": rewards, "bco": bco}) + "\n")
    print(f"{len(pairs)} pairwise, {len(unpaired)} unpaired, {len(rewards)} reward cases -> {OUT.name}")


if __name__ == "__main__":
    main()

"""Records the expected values and gradients of the policy-gradient losses.

Formulas are written here in double, sequence by sequence, from the papers named beside them; they share nothing with this
project. What TRL 1.16.0 computes too is asserted to agree before it is written, to 1e-12: GRPOTrainer._compute_loss,
GMPOTrainer._compute_loss and RLOOTrainer._compute_loss run on given log-probabilities with stand-ins for trainer and model
(loss, gradient and logged metrics).

Run: python tools/make_policy_goldens.py      (made with torch 2.13.0, trl 1.16.0; seed 20261126)

Writes tests/fixtures/losses/policy.json: {"cases": [{name, options, inputs, counts, loss, grad, metrics, …}], "entropy": …}.
"""

import inspect
import json
import math
import pathlib
import types

import torch

torch.set_default_dtype(torch.double)  # TRL's torch.where on two plain numbers makes the default type

SEED = 20261126
OUT = pathlib.Path(__file__).resolve().parent.parent / "tests" / "fixtures" / "losses" / "policy.json"
BOUND = 1e-12
DEFAULTS = {"loss_type": "dapo", "importance_sampling_level": "token", "epsilon": 0.2, "epsilon_high": None, "delta": None,
            "beta": 0.0, "use_bias_correction_kl": True, "sapo_temperature_pos": 1.0, "sapo_temperature_neg": 1.05,
            "vespo_k_pos": 2.0, "vespo_lambda_pos": 3.0, "vespo_k_neg": 3.0, "vespo_lambda_neg": 2.0, "gmpo_clip": 0.4,
            "off_policy_mask_threshold": None, "top_entropy_quantile": 1.0, "entropy_coef": 0.0}


# The papers' formulas. A sequence is a dict of 1-D tensors over its tokens that count.


def ratios(sequence, level):
    """One ratio a token."""
    log_ratio = sequence["logprobs"] - sequence["old"]
    count = len(log_ratio)
    if level == "token":  # 1707.06347
        return torch.exp(log_ratio)
    if level == "sequence":  # 2507.18071
        return torch.exp(log_ratio.sum() / count).expand(count)
    if level == "sequence_token":  # 2507.18071, GSPO-token
        whole = torch.exp(log_ratio.sum() / count).detach()
        probability = torch.exp(sequence["logprobs"])
        return whole * probability / probability.detach()
    return torch.exp(log_ratio.sum()).expand(count)  # 2402.14740: the likelihood ratio of the whole answer


def clipped(r, a, o):
    """2402.03300, eq. 3; upper cap 2505.07291."""
    high = o["epsilon"] if o["epsilon_high"] is None else o["epsilon_high"]
    inside = torch.maximum(torch.minimum(r, torch.tensor(1 + high)), torch.tensor(1 - o["epsilon"]))
    capped = r if o["delta"] is None else torch.minimum(r, torch.tensor(o["delta"]))
    return -torch.minimum(capped * a, inside * a)


def tokens_of(sequence, o):
    """l_t of each token, and what the sequence tells the metrics."""
    a, r = sequence["advantages"], ratios(sequence, o["importance_sampling_level"])
    log_ratio = sequence["logprobs"] - sequence["old"]
    name, said = o["loss_type"], {}
    if name == "cispo":  # 2506.13585
        cap = o["epsilon"] if o["epsilon_high"] is None else o["epsilon_high"]
        return -torch.minimum(r, torch.tensor(cap)).detach() * a * sequence["logprobs"], r, said
    if name == "sapo":  # 2511.20347
        tau = torch.tensor([o["sapo_temperature_pos"] if x > 0 else o["sapo_temperature_neg"] for x in a.tolist()])
        return -a * 4 / tau / (1 + torch.exp(-tau * (r - 1))), r, said
    if name == "vespo":  # 2602.10693
        total = sum(max(-20.0, min(20.0, x)) for x in log_ratio.tolist())
        log_w = max(math.log(1e-8), min(20.0, total))
        phi = []
        for x in a.tolist():
            k, lam = (o["vespo_k_pos"], o["vespo_lambda_pos"]) if x >= 0 else (o["vespo_k_neg"], o["vespo_lambda_neg"])
            phi.append(math.exp(lam) * math.exp(log_w) ** k * math.exp(-lam * math.exp(log_w)))
        said["phi"] = phi[0] if len(set(phi)) == 1 else math.nan  # no number of the sequence where signs differ
        return -torch.tensor(phi) * a * sequence["logprobs"], r, said
    if name == "gmpo":  # 2507.20673
        sign, c = torch.sign(a), torch.tensor(o["gmpo_clip"])
        cut = sign * torch.minimum(sign * log_ratio, sign * torch.maximum(torch.minimum(log_ratio, c), -c))
        keep = sequence["keep"]
        return -a * torch.prod(torch.exp(cut[keep])) ** (1 / max(1, int(keep.sum()))), r, said
    return clipped(r, a, o), r, said


def policy_loss(sequences, o, counts):
    """This call's loss, and the means TRL logs."""
    total, kl_sum, token_count = torch.zeros(()), 0.0, 0
    shares, flags, ratio_count, phis = {"low": [], "high": []}, {"low": 0.0, "high": 0.0, "cap": 0.0}, 0, []
    whole = o["importance_sampling_level"] in ("sequence", "sequence_sum")
    for s in sequences:
        count = len(s["logprobs"])
        if count == 0:  # masked out: nothing to learn; its weight and its ratio are 1
            phis.append(1.0)
            ratio_count += whole
            if whole:
                shares["low"].append(0.0), shares["high"].append(0.0)
            continue
        losses, r, said = tokens_of(s, o)
        a = s["advantages"]
        if o["off_policy_mask_threshold"] is not None:  # 2512.02556
            drift = (s["old"] - s["logprobs"]).mean().item()
            losses = torch.where((a >= 0) | torch.tensor(drift <= o["off_policy_mask_threshold"]), losses, 0.0)
        if o["loss_type"] != "gmpo":
            losses = torch.where(s["keep"], losses, torch.zeros(()))
        if o["beta"] > 0:  # k3; times the ratio: 2512.02556
            u = torch.exp(s["ref"] - s["logprobs"])
            kl = u - torch.log(u) - 1
            if o["use_bias_correction_kl"]:
                kl = kl * r
            losses = losses + o["beta"] * kl
            kl_sum += kl.sum().item()
        total = total + {"grpo": losses.sum() / count / counts["sequences"],
                         "sapo": losses.sum() / count / counts["sequences"],
                         "gmpo": losses.sum() / count / counts["sequences"],
                         "luspo": losses.sum() / counts["sequences"],
                         "dr_grpo": losses.sum() / counts["sequences"] / counts["constant"],
                         }.get(o["loss_type"], losses.sum() / counts["tokens"])
        token_count += count
        if "phi" in said:
            phis.append(said["phi"])
        high = o["epsilon"] if o["epsilon_high"] is None else o["epsilon_high"]
        seen = r.detach() if o["delta"] is None else r.detach().clamp(max=o["delta"])
        low_bound, high_bound = 1 - o["epsilon"], 1 + high
        if o["loss_type"] == "gmpo":
            seen, low_bound, high_bound = (s["logprobs"] - s["old"]).detach(), -o["gmpo_clip"], o["gmpo_clip"]
        found = {"low": (seen < low_bound) & (a < 0), "high": (seen > high_bound) & (a > 0), "cap": (seen > high) & (a > 0)}
        ratio_count += 1 if whole else count
        for key, flag in found.items():
            share = flag.double().mean().item()
            flags[key] += share if whole else flag.sum().item()
            if key != "cap":
                shares[key].append(share)
    metrics = {}
    if o["beta"] > 0:
        metrics["kl"] = kl_sum / token_count
    if o["loss_type"] in ("grpo", "bnpo", "dapo", "dr_grpo", "luspo", "gmpo"):
        metrics |= {"clip_ratio/low_mean": flags["low"] / ratio_count, "clip_ratio/high_mean": flags["high"] / ratio_count,
                    "clip_ratio/region_mean": (flags["low"] + flags["high"]) / ratio_count,
                    "clip_ratio/low_min": min(shares["low"]), "clip_ratio/high_max": max(shares["high"])}
    elif o["loss_type"] == "cispo":
        metrics["cispo_clip_ratio"] = flags["cap"] / ratio_count
    elif not any(math.isnan(phi) for phi in phis) and o["loss_type"] == "vespo":
        metrics["vespo/phi_seq_mean"] = sum(phis) / len(phis)
    return total, metrics


def entropy_floor(entropies, share):
    """2506.01939: the (1 − share) quantile, between neighbours by straight lines."""
    place = (1 - share) * (len(entropies) - 1)
    ordered = sorted(entropies)
    below = math.floor(place)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (place - below) * (ordered[above] - ordered[below])


# TRL on the same numbers: stand-ins for the trainer and for the model's outputs.


class Recorder(dict):
    def __missing__(self, key):
        self[key] = []
        return self[key]


def padded(flat, case, filler=0.0):
    """(B, width) of a flat list, rows of tokens that count or not side by side."""
    out = torch.full((case["sequences"], max(case["lengths"])), filler, dtype=torch.double)
    begin = 0
    for i, length in enumerate(case["lengths"]):
        out[i, :length] = flat[begin:begin + length]
        begin += length
    return out


def stand_in(o, case, logprobs, entropies):
    from trl.trainer.grpo_trainer import GRPOTrainer
    accelerator = types.SimpleNamespace(num_processes=1, sync_gradients=False, gather=lambda t: t, pad_across_processes=lambda t, **_: t,
                                        reduce=lambda t, **_: t)
    args = types.SimpleNamespace(steps_per_generation=1, entropy_target=0.0, **{k: o[k] for k in o if k not in ("loss_type",)})
    high = o["epsilon"] if o["epsilon_high"] is None else o["epsilon_high"]
    me = types.SimpleNamespace(
        args=args, accelerator=accelerator, model=types.SimpleNamespace(training=True), _metrics={"train": Recorder()},
        aux_loss_enabled=False, use_vllm=False, current_gradient_accumulation_steps=1, _entropy_bonus_enabled=o["entropy_coef"] != 0.0,
        use_adaptive_entropy=False, entropy_coef=o["entropy_coef"], epsilon_low=o["epsilon"], epsilon_high=high,
        max_completion_length=case["counts"]["constant"], get_off_policy_mask=GRPOTrainer.get_off_policy_mask,
        get_gamma_weights=GRPOTrainer.get_gamma_weights,
        _get_per_token_logps_and_entropies=lambda *_, **__: (logprobs, entropies, None),
        **{k: o[k] for k in ("loss_type", "beta", "importance_sampling_level", "off_policy_mask_threshold", "top_entropy_quantile")})
    mask_of = inspect.unwrap(GRPOTrainer.get_high_entropy_mask)
    me.get_high_entropy_mask = lambda *given: mask_of(me, *given)
    if o["loss_type"] == "gmpo":
        me.epsilon_low = me.epsilon_high = o["gmpo_clip"]
    return me


def trl_loss(o, case, flat):
    """Loss, gradient (R) and metrics by TRL, or None where it has no such form."""
    per_token = any(len(set(row)) > 1 for row in case["advantage_rows"])
    if o["importance_sampling_level"] == "sequence_token" or (per_token and o["loss_type"] in ("vespo", "gmpo")):
        return None
    leaf = flat["logprobs"].detach().clone().requires_grad_()
    logprobs, entropies = padded(leaf, case), padded(flat["entropies"], case)
    mask = padded(flat["mask"].double(), case).long()
    one = torch.zeros(case["sequences"], 1, dtype=torch.long)
    advantages = padded(flat["advantages"], case) if per_token else torch.tensor([row[0] for row in case["advantage_rows"]])
    inputs = {"prompt_ids": one, "prompt_mask": one + 1, "completion_ids": torch.zeros_like(mask), "completion_mask": mask,
              "advantages": advantages, "num_items_in_batch": torch.tensor(case["counts"]["tokens"])}
    if case["old"]:
        inputs["old_per_token_logps"] = padded(flat["old"], case)
    if o["beta"] > 0:
        inputs["ref_per_token_logps"] = padded(flat["ref"], case)
    me = stand_in(o, case, logprobs, entropies)
    if o["importance_sampling_level"] == "sequence_sum":
        from trl.trainer.rloo_trainer import RLOOTrainer
        if o["loss_type"] != "grpo" or o["beta"] > 0 or o["delta"] is not None or o["off_policy_mask_threshold"] is not None:
            return None
        inputs["old_logps"] = (padded(flat["old"], case) * mask).sum(1)
        loss = inspect.unwrap(RLOOTrainer._compute_loss)(me, None, inputs)
    elif o["loss_type"] == "gmpo":
        from trl.experimental.gmpo.gmpo_trainer import GMPOTrainer
        if o["beta"] > 0 and o["use_bias_correction_kl"] or o["off_policy_mask_threshold"] is not None:
            return None
        loss = inspect.unwrap(GMPOTrainer._compute_loss)(me, None, inputs)
    else:
        from trl.trainer.grpo_trainer import GRPOTrainer
        loss = inspect.unwrap(GRPOTrainer._compute_loss)(me, None, inputs)
    grad = torch.autograd.grad(loss, leaf)[0]
    # A sequence without tokens that count is a constant −A of gmpo and RLOO there, nothing here.
    if o["loss_type"] == "gmpo" or o["importance_sampling_level"] == "sequence_sum":
        empty = mask.sum(1) == 0
        loss = loss + (advantages[empty].sum() / case["sequences"] if empty.any() else 0.0)
    metrics = {k: v[0] for k, v in me._metrics["train"].items()}
    return loss.item(), grad, metrics


def close(a, b):
    return abs(a - b) <= BOUND * max(1.0, abs(a))


def record(generator, name, per_token=False, old=True, spread=0.3, **options):
    o = DEFAULTS | options
    lengths = [5, 1, 4, 7, 3]
    count = sum(lengths)
    draw = lambda scale=1.0: (torch.randn(count, generator=generator) * scale).round(decimals=4)
    uniform = lambda scale: (torch.rand(count, generator=generator) * scale).round(decimals=4)
    mask = torch.ones(count, dtype=torch.bool)
    mask[2] = mask[12] = False  # inside a sequence, as tokens of a tool
    mask[-3:] = False  # a whole sequence, as a truncated one
    sequence = [i for i, length in enumerate(lengths) for _ in range(length)]
    heights = [0.9, -1.3, -0.6, 1.4, -0.4]
    advantages = torch.tensor([heights[i] for i in sequence])
    if per_token:
        advantages = advantages + draw(0.5)
    flat = {"logprobs": (-0.1 - uniform(3)).requires_grad_(), "advantages": advantages, "mask": mask,
            "entropies": uniform(2)}
    flat["old"] = flat["logprobs"].detach() + (draw(spread) if old else 0.0)
    flat["ref"] = flat["logprobs"].detach() + draw(0.4)
    rows, begin = [], 0
    for length in lengths:
        rows.append(advantages[begin:begin + length].tolist())
        begin += length
    case = {"name": name, "options": {k: v for k, v in options.items() if k not in ("top_entropy_quantile", "entropy_coef")},
            "lengths": lengths, "sequences": len(lengths), "old": old, "advantage_rows": rows,
            "counts": {"tokens": 19.0 if o["loss_type"] != "bnpo" else float(mask.sum()), "sequences": float(len(lengths)), "constant": 9.0}}
    keep = torch.ones(count, dtype=torch.bool)
    if o["top_entropy_quantile"] < 1:
        keep = flat["entropies"] >= entropy_floor(flat["entropies"][mask].tolist(), o["top_entropy_quantile"])
    where = torch.tensor(sequence)
    sequences = [{k: v[(where == i) & mask] for k, v in (flat | {"keep": keep}).items()} for i in range(len(lengths))]
    loss, metrics = policy_loss(sequences, o, case["counts"])
    grad = torch.autograd.grad(loss, flat["logprobs"])[0]
    bonus = o["entropy_coef"] * flat["entropies"][mask & keep].mean().item()
    theirs = trl_loss(o, case, flat)
    if theirs is not None:
        assert close(loss.item() - bonus, theirs[0]), (name, loss.item() - bonus, theirs[0])
        assert torch.allclose(grad, theirs[1], rtol=0, atol=BOUND * max(1.0, grad.abs().max().item())), (name, grad, theirs[1])
        for key, value in metrics.items():  # shares of clipped ratios are fp32 there
            bound = 1e-7 if "clip_ratio" in key else BOUND
            assert abs(value - theirs[2][key]) <= bound, (name, key, value, theirs[2][key])
    if old and metrics.get("clip_ratio/region_mean") == 0.0:  # another draw, where something is clipped
        return record(generator, name, per_token, old, spread, **options)
    plain = {k: [round(x, 6) for x in v.detach().tolist()] for k, v in flat.items() if k != "mask"}
    case["inputs"] = plain | {"mask": mask.long().tolist(), "sequence": sequence}
    return {k: v for k, v in case.items() if k not in ("lengths", "advantage_rows")} | {
        "top_entropy_quantile": o["top_entropy_quantile"], "keep": keep.long().tolist(), "entropy_coef": o["entropy_coef"], "bonus": bonus,
        "by_trl": theirs is not None, "loss": loss.item(), "grad": grad.tolist(), "metrics": metrics}


def record_losses(generator):
    cases = []
    add = lambda *given, **options: cases.append(record(generator, *given, **options))
    for name in ("grpo", "bnpo", "dapo", "dr_grpo", "luspo", "cispo", "sapo", "vespo", "gmpo"):
        own = {"epsilon_high": 1.1} if name == "cispo" else {}
        spread = 0.8 if name == "gmpo" else 0.3
        add(name, loss_type=name, spread=spread, **own)
        add(name + ", on policy", loss_type=name, old=False, beta=0.1, use_bias_correction_kl=False, **own)
        add(name + ", KL", loss_type=name, spread=spread, beta=0.04, use_bias_correction_kl=False, **own)
        add(name + ", corrected KL", loss_type=name, spread=spread, beta=0.3, **own)
        add(name + ", per token", per_token=True, loss_type=name, spread=spread, **own)
        add(name + ", top entropy", loss_type=name, spread=spread, top_entropy_quantile=0.4, beta=0.1, use_bias_correction_kl=False, **own)
        if name not in ("vespo", "gmpo"):
            for level in ("sequence", "sequence_token", "sequence_sum"):
                add(f"{name}, {level}", loss_type=name, importance_sampling_level=level, epsilon=0.05, beta=0.2, **own)
    add("rloo", loss_type="grpo", importance_sampling_level="sequence_sum")
    add("rloo, clip-higher", loss_type="grpo", importance_sampling_level="sequence_sum", epsilon=0.1, epsilon_high=0.4)
    add("clip-higher", loss_type="dapo", epsilon_high=0.28)
    add("upper cap", loss_type="grpo", epsilon=0.1, delta=1.25)
    add("upper cap of sequences", loss_type="grpo", epsilon=0.02, delta=1.04, importance_sampling_level="sequence", beta=0.1)
    add("sapo, other temperatures", loss_type="sapo", sapo_temperature_pos=0.7, sapo_temperature_neg=1.6)
    add("vespo, other shapes", loss_type="vespo", vespo_k_pos=1.3, vespo_lambda_pos=0.9, vespo_k_neg=0.6, vespo_lambda_neg=1.7)
    add("vespo, far", loss_type="vespo", spread=12.0)
    add("gmpo, narrow", loss_type="gmpo", gmpo_clip=0.1, spread=0.2)
    for name in ("grpo", "cispo", "sapo", "vespo"):
        add(f"{name}, off-policy mask", loss_type=name, off_policy_mask_threshold=0.05, epsilon_high=1.1, beta=0.1)
    add("entropy bonus", loss_type="dapo", entropy_coef=0.03)
    add("entropy bonus of the top tokens", loss_type="grpo", entropy_coef=0.03, top_entropy_quantile=0.5)
    return cases


def main():
    generator = torch.Generator().manual_seed(SEED)
    cases = record_losses(generator)
    entropies = (torch.rand(37, generator=generator) * 3).round(decimals=4).tolist()
    floors = []
    for share in (0.0, 0.2, 0.5, 0.8, 1.0):
        floor = entropy_floor(entropies, share)
        assert close(floor, torch.quantile(torch.tensor(entropies), 1 - share).item())
        floors.append({"share": share, "floor": floor})
    OUT.write_text(json.dumps({"cases": cases, "entropy": {"entropies": entropies, "floors": floors}}) + "\n")
    print(f"{len(cases)} losses, {sum(c['by_trl'] for c in cases)} of them by TRL too -> {OUT.name}")


if __name__ == "__main__":
    main()

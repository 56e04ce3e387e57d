"""Records the expected token rewards, advantages, returns and losses of PPO with a critic.

Formulas are written here in double from the papers named beside them, token by token and without a recursion; they share nothing
with this project. The lines of TRL 1.12.0's PPOTrainer that turn log-probabilities, scores and values into rewards, advantages,
returns and the two losses are run as they stand, and asserted to agree to 1e-12 with all that they cover: their place behind the
stop token is taken away by giving them one mask where they have two. Gradients are autograd's, through TRL's lines where they apply.

Run, with TRL 1.12.0:  python tools/make_ppo_goldens.py      (made with torch 2.13.0, trl 1.12.0; seed 20261205)

Writes tests/fixtures/math/ppo.json: {"made_with", "rollouts": [...], "value_losses": [...], "policy_losses": [...]}; null is a score
that does not apply. Rows are ragged: (completions) of (tokens).
"""

import inspect
import json
import math
import pathlib
import textwrap
import types

import numpy
import torch
import trl
from trl.experimental.ppo import ppo_trainer

torch.set_default_dtype(torch.double)

SEED = 20261205
OUT = pathlib.Path(__file__).resolve().parent.parent / "tests" / "fixtures" / "math" / "ppo.json"


def close(a, b):
    return abs(a - b) <= 1e-12 * max(1.0, abs(a))


def agree(name, ours, theirs):
    assert len(ours) == len(theirs), name
    for a, b in zip(ours, theirs):
        if isinstance(a, list):
            agree(name, a, b)
        else:
            assert close(a, b), (name, a, b)


# By formula.


def estimate(kind, old, ref):
    """joschu.net/blog/kl-approx.html."""
    k1 = old - ref
    return {"k1": k1, "k2": k1 * k1 / 2, "k3": math.expm1(-k1) + k1}[kind]


def shaped(score, stopped, case):
    if score is None:
        return None
    if case["moments"]:
        mean, deviation = case["moments"]
        score = (score - mean) / deviation
    if case["range"]:
        score = min(max(score, case["range"][0]), case["range"][1])
    return score - (0.0 if stopped or case["missing_eos_penalty"] is None else case["missing_eos_penalty"])


def whitened(rows, rated, keep_mean):
    every = [x for row, there in zip(rows, rated) if there for x in row]
    mean = math.fsum(every) / len(every)
    root = math.sqrt(numpy.var(every, ddof=1) + 1e-8)
    return [[(x - mean) / root + (mean if keep_mean else 0.0) for x in row] if there else [0.0] * len(row)
            for row, there in zip(rows, rated)]


def estimated(rewards, values, gamma, lam):
    """1506.02438, eq. 16: A_t = Σ_l (γλ)^l δ_{t+l}, written out."""
    ahead = values[1:] + [0.0]
    deltas = [r + gamma * n - v for r, n, v in zip(rewards, ahead, values)]
    decay = gamma * lam
    return [math.fsum(decay**(s - t) * deltas[s] for s in range(t, len(deltas))) for t in range(len(deltas))]


def rollout(case):
    rated = [s is not None for s in case["scores"]]
    scores = [shaped(s, end, case) for s, end in zip(case["scores"], case["stopped"])]
    kl = [[estimate(case["kl_estimator"], o, r) for o, r in zip(*rows)] for rows in zip(case["old"], case["ref"])]
    rewards = [[-case["kl_coef"] * k + (score if t == len(row) - 1 else 0.0) for t, k in enumerate(row)] if there else [0.0] * len(row)
               for row, score, there in zip(kl, scores, rated)]
    used = whitened(rewards, rated, True) if case["whiten_rewards"] else rewards
    advantages = [estimated(r, v, case["gamma"], case["lam"]) if there else [0.0] * len(v)
                  for r, v, there in zip(used, case["values"], rated)]
    returns = [[a + v for a, v in zip(*rows)] for rows in zip(advantages, case["values"])]
    return {"shaped": scores, "kl": kl, "rewards": rewards, "used_rewards": used, "advantages": advantages, "returns": returns,
            "whitened": whitened(advantages, rated, False)}


# TRL's lines, run as they stand.


def lines_between(first, last):
    lines = inspect.getsource(ppo_trainer.PPOTrainer.train).splitlines()
    begin = next(i for i, line in enumerate(lines) if line.strip().startswith(first))
    end = next(i for i, line in enumerate(lines) if i >= begin and line.strip().startswith(last))
    return textwrap.dedent("\n".join(lines[begin:end + 1]))


def padded(rows, filler):
    width = max(len(row) for row in rows)
    return torch.tensor([row + [filler] * (width - len(row)) for row in rows])


def unpadded(tensor, rows):
    return [values[:len(row)] for values, row in zip(tensor.tolist(), rows)]


def rated_rows(case, rows):
    return [row for row, score in zip(rows, case["scores"]) if score is not None]


def trl_rollout(case):
    """Of the rated rows; where TRL has no such option the shaped score is given."""
    rows = rated_rows(case, case["old"])
    lengths = torch.tensor([len(row) for row in rows]) - 1
    mask = torch.arange(max(len(row) for row in rows))[None, :] > lengths[:, None]
    scores = torch.tensor([shaped(s, True, case) for s in rated_rows(case, case["scores"])])
    args = types.SimpleNamespace(**{key: case[key] for key in ("kl_estimator", "kl_coef", "gamma", "lam", "whiten_rewards",
                                                                "missing_eos_penalty")})
    names = vars(ppo_trainer) | {
        "args": args, "self": types.SimpleNamespace(args=args), "scores": scores, "responses": mask,
        "contain_eos_token": torch.tensor(rated_rows(case, case["stopped"])), "padding_mask": mask, "padding_mask_p1": mask,
        "sequence_lengths": lengths, "sequence_lengths_p1": lengths, "values": padded(rated_rows(case, case["values"]), 0.0),
        "logprobs": padded(rows, ppo_trainer.INVALID_LOGPROB),
        "ref_logprobs": padded(rated_rows(case, case["ref"]), ppo_trainer.INVALID_LOGPROB)}
    exec(lines_between("if self.args.missing_eos_penalty", "scores[~contain_eos_token]"), names)
    exec(lines_between("logr =", "returns ="), names)
    before = names["advantages"]
    exec(lines_between("advantages = masked_whiten", "advantages = torch.masked_fill"), names)
    return {"shaped": names["scores"].tolist(), "kl": unpadded(names["kl"], rows),
            "used_rewards": unpadded(names["rewards"], rows), "advantages": unpadded(before, rows),
            "returns": unpadded(names["returns"], rows), "whitened": unpadded(names["advantages"], rows)}


def trl_losses(values, old_values, returns, new, old, advantages, mask, cliprange, cliprange_value):
    """One micro-batch of flat rows. The lines between the model's outputs and the loss."""
    args = types.SimpleNamespace(cliprange=cliprange, cliprange_value=cliprange_value, vf_coef=0.1)
    one = lambda tensor: tensor[None, :]
    names = vars(ppo_trainer) | {
        "args": args, "vpred": one(values), "mb_values": one(old_values), "mb_return": one(returns), "new_logprobs": one(new),
        "mb_logprobs": one(old), "mb_advantage": one(advantages), "padding_mask": one(~mask), "padding_mask_p1": one(~mask),
        "micro_batch_inds": [0]}
    exec(lines_between("vpredclipped =", "loss = pg_loss"), names)
    exec(lines_between("pg_clipfrac = masked_mean", ")"), names)
    return {key: names[key] for key in ("vf_loss", "vf_clipfrac", "pg_loss", "pg_clipfrac")}


def same_share(ours, theirs):
    """TRL counts in fp32."""
    return abs(ours - theirs.item()) < 1e-6


# Cases.

PLAIN = {"kl_estimator": "k1", "kl_coef": 0.05, "moments": None, "range": None, "missing_eos_penalty": None, "whiten_rewards": False,
         "gamma": 1.0, "lam": 0.95}


def record_rollouts(random):
    draw = lambda count, low, high: [round(float(x), 4) for x in random.uniform(low, high, count)]
    cases = []

    def add(lengths, scores=None, stopped=None, **options):
        old = [draw(n, -4, 0) for n in lengths]
        case = PLAIN | options | {
            "old": old, "ref": [[round(x + d, 4) for x, d in zip(row, draw(len(row), -0.8, 0.8))] for row in old],
            "values": [draw(n, -1, 1) for n in lengths], "scores": scores or draw(len(lengths), -2, 3),
            "stopped": stopped or [bool(x) for x in random.integers(0, 2, len(lengths))]}
        wanted = rollout(case)
        if case["kl_estimator"] != "k2":
            for key, theirs in trl_rollout(case).items():
                agree((key, options), rated_rows(case, wanted[key]), theirs)
        cases.append(case | {"wanted": wanted})

    ragged = [3, 1, 5, 2, 7]
    add([6, 6, 6, 6])
    add(ragged)
    add([1, 1, 1])
    add([9])
    for kind in ("k1", "k2", "k3"):
        add(ragged, kl_estimator=kind, kl_coef=0.2)
        add(ragged, kl_estimator=kind, whiten_rewards=True)
    for gamma in (0.0, 0.9, 1.0):
        for lam in (0.0, 0.5, 1.0):
            add(ragged, gamma=gamma, lam=lam)
    add(ragged, kl_coef=0.0)
    add(ragged, missing_eos_penalty=1.5, stopped=[True, False, False, True, True])
    add(ragged, moments=[0.4, 1.7])
    add(ragged, range=[-0.5, 0.5])
    add(ragged, range=[-1.0, 0.3], moments=[-0.2, 0.6], missing_eos_penalty=1.0, stopped=[False, True, False, True, True])
    some = [0.7, None, -1.2, None, 2.0]
    add(ragged, scores=some)
    add(ragged, scores=some, whiten_rewards=True, gamma=0.97, kl_estimator="k3", missing_eos_penalty=0.5)
    return cases


def record_losses(random):
    value_cases, policy_cases = [], []
    draw = lambda count, low, high: torch.tensor([round(float(x), 4) for x in random.uniform(low, high, count)])
    for count in (1, 5, 24):
        for clip in (0.2, 0.05, None):
            values, old_values, returns = draw(count, -1, 1).requires_grad_(), draw(count, -1, 1), draw(count, -1, 2)
            new, old, advantages = draw(count, -3, 0).requires_grad_(), draw(count, -3, 0), draw(count, -2, 2)
            mask = torch.tensor(random.integers(0, 4, count) > 0)
            mask[0] = True
            cliprange = clip or 0.3
            theirs = trl_losses(values, old_values, returns, new, old, advantages, mask, cliprange, math.inf if clip is None else clip)
            theirs["vf_loss"].backward()
            theirs["pg_loss"].backward()

            losses, clipped = [], 0
            there = [t for t in range(count) if mask[t]]
            plain = [x.tolist() for x in (values.detach(), old_values, returns, new.detach(), old, advantages)]
            for t in there:
                v, o, r = plain[0][t], plain[1][t], plain[2][t]
                bound = v if clip is None else min(max(v, o - clip), o + clip)
                losses.append(max((v - r)**2, (bound - r)**2))
                clipped += (bound - r)**2 > (v - r)**2
            ours = math.fsum(losses) / len(there) / 2
            assert close(ours, theirs["vf_loss"].item()) and same_share(clipped / len(there), theirs["vf_clipfrac"])
            residuals = [plain[2][t] - plain[0][t] for t in there]
            spread = float(numpy.var([plain[2][t] for t in there]))
            value_cases.append({
                "values": plain[0], "old_values": plain[1], "returns": plain[2], "mask": mask.double().tolist(), "cliprange_value": clip,
                "loss": ours, "grad": values.grad.tolist(), "clip_fraction": clipped / len(there),
                "mean_value": math.fsum(plain[0][t] for t in there) / len(there),
                "mean_squared_error": math.fsum(x * x for x in residuals) / len(there),
                "explained_variance": None if spread == 0.0 else 1.0 - float(numpy.var(residuals)) / spread})

            surrogates = []
            clipped = 0
            for t in there:
                ratio, a = math.exp(plain[3][t] - plain[4][t]), plain[5][t]
                held = min(max(ratio, 1 - cliprange), 1 + cliprange)
                surrogates.append(max(-a * ratio, -a * held))
                clipped += -a * held > -a * ratio
            ours = math.fsum(surrogates) / len(there)
            assert close(ours, theirs["pg_loss"].item()) and same_share(clipped / len(there), theirs["pg_clipfrac"])
            policy_cases.append({"logprobs": plain[3], "old": plain[4], "advantages": plain[5], "mask": mask.double().tolist(),
                                 "cliprange": cliprange, "loss": ours, "grad": new.grad.tolist(), "clip_fraction": clipped / len(there)})
    return value_cases, policy_cases


def main():
    assert trl.__version__ == "1.12.0", trl.__version__
    random = numpy.random.default_rng(SEED)
    rollouts = record_rollouts(random)
    value_losses, policy_losses = record_losses(random)
    made_with = {"seed": SEED, "torch": torch.__version__, "trl": trl.__version__, "numpy": numpy.__version__}
    OUT.write_text(json.dumps({"made_with": made_with, "rollouts": rollouts, "value_losses": value_losses,
                               "policy_losses": policy_losses}) + "\n")
    print(f"{len(rollouts)} rollouts, {len(value_losses)} losses each -> {OUT.name}")


if __name__ == "__main__":
    main()

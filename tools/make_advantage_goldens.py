"""Records the expected advantages of groups of completions.

Formulas are written here in double from the papers named beside them; they share nothing with this project. The lines of TRL
1.16.0's GRPOTrainer and RLOOTrainer that turn rewards into advantages are run as they stand, and asserted to agree to 1e-12 with
all that they cover.

Run: python tools/make_advantage_goldens.py      (made with torch 2.13.0, trl 1.16.0; seed 20261127)

Writes tests/fixtures/math/advantages.json: {"cases": [{name, …inputs, "wanted"}]}; null is a reward that does not apply.
"""

import inspect
import json
import math
import pathlib
import textwrap
import types

import numpy
import torch

torch.set_default_dtype(torch.double)

SEED = 20261127
OUT = pathlib.Path(__file__).resolve().parent.parent / "tests" / "fixtures" / "math" / "advantages.json"


def close(a, b):
    return abs(a - b) <= 1e-12 * max(1.0, abs(a))


# Rewards are (completions) of (judges), null where one does not apply.


def present(values):
    return [x for x in values if x is not None]


def mean(values):
    return sum(values) / len(values)


def deviation(values):
    return float(numpy.std(values, ddof=1))


def groups_of(rows, sizes):
    begin = 0
    for size in sizes:
        yield range(begin, begin + size), [rows[i] for i in range(begin, begin + size)]
        begin += size


def weigh(rewards, weights):
    sums = []
    for row in rewards:
        terms = [w * r for w, r in zip(weights, row) if r is not None]
        sums.append(sum(terms) if terms else None)
    return sums


def z_scores(values, small=1e-4):
    """2402.03300, 4.1.2; nothing for fewer than two."""
    there = present(values)
    if len(there) < 2:
        return [None] * len(values)
    return [None if x is None else (x - mean(there)) / (deviation(there) + small) for x in values]


def grpo(sums, sizes, scale):
    out = [0.0] * len(sums)
    for places, group in groups_of(sums, sizes):
        there = present(group)
        for i, x in zip(places, group):
            if x is None or len(there) < 2 and scale == "group":
                continue
            spread = {"group": lambda: deviation(there), "batch": lambda: deviation(present(sums)), "none": lambda: None}[scale]()
            out[i] = (x - mean(there)) / (1.0 if spread is None else spread + 1e-4)
    return out


def gdpo(rewards, weights, sizes):
    """2601.05242."""
    columns = []
    for k in range(len(weights)):
        column = [None] * len(rewards)
        for places, group in groups_of([row[k] for row in rewards], sizes):
            for i, z in zip(places, z_scores(group)):
                column[i] = z
        columns.append(column)
    sums = []
    for i, row in enumerate(rewards):
        terms = [w * columns[k][i] for k, w in enumerate(weights) if columns[k][i] is not None]
        sums.append(sum(terms) if present(row) else None)
    return [0.0 if z is None else z for z in z_scores(sums)]


def rloo(values, sizes, normalise):
    """2402.14740."""
    out = []
    for _, group in groups_of(values, sizes):
        for i, x in enumerate(group):
            others = present(group[:i] + group[i + 1:])
            out.append(None if x is None or not others else x - mean(others))
    if normalise:
        out = z_scores(out)
    return [0.0 if x is None else x for x in out]


def whitened(rows, rated):
    """Over all tokens of rated completions; nothing for the others."""
    every = [x for row, there in zip(rows, rated) if there for x in row]
    root = math.sqrt(numpy.var(every, ddof=1) + 1e-8)
    return [[(x - mean(every)) / root for x in row] if there else [0.0] * len(row) for row, there in zip(rows, rated)]


def reinforce_pp(rewards, kl, beta, gamma):
    """2501.03262, with a discount: R at the last token, −β KL_t at each."""
    rows = []
    for reward, row in zip(rewards, kl):
        own = [-beta * x for x in row]
        own[-1] += reward or 0.0
        rows.append([sum(gamma ** (s - t) * own[s] for s in range(t, len(own))) for t in range(len(own))])
    return whitened(rows, [r is not None for r in rewards])


def reinforce_pp_baseline(rewards, tokens, sizes):
    rows = []
    for _, group in groups_of(rewards, sizes):
        rows += [(0.0 if x is None else x - mean(present(group))) for x in group]
    return whitened([[x] * n for x, n in zip(rows, tokens)], [r is not None for r in rewards])


def pass_at_k(rewards, sizes, scale):
    """2503.19595: the largest of all less the largest without this one."""
    out = [0.0] * len(rewards)
    for places, group in groups_of(rewards, sizes):
        there = present(group)
        for n, (i, x) in enumerate(zip(places, group)):
            others = present(group[:n] + group[n + 1:])
            if x is None or not others:
                continue
            spread = {"group": lambda: deviation(there), "batch": lambda: deviation(present(rewards)), "none": lambda: None}[scale]()
            out[i] = (max(there) - max(others)) / (1.0 if spread is None else spread + 1e-4)
    return out


def remax(rewards, greedy, sizes):
    """2310.10505."""
    out = []
    for (_, group), base in zip(groups_of(rewards, sizes), greedy):
        out += [0.0 if x is None or base is None else x - base for x in group]
    return out


def opo(rewards, tokens, sizes):
    """2505.23585: the baseline weighs rewards by length."""
    out = [0.0] * len(rewards)
    for places, group in groups_of(rewards, sizes):
        rated = [(tokens[i], rewards[i]) for i in places if rewards[i] is not None]
        if rated:
            base = sum(n * r for n, r in rated) / sum(n for n, _ in rated)
            for i, x in zip(places, group):
                out[i] = 0.0 if x is None else x - base
    return out


def process(steps, tokens, sizes):
    """2402.03300, 4.1.3; a step is (its last token, its reward)."""
    out = []
    for _, group in groups_of(list(zip(steps, tokens)), sizes):
        every = [r for own, _ in group for _, r in own if r is not None]
        for own, count in group:
            z = [(end, (r - mean(every)) / (deviation(every) + 1e-4)) for end, r in own if r is not None and len(every) > 1]
            out.append([sum(x for end, x in z if end >= t) for t in range(count)])
    return out


# The lines of TRL's trainers between rewards and advantages, run as they stand.


def lines_between(function, first, last):
    lines = inspect.getsource(inspect.unwrap(function)).splitlines()
    begin = next(i for i, line in enumerate(lines) if line.strip().startswith(first))
    end = next(i for i, line in enumerate(lines) if line.strip().startswith(last))
    return textwrap.dedent("\n".join(lines[begin:end + 1]))


def as_tensor(rows):
    return torch.tensor([[math.nan if x is None else x for x in row] for row in rows])


def trl_advantages(rewards, weights, generations, **attributes):
    import trl.trainer.grpo_trainer as module
    names = vars(module) | {"rewards_per_func": as_tensor(rewards), "device": "cpu", "mode": "train"}
    names["self"] = types.SimpleNamespace(num_generations=generations, reward_weights=torch.tensor(weights), reward_funcs=weights, **attributes)
    exec(lines_between(module.GRPOTrainer._generate_and_score_completions, "num_generations = self.num_generations if",
                       "advantages = torch.nan_to_num"), names)
    return names["advantages"].tolist(), names["is_std_zero"].double().mean().item()


def trl_rloo(rewards, weights, generations, kl, **attributes):
    import trl.trainer.rloo_trainer as module
    names = vars(module) | {"rewards_per_func": as_tensor(rewards), "device": "cpu", "mode": "train", "num_generations": generations,
                            "gather": lambda t: t, "ref_per_token_logps": torch.zeros(len(rewards), 1),
                            "old_per_token_logps": torch.tensor(kl)[:, None], "completion_mask": torch.ones(len(rewards), 1)}
    names["self"] = types.SimpleNamespace(num_generations=generations, reward_weights=torch.tensor(weights), reward_funcs=weights, **attributes)
    exec(lines_between(module.RLOOTrainer._generate_and_score_completions, "unscorable_mask =", "is_std_zero ="), names)
    return names["advantages"].tolist(), names["is_std_zero"].double().mean().item()


def agree(name, ours, theirs):
    assert len(ours) == len(theirs) and all(close(a, b) for a, b in zip(ours, theirs)), (name, ours, theirs)


def share_without_spread(sums, sizes):
    flat = [len(set(present(group))) == 1 and len(present(group)) > 1 for _, group in groups_of(sums, sizes)]
    return mean([float(x) for x in flat])


def record_advantages(generator):
    uniform = lambda: torch.rand((), generator=generator).item()
    some = lambda count, null=0.2: [None if uniform() < null else round(uniform() * 4 - 1, 3) for _ in range(count)]
    cases = []

    def add(name, wanted, **inputs):
        cases.append({"name": name, **inputs, "wanted": wanted})

    generations, prompts = 4, 5
    equal, uneven = [generations] * prompts, [4, 2, 5, 3]
    for two in (False, True):
        weights = [1.0, 0.35] if two else [1.0]
        rewards = [list(row) for row in zip(*(some(generations * prompts) for _ in weights))]
        rewards[0:4] = [[0.1] * len(weights)] * 4  # one group without spread
        rewards[4:8] = [[None] * len(weights)] * 3 + [[0.7] * len(weights)]  # and one with a single reward
        sums = weigh(rewards, weights)
        for scale in ("group", "batch", "none"):
            ours = grpo(sums, equal, scale)
            theirs, zero = trl_advantages(rewards, weights, generations, scale_rewards=scale,
                                          multi_objective_aggregation="sum_then_normalize")
            agree(scale, ours, theirs)
            if scale != "batch":
                assert close(share_without_spread(sums, equal), zero)
            add(scale, ours, rewards=rewards, weights=weights, sizes=equal, share_without_spread=zero)
        ours = gdpo(rewards, weights, equal)
        agree("gdpo", ours, trl_advantages(rewards, weights, generations, scale_rewards="group",
                                           multi_objective_aggregation="normalize_then_sum")[0])
        add("gdpo", ours, rewards=rewards, weights=weights, sizes=equal)
        for normalise in (False, True):
            for clip in (None, [-0.5, 1.5]):
                kl = [round(uniform() * 2 - 0.5, 3) for _ in rewards]
                beta = 0.05
                shaped = [None if x is None else (x if clip is None else min(max(x, clip[0]), clip[1])) - beta * k
                          for x, k in zip(sums, kl)]
                ours = rloo(shaped, equal, normalise)
                theirs, zero = trl_rloo(rewards, weights, generations, kl, beta=beta, reward_clip_range=clip,
                                        normalize_advantages=normalise)
                agree("rloo", ours, theirs)
                add("rloo", ours, rewards=rewards, weights=weights, sizes=equal, kl=kl, beta=beta, clip=clip, normalise=normalise,
                    share_without_spread=zero)
    rewards = [[x] for x in some(sum(uneven))]
    sums, tokens = weigh(rewards, [1.0]), [int(uniform() * 6) + 1 for _ in rewards]
    plain = dict(rewards=rewards, weights=[1.0], sizes=uneven, tokens=tokens)
    for scale in ("group", "batch", "none"):
        add(scale, grpo(sums, uneven, scale), **plain)
        add("pass_at_k", pass_at_k(sums, uneven, scale), scale=scale, **plain)
    add("gdpo", gdpo(rewards, [1.0], uneven), **plain)
    add("opo", opo(sums, tokens, uneven), **plain)
    greedy = [0.3, None, -0.2, 1.5]
    add("remax", remax(sums, greedy, uneven), greedy=greedy, **plain)
    for beta, gamma in ((0.0, 1.0), (0.1, 1.0), (0.1, 0.95)):
        kl = [[round(uniform() - 0.3, 3) for _ in range(n)] for n in tokens]
        add("reinforce_pp", reinforce_pp(sums, kl, beta, gamma), token_kl=kl, beta=beta, gamma=gamma, **plain)
    add("reinforce_pp_baseline", reinforce_pp_baseline(sums, tokens, uneven), **plain)
    steps = []
    for count in tokens:
        ends = [t for t in range(count) if t == count - 1 or uniform() < 0.4]
        steps.append([[t, x] for t, x in zip(ends, some(len(ends), null=0.1))])
    add("process", process(steps, tokens, uneven), steps=steps, **plain)
    return cases


def main():
    cases = record_advantages(torch.Generator().manual_seed(SEED))
    OUT.write_text(json.dumps({"cases": cases}) + "\n")
    print(f"{len(cases)} cases -> {OUT.name}")


if __name__ == "__main__":
    main()

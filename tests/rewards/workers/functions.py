"""Reward functions in TRL's signature, for tests of share/reward_worker.py."""
import asyncio
import os
import sys


def digits(completions, **kwargs):
    return [sum(c in "0123456789" for c in text) / max(1, len(text)) for text in completions]


async def later(prompts, completions, **kwargs):
    await asyncio.sleep(0.001)
    return [float(len(p) + len(c)) for p, c in zip(prompts, completions)]


def prints(completions, **kwargs):
    print('{"id": 1, "reward": 99}')
    sys.stdout.flush()
    os.write(1, b'{"id": 1, "reward": 99}\n')
    os.system("echo from a child")
    return [7.0]


def raises(completions, **kwargs):
    raise KeyError("no column \ud800")


def leaves(completions, **kwargs):
    sys.exit(4)


def chat(prompts, completions, **kwargs):
    assert prompts[0] == [{"role": "user", "content": "1+1="}], prompts
    assert completions[0] == [{"role": "assistant", "content": "2"}], completions
    return [1]


def everything(prompts, completions, completion_ids, trainer_state, log_extra, log_metric, solution,
               level, **kwargs):
    log_extra("seen", [1])
    log_metric("seen", 1.0)
    assert "prompt" not in kwargs and "completion" not in kwargs, kwargs
    assert solution == ["42"] and level == [3], (solution, level)
    return [len(completion_ids[0]) + trainer_state.global_step]


def nothing(completions, **kwargs):
    return [None]


def not_a_number(completions, **kwargs):
    return [float("nan")]


def two(completions, **kwargs):
    return [1.0, 2.0]


class Scalar:
    """As numpy's and torch's: a number by float() only."""

    def __float__(self):
        return 0.125


def scalar(completions, **kwargs):
    return [Scalar()]


def reads(completions, **kwargs):
    return [float(len(sys.stdin.read()))]

"""Reward functions in TRL's signature, for tests of share/reward_worker.py."""
import asyncio
import os
import sys
import time


def digits(completions, **kwargs):
    return [sum(c in "0123456789" for c in text) / max(1, len(text)) for text in completions]


def digit_share(completions, **kwargs):
    """The rule of the same name: of the text's bytes."""
    return [
        sum(48 <= byte <= 57 for byte in text.encode()) / len(text.encode()) if text else 0.0
        for text in completions
    ]


def hangs_or_fails(prompts, completions, answer, **kwargs):
    """For rows {"prompt": "i+2i=", "answer": "3i"}: hangs at i = 1, fails at i = 2."""
    if prompts[0] == "1+2=":
        time.sleep(1000)
    if answer[0] == "6":
        raise ValueError("six")
    return digit_share(completions)


def step(trainer_state, **kwargs):
    return [trainer_state.global_step]


def chats(prompts, completions, **kwargs):
    (message,) = completions[0]
    assert prompts[0][-1]["role"] == "user" and message["role"] == "assistant"
    return digit_share([message["content"]])


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

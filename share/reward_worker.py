#!/usr/bin/env python3
"""Serves a Python reward function to rlhf grpo.

    reward_funcs:
      - {name: my_reward, command: "python3 share/reward_worker.py rewards.py:my_reward"}

The function has the signature of TRL's reward functions and needs no change:

    def my_reward(prompts, completions, completion_ids, **kwargs) -> list of float or None

`kwargs` holds the other columns of the data row, trainer_state (with global_step), log_extra and
log_metric. Every list has one item: a call judges one completion. Conversational rows give lists
of messages, plain rows texts. async functions work too. What is printed goes to stderr, and an
exception costs the completion its reward, not the run.

Python 3.8 or later; needs no package.
"""
import asyncio
import importlib
import importlib.util
import inspect
import json
import math
import os
import sys
import traceback
from types import SimpleNamespace

# Named arguments of their own; a column of that name would stand twice in the call.
NOT_COLUMNS = ("prompt", "completion", "completion_ids")


def take_streams():
    """The streams of questions and answers. Whatever else reads stdin finds it empty, whatever else
    writes to stdout, in C too, writes to stderr from now on."""
    questions = os.fdopen(os.dup(0), "rb")
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    empty = os.open(os.devnull, os.O_RDONLY)
    os.dup2(empty, 0)
    os.close(empty)
    os.dup2(2, 1)
    sys.stdout = sys.stderr
    return questions, answers


def load_function(target):
    """The function that `module:function` or `file.py:function` names."""
    place, colon, name = target.rpartition(":")
    if not colon or not place or not name:
        raise SystemExit("reward_worker.py: module:function or file.py:function was expected, got " + target)
    if place.endswith(".py"):
        folder, file = os.path.split(os.path.abspath(place))
        sys.path.insert(0, folder)
        spec = importlib.util.spec_from_file_location(file[:-3], place)
        module = importlib.util.module_from_spec(spec)
        sys.modules[spec.name] = module
        spec.loader.exec_module(module)
    else:
        sys.path.insert(0, os.getcwd())
        module = importlib.import_module(place)
    return getattr(module, name)


def ignore(*_args, **_kwargs):
    """log_extra and log_metric: rlhf logs rewards itself."""


def arguments_of(question):
    """The keyword arguments of the call, each list with the one item."""
    columns = {
        name: [value] for name, value in question.get("columns", {}).items() if name not in NOT_COLUMNS
    }
    columns.update(
        prompts=[question["prompt"]],
        completions=[question["completion"]],
        completion_ids=[question["completion_ids"]],
        trainer_state=SimpleNamespace(global_step=question.get("step", 0)),
        log_extra=ignore,
        log_metric=ignore,
    )
    return columns


def reward_of(function, loop, question):
    """The one reward, a float or None."""
    result = function(**arguments_of(question))
    if inspect.isawaitable(result):
        result = loop.run_until_complete(result)
    if isinstance(result, (str, bytes)) or not hasattr(result, "__len__") or len(result) != 1:
        raise ValueError("a list with one reward was expected, got %r" % (result,))
    reward = result[0]
    if reward is None:
        return None
    reward = float(reward)
    if not math.isfinite(reward):
        raise ValueError("a finite reward was expected, got %r" % reward)
    return reward


def answer_to(function, loop, question):
    try:
        return {"id": question["id"], "reward": reward_of(function, loop, question)}
    except (Exception, SystemExit) as error:  # a fault of one item
        traceback.print_exc()
        text = "%s: %s" % (type(error).__name__, error)
        return {"id": question["id"], "error": text.encode("utf-8", "replace").decode("utf-8")}


def main():
    if len(sys.argv) != 2:
        raise SystemExit(__doc__)
    questions, answers = take_streams()
    function = load_function(sys.argv[1])
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)

    def say(message):
        answers.write(json.dumps(message) + "\n")
        answers.flush()

    say({"ready": True})
    for line in questions:
        say(answer_to(function, loop, json.loads(line)))
        sys.stderr.flush()


if __name__ == "__main__":
    main()

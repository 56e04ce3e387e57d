"""Opens the event files of run folders with TensorBoard's own reader and compares every scalar with metrics.jsonl.

    python tools/check_tensorboard.py RUN [RUN ...]

A metric `x` of metrics.jsonl is the scalar `train/x`, `eval_x` is `eval/x`; numbers are stored as float32. Exits with 1 where a
scalar is missing, is there too often, or has another value. Ran with tensorboard 2.21.0.
"""

import json
import math
import pathlib
import sys

import numpy as np
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator


def logged(run):
    """{tag: [(step, float32)]} of metrics.jsonl."""
    series = {}
    for line in (run / "metrics.jsonl").read_text().splitlines():
        row = json.loads(line)
        step = row.pop("step")
        for name, value in row.items():
            tag = "eval/" + name[len("eval_"):] if name.startswith("eval_") else "train/" + name
            # JSON's null is a number that is not finite.
            series.setdefault(tag, []).append((step, np.float32(math.nan if value is None else value)))
    return series


def shown(run):
    """The same as TensorBoard reads the folder."""
    reader = EventAccumulator(str(run), size_guidance={"scalars": 0})
    reader.Reload()
    return {tag: [(event.step, np.float32(event.value)) for event in reader.Scalars(tag)] for tag in reader.Tags()["scalars"]}


def same(a, b):
    return len(a) == len(b) and all(
        s == t and (x == y or (not np.isfinite(x) and not np.isfinite(y))) for (s, x), (t, y) in zip(a, b))


def main():
    failed = False
    for run in map(pathlib.Path, sys.argv[1:]):
        want, got = logged(run), shown(run)
        wrong = sorted(tag for tag in want.keys() | got.keys() if not same(want.get(tag, []), got.get(tag, [])))
        for tag in wrong:
            print(f"{run}: {tag}: metrics.jsonl {want.get(tag)}, TensorBoard {got.get(tag)}")
        print(f"{run}: {len(want)} scalars, {sum(map(len, want.values()))} values, {len(wrong)} scalars differ")
        failed |= bool(wrong)
    sys.exit(failed)


if __name__ == "__main__":
    main()

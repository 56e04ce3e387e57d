"""Writes tests/fixtures/report/events.json: records of an event file as TensorBoard's own writer makes them.

Each record is given as what it says and as the bytes that tensorboard.summary.writer.record_writer.RecordWriter writes of the
protocol buffer, in hexadecimal. Ran with tensorboard 2.21.0:

    python tools/make_tensorboard_events.py
"""

import io
import json
import pathlib

import tensorboard
from tensorboard.compat.proto.event_pb2 import Event, SessionLog
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.summary.writer.record_writer import RecordWriter

OUTPUT = pathlib.Path(__file__).parent.parent / "tests/fixtures/report/events.json"
WALL_TIME = 1700000000.123456

SCALARS = [
    (0, {"train/loss": 0.6931471805599453}),
    (1, {"train/loss": 1.5, "train/rewards/accuracy_reward/mean": -0.25}),
    (127, {"eval/loss": 1e-8}),
    (128, {"train/num_tokens": 123456789.0}),
    (300000, {"train/ä": float("inf"), "train/grad_norm": float("nan"), "train/kl": -0.0}),
    (5_000_000_000, {}),
]


def framed(event):
    out = io.BytesIO()
    RecordWriter(out).write(event.SerializeToString(deterministic=True))
    return out.getvalue().hex()


def main():
    version = Event(wall_time=WALL_TIME, file_version="brain.Event:2")
    start = [
        {"step": step, "bytes": framed(Event(wall_time=WALL_TIME, step=step, session_log=SessionLog(status=SessionLog.START)))}
        for step in (0, 51)
    ]
    scalars = []
    for step, values in SCALARS:
        summary = Summary(value=[Summary.Value(tag=tag, simple_value=value) for tag, value in values.items()])
        # JSON has no infinity and no NaN, so numbers are texts.
        said = [[tag, repr(value)] for tag, value in values.items()]
        scalars.append({"step": step, "scalars": said, "bytes": framed(Event(wall_time=WALL_TIME, step=step, summary=summary))})
    OUTPUT.parent.mkdir(parents=True, exist_ok=True)
    OUTPUT.write_text(json.dumps(
        {"tensorboard": tensorboard.__version__, "wall_time": WALL_TIME, "version": framed(version), "start": start, "scalars": scalars},
        indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()

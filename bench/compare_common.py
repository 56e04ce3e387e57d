"""What the comparisons with TRL share: arguments, child processes, clocks, medians and the report.

Both sides train the same model on the same ids with the same number of threads, in fp32, runs taken in turn. Step time is taken over the steps after
the first ones, of all rounds: median, least and most. Peak memory is the operating system's figure for the whole process. Before anything is reported
the losses are compared (or, where each side learns from samples of its own, what must be equal all the same): a fast wrong result would show.

A comparison's script is started three times over: as itself; with --inputs FOLDER to make model and rows, so that their memory and libraries are
gone before anything is measured; and with --child FOLDER as TRL's process. `run` tells these apart. Its report is one JSON line:

    size, threads, tokens_per_step, gflop (model operations of a step and of its phases: flops.py), of the steps that are timed
    rlhf, trl: seconds (a step: median, low, high), seconds_by_round, tokens_per_second, peak_gb, wall_seconds, others (cores busy with something
        else meanwhile; figures are to be trusted where it is below 0.1); of training outside_seconds (of
        the process but not of its steps: loading, encoding, saving) and phases (seconds a step)
    speed_ratio, speed_ratio_by_round, memory_ratio
"""

import argparse
import functools
import json
import os
import pathlib
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

import flops
import inputs

SHAPES = {
    "tiny": dict(hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2, vocab_size=32768),
    "25m": dict(hidden_size=384, intermediate_size=1024, num_hidden_layers=6, num_attention_heads=6, num_key_value_heads=2, vocab_size=32768),
    "135m": dict(hidden_size=576, intermediate_size=1536, num_hidden_layers=30, num_attention_heads=9, num_key_value_heads=3, vocab_size=49152),
    "0.5b": dict(hidden_size=896, intermediate_size=4864, num_hidden_layers=24, num_attention_heads=14, num_key_value_heads=2, vocab_size=151936),
}
SKIPPED_STEPS = 2
PHASES = {"rollout": "time/rollout", "reward": "time/reward", "reference": "time/reference", "gradients": "time/update"}


def arguments(description: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rlhf", help="the program to measure")
    parser.add_argument("--data", help="JSONL file of rows, plain or gzip")
    parser.add_argument("--tokenizer", help="folder of tokenizer.json, plain or gzip")
    parser.add_argument("--size", choices=SHAPES, default="135m")
    parser.add_argument("--vocabulary", type=int, help="of the model, in place of its size's")
    parser.add_argument("--length", type=int, help="tokens of every row, cut from the texts joined; by default rows are as long as their texts")
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--gradient_checkpointing", action="store_true", help="on both sides: keep each layer's input alone")
    parser.add_argument("--alone", action="store_true", help="rlhf without TRL")
    parser.add_argument("--extra", default="", help="further rlhf flags")
    parser.add_argument("--inputs", help=argparse.SUPPRESS)
    parser.add_argument("--child", help=argparse.SUPPRESS)
    return parser


def model_shape(args) -> dict:
    """What LlamaConfig gets, with room for the rows."""
    shape = dict(SHAPES[args.size], max_position_embeddings=max(2048, args.length or 0))
    return {**shape, "vocab_size": args.vocabulary} if args.vocabulary else shape


def shape(args) -> flops.Shape:
    """The same as flops.py counts it."""
    return flops.Shape.of(model_shape(args))


def shared_options(args, batch: int, learning_rate: float) -> dict:
    """Training options that both sides get, under the names both know."""
    return dict(max_steps=args.steps, per_device_train_batch_size=batch, learning_rate=learning_rate, lr_scheduler_type="constant", logging_steps=1,
                save_strategy="no", gradient_checkpointing=args.gradient_checkpointing, train_sampling_strategy="sequential")


def timed_rows(args, rows: list, batch: int) -> list:
    """Of the rows of all steps, `batch` a step, those of the steps that are timed."""
    return rows[batch * args.skipped : batch * args.steps]


def timed_tokens(args, lines: list[dict]) -> float:
    """Tokens of a step, mean of the steps that are timed."""
    totals = [line.get("num_tokens", 0) for line in lines]
    return (totals[-1] - totals[args.skipped - 1]) / (args.steps - args.skipped)


def flags(options: dict) -> list[str]:
    """Options as the program reads them."""
    return [part for name, value in options.items() for part in (f"--{name}", str(value).lower() if isinstance(value, bool) else str(value))]


def fail(command: list[str], code: int, errors: str) -> None:
    """Ends this process with what a child wrote, and on the last line with what failed: the child's own last line, unless a signal ended it."""
    what = " ".join(pathlib.Path(part).name for part in command[:2])
    lines = errors.split("\n")
    why = f"signal {-code}" if code < 0 else next((line for line in reversed(lines) if line.strip()), f"exit code {code}")
    sys.exit(f"{errors[-2000:]}\n{what} failed: {why}")


def measured(command: list, threads: int, standard_input: pathlib.Path | None = None) -> tuple[str, dict]:
    """Standard output, and what measure.py says with standard error, of a child process."""
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads), "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
    launcher = [sys.executable, "-I", "-S", str(pathlib.Path(__file__).with_name("measure.py"))]
    command = [str(part) for part in command]
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as errors, tempfile.NamedTemporaryFile("r") as usage:
        with open(standard_input or os.devnull) as source:
            subprocess.run([*launcher, usage.name, *command], stdin=source, stdout=out, stderr=errors, env=environment, check=True)
        figures = json.load(usage)
        out.seek(0)
        errors.seek(0)
        figures["errors"] = errors.read()
        if figures["code"] != 0:
            fail(command, figures["code"], figures["errors"])
        return out.read(), figures


# The program's side.


def planned_bytes(log: str) -> float:
    """The peak that the program announced before its first step."""
    value, unit = re.search(r"a peak of about ([\d.]+) ([MG]iB) is planned", log).groups()
    return float(value) * 2 ** {"MiB": 20, "GiB": 30}[unit]


def run_rlhf(args, command: str, folder: pathlib.Path, options: dict) -> dict:
    output = folder / "rlhf"
    shutil.rmtree(output, ignore_errors=True)
    options = {**options, "dataset_name": folder / "rows.jsonl", "output_dir": output, "cache_dir": folder / "cache", "threads": args.threads}
    _, usage = measured([args.rlhf, command, *flags(options), *args.extra.split()], args.threads)
    lines = inputs.read_rows(output / "metrics.jsonl")
    return {"times": [line["step_time"] for line in lines], "losses": [line["loss"] for line in lines],
            "tokens": timed_tokens(args, lines), "lines": lines, **usage, "planned": planned_bytes(usage["errors"]),
            "phases": {phase: [line.get(key, 0.0) for line in lines] for phase, key in PHASES.items() if key in lines[0]}}


# TRL's side.


class Clock:
    """Seconds of each step, and within a step of each phase."""

    def __init__(self):
        self.times = []
        self.steps = [{}]
        self.begin()

    def begin(self) -> None:
        self.start = time.perf_counter()

    def end(self) -> None:
        self.times.append(time.perf_counter() - self.start)
        self.steps.append({})

    def timed(self, phase: str, call, when=lambda *arguments: True, note=lambda found: None):
        """`call` with its time added to the phase, where `when(*arguments)`; `note` sees what it returned."""

        @functools.wraps(call)
        def wrapper(*arguments, **options):
            if not when(*arguments):
                return call(*arguments, **options)
            start = time.perf_counter()
            found = call(*arguments, **options)
            self.steps[-1][phase] = self.steps[-1].get(phase, 0.0) + time.perf_counter() - start
            note(found)
            return found

        return wrapper

    def phases(self) -> dict[str, list[float]]:
        names = dict.fromkeys(name for step in self.steps for name in step)
        return {name: [step.get(name, 0.0) for step in self.steps[:-1]] for name in names}


def trl_options(folder: pathlib.Path) -> dict:
    """What TRL needs beside shared_options to run on a CPU."""
    return dict(output_dir=str(folder / "trl"), use_cpu=True, bf16=False, report_to="none", disable_tqdm=True)


def trl_model(folder: pathlib.Path, name: str = "model", classifier: bool = False, adapter: bool = False):
    """A model as TRL runs it fastest on a CPU: fp32, sdpa; with `adapter` the one in the folder, trained."""
    import torch
    from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification

    load = AutoModelForSequenceClassification if classifier else AutoModelForCausalLM
    model = load.from_pretrained(folder / name, dtype=torch.float32, attn_implementation="sdpa")
    if adapter:
        from peft import PeftModel

        model = PeftModel.from_pretrained(model, folder / "adapter", is_trainable=True)
    return model


def step_clock(clock: Clock, steps_follow: bool = False):
    """The callback that tells the clock of steps; with `steps_follow`, of a trainer that says where they end alone."""
    from transformers import TrainerCallback

    class Steps(TrainerCallback):
        def on_train_begin(self, *args, **kwargs):
            clock.begin()

        def on_step_begin(self, *args, **kwargs):
            clock.begin()

        def on_step_end(self, *args, **kwargs):
            clock.end()
            if steps_follow:
                clock.begin()

    return Steps()


def train_trl(args, trainer, clock: Clock) -> None:
    """Trains, with a clock around the loss and its backward pass, and sends the figures."""
    trainer.compute_loss = clock.timed("gradients", trainer.compute_loss)
    trainer.accelerator.backward = clock.timed("gradients", trainer.accelerator.backward)
    trainer.train()
    lines = [line for line in trainer.state.log_history if "loss" in line]
    send(times=clock.times, losses=[line["loss"] for line in lines], tokens=timed_tokens(args, lines), lines=lines,
         phases=clock.phases())


def send(**figures) -> None:
    """From TRL's process to run_trl."""
    print("RESULT " + json.dumps(figures))


def run_trl(args, script: str, folder: pathlib.Path) -> dict:
    """Runs `script` again as TRL's process, with the same arguments."""
    out, usage = measured([sys.executable, script, *sys.argv[1:], "--child", str(folder)], args.threads)
    return {**json.loads(next(line for line in out.splitlines() if line.startswith("RESULT "))[7:]), **usage}


# The report.


def figure(value: float) -> float:
    return float(f"{value:.4g}")


def spread(values: list[float]) -> dict[str, float]:
    return {"median": figure(statistics.median(values)), "low": figure(min(values)), "high": figure(max(values))}


def phase_report(runs: list[dict], skipped: int, rest: str) -> dict[str, float]:
    """Median seconds a step of each phase, and of the rest of the step; nothing where no phases are known."""
    phases = {phase: [s for run in runs for s in run["phases"][phase][skipped:]] for phase in runs[0]["phases"]}
    if phases:
        steps = [s for run in runs for s in run["times"][skipped:]]
        phases[rest] = [step - sum(parts) for step, *parts in zip(steps, *phases.values(), strict=True)]
    return {phase: figure(statistics.median(seconds)) for phase, seconds in phases.items()}


def side_report(runs: list[dict], tokens: float, skipped: int, rest: str) -> dict:
    steps = [s for run in runs for s in run["times"][skipped:]]
    report = {"seconds": spread(steps), "seconds_by_round": [figure(statistics.median(run["times"][skipped:])) for run in runs],
              "tokens_per_second": spread([tokens / s for s in steps]), "peak_gb": spread([run["peak"] / 1e9 for run in runs]),
              "wall_seconds": spread([run["wall"] for run in runs]), "others": spread([run["others"] for run in runs])}
    if "planned" in runs[0]:
        report["planned_gb"] = figure(runs[0]["planned"] / 1e9)
    if "lines" in runs[0]:  # a training run
        report["outside_seconds"] = spread([run["wall"] - sum(run["times"]) for run in runs])
        report["phases"] = phase_report(runs, skipped, rest)
    return report


def worst_difference(args, results: dict[str, list[dict]], tolerance: float = 1e-3) -> dict:
    """Stops unless both sides had the same losses."""
    for name, runs in results.items():
        assert all(loss == loss for loss in runs[0]["losses"]), f"{name}: a loss is no number"
    if "trl" not in results:
        return {}
    worst = max(abs(a - b) for a, b in zip(results["rlhf"][0]["losses"], results["trl"][0]["losses"], strict=True))
    assert worst < tolerance, f"the losses differ by {worst}: nothing is compared"
    return {"worst_loss_difference": worst}


def ratios(report: dict) -> dict:
    """How many times as fast rlhf is, and its share of TRL's memory."""
    ours, theirs = report["rlhf"], report["trl"]
    rounds = [b / a for a, b in zip(ours["seconds_by_round"], theirs["seconds_by_round"])]
    return {"speed_ratio": figure(theirs["seconds"]["median"] / ours["seconds"]["median"]), "speed_ratio_by_round": [figure(r) for r in rounds],
            "memory_ratio": figure(ours["peak_gb"]["median"] / theirs["peak_gb"]["median"])}


def sides(report: dict) -> list[dict]:
    """What the report says of each side."""
    return [report[name] for name in ("rlhf", "trl") if name in report]


def run(args, script: str, *, make_inputs, rlhf, child, check, counts: dict, skipped: int = SKIPPED_STEPS, rest: str = "rest") -> dict | None:
    """The report of a comparison; nothing in the processes that make its inputs and run TRL.

    make_inputs(args, folder) writes model and rows. rlhf(args, folder) runs the program once and gives times (seconds of each step), tokens (of a
    step), peak, wall and phases; child(args, folder) sends the same of TRL. check(args, results) stops unless both sides did the same work, and gives
    figures for the report. `counts` are functions (args, folder) of model and rows, whose figures the report gets under their names, such as the
    operations of a step and of its phases. Figures leave out the first `skipped` steps; what no phase covers is named `rest`."""
    args.skipped = skipped
    if args.inputs or args.child:
        (make_inputs if args.inputs else child)(args, pathlib.Path(args.inputs or args.child))
        return None
    if args.steps <= skipped:
        sys.exit(f"more than {skipped} steps are needed: the first ones are not counted")
    with tempfile.TemporaryDirectory() as scratch:
        folder = pathlib.Path(scratch)
        subprocess.run([sys.executable, script, *sys.argv[1:], "--inputs", str(folder)], check=True)
        sides = {"rlhf": lambda: rlhf(args, folder)} | ({} if args.alone else {"trl": lambda: run_trl(args, script, folder)})
        results = {name: [] for name in sides}
        for _ in range(args.rounds):
            for name, side in sides.items():
                results[name].append(side())
        counted = {name: {part: figure(value) for part, value in count(args, folder).items()} for name, count in counts.items()}
    tokens = results["rlhf"][0]["tokens"]
    assert all(abs(run["tokens"] - tokens) < 0.5 for runs in results.values() for run in runs), "other tokens are counted: nothing is compared"
    report = {"size": args.size, "threads": args.threads, "tokens_per_step": tokens, **counted, **check(args, results)}
    report.update({name: side_report(runs, tokens, skipped, rest) for name, runs in results.items()})
    return report | ({} if args.alone else ratios(report))

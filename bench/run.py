"""Runs rlhf and TRL in turn over a table of works and writes what they took as JSON, and as the tables of docs/benchmarks.md.

Run:  python bench/run.py --rlhf build/release/cli/rlhf --data DIR --out bench.json --table docs/benchmarks.md
      python bench/run.py --rlhf build/release/cli/rlhf --data DIR --work sft,dpo --size 135m --length short,2k --out bench.json
      python bench/run.py --rlhf build/release/cli/rlhf --data DIR --growth tokens,vocabulary,group,prompt --out bench.json
      python bench/run.py --out bench.json --table docs/benchmarks.md          (nothing is run)

DIR holds gsm8k/, hh-harmless/ and tokenizers/qwen3/; by default it is the folder that RLHF_DATA names. This needs Python 3.11 and no package: each
work is a run of a compare_*.py by the Python of TRL's own environment (environment.py; --python and --trl112 name another). A work measures both
sides by turns, --rounds times. Growth is of rlhf alone.

Before each work `rlhf env` measures the machine on the same threads: products and memory read are what utilisation refers to, since a shared
machine's speed wanders. Where TRL fails, for want of memory as a rule, the work is run again without it and TRL's last words are kept.

--out is written after each work. Results that it holds already stay, if they are of the same machine and versions, until the same is measured again;
so a table can be made in several sittings. README.md describes the layout.
"""

import argparse
import datetime
import json
import os
import pathlib
import shutil
import subprocess
import sys
from typing import NamedTuple

import compare_common as common
import environment
import table

HERE = pathlib.Path(__file__).resolve().parent
GSM8K, HH = "gsm8k/train.jsonl", "hh-harmless/test.jsonl"
LENGTHS = {"short": "", "2k": "--length 2048", "8k": "--length 8192 --gradient_checkpointing"}


class Work(NamedTuple):
    script: str
    data: str
    flags: str = ""
    few: str = ""  # also where rows or the model are large: as many rows as TRL finds room for in 24 GB
    has_model: bool = True


WORKS = {
    "sft": Work("compare_sft.py", GSM8K, few="--batch 1"),
    "sft-lora": Work("compare_sft.py", GSM8K, "--lora", few="--batch 1"),
    "dpo": Work("compare_preference.py", HH, "--method dpo --reference step --batch 4", few="--batch 1"),
    "dpo-lora": Work("compare_preference.py", HH, "--method dpo_lora --reference step --batch 4", few="--batch 1"),
    "reward": Work("compare_preference.py", HH, "--method reward --batch 4", few="--batch 1"),
    "grpo": Work("compare_grpo.py", GSM8K, "--steps 4", few="--prompts 1 --trl_batch 1"),
    "ppo": Work("compare_ppo.py", GSM8K, "--prompts 8", few="--prompts 4 --trl_batch 1"),
    "sampling": Work("compare_sampling.py", GSM8K),
    "sampling-one": Work("compare_sampling.py", GSM8K, "--prompts 1 --samples 1"),
    "tokenise": Work("compare_tokenise.py", GSM8K, has_model=False),
}


class Growth(NamedTuple):
    script: str
    data: str
    flags: str
    by: str
    values: tuple[float, ...]


GROWTH = {
    "tokens": Growth("compare_sft.py", GSM8K, "--steps 4 --length 512", "--batch", (1, 2, 4, 8, 16, 32)),
    "length": Growth("compare_sft.py", GSM8K, "--steps 4 --batch 1", "--length", (512, 1024, 2048, 4096, 8192)),
    "vocabulary": Growth("compare_sft.py", GSM8K, "--steps 4 --length 512 --batch 4", "--vocabulary", (8192, 16384, 32768, 65536, 131072)),
    "group": Growth("compare_grpo.py", GSM8K, "--steps 3 --prompts 1", "--samples", (2, 4, 8, 16, 32)),
    "prompt": Growth("compare_preference.py", HH, "--steps 4 --method dpo --reference step --batch 4 --length 1024", "--prompt_share",
                     (0.0, 0.25, 0.5, 0.75, 0.9)),
}


class Bench:
    """What all runs have in common."""

    def __init__(self, args):
        self.args = args
        self.python = pathlib.Path(args.python) if args.python else environment.make_environment()
        self.trl112 = None
        if "ppo" in args.work:
            self.trl112 = pathlib.Path(args.trl112) if args.trl112 else environment.make_ppo_trl(self.python)
        self.commit = last_line(subprocess.run(["git", "describe", "--always", "--dirty"], cwd=HERE, capture_output=True, text=True).stdout)

    def machine(self) -> dict:
        """What `rlhf env` says, measured now."""
        command = [self.args.rlhf, "env", "--json", "--threads", str(self.args.threads)]
        return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)

    def command(self, script: str, data: str, flags: list[str]) -> list[str]:
        """Of a comparison; later flags win over earlier ones."""
        args, data_folder = self.args, pathlib.Path(self.args.data)
        shared = {"--rlhf": args.rlhf, "--data": data_folder / data, "--tokenizer": data_folder / "tokenizers" / "qwen3", "--size": args.size,
                  "--rounds": args.rounds, "--threads": args.threads}
        if script == "compare_ppo.py":
            shared["--trl"] = self.trl112
        given = ["--steps", args.steps] if args.steps is not None else []
        return [str(part) for part in [self.python, HERE / script, *(word for pair in shared.items() for word in pair), *flags, *given]]

    def run(self, script: str, data: str, flags: list[str]) -> dict:
        """A comparison's report with the utilisation of what was measured just before; where it fails, with TRL's failure or its own."""
        flags = [*flags, *self.args.extra.split()]
        machine = self.machine()
        peaks = {key: machine[key] for key in ("gflops_fp32", "read_gb_per_s", "copy_gb_per_s")}
        labels = {"day": datetime.date.today().isoformat(), "commit": self.commit, "flags": " ".join(flags), "peaks": peaks}
        command = self.command(script, data, flags)
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode != 0 and "--alone" not in flags:
            labels["trl_failed"] = last_line(done.stderr)
            done = subprocess.run([*command, "--alone"], capture_output=True, text=True)
        if done.returncode != 0:
            return {**labels, "failed": last_line(done.stderr)}
        report = json.loads(last_line(done.stdout))
        for side in ("rlhf", "trl"):
            if side in report:
                report[side].update(utilisation(report, report[side], peaks))
        return {**labels, **report}


def last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else ""


def utilisation(report: dict, side: dict, peaks: dict) -> dict:
    """Model FLOPs a second over the product peak, of the step and of each phase that has both; bytes read a second over the memory's."""
    seconds = {"step": side["seconds"]["median"], **side.get("phases", {})}
    found = {}
    if "gflop" in report:
        gflop = report["gflop"]
        known = {part: s for part, s in seconds.items() if part in gflop and s > 0.0}
        found["flop_utilisation"] = {part: round(gflop[part] / s / peaks["gflops_fp32"], 4) for part, s in known.items()}
    if "read_gb" in report:
        read = {"weights": report["read_gb"]["weights"], "all": sum(report["read_gb"].values())}
        found["read_utilisation"] = {part: round(gb / seconds["step"] / peaks["read_gb_per_s"], 4) for part, gb in read.items()}
    return found


def tasks(args):
    """(labels, script, data, flags) of all that is asked for."""
    for name in args.work:
        work = WORKS[name]
        if not work.has_model:
            yield {"work": name}, work.script, work.data, work.flags.split()
            continue
        for length in args.length:
            few = work.few if length != "short" or args.size == "0.5b" else ""
            yield {"work": name, "size": args.size, "length": length}, work.script, work.data, f"{work.flags} {few} {LENGTHS[length]}".split()
    for name in args.growth:
        growth = GROWTH[name]
        for value in growth.values:
            labels = {"growth": name, "value": value, "size": args.size}
            yield labels, growth.script, growth.data, [*growth.flags.split(), growth.by, str(value), "--alone"]


def read_results(path: pathlib.Path) -> dict:
    try:
        held = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        sys.exit(f"{path}: results were expected: {error}. HINT: name another file by --out")
    if not isinstance(held, dict) or "results" not in held:
        sys.exit(f"{path}: results were expected, got other JSON. HINT: name another file by --out")
    return held


class Results:
    """The file of results: opened, checked against this machine, and written after each."""

    def __init__(self, path: pathlib.Path, head: dict):
        self.path = path
        self.content = {"format": 1, **head, "results": []}
        if path.exists():
            held = read_results(path)
            if {key: held.get(key) for key in head} != head:
                sys.exit(f"{path} is of another machine or of other versions. HINT: name another file by --out")
            self.content = held

    def add(self, labels: dict, report: dict) -> None:
        kept = [one for one in self.content["results"] if any(one.get(key) != value for key, value in labels.items())]
        self.content["results"] = [*kept, {**report, **labels}]
        self.path.write_text(json.dumps(self.content, indent=1) + "\n")


def names(known):
    """Reads names between commas; `all` is all that are known."""

    def read(text: str) -> list[str]:
        asked = list(known) if text == "all" else [name for name in text.split(",") if name]
        if unknown := [name for name in asked if name not in known]:
            raise argparse.ArgumentTypeError(f"{', '.join(known)} or all were expected, got {', '.join(unknown)}")
        return asked

    return read


def at_least(least: int):
    """Reads a whole number of `least` or more."""

    def read(text: str) -> int:
        if not text.lstrip("+").isdigit() or int(text) < least:
            raise argparse.ArgumentTypeError(f"a whole number of at least {least} was expected, got {text}")
        return int(text)

    return read


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rlhf", help="the program to measure; without it nothing is run")
    parser.add_argument("--data", default=os.environ.get("RLHF_DATA"))
    parser.add_argument("--work", type=names(WORKS), help=f"{', '.join(WORKS)}; all by default, none where --growth is given")
    parser.add_argument("--growth", type=names(GROWTH), default=[], help=", ".join(GROWTH))
    parser.add_argument("--length", type=names(LENGTHS), default=["short"], help=", ".join(LENGTHS))
    parser.add_argument("--size", choices=common.SHAPES, default="135m")
    parser.add_argument("--rounds", type=at_least(1), default=3)
    parser.add_argument("--steps", type=at_least(common.SKIPPED_STEPS + 1), help="of each training run; by default what each comparison takes")
    parser.add_argument("--threads", type=at_least(1), default=len(os.sched_getaffinity(0)))
    parser.add_argument("--extra", default="", help="further flags of the comparisons")
    parser.add_argument("--python", help="Python with torch, TRL 1.16.0 and what else environment.py names; by default one is made in build/trl")
    parser.add_argument("--trl112", help="folder of TRL 1.12.0, for ppo; by default one is made in build/")
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("bench.json"))
    parser.add_argument("--table", type=pathlib.Path, help="Markdown file that gets the tables between its markers")
    args = parser.parse_args()
    if not args.rlhf and not args.table:
        parser.error("--rlhf (what to run) or --table (what to write) was expected")
    if args.rlhf and not args.data:
        parser.error("--data, or RLHF_DATA in the environment, was expected")
    if args.rlhf and not shutil.which(args.rlhf):
        parser.error(f"--rlhf: a program was expected, {args.rlhf} is none. HINT: make build")
    for part in ("gsm8k", "hh-harmless", "tokenizers/qwen3") if args.rlhf else ():
        if not (pathlib.Path(args.data) / part).is_dir():
            parser.error(f"--data: a folder with {part}/ was expected, {args.data} has none")
    if args.work is None:
        args.work = [] if args.growth else list(WORKS)
    return args


def measure(args) -> bool:
    """Whether all that was asked for was measured."""
    bench = Bench(args)
    machine = bench.machine()
    head = {"machine": {key: machine[key] for key in ("cpu", "cores", "cpu_flags")} | {"threads": args.threads},
            "versions": {"rlhf": machine["rlhf"], "libtorch": machine["torch"], "compiler": machine["compiler"],
                         **environment.versions(bench.python)}}
    results = Results(args.out, head)
    whole = True
    for labels, script, data, flags in tasks(args):
        print(" ".join(str(value) for value in labels.values()), end=" ", file=sys.stderr, flush=True)
        report = bench.run(script, data, flags)
        results.add(labels, report)
        print(report.get("failed") or table.summary(report), file=sys.stderr)
        whole = whole and "failed" not in report
    return whole


def main() -> None:
    args = arguments()
    whole = measure(args) if args.rlhf else True
    if args.table:
        table.write(args.table, read_results(args.out))
    sys.exit(0 if whole else 1)


if __name__ == "__main__":
    main()

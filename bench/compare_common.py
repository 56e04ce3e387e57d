"""What the comparisons with TRL share: inputs, child processes, medians and the report.

Both sides train the same model on the same ids with the same number of threads, in fp32, runs taken in turn. Step time is the median over the
steps after the first ones; peak memory is the operating system's figure for the whole process. Before anything is reported the losses are compared
(or, where each side learns from samples of its own, what must be equal all the same): a fast wrong result would show.
"""

import argparse
import gzip
import json
import os
import pathlib
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

SHAPES = {
    "tiny": dict(hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2, vocab_size=32768),
    "25m": dict(hidden_size=384, intermediate_size=1024, num_hidden_layers=6, num_attention_heads=6, num_key_value_heads=2, vocab_size=32768),
    "135m": dict(hidden_size=576, intermediate_size=1536, num_hidden_layers=30, num_attention_heads=9, num_key_value_heads=3, vocab_size=49152),
}
EOS, PAD = 0, 1
SKIPPED_STEPS = 2


def arguments(description: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rlhf", help="the program to measure")
    parser.add_argument("--data", help="JSONL file of rows, plain or gzip")
    parser.add_argument("--tokenizer", help="folder of tokenizer.json, plain or gzip")
    parser.add_argument("--size", choices=SHAPES, default="135m")
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--extra", default="", help="further rlhf flags")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    return parser


def read_text(path: pathlib.Path) -> str:
    """A text file, or the one of that name with .gz."""
    for candidate in (path, path.with_name(path.name + ".gz")):
        if candidate.exists():
            data = candidate.read_bytes()
            return (gzip.decompress(data) if candidate.suffix == ".gz" else data).decode()
    sys.exit(f"{path} is not there")


def read_rows(path: str) -> list[dict]:
    return [json.loads(line) for line in read_text(pathlib.Path(path)).splitlines()]


def write_rows(path: pathlib.Path, rows: list[dict]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


class FoldedTokenizer:
    """A real tokenizer whose ids are folded into a smaller vocabulary (id modulo its size): real lengths and repetitions for a random model."""

    def __init__(self, folder: str, vocabulary: int):
        from tokenizers import Tokenizer

        self.tokenizer = Tokenizer.from_str(read_text(pathlib.Path(folder) / "tokenizer.json"))
        self.vocabulary = vocabulary

    def encode(self, text: str) -> list[int]:
        return [i % self.vocabulary for i in self.tokenizer.encode(text).ids]


def make_model(folder: pathlib.Path, shape: dict, classifier: bool = False, eos: int = EOS, words: dict[str, int] | None = None) -> None:
    """A Llama of the shape with random weights, and a tokenizer of <eos>, <pad> and `words` between spaces.

    An `eos` beyond the model's vocabulary is the tokenizer's alone."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM, LlamaForSequenceClassification

    torch.manual_seed(0)
    config = LlamaConfig(**shape, max_position_embeddings=2048, tie_word_embeddings=not classifier, rms_norm_eps=1e-5, rope_theta=100000.0,
                         bos_token_id=None, eos_token_id=eos if eos < shape["vocab_size"] else None, pad_token_id=PAD,
                         **({"num_labels": 1} if classifier else {}))
    (LlamaForSequenceClassification if classifier else LlamaForCausalLM)(config).save_pretrained(folder)
    vocabulary = {"<eos>": eos, "<pad>": PAD, "<unk>": 2, **(words or {})}
    stand_in = {"version": "1.0", "model": {"type": "WordLevel", "vocab": vocabulary, "unk_token": "<unk>"},
                "added_tokens": [{"id": eos, "content": "<eos>", "special": True}, {"id": PAD, "content": "<pad>", "special": True}]}
    for token in stand_in["added_tokens"]:
        token.update(single_word=False, lstrip=False, rstrip=False, normalized=False)
    stand_in.update(truncation=None, padding=None, normalizer=None, pre_tokenizer={"type": "WhitespaceSplit"} if words else None,
                    post_processor=None, decoder=None)
    (folder / "tokenizer.json").write_text(json.dumps(stand_in))
    (folder / "tokenizer_config.json").write_text(json.dumps(
        {"eos_token": "<eos>", "pad_token": "<pad>", "unk_token": "<unk>", "tokenizer_class": "PreTrainedTokenizerFast"}))


def shared_options(steps: int, batch: int, learning_rate: float) -> dict:
    """Training options that both sides get, under the names both know."""
    return dict(max_steps=steps, per_device_train_batch_size=batch, learning_rate=learning_rate, lr_scheduler_type="constant", logging_steps=1,
                save_strategy="no", gradient_checkpointing=False, train_sampling_strategy="sequential")


def trl_options(folder: pathlib.Path) -> dict:
    """What TRL needs beside them to run on a CPU."""
    return dict(output_dir=str(folder / "trl"), use_cpu=True, bf16=False, report_to="none", disable_tqdm=True)


def train_trl(make_trainer, threads: int, **more) -> None:
    """The child process of TRL: builds the trainer (`make_trainer(callbacks)`), trains, prints one JSON line with `more` in it."""
    import torch

    torch.set_num_threads(threads)
    from transformers import TrainerCallback

    times = []

    class Clock(TrainerCallback):
        def on_step_begin(self, *args, **kwargs):
            self.start = time.perf_counter()

        def on_step_end(self, *args, **kwargs):
            times.append(time.perf_counter() - self.start)

    trainer = make_trainer([Clock()])
    trainer.train()
    history = [line for line in trainer.state.log_history if "loss" in line]
    tokens = history[-1].get("num_tokens", 0) / len(history)
    print("RESULT " + json.dumps({"times": times, "losses": [line["loss"] for line in history], "tokens": tokens, "lines": history, **more}))


def measured(command: list[str], threads: int) -> tuple[str, dict]:
    """Standard output, and peak resident bytes and seconds, of a child process."""
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads), "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as errors:
        start = time.perf_counter()
        child = subprocess.Popen(command, stdout=out, stderr=errors, env=environment)
        _, status, usage = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
        seconds = time.perf_counter() - start
        out.seek(0)
        if child.returncode != 0:
            errors.seek(0)
            sys.exit(f"{' '.join(command[:3])} … failed with {child.returncode}\n{errors.read()[-2000:]}")
        return out.read(), {"peak": usage.ru_maxrss * 1024, "wall": seconds}


def run_rlhf(args, command: str, folder: pathlib.Path, options: dict) -> dict:
    output = folder / "rlhf"
    shutil.rmtree(output, ignore_errors=True)
    options = {**options, "dataset_name": folder / "rows.jsonl", "output_dir": output, "cache_dir": folder / "cache", "threads": args.threads}
    flags = [part for name, value in options.items() for part in (f"--{name}", str(value).lower() if isinstance(value, bool) else str(value))]
    _, usage = measured([args.rlhf, command, *flags, *args.extra.split()], args.threads)
    lines = read_rows(str(output / "metrics.jsonl"))
    return {"times": [line["step_time"] for line in lines], "losses": [line["loss"] for line in lines],
            "tokens": lines[-1].get("num_tokens", 0) / len(lines), "lines": lines, **usage}


def run_trl(args, script: str, folder: pathlib.Path) -> dict:
    """Runs `script` again as TRL's child process, with the same arguments."""
    out, usage = measured([sys.executable, script, *sys.argv[1:], "--child", str(folder)], args.threads)
    result = json.loads(next(line for line in out.splitlines() if line.startswith("RESULT "))[7:])
    return {**result, **usage}


def in_turn(args, rlhf, trl) -> dict[str, list[dict]]:
    """The figures of both sides' runs, taken in turn: `rlhf()` and `trl()` return those of one."""
    results = {"rlhf": [], "trl": []}
    for _ in range(args.rounds):
        results["rlhf"].append(rlhf())
        results["trl"].append(trl())
    return results


def side_report(runs: list[dict], tokens: float, skipped: int) -> dict:
    steps = [statistics.median(run["times"][skipped:]) for run in runs]
    return {"seconds_per_step": [round(s, 3) for s in steps], "tokens_per_second": round(tokens / statistics.median(steps), 1),
            "peak_gb": round(max(run["peak"] for run in runs) / 1e9, 2),
            "wall_seconds": round(statistics.median(run["wall"] for run in runs), 1)}


def print_report(report: dict) -> None:
    report["speed_ratio"] = round(report["rlhf"]["tokens_per_second"] / report["trl"]["tokens_per_second"], 2)
    report["memory_ratio"] = round(report["rlhf"]["peak_gb"] / report["trl"]["peak_gb"], 3)
    print(json.dumps(report))


def compare(args, rlhf, trl, tolerance: float = 1e-3, **labels) -> None:
    """Runs both in turn, compares the losses and prints the report."""
    results = in_turn(args, rlhf, trl)
    worst = max(abs(a - b) for a, b in zip(results["rlhf"][0]["losses"], results["trl"][0]["losses"], strict=True))
    assert worst < tolerance, f"the losses differ by {worst}: nothing is compared"
    tokens = results["trl"][0]["tokens"]
    assert abs(results["rlhf"][0]["tokens"] - tokens) < 0.5, "the two sides count other tokens: nothing is compared"
    report = {**labels, "size": args.size, "threads": args.threads, "worst_loss_difference": worst, "tokens_per_step": tokens}
    report.update({name: side_report(runs, tokens, SKIPPED_STEPS) for name, runs in results.items()})
    print_report(report)

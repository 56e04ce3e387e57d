"""Supervised fine-tuning side by side with TRL: the same rows, model, threads and precision, runs taken in turn.

Run:  python bench/compare_sft.py --rlhf build/release/cli/rlhf --data DIR/gsm8k/train.jsonl --tokenizer DIR/tokenizers/qwen3

The Python that runs this needs torch, trl 1.16.0 and transformers. The model is SmolLM2-135M's shape with random weights. Rows are GSM8K
questions with their answers, encoded with the tokenizer given and folded into the model's vocabulary (id modulo 49152), so that both sides read
the very same ids. Step time is the median over the steps after the first two; peak memory is the operating system's figure for the
whole process. Before anything is reported the losses of the first steps are compared: a fast wrong result would show.
Both sides: fp32, batch 8, no gradient checkpointing, AdamW, rows in file order. TRL's best settings on a CPU: attn_implementation sdpa.
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

SHAPES = {
    "25m": dict(hidden_size=384, intermediate_size=1024, num_hidden_layers=6, num_attention_heads=6, num_key_value_heads=2, vocab_size=32768),
    "135m": dict(hidden_size=576, intermediate_size=1536, num_hidden_layers=30, num_attention_heads=9, num_key_value_heads=3, vocab_size=49152),
}
LEARNING_RATE = 1e-4
SKIPPED_STEPS = 2


def make_inputs(folder: pathlib.Path, shape: dict, data: str, tokenizer_folder: str, rows: int) -> None:
    import torch
    from tokenizers import Tokenizer
    from transformers import LlamaConfig, LlamaForCausalLM

    packed = pathlib.Path(tokenizer_folder) / "tokenizer.json.gz"
    text = gzip.open(packed, "rt").read() if packed.exists() else (pathlib.Path(tokenizer_folder) / "tokenizer.json").read_text()
    tokenizer = Tokenizer.from_str(text)
    model = folder / "model"
    torch.manual_seed(0)
    config = LlamaConfig(**shape, max_position_embeddings=2048, tie_word_embeddings=True, rms_norm_eps=1e-5, rope_theta=100000.0,
                         bos_token_id=None, eos_token_id=0, pad_token_id=1)
    LlamaForCausalLM(config).save_pretrained(model)
    stand_in = {"version": "1.0", "model": {"type": "WordLevel", "vocab": {"<eos>": 0, "<pad>": 1, "<unk>": 2}, "unk_token": "<unk>"},
                "added_tokens": [{"id": 0, "content": "<eos>", "special": True}, {"id": 1, "content": "<pad>", "special": True}]}
    for token in stand_in["added_tokens"]:
        token.update(single_word=False, lstrip=False, rstrip=False, normalized=False)
    stand_in.update(truncation=None, padding=None, normalizer=None, pre_tokenizer=None, post_processor=None, decoder=None)
    (model / "tokenizer.json").write_text(json.dumps(stand_in))
    (model / "tokenizer_config.json").write_text(json.dumps(
        {"eos_token": "<eos>", "pad_token": "<pad>", "unk_token": "<unk>", "tokenizer_class": "PreTrainedTokenizerFast"}))
    with open(folder / "rows.jsonl", "w") as out:
        for line in open(data).read().splitlines()[:rows]:
            row = json.loads(line)
            prompt = tokenizer.encode(row["question"] + "\n").ids
            answer = tokenizer.encode(row["answer"]).ids
            ids = [i % shape["vocab_size"] for i in prompt + answer] + [0]
            out.write(json.dumps({"input_ids": ids, "labels": ids}) + "\n")


def run_trl(folder: pathlib.Path, steps: int, threads: int) -> None:
    """The child process of TRL; prints one JSON line."""
    import time

    import torch

    torch.set_num_threads(threads)
    from datasets import Dataset
    from transformers import TrainerCallback
    from trl import SFTConfig, SFTTrainer

    times = []

    class Clock(TrainerCallback):
        def on_step_begin(self, *args, **kwargs):
            self.start = time.perf_counter()

        def on_step_end(self, *args, **kwargs):
            times.append(time.perf_counter() - self.start)

    rows = [json.loads(line) for line in open(folder / "rows.jsonl")]
    config = SFTConfig(output_dir=str(folder / "trl"), use_cpu=True, bf16=False, max_steps=steps, per_device_train_batch_size=8,
                       learning_rate=LEARNING_RATE, lr_scheduler_type="constant", logging_steps=1, save_strategy="no", report_to="none",
                       gradient_checkpointing=False, train_sampling_strategy="sequential", disable_tqdm=True, max_length=1024,
                       model_init_kwargs={"dtype": "float32", "attn_implementation": "sdpa"})
    trainer = SFTTrainer(model=str(folder / "model"), args=config, train_dataset=Dataset.from_list(rows), callbacks=[Clock()])
    trainer.train()
    history = [line for line in trainer.state.log_history if "loss" in line]
    tokens = history[-1]["num_tokens"] / len(history)
    print("RESULT " + json.dumps({"times": times, "losses": [line["loss"] for line in history], "tokens": tokens}))


def measured(command: list[str], environment: dict) -> tuple[str, int]:
    """Standard output and peak resident bytes of a child process."""
    with tempfile.TemporaryFile("w+") as out:
        child = subprocess.Popen(command, stdout=out, stderr=subprocess.DEVNULL, env=environment)
        _, status, usage = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
        out.seek(0)
        if child.returncode != 0:
            sys.exit(f"{' '.join(command[:3])} … failed with {child.returncode}")
        return out.read(), usage.ru_maxrss * 1024


def one_rlhf(args, folder: pathlib.Path, environment: dict) -> dict:
    output = folder / "rlhf"
    shutil.rmtree(output, ignore_errors=True)
    command = [args.rlhf, "sft", "--model_name_or_path", str(folder / "model"), "--dataset_name", str(folder / "rows.jsonl"), "--output_dir",
               str(output), "--max_steps", str(args.steps), "--per_device_train_batch_size", "8", "--learning_rate", str(LEARNING_RATE),
               "--lr_scheduler_type", "constant", "--logging_steps", "1", "--save_strategy", "no", "--gradient_checkpointing", "false",
               "--train_sampling_strategy", "sequential", "--threads", str(args.threads), "--cache_dir", str(folder / "cache")] + args.extra.split()
    _, peak = measured(command, environment)
    lines = [json.loads(line) for line in open(output / "metrics.jsonl")]
    return {"times": [line["step_time"] for line in lines], "losses": [line["loss"] for line in lines],
            "tokens": lines[-1]["num_tokens"] / len(lines), "peak": peak}


def one_trl(args, folder: pathlib.Path, environment: dict) -> dict:
    out, peak = measured([sys.executable, __file__, "--child", str(folder), "--steps", str(args.steps), "--threads", str(args.threads)], environment)
    result = json.loads(next(line for line in out.splitlines() if line.startswith("RESULT "))[7:])
    return {**result, "peak": peak}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rlhf")
    parser.add_argument("--data")
    parser.add_argument("--tokenizer")
    parser.add_argument("--size", choices=SHAPES, default="135m")
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--extra", default="", help="further rlhf flags")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        return run_trl(pathlib.Path(args.child), args.steps, args.threads)

    environment = {**os.environ, "OMP_NUM_THREADS": str(args.threads), "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
    with tempfile.TemporaryDirectory() as scratch:
        folder = pathlib.Path(scratch)
        make_inputs(folder, SHAPES[args.size], args.data, args.tokenizer, 8 * args.steps)
        results = {"rlhf": [], "trl": []}
        for _ in range(args.rounds):
            results["rlhf"].append(one_rlhf(args, folder, environment))
            results["trl"].append(one_trl(args, folder, environment))
    worst = max(abs(a - b) for a, b in zip(results["rlhf"][0]["losses"], results["trl"][0]["losses"]))
    assert worst < 1e-3, f"the losses differ by {worst}: nothing is compared"
    report = {"size": args.size, "threads": args.threads, "worst_loss_difference": worst}
    for name, runs in results.items():
        steps = [statistics.median(run["times"][SKIPPED_STEPS:]) for run in runs]
        tokens = runs[0]["tokens"]
        report[name] = {"seconds_per_step": [round(s, 3) for s in steps], "tokens_per_step": tokens,
                        "tokens_per_second": round(tokens / statistics.median(steps), 1), "peak_gb": round(max(run["peak"] for run in runs) / 1e9, 2)}
    report["speed_ratio"] = round(report["rlhf"]["tokens_per_second"] / report["trl"]["tokens_per_second"], 2)
    report["memory_ratio"] = round(report["rlhf"]["peak_gb"] / report["trl"]["peak_gb"], 3)
    print(json.dumps(report))


if __name__ == "__main__":
    main()

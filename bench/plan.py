"""What `rlhf plan` says beside what a run takes: every method, full and with LoRA, at three sizes; the table of docs/memory.md.

Run:  python bench/plan.py --rlhf build/release/cli/rlhf --data DIR --out plan.json --table docs/memory.md
      python bench/plan.py --rlhf build/release/cli/rlhf --data DIR --size 25m --runs "sft|ppo" --out plan.json

Planned is what the program announces before its first step, measured the operating system's peak of the process (measure.py). Models are random; rows
are texts of GSM8K and HH joined and cut: 256 tokens a row, of pairs 128 of prompt and 128 of each answer, prompts of 64 with 128 new tokens. Two steps
of three micro-batches or so. --out keeps what it holds of other runs. The Python that runs this needs torch and transformers.
"""

import argparse
import json
import pathlib
import tempfile
from typing import NamedTuple

import compare_common as common
import inputs

STEPS, ROW, PROMPT, NEW_TOKENS, GROUP = 2, 256, 64, 128, 8
MARKS = ("<!-- plan:begin -->", "<!-- plan:end -->")
LORA = {"use_peft": True, "lora_r": 16, "lora_target_modules": "all-linear"}
LIVE = {"precompute_ref_log_probs": False}  # the reference is asked in every step
SAMPLED = {"max_completion_length": NEW_TOKENS, "num_generations": GROUP, "shuffle_dataset": False, "reward_funcs": "digit_share"}
PPO = {"response_length": NEW_TOKENS, "num_ppo_epochs": 1, "num_mini_batches": 1, "shuffle_dataset": False, "reward_model_name_or_path": "REWARD"}


class Run(NamedTuple):
    command: str
    rows: str  # the file of make_inputs
    batch: int
    options: dict


RUNS = {
    "sft": Run("sft", "rows", 8, {}),
    "sft, gradient_checkpointing": Run("sft", "rows", 8, {"gradient_checkpointing": True}),
    "sft, adamw_8bit": Run("sft", "rows", 8, {"optim": "adamw_8bit"}),
    "sft, bfloat16": Run("sft", "rows", 8, {"dtype": "bfloat16"}),
    "sft, LoRA": Run("sft", "rows", 8, LORA),
    "dpo": Run("dpo", "pairs", 6, LIVE),
    "dpo, LoRA": Run("dpo", "pairs", 6, {**LIVE, **LORA}),
    "kto": Run("kto", "unpaired", 8, LIVE),
    "reward": Run("reward", "pairs", 6, {}),
    "prm": Run("prm", "stepwise", 8, {}),
    "grpo": Run("grpo", "prompts", 2 * GROUP, {**SAMPLED, "beta": 0.04}),
    "grpo, LoRA": Run("grpo", "prompts", 2 * GROUP, {**SAMPLED, **LORA, "beta": 0.04}),
    "rloo": Run("rloo", "prompts", 2 * GROUP, {**SAMPLED, "beta": 0.05}),
    "ppo": Run("ppo", "prompts", 8, PPO),
    "ppo, LoRA": Run("ppo", "prompts", 8, {**PPO, **LORA}),
}


def make_inputs(size: str, data: pathlib.Path, folder: pathlib.Path) -> None:
    """Both models of a size, and rows for every method."""
    shape = dict(common.SHAPES[size], max_position_embeddings=2048)
    inputs.make_word_model(folder / "model", shape)
    inputs.make_word_model(folder / "reward", shape, classifier=True)
    tokenizer = inputs.FoldedTokenizer(data / "tokenizers" / "qwen3", shape["vocab_size"])
    special = (inputs.PAD, inputs.UNKNOWN)
    texts = [[i for i in tokenizer.encode(row["question"] + "\n" + row["answer"]) if i not in special]
             for row in inputs.read_rows(data / "gsm8k" / "train.jsonl")[:1000]]
    count, half = 32, ROW // 2
    write = lambda name, rows: inputs.write_rows(folder / f"{name}.jsonl", rows)
    words = lambda ids: " ".join(map(inputs.word, ids))
    rows = inputs.rows_of(texts, count, ROW)
    write("rows", [{"input_ids": ids, "labels": ids} for ids in rows])
    cut = inputs.pieces(texts, [half] * 3 * count)
    pairs = [{"prompt_ids": prompt, "chosen_ids": chosen, "rejected_ids": rejected} for prompt, chosen, rejected in zip(cut, cut, cut)]
    write("pairs", pairs)
    write("unpaired", [{"prompt_ids": pair["prompt_ids"], "completion_ids": pair["chosen_ids"], "label": i % 2 == 0} for i, pair in enumerate(pairs)])
    write("stepwise", [{"prompt": words(ids[:PROMPT]), "completions": [words(ids[PROMPT:half]), words(ids[half:])], "labels": [True, i % 2 == 0]}
                       for i, ids in enumerate(rows)])
    write("prompts", [{"prompt": words(ids[:PROMPT])} for ids in rows])


def measure(args, run: Run, folder: pathlib.Path) -> dict:
    options = {"model_name_or_path": folder / "model", "dataset_name": folder / f"{run.rows}.jsonl", "output_dir": folder / "out",
               "overwrite_output_dir": True, "cache_dir": folder / "cache", "threads": args.threads, "max_steps": STEPS,
               "per_device_train_batch_size": run.batch, "save_strategy": "no", "gradient_checkpointing": False, **run.options}
    options = {key: folder / "reward" if value == "REWARD" else value for key, value in options.items()}
    _, usage = common.measured([args.rlhf, run.command, *common.flags(options)], args.threads)
    return {"planned": common.planned_bytes(usage["errors"]), "measured": usage["peak"], "seconds": usage["wall"]}


def table(results: dict) -> str:
    lines = ["| run | " + " | ".join(results) + " |", "|---|" + "---|" * len(results)]

    def cell(found: dict | None) -> str:
        if found is None:
            return ""
        if "failed" in found:
            return found["failed"]
        return f"{found['planned'] / 2**20:.0f} for {found['measured'] / 2**20:.0f} MiB, {found['planned'] / found['measured'] - 1:+.1%}".replace("-", "−")

    for name in RUNS:
        if any(name in runs for runs in results.values()):
            lines.append(f"| `{name.split(',')[0]}`{''.join(',' + part for part in name.split(',')[1:])} | "
                         + " | ".join(cell(runs.get(name)) for runs in results.values()) + " |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rlhf", help="the program to measure; without it nothing is run")
    parser.add_argument("--data", type=pathlib.Path, help="folder of gsm8k/ and tokenizers/qwen3/")
    parser.add_argument("--size", default="25m,135m,0.5b")
    parser.add_argument("--runs", default="|".join(RUNS), help="names as the table has them, between |")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", type=pathlib.Path, required=True)
    parser.add_argument("--table", type=pathlib.Path)
    args = parser.parse_args()
    if unknown := [name for name in args.runs.split("|") if name not in RUNS]:
        parser.error(f"--runs: {' | '.join(RUNS)} were expected, got {' | '.join(unknown)}")
    results = json.loads(args.out.read_text()) if args.out.exists() else {}
    for size in args.size.split(",") if args.rlhf else ():
        with tempfile.TemporaryDirectory() as folder:
            make_inputs(size, args.data, pathlib.Path(folder))
            for name in args.runs.split("|"):
                try:
                    found = measure(args, RUNS[name], pathlib.Path(folder))
                except SystemExit as failure:  # what common.fail() says
                    found = {"failed": str(failure).strip().splitlines()[-1]}
                results.setdefault(size, {})[name] = found
                args.out.write_text(json.dumps(results, indent=1))
                print(size, name, json.dumps(found), flush=True)
    if args.table:
        text = args.table.read_text()
        before, rest = text.split(MARKS[0])
        args.table.write_text(f"{before}{MARKS[0]}\n{table(results)}\n{MARKS[1]}{rest.split(MARKS[1])[1]}")


if __name__ == "__main__":
    main()

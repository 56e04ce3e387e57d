"""Supervised fine-tuning side by side with TRL: the same rows, model, threads and precision, runs taken in turn (compare_common.py).

Run:  python bench/compare_sft.py --rlhf build/release/cli/rlhf --data DIR/gsm8k/train.jsonl --tokenizer DIR/tokenizers/qwen3

The Python that runs this needs torch, trl 1.16.0 and transformers. The model is SmolLM2-135M's shape with random weights. Rows are GSM8K
questions with their answers, encoded with the tokenizer given and folded into the model's vocabulary (id modulo 49152), so that both sides read
the very same ids. Both sides: fp32, batch 8, no gradient checkpointing, AdamW, rows in file order. TRL's best settings on a CPU:
attn_implementation sdpa.
"""

import pathlib
import tempfile

import compare_common as common

BATCH = 8
LEARNING_RATE = 1e-4


def make_rows(args, path: pathlib.Path) -> None:
    tokenizer = common.FoldedTokenizer(args.tokenizer, common.SHAPES[args.size]["vocab_size"])
    rows = []
    for row in common.read_rows(args.data)[: BATCH * args.steps]:
        ids = tokenizer.encode(row["question"] + "\n") + tokenizer.encode(row["answer"]) + [common.EOS]
        rows.append({"input_ids": ids, "labels": ids})
    common.write_rows(path, rows)


def child(args, folder: pathlib.Path) -> None:
    from datasets import Dataset
    from trl import SFTConfig, SFTTrainer

    def trainer(callbacks):
        config = SFTConfig(**common.trl_options(folder), **common.shared_options(args.steps, BATCH, LEARNING_RATE), max_length=1024,
                           model_init_kwargs={"dtype": "float32", "attn_implementation": "sdpa"})
        rows = Dataset.from_list(common.read_rows(str(folder / "rows.jsonl")))
        return SFTTrainer(model=str(folder / "model"), args=config, train_dataset=rows, callbacks=callbacks)

    common.train_trl(trainer, args.threads)


def main() -> None:
    args = common.arguments(__doc__).parse_args()
    if args.child:
        return child(args, pathlib.Path(args.child))
    with tempfile.TemporaryDirectory() as scratch:
        folder = pathlib.Path(scratch)
        common.make_model(folder / "model", common.SHAPES[args.size])
        make_rows(args, folder / "rows.jsonl")
        options = {"model_name_or_path": folder / "model", **common.shared_options(args.steps, BATCH, LEARNING_RATE)}
        common.compare(args, lambda: common.run_rlhf(args, "sft", folder, options), lambda: common.run_trl(args, __file__, folder))


if __name__ == "__main__":
    main()

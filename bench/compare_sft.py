"""Supervised fine-tuning side by side with TRL: the same rows, model, threads and precision, runs taken in turn (compare_common.py).

Run:  python bench/compare_sft.py --rlhf build/release/cli/rlhf --data DIR/gsm8k/train.jsonl --tokenizer DIR/tokenizers/qwen3

The Python that runs this needs torch, trl 1.16.0, transformers and peft. The model is SmolLM2-135M's shape with random weights. Rows are GSM8K
questions with their answers, encoded with the tokenizer given and folded into the model's vocabulary (id modulo 49152), so that both sides read
the very same ids; --length joins them and cuts rows of so many tokens. --lora trains the same random adapter on both sides (r 16 on all linear
layers). Both sides: fp32, no gradient checkpointing unless asked for, AdamW, rows in file order. TRL's best settings on a CPU: attn_implementation
sdpa.
"""

import json
import pathlib

import compare_common as common
import flops
import inputs

LEARNING_RATE = 1e-4


def make_inputs(args, folder: pathlib.Path) -> None:
    shape = common.model_shape(args)
    inputs.make_model(folder / "model", shape)
    if args.lora:
        inputs.make_adapter(folder / "model", folder / "adapter")
    tokenizer = inputs.FoldedTokenizer(args.tokenizer, shape["vocab_size"])
    texts = (tokenizer.encode(row["question"] + "\n") + tokenizer.encode(row["answer"]) + [inputs.EOS] for row in inputs.read_rows(args.data))
    rows = inputs.rows_of(texts, args.batch * args.steps, args.length)
    inputs.write_rows(folder / "rows.jsonl", [{"input_ids": ids, "labels": ids} for ids in rows])


def options(args) -> dict:
    """Options that both sides get, under the names both know."""
    return {**common.shared_options(args, args.batch, LEARNING_RATE), "max_length": max(1024, args.length or 0)}


def rlhf(args, folder: pathlib.Path) -> dict:
    adapter = {"adapter_name_or_path": folder / "adapter"} if args.lora else {}
    return common.run_rlhf(args, "sft", folder, {"model_name_or_path": folder / "model", **adapter, **options(args)})


def child(args, folder: pathlib.Path) -> None:
    import torch
    from datasets import Dataset
    from trl import SFTConfig, SFTTrainer

    torch.set_num_threads(args.threads)
    clock = common.Clock()
    rows = Dataset.from_list(inputs.read_rows(folder / "rows.jsonl"))
    config = SFTConfig(**common.trl_options(folder), **options(args))
    trainer = SFTTrainer(model=common.trl_model(folder, adapter=args.lora), args=config, train_dataset=rows, callbacks=[common.step_clock(clock)])
    common.train_trl(args, trainer, clock)


def gflop(args, folder: pathlib.Path) -> dict:
    rows = common.timed_rows(args, inputs.read_rows(folder / "rows.jsonl"), args.batch)
    lengths = [len(row["input_ids"]) for row in rows]
    rank = inputs.LORA["r"] if args.lora else 0
    step = flops.train(common.shape(args), [(0, [length]) for length in lengths], sum(lengths), rank=rank) / (args.steps - args.skipped)
    return {"step": step * 1e-9, "gradients": step * 1e-9}


def main() -> None:
    parser = common.arguments(__doc__)
    parser.add_argument("--batch", type=int, default=8, help="rows a step")
    parser.add_argument("--lora", action="store_true")
    args = parser.parse_args()
    report = common.run(args, __file__, make_inputs=make_inputs, rlhf=rlhf, child=child, check=common.worst_difference,
                        counts={"gflop": gflop})
    if report:
        print(json.dumps({"method": "sft", "lora": args.lora, "batch": args.batch, "length": args.length, **report}))


if __name__ == "__main__":
    main()

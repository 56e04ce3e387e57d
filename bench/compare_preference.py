"""DPO, reward models and KTO side by side with TRL: the same rows, model, threads and precision, runs taken in turn (compare_common.py).

Run:  python bench/compare_preference.py --method dpo --rlhf build/release/cli/rlhf --data DIR/hh-harmless/test.jsonl --tokenizer DIR/tokenizers/qwen3

The Python that runs this needs torch, trl 1.16.0, transformers and peft. Methods: dpo, dpo_lora (r 16 on all linear layers), reward, kto. Rows are
pairs of Anthropic's HH set: the prompt ends after the last "Assistant:", answers end with EOS; they are encoded with the tokenizer given and folded
into the model's vocabulary, so that both sides read the very same ids. Rows longer than --max_length are left out, so that neither side cuts or
drops any. With --length the texts are joined and cut: a prompt of --prompt_share of it, and two answers of what is left. KTO reads chosen and
rejected answers in turn as desirable and undesirable.

Tokens are counted as TRL counts them: every token of both rows of a pair, the prompt therefore twice. --reference cached: reference
log-probabilities are computed before the first step on both sides, outside the step times (in wall_seconds); step: in every step (in TRL's phase
"gradients" too). The adapter of dpo_lora is the same random one on both sides; the reference is the model with that adapter as it starts. Both sides:
fp32, no gradient checkpointing unless asked for, AdamW, rows in file order. TRL's best settings on a CPU: attn_implementation sdpa.
"""

import json
import pathlib

import compare_common as common
import flops
import inputs

LEARNING_RATE = {"dpo": 1e-5, "dpo_lora": 1e-4, "reward": 1e-5, "kto": 1e-5}
COMMANDS = {"dpo": "dpo", "dpo_lora": "dpo", "reward": "reward", "kto": "kto"}
TURN = "\n\nAssistant:"


def real_pairs(args, tokenizer: inputs.FoldedTokenizer) -> list[dict]:
    """As many pairs as the run needs, of prompts that both answers share."""
    pairs = []
    for row in inputs.read_rows(args.data):
        cut = row["chosen"].rfind(TURN) + len(TURN)
        if row["rejected"][:cut] != row["chosen"][:cut] or TURN in row["rejected"][cut:]:
            continue
        pair = {"prompt_ids": tokenizer.encode(row["chosen"][:cut])}
        for answer in ("chosen", "rejected"):
            pair[f"{answer}_ids"] = tokenizer.encode(row[answer][cut:]) + [inputs.EOS]
        if len(pair["prompt_ids"]) + max(len(pair["chosen_ids"]), len(pair["rejected_ids"])) <= args.max_length:
            pairs.append(pair)
        if len(pairs) == args.batch * args.steps:
            return pairs
    raise SystemExit(f"only {len(pairs)} rows of at most {args.max_length} tokens for {args.steps} steps of {args.batch}")


def pairs_of_length(args, tokenizer: inputs.FoldedTokenizer) -> list[dict]:
    """Pairs whose rows have args.length tokens each; the prompt has one at least."""
    prompt = min(max(1, round(args.length * args.prompt_share)), args.length - 2)
    texts = (tokenizer.encode(row["chosen"]) for row in inputs.read_rows(args.data))
    count = args.batch * args.steps
    cut = inputs.pieces(texts, [prompt, args.length - prompt, args.length - prompt] * count)
    return [{"prompt_ids": ids, "chosen_ids": chosen, "rejected_ids": rejected} for ids, chosen, rejected in zip(cut, cut, cut)]


def unpaired(pairs: list[dict]) -> list[dict]:
    rows = [{"prompt_ids": pair["prompt_ids"], "completion_ids": pair[f"{answer}_ids"], "label": answer == "chosen"}
            for pair in pairs for answer in ("chosen", "rejected")]
    return rows[: len(pairs)]


def make_inputs(args, folder: pathlib.Path) -> None:
    shape = common.model_shape(args)
    inputs.make_model(folder / "model", shape, classifier=args.method == "reward")
    if args.method == "dpo_lora":
        inputs.make_adapter(folder / "model", folder / "adapter")
    pairs = (pairs_of_length if args.length else real_pairs)(args, inputs.FoldedTokenizer(args.tokenizer, shape["vocab_size"]))
    inputs.write_rows(folder / "rows.jsonl", unpaired(pairs) if args.method == "kto" else pairs)


def options(args) -> dict:
    """Options that both sides get, under the names both know."""
    reference = {} if args.method == "reward" else {"precompute_ref_log_probs": args.reference == "cached"}
    return {**common.shared_options(args, args.batch, LEARNING_RATE[args.method]), "max_length": max(args.max_length, args.length or 0), **reference}


def rlhf(args, folder: pathlib.Path) -> dict:
    adapter = {"adapter_name_or_path": folder / "adapter"} if args.method == "dpo_lora" else {}
    return common.run_rlhf(args, COMMANDS[args.method], folder, {"model_name_or_path": folder / "model", **adapter, **options(args)})


def before(rows: list[dict], batch: int) -> list[dict]:
    """For each row the one before it in its batch, whose completion KTO's KL term asks for; the last for the first."""
    return [row for start in range(0, len(rows), batch) for block in [rows[start : start + batch]] for row in block[-1:] + block[:-1]]


def trl_rows(args, folder: pathlib.Path):
    """The rows as TRL's collators want them."""
    from datasets import Dataset

    rows = inputs.read_rows(folder / "rows.jsonl")
    if args.method == "reward":
        rows = [{f"{answer}_ids": row["prompt_ids"] + row[f"{answer}_ids"] for answer in ("chosen", "rejected")} for row in rows]
    if args.method == "kto":
        rows = [{**row, "KL_completion_ids": other["completion_ids"]} for row, other in zip(rows, before(rows, args.batch))]
    return Dataset.from_list(rows)


def child(args, folder: pathlib.Path) -> None:
    import torch
    import trl
    from transformers import AutoTokenizer

    torch.set_num_threads(args.threads)
    name = {"dpo": "DPO", "dpo_lora": "DPO", "reward": "Reward", "kto": "KTO"}[args.method]

    class Encoded(getattr(trl, f"{name}Trainer")):
        """The trainer on rows that are ids already."""

        def _prepare_dataset(self, dataset, *rest):
            return dataset

    clock = common.Clock()
    model = common.trl_model(folder, classifier=args.method == "reward", adapter=args.method == "dpo_lora")
    config = getattr(trl, f"{name}Config")(**common.trl_options(folder), **options(args))
    trainer = Encoded(model=model, args=config, train_dataset=trl_rows(args, folder),
                      processing_class=AutoTokenizer.from_pretrained(folder / "model"), callbacks=[common.step_clock(clock)])
    common.train_trl(args, trainer, clock)


def gflop(args, folder: pathlib.Path) -> dict:
    """A prompt once a pair. Of KTO, a prompt once a row: the row's answer with gradient, and the other row's for the KL term without."""
    every = inputs.read_rows(folder / "rows.jsonl")
    rows = common.timed_rows(args, every, args.batch)
    size = {key: [len(row[key]) for row in rows] for key in rows[0] if key.endswith("_ids")}
    rank = inputs.LORA["r"] if args.method == "dpo_lora" else 0
    shape, scalar = common.shape(args), args.method == "reward"
    answers = [list(row) for row in zip(*(lengths for key, lengths in size.items() if key != "prompt_ids"))]
    groups = list(zip(size["prompt_ids"], answers))
    scored = 2 * len(rows) if scalar else sum(map(sum, answers))
    gradients = flops.train(shape, groups, scored, scalar, rank)
    forward = flops.forward(shape, groups, scored, scalar, rank)
    reference = forward if args.reference == "step" and not scalar else 0.0
    if args.method == "kto":
        others = [[len(row["completion_ids"])] for row in common.timed_rows(args, before(every, args.batch), args.batch)]
        mismatched = flops.forward(shape, list(zip(size["prompt_ids"], others)), sum(map(sum, others)))
        gradients += mismatched
        reference += mismatched if args.reference == "step" else 0.0
    step = (gradients + reference) * 1e-9 / (args.steps - args.skipped)
    return {"step": step, "gradients": step}


def main() -> None:
    parser = common.arguments(__doc__)
    parser.add_argument("--method", choices=COMMANDS, default="dpo")
    parser.add_argument("--reference", choices=("cached", "step"), default="cached")
    parser.add_argument("--batch", type=int, default=8, help="pairs a step (KTO: rows)")
    parser.add_argument("--max_length", type=int, default=512)
    parser.add_argument("--prompt_share", type=float, default=0.5, help="of --length, that is the prompt")
    args = parser.parse_args()
    report = common.run(args, __file__, make_inputs=make_inputs, rlhf=rlhf, child=child, check=common.worst_difference, counts={"gflop": gflop})
    if report:
        labels = {"method": args.method, "reference": args.reference, "batch": args.batch, "length": args.length}
        print(json.dumps({**labels, **({"prompt_share": args.prompt_share} if args.length else {}), **report}))


if __name__ == "__main__":
    main()

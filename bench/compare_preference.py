"""DPO, reward models and KTO side by side with TRL: the same rows, model, threads and precision, runs taken in turn (compare_common.py).

Run:  python bench/compare_preference.py --method dpo --rlhf build/release/cli/rlhf --data DIR/hh-harmless/test.jsonl --tokenizer DIR/tokenizers/qwen3

The Python that runs this needs torch, trl 1.16.0, transformers and peft. Methods: dpo, dpo_lora (r 16 on all linear layers), reward, kto. Rows are
pairs of Anthropic's HH set: the prompt ends after the last "Assistant:", answers end with EOS; they are encoded with the tokenizer given and folded
into the model's vocabulary, so that both sides read the very same ids. Rows longer than --max_length are left out, so that neither side cuts or
drops any. KTO reads chosen and rejected answers in turn as desirable and undesirable.

Tokens are counted as TRL counts them: every token of both rows of a pair, the prompt therefore twice. --reference cached: reference
log-probabilities are computed before the first step on both sides, outside the step times (in wall_seconds); step: in every step. The adapter of
dpo_lora is the same random one on both sides (its second factor is small, not zero); the reference is the model with that adapter as it starts.
Both sides: fp32, no gradient checkpointing, AdamW, rows in file order. TRL's best settings on a CPU: attn_implementation sdpa.
"""

import pathlib
import tempfile

import compare_common as common

LEARNING_RATE = {"dpo": 1e-5, "dpo_lora": 1e-4, "reward": 1e-5, "kto": 1e-5}
COMMANDS = {"dpo": "dpo", "dpo_lora": "dpo", "reward": "reward", "kto": "kto"}
TURN = "\n\nAssistant:"


def encode_pairs(args) -> list[dict]:
    """As many pairs as the run needs, of prompts that both answers share."""
    tokenizer = common.FoldedTokenizer(args.tokenizer, common.SHAPES[args.size]["vocab_size"])
    pairs = []
    for row in common.read_rows(args.data):
        cut = row["chosen"].rfind(TURN) + len(TURN)
        if row["rejected"][:cut] != row["chosen"][:cut] or TURN in row["rejected"][cut:]:
            continue
        pair = {"prompt_ids": tokenizer.encode(row["chosen"][:cut])}
        for answer in ("chosen", "rejected"):
            pair[f"{answer}_ids"] = tokenizer.encode(row[answer][cut:]) + [common.EOS]
        if len(pair["prompt_ids"]) + max(len(pair["chosen_ids"]), len(pair["rejected_ids"])) <= args.max_length:
            pairs.append(pair)
        if len(pairs) == args.batch * args.steps:
            return pairs
    raise SystemExit(f"only {len(pairs)} rows of at most {args.max_length} tokens for {args.steps} steps of {args.batch}")


def unpaired(pairs: list[dict]) -> list[dict]:
    rows = [{"prompt_ids": pair["prompt_ids"], "completion_ids": pair[f"{answer}_ids"], "label": answer == "chosen"}
            for pair in pairs for answer in ("chosen", "rejected")]
    return rows[: len(pairs)]


def make_adapter(model_folder: pathlib.Path, folder: pathlib.Path) -> None:
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    torch.manual_seed(1)
    model = AutoModelForCausalLM.from_pretrained(model_folder, dtype=torch.float32)
    adapted = get_peft_model(model, LoraConfig(r=16, lora_alpha=32, lora_dropout=0.0, target_modules="all-linear", task_type="CAUSAL_LM"))
    for name, parameter in adapted.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=1e-3)
    adapted.save_pretrained(folder)


def make_inputs(args, folder: pathlib.Path) -> None:
    common.make_model(folder / "model", common.SHAPES[args.size], classifier=args.method == "reward")
    if args.method == "dpo_lora":
        make_adapter(folder / "model", folder / "adapter")
    pairs = encode_pairs(args)
    common.write_rows(folder / "rows.jsonl", unpaired(pairs) if args.method == "kto" else pairs)


def rlhf_options(args, folder: pathlib.Path) -> dict:
    options = {"model_name_or_path": folder / "model", **common.shared_options(args.steps, args.batch, LEARNING_RATE[args.method]),
               "max_length": args.max_length}
    if args.method == "dpo_lora":
        options["adapter_name_or_path"] = folder / "adapter"
    if args.method != "reward":
        options["precompute_ref_log_probs"] = args.reference == "cached"
    return options


def trl_rows(args, folder: pathlib.Path):
    """The rows as TRL's collators want them."""
    from datasets import Dataset

    rows = common.read_rows(str(folder / "rows.jsonl"))
    if args.method == "reward":
        rows = [{f"{answer}_ids": row["prompt_ids"] + row[f"{answer}_ids"] for answer in ("chosen", "rejected")} for row in rows]
    if args.method == "kto":
        for start in range(0, len(rows), args.batch):
            block = rows[start : start + args.batch]
            for row, before in zip(block, block[-1:] + block[:-1]):
                row["KL_completion_ids"] = before["completion_ids"]
    return Dataset.from_list(rows)


def child(args, folder: pathlib.Path) -> None:
    import torch
    import trl
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer

    name = {"dpo": "DPO", "dpo_lora": "DPO", "reward": "Reward", "kto": "KTO"}[args.method]

    class Encoded(getattr(trl, f"{name}Trainer")):
        """The trainer on rows that are ids already."""

        def _prepare_dataset(self, dataset, *rest):
            return dataset

    def trainer(callbacks):
        load = AutoModelForSequenceClassification if args.method == "reward" else AutoModelForCausalLM
        model = load.from_pretrained(folder / "model", dtype=torch.float32, attn_implementation="sdpa")
        if args.method == "dpo_lora":
            model = PeftModel.from_pretrained(model, folder / "adapter", is_trainable=True)
        more = {} if args.method == "reward" else {"precompute_ref_log_probs": args.reference == "cached"}
        options = common.shared_options(args.steps, args.batch, LEARNING_RATE[args.method])
        config = getattr(trl, f"{name}Config")(**common.trl_options(folder), **options, max_length=args.max_length, **more)
        tokenizer = AutoTokenizer.from_pretrained(folder / "model")
        return Encoded(model=model, args=config, train_dataset=trl_rows(args, folder), processing_class=tokenizer, callbacks=callbacks)

    common.train_trl(trainer, args.threads)


def main() -> None:
    parser = common.arguments(__doc__)
    parser.add_argument("--method", choices=COMMANDS, default="dpo")
    parser.add_argument("--reference", choices=("cached", "step"), default="cached")
    parser.add_argument("--batch", type=int, default=8, help="pairs a step (KTO: rows)")
    parser.add_argument("--max_length", type=int, default=512)
    args = parser.parse_args()
    if args.child:
        return child(args, pathlib.Path(args.child))
    with tempfile.TemporaryDirectory() as scratch:
        folder = pathlib.Path(scratch)
        make_inputs(args, folder)
        options = rlhf_options(args, folder)
        rlhf = lambda: common.run_rlhf(args, COMMANDS[args.method], folder, options)
        common.compare(args, rlhf, lambda: common.run_trl(args, __file__, folder), method=args.method, reference=args.reference, batch=args.batch)


if __name__ == "__main__":
    main()

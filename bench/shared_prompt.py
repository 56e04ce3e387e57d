"""What a step costs on a prompt that many answers share, beside as many tokens in short rows.

Run:  python bench/shared_prompt.py --rlhf build/release/cli/rlhf --data DIR/gsm8k/train.jsonl --tokenizer DIR/tokenizers/qwen3

Recorded completions are trained on by `rlhf rloo --replay_completions` (no sampling, no reference), a random model of --size, all of a step in one
micro-batch: --answers answers of --answer tokens to one prompt of --prompt tokens; and as many tokens in rows of --row, of which as many are scored.
Both runs are taken in turn, --rounds times; a figure is the median of `time/update` of all steps but the first two.
The Python that runs this needs torch, transformers and tokenizers.
"""

import json
import pathlib
import statistics
import tempfile

import compare_common as common
import flops
import inputs


def lines(prompts: list[list[int]], answers: list[list[int]]) -> list[dict]:
    """Recorded completions with rewards that differ, so that every one has a gradient."""
    return [{"prompt_ids": prompt, "completion_ids": answer, "reward": float(i % 2)} for i, (prompt, answer) in enumerate(zip(prompts, answers))]


def make_inputs(args, folder: pathlib.Path) -> dict[str, list[flops.Group]]:
    """Model and both files; the groups of a step of each."""
    shape = common.model_shape(args)
    inputs.make_model(folder / "model", shape)
    tokenizer = inputs.FoldedTokenizer(args.tokenizer, shape["vocab_size"])
    texts = [[i for i in tokenizer.encode(row["question"]) if i != inputs.EOS] for row in inputs.read_rows(args.data)[:2000]]
    scored = args.answers * args.answer
    rows = round((args.prompt + scored) / args.row)
    answer = round(scored / rows)
    shared, short = [], []
    for _ in range(args.steps):
        cut = list(inputs.pieces(texts, [args.prompt] + [args.answer] * args.answers + [args.row - answer, answer] * rows))
        answers, rest = cut[1:1 + args.answers], cut[1 + args.answers:]
        shared += lines([cut[0]] * args.answers, answers)
        short += lines(rest[0::2], rest[1::2])
    inputs.write_rows(folder / "shared.jsonl", shared)
    inputs.write_rows(folder / "short.jsonl", short)
    return {"shared": [(args.prompt, [args.answer] * args.answers)], "short": [(args.row - answer, [answer])] * rows}


def run(args, folder: pathlib.Path, name: str, groups: list[flops.Group]) -> list[float]:
    """Seconds of forward and backward of each counted step."""
    count = sum(len(answers) for _, answers in groups)
    output = folder / f"run_{name}"
    options = {**common.shared_options(args, count, 1e-6), "model_name_or_path": folder / "model",
               "replay_completions": folder / f"{name}.jsonl", "output_dir": output, "overwrite_output_dir": True,
               "cache_dir": folder / "cache", "threads": args.threads, "beta": 0.0, "advantage_estimator": "reinforce_plus_plus",
               "num_generations": max(len(answers) for _, answers in groups), "temperature": 1.0,
               "max_completion_length": args.row + args.answer, "max_tokens_per_microbatch": 2 * flops.tokens(groups)}
    common.measured([args.rlhf, "rloo", *common.flags(options), *args.extra.split()], args.threads)
    return [line["time/update"] for line in inputs.read_rows(output / "metrics.jsonl")][common.SKIPPED_STEPS:]


def main() -> None:
    parser = common.arguments(__doc__)
    parser.add_argument("--prompt", type=int, default=1000)
    parser.add_argument("--answers", type=int, default=16)
    parser.add_argument("--answer", type=int, default=100)
    parser.add_argument("--row", type=int, default=150)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = pathlib.Path(scratch)
        steps = make_inputs(args, folder)
        seconds = {name: [] for name in steps}
        for _ in range(args.rounds):
            for name, groups in steps.items():
                seconds[name] += run(args, folder, name, groups)
    medians = {name: statistics.median(found) for name, found in seconds.items()}
    scored = {name: sum(sum(answers) for _, answers in groups) for name, groups in steps.items()}
    print(json.dumps({"size": args.size, "threads": args.threads, "tokens": {name: flops.tokens(groups) for name, groups in steps.items()},
                      "scored": scored, "seconds": {name: common.spread(found) for name, found in seconds.items()},
                      "gflop": {name: common.figure(1e-9 * flops.train(common.shape(args), groups, scored[name])) for name, groups in steps.items()},
                      "ratio": round(medians["shared"] / medians["short"], 3)}))


if __name__ == "__main__":
    main()

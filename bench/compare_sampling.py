"""Sampling side by side with transformers, TRL's sampler on a CPU: the same prompts, model and threads, in fp32, runs taken in turn.

Run:  python bench/compare_sampling.py --rlhf build/release/cli/rlhf --data DIR/gsm8k/train.jsonl --tokenizer DIR/tokenizers/qwen3

The Python that runs this needs torch, transformers and tokenizers. `rlhf generate` and transformers' generate (its cache, attn_implementation sdpa)
draw --samples completions of --new_tokens each for every one of --prompts GSM8K questions (with --length joined and cut), at temperature 1 without
filters, all together. No token ends a text.

What the report calls a step is one token of every row, and a step's tokens are the rows. Its time is (a - b) / (new tokens - 1): a is the time of the
draw, b that of the same draw stopped after one token, so that loading and the prompts' own pass fall out; a round gives one. `read_gb` is what such
a step must read from memory in fp32, weights and the cache at its middle length (flops.py).

Compared before anything is reported: greedy texts of 8 tokens. A near tie may fall either way, so one prompt in ten may differ.
"""

import json
import pathlib
import time

import compare_common as common
import flops
import inputs

CHECKED_TOKENS = 8
LEAST_SECONDS = 0.25  # between the two times: a smaller difference is the noise of starting a process


def make_inputs(args, folder: pathlib.Path) -> None:
    shape = common.model_shape(args)
    inputs.make_word_model(folder / "model", shape)
    length = args.length and args.length - args.new_tokens
    prompts = inputs.word_prompts(args, shape["vocab_size"], args.prompts, length)
    inputs.write_rows(folder / "rows.jsonl", [{"prompt_ids": [int(word, 16) for word in prompt.split()]} for prompt in prompts])


def figures(args, whole: float, first: float, greedy: list[list[int]]) -> dict:
    assert whole > first + LEAST_SECONDS, f"{args.new_tokens} tokens took {whole:.2f} s and one {first:.2f} s: too few to tell apart. HINT: raise --new_tokens"
    return {"times": [(whole - first) / (args.new_tokens - 1)], "tokens": args.prompts * args.samples, "greedy": greedy}


def rlhf(args, folder: pathlib.Path) -> dict:
    def generate(temperature: float, samples: int, new_tokens: int) -> tuple[list[dict], dict]:
        options = {"model": folder / "model", "data": folder / "rows.jsonl", "temperature": temperature, "num_generations": samples,
                   "max_new_tokens": new_tokens, "max_rows": args.prompts * args.samples, "threads": args.threads}
        out, usage = common.measured([args.rlhf, "generate", *common.flags(options), *args.extra.split()], args.threads)
        return [json.loads(line) for line in out.splitlines()], usage

    greedy = [row["completions"][0]["ids"] for row in generate(0.0, 1, CHECKED_TOKENS)[0]]
    first = generate(1.0, args.samples, 1)[1]
    rows, whole = generate(1.0, args.samples, args.new_tokens)
    assert all(len(one["ids"]) == args.new_tokens for row in rows for one in row["completions"]), "rlhf: completions of other lengths"
    return {**whole, **figures(args, whole["wall"], first["wall"], greedy)}


def child(args, folder: pathlib.Path) -> None:
    import torch
    from transformers import AutoTokenizer

    torch.set_num_threads(args.threads)
    model = common.trl_model(folder).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder / "model", padding_side="left")
    prompts = [row["prompt_ids"] for row in inputs.read_rows(folder / "rows.jsonl")]
    batch = tokenizer.pad({"input_ids": prompts}, return_tensors="pt")

    def generate(new_tokens: int, **options) -> tuple[list[list[int]], float]:
        start = time.perf_counter()
        found = model.generate(**batch, max_new_tokens=new_tokens, **options)
        return found[:, batch["input_ids"].shape[1]:].tolist(), time.perf_counter() - start

    sampling = dict(do_sample=True, temperature=1.0, top_k=0, num_return_sequences=args.samples)
    greedy = generate(CHECKED_TOKENS, do_sample=False)[0]
    first = generate(1, **sampling)[1]
    ids, whole = generate(args.new_tokens, **sampling)
    assert all(len(row) == args.new_tokens for row in ids), "transformers: completions of other lengths"
    common.send(**figures(args, whole, first, greedy))


def check(args, results: dict[str, list[dict]]) -> dict:
    ours = results["rlhf"][0]["greedy"]
    for name, runs in results.items():
        equal = sum(a == b for a, b in zip(ours, runs[0]["greedy"], strict=True))
        assert equal >= 0.9 * len(ours), f"{name}: of {len(ours)} greedy texts only {equal} are equal"
    return {}


def read_gb(args, folder: pathlib.Path) -> dict:
    lengths = [len(row["prompt_ids"]) for row in inputs.read_rows(folder / "rows.jsonl")]
    context = sum(lengths) / len(lengths) + args.new_tokens / 2
    found = flops.token_step_bytes(common.shape(args), args.prompts * args.samples, context)
    return {part: size * 1e-9 for part, size in found.items()}


def main() -> None:
    parser = common.arguments(__doc__)
    parser.add_argument("--prompts", type=int, default=2)
    parser.add_argument("--samples", type=int, default=8, help="samples a prompt")
    parser.add_argument("--new_tokens", type=int, default=128)
    args = parser.parse_args()
    report = common.run(args, __file__, make_inputs=make_inputs, rlhf=rlhf, child=child, check=check, counts={"read_gb": read_gb}, skipped=0)
    if report:
        print(json.dumps({"method": "sampling", "prompts": args.prompts, "samples": args.samples, "new_tokens": args.new_tokens,
                          "length": args.length, **report}))


if __name__ == "__main__":
    main()

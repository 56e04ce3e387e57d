"""Encoding text side by side with the tokenizers library, which TRL encodes with: the same texts and tokenizer, one thread, runs taken in turn.

Run:  python bench/compare_tokenise.py --rlhf build/release/cli/rlhf --data DIR/gsm8k/train.jsonl --tokenizer DIR/tokenizers/qwen3

The Python that runs this needs tokenizers. Texts are GSM8K's questions with their answers, --repeat times over, so that start-up and its spread weigh
little. `rlhf tokenize` reads and writes JSON lines on one thread: its time is that of the whole process, less that of the same process with one text.
Of the library encode_batch alone is timed, from strings to lists of ids. (Training encodes on all threads on both sides.) What the report calls a
step is a pass over all texts. Compared before anything is reported: all ids.
"""

import hashlib
import json
import pathlib
import time
from collections.abc import Iterable

import compare_common as common
import inputs

FILES = ("tokenizer.json", "tokenizer_config.json")


def make_inputs(args, folder: pathlib.Path) -> None:
    (folder / "tokenizer").mkdir()
    for name in FILES:
        (folder / "tokenizer" / name).write_text(inputs.read_text(pathlib.Path(args.tokenizer) / name))
    rows = [{"text": f"{row['question']}\n{row['answer']}"} for row in inputs.read_rows(args.data)]
    inputs.write_rows(folder / "rows.jsonl", rows * args.repeat)
    inputs.write_rows(folder / "one.jsonl", rows[:1])


def figures(ids: Iterable[list[int]], seconds: float) -> dict:
    digest, tokens = hashlib.sha256(), 0
    for row in ids:
        digest.update(json.dumps(row).encode())
        tokens += len(row)
    return {"times": [seconds], "tokens": tokens, "digest": digest.hexdigest()}


def rlhf(args, folder: pathlib.Path) -> dict:
    command = [args.rlhf, "tokenize", "--model", folder / "tokenizer", *args.extra.split()]
    one = common.measured(command, 1, folder / "one.jsonl")[1]
    out, whole = common.measured(command, 1, folder / "rows.jsonl")
    assert whole["wall"] > one["wall"], "all texts took no longer than one: too few to measure, or too much other work"
    return {**whole, **figures((json.loads(line)["ids"] for line in out.splitlines()), whole["wall"] - one["wall"])}


def child(args, folder: pathlib.Path) -> None:
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(folder / "tokenizer" / FILES[0]))
    texts = [row["text"] for row in inputs.read_rows(folder / "rows.jsonl")]
    start = time.perf_counter()
    ids = [encoding.ids for encoding in tokenizer.encode_batch(texts, add_special_tokens=False)]
    common.send(**figures(ids, time.perf_counter() - start))


def check(args, results: dict[str, list[dict]]) -> dict:
    assert len({run["digest"] for runs in results.values() for run in runs}) == 1, "the ids differ: nothing is compared"
    return {}


def megabytes(args, folder: pathlib.Path) -> dict:
    return {"text": sum(len(row["text"].encode()) for row in inputs.read_rows(folder / "rows.jsonl")) * 1e-6}


def main() -> None:
    parser = common.arguments(__doc__)
    parser.add_argument("--repeat", type=int, default=4)
    args = parser.parse_args()
    args.threads = 1
    report = common.run(args, __file__, make_inputs=make_inputs, rlhf=rlhf, child=child, check=check, counts={"megabytes": megabytes}, skipped=0)
    if not report:
        return
    del report["size"]  # no model
    for side in common.sides(report):
        side["megabytes_per_second"] = common.spread([report["megabytes"]["text"] / s for s in side["seconds_by_round"]])
    print(json.dumps({"method": "tokenise", **report}))


if __name__ == "__main__":
    main()

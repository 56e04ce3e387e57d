"""Makes tests/fixtures/models/judgements.json.gz: what transformers says of preference and stepwise rows, for the program's tests.

Ran with torch 2.13.0, transformers 5.24.0 (CPU, one thread, float32). Run: python tools/make_judgements.py

Reads tests/fixtures/train/{model,preference} (tools/make_preference_rows.py). `rewards`: the reward model's scores of both
answers of every row of pairs, implicit and dialogues, each row tokenized whole as TRL's RewardTrainer does (text ends with EOS,
conversations are rendered). `steps`: softmax of the two labels at the last token of each separator, of every step of the stepwise
rows, tokenized as TRL's PRMTrainer does. `logprobs`: the language model's log-probabilities of both answers of pairs, prompt and
answer tokenized apart, with the model itself and with a reference whose weights are 0.9 of it (written by the test).
"""

import gzip
import json
from pathlib import Path

import torch
import transformers
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
    AutoTokenizer,
)

FIXTURES = Path(__file__).resolve().parent.parent / "tests/fixtures"
PREFERENCE = FIXTURES / "train/preference"
OUT = FIXTURES / "models/judgements.json.gz"


def rows(name):
    return [json.loads(line) for line in (PREFERENCE / name / "test.jsonl").read_text().splitlines() if line]


def whole(tokenizer, row, member):
    if isinstance(row[member], list):
        messages = row.get("prompt", []) + row[member]
        return tokenizer.apply_chat_template(messages, tokenize=True, return_dict=False)
    text = row.get("prompt", "") + row[member]
    return tokenizer(text if text.endswith(tokenizer.eos_token) else text + tokenizer.eos_token)["input_ids"]


def rewards(name):
    tokenizer = AutoTokenizer.from_pretrained(PREFERENCE / "reward_model")
    model = AutoModelForSequenceClassification.from_pretrained(PREFERENCE / "reward_model").eval()

    def score(row, member):
        return float(model(torch.tensor([whole(tokenizer, row, member)])).logits[0, 0])

    return [{member: score(row, member) for member in ("chosen", "rejected")} for row in rows(name)]


def steps():
    tokenizer = AutoTokenizer.from_pretrained(PREFERENCE / "stepwise_model")
    model = AutoModelForTokenClassification.from_pretrained(PREFERENCE / "stepwise_model").eval()

    def encode(text):
        return tokenizer(text, add_special_tokens=False)["input_ids"]

    out = []
    for row in rows("stepwise"):
        ids = ([] if tokenizer.bos_token_id is None else [tokenizer.bos_token_id]) + encode(row["prompt"])
        ends = []
        for step in row["completions"]:
            ids += encode(step) + encode("\n")
            ends.append(len(ids) - 1)
        probabilities = torch.softmax(model(torch.tensor([ids])).logits[0], -1)[:, 1]
        out.append(probabilities[ends].tolist())
    return out


def logprobs(factor):
    tokenizer = AutoTokenizer.from_pretrained(FIXTURES / "train/model")
    model = AutoModelForCausalLM.from_pretrained(FIXTURES / "train/model").eval()
    for parameter in model.parameters():
        parameter.mul_(factor)

    def score(row, member):
        prompt = tokenizer(row["prompt"])["input_ids"]
        answer = tokenizer(row[member] + tokenizer.eos_token, add_special_tokens=False)["input_ids"]
        ids = torch.tensor([prompt + answer])
        every = torch.log_softmax(model(ids).logits[0, :-1].double(), -1).gather(1, ids[0, 1:, None])
        return float(every[len(prompt) - 1 :].sum()), len(answer)

    scored = [{member: score(row, member) for member in ("chosen", "rejected")} for row in rows("pairs")]
    return [{**{member: s[member][0] for member in s}, **{f"{member}_tokens": s[member][1] for member in s}} for s in scored]


@torch.no_grad()
def main():
    torch.set_num_threads(1)
    out = {
        "made_by": "tools/make_judgements.py",
        "versions": {"torch": torch.__version__, "transformers": transformers.__version__},
        "rewards": {name: rewards(name) for name in ("pairs", "implicit", "dialogues")},
        "steps": steps(),
        "logprobs": {"model": logprobs(1.0), "reference": logprobs(0.9)},
    }
    with gzip.GzipFile(OUT, "wb", mtime=0) as file:
        file.write(json.dumps(out, separators=(",", ":")).encode())
    print(OUT.name, OUT.stat().st_size, {name: len(found) for name, found in out["rewards"].items()}, len(out["steps"]))


if __name__ == "__main__":
    main()

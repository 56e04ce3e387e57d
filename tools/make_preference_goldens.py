"""Fixtures of tests/data: what TRL makes of preference, unpaired and stepwise rows.

Run twice. With TRL 1.16.0 it writes tests/fixtures/data/pairs.json (DPOTrainer: rows as its collator hands them to the
model; RewardTrainer: its prepared rows) and answers.json (KTOTrainer's rows through its collator, and the order in which
pairs are unpaired). With TRL 1.12.0 it writes steps.json (PRMTrainer, which 1.16.0 no longer has). Both ran with
transformers 5.24, datasets 5.2, torch 2.13 (CPU) and Python 3.11; nothing is random. Tokenizers are those that
make_data_goldens.py wrote.

DPOTrainer and KTOTrainer encode prompts and answers together, this project encodes them apart; every row used here is
asserted to give the same ids either way. RewardTrainer and an implicit prompt of text need no such rows.

    python tools/make_preference_goldens.py
"""

import json
import pathlib
import tempfile

import trl
from datasets import Dataset
from transformers import (
    AutoTokenizer,
    LlamaConfig,
    LlamaForCausalLM,
    LlamaForSequenceClassification,
    LlamaForTokenClassification,
)

OUT = pathlib.Path(__file__).resolve().parent.parent / "tests" / "fixtures" / "data"


def message(role, content):
    return {"role": role, "content": content}


PAIRS = [
    {"prompt": "what is two plus two?", "chosen": " four.", "rejected": " the cat sat on the mat"},
    {"prompt": "the sky is", "chosen": " blue and the grass is green", "rejected": " green"},
    {"prompt": "Q:", "chosen": " Paris<|endoftext|>", "rejected": " Berlin is the capital of Germany"},
    {"prompt": "the user asks a question. " * 5, "chosen": " the dog sat", "rejected": " the log"},
    {"prompt": "white space answer:", "chosen": "\n", "rejected": " "},
    {"prompt": "long answers:", "chosen": " two plus two is four." * 4, "rejected": " the dog" * 3},
]
IMPLICIT = [
    {"chosen": "\n\nHuman: the sky?\n\nAssistant: blue", "rejected": "\n\nHuman: the sky?\n\nAssistant: green"},
    {"chosen": "the sky is the", "rejected": "the sky is this"},
    {"chosen": "\n\nHuman: a\n\nAssistant: b\n\nHuman: what is two plus two?\n\nAssistant: two plus two is four.",
     "rejected": "\n\nHuman: a\n\nAssistant: b\n\nHuman: what is two plus two?\n\nAssistant: two plus two is ten"},
    {"chosen": "naïve café", "rejected": "naïve cafè"},
]
CHATS = [
    {"prompt": [message("user", "what is two plus two?")], "chosen": [message("assistant", "four.")],
     "rejected": [message("assistant", "the cat sat on the mat")]},
    {"prompt": [message("system", "the user asks a question"), message("user", "the capital of France?"),
                message("assistant", "Paris"), message("user", "and of Germany?")],
     "chosen": [message("assistant", "Berlin is the capital of Germany.")],
     "rejected": [message("assistant", "the log")]},
    {"prompt": [message("user", "the cat " * 12)], "chosen": [message("assistant", "sat on the mat")],
     "rejected": [message("assistant", "a"), message("user", "b"), message("assistant", "c")]},
]
IMPLICIT_CHATS = [
    {name: row["prompt"] + row[name] for name in ("chosen", "rejected")} for row in CHATS
]
MARGINS = [{**row, "margin": margin} for row, margin in zip(PAIRS, (0.5, -1.25, 0.0, 3.0, 0.1, 2.0))]
ANSWERS = [
    {"prompt": row["prompt"], "completion": row[name], "label": name == "chosen"}
    for row in PAIRS for name in ("chosen", "rejected")
]
CHAT_ANSWERS = [
    {"prompt": row["prompt"], "completion": row[name], "label": name == "chosen"}
    for row in CHATS for name in ("chosen", "rejected")
]
STEPS = [
    {"prompt": "what is two plus two?", "completions": ["two plus two is ten.", "so it is four"], "labels": [False, True]},
    {"prompt": "the sky is blue", "completions": ["the grass is green"], "labels": [True]},
    {"prompt": "", "completions": ["1", " 2 3", "", "\n\n10"], "labels": [True, True, False, True]},
    {"prompt": "the user asks a question. " * 3, "completions": ["a system message", "the assistant"], "labels": [True, False]},
]


def tokenizer_of(name):
    return AutoTokenizer.from_pretrained(OUT / name)


def assert_same_seams(tokenizer, rows):
    """Joint and separate encoding agree on every row."""
    encode = lambda text: tokenizer(text, add_special_tokens=False)["input_ids"]
    for row in rows:
        for name in ("chosen", "rejected", "completion"):
            if name not in row:
                continue
            if isinstance(row["prompt"], str):
                prompt, whole = row["prompt"], row["prompt"] + row[name]
            else:
                prompt = tokenizer.apply_chat_template(row["prompt"], tokenize=False, add_generation_prompt=True)
                whole = tokenizer.apply_chat_template(row["prompt"] + row[name], tokenize=False)
            assert whole.startswith(prompt)
            assert encode(prompt) + encode(whole[len(prompt) :]) == encode(whole), (row, name)


def trainer_of(trainer, config, model, tokenizer, rows, options):
    labels = {LlamaForSequenceClassification: {"num_labels": 1}, LlamaForTokenClassification: {"num_labels": 2}}
    sizes = LlamaConfig(
        vocab_size=len(tokenizer), pad_token_id=tokenizer.pad_token_id, hidden_size=8, intermediate_size=8,
        num_hidden_layers=1, num_attention_heads=1, num_key_value_heads=1, **labels.get(model, {}),
    )
    reference = {"ref_model": model(sizes)} if model is LlamaForCausalLM else {}
    with tempfile.TemporaryDirectory() as folder:
        config = config(output_dir=folder, report_to="none", use_cpu=True, bf16=False, **options)
        return trainer(
            model(sizes), args=config, train_dataset=Dataset.from_list(rows), processing_class=tokenizer, **reference
        )


def unpadded(batch, row):
    """Ids of one row of a batch and which of them are scored."""
    real = batch["attention_mask"][row].bool()
    return {"ids": batch["input_ids"][row][real].tolist(), "scored": batch["completion_mask"][row][real].tolist()}


def dpo_rows(tokenizer, rows, options):
    trainer = trainer_of(trl.DPOTrainer, trl.DPOConfig, LlamaForCausalLM, tokenizer, rows, options)
    out = []
    for row in trainer.train_dataset:
        batch = trainer.data_collator([row])
        out.append({"chosen": unpadded(batch, 0), "rejected": unpadded(batch, 1)})
    return out


def reward_rows(tokenizer, rows, options):
    trainer = trainer_of(trl.RewardTrainer, trl.RewardConfig, LlamaForSequenceClassification, tokenizer, rows, options)
    return [
        {"chosen": row["chosen_ids"], "rejected": row["rejected_ids"], "margin": row.get("margin")}
        for row in trainer.train_dataset
    ]


def kto_rows(tokenizer, rows, options):
    options = {"per_device_train_batch_size": 2, **options}
    trainer = trainer_of(trl.KTOTrainer, trl.KTOConfig, LlamaForCausalLM, tokenizer, rows, options)
    return [
        {**unpadded(trainer.data_collator([row]), 0), "label": bool(row["label"])} for row in trainer.train_dataset
    ]


def prm_rows(tokenizer, rows, options):
    from trl.experimental.prm import PRMConfig, PRMTrainer

    trainer = trainer_of(PRMTrainer, PRMConfig, LlamaForTokenClassification, tokenizer, rows, options)
    return [{"ids": row["input_ids"], "labels": row["labels"]} for row in trainer.train_dataset]


def case(name, folder, make, rows, seams=True, **options):
    tokenizer = tokenizer_of(folder)
    if seams:
        assert_same_seams(tokenizer, rows)
    return {"name": name, "tokenizer": folder, "rows": rows, "options": options,
            "expected": make(tokenizer, rows, options)}


def pair_cases():
    dpo = [
        case("text", "byte_level", dpo_rows, PAIRS),
        case("text_bos", "byte_level_bos", dpo_rows, PAIRS),
        case("implicit", "byte_level", dpo_rows, IMPLICIT, seams=False),
        case("implicit_bos", "byte_level_bos", dpo_rows, IMPLICIT, seams=False),
        case("implicit_dummy_prefix", "dummy_prefix", dpo_rows, IMPLICIT, seams=False),
        case("chats", "byte_level", dpo_rows, CHATS),
        case("implicit_chats", "byte_level_bos", dpo_rows, IMPLICIT_CHATS, seams=False),
    ]
    for mode in ("keep_start", "keep_end"):
        for length in (6, 9, 14, 22):
            dpo.append(case(f"{mode}_{length}", "byte_level_bos", dpo_rows, PAIRS, max_length=length, truncation_mode=mode))
        dpo.append(case(f"chats_{mode}", "byte_level", dpo_rows, CHATS, max_length=40, truncation_mode=mode))
    reward = [
        case("text", "byte_level", reward_rows, PAIRS),
        case("margins_bos", "byte_level_bos", reward_rows, MARGINS),
        case("text_dummy_prefix", "dummy_prefix", reward_rows, PAIRS, seams=False),
        case("implicit", "byte_level_bos", reward_rows, IMPLICIT, seams=False),
        case("chats", "byte_level", reward_rows, CHATS),
        case("implicit_chats", "byte_level_bos", reward_rows, IMPLICIT_CHATS, seams=False),
        case("short", "byte_level", reward_rows, MARGINS, max_length=14),
    ]
    return {"dpo": dpo, "reward": reward}


def answer_cases():
    cases = [
        case("text", "byte_level", kto_rows, ANSWERS),
        case("text_bos", "byte_level_bos", kto_rows, ANSWERS, max_length=9),
        case("chats", "byte_level", kto_rows, CHAT_ANSWERS),
        case("chats_cut", "byte_level", kto_rows, CHAT_ANSWERS, max_length=40),
        case("pairs", "byte_level_bos", kto_rows, PAIRS),
        case("pairs_cut", "byte_level", kto_rows, PAIRS, max_length=14),
        case("implicit", "byte_level", kto_rows, IMPLICIT[:1], seams=False),
        case("chat_pairs", "byte_level", kto_rows, CHATS),
    ]
    rows = Dataset.from_dict({"prompt": [str(i) for i in range(2300)], "chosen": ["a"] * 2300, "rejected": ["b"] * 2300})
    runs = []  # first row, number of rows, label
    for row in trl.data_utils.unpair_preference_dataset(rows):
        number, label = int(row["prompt"]), row["label"]
        if runs and runs[-1][2] == label and runs[-1][0] + runs[-1][1] == number:
            runs[-1][1] += 1
        else:
            runs.append([number, 1, label])
    return {"cases": cases, "unpaired": {"pairs": 2300, "runs": runs}}


def step_cases():
    cases = [
        case("text", "byte_level", prm_rows, STEPS, seams=False),
        case("bos", "byte_level_bos", prm_rows, STEPS, seams=False),
        case("last_step", "byte_level_bos", prm_rows, STEPS, seams=False, train_on_last_step_only=True),
        case("separator", "byte_level", prm_rows, STEPS, seams=False, step_separator=" so\n\n"),
        case("max_length", "byte_level_bos", prm_rows, STEPS, seams=False, max_length=16),
        case("max_completion_length", "byte_level", prm_rows, STEPS, seams=False, max_completion_length=9),
    ]
    return cases


def write(name, value):
    (OUT / name).write_text(json.dumps(value, ensure_ascii=False) + "\n")


def main():
    if trl.__version__ == "1.12.0":
        write("steps.json", step_cases())
    else:
        assert trl.__version__ == "1.16.0", trl.__version__
        write("pairs.json", pair_cases())
        write("answers.json", answer_cases())


main()

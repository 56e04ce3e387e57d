"""Rows, classifier folders and adapters on which tools/make_preference_trajectories.py trains TRL and tests/train trains rlhf.

Run: python tools/make_preference_rows.py      (torch 2.13.0 CPU, transformers 5.24.0, peft 0.21.2, seed 11)

Writes tests/fixtures/train/preference/:
  KIND/{train,test}.jsonl    preference rows (plain, with margins, as chats, with the prompt inside the answers), unpaired and stepwise rows;
                             the test rows are as many as one evaluation batch holds
  reward_model/              ../model as LlamaForSequenceClassification, num_labels 1, score head drawn from the seed
  stepwise_model/            ../model as LlamaForTokenClassification, num_labels 2, head and bias drawn from the seed
  adapter_{lora,rslora,dora}/  PEFT folders on ../model, r 4 on all linear layers (rslora: on three kinds of them), both factors non-zero: they change
                             the model they are put on
  adapter_reward/            a PEFT folder on reward_model with the score head as module to save
Chosen answers use the letters a-g, rejected ones d-j, so that there is something to learn. Needs ../model of tools/make_sft_trajectories.py,
whose tokenizer has one token a character: encoding prompt and answer together or apart gives the same ids.
"""

import json
import os
import pathlib
import random
import shutil

os.environ["CUDA_VISIBLE_DEVICES"] = ""

import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoModelForTokenClassification, AutoTokenizer

TRAIN = pathlib.Path(__file__).resolve().parent.parent / "tests" / "fixtures" / "train"
OUT = TRAIN / "preference"
BASE = TRAIN / "model"
SEED = 11
ROWS = 60
TEST_ROWS = 8
TEST_ROWS_UNPAIRED = 4
ADAPTER = {"r": 4, "lora_alpha": 8, "lora_dropout": 0.0, "target_modules": "all-linear"}
GOOD, BAD, ANY = "abcdefg", "defghij", "abcdefghij"


class Writer:
    """Random sentences from one stream of numbers."""

    def __init__(self, seed: int):
        self.draw = random.Random(seed)

    def sentence(self, letters: str, least: int, most: int) -> str:
        words = self.draw.randint(least, most)
        return " ".join("".join(self.draw.choice(letters) for _ in range(self.draw.randint(1, 5))) for _ in range(words))

    def pair(self) -> dict:
        return {
            "prompt": self.sentence(ANY, 1, 12) + "?",
            "chosen": " " + self.sentence(GOOD, 1, 8),
            "rejected": " " + self.sentence(BAD, 1, 9),
        }

    def margin_pair(self) -> dict:
        return {**self.pair(), "margin": round(self.draw.uniform(0.0, 1.5), 2)}

    def implicit_pair(self) -> dict:
        """The prompt is what both texts begin with."""
        pair = self.pair()
        return {"chosen": pair["prompt"] + pair["chosen"], "rejected": pair["prompt"] + pair["rejected"]}

    def turns(self) -> list[dict]:
        messages = [{"role": "system", "content": self.sentence(ANY, 1, 3)}] if self.draw.random() < 0.3 else []
        for _ in range(self.draw.randint(0, 1)):
            messages.append({"role": "user", "content": self.sentence(ANY, 1, 3)})
            messages.append({"role": "assistant", "content": self.sentence(ANY, 1, 3)})
        return messages + [{"role": "user", "content": self.sentence(ANY, 1, 4)}]

    def chat_pair(self) -> dict:
        return {
            "prompt": self.turns(),
            "chosen": [{"role": "assistant", "content": self.sentence(GOOD, 1, 6)}],
            "rejected": [{"role": "assistant", "content": self.sentence(BAD, 1, 6)}],
        }

    def dialogue_pair(self) -> dict:
        """The prompt is the messages both conversations begin with."""
        pair = self.chat_pair()
        return {"chosen": pair["prompt"] + pair["chosen"], "rejected": pair["prompt"] + pair["rejected"]}

    def unpaired(self) -> dict:
        desirable = self.draw.random() < 0.5
        completion = " " + self.sentence(GOOD if desirable else BAD, 1, 8)
        return {"prompt": self.sentence(ANY, 1, 8) + "?", "completion": completion, "label": desirable}

    def stepwise(self) -> dict:
        labels = [self.draw.random() < 0.6 for _ in range(self.draw.randint(1, 4))]
        steps = [self.sentence(GOOD if label else BAD, 1, 4) for label in labels]
        return {"prompt": self.sentence(ANY, 1, 6) + "?", "completions": steps, "labels": labels}


def write_rows() -> None:
    kinds = {"pairs": Writer.pair, "margins": Writer.margin_pair, "implicit": Writer.implicit_pair, "chats": Writer.chat_pair,
             "dialogues": Writer.dialogue_pair, "unpaired": Writer.unpaired, "stepwise": Writer.stepwise}
    for number, (name, make) in enumerate(kinds.items()):
        writer = Writer(SEED + number)
        (OUT / name).mkdir(parents=True, exist_ok=True)
        for part, count in (("train", ROWS), ("test", TEST_ROWS_UNPAIRED if name == "unpaired" else TEST_ROWS)):
            lines = [json.dumps(make(writer)) + "\n" for _ in range(count)]
            (OUT / name / f"{part}.jsonl").write_text("".join(lines))


def save(model, folder: pathlib.Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    model.save_pretrained(folder)
    AutoTokenizer.from_pretrained(BASE).save_pretrained(folder)


def write_classifiers() -> None:
    torch.manual_seed(SEED)
    reward = AutoModelForSequenceClassification.from_pretrained(BASE, num_labels=1, dtype=torch.float32)
    save(reward, OUT / "reward_model")
    torch.manual_seed(SEED + 1)
    stepwise = AutoModelForTokenClassification.from_pretrained(BASE, num_labels=2, dtype=torch.float32)
    torch.nn.init.normal_(stepwise.score.bias, std=0.1)
    save(stepwise, OUT / "stepwise_model")


def write_adapter(name: str, model, seed: int, **options) -> None:
    torch.manual_seed(seed)
    adapted = get_peft_model(model, LoraConfig(**{**ADAPTER, **options}))
    for parameter_name, parameter in adapted.named_parameters():
        if "lora_B" in parameter_name:
            torch.nn.init.normal_(parameter, std=0.02)
    folder = OUT / f"adapter_{name}"
    shutil.rmtree(folder, ignore_errors=True)
    adapted.save_pretrained(folder)
    (folder / "README.md").unlink(missing_ok=True)
    config = json.loads((folder / "adapter_config.json").read_text())
    config["base_model_name_or_path"] = ""
    config["target_modules"] = sorted(config["target_modules"])
    (folder / "adapter_config.json").write_text(json.dumps(config, indent=2) + "\n")


def write_adapters() -> None:
    variants = {"lora": {}, "rslora": {"use_rslora": True, "target_modules": ["q_proj", "v_proj", "down_proj"]}, "dora": {"use_dora": True}}
    for number, (name, options) in enumerate(variants.items()):
        model = AutoModelForCausalLM.from_pretrained(BASE, dtype=torch.float32)
        write_adapter(name, model, SEED + number, task_type="CAUSAL_LM", **options)
    reward = AutoModelForSequenceClassification.from_pretrained(OUT / "reward_model", dtype=torch.float32)
    write_adapter("reward", reward, SEED + 3, task_type="SEQ_CLS", modules_to_save=["score"])


def main() -> None:
    torch.set_num_threads(1)
    write_rows()
    write_classifiers()
    write_adapters()


if __name__ == "__main__":
    main()

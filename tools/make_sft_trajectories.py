"""Records 50-step trajectories of TRL's SFTTrainer on a tiny model: the oracle of tests/train/sft_trajectory_test.cpp.

Run: python tools/make_sft_trajectories.py      (torch 2.13.0 CPU, trl 1.16.0, transformers 5.23.0, seed 7)

Writes tests/fixtures/train/: model/ (a tiny random Llama with a character-level tokenizer, on which joint and separate encoding of
prompt and answer agree by construction), one JSONL of rows per kind, and trajectories.json: per case the options, and for every step loss,
grad_norm, learning_rate, entropy, mean_token_accuracy and num_tokens.
"""

import json
import os
import pathlib
import random
import tempfile

os.environ["CUDA_VISIBLE_DEVICES"] = ""

import torch
import transformers
import trl
from datasets import Dataset
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast
from trl import SFTConfig, SFTTrainer

OUT = pathlib.Path(__file__).resolve().parent.parent / "tests" / "fixtures" / "train"
SEED = 7
STEPS = 50
SPECIAL = ["<pad>", "<eos>", "<|im_start|>", "<|im_end|>"]
CHARACTERS = [chr(c) for c in range(32, 127)] + ["\n"]
TEMPLATE = (
    "{%- for message in messages %}{{- '<|im_start|>' + message.role + '\\n' }}"
    "{%- if message.role == 'assistant' %}{% generation %}{{- message.content + '<|im_end|>' }}{% endgeneration %}"
    "{%- else %}{{- message.content + '<|im_end|>' }}{%- endif %}{{- '\\n' }}{%- endfor %}"
    "{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}{%- endif %}"
)


def make_model(folder: pathlib.Path) -> None:
    vocabulary = {token: number for number, token in enumerate(SPECIAL + CHARACTERS)}
    made = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    made.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    made.decoder = decoders.Fuse()
    made.add_special_tokens([AddedToken(token, special=True) for token in SPECIAL])
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=made, eos_token="<eos>", pad_token="<pad>")
    tokenizer.chat_template = TEMPLATE
    tokenizer.save_pretrained(folder)
    torch.manual_seed(SEED)
    config = LlamaConfig(
        vocab_size=len(vocabulary), hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=256, tie_word_embeddings=True, initializer_range=0.2,
        eos_token_id=1, pad_token_id=0, bos_token_id=None,
    )
    LlamaForCausalLM(config).save_pretrained(folder)


def rows() -> dict[str, list[dict]]:
    draw = random.Random(SEED)

    def sentence(least: int, most: int) -> str:
        words = ["".join(draw.choice("abcdefghij") for _ in range(draw.randint(1, 7))) for _ in range(draw.randint(least, most))]
        return " ".join(words)

    pairs = [{"prompt": sentence(1, 8) + "?", "completion": " " + sentence(1, 10)} for _ in range(60)]
    chats = []
    for _ in range(60):
        messages = [{"role": "system", "content": sentence(1, 3)}] if draw.random() < 0.3 else []
        for _ in range(draw.randint(1, 2)):
            messages.append({"role": "user", "content": sentence(1, 4)})
            messages.append({"role": "assistant", "content": sentence(1, 5)})
        chats.append({"messages": messages})
    texts = [{"text": sentence(1, 14)} for _ in range(200)]
    return {"pairs": pairs, "chats": chats, "texts": texts}


COMMON = dict(
    max_steps=STEPS, per_device_train_batch_size=4, gradient_accumulation_steps=1, learning_rate=2e-3, weight_decay=0.1,
    lr_scheduler_type="linear", warmup_steps=5, max_grad_norm=1.0, max_length=64, logging_steps=1, seed=SEED,
    train_sampling_strategy="sequential", gradient_checkpointing=False, save_strategy="no", report_to="none", bf16=False,
)
CASES = {
    "prompt_completion": ("pairs", {}),
    "assistant_only": ("chats", {"assistant_only_loss": True}),
    "dft": ("pairs", {"loss_type": "dft"}),
    "packing": ("texts", {"packing": True, "packing_strategy": "bfd", "per_device_train_batch_size": 1}),
    "label_smoothing_cosine": ("pairs", {"label_smoothing_factor": 0.1, "lr_scheduler_type": "cosine"}),
    "plain_text_sgd": ("texts", {"optim": "sgd", "optim_args": "momentum=0.9", "learning_rate": 0.05}),
    "adafactor": ("pairs", {"optim": "adafactor"}),
}
KEPT = ["loss", "grad_norm", "learning_rate", "entropy", "mean_token_accuracy", "num_tokens"]


def record(folder: pathlib.Path, data: list[dict], options: dict) -> list[dict]:
    with tempfile.TemporaryDirectory() as output:
        config = SFTConfig(output_dir=output, use_cpu=True, disable_tqdm=True, model_init_kwargs={"dtype": "float32"}, **options)
        trainer = SFTTrainer(model=str(folder), args=config, train_dataset=Dataset.from_list(data))
        trainer.train()
        lines = [line for line in trainer.state.log_history if "loss" in line]
    assert len(lines) == STEPS, len(lines)
    return [{name: line[name] for name in KEPT} for line in lines]


def main() -> None:
    torch.set_num_threads(1)
    folder = OUT / "model"
    folder.mkdir(parents=True, exist_ok=True)
    make_model(folder)
    data = rows()
    for name, part in data.items():
        (OUT / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in part))
    cases = {}
    for name, (kind, changed) in CASES.items():
        options = {**COMMON, **changed}
        cases[name] = {"data": kind, "options": options, "steps": record(folder, data[kind], options)}
        print(name, cases[name]["steps"][0]["loss"], cases[name]["steps"][-1]["loss"])
    made_with = {"torch": torch.__version__, "trl": trl.__version__, "transformers": transformers.__version__, "seed": SEED}
    (OUT / "trajectories.json").write_text(json.dumps({"made_with": made_with, "cases": cases}) + "\n")


if __name__ == "__main__":
    main()

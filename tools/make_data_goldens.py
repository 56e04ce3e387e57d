"""Fixtures of tests/data: tiny tokenizers, and what TRL makes of rows.

Ran with TRL 1.16.0, transformers 5.23, tokenizers as installed beside them, datasets and torch 2.13 (CPU), Python 3.11.
Writes tests/fixtures/data: tokenizers (trained here on a few lines), `sft.json` (rows, options, ids and labels of
SFTTrainer's own dataset preparation) and `packing.json.gz` (pack_dataset over random lengths, seed 0).

Prompts and completions are encoded together by TRL and apart by this project; every row used here is asserted to give the
same ids either way.

    python tools/make_data_goldens.py
"""

import gzip
import json
import pathlib
import random
import tempfile

import torch
from datasets import Dataset
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM
from trl import SFTConfig, SFTTrainer, pack_dataset

OUT = pathlib.Path(__file__).resolve().parent.parent / "tests" / "fixtures" / "data"

CORPUS = [
    "the cat sat on the mat and the dog sat on the log",
    "what is two plus two? two plus two is four.",
    "the sky is blue and the grass is green, said the user to the assistant.",
    "a system message tells the assistant what to do; the user asks a question.",
    "Paris is the capital of France. Berlin is the capital of Germany.",
    "  indented text\n\nwith blank lines and numbers 1 2 3 10 42 100",
] * 20

CHATML = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n"
    "{% if message.role == 'assistant' %}{% generation %}{{ message.content }}<|im_end|>{% endgeneration %}{{ '\\n' }}"
    "{% else %}{{ message.content }}<|im_end|>\n{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
SPECIALS = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<s>"]


def save(tokenizer, name, config):
    folder = OUT / name
    folder.mkdir(parents=True, exist_ok=True)
    document = json.loads(tokenizer.to_str())
    (folder / "tokenizer.json").write_text(json.dumps(document, ensure_ascii=False, separators=(",", ":")) + "\n")
    config = {"tokenizer_class": "PreTrainedTokenizerFast", **config}
    (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=1) + "\n")
    (folder / "chat_template.jinja").write_text(CHATML)
    return folder


def byte_level(with_bos):
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=[AddedToken(t, special=True, normalized=False) for t in SPECIALS],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )
    tokenizer.train_from_iterator(CORPUS, trainer)
    if with_bos:
        tokenizer.post_processor = processors.TemplateProcessing(
            single="<s> $A", pair="<s> $A <s> $B", special_tokens=[("<s>", tokenizer.token_to_id("<s>"))]
        )
    return tokenizer


def sentencepiece_like():
    """BPE with a space put before every text (Llama 2)."""
    tokenizer = Tokenizer(models.BPE(byte_fallback=True, fuse_unk=True, unk_token="<unk>"))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    trainer = trainers.BpeTrainer(
        vocab_size=500,
        special_tokens=[AddedToken(t, special=True, normalized=False) for t in ["<unk>", "</s>", *SPECIALS]]
        + [f"<0x{b:02X}>" for b in range(256)],
    )
    tokenizer.train_from_iterator([line.strip() for line in CORPUS], trainer)
    document = json.loads(tokenizer.to_str())
    # Byte tokens are ordinary entries of the vocabulary, not added tokens.
    document["added_tokens"] = [t for t in document["added_tokens"] if not t["content"].startswith("<0x")]
    document["post_processor"] = json.loads(
        processors.TemplateProcessing(
            single="<s> $A", pair="<s> $A <s> $B", special_tokens=[("<s>", tokenizer.token_to_id("<s>"))]
        ).__getstate__()
    )
    return Tokenizer.from_str(json.dumps(document))


TEXT = [
    {"text": "the cat sat on the mat"},
    {"text": "ends with its own token<|endoftext|>"},
    {"text": "two plus two is four. " * 6},
    {"text": " "},
    {"text": "naïve café, 日本語"},
]
PAIRS = [
    {"prompt": "what is two plus two?", "completion": " four."},
    {"prompt": "the sky is", "completion": " blue and the grass is green"},
    {"prompt": "Q:", "completion": " the capital of France is Paris<|endoftext|>"},
    {"prompt": "the user asks a question. " * 5, "completion": " the dog sat"},
    {"prompt": "white space answer:", "completion": "\n"},
]


def message(role, content):
    return {"role": role, "content": content}


CHATS = [
    {"messages": [message("user", "what is two plus two?"), message("assistant", "four.")]},
    {
        "messages": [
            message("system", "the user asks a question"),
            message("user", "the capital of France?"),
            message("assistant", "Paris"),
            message("user", "and of Germany?"),
            message("assistant", "Berlin is the capital of Germany."),
        ]
    },
    {"messages": [message("user", "the cat " * 12), message("assistant", "sat on the mat")]},
]
CHAT_PAIRS = [
    {"prompt": chat["messages"][:-1], "completion": chat["messages"][-1:]} for chat in CHATS
] + [{"prompt": CHATS[1]["messages"][:2], "completion": CHATS[1]["messages"][2:]}]


def assert_same_seams(tokenizer, rows):
    """Joint and separate encoding agree on every row."""
    for row in rows:
        if "prompt" not in row:
            continue
        if isinstance(row["prompt"], str):
            prompt, whole = row["prompt"], row["prompt"] + row["completion"]
        else:
            prompt = tokenizer.apply_chat_template(row["prompt"], tokenize=False, add_generation_prompt=True)
            whole = tokenizer.apply_chat_template(row["prompt"] + row["completion"], tokenize=False)
        assert whole.startswith(prompt)
        encode = lambda text: tokenizer(text, add_special_tokens=False)["input_ids"]
        assert encode(prompt) + encode(whole[len(prompt) :]) == encode(whole), row


def prepared(tokenizer, rows, **options):
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(tokenizer), hidden_size=8, intermediate_size=8, num_hidden_layers=1,
            num_attention_heads=1, num_key_value_heads=1,
        )
    )
    with tempfile.TemporaryDirectory() as folder:
        config = SFTConfig(output_dir=folder, report_to="none", use_cpu=True, bf16=False, **options)
        trainer = SFTTrainer(model, config, train_dataset=Dataset.from_list(rows), processing_class=tokenizer)
        return [{"ids": row["input_ids"], "labels": row["labels"]} for row in trainer.train_dataset]


def sft_cases(folders):
    cases = []

    def case(name, folder, rows, **options):
        tokenizer = AutoTokenizer.from_pretrained(folders[folder])
        assert_same_seams(tokenizer, rows)
        cases.append(
            {"name": name, "tokenizer": folder, "rows": rows, "options": options,
             "expected": prepared(tokenizer, rows, **options)}
        )

    case("text", "byte_level", TEXT)
    case("text_bos", "byte_level_bos", TEXT)
    case("text_keep_start", "byte_level_bos", TEXT, max_length=8)
    case("text_keep_end", "byte_level_bos", TEXT, max_length=8, truncation_mode="keep_end")
    case("pairs", "byte_level", PAIRS)
    case("pairs_bos", "byte_level_bos", PAIRS)
    case("pairs_all_tokens", "byte_level_bos", PAIRS, completion_only_loss=False)
    for mode in ("keep_start", "keep_end"):
        for length in (6, 10, 20):
            case(f"pairs_{mode}_{length}", "byte_level", PAIRS, max_length=length, truncation_mode=mode)
    case("chats", "byte_level", CHATS)
    case("chats_assistant", "byte_level", CHATS, assistant_only_loss=True)
    case("chats_assistant_keep_start", "byte_level_bos", CHATS, assistant_only_loss=True, max_length=30)
    case("chats_assistant_keep_end", "byte_level", CHATS, assistant_only_loss=True, max_length=12,
         truncation_mode="keep_end")
    case("chat_pairs", "byte_level", CHAT_PAIRS)
    case("chat_pairs_assistant", "byte_level", CHAT_PAIRS, assistant_only_loss=True)
    case("chat_pairs_all_tokens", "byte_level_bos", CHAT_PAIRS, completion_only_loss=False)
    return cases


def packing_cases():
    generator = random.Random(0)
    cases = []
    for rows, seq_length in ((7, 5), (300, 16), (2300, 64)):
        lengths = [generator.choice((0, 1, seq_length, generator.randint(1, seq_length * 2))) for _ in range(rows)]
        # A token names its row and place, so that the packs can be read back.
        dataset = Dataset.from_dict({"input_ids": [[r * 1000 + i for i in range(n)] for r, n in enumerate(lengths)]})
        for strategy in ("bfd", "bfd_split", "wrapped"):
            packs = []
            for pack in pack_dataset(dataset, seq_length, strategy)["input_ids"]:
                pieces = []
                for token in pack:
                    row, place = divmod(token, 1000)
                    if pieces and pieces[-1][0] == row and pieces[-1][2] == place:
                        pieces[-1][2] += 1
                    else:
                        pieces.append([row, place, place + 1])
                packs.append(pieces)
            cases.append({"seq_length": seq_length, "strategy": strategy, "lengths": lengths, "packs": packs})
    return cases


def main():
    torch.manual_seed(0)
    eos = {"eos_token": "<|endoftext|>", "pad_token": "<|endoftext|>"}
    folders = {
        "byte_level": save(byte_level(with_bos=False), "byte_level", eos),
        "byte_level_bos": save(byte_level(with_bos=True), "byte_level_bos", {"bos_token": "<s>", **eos}),
        "dummy_prefix": save(
            sentencepiece_like(), "dummy_prefix",
            {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "</s>", "unk_token": "<unk>"},
        ),
    }
    (OUT / "sft.json").write_text(json.dumps(sft_cases(folders), ensure_ascii=False, indent=None) + "\n")
    packing = json.dumps(packing_cases(), separators=(",", ":")).encode()
    with gzip.GzipFile(OUT / "packing.json.gz", "wb", mtime=0) as file:
        file.write(packing)


main()

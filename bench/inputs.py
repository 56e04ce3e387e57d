"""What both sides of a comparison read: random models of a shape, adapters, and rows of real text as ids below the model's vocabulary."""

import gzip
import itertools
import json
import pathlib
import sys
from collections.abc import Iterable, Iterator

EOS, PAD, UNKNOWN = 0, 1, 2
LORA = dict(r=16, lora_alpha=32, lora_dropout=0.0, target_modules="all-linear")


def read_text(path: pathlib.Path) -> str:
    """A text file, or the one of that name with .gz."""
    for candidate in (path, path.with_name(path.name + ".gz")):
        if candidate.exists():
            data = candidate.read_bytes()
            return (gzip.decompress(data) if candidate.suffix == ".gz" else data).decode()
    sys.exit(f"{path} is not there")


def read_rows(path: str | pathlib.Path) -> list[dict]:
    return [json.loads(line) for line in read_text(pathlib.Path(path)).splitlines()]


def write_rows(path: pathlib.Path, rows: Iterable[dict]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


class FoldedTokenizer:
    """A real tokenizer whose ids are folded into a smaller vocabulary (id modulo its size): real lengths and repetitions for a random model."""

    def __init__(self, folder: str, vocabulary: int):
        from tokenizers import Tokenizer

        self.tokenizer = Tokenizer.from_str(read_text(pathlib.Path(folder) / "tokenizer.json"))
        self.vocabulary = vocabulary

    def encode(self, text: str) -> list[int]:
        return [i % self.vocabulary for i in self.tokenizer.encode(text).ids]


def pieces(texts: Iterable[list[int]], lengths: Iterable[int]) -> Iterator[list[int]]:
    """The texts joined and cut into pieces of the lengths asked for; they begin anew where they end."""
    ids = itertools.chain.from_iterable(itertools.cycle(texts))
    for length in lengths:
        yield list(itertools.islice(ids, length))


def rows_of(texts: Iterable[list[int]], count: int, length: int | None) -> list[list[int]]:
    """The first `count` texts as they are, or as many pieces of `length` tokens."""
    return list(pieces(texts, [length] * count) if length else itertools.islice(texts, count))


def word(token: int) -> str:
    """An id as a word of make_word_model's tokenizer: hexadecimal, so that random samples have digits to be paid for."""
    return f"{token:x}"


def word_prompts(args, vocabulary: int, count: int, length: int | None = None, eos: int | None = None) -> list[str]:
    """GSM8K's questions, a word an id; with `length` joined and cut to so many."""
    tokenizer = FoldedTokenizer(args.tokenizer, vocabulary)
    special = (eos, PAD, UNKNOWN)
    texts = ([i for i in tokenizer.encode(row["question"]) if i not in special] for row in read_rows(args.data))
    return [" ".join(word(i) for i in ids) for ids in rows_of(texts, count, length)]


def make_model(folder: pathlib.Path, shape: dict, classifier: bool = False, eos: int = EOS, words: dict[str, int] | None = None) -> None:
    """A Llama of the shape with random weights, and a tokenizer of <eos>, <pad> and `words` between spaces.

    An `eos` beyond the model's vocabulary is the tokenizer's alone."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM, LlamaForSequenceClassification

    torch.manual_seed(0)
    config = LlamaConfig(**{"max_position_embeddings": 2048, **shape}, tie_word_embeddings=not classifier, rms_norm_eps=1e-5, rope_theta=100000.0,
                         bos_token_id=None, eos_token_id=eos if eos < shape["vocab_size"] else None, pad_token_id=PAD,
                         **({"num_labels": 1} if classifier else {}))
    (LlamaForSequenceClassification if classifier else LlamaForCausalLM)(config).save_pretrained(folder)
    vocabulary = {"<eos>": eos, "<pad>": PAD, "<unk>": UNKNOWN, **(words or {})}
    stand_in = {"version": "1.0", "model": {"type": "WordLevel", "vocab": vocabulary, "unk_token": "<unk>"},
                "added_tokens": [{"id": eos, "content": "<eos>", "special": True}, {"id": PAD, "content": "<pad>", "special": True}]}
    for token in stand_in["added_tokens"]:
        token.update(single_word=False, lstrip=False, rstrip=False, normalized=False)
    stand_in.update(truncation=None, padding=None, normalizer=None, pre_tokenizer={"type": "WhitespaceSplit"} if words else None,
                    post_processor=None, decoder=None)
    (folder / "tokenizer.json").write_text(json.dumps(stand_in))
    (folder / "tokenizer_config.json").write_text(json.dumps(
        {"eos_token": "<eos>", "pad_token": "<pad>", "unk_token": "<unk>", "tokenizer_class": "PreTrainedTokenizerFast"}))


def make_word_model(folder: pathlib.Path, shape: dict, classifier: bool = False, eos: int | None = None) -> None:
    """make_model where every id but the special ones is a word. By default no sample ends early: the token that ends a text has the id one past the
    vocabulary, which no model can draw."""
    vocabulary = shape["vocab_size"]
    eos = vocabulary if eos is None else eos
    make_model(folder, shape, classifier, eos, {word(i): i for i in range(vocabulary) if i not in (eos, PAD, UNKNOWN)})


def make_adapter(model_folder: pathlib.Path, folder: pathlib.Path) -> None:
    """A random LoRA adapter on all linear layers; its second factor is small, not zero."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    torch.manual_seed(1)
    model = AutoModelForCausalLM.from_pretrained(model_folder, dtype=torch.float32)
    adapted = get_peft_model(model, LoraConfig(**LORA, task_type="CAUSAL_LM"))
    for name, parameter in adapted.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=1e-3)
    adapted.save_pretrained(folder)

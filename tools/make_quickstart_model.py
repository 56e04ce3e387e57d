"""Writes examples/quickstart/model: a character-level tokenizer and the configuration of a small Llama, no weights.

Run: python tools/make_quickstart_model.py   (tokenizers 0.22, any recent version will do)
"""

import json
import pathlib

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

OUT = pathlib.Path(__file__).resolve().parent.parent / "examples" / "quickstart" / "model"
SPECIAL = ["<pad>", "<eos>"]
CHARACTERS = list("0123456789+-*=? .,:#") + list("abcdefghijklmnopqrstuvwxyz") + ["\n"]


def tokenizer() -> Tokenizer:
    vocabulary = {token: number for number, token in enumerate(SPECIAL + CHARACTERS)}
    made = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    made.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    made.decoder = decoders.Fuse()
    made.add_special_tokens([AddedToken(token, special=True) for token in SPECIAL])
    return made


def main() -> None:
    OUT.mkdir(parents=True, exist_ok=True)
    made = tokenizer()
    made.save(str(OUT / "tokenizer.json"))
    (OUT / "tokenizer_config.json").write_text(
        json.dumps({"eos_token": "<eos>", "pad_token": "<pad>", "tokenizer_class": "PreTrainedTokenizerFast"}, indent=2) + "\n"
    )
    config = {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "vocab_size": made.get_vocab_size(),
        "hidden_size": 128,
        "intermediate_size": 384,
        "num_hidden_layers": 4,
        "num_attention_heads": 4,
        "num_key_value_heads": 4,
        "max_position_embeddings": 128,
        "rms_norm_eps": 1e-5,
        "rope_theta": 10000.0,
        "hidden_act": "silu",
        "tie_word_embeddings": True,
        "initializer_range": 0.02,
        "eos_token_id": 1,
        "pad_token_id": 0,
        "bos_token_id": None,
        "dtype": "float32",
    }
    (OUT / "config.json").write_text(json.dumps(config, indent=2) + "\n")


if __name__ == "__main__":
    main()

"""Makes tests/fixtures/models/reward_cases.json.gz: what transformers says about tiny reward models of the families.

Ran with torch 2.13.0, transformers 5.23.0 (CPU, one thread, eager attention, float32). Run: python tools/make_reward_models.py

Weights are those of tools/make_models.py: by formula, none are stored. Each case: config.json as transformers writes it, the
tensors it saves, rows of ids (one of them with the padding id and EOS inside), the scores of each row taken alone, and the
norm of the gradient of the sum of all scores for every parameter. Sequence classification gives a row's scores (labels), token
classification every token's (length, labels). transformers is also asked for the rows as one batch padded on the right:
the scores must be the same to 2e-6, or there is no fixture.
"""

import gzip
import json
import tempfile
from pathlib import Path

import torch
import transformers
from make_models import GEMMA, GPT2, LENGTHS, NEOX, describe, family, llama, row_ids, values
from safetensors import safe_open
from safetensors.torch import save_file
from transformers import AutoConfig, AutoModelForSequenceClassification, AutoModelForTokenClassification

OUT = Path(__file__).resolve().parent.parent / "tests/fixtures/models/reward_cases.json.gz"
PAD, EOS = 3, 5
AUTO = {"sequence": AutoModelForSequenceClassification, "token": AutoModelForTokenClassification}

# name, kind, number of labels, configuration
CASES = [
    ("llama_reward", "sequence", 1, llama()),
    ("llama_reward_tied", "sequence", 1, llama(tie_word_embeddings=True, attention_bias=True)),
    ("llama_three_labels", "sequence", 3, llama()),
    ("mistral_reward", "sequence", 1, family("mistral", sliding_window=8)),
    ("qwen2_reward", "sequence", 1, family("qwen2", tie_word_embeddings=True)),
    ("qwen3_reward", "sequence", 1, family("qwen3", head_dim=16)),
    ("gemma_reward", "sequence", 1, family("gemma", **GEMMA, hidden_act="gelu_pytorch_tanh")),
    ("gemma2_reward", "sequence", 1, family("gemma2", **GEMMA, num_hidden_layers=3, sliding_window=8,
                                            query_pre_attn_scalar=20, attn_logit_softcapping=2.0,
                                            final_logit_softcapping=3.0)),
    ("gemma3_text_reward", "sequence", 1, family("gemma3_text", **GEMMA, sliding_window=8, query_pre_attn_scalar=20)),
    ("phi3_reward", "sequence", 1, family("phi3")),
    ("gpt2_reward", "sequence", 1, GPT2),
    ("gpt_neox_reward", "sequence", 1, NEOX),
    ("olmo2_reward", "sequence", 1, family("olmo2")),
    ("llama_steps", "token", 2, llama()),
    ("llama_steps_no_bias", "token", 2, llama(token_classification_bias=False)),
    ("qwen3_steps", "token", 2, family("qwen3", head_dim=16, tie_word_embeddings=True)),
    ("gpt2_steps", "token", 2, GPT2),
    ("gpt_neox_steps", "token", 3, NEOX),
]


def rows_of_case():
    """The longest row in the middle; padding id and EOS inside a row; none ends with the padding id."""
    rows = [row_ids(length) for length in (LENGTHS[0], LENGTHS[2], LENGTHS[1])]
    rows[0][2:4] = [PAD, EOS]
    for row, last in zip(rows, (EOS + 2, EOS, EOS)):
        row[-1] = last
    return rows


def scores_alone(model, rows):
    """Per row (labels), or (length, labels)."""
    return [model(torch.tensor([ids]), use_cache=False).logits[0] for ids in rows]


def scores_padded(model, kind, rows, pad):
    longest = max(map(len, rows))
    ids = torch.tensor([row + [pad] * (longest - len(row)) for row in rows])
    mask = torch.tensor([[1] * len(row) + [0] * (longest - len(row)) for row in rows])
    logits = model(ids, attention_mask=mask, use_cache=False).logits
    return [logits[i] if kind == "sequence" else logits[i, : len(row)] for i, row in enumerate(rows)]


def load(folder, kind):
    return AUTO[kind].from_pretrained(folder, dtype=torch.float32, attn_implementation="eager").eval()


def make(name, kind, labels, config, folder):
    settings = {**config, "pad_token_id": PAD, "eos_token_id": EOS, "bos_token_id": 1, "num_labels": labels}
    parsed = AutoConfig.for_model(settings.pop("model_type"), **settings)
    AUTO[kind].from_config(parsed, dtype=torch.float32).save_pretrained(folder)
    stored = json.loads((folder / "config.json").read_text())
    stored.pop("transformers_version", None)
    norm_center = 0.0 if config["model_type"].startswith("gemma") else 1.0
    with safe_open(folder / "model.safetensors", "pt") as file:
        tensors = {key: describe(key, file.get_slice(key).get_shape(), norm_center) for key in sorted(file.keys())}
    save_file({key: values(key, spec) for key, spec in tensors.items()}, folder / "model.safetensors", {"format": "pt"})

    model = load(folder, kind)
    rows = rows_of_case()
    alone = scores_alone(model, rows)
    with torch.no_grad():
        padded = scores_padded(model, kind, rows, PAD)
    worst = max(float((a.detach() - b).abs().max()) for a, b in zip(alone, padded))
    assert worst < 2e-6, (name, worst)
    sum(scores.sum() for scores in alone).backward()
    norms = {key: float(p.grad.norm()) for key, p in model.named_parameters()}
    assert sorted(norms) == sorted(tensors), (name, set(norms) ^ set(tensors))
    return {
        "name": name,
        "kind": kind,
        "labels": labels,
        "config": stored,
        "tensors": tensors,
        "ids": rows,
        "scores": [[round(v, 7) for v in scores.flatten().tolist()] for scores in alone],
        "gradient_norms": {key: float(f"{v:.7g}") for key, v in norms.items()},
    }, worst


def main():
    torch.set_num_threads(1)
    cases = []
    for name, kind, labels, config in CASES:
        with tempfile.TemporaryDirectory() as folder:
            case, worst = make(name, kind, labels, config, Path(folder))
        cases.append(case)
        print(f"{name:24} {case['config']['architectures'][0]:36} padded: {worst:.1e}", case["scores"][0][:2])
    fixture = {
        "made_by": "tools/make_reward_models.py",
        "versions": {"torch": torch.__version__, "transformers": transformers.__version__},
        "cases": cases,
    }
    with gzip.GzipFile(OUT, "wb", mtime=0) as file:
        file.write(json.dumps(fixture, separators=(",", ":")).encode())
    print(OUT.name, OUT.stat().st_size)


if __name__ == "__main__":
    main()

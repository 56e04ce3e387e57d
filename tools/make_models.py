"""Makes tests/fixtures/models/cases.json.gz: what transformers says about a tiny model of every family.

Ran with torch 2.13.0, transformers 5.23.0 (CPU, one thread, eager attention, float32). Run: python tools/make_models.py

No weights are stored. Element i of a tensor is center + amplitude * (2 u - 1), with u the upper 24 bits of
splitmix64(fnv1a64(name) + (i + 1) * 0x9E3779B97F4A7C15) over 2^24: exact in float32, the same here and in the C++ tests.
Norms and biases are off their defaults. Each case: config.json as transformers writes it (or as version 4 wrote it), the
tensors it saves, rows of ids, the log-probability of every next token with each row scored alone, the norm of the gradient
of the sum over rows of the mean -log p for every parameter, and where meaningful the log-probabilities in float64.
"""

import gzip
import json
import math
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch
import transformers
from safetensors import safe_open
from safetensors.torch import save_file
from transformers import AutoConfig, AutoModelForCausalLM

OUT = Path(__file__).resolve().parent.parent / "tests/fixtures/models/cases.json.gz"
VOCAB = 96
LENGTHS = [9, 23, 40]  # rising: dynamic NTK in transformers remembers the longest row seen
MASK = (1 << 64) - 1


def fnv1a64(text):
    value = 14695981039346656037
    for byte in text.encode():
        value = ((value ^ byte) * 1099511628211) & MASK
    return value


def hashed(name, count):
    with np.errstate(over="ignore"):
        x = np.uint64(fnv1a64(name)) + np.arange(1, count + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
        x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        x = x ^ (x >> np.uint64(31))
    return (x >> np.uint64(40)).astype(np.float64) / 2.0**24


def values(name, spec):
    count = math.prod(spec["shape"])
    flat = spec["center"] + spec["amplitude"] * (2.0 * hashed(name, count) - 1.0)
    return torch.from_numpy(flat.astype(np.float32).reshape(spec["shape"]))


def describe(name, shape, norm_center):
    embedding = any(part in name for part in ("embed", "wte", "wpe", "lm_head"))
    if len(shape) > 1:
        return {"shape": shape, "center": 0.0, "amplitude": 0.5 if embedding else 0.25}
    if name.endswith(".bias"):
        return {"shape": shape, "center": 0.0, "amplitude": 0.25}
    return {"shape": shape, "center": norm_center, "amplitude": 0.5}


LLAMA = dict(model_type="llama", vocab_size=VOCAB, hidden_size=32, intermediate_size=48, num_hidden_layers=2,
             num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=128, rms_norm_eps=1e-5)


def llama(**changes):
    return {**LLAMA, **changes}


def family(model_type, **changes):
    return {**LLAMA, "model_type": model_type, **changes}


def roped(**rope):
    return llama(max_position_embeddings=64, rope_parameters={"rope_theta": 1000.0, **rope})


SHORT = [1.0, 1.1, 1.2, 1.3]
LONG = [1.0, 1.5, 2.5, 4.0]
GEMMA = dict(head_dim=16, num_key_value_heads=1, pad_token_id=0)
GPT2 = dict(model_type="gpt2", vocab_size=VOCAB, n_positions=64, n_embd=32, n_layer=2, n_head=4)
NEOX = dict(model_type="gpt_neox", vocab_size=VOCAB, hidden_size=32, intermediate_size=48, num_hidden_layers=2,
            num_attention_heads=2, max_position_embeddings=128)
GEMMA3_V4 = {
    "model_type": "gemma3_text", "vocab_size": VOCAB, "hidden_size": 32, "intermediate_size": 48,
    "num_hidden_layers": 3, "num_attention_heads": 4, "num_key_value_heads": 1, "head_dim": 16, "pad_token_id": 0,
    "max_position_embeddings": 128, "query_pre_attn_scalar": 8, "sliding_window": 8, "sliding_window_pattern": 3,
    "rope_theta": 5000.0, "rope_local_base_freq": 100.0, "rope_scaling": {"rope_type": "linear", "factor": 4.0},
    "torch_dtype": "float32", "hidden_activation": "gelu_pytorch_tanh",
}

# name, configuration, whether config.json is stored as given (version-4 names) or as transformers 5 writes it
CASES = [
    ("llama", llama(pad_token_id=2), False),
    ("llama_biases", llama(attention_bias=True, mlp_bias=True, head_dim=12, num_key_value_heads=1), False),
    ("llama_tied", llama(tie_word_embeddings=True, num_key_value_heads=4), False),
    ("llama_linear", roped(rope_type="linear", factor=4.0), False),
    ("llama_dynamic", llama(max_position_embeddings=16, rope_parameters=dict(
        rope_type="dynamic", rope_theta=1000.0, factor=2.0)), False),
    ("llama_llama3", roped(rope_type="llama3", factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0,
                           original_max_position_embeddings=16), False),
    ("llama_yarn", roped(rope_type="yarn", factor=4.0, original_max_position_embeddings=16), False),
    ("llama_yarn_mscale", roped(rope_type="yarn", factor=4.0, original_max_position_embeddings=16, mscale=0.7,
                                mscale_all_dim=0.3, beta_fast=4.0, beta_slow=0.5, truncate=False), False),
    ("llama_longrope", roped(rope_type="longrope", original_max_position_embeddings=16, short_factor=SHORT,
                             long_factor=LONG), False),
    ("llama_version4", llama(rope_theta=500.0, torch_dtype="float32", rope_scaling=dict(
        type="linear", factor=2.0)), True),
    ("llama_version4_llama3", llama(rope_theta=500.0, torch_dtype="float32", rope_scaling=dict(
        rope_type="llama3", factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0,
        original_max_position_embeddings=32)), True),
    ("mistral", family("mistral", sliding_window=8), False),
    ("mistral_no_window", family("mistral", sliding_window=None, head_dim=16), False),
    ("qwen2", family("qwen2", tie_word_embeddings=True), False),
    ("qwen2_windows", family("qwen2", num_hidden_layers=3, use_sliding_window=True, sliding_window=8,
                             max_window_layers=1), False),
    ("qwen2_version4_yarn", family("qwen2", torch_dtype="float32", rope_theta=1000.0, rope_scaling=dict(
        type="yarn", factor=4.0, original_max_position_embeddings=16)), True),
    ("qwen3", family("qwen3", head_dim=16), False),
    ("qwen3_biases", family("qwen3", head_dim=12, attention_bias=True, num_hidden_layers=3, sliding_window=8,
                            use_sliding_window=True, layer_types=["full_attention", "sliding_attention",
                                                                  "full_attention"]), False),
    ("gemma", family("gemma", **GEMMA, hidden_act="gelu_pytorch_tanh", tie_word_embeddings=True), False),
    ("gemma_version4", family("gemma", **GEMMA, hidden_act="gelu", torch_dtype="float32", rope_theta=1000.0), True),
    ("gemma2", family("gemma2", **GEMMA, num_hidden_layers=3, sliding_window=8, query_pre_attn_scalar=20,
                      attn_logit_softcapping=2.0, final_logit_softcapping=3.0, tie_word_embeddings=True), False),
    ("gemma2_no_caps", family("gemma2", **GEMMA, sliding_window=8, attn_logit_softcapping=None,
                              final_logit_softcapping=None, tie_word_embeddings=True), False),
    ("gemma3_text", family("gemma3_text", **GEMMA, num_hidden_layers=3, sliding_window=8, query_pre_attn_scalar=20,
                           tie_word_embeddings=True, layer_types=["sliding_attention", "full_attention",
                                                                  "sliding_attention"]), False),
    ("gemma3_text_version4", GEMMA3_V4, True),
    ("phi3", family("phi3", pad_token_id=3), False),
    ("phi3_partial_window", family("phi3", pad_token_id=None, sliding_window=8, hidden_size=48, num_attention_heads=3,
                                   num_key_value_heads=1, rope_parameters=dict(
                                       rope_type="default", rope_theta=1000.0, partial_rotary_factor=0.5)), False),
    ("phi3_version4_longrope", family("phi3", pad_token_id=0, max_position_embeddings=64, torch_dtype="float32",
                                      original_max_position_embeddings=16, rope_theta=1000.0, rope_scaling=dict(
                                          type="longrope", short_factor=SHORT, long_factor=LONG)), True),
    ("gpt2", GPT2, False),
    ("gpt2_inverse_layer", {**GPT2, "n_inner": 40, "scale_attn_by_inverse_layer_idx": True,
                            "activation_function": "gelu"}, False),
    ("gpt_neox", NEOX, False),
    ("gpt_neox_sequential_version4", {**NEOX, "use_parallel_residual": False, "rotary_pct": 0.5, "rotary_emb_base": 500,
                                      "torch_dtype": "float32", "attention_bias": False}, True),
    ("gpt_neox_tied", {**NEOX, "tie_word_embeddings": True}, False),
    ("olmo2", family("olmo2", pad_token_id=1), False),
    ("granite", family("granite", embedding_multiplier=6.0, residual_multiplier=0.4, attention_multiplier=0.3,
                       logits_scaling=2.5), False),
    ("granite_biases_tied", family("granite", attention_bias=True, mlp_bias=True, tie_word_embeddings=True), False),
]


def row_ids(length):
    return [int(u * VOCAB) for u in hashed(f"row{length}", length)]


def logprobs(model, ids):
    tokens = torch.tensor([ids])
    logits = model(tokens, use_cache=False).logits[0, :-1]
    return torch.log_softmax(logits, -1).gather(1, tokens[0, 1:, None])[:, 0]


def rms_norm_in_double(module):
    """transformers computes its RMSNorm in float32 whatever the type; the same formula without that cast."""
    offset = 1.0 if "Gemma" in type(module).__name__ else 0.0
    eps = module.eps if hasattr(module, "eps") else module.variance_epsilon

    def forward(x):
        return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + eps) * (offset + module.weight)

    return forward


def load(folder, dtype, attention):
    return AutoModelForCausalLM.from_pretrained(folder, dtype=dtype, attn_implementation=attention).eval()


def make(name, config, as_given, folder):
    parsed = AutoConfig.for_model(config["model_type"], **{k: v for k, v in config.items() if k != "model_type"})
    AutoModelForCausalLM.from_config(parsed, dtype=torch.float32).save_pretrained(folder)
    if as_given:
        (folder / "config.json").write_text(json.dumps(config))
    stored = json.loads((folder / "config.json").read_text())
    stored.pop("transformers_version", None)
    norm_center = 0.0 if config["model_type"].startswith("gemma") else 1.0
    with safe_open(folder / "model.safetensors", "pt") as file:
        tensors = {key: describe(key, file.get_slice(key).get_shape(), norm_center) for key in sorted(file.keys())}
    save_file({key: values(key, spec) for key, spec in tensors.items()}, folder / "model.safetensors", {"format": "pt"})

    model = load(folder, torch.float32, "eager")
    rows = [row_ids(length) for length in LENGTHS]
    scored = [logprobs(model, ids) for ids in rows]
    sum(-row.mean() for row in scored).backward()
    renamed = {"lm_head.weight": "embed_out.weight"} if "embed_out.weight" in tensors else {}
    norms = {renamed.get(key, key): float(p.grad.norm()) for key, p in model.named_parameters()}
    assert sorted(norms) == sorted(tensors), (name, set(norms) ^ set(tensors))
    case = {
        "name": name,
        "config": stored,
        "tensors": tensors,
        "ids": rows,
        "logprobs": [[round(v, 7) for v in row.tolist()] for row in scored],
        "gradient_norms": {key: float(f"{v:.7g}") for key, v in norms.items()},
    }
    if config["model_type"] != "gemma2":  # eager attention rounds to float32; sdpa does not, but gemma2 has none
        double = load(folder, torch.float64, "sdpa")
        for module in double.modules():
            if "RMSNorm" in type(module).__name__:
                module.forward = rms_norm_in_double(module)
        with torch.no_grad():
            case["logprobs64"] = [logprobs(double, ids).tolist() for ids in rows]
    return case


def main():
    torch.set_num_threads(1)
    only = sys.argv[1:]
    cases = []
    for name, config, as_given in CASES:
        if only and name not in only:
            continue
        with tempfile.TemporaryDirectory() as folder:
            cases.append(make(name, config, as_given, Path(folder)))
        print(name, len(cases[-1]["tensors"]), file=sys.stderr)
    fixture = {
        "made_by": "tools/make_models.py",
        "versions": {"torch": torch.__version__, "transformers": transformers.__version__},
        "cases": cases,
    }
    OUT.parent.mkdir(parents=True, exist_ok=True)
    with gzip.GzipFile(OUT, "wb", mtime=0) as file:
        file.write(json.dumps(fixture, separators=(",", ":")).encode())
    print(OUT, OUT.stat().st_size, file=sys.stderr)


if __name__ == "__main__":
    main()

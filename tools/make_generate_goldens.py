"""Makes tests/fixtures/generate/goldens.json.gz: what transformers generates from the tiny models of make_models.py, and
which tokens its logits processors keep.

Ran with torch 2.13.0, transformers 5.23.0 (CPU, one thread, eager attention, float32). Run: python tools/make_generate_goldens.py

Per model and prompt: the greedy ids of `generate`, with and without a repetition penalty, each prompt alone; the gap between
the two best scores at each place (greedy texts may part where it is tiny); and the log-probability of each id under the
raw logits at temperature 1 and 0.7. Weights and prompts follow the formula in make_models.py.
"""

import gzip
import json
import sys
import tempfile
from pathlib import Path

import torch
import transformers
from safetensors.torch import save_file
from transformers import AutoConfig, AutoModelForCausalLM
from transformers.generation import logits_process as warp

import make_models

OUT = Path(__file__).resolve().parent.parent / "tests/fixtures/generate/goldens.json.gz"
NAMES = ["llama", "llama_biases", "llama_llama3", "mistral", "qwen2_windows", "qwen3", "gemma", "gemma2", "gemma3_text",
         "phi3_partial_window", "gpt2", "gpt_neox", "olmo2", "granite"]
LENGTHS = [1, 7, 16, 30]
NEW = 24
PENALTIES = [1.0, 1.3]

FILTERS = [
    dict(top_k=1), dict(top_k=7), dict(top_k=1000), dict(top_p=0.05), dict(top_p=0.5), dict(top_p=0.99),
    dict(min_p=0.02), dict(min_p=0.5), dict(top_k=20, top_p=0.8), dict(top_k=50, top_p=0.9, min_p=0.1),
    dict(temperature=0.5, top_p=0.9), dict(temperature=2.0, min_p=0.2), dict(temperature=1.7, top_k=30, top_p=0.7, min_p=0.05),
    dict(repetition_penalty=1.5, top_k=10), dict(repetition_penalty=0.7, temperature=0.8, top_p=0.6),
]
FILTER_VOCAB = 301
SEEN = [0, 5, 17, 100, 250, 300]


def kept(options):
    logits = torch.from_numpy((6.0 * (2.0 * make_models.hashed("filters", FILTER_VOCAB) - 1.0)).astype("float32"))[None]
    steps = []
    if "repetition_penalty" in options:
        steps.append(warp.RepetitionPenaltyLogitsProcessor(options["repetition_penalty"]))
    if "temperature" in options:
        steps.append(warp.TemperatureLogitsWarper(options["temperature"]))
    if "top_k" in options:
        steps.append(warp.TopKLogitsWarper(options["top_k"]))
    if "top_p" in options:
        steps.append(warp.TopPLogitsWarper(options["top_p"]))
    if "min_p" in options:
        steps.append(warp.MinPLogitsWarper(options["min_p"]))
    for step in steps:
        logits = step(torch.tensor([SEEN]), logits)
    ids = torch.nonzero(torch.isfinite(logits[0]))[:, 0].tolist()
    logprobs = torch.log_softmax(logits[0].double(), -1)[ids]
    return dict(options=options, kept=ids, logprobs=[round(v, 6) for v in logprobs.tolist()])


def greedy(model, prompt, penalty):
    out = model.generate(
        torch.tensor([prompt]), attention_mask=torch.ones(1, len(prompt), dtype=torch.long), do_sample=False, num_beams=1,
        max_new_tokens=NEW, min_new_tokens=None, repetition_penalty=penalty, eos_token_id=None, bos_token_id=None, pad_token_id=None,
        return_dict_in_generate=True, output_scores=True, output_logits=True)
    ids = out.sequences[0, len(prompt):].tolist()
    assert len(ids) == NEW, len(ids)
    gaps = [float(t.values[0] - t.values[1]) for t in (s[0].topk(2) for s in out.scores)]
    raw = torch.cat(out.logits).float()
    picked = torch.tensor(ids)[:, None]
    return dict(
        penalty=penalty, prompt=prompt, ids=ids, gaps=[float(f"{g:.3g}") for g in gaps],
        logprobs=[round(v, 6) for v in torch.log_softmax(raw, -1).gather(1, picked)[:, 0].tolist()],
        logprobs_07=[round(v, 6) for v in torch.log_softmax(raw / 0.7, -1).gather(1, picked)[:, 0].tolist()])


def generate(case):
    name, config, as_given = case
    assert not as_given
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        tensors = make_models.make(name, config, as_given, folder)["tensors"]
        save_file({key: make_models.values(key, spec) for key, spec in tensors.items()}, folder / "model.safetensors",
                  {"format": "pt"})
        model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager").eval()
        with torch.no_grad():
            return [greedy(model, make_models.row_ids(length), penalty) for length in LENGTHS for penalty in PENALTIES]


def main():
    torch.set_num_threads(1)
    cases = {case[0]: case for case in make_models.CASES}
    fixture = {
        "made_by": "tools/make_generate_goldens.py",
        "versions": {"torch": torch.__version__, "transformers": transformers.__version__},
        "models": {},
        "filters": {"vocab": FILTER_VOCAB, "seen": SEEN, "cases": [kept(options) for options in FILTERS]},
    }
    for name in NAMES:
        fixture["models"][name] = generate(cases[name])
        print(name, file=sys.stderr)
    OUT.parent.mkdir(parents=True, exist_ok=True)
    with gzip.GzipFile(OUT, "wb", mtime=0) as file:
        file.write(json.dumps(fixture, separators=(",", ":")).encode())
    print(OUT, OUT.stat().st_size, file=sys.stderr)


if __name__ == "__main__":
    main()

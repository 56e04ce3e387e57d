"""Loads the adapter folders that rlhf.cpp saved in PEFT, and the merged models in transformers: same numbers as ours.

PEFT must find every key and no other. Language models are compared by log-probabilities, classifiers by scores.

First let the tests leave them:  RLHF_SAVED_ADAPTERS=DIR build/release/tests/models/test_models --gtest_filter=*LeavesIts*
then run:                        python tools/check_saved_adapters.py DIR
Ran with torch 2.13.0, transformers 5.24.0, peft 0.21.2.
"""

import json
import sys
import warnings
from pathlib import Path

import torch
from make_lora_goldens import CLASSES
from make_models import logprobs
from peft import PeftConfig, PeftModel
from safetensors.torch import load_file


def load_plain(folder, config, labels):
    return CLASSES[config.task_type].from_pretrained(folder, dtype=torch.float32, attn_implementation="eager", **labels).eval()


def numbers(model, task, ids):
    if task == "CAUSAL_LM":
        return logprobs(model, ids)
    return model(torch.tensor([ids]), use_cache=False).logits.reshape(-1)


def check(folder):
    case = json.loads((folder / "case.json").read_text())
    config = PeftConfig.from_pretrained(folder / "adapter")
    stored = load_file(folder / "adapter/adapter_model.safetensors")
    scores = [tensor for key, tensor in stored.items() if ".score." in key or ".classifier." in key]
    labels = {"num_labels": scores[0].shape[0]} if scores else {}
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        adapted = PeftModel.from_pretrained(load_plain(folder / "base", config, labels), folder / "adapter").eval()
    complaints = [str(one.message) for one in caught if "missing" in str(one.message) or "unexpected" in str(one.message)]
    merged = load_plain(folder / "merged", config, {})
    worst = {}
    with torch.no_grad():
        for name, model in (("adapter", adapted), ("merged", merged)):
            worst[name] = max(float((numbers(model, config.task_type, ids) - torch.tensor(want)).abs().max())
                              for ids, want in zip(case["ids"], case["outputs"]))
    return worst, complaints


def main():
    torch.set_num_threads(1)
    failed = False
    for folder in sorted(Path(sys.argv[1]).iterdir()):
        worst, complaints = check(folder)
        failed |= max(worst.values()) > 2e-5 or bool(complaints)
        print(f"{folder.name}: largest difference {worst['adapter']:.1e} with the adapter, {worst['merged']:.1e} merged",
              *complaints)
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()

"""Loads the folders that rlhf.cpp saved, whole and sharded, in transformers: same scores, and saved again the same bytes.

Language models are compared by log-probabilities; reward models and process reward models by their scores, of rows taken
alone and of all rows in one batch that is padded with config.json's pad_token_id (but where transformers makes rotary
angles depend on the longest row of the batch: dynamic and longrope).

First let the tests leave them:  RLHF_SAVED_MODELS=DIR build/release/tests/models/test_models --gtest_filter=*LeavesSaved*
then run:                        python tools/check_saved_models.py DIR
Ran with torch 2.13.0, transformers 5.23.0.
"""

import json
import sys
import tempfile
from pathlib import Path

import make_models
import make_reward_models
import torch
from safetensors.torch import load_file


def language_model(folder, case):
    model = make_models.load(folder, torch.float32, "eager")
    return model, [(make_models.logprobs(model, ids), want) for ids, want in zip(case["ids"], case["logprobs"])]


def classifier(folder, case):
    model = make_reward_models.load(folder, case["kind"])
    found = [make_reward_models.scores_alone(model, case["ids"])]
    rope = getattr(model.config, "rope_parameters", None) or {}
    if rope.get("rope_type") not in ("dynamic", "longrope"):
        found.append(make_reward_models.scores_padded(model, case["kind"], case["ids"], model.config.pad_token_id))
    return model, [(got.flatten(), want) for some in found for got, want in zip(some, case["scores"])]


def check(folder):
    case = json.loads((folder / "case.json").read_text())
    worst = 0.0
    for kind in ("whole", "shards"):
        with torch.no_grad():
            model, pairs = (classifier if "scores" in case else language_model)(folder / kind, case)
        worst = max(worst, *(float((got - torch.tensor(want)).abs().max()) for got, want in pairs))
    with tempfile.TemporaryDirectory() as again:
        model.save_pretrained(again)
        ours = folder / "whole" / "model.safetensors"
        theirs = Path(again) / "model.safetensors"
        same_bytes = ours.read_bytes() == theirs.read_bytes()
        if not same_bytes:  # say what differs
            a, b = load_file(ours), load_file(theirs)
            print("  keys", sorted(set(a) ^ set(b)), "values", [k for k in a if k in b and not torch.equal(a[k], b[k])])
    return worst, same_bytes


def main():
    torch.set_num_threads(1)
    failed = False
    for folder in sorted(Path(sys.argv[1]).iterdir()):
        worst, same_bytes = check(folder)
        failed |= worst > 1e-5 or not same_bytes
        print(f"{folder.name}: largest error {worst:.1e}, bytes {'equal' if same_bytes else 'DIFFER'}")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()

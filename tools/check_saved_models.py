"""Loads the folders that rlhf.cpp saved, whole and sharded, in transformers: same scores, and saved again the same bytes.

First let the tests leave them:  RLHF_SAVED_MODELS=DIR build/release/tests/models/test_models --gtest_filter=*LeavesSaved*
then run:                        python tools/check_saved_models.py DIR
Ran with torch 2.13.0, transformers 5.23.0.
"""

import json
import sys
import tempfile
from pathlib import Path

import torch
from make_models import load, logprobs
from safetensors.torch import load_file


def check(folder):
    case = json.loads((folder / "case.json").read_text())
    worst = 0.0
    for kind in ("whole", "shards"):
        model = load(folder / kind, torch.float32, "eager")
        with torch.no_grad():
            for ids, expected in zip(case["ids"], case["logprobs"]):
                worst = max(worst, float((logprobs(model, ids) - torch.tensor(expected)).abs().max()))
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

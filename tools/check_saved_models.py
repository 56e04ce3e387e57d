"""Loads the folders that rlhf.cpp saved in transformers: same bytes, same scores.

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
        # The sharded save, cut at the same size, has the same index.
        sharded = Path(again) / "shards"
        model.save_pretrained(sharded, max_shard_size=20_000)
        index = "model.safetensors.index.json"
        ours_index = json.loads((folder / "shards" / index).read_text())
        theirs_index = json.loads((sharded / index).read_text())
        same_index = ours_index == theirs_index
        if not same_index:
            diff = {k: (v, theirs_index["weight_map"].get(k)) for k, v in ours_index["weight_map"].items()
                    if theirs_index["weight_map"].get(k) != v}
            print("  index", ours_index["metadata"], theirs_index["metadata"], dict(list(diff.items())[:3]))
    return worst, same_bytes, same_index


def main():
    torch.set_num_threads(1)
    failed = False
    for folder in sorted(Path(sys.argv[1]).iterdir()):
        worst, same_bytes, same_index = check(folder)
        failed |= worst > 1e-5 or not same_bytes
        print(f"{folder.name}: largest error {worst:.1e}, bytes {'equal' if same_bytes else 'DIFFER'}, "
              f"shards {'equal' if same_index else 'differ'}")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()

"""Records transformers' schedules and the updates of torch's and transformers' optimizers for tests/train.

Run: python tools/make_train_goldens.py       (torch 2.13.0 CPU, transformers 5.23.0, seed 11)
"""

import json
import pathlib

import torch
import transformers
from transformers.optimization import Adafactor, get_scheduler

OUT = pathlib.Path(__file__).resolve().parent.parent / "tests" / "fixtures" / "train" / "optimization.json"
BASE, WARMUP, TOTAL = 3e-3, 5, 40

CURVES = {
    "linear": {}, "cosine": {}, "cosine_with_restarts": {"num_cycles": 3}, "polynomial": {"power": 2.0, "lr_end": 1e-5},
    "constant": {}, "constant_with_warmup": {}, "inverse_sqrt": {"timescale": 8}, "cosine_with_min_lr": {"min_lr": 1e-4},
    "cosine_warmup_with_min_lr": {"min_lr_rate": 0.1, "warmup_lr_rate": 0.2},
    "warmup_stable_decay": {"num_decay_steps": 12, "decay_type": "1-sqrt", "warmup_type": "cosine", "min_lr_ratio": 0.05},
}
FOLLOWERS = {
    "reduce_lr_on_plateau": {"factor": 0.5, "patience": 1, "cooldown": 1, "min_lr": 1e-4},
    "greedy": {"factor": 0.8, "patience": 1, "cooldown": 1, "warmup": 1, "min_lr": 1e-3, "max_lr": 1e-2, "smooth": True,
               "window_size": 3, "reset_start": 2},
}
METRICS = [3.0, 2.5, 2.4, 2.3, 2.2, 2.2, 2.2, 2.25, 2.3, 2.31, 2.32, 2.33, 2.35, 2.4, 2.4, 2.5, 2.5, 2.6, 2.7, 2.8, 2.0, 1.9, 1.8, 1.7, 1.6]
EXTRA_CURVES = [("inverse_sqrt", {}, 0), ("warmup_stable_decay", {"num_decay_steps": 10}, 4), ("cosine_warmup_with_min_lr", {"min_lr": 3e-4}, 6)]


def optimizer_for_schedule():
    return torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=BASE)


def curve(name, kwargs, warmup):
    optimizer = optimizer_for_schedule()
    scheduler = get_scheduler(name, optimizer, warmup, TOTAL, kwargs)
    rates = []
    for _ in range(TOTAL + 3):
        rates.append(scheduler.get_last_lr()[0])
        optimizer.step()
        scheduler.step()
    return {"type": name, "kwargs": kwargs, "warmup": warmup, "rates": rates}


def follower(name, kwargs):
    optimizer = optimizer_for_schedule()
    scheduler = get_scheduler(name, optimizer, 0, TOTAL, kwargs)
    rates = []
    for metric in METRICS:
        rates.append(optimizer.param_groups[0]["lr"])
        scheduler.step(metric)
    return {"type": name, "kwargs": kwargs, "rates": rates}


def updates(make, steps=6):
    """Weights after each step on a matrix and a vector with the gradients given."""
    draw = torch.Generator().manual_seed(11)
    start = {"layer.weight": torch.randn(4, 6, generator=draw), "layer.bias": torch.randn(6, generator=draw)}
    parameters = {name: torch.nn.Parameter(value.clone()) for name, value in start.items()}
    optimizer = make(parameters)
    history = []
    for _ in range(steps):
        gradients = {name: torch.randn(value.shape, generator=draw) for name, value in start.items()}
        for name, parameter in parameters.items():
            parameter.grad = gradients[name].clone()
        optimizer.step()
        history.append({"gradients": {n: g.flatten().tolist() for n, g in gradients.items()},
                        "weights": {n: p.detach().flatten().tolist() for n, p in parameters.items()}})
    return {"start": {n: v.flatten().tolist() for n, v in start.items()}, "history": history}


def groups(parameters, decay):
    return [{"params": [parameters["layer.weight"]], "weight_decay": decay}, {"params": [parameters["layer.bias"]], "weight_decay": 0.0}]


def main():
    optimizers = {
        "adamw": updates(lambda p: torch.optim.AdamW(groups(p, 0.1), lr=1e-2, betas=(0.8, 0.95), eps=1e-6)),
        "sgd": updates(lambda p: torch.optim.SGD(groups(p, 0.1), lr=1e-2, momentum=0.9, dampening=0.2)),
        "sgd_nesterov": updates(lambda p: torch.optim.SGD(groups(p, 0.1), lr=1e-2, momentum=0.9, nesterov=True)),
        "adafactor": updates(lambda p: Adafactor(groups(p, 0.1), lr=1e-2, scale_parameter=False, relative_step=False)),
    }
    curves = [curve(name, kwargs, WARMUP) for name, kwargs in CURVES.items()] + [curve(*extra) for extra in EXTRA_CURVES]
    document = {
        "made_with": {"torch": torch.__version__, "transformers": transformers.__version__},
        "base": BASE, "total": TOTAL, "metrics": METRICS, "curves": curves,
        "followers": [follower(name, kwargs) for name, kwargs in FOLLOWERS.items()],
        "optimizers": optimizers,
    }
    OUT.write_text(json.dumps(document) + "\n")


if __name__ == "__main__":
    main()

"""Records the expected values of tests/math and of the element-wise kernels in tests/kernels.

Everything is computed in double by formulas written out here, or by transformers and torch.optim, never by this
project. Run: python tools/make_math_goldens.py (made with torch 2.13.0, transformers 5.23.0; seed 20250214).
"""

import json
import pathlib

import torch
from transformers.models.gemma.modeling_gemma import GemmaRMSNorm
from transformers.models.llama.modeling_llama import LlamaRMSNorm, apply_rotary_pos_emb
from transformers.trainer_pt_utils import LabelSmoother

SEED = 20250214
FIXTURES = pathlib.Path(__file__).resolve().parent.parent / "tests" / "fixtures"
ROWS, WIDTH, VOCAB = 7, 5, 29


def plain(value):
    return value.detach().double().tolist() if isinstance(value, torch.Tensor) else value


def normal(generator, *shape, scale=1.0):
    return torch.randn(*shape, generator=generator, dtype=torch.double) * scale


def head_logits(case, hidden, weight, bias):
    x = torch.einsum("rc,vc->rv", hidden, weight)
    if bias is not None:
        x = x + bias
    x = x * case["logit_scale"]
    if case["softcap"] > 0:
        x = case["softcap"] * (torch.exp(2 * x / case["softcap"]) - 1) / (torch.exp(2 * x / case["softcap"]) + 1)
    return x


def head_case(generator, name, **changes):
    case = {"name": name, "bias": False, "logit_scale": 1.0, "softcap": 0.0, "temperature": 1.0, "scale": 1.5}
    case.update(changes)
    hidden = normal(generator, ROWS, WIDTH, scale=case["scale"]).requires_grad_()
    weight = normal(generator, VOCAB, WIDTH, scale=0.8).requires_grad_()
    bias = normal(generator, VOCAB).requires_grad_() if case["bias"] else None
    targets = torch.randint(0, VOCAB, (ROWS,), generator=generator)
    leaves = [hidden, weight] + ([bias] if bias is not None else [])

    z = head_logits(case, hidden, weight, bias) / case["temperature"]
    top = z.max(dim=1, keepdim=True).values
    normaliser = top + torch.log(torch.exp(z - top).sum(dim=1, keepdim=True))
    log_p = z - normaliser
    logprobs = log_p[torch.arange(ROWS), targets]
    entropy = -(torch.exp(log_p) * log_p).sum(dim=1)
    g, g_entropy = normal(generator, ROWS), normal(generator, ROWS)

    def grads(value):
        out = torch.autograd.grad(value, leaves, retain_graph=True)
        return {key: plain(t) for key, t in zip(["hidden", "weight", "bias"], out)}

    coefficients = torch.rand(ROWS, generator=generator, dtype=torch.double)
    supervised = {"nll": -(coefficients * logprobs).sum(),
                  "dft": -(coefficients * torch.exp(logprobs.detach()) * logprobs).sum()}
    # transformers' smoother takes plain means and sums in fp32: it vouches for the formula, not for its last digits.
    supervised["smoothed_mean"] = -(0.9 * logprobs + 0.1 * log_p.mean(dim=1)).mean()
    theirs = LabelSmoother(epsilon=0.1)({"logits": z[None]}, targets[None])
    assert abs(theirs.item() - supervised["smoothed_mean"].item()) < 1e-6
    case.update(hidden=plain(hidden), weight=plain(weight), bias=plain(bias) if bias is not None else None,
                targets=targets.tolist(), logprobs=plain(logprobs), entropy=plain(entropy),
                top1=[int(b) for b in (z.argmax(dim=1) == targets)],
                g=plain(g), g_entropy=plain(g_entropy), coefficients=plain(coefficients),
                grads_logprobs=grads((g * logprobs).sum()),
                grads_both=grads((g * logprobs).sum() + (g_entropy * entropy).sum()),
                supervised={k: {"loss": plain(v), "grads": grads(v)} for k, v in supervised.items()})
    return case


def adamw_case(generator, name, steps=6, size=37, **settings):
    parameter = torch.nn.Parameter(torch.randn(size, generator=generator))
    start = parameter.detach().clone()
    optimizer = torch.optim.AdamW([parameter], foreach=False, fused=False, **settings)
    record = []
    for step in range(steps):
        rate = settings["lr"] * (1 - step / steps)
        optimizer.param_groups[0]["lr"] = rate
        parameter.grad = torch.randn(size, generator=generator) * 0.3
        record.append({"lr": rate, "grad": plain(parameter.grad)})
        optimizer.step()
        record[-1]["parameter"] = plain(parameter)
    state = optimizer.state[parameter]
    return {"name": name, "start": plain(start), "beta1": settings["betas"][0], "beta2": settings["betas"][1],
            "eps": settings["eps"], "weight_decay": settings["weight_decay"], "steps": record,
            "exp_avg": plain(state["exp_avg"]), "exp_avg_sq": plain(state["exp_avg_sq"])}


def norm_case(generator, kind, eps):
    module = kind(6, eps=eps).double()
    x = normal(generator, 4, 6)
    with torch.no_grad():
        module.weight.copy_(normal(generator, 6))
    # Both modules compute in float whatever they are given, which bounds what the test may ask for.
    return {"offset": 1.0 if kind is GemmaRMSNorm else 0.0, "eps": eps, "x": plain(x),
            "weight": plain(module.weight), "y": plain(module(x))}


def rotary_case(generator):
    tokens, heads, width = 5, 2, 6
    x = normal(generator, tokens, heads, width)
    angle = torch.outer(torch.arange(tokens, dtype=torch.double), torch.tensor([1.0, 0.1, 0.01]).double())
    cos, sin = torch.cat([angle, angle], -1).cos(), torch.cat([angle, angle], -1).sin()
    y, _ = apply_rotary_pos_emb(x.transpose(0, 1)[None], x.transpose(0, 1)[None], cos[None], sin[None])
    return {"x": plain(x), "cos": plain(angle.cos()), "sin": plain(angle.sin()), "y": plain(y[0].transpose(0, 1))}


def main():
    generator = torch.Generator().manual_seed(SEED)
    heads = [
        head_case(generator, "plain"),
        head_case(generator, "temperature", temperature=0.7),
        head_case(generator, "bias_scale", bias=True, logit_scale=0.25, temperature=1.3),
        head_case(generator, "softcap", softcap=3.0),
        head_case(generator, "everything", bias=True, logit_scale=0.5, softcap=2.5, temperature=0.6),
    ]
    (FIXTURES / "math").mkdir(parents=True, exist_ok=True)
    (FIXTURES / "kernels").mkdir(parents=True, exist_ok=True)
    (FIXTURES / "math" / "head.json").write_text(json.dumps(heads) + "\n")
    kernels = {
        "adamw": [adamw_case(generator, "decay", lr=1e-2, betas=(0.9, 0.95), eps=1e-8, weight_decay=0.1),
                  adamw_case(generator, "large_eps", lr=3e-3, betas=(0.8, 0.999), eps=1e-2, weight_decay=0.0)],
        "rms_norm": [norm_case(generator, LlamaRMSNorm, 1e-5), norm_case(generator, GemmaRMSNorm, 1e-6)],
        "rotary": rotary_case(generator),
    }
    (FIXTURES / "kernels" / "elementwise.json").write_text(json.dumps(kernels) + "\n")


if __name__ == "__main__":
    main()

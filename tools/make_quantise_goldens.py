"""Records bitsandbytes' dynamic maps and twenty steps of AdamW in 8 bits for tests/kernels.

The steps are plain numpy in double, by the formulas of the paper (arXiv 2110.02861), on gradients that are exact in fp32 and
that the test makes for itself. bitsandbytes' own CPU form is not the oracle: its quantiser (0.50) does not take the nearest
value; its plain PyTorch form, which does, is asked for agreement before anything is written.

Run: python tools/make_quantise_goldens.py     (numpy 2.4.6, torch 2.13.0 CPU, bitsandbytes 0.50.2; no random numbers)
"""

import json
import pathlib

import bitsandbytes
import numpy
import torch
from bitsandbytes.functional import create_dynamic_map

OUT = pathlib.Path(__file__).resolve().parent.parent / "tests" / "fixtures" / "kernels" / "quantise.json"
BLOCK, SHAPE, STEPS, STRIDE = 256, (44, 100), 20, 41
LR, BETA1, BETA2, EPS, DECAY, SCALE = 1e-2, 0.9, 0.99, 1e-8, 0.1, 0.5


def whole(index, step, factor, modulus):
    """Whole numbers around 0 that look like noise."""
    return (index * factor + step * 104729 + 17) % modulus - modulus // 2


def start():
    return whole(numpy.arange(4400), 0, 7919, 2003) / 1024.0


def gradient(step):
    """Sizes from 2^-8 to 1 within every block, so that codes of several decades are met."""
    index = numpy.arange(4400)
    return whole(index, step, 6007, 1999) / 1024.0 * 2.0 ** -(index % 9)


def in_blocks(x):
    return numpy.pad(x, (0, -len(x) % BLOCK)).reshape(-1, BLOCK)


def quantise(x, values):
    rows = in_blocks(x).astype(numpy.float32)
    absmax = numpy.abs(rows).max(axis=1)
    u = (rows / numpy.where(absmax > 0, absmax, 1)[:, None]).astype(numpy.float64)
    codes = numpy.abs(u[:, :, None] - values.astype(numpy.float64)).argmin(axis=2)
    plain, _ = torch.ops.bitsandbytes.quantize_blockwise(torch.from_numpy(rows.reshape(-1)).double(), torch.from_numpy(values), BLOCK)
    # Only numbers in the middle of two values may differ: bitsandbytes compares in fp32.
    assert (plain.numpy() != codes.reshape(-1)).mean() < 1e-3
    return codes.reshape(-1)[: len(x)], absmax


def dequantise(codes, absmax, values):
    return values.astype(numpy.float64)[codes] * numpy.repeat(absmax, BLOCK)[: len(codes)].astype(numpy.float64)


def trajectory(signed, unsigned):
    p = start()
    m, v = ((numpy.zeros(len(p), dtype=int), numpy.zeros(len(in_blocks(p)), dtype=numpy.float32)) for _ in range(2))
    history = []
    for t in range(1, STEPS + 1):
        g = gradient(t) * SCALE
        m_now = BETA1 * dequantise(*m, signed) + (1 - BETA1) * g
        v_now = BETA2 * dequantise(*v, unsigned) + (1 - BETA2) * g * g
        p = p * (1 - LR * DECAY) - LR / (1 - BETA1**t) * m_now / (numpy.sqrt(v_now / (1 - BETA2**t)) + EPS)
        m, v = quantise(m_now, signed), quantise(v_now, unsigned)
        history.append(p[::STRIDE].tolist())
    return {"shape": SHAPE, "stride": STRIDE, "lr": LR, "beta1": BETA1, "beta2": BETA2, "eps": EPS, "weight_decay": DECAY, "grad_scale": SCALE,
            "parameters": history, "exp_avg": bytes(m[0].astype(numpy.uint8)).hex(), "exp_avg_absmax": m[1].tolist(),
            "exp_avg_sq": bytes(v[0].astype(numpy.uint8)).hex(), "exp_avg_sq_absmax": v[1].tolist()}


def main():
    signed, unsigned = create_dynamic_map(signed=True).numpy(), create_dynamic_map(signed=False).numpy()
    document = {
        "made_with": {"numpy": numpy.__version__, "torch": torch.__version__, "bitsandbytes": bitsandbytes.__version__},
        "signed": signed.tolist(), "unsigned": unsigned.tolist(), "adamw": trajectory(signed, unsigned),
    }
    OUT.write_text(json.dumps(document) + "\n")


if __name__ == "__main__":
    main()

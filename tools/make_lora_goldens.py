"""Makes tests/fixtures/lora: what PEFT says about adapters of tiny models.

Ran with torch 2.13.0, transformers 5.24.0, peft 0.21.2 (CPU, one thread, eager attention, float32).
Run: python tools/make_lora_goldens.py

Base weights are those of tools/make_models.py, by formula, and so are the adapters': PEFT writes a folder, its tensors are
replaced by the formula's values under the same keys, and PEFT loads the folder again. Each case of cases.json.gz: the name
of the base's case, adapter_config.json as PEFT wrote it, the keys with shape, center and amplitude, the log-probability of
every next token (a classifier: its scores, of every token or of a row's last), and of every trained tensor the norm of the
gradient of the sum over rows of the mean -log p (a classifier: of the sum of squares of the scores) and the gradient's product with
the formula's values of amplitude 1. `initial` is what PEFT starts from: which tensors are zero, and the bound of the others.
The folder llama_dora is one case as PEFT wrote it, byte for byte.
"""

import gzip
import json
import shutil
import sys
import tempfile
from pathlib import Path

import peft
import torch
import transformers
from make_models import CASES, LENGTHS, describe, logprobs, row_ids, values
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import (AutoConfig, AutoModelForCausalLM, AutoModelForSequenceClassification,
                          AutoModelForTokenClassification)

OUT = Path(__file__).resolve().parent.parent / "tests/fixtures/lora"
CLASSES = {"CAUSAL_LM": AutoModelForCausalLM, "SEQ_CLS": AutoModelForSequenceClassification,
           "TOKEN_CLS": AutoModelForTokenClassification}
LINEAR = "all-linear"

# name, base, LoraConfig
ADAPTERS = [
    ("llama_lora", "llama", dict(r=2, lora_alpha=4)),
    ("llama_rslora", "llama", dict(r=4, lora_alpha=3, use_rslora=True, target_modules=LINEAR)),
    ("llama_dora", "llama", dict(r=2, lora_alpha=4, use_dora=True, target_modules=LINEAR)),
    ("llama_saved", "llama", dict(r=2, target_modules=["o_proj", "up_proj"],
                                  modules_to_save=["lm_head", "embed_tokens", "norm"])),
    ("llama_biases_dora", "llama_biases", dict(r=2, use_dora=True, use_rslora=True, target_modules=LINEAR)),
    ("llama_pattern", "llama", dict(r=2, target_modules=r".*\.1\.(self_attn|mlp)\.(q|down)_proj")),
    ("llama_layer", "llama", dict(r=3, lora_alpha=1, target_modules=["q_proj", "gate_proj"], layers_to_transform=[1])),
    ("gpt2_lora", "gpt2", dict(r=2, lora_alpha=4)),
    ("gpt2_rslora", "gpt2", dict(r=4, lora_alpha=3, use_rslora=True, target_modules=LINEAR)),
    ("gpt2_dora", "gpt2", dict(r=2, lora_alpha=4, use_dora=True, target_modules=LINEAR)),
    ("gpt2_saved", "gpt2", dict(r=2, target_modules=["c_attn", "mlp.c_proj"], modules_to_save=["wte", "ln_f"])),
    ("phi3_lora", "phi3", dict(r=2, lora_alpha=4, target_modules=["qkv_proj", "gate_up_proj"])),
    ("phi3_rslora", "phi3", dict(r=4, lora_alpha=3, use_rslora=True, target_modules=LINEAR)),
    ("phi3_dora", "phi3", dict(r=2, lora_alpha=4, use_dora=True, target_modules=LINEAR)),
    ("phi3_saved", "phi3", dict(r=2, target_modules=["qkv_proj"], modules_to_save=["lm_head", "input_layernorm"])),
    ("gemma2_lora", "gemma2", dict(r=2, lora_alpha=4)),
    ("gemma2_rslora", "gemma2", dict(r=4, lora_alpha=3, use_rslora=True, target_modules=LINEAR)),
    ("gemma2_dora", "gemma2", dict(r=2, lora_alpha=4, use_dora=True, target_modules=LINEAR)),
    ("gemma2_saved_head", "gemma2", dict(r=2, modules_to_save=["lm_head"])),
    ("gemma2_saved_embedding", "gemma2", dict(r=2, modules_to_save=["embed_tokens"])),
    ("gemma2_saved_both", "gemma2", dict(r=2, modules_to_save=["lm_head", "embed_tokens"])),
    ("gemma2_saved_tied", "gemma2", dict(r=2, modules_to_save=["embed_tokens"], ensure_weight_tying=True)),
    ("gpt_neox_dora", "gpt_neox", dict(r=2, use_dora=True, target_modules=LINEAR)),
    ("gpt_neox_saved", "gpt_neox", dict(r=2, modules_to_save=["lm_head", "mlp"])),
    ("qwen3_lora", "qwen3", dict(r=2, target_modules=LINEAR)),
    ("llama_scores", "llama", dict(r=2, target_modules=LINEAR, task_type="SEQ_CLS")),
    ("llama_token_scores", "llama", dict(r=2, use_dora=True, target_modules=["q_proj"], task_type="TOKEN_CLS")),
]


def base_model(config, task, folder):
    """The model of tools/make_models.py as a folder and loaded; the classifier's head comes with the adapter."""
    given = {k: v for k, v in config.items() if k != "model_type"}
    labels = {} if task == "CAUSAL_LM" else {"num_labels": 1 if task == "SEQ_CLS" else 2}
    parsed = AutoConfig.for_model(config["model_type"], **given)
    norm_center = 0.0 if config["model_type"].startswith("gemma") else 1.0
    AutoModelForCausalLM.from_config(parsed, dtype=torch.float32).save_pretrained(folder)
    tensors = load_file(folder / "model.safetensors")
    specs = {key: describe(key, list(tensor.shape), norm_center) for key, tensor in tensors.items()}
    save_file({key: values(key, spec) for key, spec in specs.items()}, folder / "model.safetensors", {"format": "pt"})
    return CLASSES[task].from_pretrained(folder, dtype=torch.float32, attn_implementation="eager", **labels).eval()


def describe_adapter(key, tensor):
    shape = list(tensor.shape)
    if ".lora_A." in key or ".lora_B." in key:
        return {"shape": shape, "center": 0.0, "amplitude": 0.3 if ".lora_A." in key else 0.2}
    if key.endswith(".lora_magnitude_vector"):
        return {"shape": shape, "center": 0.8, "amplitude": 0.3}
    return describe(key, shape, 0.9)


def key_of(parameter):
    name = parameter.replace(".modules_to_save.default.", ".").replace(".default", "")
    return name.removesuffix(".weight") if name.endswith("lora_magnitude_vector.weight") else name


def outputs_and_loss(model, task):
    rows = [row_ids(length) for length in LENGTHS]
    if task == "CAUSAL_LM":
        scored = [logprobs(model, ids) for ids in rows]
        return scored, sum(-row.mean() for row in scored)
    scored = [model(torch.tensor([ids]), use_cache=False).logits.reshape(-1) for ids in rows]
    return scored, sum((row * row).sum() for row in scored)


def short(values_):
    return [float(f"{v:.7g}") for v in values_]


def make(name, base, options, folder):
    options = {"task_type": "CAUSAL_LM", **options}
    task = options["task_type"]
    config = next(config for case, config, _ in CASES if case == base)
    model = base_model(config, task, folder / "base")
    wrapped = get_peft_model(model, LoraConfig(**options))
    wrapped.save_pretrained(folder / "adapter")
    path = folder / "adapter/adapter_model.safetensors"
    start = load_file(path)
    specs = {key: describe_adapter(key, tensor) for key, tensor in start.items()}
    new = {key: values(key, spec) for key, spec in specs.items()}
    if options.get("ensure_weight_tying"):
        key = next(key for key in new if "embed_tokens" in key)
        specs["base_model.model.lm_head.weight"] = {**specs[key], "same_as": key}
        new["base_model.model.lm_head.weight"] = new[key].clone()
    save_file(new, path, {"format": "pt"})
    adapter = json.loads((folder / "adapter/adapter_config.json").read_text())
    adapter["base_model_name_or_path"] = "base"

    fresh = base_model(config, task, folder / "base")
    loaded = PeftModel.from_pretrained(fresh, folder / "adapter", is_trainable=True).eval()
    scored, loss = outputs_and_loss(loaded, task)
    loss.backward()
    gradients = {}
    for parameter, tensor in loaded.named_parameters():
        if tensor.requires_grad:
            key = key_of(parameter)
            along = values(key, {"shape": list(tensor.shape), "center": 0.0, "amplitude": 1.0})
            gradients[key] = short([tensor.grad.norm(), (tensor.grad * along).sum()])
    if not options.get("ensure_weight_tying"):
        assert sorted(gradients) == sorted(specs), (name, set(gradients) ^ set(specs))
    return {
        "name": name,
        "base": base,
        "adapter_config": {**adapter, "target_modules": sorted(adapter["target_modules"])
                           if isinstance(adapter["target_modules"], list) else adapter["target_modules"]},
        "tensors": specs,
        "initial": {key: short([tensor.abs().max()])[0] for key, tensor in start.items() if ".lora_" in key},
        "outputs": [short(row.tolist()) for row in scored],
        "gradients": gradients,
    }


def main():
    torch.set_num_threads(1)
    torch.manual_seed(0)
    cases = []
    for name, base, options in ADAPTERS:
        with tempfile.TemporaryDirectory() as folder:
            cases.append(make(name, base, options, Path(folder)))
            if name == "llama_dora":
                target = OUT / name
                target.mkdir(parents=True, exist_ok=True)
                config = json.loads((Path(folder) / "adapter/adapter_config.json").read_text())
                config["base_model_name_or_path"] = "base"
                (target / "adapter_config.json").write_text(json.dumps(config, indent=2, sort_keys=True))
                shutil.copyfile(Path(folder) / "adapter/adapter_model.safetensors", target / "adapter_model.safetensors")
        print(name, len(cases[-1]["tensors"]), file=sys.stderr)
    fixture = {
        "made_by": "tools/make_lora_goldens.py",
        "versions": {"torch": torch.__version__, "transformers": transformers.__version__, "peft": peft.__version__},
        "cases": cases,
    }
    with gzip.GzipFile(OUT / "cases.json.gz", "wb", mtime=0) as file:
        file.write(json.dumps(fixture, separators=(",", ":")).encode())


if __name__ == "__main__":
    main()

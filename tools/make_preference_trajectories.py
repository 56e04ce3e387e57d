"""Records 50-step trajectories of TRL's preference trainers on a tiny model: the oracle of the trajectory tests of tests/train.

Run: python tools/make_preference_trajectories.py [--only CASE ...] [--check]      (seed 7, one thread)
  with trl 1.16.0 (torch 2.13.0 CPU, transformers 5.24.0, peft 0.21.2): DPO, CPO, SimPO, ORPO, KTO, reward models
  with trl 1.12.0 (the same others): BCO and process reward models, which 1.16.0 dropped

Reads tests/fixtures/train/{model,preference} (tools/make_preference_rows.py) and writes preference/trajectories_VERSION.json.gz:
{"made_with", "cases": {name: {"command": dpo | kto | reward | prm, "model", "data", "adapter"?, "reference"?, "options",
"steps": {metric: a number or null for each step}, "evals": {metric: a number for each evaluation}}}}. "options" are rlhf's names; the trainer of
TRL and its own names for them are chosen here. "reference" is the adapter as it starts, or the model without it. A metric is null
where TRL logs none (KTO: a batch without desirable rows). Numbers have nine significant digits.

Left out: logits/* of CPO, ORPO (means over padding too) and BCO (sums over padding). Evaluation sets fill one batch: over several TRL averages
batches of unequal token counts alike.

--check runs every case again with two threads and other padding (or, where a trainer has no such option, the rows of each batch in reverse order) and
prints how far TRL is from its own recording: the noise any bound must allow.
"""

import argparse
import gzip
import json
import os
import pathlib
import tempfile

os.environ["CUDA_VISIBLE_DEVICES"] = ""

import peft
import torch
import transformers
import trl
from datasets import Dataset
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoModelForTokenClassification, AutoTokenizer

TRAIN = pathlib.Path(__file__).resolve().parent.parent / "tests" / "fixtures" / "train"
ROWS = TRAIN / "preference"
OUT = ROWS / f"trajectories_{trl.__version__}.json.gz"
SEED = 7
STEPS = 50
COMMON = dict(
    max_steps=STEPS, per_device_train_batch_size=4, gradient_accumulation_steps=1, learning_rate=1e-3, weight_decay=0.1, lr_scheduler_type="linear",
    warmup_steps=5, max_grad_norm=1.0, max_length=128, logging_steps=1, seed=SEED, train_sampling_strategy="sequential",
    gradient_checkpointing=False, save_strategy="no",
)
SLOW = {"learning_rate": 3e-4}  # exponentials of log-ratios: at 1e-3 TRL strays from its own trajectory
EVAL = {"eval_strategy": "steps", "eval_steps": 10, "per_device_eval_batch_size": 8}
EVAL_UNPAIRED = {**EVAL, "per_device_eval_batch_size": 4}
LOGITS = ["logits/chosen", "logits/rejected"]
NOT_METRICS = {"epoch", "step", "eval_runtime", "eval_samples_per_second", "eval_steps_per_second", "eval_model_preparation_time"}


def dpo(data: str = "pairs", *, eval: bool = False, adapter: str | None = None, reference: str | None = None, **options) -> dict:
    case = {"trainer": "DPO", "command": "dpo", "model": "model", "data": data, "options": {**options, **(EVAL if eval else {})}}
    if adapter:
        case.update(adapter=f"adapter_{adapter}", reference=reference)
    return case


def without_reference(trainer: str, theirs: dict, **options) -> dict:
    """A loss of `rlhf dpo` that TRL keeps in a trainer of its own; `theirs` are that trainer's options where they differ."""
    case = dpo(eval=True, **options)
    return {**case, "trainer": trainer, "theirs": theirs, "left_out": LOGITS}


def kto(loss_type: str, data: str = "unpaired", *, eval: bool = True, **options) -> dict:
    options = {"loss_type": loss_type, **options, **(EVAL_UNPAIRED if eval else {})}
    return {"trainer": "KTO", "command": "kto", "model": "model", "data": data, "options": options}


def reward(data: str, *, adapter: str | None = None, **options) -> dict:
    case = {"trainer": "Reward", "command": "reward", "model": "reward_model", "data": data, "options": {**options, **EVAL}}
    return {**case, "adapter": f"adapter_{adapter}"} if adapter else case


def bco(data: str = "unpaired", **more) -> dict:
    return {**kto("bco", data, **more), "trainer": "BCO", "theirs": {"loss_type": None}, "left_out": LOGITS}


def prm(**options) -> dict:
    return {"trainer": "PRM", "command": "prm", "model": "stepwise_model", "data": "stepwise", "options": {**options, **EVAL}}


CASES_116 = {
    "dpo_sigmoid": dpo(eval=True, loss_type="sigmoid"),
    "dpo_hinge": dpo(loss_type="hinge"),
    "dpo_ipo": dpo(eval=True, loss_type="ipo"),
    "dpo_exo_pair": dpo(loss_type="exo_pair", label_smoothing=0.1),
    "dpo_nca_pair": dpo(loss_type="nca_pair"),
    "dpo_robust": dpo(loss_type="robust", label_smoothing=0.1),
    "dpo_robust_0": dpo(loss_type="robust"),
    "dpo_bco_pair": dpo(loss_type="bco_pair"),
    "dpo_sppo_hard": dpo(loss_type="sppo_hard"),
    "dpo_aot": dpo(eval=True, loss_type="aot"),
    "dpo_aot_smoothed": dpo(loss_type="aot", label_smoothing=0.1),
    "dpo_aot_unpaired": dpo(loss_type="aot_unpaired"),
    "dpo_aot_unpaired_smoothed": dpo(loss_type="aot_unpaired", label_smoothing=0.1),
    "dpo_apo_zero": dpo(loss_type="apo_zero"),
    "dpo_apo_down": dpo(loss_type="apo_down"),
    "dpo_discopop": dpo(loss_type="discopop", **SLOW),
    "dpo_sft": dpo(loss_type="sft"),
    "dpo_sigmoid_norm": dpo(eval=True, loss_type="sigmoid_norm", beta=2.0),
    "dpo_forward_kl": dpo(loss_type="sigmoid", f_divergence_type="forward_kl", learning_rate=1e-4),
    "dpo_js_divergence": dpo(eval=True, loss_type="sigmoid", f_divergence_type="js_divergence"),
    "dpo_alpha_divergence": dpo(loss_type="sigmoid", f_divergence_type="alpha_divergence", f_alpha_divergence_coef=0.3, **SLOW),
    "dpo_ipo_js_divergence": dpo(loss_type="ipo", f_divergence_type="js_divergence"),
    "dpo_ld_alpha": dpo(eval=True, loss_type="sigmoid", ld_alpha=0.4),
    "dpo_ld_alpha_norm": dpo(loss_type="sigmoid_norm", beta=2.0, ld_alpha=0.4),
    "dpo_weighting": dpo(eval=True, loss_type="sigmoid", use_weighting=True),
    "dpo_weighting_ipo": dpo(loss_type="ipo", use_weighting=True),
    "dpo_mpo": dpo(eval=True, loss_type=["sigmoid", "bco_pair", "sft"], loss_weights=[0.8, 0.2, 1.0]),
    "dpo_sigmoid_sft": dpo(loss_type=["sigmoid", "sft"]),
    "dpo_sync_ref": dpo(eval=True, loss_type="sigmoid", sync_ref_model=True, ref_model_sync_steps=7, ref_model_mixup_alpha=0.6),
    "dpo_precompute": dpo(eval=True, loss_type="sigmoid", precompute_ref_log_probs=True),
    "dpo_max_length": dpo(eval=True, loss_type="sigmoid", max_length=40),
    "dpo_implicit_prompt": dpo("implicit", loss_type="sigmoid"),
    "dpo_chats": dpo("chats", eval=True, loss_type="sigmoid"),
    "dpo_dialogues": dpo("dialogues", loss_type="sigmoid"),
    "dpo_lora": dpo(eval=True, loss_type="sigmoid", adapter="lora", reference="adapter", learning_rate=5e-3),
    "dpo_lora_base": dpo(loss_type="sigmoid", adapter="lora", reference="model", learning_rate=5e-3),
    "dpo_rslora": dpo(loss_type="sigmoid", adapter="rslora", reference="adapter", learning_rate=5e-3),
    "dpo_dora": dpo(loss_type="sigmoid", adapter="dora", reference="adapter", learning_rate=5e-3),
    "cpo": without_reference("CPO", {"loss_type": "sigmoid"}, loss_type="cpo", cpo_alpha=1.0),
    "simpo": without_reference("CPO", {}, loss_type="simpo", beta=2.0, simpo_gamma=0.5, cpo_alpha=0.0),
    "simpo_nll": without_reference("CPO", {}, loss_type="simpo", beta=2.0, simpo_gamma=0.5, cpo_alpha=1.0),
    "orpo": without_reference("ORPO", {"loss_type": None}, loss_type="orpo"),
    "kto": kto("kto"),
    "kto_weights": kto("kto", desirable_weight=1.4, undesirable_weight=0.7),
    "kto_max_length": kto("kto", eval=False, max_length=30),
    "kto_of_pairs": kto("kto", "pairs", eval=False),
    "kto_precompute": kto("kto", precompute_ref_log_probs=True),
    "apo_zero_unpaired": kto("apo_zero_unpaired", desirable_weight=1.0, undesirable_weight=1.3),
    "reward": reward("pairs"),
    "reward_margin": reward("margins"),
    "reward_centred": reward("pairs", center_rewards_coefficient=0.01),
    "reward_max_length": reward("pairs", max_length=64),
    "reward_chats": reward("chats"),
    "reward_dialogues": reward("dialogues"),
    "reward_lora": reward("pairs", adapter="reward", learning_rate=5e-3),
}
CASES_112 = {
    "bco": bco(),
    "bco_of_pairs": bco("pairs", eval=False),
    "prm": prm(),
    "prm_last_step": prm(train_on_last_step_only=True),
    "prm_max_length": prm(max_length=48, step_separator=" ;"),
}
CASES = CASES_112 if trl.__version__ == "1.12.0" else CASES_116
CLASSES = {"reward_model": AutoModelForSequenceClassification, "stepwise_model": AutoModelForTokenClassification}


def trainer_class(name: str):
    if name in ("DPO", "KTO", "Reward"):
        return getattr(trl, f"{name}Trainer"), getattr(trl, f"{name}Config")
    room = __import__(f"trl.experimental.{name.lower()}", fromlist=["x"])
    return getattr(room, f"{name}Trainer"), getattr(room, f"{name}Config")


def folder_of(model: str) -> pathlib.Path:
    return TRAIN / model if model == "model" else ROWS / model


def rows_of(kind: str, part: str) -> Dataset:
    return Dataset.from_list([json.loads(line) for line in (ROWS / kind / f"{part}.jsonl").read_text().splitlines()])


def models_of(case: dict) -> tuple:
    """The model to train and, where it is not TRL's own choice, the reference."""
    folder = folder_of(case["model"])
    load = CLASSES.get(case["model"], AutoModelForCausalLM)
    model = load.from_pretrained(folder, dtype=torch.float32)
    if "adapter" not in case:
        return model, None
    reference = load.from_pretrained(folder, dtype=torch.float32) if case.get("reference") == "model" else None
    return PeftModel.from_pretrained(model, ROWS / case["adapter"], is_trainable=True), reference


def reversed_in_batches(rows: Dataset) -> Dataset:
    size = COMMON["per_device_train_batch_size"]
    return rows.select([i for start in range(0, len(rows), size) for i in reversed(range(start, min(start + size, len(rows))))])


def run(case: dict, reverse: bool = False, **changed) -> list[dict]:
    """TRL's log lines."""
    trainer, config = trainer_class(case["trainer"])
    options = {**COMMON, **case["options"], **case.get("theirs", {}), **changed}
    options = {name: value for name, value in options.items() if value is not None}
    model, reference = models_of(case)
    more = {"ref_model": reference} if reference is not None else {}
    if "eval_strategy" in options:
        more["eval_dataset"] = rows_of(case["data"], "test")
    rows = rows_of(case["data"], "train")
    with tempfile.TemporaryDirectory() as output:
        arguments = config(output_dir=output, use_cpu=True, disable_tqdm=True, report_to="none", bf16=False, **options)
        tokenizer = AutoTokenizer.from_pretrained(folder_of(case["model"]))
        made = trainer(
            model=model, args=arguments, train_dataset=reversed_in_batches(rows) if reverse else rows, processing_class=tokenizer, **more
        )
        # The printed log lines are of no use here.
        made.remove_callback(transformers.PrinterCallback)
        made.train()
    return made.state.log_history


def columns(lines: list[dict], left_out: list[str]) -> dict[str, list]:
    """One list of numbers for each metric that any of the lines has."""
    names = {name: None for line in lines for name in line if name not in NOT_METRICS and name.removeprefix("eval_") not in left_out}
    return {name: [None if name not in line else float(f"{line[name]:.9g}") for line in lines] for name in names}


def recorded(case: dict, **changed) -> dict:
    lines = run(case, **changed)
    left_out = case.get("left_out", [])
    steps = [line for line in lines if "loss" in line]
    assert len(steps) == STEPS, len(steps)
    kept = {name: case[name] for name in ("command", "model", "data", "adapter", "reference") if name in case}
    evals = columns([line for line in lines if "eval_loss" in line], left_out)
    return {**kept, "options": {**COMMON, **case["options"]}, "steps": columns(steps, left_out), "evals": evals}


def check(name: str, case: dict, known: dict) -> None:
    """Prints TRL's distance from its own recording under another order of summation."""
    torch.set_num_threads(2)
    again = recorded(case, **({"pad_to_multiple_of": 32} if case["trainer"] in ("DPO", "KTO", "Reward") else {"reverse": True}))
    torch.set_num_threads(1)

    def distance(metric: str, relative: bool) -> float:
        pairs = [(a, b) for a, b in zip(known["steps"][metric], again["steps"][metric]) if a is not None]
        return max(abs(a - b) / (max(abs(a), 1e-12) if relative else max(1.0, abs(a))) for a, b in pairs)

    worst = max(known["steps"], key=lambda metric: distance(metric, False))
    main_ones = f"loss {distance('loss', False):.1e} grad_norm {distance('grad_norm', True):.1e}"
    print(f"{name:28} {main_ones} worst {worst} {distance(worst, False):.1e}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=CASES)
    parser.add_argument("--check", action="store_true")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    transformers.logging.set_verbosity_error()
    known = json.loads(gzip.decompress(OUT.read_bytes()))["cases"] if OUT.exists() else {}
    for name in arguments.only or CASES:
        if arguments.check:
            check(name, CASES[name], known[name])
            continue
        known[name] = recorded(CASES[name])
        loss, norms = (known[name]["steps"][metric] for metric in ("loss", "grad_norm"))
        print(f"{name:28} loss {loss[0]:.5f} {loss[9]:.5f} {loss[-1]:.5f} grad_norm {norms[0]:.4f} {norms[-1]:.4f}", flush=True)
    if not arguments.check:
        versions = {library.__name__: library.__version__ for library in (torch, trl, transformers, peft)}
        text = json.dumps({"made_with": {**versions, "seed": SEED}, "cases": {name: known[name] for name in CASES if name in known}})
        OUT.write_bytes(gzip.compress(text.encode(), mtime=0))


if __name__ == "__main__":
    main()

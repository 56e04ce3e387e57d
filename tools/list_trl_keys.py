"""Writes tests/fixtures/config/trl_keys.json: every key of TRL's and transformers' configuration classes.

The classes of the installed TRL are introspected; those of an older one (PPO, PRM, BCO left TRL's main line) are read
from its wheel's source by their syntax tree. A class that extends TrainingArguments lists only what it adds or changes.

Ran with trl 1.16.0, transformers 5.24.0 and the wheel of trl 1.12.0:

    python tools/list_trl_keys.py trl-1.12.0-py3-none-any.whl
"""

import ast
import dataclasses
import enum
import json
import pathlib
import sys
import zipfile

import transformers
import trl
from trl import DPOConfig, GRPOConfig, KTOConfig, ModelConfig, RewardConfig, RLOOConfig, ScriptArguments, SFTConfig
from trl.experimental.cpo import CPOConfig
from trl.experimental.orpo import ORPOConfig
from trl.scripts.grpo import GRPOScriptArguments
from trl.scripts.utils import DatasetConfig, DatasetMixtureConfig

OLDER = {"PPOConfig": "ppo", "PRMConfig": "prm", "BCOConfig": "bco"}
OUTPUT = pathlib.Path(__file__).parent.parent / "tests/fixtures/config/trl_keys.json"


def type_text(annotation):
    text = annotation.__name__ if isinstance(annotation, type) else str(annotation)
    return text.replace("typing.", "").replace("NoneType", "None")


def plain(value):
    if isinstance(value, enum.Enum):
        return value.value
    return value if isinstance(value, (bool, int, float, str, list, dict, type(None))) else repr(value)


def introspect(cls):
    keys = {}
    for field in dataclasses.fields(cls):
        entry = {"type": type_text(field.type)}
        if field.default is not dataclasses.MISSING:
            entry["default"] = plain(field.default)
        elif field.default_factory is not dataclasses.MISSING:
            entry["default"] = plain(field.default_factory())
        keys[field.name] = entry
    return keys


def parse_class(source, name):
    """The fields of one dataclass of a source text, with literal defaults."""
    keys = {}
    for node in ast.walk(ast.parse(source)):
        if not (isinstance(node, ast.ClassDef) and node.name == name):
            continue
        for item in node.body:
            if not isinstance(item, ast.AnnAssign):
                continue
            entry = {"type": ast.unparse(item.annotation)}
            if isinstance(item.value, ast.Constant):
                entry["default"] = item.value.value
            for keyword in getattr(item.value, "keywords", []):
                if keyword.arg == "default":
                    entry["default"] = ast.literal_eval(keyword.value)
            keys[item.target.id] = entry
    return keys


def main():
    base = introspect(transformers.TrainingArguments)
    classes = {"TrainingArguments": base}
    trainers = (SFTConfig, RewardConfig, DPOConfig, KTOConfig, GRPOConfig, RLOOConfig, CPOConfig, ORPOConfig)
    for cls in trainers:
        classes[cls.__name__] = {key: value for key, value in introspect(cls).items() if base.get(key) != value}
    for cls in (ModelConfig, ScriptArguments, GRPOScriptArguments, DatasetMixtureConfig, DatasetConfig):
        classes[cls.__name__] = introspect(cls)
    with zipfile.ZipFile(sys.argv[1]) as wheel:
        shared = parse_class(wheel.read("trl/trainer/base_config.py").decode(), "_BaseConfig")
        changed = {key: value for key, value in shared.items() if base[key]["default"] != value["default"]}
        assert "logging_steps" in changed
        for name, folder in OLDER.items():
            source = wheel.read(f"trl/experimental/{folder}/{folder}_config.py").decode()
            own = parse_class(source, name)
            assert own, name
            classes[name] = changed | own
    versions = {"trl": trl.__version__, "transformers": transformers.__version__, "older": "trl 1.12.0"}
    blocks = []
    for name, keys in classes.items():
        rows = ",\n".join(f"  {json.dumps(key)}: {json.dumps(value)}" for key, value in keys.items())
        blocks.append(f"{json.dumps(name)}: {{\n{rows}\n}}")
    OUTPUT.parent.mkdir(parents=True, exist_ok=True)
    OUTPUT.write_text(f'{{\n"versions": {json.dumps(versions)},\n"classes": {{\n' + ",\n".join(blocks) + "\n}\n}\n")
    print(OUTPUT, sum(len(keys) for keys in classes.values()), "keys")


if __name__ == "__main__":
    main()

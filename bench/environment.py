"""The Python that runs TRL: a virtual environment of pinned versions, and a folder of TRL 1.12.0, the last with PPO.

Run:  python bench/environment.py        makes what is missing below build/ and says where it is

bench/run.py does the same by itself, unless --python and --trl112 name what there is.
"""

import json
import pathlib
import subprocess
import sys
import venv

TORCH = "2.13.0"
PACKAGES = ["trl==1.16.0", "transformers==5.24.0", "peft==0.21.2", "tokenizers==0.23.3", "datasets==5.2.0", "accelerate==1.15.0"]
PPO_TRL = "trl==1.12.0"
BUILD = pathlib.Path(__file__).resolve().parent.parent / "build"
NAMED = ("torch", "trl", "transformers", "peft", "tokenizers")


def pip(python: pathlib.Path, *arguments: str, may_fail: bool = False) -> bool:
    done = subprocess.run([python, "-m", "pip", "install", "-q", *arguments], stdout=sys.stderr, stderr=subprocess.DEVNULL if may_fail else None)
    if done.returncode != 0 and not may_fail:
        sys.exit(f"pip install {' '.join(arguments)} failed. HINT: name an environment that has it, by --python and --trl112")
    return done.returncode == 0


def make_environment() -> pathlib.Path:
    """The Python of build/trl. torch comes first, in its CPU build where an index offers it by name: TRL would draw in the CUDA build."""
    folder = BUILD / "trl"
    python = folder / "bin" / "python"
    if not (folder / "complete").exists():
        print(f"making {folder.relative_to(BUILD.parent)}", file=sys.stderr)
        venv.create(folder, with_pip=True, clear=True)
        if not pip(python, f"torch=={TORCH}+cpu", may_fail=True):
            pip(python, f"torch=={TORCH}")
        pip(python, *PACKAGES)
        (folder / "complete").touch()
    return python


def make_ppo_trl(python: pathlib.Path) -> pathlib.Path:
    """build/trl-1.12.0: TRL alone, to stand before the environment's own in sys.path."""
    folder = BUILD / PPO_TRL.replace("==", "-")
    if not (folder / "trl").exists():
        pip(python, "--no-deps", "--target", str(folder), PPO_TRL)
    return folder


def versions(python: pathlib.Path) -> dict[str, str]:
    """Of Python and of what is measured in it; those that are not there are left out. compare_ppo.py insists on its TRL."""
    code = ("import importlib.metadata as m, json, platform; found = {d.name.lower(): d.version for d in m.distributions()}; "
            "print(json.dumps({'python': platform.python_version(), **found}))")
    found = json.loads(subprocess.run([python, "-c", code], check=True, capture_output=True, text=True).stdout)
    return {name: found[name] for name in ("python", *NAMED) if name in found} | {"trl of ppo": PPO_TRL.split("==")[1]}


if __name__ == "__main__":
    made = make_environment()
    print(json.dumps({"python": str(made), "trl112": str(make_ppo_trl(made))}))

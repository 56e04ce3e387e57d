#!/usr/bin/env bash
# Usage: run.sh BUILD_DIR SOURCE_DIR [CMAKE ARGUMENTS]   installs into a new folder and builds the consumer against it
set -euo pipefail
build=$1 source=$2
shift 2
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
cmake --install "$build" --prefix "$scratch/prefix" >/dev/null
test -x "$scratch/prefix/bin/rlhf"
test -x "$scratch/prefix/share/rlhf/reward_worker.py"
cmake -G Ninja -S "$source/tests/install" -B "$scratch/build" -DCMAKE_BUILD_TYPE=Release -Drlhf_DIR="$(dirname "$(find "$scratch/prefix" -name rlhfConfig.cmake)")" "$@" >"$scratch/log" 2>&1 &&
  cmake --build "$scratch/build" >>"$scratch/log" 2>&1 || { cat "$scratch/log"; exit 1; }
"$scratch/build/consumer"
"$scratch/prefix/bin/rlhf" --version

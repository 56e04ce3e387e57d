#!/usr/bin/env bash
# Trains a small Llama from scratch on generated arithmetic and measures it on sums it has never seen.
# Usage: run.sh PATH/TO/rlhf [FOLDER]      every command is printed as it runs and can be run alone
set -euo pipefail
rlhf=$1
folder=${2:-runs/quickstart}
here=$(dirname "$0")

run() { printf '\n$ %s\n' "$*" >&2; "$@"; }

rm -rf "$folder"
mkdir -p "$folder/data"
awk -v folder="$folder/data" -f "$here/make_data.awk"

# The untrained model: one step with a learning rate of nearly nothing writes the random weights to a folder.
run "$rlhf" sft --model_name_or_path "$here/model" --from_scratch --dataset_name "$folder/data" --output_dir "$folder/untrained" \
  --cache_dir "$folder/cache" --max_steps 1 --learning_rate 1e-30 --save_strategy no 2>/dev/null
before=$(run "$rlhf" eval --model "$folder/untrained" --data "$folder/data/test.jsonl" --reward accuracy --max_new_tokens 6 --dtype float32)

run "$rlhf" sft --config "$here/sft.yaml" --model_name_or_path "$here/model" --dataset_name "$folder/data" \
  --output_dir "$folder/sft" --cache_dir "$folder/cache"
after=$(run "$rlhf" eval --model "$folder/sft" --data "$folder/data/test.jsonl" --reward accuracy --max_new_tokens 6 --dtype float32)

figure() { sed -E 's/.*"pass@1":\{"value":([0-9.e-]+),"interval":\[([0-9.e-]+),([0-9.e-]+)\].*/\1 \2 \3/' <<<"$1"; }
line() { figure "$2" | awk -v name="$1" '{ printf "%-10s  %5.1f%%  [%.1f, %.1f]\n", name, 100 * $1, 100 * $2, 100 * $3 }'; }
printf '\nheld-out accuracy on 500 sums, 95%% interval\n'
line untrained "$before"
line sft "$after"

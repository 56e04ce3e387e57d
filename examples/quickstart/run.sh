#!/usr/bin/env bash
# Four stages on generated arithmetic, each measured on 500 sums that none has seen: a small Llama learns from scratch from
# demonstrations of which one in four is wrong (sft), a reward model learns to tell sums from guesses (reward), and preferences
# of right sums over wrong ones teach the language model what the demonstrations could not (dpo), as do its own samples, told right from wrong
# (grpo).
# Usage: run.sh PATH/TO/rlhf [FOLDER]      every command is printed as it runs and can be run alone
set -euo pipefail
rlhf=$1
folder=${2:-runs/quickstart}
here=$(dirname "$0")
exec 3>&2

run() { printf '\n$ %s\n' "$*" >&3; "$@"; }
train() { run "$rlhf" "$@" --cache_dir "$folder/cache"; }
accuracy() {
  run "$rlhf" eval --model "$folder/$1" --data "$folder/data/sums/test.jsonl" --reward accuracy --max_new_tokens 6 --dtype float32
}

rm -rf "$folder"
run mkdir -p "$folder/data/sums" "$folder/data/guesses" "$folder/data/slips"
run awk -v folder="$folder/data" -f "$here/make_data.awk"

# The untrained model: one step with a learning rate of nearly nothing writes the random weights to a folder.
train sft --model_name_or_path "$here/model" --from_scratch --dataset_name "$folder/data/sums" --output_dir "$folder/untrained" \
  --max_steps 1 --learning_rate 1e-30 --save_strategy no 2>/dev/null
untrained=$(accuracy untrained)

train sft --config "$here/sft.yaml" --model_name_or_path "$here/model" --dataset_name "$folder/data/sums" --output_dir "$folder/sft"
sft=$(accuracy sft)

train reward --config "$here/reward.yaml" --model_name_or_path "$folder/sft" --dataset_name "$folder/data/guesses" \
  --output_dir "$folder/reward"
reward=$(run "$rlhf" eval --model "$folder/reward" --data "$folder/data/guesses/test.jsonl" --reward preference --dtype float32)

train dpo --config "$here/dpo.yaml" --model_name_or_path "$folder/sft" --dataset_name "$folder/data/slips" --output_dir "$folder/dpo"
dpo=$(accuracy dpo)

train grpo --config "$here/grpo.yaml" --model_name_or_path "$folder/sft" --dataset_name "$folder/data/sums" --output_dir "$folder/grpo"
grpo=$(accuracy grpo)

line() { # STAGE MEASURED JSON NAME
  sed -E "s/.*\"$4\":\{\"value\":([0-9.e-]+),\"interval\":\[([0-9.e-]+),([0-9.e-]+)\].*/\1 \2 \3/" <<<"$3" |
    awk -v stage="$1" -v measured="$2" '{ printf "%-10s %-32s %5.1f%%  [%.1f, %.1f]\n", stage, measured, 100 * $1, 100 * $2, 100 * $3 }'
}
printf '\n500 held-out sums, 95%% intervals\n'
line untrained 'right, one sample each' "$untrained" pass@1
line sft 'right, one sample each' "$sft" pass@1
line reward 'sum preferred to a guess' "$reward" accuracy
line '' 'the same by length alone' "$reward" length_baseline
line dpo 'right, one sample each' "$dpo" pass@1
line grpo 'right, one sample each' "$grpo" pass@1

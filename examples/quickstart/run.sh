#!/usr/bin/env bash
# The whole of RLHF on generated arithmetic, each stage measured on 500 sums that none has seen. A small Llama learns from scratch
# from demonstrations of which one in four is wrong (sft), a reward model learns to tell sums from other numbers (reward). Three
# ways lead on from the supervised model: preferences of right sums over wrong ones (dpo), its own samples told right from wrong
# (grpo), its own samples scored by the reward model, with a critic (ppo).
# Usage: run.sh PATH/TO/rlhf [FOLDER]      every command is printed as it runs and can be run alone
set -euo pipefail
rlhf=$1
folder=${2:-runs/quickstart}
here=$(dirname "$0")
exec 3>&2

run() { printf '\n$ %s\n' "$*" >&3; "$@"; }

seconds=()  # NAME=SECONDS
train() { # STAGE COMMAND KEYS...
  local stage=$1 begin=$EPOCHREALTIME
  shift
  run "$rlhf" "$@" --output_dir "$folder/$stage" --cache_dir "$folder/cache"
  seconds+=("$stage=$(awk -v a="$begin" -v b="$EPOCHREALTIME" 'BEGIN { printf "%.0f", b - a }')")
}

measure() { # STAGE KEYS...
  local stage=$1
  shift
  run "$rlhf" eval --model "$folder/$stage" --data "$folder/data/sums/test.jsonl" --reward accuracy --max_new_tokens 6 \
    --dtype float32 --reward_model "$folder/reward" "$@" >"$folder/$stage/eval.json"
}

rm -rf "$folder"
run mkdir -p "$folder/data/sums" "$folder/data/pairs" "$folder/data/slips"
run awk -v folder="$folder/data" -f "$here/make_data.awk"

# The untrained model: one step with a learning rate of nearly nothing writes the random weights to a folder.
train untrained sft --model_name_or_path "$here/model" --from_scratch --dataset_name "$folder/data/sums" \
  --max_steps 1 --learning_rate 1e-30 --save_strategy no 2>/dev/null
train sft sft --config "$here/sft.yaml" --model_name_or_path "$here/model" --dataset_name "$folder/data/sums"
train reward reward --config "$here/reward.yaml" --model_name_or_path "$folder/sft" --dataset_name "$folder/data/pairs"
train dpo dpo --config "$here/dpo.yaml" --model_name_or_path "$folder/sft" --dataset_name "$folder/data/slips"
train grpo grpo --config "$here/grpo.yaml" --model_name_or_path "$folder/sft" --dataset_name "$folder/data/sums"
train ppo ppo --config "$here/ppo.yaml" --model_name_or_path "$folder/sft" --dataset_name "$folder/data/sums" \
  --reward_model_name_or_path "$folder/reward"

measure untrained
measure sft
for stage in dpo grpo ppo; do measure $stage --ref_model "$folder/sft"; done
run "$rlhf" eval --model "$folder/reward" --data "$folder/data/pairs/test.jsonl" --reward preference --dtype float32 \
  >"$folder/reward/eval.json"

line() { # STAGE
  local last took=
  last=$(tail -n 1 "$folder/$1/metrics.jsonl")
  for pair in "${seconds[@]}"; do if [ "${pair%%=*}" = "$1" ]; then took=${pair#*=}; fi; done
  awk -v stage="$1" -v found="$(<"$folder/$1/eval.json")" -v last="$last" -v took="$took" '
    function estimate(name,   at, part) {  # "value low high" of an estimate, nothing where it is not there
      at = index(found, "\"" name "\":{")
      if (!at) return 0
      part = substr(found, at + length(name) + 4)
      part = substr(part, 1, index(part, "}"))
      match(part, /"interval":\[[^]]*\]/)
      split(substr(part, RSTART + 12, RLENGTH - 13), bounds, ",")
      match(part, /"value":[-+0-9.e]+/)
      value = substr(part, RSTART + 8, RLENGTH - 8) + 0
      return 1
    }
    function number(name) {
      return match(last, "\"" name "\":[0-9.e+]+") ? substr(last, RSTART + length(name) + 3, RLENGTH - length(name) - 3) + 0 : 0
    }
    BEGIN {
      if (estimate("pass@1") || estimate("accuracy")) {
        right = sprintf("%5.1f%% [%.1f, %.1f]", 100 * value, 100 * bounds[1], 100 * bounds[2])
      }
      score = estimate("reward_model") ? sprintf("%.2f", value) : ""
      kl = estimate("kl") ? sprintf("%.2f", value) : ""
      if (stage == "untrained") tokens = memory = took = ""
      else {
        tokens = sprintf("%.2f M", number("num_tokens") / 1e6)
        memory = sprintf("%.2f GB", number("peak_memory") / 1e9)
      }
      printf "%-10s %-20s %8s %8s %10s %6s %9s\n", stage, right, score, kl, tokens, took, memory
    }'
}
printf '\n500 held-out sums: right in one sample each (reward: preferred to another number), 95%% interval;\n'
printf 'the mean score that the reward model gives the samples; KL from the sft model in nats\n'
printf '%-10s %-20s %8s %8s %10s %6s %9s\n' stage right score KL tokens s memory
for stage in untrained sft reward dpo grpo ppo; do line $stage; done

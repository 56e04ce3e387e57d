#!/usr/bin/env bash
# A run that saves every step is killed with SIGKILL at random moments, at least 50 times, and resumed each time from its latest whole
# checkpoint; it must end with the same weights and metrics as a run that nobody disturbed.
# Usage: kill_resume.sh RLHF FIXTURES
set -euo pipefail
rlhf=$1 fixtures=$2
kills_wanted=50
steps=150
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

train() { # OUTPUT [FLAGS]
  local output=$1
  shift
  exec "$rlhf" sft --model_name_or_path "$fixtures/train/model" --dataset_name "$fixtures/train/pairs.jsonl" --cache_dir "$scratch/cache" \
    --output_dir "$output" --max_steps $steps --per_device_train_batch_size 4 --max_length 64 --threads 1 --logging_steps 2 \
    --save_strategy steps --save_steps 1 --save_total_limit 2 --gradient_checkpointing false "$@"
}

(train "$scratch/straight") 2>/dev/null
RANDOM=12345
kills=0
while :; do
  (train "$scratch/killed" --resume_from_checkpoint true) 2>"$scratch/log" &
  child=$!
  if [ $kills -ge $kills_wanted ]; then
    wait $child || { cat "$scratch/log"; exit 1; }
    break
  fi
  # The program needs about 0.2 s to start; a step with its checkpoint about 0.05 s.
  sleep "0.$(printf %03d $((150 + RANDOM % 350)))"
  if kill -9 $child 2>/dev/null; then
    wait $child 2>/dev/null || true
    kills=$((kills + 1))
  else
    # It ended before the kill: well, or with an error that must not be.
    wait $child || { cat "$scratch/log"; exit 1; }
    rm -rf "$scratch/killed"
  fi
done

cmp "$scratch/straight/model.safetensors" "$scratch/killed/model.safetensors"
cmp "$scratch/straight/checkpoint-$steps/optimizer.safetensors" "$scratch/killed/checkpoint-$steps/optimizer.safetensors"
losses() { grep -o '"step":[0-9]*\|"loss":[^,}]*' "$1/metrics.jsonl"; }
cmp <(losses "$scratch/straight") <(losses "$scratch/killed")
echo "$kills kills: same weights, same optimizer, same losses"

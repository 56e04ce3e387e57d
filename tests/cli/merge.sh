#!/usr/bin/env bash
# An adapter is trained and folded into its base: adapter and merged model score alike, the tokenizer's files stay what they were, and a
# merge that is refused writes nothing.
# Usage: merge.sh RLHF FIXTURES
set -euo pipefail
rlhf=$1 fixtures=$2
base=$fixtures/train/model data=$fixtures/train/pairs.jsonl
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
cd "$scratch"

expect_fault() { # TEXT COMMAND...
  local text=$1 code=0
  shift
  "$@" >out 2>err || code=$?
  [ $code -eq 2 ] || { echo "exit code $code, expected 2: $*"; cat err; exit 1; }
  grep -qF -- "$text" err || { echo "no '$text' in:"; cat err; exit 1; }
}

"$rlhf" sft --model_name_or_path "$base" --dataset_name "$data" --cache_dir cache --output_dir adapter --max_steps 10 --max_length 64 \
  --learning_rate 1e-3 --threads 1 --use_peft --use_dora --lora_target_modules all-linear 2>log || { cat log; exit 1; }

expect_fault "a largest difference of at most 1e-12 was expected" \
  "$rlhf" merge --adapter adapter --output refused --max_difference 1e-12
expect_fault "a folder with adapter_config.json was expected" "$rlhf" merge --adapter "$base" --output refused
expect_fault "an adapter folder was expected as --model" "$rlhf" score --model "$base" --base_model "$base" --data "$data"
cp -r adapter foreign
sed -i 's|"base_model_name_or_path": .*|"base_model_name_or_path": "nowhere",|' foreign/adapter_config.json
expect_fault "base_model_name_or_path" "$rlhf" score --model foreign --data "$data"
if ls -d refused* 2>/dev/null; then
  echo "a refused merge left something behind"
  exit 1
fi

"$rlhf" merge --adapter foreign --model "$base" --output merged --data "$data" --threads 1 2>log | grep -q '"largest_difference":' ||
  { cat log; exit 1; }
expect_fault "a new folder was expected" "$rlhf" merge --adapter adapter --output merged
for file in tokenizer.json tokenizer_config.json chat_template.jinja generation_config.json config.json; do
  cmp "merged/$file" "$base/$file"
done
# The tokenizer's EOS ends the merged model's text.
cp -r adapter ended
sed -i 's/"eos_token": "<eos>"/"eos_token": "<|im_end|>"/' ended/tokenizer_config.json
"$rlhf" merge --adapter ended --output ended_merged --threads 1 2>log >/dev/null || { cat log; exit 1; }
grep -q '"eos_token_id": 3' ended_merged/config.json
for model in adapter merged; do "$rlhf" score --model $model --data "$data" --threads 1 --output $model.jsonl 2>log || { cat log; exit 1; }; done
"$rlhf" score --model "$base" --data "$data" --threads 1 --output base.jsonl 2>log
sums() { grep -o '"sum":[^,}]*' "$1" | cut -d: -f2; }
# Sums of some ten log-probabilities in float32; ten steps move them by far more.
paste <(sums adapter.jsonl) <(sums merged.jsonl) <(sums base.jsonl) | awk '
  function distance(a, b) { return a > b ? a - b : b - a }
  { if (distance($1, $2) > 1e-3) exit failed = 1; if (distance($1, $3) > moved) moved = distance($1, $3) }
  END { if (failed || NR == 0 || moved < 0.1) { print "adapter and merged model differ, or the adapter does nothing"; exit 1 } }'
echo "merged"

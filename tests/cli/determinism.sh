#!/usr/bin/env bash
# Under full_determinism a row scores the same bits alone and in any pack. Usage: determinism.sh PATH/TO/rlhf FIXTURES
# Skipped (77) where the machine's matrix library cannot: `rlhf env` measures that.
set -euo pipefail
rlhf=$1
fixtures=$2/train
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT

if ! "$rlhf" env 2>/dev/null | grep -Eq '^rows_independent_from_strict +1$'; then
  echo "products of few rows depend on their number on this machine: skipped"
  exit 77
fi

# Wide enough for products whose order of sums depends on the number of rows; the fixture's own is not.
cp -r "$fixtures/model" "$folder/wide"
rm "$folder/wide/model.safetensors"
sed -i 's/"hidden_size": 32/"hidden_size": 512/; s/"intermediate_size": 64/"intermediate_size": 1408/; s/"head_dim": 8/"head_dim": 128/' \
  "$folder/wide/config.json"
"$rlhf" sft --model_name_or_path "$folder/wide" --from_scratch --dataset_name "$fixtures/pairs.jsonl" --output_dir "$folder/model" \
  --cache_dir "$folder/cache" --max_steps 1 --learning_rate 1e-30 --save_strategy no --threads 2 2>/dev/null

head -n 12 "$fixtures/pairs.jsonl" > "$folder/rows.jsonl"
score() { "$rlhf" score --model "$folder/model" --full_determinism --threads 2 --dtype float32 "$@" 2>/dev/null; }
score --data "$folder/rows.jsonl" > "$folder/together"
while read -r row; do
  echo "$row" > "$folder/row.jsonl"
  score --data "$folder/row.jsonl"
done < "$folder/rows.jsonl" > "$folder/alone"
score --data "$folder/rows.jsonl" --max_tokens 100 > "$folder/cut"

[ "$(wc -l < "$folder/together")" = 12 ] || { echo "12 lines were expected"; exit 1; }
cmp "$folder/together" "$folder/alone"
cmp "$folder/together" "$folder/cut"

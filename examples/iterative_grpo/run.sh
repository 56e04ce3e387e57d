#!/usr/bin/env bash
# Iterative GRPO (DeepSeekMath, arXiv 2402.03300, algorithm 1) on the quickstart's sums. A policy that is trained against a reward model
# leaves the answers that the reward model has learned to judge. So every round ends with new pairs, sampled from the policy as it stands
# and told right from wrong by the rule that knows the sum (where there is no rule, by people), on which the reward model is trained on
# from its own folder, a tenth of the rows being earlier pairs. The next round starts from the last policy, which is then its frozen reference too.
# Beside it, under the same rounds, seeds and number of steps, a policy whose reward model stays as it was.
# Usage: run.sh PATH/TO/rlhf [QUICKSTART [FOLDER]]   QUICKSTART: what `make quickstart` made (runs/quickstart). Every command is printed as
# it runs and can be run alone.
set -euo pipefail
rlhf=$1
start=${2:-runs/quickstart}
folder=${3:-runs/iterative_grpo}
here=$(dirname "$0")
rounds=5
seeds="1 2"
exec 3>&2

run() { printf '\n$ %s\n' "$*" >&3; "$@"; }

policy() { # RUN ROUND   folder of the policy behind the round
  if [ "$2" = 0 ]; then echo "$start/sft"; else echo "$folder/$1/policy-$2"; fi
}

grpo() { # RUN ROUND SEED REWARD_MODEL
  run "$rlhf" grpo --config "$here/grpo.yaml" --model_name_or_path "$(policy "$1" $(($2 - 1)))" --reward_model_name_or_path "$4" \
    --dataset_name "$start/data/sums" --output_dir "$(policy "$1" "$2")" --seed "$((100 * $3 + $2))" --cache_dir "$folder/cache"
}

measure() { # RUN ROUND
  run "$rlhf" eval --model "$(policy "$1" "$2")" --data "$start/data/sums/test.jsonl" --reward accuracy --num_generations 4 \
    --max_new_tokens 6 --dtype float32 >"$folder/$1/eval-$2.json"
}

# New pairs from the policy, and the reward model trained on: nine rows of ten are new pairs, one is of those before.
retrain() { # RUN ROUND SEED REWARD_MODEL EARLIER_PAIRS...
  local run=$1 round=$2 seed=$3 model=$4 pairs=$folder/$1/pairs-$2.jsonl parts
  shift 4
  run "$rlhf" generate --model "$(policy "$run" "$round")" --data "$start/data/sums/train.jsonl" --num_generations 16 --max_new_tokens 6 \
    --dtype float32 --seed "$((100 * seed + round))" --reward_funcs accuracy --output_format pairs --pairs_per_prompt 8 --output "$pairs"
  parts="{path: $pairs, fraction: 0.9}"
  for earlier in "$@"; do parts="$parts, {path: $earlier, fraction: $(awk -v n=$# 'BEGIN { print 0.1 / n }')}"; done
  run "$rlhf" reward --config "$here/reward.yaml" --model_name_or_path "$model" --datasets "[$parts]" \
    --output_dir "$folder/$run/reward-$round" --seed "$((100 * seed + round))" --cache_dir "$folder/cache"
}

rm -rf "$folder"
for seed in $seeds; do run mkdir -p "$folder/fixed-$seed" "$folder/iterative-$seed"; done
run mkdir -p "$folder/start"
measure start 0
run "$rlhf" reward --config "$here/start.yaml" --model_name_or_path "$start/sft" --dataset_name "$start/data/pairs" \
  --output_dir "$folder/reward-0" --cache_dir "$folder/cache"
for seed in $seeds; do
  for round in $(seq $rounds); do
    grpo "fixed-$seed" "$round" "$seed" "$folder/reward-0"
    measure "fixed-$seed" "$round"
  done
  model=$folder/reward-0
  earlier=("$start/data/pairs/train.jsonl")
  for round in $(seq $rounds); do
    grpo "iterative-$seed" "$round" "$seed" "$model"
    measure "iterative-$seed" "$round"
    if [ "$round" -lt $rounds ]; then
      retrain "iterative-$seed" "$round" "$seed" "$model" "${earlier[@]}"
      model=$folder/iterative-$seed/reward-$round
      earlier+=("$folder/iterative-$seed/pairs-$round.jsonl")
    fi
  done
done

cell() { # RUN ROUND   "value [low, high]" in percent
  sed -E 's/.*"pass@1":\{"value":([0-9.e-]+),"interval":\[([0-9.e-]+),([0-9.e-]+)\].*/\1 \2 \3/' "$folder/$1/eval-$2.json" |
    awk '{ printf "%.1f%% [%.1f, %.1f]", 100 * $1, 100 * $2, 100 * $3 }'
}
printf '\n500 held-out sums, four samples each: right, 95%% interval over sums\n'
printf 'before: %s\n%-5s %-6s %-22s %s\n' "$(cell start 0)" seed round 'reward model as it was' 'reward model trained on'
for seed in $seeds; do
  for round in $(seq $rounds); do
    printf '%-5s %-6s %-22s %s\n' "$seed" "$round" "$(cell "fixed-$seed" "$round")" "$(cell "iterative-$seed" "$round")"
  done
done

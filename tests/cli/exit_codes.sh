#!/usr/bin/env bash
# Exit codes and messages of the program: 2 for the user's fault, every problem at once, nothing written.
# Usage: exit_codes.sh RLHF FIXTURES
set -uo pipefail
rlhf=$1 fixtures=$2
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
failures=0

expect() { # NAME CODE PATTERN... -- COMMAND
  local name=$1 code=$2
  shift 2
  local patterns=()
  while [ "$1" != -- ]; do patterns+=("$1"); shift; done
  shift
  local text got
  text=$("$@" 2>&1 </dev/null)
  got=$?
  [ $got = "$code" ] || { echo "$name: exit $code was expected, got $got: $text"; failures=$((failures + 1)); }
  for pattern in "${patterns[@]}"; do
    grep -qE -- "$pattern" <<<"$text" || { echo "$name: /$pattern/ is not in: $text"; failures=$((failures + 1)); }
  done
}
sft() { # [OUTPUT [MAX_LENGTH]]
  echo "$rlhf" sft --model_name_or_path "$fixtures/train/model" --dataset_name "$fixtures/train/pairs.jsonl" --cache_dir "$scratch/cache" \
    --output_dir "${1:-$scratch/run}" --max_length "${2:-64}"
}

expect usage 0 'sft' 'generate' -- "$rlhf" --help
expect version 0 '^rlhf [0-9]' -- "$rlhf" --version
expect no_command 2 'Usage' -- "$rlhf"
expect unknown_command 2 'did you mean score' -- "$rlhf" scor
for command in sft dpo kto grpo rloo ppo reward prm generate chat score eval merge plan report tokenize env; do expect "help_$command" 0 . -- "$rlhf" $command --help; done
expect all_at_once 2 'learning_rat\b' 'did you mean --learning_rate' 'max_steps' 'adam_beta1' -- $(sft) --learning_rat 1 --max_steps many --adam_beta1 2
expect plan_method 2 'did you mean reward' -- "$rlhf" plan rewrd
expect plan_of_a_model_alone 0 'largest moment' -- "$rlhf" plan sft --model_name_or_path "$fixtures/train/model"
expect plan_without_a_judge 0 'of phase rollout|largest moment: rollout' -- "$rlhf" plan grpo --model_name_or_path "$fixtures/train/model"
expect plan_keeps_other_faults 2 'adam_beta1' -- "$rlhf" plan grpo --model_name_or_path "$fixtures/train/model" --adam_beta1 2
expect plan_of_numbers_too_large 0 '^total +[0-9]{2}[.0-9]* GiB' -- "$rlhf" plan dpo --model_name_or_path "$fixtures/train/model" --max_length 9000000000000000000 --max_tokens_per_microbatch 9000000000000000000 --per_device_train_batch_size 1000000 --gradient_checkpointing false
expect too_many_rows 2 'per_device_train_batch_size\] .*at most 2147483648 rows' -- $(sft) --per_device_train_batch_size 1000000 --gradient_accumulation_steps 1000000
expect flag_twice 2 '--max_steps\] this key is set twice' -- $(sft) --max_steps 1 --max_steps 2
expect key_of_another_program 2 "cutoff_len. is LLaMA-Factory's. HINT: max_length means that here" -- $(sft) --cutoff_len 64
expect hydra_override 2 "trainer.total_epochs. is verl's. HINT: num_train_epochs" -- $(sft) trainer.total_epochs=3
expect loss_of_another_command 2 'HINT: run rlhf kto with loss_type: bco' -- "$rlhf" dpo --loss_type bco --model_name_or_path m --dataset_name d
for name in model_name_or_path=model pretrained_model_name_or_path=model adapter_name_or_path=model pretrain=model dataset_name=data \
  dataset_test_split=split dataset_train_split=split torch_dtype=dtype output_dir=output output_file=output save_path=output \
  max_completion_length=max_new_tokens response_length=max_new_tokens max_tokens=max_new_tokens generate_max_len=max_new_tokens \
  num_return_sequences=num_generations num_samples=num_generations n_samples_per_prompt=num_generations \
  per_device_eval_batch_size=max_rows use_cpu=device; do
  expect "generate_${name%=*}" 2 "--${name%=*}\] .*HINT: ${name#*=} means that here" -- "$rlhf" generate --${name%=*} x
done
expect score_names 2 '--model_name_or_path\] .*HINT: model means' '--dataset_name\] .*HINT: data means' -- "$rlhf" score --model_name_or_path m --dataset_name d
expect eval_names 2 '--reward_funcs\] .*HINT: reward means' '--pretrain\] .*HINT: model means' -- "$rlhf" eval --reward_funcs accuracy --pretrain m
printf '\xff\xfem\0a\0x\0' >"$scratch/wide.yaml"
expect config_not_utf8 2 'wide.yaml:1' 'UTF-8' -- $(sft) --config "$scratch/wide.yaml"
expect key_of_another_method 2 'beta' 'belongs to dpo' -- $(sft) --beta 0.1
expect no_model 2 "$scratch/none" -- "$rlhf" sft --model_name_or_path "$scratch/none" --dataset_name "$fixtures/train/pairs.jsonl" --output_dir "$scratch/run"
ln -s loop "$scratch/loop"
expect unreadable_folders 2 'loop.*cannot be used: Too many levels' -- "$rlhf" sft --model_name_or_path "$scratch/loop" --dataset_name "$scratch/loop" --output_dir "$scratch/run"
expect unreadable_model 2 'loop.*cannot be used: Too many levels' -- "$rlhf" generate --model "$scratch/loop" --data "$fixtures/train/pairs.jsonl"
expect no_data 2 "$scratch/none.jsonl" -- "$rlhf" sft --model_name_or_path "$fixtures/train/model" --dataset_name "$scratch/none.jsonl" --output_dir "$scratch/run"

printf '{"prompt": "a", "completion": "b"}\n{"prompt": "a"\n{"prompt": 3, "completion": "b"}\n{"prompt": "\xff", "completion": "b"}\n' >"$scratch/bad.jsonl"
expect bad_rows 2 'bad.jsonl:2' 'bad.jsonl:3' 'bad.jsonl:4' -- "$rlhf" sft --model_name_or_path "$fixtures/train/model" --dataset_name "$scratch/bad.jsonl" --output_dir "$scratch/run" --cache_dir "$scratch/cache"

echo '{"input_ids": [5, 6, 999999]}' >"$scratch/ids.jsonl"
expect ids_beyond 2 'vocabulary of' '999999' -- "$rlhf" sft --model_name_or_path "$fixtures/train/model" --dataset_name "$scratch/ids.jsonl" --output_dir "$scratch/run" --cache_dir "$scratch/cache"
tokenize() { printf '%s\n' '{"text": "a"}' "$1" | "$rlhf" tokenize --model "$fixtures/train/model"; }
expect unknown_ids 2 'stdin:2' '999999 and 1 more' 'HINT' -- tokenize '{"ids": [5, 999999, 6, 888888]}'
expect ids_beyond_32_bits 2 'stdin:2' '99999999999' -- tokenize '{"ids": [99999999999]}'
expect chat_flags 2 'stdin:2' 'true or false .*`add_generation_prompt`, got number' 'an object .*got string' -- \
  tokenize '{"messages": [{"role": "user", "content": "a"}], "add_generation_prompt": 1, "chat_template_kwargs": "x"}'
expect too_many_threads 2 'threads' -- $(sft) --threads 100000

cp -r "$fixtures/train/model" "$scratch/cut"
truncate -s 5000 "$scratch/cut/model.safetensors"
expect truncated_weights 2 'model.safetensors' -- "$rlhf" sft --model_name_or_path "$scratch/cut" --dataset_name "$fixtures/train/pairs.jsonl" --output_dir "$scratch/run" --cache_dir "$scratch/cache"
cp -r "$fixtures/train/model" "$scratch/raising"
echo '{{ raise_exception("only users may speak") }}' >"$scratch/raising/chat_template.jinja"
expect template_raises 2 'only users may speak' -- "$rlhf" sft --model_name_or_path "$scratch/raising" --dataset_name "$fixtures/train/chats.jsonl" --output_dir "$scratch/run" --cache_dir "$scratch/cache"
[ ! -e "$scratch/run" ] || { echo "a refused run wrote $scratch/run"; failures=$((failures + 1)); }

if [ "$(id -u)" = 0 ] && mkdir "$scratch/small" && mount -t tmpfs -o size=64k tmpfs "$scratch/small" 2>/dev/null; then
  expect full_disk 2 'small' 'free' -- "$rlhf" sft --model_name_or_path "$fixtures/train/model" --dataset_name "$fixtures/train/pairs.jsonl" --output_dir "$scratch/small/run" --cache_dir "$scratch/cache" --max_length 64 --max_steps 1
  umount "$scratch/small"
fi

# Reports: every path that is no run, at once; nothing written.
mkdir -p "$scratch/no_run"
expect report_of_nothing 2 'a run folder was expected, got nothing' -- "$rlhf" report
expect report_of_no_runs 2 'no_run\] .*no metrics.jsonl' 'none\] .*nothing of this name' -- "$rlhf" report "$scratch/no_run" "$scratch/none"
expect report_cap 2 'max_completions' -- "$rlhf" report "$scratch/no_run" --max_completions -1
[ -z "$(ls "$scratch/no_run")" ] || { echo "a refused report wrote into $scratch/no_run"; failures=$((failures + 1)); }

# Resuming: other rows, another optimizer, nothing whole.
$(sft "$scratch/resume") --max_steps 2 --save_strategy steps 2>/dev/null || failures=$((failures + 1))
expect other_rows 2 'other training rows' -- $(sft "$scratch/resume" 10) --max_steps 3 --resume_from_checkpoint true
expect other_optimizer 2 'optim' -- $(sft "$scratch/resume") --max_steps 3 --resume_from_checkpoint true --optim sgd
expect changed_option 0 'seed was 42 and is 7' -- $(sft "$scratch/resume") --max_steps 3 --resume_from_checkpoint true --seed 7
for part in "$scratch"/resume/checkpoint-*/optimizer.safetensors; do truncate -s 100 "$part"; done
expect none_whole 2 'no checkpoint .* is whole' -- $(sft "$scratch/resume") --max_steps 4 --resume_from_checkpoint true

# A run that replaces another leaves nothing of it that would pass for its own.
echo '{"step": 1}' >"$scratch/resume/completions.jsonl"
$(sft "$scratch/resume") --max_steps 1 --overwrite_output_dir 2>/dev/null || failures=$((failures + 1))
[ ! -e "$scratch/resume/completions.jsonl" ] || { echo "completions of the run that was replaced are still there"; failures=$((failures + 1)); }

# Who reads standard error may leave, or never have been there: the run goes on, and the codes are the same.
lost() { # REDIRECTION COMMAND
  local to=$1
  shift
  eval '"$@"' "$to"
}
for to in '2>&-' '2>/dev/full' '2> >(:)'; do
  lost "$to" $(sft "$scratch/lost") --max_steps 2 --overwrite_output_dir
  code=$?
  [ $code = 0 ] || { echo "lost messages ($to): exit 0 was expected, got $code"; failures=$((failures + 1)); }
  lost "$to" $(sft "$scratch/lost") --learning_rat 1
  code=$?
  [ $code = 2 ] || { echo "lost errors ($to): exit 2 was expected, got $code"; failures=$((failures + 1)); }
done
# A file that is opened gets the lowest free number, which is that of a standard error that was closed.
lost '2>&-' "$rlhf" generate --model "$fixtures/train/model" --data "$fixtures/train/pairs.jsonl" --max_new_tokens 4 --output "$scratch/lost.jsonl"
grep -qv '^{' "$scratch/lost.jsonl" && { echo "messages of a closed standard error stand in the output"; failures=$((failures + 1)); }
full() { "$@" >/dev/full; }
closed() { "$@" >&-; }
expect closed_standard_output 2 'standard output\] cannot write' -- closed "$rlhf" env
for command in --help 'sft --help' env 'plan sft --model_name_or_path '"$fixtures/train/model"' --dataset_name d'; do
  expect "full standard output: $command" 2 'standard output\] cannot write' -- full "$rlhf" $command
done

# A gradient that is not finite stops the run before it touches the weights.
expect not_finite 1 'norm at step' 'learning_rate' -- $(sft "$scratch/nan") --max_steps 20 --learning_rate 1e30 --max_grad_norm 0

# Ctrl-C: a checkpoint first, then 130. SIGTERM the same.
for signal in INT TERM; do
  $(sft "$scratch/$signal") --max_steps 100000 --save_strategy no 2>/dev/null &
  child=$!
  for _ in $(seq 100); do [ -s "$scratch/$signal/metrics.jsonl" ] && break; sleep 0.1; done
  kill -$signal $child
  wait $child
  code=$?
  [ $code = 130 ] || { echo "$signal: exit 130 was expected, got $code"; failures=$((failures + 1)); }
  ls "$scratch/$signal"/checkpoint-*/manifest.json >/dev/null 2>&1 || { echo "$signal: no checkpoint was written"; failures=$((failures + 1)); }
done

[ $failures = 0 ] && echo "all as expected"
exit $failures

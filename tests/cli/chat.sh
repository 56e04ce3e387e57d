#!/usr/bin/env bash
# rlhf chat by pipe, beside rlhf generate on the conversations it saved; and at a pseudo-terminal (chat_terminal.py).
# Usage: chat.sh RLHF FIXTURES
set -euo pipefail
rlhf=$1 fixture=$2/train/model
here=$(cd "$(dirname "$0")" && pwd)
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
cd "$scratch"

broken() { echo "$*"; exit 1; }
same() { # WHAT EXPECTED GOT
  cmp -s "$2" "$3" || { echo "$1: expected, then got:"; cat "$2" "$3"; exit 1; }
}
expect_fault() { # PATTERN COMMAND...; standard input is passed on
  local pattern=$1 code=0
  shift
  "$@" >out 2>err || code=$?
  [ $code -eq 2 ] || { cat err; broken "exit code $code, expected 2: $*"; }
  grep -qE -- "$pattern" err || { cat err; broken "/$pattern/ was expected"; }
}
# The fixture's configuration does not name the template's end of turn; generation is to stop there, too.
cp -r "$fixture" model
model=model
sed -i 's/"eos_token_id": 1/"eos_token_id": [1, 3]/' model/generation_config.json
chat() { "$rlhf" chat --model "$model" --threads 1 "$@"; }

# Every answer is what rlhf generate gives of the messages before it: the first from the same stream, all of them where greedy.
answers() { # OPTIONS...: of a conversation saved to talk.jsonl, standard output in answers
  rm -f talk.jsonl
  printf 'abc\nde f\n\n/reset\nabc\nde f\n"""\n/x\n\ny\n"""\n/save talk.jsonl\n' | chat "$@" >answers 2>log || { cat log; exit 1; }
}
answers --temperature 0 --max_new_tokens 12 --system 'be brief'
python3 - <<'PY'
import json
rows = [json.loads(line) for line in open("talk.jsonl")]
assert len(rows) == 1, rows
messages = rows[0]["messages"]
roles = [m["role"] for m in messages]
assert roles == ["system"] + ["user", "assistant"] * 3, roles
assert [m["content"] for m in messages[1::2]] == ["abc", "de f", "/x\n\ny"], messages
said = [m["content"] for m in messages[2::2]]
shown = open("answers").read()
assert shown == "".join(text + "\n" for text in said[:2] + said), (shown, said)
PY
as_generated() { # OPTIONS...: every answer of talk.jsonl is what rlhf generate gives of the messages before it
  python3 - <<'PY'
import json
with open("prompts.jsonl", "w") as out:
    for line in open("talk.jsonl"):
        messages = json.loads(line)["messages"]
        for end, message in enumerate(messages):
            if message["role"] == "assistant":
                print(json.dumps({"prompt": messages[:end], "said": message["content"]}), file=out)
PY
  "$rlhf" generate --model "$model" --data prompts.jsonl --threads 1 "$@" 2>log >generated.jsonl || { cat log; exit 1; }
  python3 - <<'PY'
import json
for line in open("generated.jsonl"):
    row = json.loads(line)
    assert row["completions"][0]["text"] == row["said"], row
PY
}
as_generated --temperature 0 --max_new_tokens 12
# Sampled, the first answer of a conversation has the stream of the first row.
printf '{"prompt": [{"role": "user", "content": "abc"}]}\n' >one.jsonl
for seed in 1 2; do
  "$rlhf" generate --model "$model" --data one.jsonl --seed $seed --max_new_tokens 12 --threads 1 2>log |
    python3 -c 'import json; print(json.loads(input())["completions"][0]["text"])' >expected
  printf 'abc\n' | chat --seed $seed --max_new_tokens 12 >got 2>log || { cat log; exit 1; }
  same "seed $seed" expected got
  # Another answer each time it is asked for again, and the same ones in the next run.
  printf 'abc\n/retry\n/retry\n' | chat --seed $seed --max_new_tokens 12 >once 2>log
  printf 'abc\n/retry\n/retry\n' | chat --seed $seed --max_new_tokens 12 >again 2>log
  same "retries of seed $seed" once again
  [ "$(sort -u once | wc -l)" -ge 3 ] || { cat once; broken "three different answers were expected"; }
done
# A stop text ends an answer and is not shown.
stop=$(head -c 4 got | tail -c 1)
printf 'abc\n' | chat --seed 2 --max_new_tokens 12 --stop "$stop" >cut 2>log
python3 - "$stop" <<'PY'
import sys
whole = open("got").read()
assert open("cut").read() == whole[: whole.index(sys.argv[1])] + "\n", open("cut").read()
PY
# What was saved is what rlhf sft reads; a second conversation is a second row.
printf 'abc\n/save talk.jsonl\n' | chat --temperature 0 --max_new_tokens 3 >/dev/null 2>log
[ "$(wc -l <talk.jsonl)" = 2 ] || broken "two rows were expected in talk.jsonl"
grep -q 'did not end by themselves: 1' log || { cat log; broken "a warning of the answer that was cut was expected"; }
"$rlhf" sft --model_name_or_path "$model" --dataset_name talk.jsonl --cache_dir cache --output_dir tuned --max_steps 1 \
  --assistant_only_loss --per_device_train_batch_size 2 --threads 1 2>log >/dev/null || { cat log; exit 1; }
# Prompts that grow, each computed from the last one's keys and values.
rm talk.jsonl
printf '%s\n' a b c d e f g h '/save talk.jsonl' | chat --temperature 0 --max_new_tokens 10 --repetition_penalty 1.2 >/dev/null 2>log || { cat log; exit 1; }
as_generated --temperature 0 --max_new_tokens 10 --repetition_penalty 1.2
[ "$(wc -l <generated.jsonl)" = 8 ] || broken "eight answers were expected"

# Room: the model's 256 tokens, then what --cache_gib leaves.
printf 'abc\n%0300d\n' 0 | expect_fault 'stdin:2: chat\] .*the model.s context has room for 256: the turn was left out.*HINT: /reset' chat --max_new_tokens 4
cp -r "$model" endless
python3 - <<'PY'
import json
for name in ("config.json", "generation_config.json", "tokenizer_config.json"):
    config = json.load(open("endless/" + name))
    config.pop("eos_token_id", None)
    config.pop("eos_token", None)
    json.dump(config, open("endless/" + name, "w"))
PY
echo '{% for m in messages %}{{ m.content }}{% endfor %}' >endless/chat_template.jinja
printf 'abc\n' | "$rlhf" chat --model endless --threads 1 --temperature 0 >long 2>log || { cat log; exit 1; }
grep -q 'warning: \[chat\] .*the context is full' log || { cat log; broken "a warning of the full context was expected"; }
printf 'abc\n' | expect_fault 'cache_gib has room for 16' chat --cache_gib 4e-6
printf 'abc\n' | expect_fault '--cache_gib\] at least' chat --cache_gib 1e-9

# Faults.
expect_fault 'did you mean /reset' chat <<<'/rest'
expect_fault '/reset takes nothing' chat <<<'/reset now'
expect_fault 'there is none to save' chat <<<'/save x'
expect_fault 'to draw again' chat <<<'/retry'
expect_fault 'a file was expected' chat <<<'/save'
printf 'abc\n/save .\n' | expect_fault 'a file was expected, . is a folder' chat --max_new_tokens 2
printf 'abc\n/save none/x\n' | expect_fault 'none/x' chat --max_new_tokens 2
printf '\xff\n' | expect_fault 'stdin:1: .*UTF-8' chat
printf 'abc\n"""\nx\n' | expect_fault 'stdin:2: .*a line of """' chat --max_new_tokens 2
cp -r "$model" bare && rm bare/chat_template.jinja
expect_fault 'a chat template was expected.*--chat_template_path' "$rlhf" chat --model bare <<<'a'
printf 'abc\n' | "$rlhf" chat --model bare --chat_template_path "$model/chat_template.jinja" --seed 2 --max_new_tokens 12 --threads 1 >got2 2>log
same 'a template from a file' got got2
cp -r "$model" strict
echo "{%- for m in messages %}{%- if m.role == 'system' %}{{ raise_exception('no system here') }}{%- endif %}{{ m.content }}{%- endfor %}" >strict/chat_template.jinja
expect_fault 'no system here' "$rlhf" chat --model strict --system x <<<'a'
# The template's variables reach it.
echo "{%- if mode is defined %}{{ raise_exception('mode is ' ~ mode) }}{%- endif %}{{ messages[-1].content }}" >strict/chat_template.jinja
expect_fault 'mode is fast' "$rlhf" chat --model strict --chat_template_kwargs '{mode: fast}' <<<'a'
# The template's end of turn stops an answer, also where the model's configuration does not name it.
printf 'abc\n' | "$rlhf" chat --model "$fixture" --seed 2 --max_new_tokens 12 --threads 1 >got2 2>log
same 'an end of turn without a name' got got2
grep -q 'warning: \[chat\] the template ends a turn with <|im_end|>.*HINT: add 3 to eos_token_id' log || { cat log; broken "a warning was expected"; }
printf 'abc\n' | chat --max_new_tokens 2 2>&1 >/dev/null | grep 'ends a turn' && broken "no warning was expected"

python3 "$here/chat_terminal.py" "$rlhf" "$model"
echo "as expected"

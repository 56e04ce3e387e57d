#!/usr/bin/env bash
# `rlhf report` in a real browser: the page is opened from disk in headless Chromium, a probe (report_probe.js) works its fields and says what it
# saw. Expected values are worked by hand from the run folders written here. Skips (77) where there is no Chromium.
# Usage: report_browser.sh RLHF FIXTURES [KEEP]     KEEP: a folder where pages and screenshots are left
set -uo pipefail
rlhf=$1 fixtures=$2 keep=${3:-}
here=$(cd "$(dirname "$0")" && pwd)
browser=$(command -v chromium-headless-shell || command -v chromium || command -v chromium-browser || command -v google-chrome) || {
  echo "skipped: no Chromium is installed. HINT: tools/setup.sh browser installs one."
  exit 77
}
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
failures=0
complain() { echo "$*"; failures=$((failures + 1)); }

# Two runs by hand. `wide`: 40 steps, phases, an evaluation at 20 and 40, 40 completions, four a step in steps 1 to 10, two prompts each:
# number i has reward 1 where i is a multiple of 4, ends by length where i is a multiple of 5, and says apple where i % 8 is 3.
mkdir -p "$scratch/wide" "$scratch/narrow"
awk 'BEGIN {
  for (s = 1; s <= 40; ++s) {
    printf "{\"step\":%d,\"epoch\":%.3f,\"loss\":%.4f,\"num_tokens\":%d,\"kl\":%s,\"step_time\":1.0,\"time/rollout\":0.5,\"time/reward\":0.1,\"time/update\":0.3}\n",
      s, s / 20, 2 - s / 40 + (s % 2 ? 0.2 : -0.2), s * 500, s == 7 ? "null" : s / 100
    if (s % 20 == 0) printf "{\"step\":%d,\"eval_loss\":%.3f}\n", s, 1.9 - s / 40
  }
  printf "{\"step\":41,\"los"
}' >"$scratch/wide/metrics.jsonl"
awk 'BEGIN {
  for (i = 0; i < 40; ++i) {
    text = "answer " i (i % 8 == 3 ? " with an Apple" : "") (i == 0 ? " </script><script>document.title = 1</script><!--" : "")
    printf "{\"step\":%d,\"generation\":%d,\"prompt\":\"question %d\",\"completion\":\"%s\",\"rewards\":{\"accuracy\":%d},\"reward\":%d,\"advantage\":%.1f,", \
      1 + int(i / 4), int(i / 4), int(i / 2), text, i % 4 == 0, i % 4 == 0, i % 4 == 0 ? 1.5 : -0.5
    printf "\"finish_reason\":\"%s\",\"completion_ids\":[1%s]}\n", i % 5 == 0 ? "length" : "stop", i % 2 ? ",2" : ""
  }
}' >"$scratch/wide/completions.jsonl"
printf 'model_name_or_path: base\nlearning_rate: 1.0e-05\nbeta: 0.1\nseed: 1\n' >"$scratch/wide/config.yaml"
awk 'BEGIN { for (s = 10; s <= 30; s += 10) printf "{\"step\":%d,\"loss\":%.2f}\n", s, 3 - s / 20 }' >"$scratch/narrow/metrics.jsonl"
printf 'model_name_or_path: base\nlearning_rate: 2.0e-05\nseed: 1\n' >"$scratch/narrow/config.yaml"

probe() { # NAME PAGE: what the probe says of the page, in $scratch/NAME.txt
  { cat "$2"; printf '<script>\n'; cat "$here/report_probe.js"; printf '</script>\n'; } >"$scratch/$1.probe.html"
  "$browser" --headless --no-sandbox --disable-gpu --user-data-dir="$scratch/profile" --window-size=1400,4000 --enable-logging=stderr \
    --virtual-time-budget=20000 --dump-dom "file://$scratch/$1.probe.html" >"$scratch/$1.dom" 2>"$scratch/$1.log"
  grep -E 'CONSOLE' "$scratch/$1.log" && complain "$1: the console was expected to be empty"
  sed -n '/<pre id="probe">/,/<\/pre>/p' "$scratch/$1.dom" | sed 's/<[^>]*>//g; s/&lt;/</g; s/&gt;/>/g; s/&amp;/\&/g' >"$scratch/$1.txt"
  [ -s "$scratch/$1.txt" ] || complain "$1: the probe said nothing: $(tail -3 "$scratch/$1.log")"
}
expect() { # NAME LINE
  grep -qxF -- "$2" "$scratch/$1.txt" || complain "$1: '$2' was expected, got '$(grep -- "^${2%% *} " "$scratch/$1.txt")'"
}
shot() { # NAME SECTION SIZE [DARK]: a screenshot, where they are wanted
  [ -n "$keep" ] || return 0
  local scheme=light
  { cat "$2"; [ -z "${4:-}" ] || { scheme=dark; printf '<script>setScheme("dark");</script>\n'; }; } >"$scratch/shot.html"
  "$browser" --headless --no-sandbox --disable-gpu --hide-scrollbars --user-data-dir="$scratch/profile" --window-size="$3" \
    --virtual-time-budget=8000 --screenshot="$keep/$1-$scheme.png" "file://$scratch/shot.html" >/dev/null 2>&1
}

"$rlhf" report "$scratch/wide" 2>"$scratch/err" || complain "report of one run failed: $(cat "$scratch/err")"
grep -q "report: $scratch/wide/report.html" "$scratch/err" || complain "the path of the page was expected on standard error: $(cat "$scratch/err")"
grep -q 'metrics.jsonl:43\] the last line is cut off' "$scratch/err" || complain "the cut line was expected to be told: $(cat "$scratch/err")"
probe one "$scratch/wide/report.html"
expect one 'title wide – rlhf report'
expect one 'runs_shown 1'
expect one 'groups training,eval_,time/,speed, memory, counts'
expect one 'loss_drawn true'
expect one 'loss_changes_with_smoothing true'
expect one 'loss_smoothed_last 0.9875'  # the formula of page/model.js over the 40 losses, computed by another program
expect one 'loss_logged_last 0.8'
expect one 'kl_remark 1 not finite'
expect one 'eval_points 2'
expect one 'phases rollout 0.5 50.0%,reward 0.1 10.0%,update 0.3 30.0%,rest of the step 0.1 10.0%'
expect one 'phases_drawn true'
expect one 'histograms reward,advantage,length'
expect one 'reward_bins 0:30,1:10'
expect one 'reward_bins_of_steps_1_to_2 0:6,1:2'
expect one 'completions_all 40 of 40 completions.'
expect one 'completions_apple 5 of 40 completions.'
expect one 'completions_steps_3_to_4 8 of 40 completions.'
expect one 'completions_reward_from_1 10 of 40 completions.'
expect one 'completions_length 8 of 40 completions.'
expect one 'completions_length_and_steps_to_5 4 of 40 completions.'
expect one 'completions_group 2 of 40 completions; one group.'
expect one 'rows_of_page 25'
expect one 'page page 2 of 2'
expect one 'rows_of_last_page 15'
expect one 'hostile answer 0 </script><script>document.title = 1</script><!--'
expect one 'marks 1'
expect one 'key_moves_to_row 0'
expect one 'zoomed_from_10 true'
expect one 'config_keys 4'

"$rlhf" report "$scratch/wide" "$scratch/narrow" --output "$scratch/two.html" --max_completions 10 2>"$scratch/err" || complain "report of two runs failed"
grep -q 'holds 10 of 40 completions' "$scratch/err" || complain "the cap was expected to be told: $(cat "$scratch/err")"
probe two "$scratch/two.html"
expect two 'title wide, narrow – rlhf report'
expect two 'runs_shown 2'
expect two 'loss_runs wide,narrow'
expect two 'loss_colours_differ true'
expect two 'loss_runs_without_first narrow'
expect two 'config_differing beta,learning_rate'
expect two 'config_values 0.1|–,1.0e-05|2.0e-05'
expect two 'config_all 4'
expect two 'completions_all 10 of 10 completions; this page holds 10 of 40, spread evenly over the run (rlhf report --max_completions).'

# A run of the program itself, and what is shown when there is nothing to show.
"$rlhf" sft --model_name_or_path "$fixtures/train/model" --dataset_name "$fixtures/train/pairs.jsonl" --cache_dir "$scratch/cache" --output_dir "$scratch/sft" \
  --max_length 64 --max_steps 6 --logging_steps 1 --eval_strategy no --save_strategy no 2>/dev/null || complain "the run of sft failed"
"$rlhf" report "$scratch/sft" --output - >"$scratch/sft.html" 2>"$scratch/err" || complain "report of a real run failed: $(cat "$scratch/err")"
probe sft "$scratch/sft.html"
expect sft 'loss_drawn true'
expect sft 'completions_none No run here has completions.jsonl: methods that sample completions write it.'
mkdir -p "$scratch/empty" && : >"$scratch/empty/metrics.jsonl"
"$rlhf" report "$scratch/empty" 2>/dev/null || complain "report of an empty run failed"
probe empty "$scratch/empty/report.html"
expect empty 'curves_none No run has logged a step yet.'

if [ -n "$keep" ]; then
  mkdir -p "$keep"
  cp "$scratch/wide/report.html" "$keep/one.html"
  cp "$scratch/two.html" "$keep/two.html"
  cp "$scratch"/*.txt "$keep"
  shot one "$keep/one.html" 1400,2600
  shot two "$keep/two.html" 1400,2600 dark
fi
[ $failures = 0 ] && echo "all as expected"
exit $failures

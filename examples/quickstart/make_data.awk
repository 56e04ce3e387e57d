# Additions of two numbers below 100, every pair once, in a shuffled order that is the same on every machine. 500 of them are set
# aside as test.jsonl and never trained on.
# Run: awk -v folder=DIR [-v seed=N] -f make_data.awk   with the folders DIR/sums, DIR/pairs and DIR/slips, in which it writes JSONL:
#   sums/{train,test}     prompt, completion, answer. One completion in four of train has a slip: off by one in the ones or the tens
#   pairs/{train,test}    prompt, chosen: the sum, rejected: another number of as many digits, and a row with a slip of it
#   slips/train           prompt, chosen: the sum, rejected: each of its slips
function draw(bound, stream) {    # Lehmer's generator with the modulus 2^31 - 1: exact in doubles
  state[stream] = (state[stream] * 16807) % 2147483647
  return state[stream] % bound
}
function slip(sum, kind) { return sum + (kind % 2 ? 1 : -1) * (kind < 2 ? 1 : 10) }
function any_slip(sum, stream,   wrong) {
  do wrong = slip(sum, draw(4, stream)); while (wrong < 0)
  return wrong
}
function guess(sum,   low, number) {
  low = sum < 10 ? 0 : sum < 100 ? 10 : 100
  do number = low + draw(low == 0 ? 10 : low == 10 ? 90 : 99); while (number == sum)
  return number
}
function pair(file, rejected) {
  printf "{\"prompt\": \"%s\", \"chosen\": \"%d\", \"rejected\": \"%d\"}\n", prompt, sum, rejected > (folder file)
}
BEGIN {
  state[""] = seed ? seed : 20261126
  state["pairs"] = 1
  rows = 0
  for (a = 0; a < 100; ++a) for (b = 0; b < 100; ++b) order[rows++] = a * 100 + b
  for (i = rows - 1; i > 0; --i) {
    j = draw(i + 1)
    swap = order[i]; order[i] = order[j]; order[j] = swap
  }
  for (i = 0; i < rows; ++i) {
    b = order[i] % 100
    a = (order[i] - b) / 100
    sum = a + b
    prompt = a "+" b "="
    name = i < 500 ? "test.jsonl" : "train.jsonl"
    shown = i >= 500 && draw(4) == 0 ? any_slip(sum) : sum
    printf "{\"prompt\": \"%s\", \"completion\": \"%d\", \"answer\": \"%d\"}\n", prompt, shown, sum > (folder "/sums/" name)
    pair("/pairs/" name, guess(sum))
    pair("/pairs/" name, any_slip(sum, "pairs"))
    if (i >= 500) for (kind = 0; kind < 4; ++kind) if (slip(sum, kind) >= 0) pair("/slips/train.jsonl", slip(sum, kind))
  }
}

# Additions of two numbers below 100, every pair once, in a shuffled order that is the same on every machine.
# Run: awk -v folder=DIR -f make_data.awk     writes DIR/train.jsonl and DIR/test.jsonl (500 rows, never trained on)
function draw(bound) {            # Lehmer's generator with the modulus 2^31 - 1: exact in doubles
  state = (state * 16807) % 2147483647
  return state % bound
}
BEGIN {
  state = 20240917
  rows = 0
  for (a = 0; a < 100; ++a) for (b = 0; b < 100; ++b) order[rows++] = a * 100 + b
  for (i = rows - 1; i > 0; --i) {
    j = draw(i + 1)
    swap = order[i]; order[i] = order[j]; order[j] = swap
  }
  for (i = 0; i < rows; ++i) {
    b = order[i] % 100
    a = (order[i] - b) / 100
    file = folder (i < 500 ? "/test.jsonl" : "/train.jsonl")
    printf "{\"prompt\": \"%d+%d=\", \"completion\": \"%d\", \"answer\": \"%d\"}\n", a, b, a + b, a + b > file
  }
}

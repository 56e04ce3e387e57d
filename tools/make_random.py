"""Prints the expected values of tests/core/random_test.cpp: Philox4x32-10 in plain integers.

The bijection is first checked against the known answers that Salmon et al. publish with Random123 (kat_vectors:
`philox4x32 10`). Ran with Python 3.11; uses the standard library only.
"""

MASK32, MASK64 = 2**32 - 1, 2**64 - 1


def philox(counter, key):
    c, k = list(counter), list(key)
    for _ in range(10):
        p0, p1 = 0xD2511F53 * c[0], 0xCD9E8D57 * c[2]
        c = [(p1 >> 32) ^ c[1] ^ k[0], p1 & MASK32, (p0 >> 32) ^ c[3] ^ k[1], p0 & MASK32]
        k = [(k[0] + 0x9E3779B9) & MASK32, (k[1] + 0xBB67AE85) & MASK32]
    return c


def splitmix(z):
    """The finaliser of SplitMix64 (Steele et al. 2014)."""
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & MASK64
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & MASK64
    return z ^ (z >> 31)


def stream(seed, purpose, blocks):
    name = 0
    for word in purpose:
        name = splitmix((name + 0x9E3779B97F4A7C15 + splitmix(word)) & MASK64)
    key = splitmix((seed + 0x9E3779B97F4A7C15) & MASK64)
    words = []
    for block in range(blocks):
        words += philox([block, 0, name & MASK32, name >> 32], [key & MASK32, key >> 32])
    return words


def main():
    assert philox([0] * 4, [0] * 2) == [0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8]
    assert philox([MASK32] * 4, [MASK32] * 2) == [0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD]
    assert philox([0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344], [0xA4093822, 0x299F31D0]) == [
        0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1]
    for seed, purpose in [(0, [1, 0]), (42, [1, 3]), (2**64 - 1, [4, 7, 2**40, 5])]:
        words = stream(seed, purpose, blocks=2)
        print(seed, purpose, ", ".join(f"0x{word:08X}" for word in words))


if __name__ == "__main__":
    main()

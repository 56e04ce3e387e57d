"""Model FLOPs of a step and bytes of a token step, from shapes and lengths alone: the numerators of the utilisation that bench/run.py reports.

Counted is what the mathematics needs, not what a program does: no padding, no recomputation, a prompt that several answers share once, the head only
at the tokens whose probability is asked for. Both sides of a comparison get the same number. Layers count alike for all tokens, though behind the last
one's attention only the scored ones are needed: a program that knows it (rlhf) does up to 1/L less of the layers than is counted.

A multiply-add is 2. Let N be the matrix weights (per layer C·HD for queries and for the output, C·KD for keys and for values, 3·C·F of the MLP;
the head V·C once, tied or not; embeddings are looked up and cost nothing), T the tokens that pass them, L layers, H heads of width D:

    forward             2·N·T + 4·L·H·D·Σ len²/2
    forward, backward   6·N·T + 12·L·H·D·Σ len²/2
    LoRA                4·N·T + 6·n·T + 12·L·H·D·Σ len²/2     (frozen weights have no gradient; n: weights of the adapter)

Σ len²/2 are the pairs of tokens that see each other causally, in rows without a shared prompt; an answer of a tokens behind a prompt of p adds
p·a + a²/2 to the prompt's p²/2.
"""

import dataclasses

Group = tuple[int, list[int]]  # a prompt's length and those of the answers that share it


@dataclasses.dataclass(frozen=True)
class Shape:
    layers: int
    model: int
    inner: int
    queries: int  # H·D
    keys: int  # K·D
    vocabulary: int

    @classmethod
    def of(cls, shape: dict) -> "Shape":
        """Of the arguments that a LlamaConfig gets."""
        width = shape["hidden_size"] // shape["num_attention_heads"]
        return cls(shape["num_hidden_layers"], shape["hidden_size"], shape["intermediate_size"], width * shape["num_attention_heads"],
                   width * shape["num_key_value_heads"], shape["vocab_size"])

    def matrices(self) -> list[tuple[int, int]]:
        """Both sides of each matrix of a layer."""
        attention = [(self.model, self.queries), (self.queries, self.model), (self.model, self.keys), (self.model, self.keys)]
        return attention + [(self.model, self.inner)] * 3

    def layer_weights(self) -> int:
        """Of all layers together."""
        return self.layers * sum(a * b for a, b in self.matrices())

    def adapter_weights(self, rank: int) -> int:
        return self.layers * sum(rank * (a + b) for a, b in self.matrices())

    def head_weights(self, scalar: bool) -> int:
        return self.model * (1 if scalar else self.vocabulary)


def tokens(groups: list[Group]) -> int:
    return sum(prompt + sum(answers) for prompt, answers in groups)


def products(shape: Shape, groups: list[Group], scored: int, scalar: bool) -> float:
    """2·N·T, the head at `scored` tokens."""
    return 2.0 * (shape.layer_weights() * tokens(groups) + shape.head_weights(scalar) * scored)


def attention(shape: Shape, groups: list[Group]) -> float:
    """4·L·H·D·Σ len²/2."""
    pairs = sum(prompt**2 / 2 + sum(prompt * answer + answer**2 / 2 for answer in answers) for prompt, answers in groups)
    return 4.0 * shape.layers * shape.queries * pairs


def forward(shape: Shape, groups: list[Group], scored: int, scalar: bool = False, rank: int = 0) -> float:
    return products(shape, groups, scored, scalar) + attention(shape, groups) + 2.0 * shape.adapter_weights(rank) * tokens(groups)


def train(shape: Shape, groups: list[Group], scored: int, scalar: bool = False, rank: int = 0) -> float:
    """Forward and backward: of all weights, or with `rank` of a LoRA adapter alone."""
    share = 2.0 if rank else 3.0
    adapter = 6.0 * shape.adapter_weights(rank) * tokens(groups)
    return share * products(shape, groups, scored, scalar) + 3.0 * attention(shape, groups) + adapter


def token_step_bytes(shape: Shape, rows: int, context: float) -> dict[str, float]:
    """What a decode step of `rows` samples must read in fp32: the weights once, and the keys and values of `context` tokens a row."""
    return {"weights": 4.0 * (shape.layer_weights() + shape.head_weights(scalar=False)), "cache": 8.0 * shape.layers * shape.keys * rows * context}

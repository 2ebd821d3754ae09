"""Floating-point operations of a decoder, which no machine changes.

A matrix product of m x k and k x n numbers is 2mkn operations, so that a block's forward pass takes 2 for each of its weights
and token, and attention 4 * width for each key that a query looks at (scores, and sums of values); a backward pass is twice
that, once for the inputs and once for the weights. Kaplan et al., arXiv 2001.08361, section 2.1; Chowdhery et al., arXiv
2204.02311, appendix B. Embeddings, norms and the head of a reward model are left out; a sliding window counts as if it were
the whole text.
"""

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from rmtransfer.models.packing import Group

FORWARD, BACKWARD = 1, 2  # in forward passes


class Work(NamedTuple):
    """What a forward pass computes, whatever the model.

    Attributes:
        tokens: padding included.
        looks: keys that queries look at, summed over queries.
    """

    tokens: int = 0
    looks: int = 0

    def __add__(self, other: "Work") -> "Work":  # type: ignore[override]  # sums, not longer tuples
        return Work(self.tokens + other.tokens, self.looks + other.looks)


class Shape(NamedTuple):
    """What decides the operations of a decoder.

    Attributes:
        products: weights of each block's matrix products.
        width: heads times their dimension.
        projection: weights of the product that turns a state into next-token scores.
    """

    products: Sequence[int]
    width: int
    projection: int

    def forward(self, work: Work, first: int = 0, last: int | None = None) -> int:
        """Operations of a forward pass through the blocks ``first`` to ``last``."""
        blocks = self.products[first:last]
        return 2 * sum(blocks) * work.tokens + self._attention(work, len(blocks))

    def training(self, work: Work, frozen: int, *, embeddings: bool, recomputed: bool = False) -> int:
        """Operations of forward and backward pass.

        Args:
            frozen: blocks from the input that stay as they are.
            embeddings: whether the embedding table is trained, so that its gradient passes through frozen blocks.
            recomputed: whether the backward pass computes activations once more.
        """
        below, above = self.forward(work, 0, frozen), self.forward(work, frozen)
        operations = below + (FORWARD + BACKWARD + recomputed) * above
        if embeddings:  # frozen weights need no gradient; attention, which has none, needs both as ever
            operations += (1 + recomputed) * below + self._attention(work, frozen)
        return operations

    def _attention(self, work: Work, blocks: int) -> int:
        return 4 * self.width * blocks * work.looks


def shape_of(config: Any) -> Shape:
    """The shape of a decoder of this transformers configuration."""
    import torch
    from transformers import AutoModel

    with torch.device("meta"):
        model: Any = AutoModel.from_config(config)
    config = model.config.get_text_config()
    head = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    return Shape(
        [sum(m.weight.numel() for m in block.modules() if isinstance(m, torch.nn.Linear)) for block in model.layers],
        config.num_attention_heads * head,
        config.hidden_size * config.vocab_size,
    )


def of_group(group: Group) -> Work:
    """A group in a pack: each node looks at what comes before it in its texts and at itself."""
    looks = 0
    lengths: list[int] = []  # of each node's texts up to its end
    for tokens, parent in group.nodes:
        before = lengths[parent] if parent >= 0 else 0
        lengths.append(before + len(tokens))
        looks += before * len(tokens) + _triangle(len(tokens))
    return Work(group.tokens, looks)


def of_groups(groups: Iterable[Group]) -> Work:
    """Groups in packs."""
    return sum(map(of_group, groups), Work())


def of_padded(batches: Iterable[Sequence[Sequence[int]]]) -> Work:
    """Padded batches of texts, whose attention computes the whole square of each row and masks it."""
    work = Work()
    for batch in batches:
        length = max(map(len, batch))
        work += Work(len(batch) * length, len(batch) * length**2)
    return work


def of_decoding(length: int, steps: int) -> Work:
    """Steps of one new token each, the first of which looks at itself and ``length`` tokens before it."""
    return Work(steps, steps * length + _triangle(steps))


def _triangle(length: int) -> int:
    return length * (length + 1) // 2

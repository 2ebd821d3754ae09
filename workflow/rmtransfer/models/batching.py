"""Token sequences of different lengths as rectangles with little padding."""

from collections.abc import Iterator, Sequence

import torch


def length_batches(lengths: Sequence[int], tokens_per_batch: int) -> Iterator[list[int]]:
    """Indices grouped so that a padded group stays within a token budget, the longest first.

    Longest first, so that running out of memory shows in the first seconds.
    """
    batch: list[int] = []
    for index in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
        if batch and (len(batch) + 1) * lengths[batch[0]] > tokens_per_batch:
            yield batch
            batch = []
        batch.append(index)
    if batch:
        yield batch


def left_padded(sequences: Sequence[Sequence[int]], pad: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Token ids and attention mask, both [n, longest], aligned at the end as generation needs them."""
    return _padded(sequences, pad, [max(map(len, sequences)) - len(sequence) for sequence in sequences])


def right_padded(sequences: Sequence[Sequence[int]], pad: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Token ids and attention mask, both [n, longest], aligned at the start."""
    return _padded(sequences, pad, [0] * len(sequences))


def _padded(sequences: Sequence[Sequence[int]], pad: int, starts: Sequence[int]) -> tuple[torch.Tensor, torch.Tensor]:
    ids = torch.full((len(sequences), max(map(len, sequences))), pad)
    mask = torch.zeros_like(ids)
    for row, (start, sequence) in enumerate(zip(starts, sequences, strict=True)):
        ids[row, start : start + len(sequence)] = torch.tensor(sequence)
        mask[row, start : start + len(sequence)] = 1
    return ids, mask

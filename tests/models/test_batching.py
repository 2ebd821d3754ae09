"""Rectangles of tokens: every sequence once, within the budget, padded where it should be."""

from rmtransfer.models.batching import left_padded, length_batches, right_padded


def test_length_batches_keep_the_budget_and_every_index():
    lengths = [5, 1, 9, 3, 3, 7, 200]
    batches = list(length_batches(lengths, 14))
    assert batches == [[6], [2], [5, 0], [3, 4, 1]]
    assert sorted(i for b in batches for i in b) == list(range(len(lengths)))
    assert all(len(b) * max(lengths[i] for i in b) <= 14 for b in batches if len(b) > 1)


def test_padding_stands_on_the_named_side_and_is_masked():
    ids, mask = left_padded([[5, 6], [7]], 9)
    assert ids.tolist() == [[5, 6], [9, 7]]
    assert mask.tolist() == [[1, 1], [0, 1]]
    ids, mask = right_padded([[5, 6], [7]], 9)
    assert ids.tolist() == [[5, 6], [7, 9]]
    assert mask.tolist() == [[1, 1], [1, 0]]

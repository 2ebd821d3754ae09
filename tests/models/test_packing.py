"""What is computed together: groups by hand, and every text whole in one pack."""

import random

from hypothesis import given
from hypothesis import strategies as st

from rmtransfer.models.packing import Batch, group_of, group_texts, packs


def random_ids(count, seed):
    generator = random.Random(seed)
    return tuple(generator.randrange(3, 99) for _ in range(count))


PROMPT = random_ids(20, 1)


def shape_of(group):
    """Length of each node and its parent."""
    return [(len(node.tokens), node.parent) for node in group.nodes]


def test_groups_by_hand():
    first, second = tuple(range(10, 22)), tuple(range(40, 60))
    texts = [(*second, 1), (*first, 1, 2), (*second, 2, 3), (*first, 3), (8, 9)]
    groups = sorted(group_texts(texts, 1000), key=lambda group: min(group.members))
    assert [(shape_of(g), g.members) for g in groups] == [
        ([(20, -1), (1, 0), (2, 0)], (0, 2)),
        ([(12, -1), (2, 0), (1, 0)], (1, 3)),
        ([(2, -1)], (4,)),
    ]
    # A tree: three share 12 tokens, two of these 8 more.
    longer = (*first, *range(60, 68))
    (group,) = group_texts([(*longer, 1), (*first, 3), (*longer, 2)], 1000)
    assert shape_of(group) == [(12, -1), (1, 0), (8, 0), (1, 2), (1, 2)]
    assert (group.members, group.leaves) == ((0, 1, 2), (3, 1, 4))
    # Three more tokens are not worth a node, four are.
    for more, shape in ((3, [(12, -1), (4, 0), (4, 0), (1, 0)]), (4, [(12, -1), (4, 0), (1, 1), (1, 1), (1, 0)])):
        beginning = (*first, *range(30, 30 + more))
        (group,) = group_texts([(*beginning, 80), (*beginning, 81), (*first, 90)], 1000)
        assert shape_of(group) == shape


def test_a_pair_keeps_its_order_and_a_token_of_each():
    chosen, rejected = (5, 6, 9), (5, 6)
    group = group_of([chosen, rejected], first=4)
    assert group.members == (4, 5)
    batch = Batch([group])
    assert [batch.input_ids[0][place].tolist() for place in batch.places] == [list(chosen), list(rejected)]
    assert group.tokens == 1 + 2 + 1
    assert shape_of(group_of([(1, 2), (3,)])) == [(2, -1), (1, -1)]  # nothing in common, and no empty node


def test_a_group_stays_within_the_budget_or_two_texts():
    texts = [PROMPT + random_ids(10, i) for i in range(40)]
    for group in group_texts(texts, 100):
        assert group.tokens <= 100
    for group in group_texts(texts, 1):
        assert group.tokens <= 60
    endless = [tuple([7] * n) for n in range(1, 1200, 4)]  # each begins the next: as deep as a tree can be
    assert sum(group.tokens for group in group_texts(endless, 10**6)) < 2000


@given(st.lists(st.lists(st.integers(3, 5), min_size=1, max_size=14), min_size=1, max_size=12), st.integers(1, 60))
def test_every_text_is_in_one_pack_and_whole(texts, budget):
    found = {}
    for batch in packs(group_texts(texts, budget), budget):
        ids, positions = batch.input_ids[0], batch.position_ids[0]
        assert ids.numel() <= max(budget, 2 * max(map(len, texts)))
        for member, place, end in zip(batch.members, batch.places, batch.ends.tolist(), strict=True):
            assert member not in found
            found[member] = ids[place].tolist()
            assert positions[place].tolist() == list(range(len(place)))
            assert place[-1] == end
    assert [found[i] for i in range(len(texts))] == texts
    assert sum(g.tokens for g in group_texts(texts, budget)) <= sum(map(len, texts))

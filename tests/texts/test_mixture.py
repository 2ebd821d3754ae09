"""What a training set holds: how many pairs of which language, none twice, and the smaller in the larger."""

import math
from collections import Counter
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from conftest import pair
from rmtransfer.kit.errors import StudyError
from rmtransfer.study.study import TrainingSet
from rmtransfer.texts.mixture import check_sizes, mix

LANGUAGES = ("en", "es", "it", "ko")
ROWS = {language: [pair(str(i), language, "c", "r") for i in range(50)] for language in LANGUAGES}
SHARES = st.dictionaries(st.sampled_from(LANGUAGES), st.sampled_from([0.1, 0.25, 0.9, 1, 2, 3, 7.5]), min_size=1)


def cells(rows):
    """What a set holds, as pairs of id and language."""
    return [(row["id"], row["prompt"][0]["content"]) for row in rows]


def languages_of(rows):
    return Counter(language for _, language in cells(rows))


def cut(pairs):
    return {language: rows[:pairs] for language, rows in ROWS.items()}


def test_one_language_alone_is_itself():
    assert mix({"es": ROWS["es"]}, {"es": 1}) == ROWS["es"]


def test_a_part_of_a_language_is_the_same_pairs_in_every_language_and_holds_the_smaller_parts():
    parts = {(k, n): [row["id"] for row in mix(ROWS, {k: 1}, n)] for k in ("en", "ko") for n in (12, 24)}
    assert parts["en", 12] == parts["ko", 12] != [str(i) for i in range(12)]  # by hash, not by place
    assert parts["en", 24] == parts["ko", 24] == sorted(parts["en", 24], key=int)
    assert len({*parts["en", 12]}) == 12
    assert {*parts["en", 12]} < {*parts["en", 24]}


def test_quotas_follow_the_shares_and_ids_stay():
    mixed = mix(ROWS, {"en": 8, "es": 1, "ko": 1})
    assert [row["id"] for row in mixed] == [str(i) for i in range(50)]
    assert languages_of(mixed) == {"en": 40, "es": 5, "ko": 5}
    # 50 / 3 is 16 each, and two more.
    assert sorted(languages_of(mix(ROWS, {"en": 1, "es": 1, "ko": 1})).values()) == [16, 17, 17]


def test_a_share_counts_as_it_is_written():
    """A quarter of 44 is 11; 0.2 / (0.2 + 0.45 + 0.05 + 0.1) is a little more than a quarter in binary."""
    mixed = languages_of(mix(ROWS, {"en": 0.2, "es": 0.45, "it": 0.05, "ko": 0.1}, 44))
    assert mixed == {"en": 11, "es": 25, "it": 3, "ko": 5}  # 24.75, 2.75 and 5.5


def test_turns_are_those_of_the_quota_method():
    """5 to 2, by hand: 5/1 against 2/1, 5/2 against 2/1, 5/3 against 2/1: ko; 5/3, 5/4 and 5/5 against 2/2; en has its 5: ko."""
    sizes = [languages_of(mix(ROWS, {"en": 5, "ko": 2}, size))["ko"] for size in range(1, 8)]
    assert sizes == [0, 0, 1, 1, 1, 1, 2]


def test_above_the_number_of_pairs_all_stand_in_one_language_before_any_stands_in_two():
    mixed = mix(cut(4), {"en": 1, "es": 1}, 6)
    assert languages_of(mixed) == {"en": 3, "es": 3}
    assert sorted(Counter(identity for identity, _ in cells(mixed)).values()) == [1, 1, 2, 2]
    whole = mix(cut(4), {"en": 1, "es": 1}, 8)
    assert cells(whole) == [(str(i), language) for i in range(4) for language in ("en", "es")]


@settings(max_examples=150, deadline=None)
@given(SHARES, st.integers(1, 20), st.data())
def test_any_set_has_its_size_its_shares_and_no_pair_twice_in_a_language(shares, count, data):
    total = sum(Fraction(str(share)) for share in shares.values())
    largest = max(Fraction(str(share)) for share in shares.values())
    size = data.draw(st.integers(1, math.floor(count * total / largest)), "size")
    held = cells(mix(cut(count), shares, size))
    assert len(held) == len(set(held)) == size
    counts = Counter(language for _, language in held)
    for language, share in shares.items():
        quota = size * Fraction(str(share)) / total
        assert math.floor(quota) <= counts[language] <= math.ceil(quota)
    times = Counter(identity for identity, _ in held)
    assert len(times) == min(size, count)
    smaller = cells(mix(cut(count), shares, data.draw(st.integers(1, size), "smaller")))
    assert set(smaller) <= set(held)


@settings(max_examples=50, deadline=None)
@given(SHARES, st.permutations(range(12)), st.integers(1, 12))
def test_the_order_of_rows_decides_nothing_but_the_order(shares, order, size):
    turned = {language: [rows[i] for i in order] for language, rows in cut(12).items()}
    assert sorted(cells(mix(turned, shares, size))) == sorted(cells(mix(cut(12), shares, size)))


def test_nothing_of_nothing():
    """No pairs held out, say."""
    assert mix(cut(0), {"en": 1, "es": 1}) == []


def test_sizes_that_cannot_be_are_named_all_at_once():
    sets = {
        "en": TrainingSet({"en": 1}),
        "en.24": TrainingSet({"en": 1}, 24),
        "en.48": TrainingSet({"en": 1}, 48),
        "es.48": TrainingSet({"es": 1}, 48),
        "little": TrainingSet({"en": 1, "ko": 0.001}),
        "twice": TrainingSet({"en": 3, "ko": 1}, 65),
        "fits": TrainingSet({"en": 3, "ko": 1}, 64),
        "both": TrainingSet({"en": 1, "ko": 1}, 96),
    }
    with pytest.raises(StudyError) as error:
        check_sizes(sets, 48)
    lines = str(error.value).splitlines()
    assert [line.partition(":")[0] for line in lines] == ["training.pairs", "mixtures.little", "mixtures.twice.pairs"]
    assert "48 is no part of the 48 pairs" in lines[0]
    assert "of 48 pairs none is left for ko; raise the share" in lines[1]
    assert "of 65 pairs 49 would be in en, and there are 48" in lines[2]
    check_sizes({name: sets[name] for name in ("en", "en.24", "fits", "both")}, 48)


@settings(max_examples=100, deadline=None)
@given(SHARES.filter(lambda shares: len(shares) > 1), st.integers(1, 12), st.integers(1, 50))
def test_what_passes_the_check_can_be_made(shares, count, size):
    try:
        check_sizes({"m": TrainingSet(shares, size)}, count)
    except StudyError as error:
        if "none is left" not in str(error):  # or else too few: a set without a language could be made
            with pytest.raises(IndexError):
                mix(cut(count), shares, size)
    else:
        assert len(mix(cut(count), shares, size)) == size

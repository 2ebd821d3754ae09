"""Held-out pairs are a property of their ids."""

from collections import Counter

import pytest

from conftest import pair
from rmtransfer.kit.errors import StudyError
from rmtransfer.texts.mixture import mix
from rmtransfer.texts.split import held_out

IDS = [f"pair{i}" for i in range(96)]


@pytest.mark.parametrize(("share", "count"), [(0, 0), (0.125, 12), (0.1, 10), (0.5, 48)])
def test_the_count_is_exact(share, count):
    assert len(held_out(IDS, share)) == count


def test_neither_order_nor_share_changes_which_come_first():
    assert held_out(IDS[::-1], 0.125) == held_out(IDS, 0.125)
    assert held_out(IDS, 0.125) < held_out(IDS, 0.25)


def test_those_of_a_mixture_are_in_all_of_its_languages():
    rows = {language: [pair(name, language, "c", "r") for name in IDS] for language in ("en", "ko")}
    kept_out = held_out(IDS, 0.25)
    mixed = mix(rows, {"en": 1, "ko": 1})
    languages = Counter(row["prompt"][0]["content"] for row in mixed if row["id"] in kept_out)
    assert min(languages["en"], languages["ko"]) >= 6  # 12 each on average, sd 2.1


@pytest.mark.parametrize(("share", "of"), [(0.1, 4), (0.9, 4)])
def test_a_share_that_leaves_nothing(share, of):
    with pytest.raises(StudyError, match=rf"training.held_out: {share} of 4 pairs holds out [04]"):
        held_out(IDS[:of], share)

"""A mixture is as large as a single language, and every pair is in it once."""

from collections import Counter

import pytest

from conftest import pair
from rmtransfer.kit.errors import StudyError
from rmtransfer.texts.mixture import mix

ROWS = {language: [pair(str(i), language, "c", "r") for i in range(50)] for language in ("en", "es", "ko")}


def languages_of(rows):
    return [row["prompt"][0]["content"] for row in rows]


def test_one_language_alone_is_itself():
    assert mix({"es": ROWS["es"]}, {"es": 1}) == ROWS["es"]


def test_quotas_follow_the_shares_and_ids_stay():
    mixed = mix(ROWS, {"en": 8, "es": 1, "ko": 1})
    assert [row["id"] for row in mixed] == [str(i) for i in range(50)]
    assert Counter(languages_of(mixed)) == {"en": 40, "es": 5, "ko": 5}
    # 50 / 3 is 16 each, and two more by the largest remainder.
    assert sorted(Counter(languages_of(mix(ROWS, {"en": 1, "es": 1, "ko": 1}))).values()) == [16, 17, 17]


def test_the_order_of_rows_does_not_decide_which_language_a_pair_gets():
    first = {row["id"]: row for row in mix(ROWS, {"en": 1, "es": 1})}
    turned = mix({language: these[::-1] for language, these in ROWS.items()}, {"en": 1, "es": 1})
    assert {row["id"]: row for row in turned} == first


def test_a_share_too_small_for_one_pair_is_an_error():
    with pytest.raises(StudyError, match="none is left for ko"):
        mix({"en": ROWS["en"], "ko": ROWS["ko"]}, {"en": 1, "ko": 0.001})

"""A row counts only if it is valid in every language."""

import pytest

from conftest import pair
from rmtransfer.errors import StudyError
from rmtransfer.selection import digests_of, select_rows


def test_a_row_lost_in_one_language_is_lost_in_all():
    english = [pair(i, "p", "yes", "no") for i in "abcd"]
    spanish = [pair("a", "p", "si", "no"), pair("b", "p", "igual", "igual "), pair("d", "p", "x" * 30, "no")]
    kept, dropped = select_rows(
        {"en": english, "es": spanish}, lambda row: len(row["chosen"][0]["content"]), max_length=20
    )
    assert kept == ["a"]
    assert [(d["id"], d["language"], d["reason"]) for d in dropped] == [
        ("b", "es", "chosen and rejected are identical after translation"),
        ("c", "es", "not in this language: missing in its file, or dropped by translation (its ledger says why)"),
        ("d", "es", "30 tokens, more than training.max_length = 20"),
    ]


def test_length_does_not_matter_without_a_limit():
    rows = {"en": [pair("a", "p", "x" * 10_000, "no")]}
    assert select_rows(rows) == (["a"], [])


def test_nothing_left_is_an_error():
    with pytest.raises(StudyError, match="no row is valid in every language"):
        select_rows({"en": [pair("a", "p", "y", "n")], "es": [pair("b", "p", "y", "n")]})


def test_a_digest_follows_the_content_of_the_kept_rows_alone():
    rows = {"en": [pair("a", "p", "c", "r"), pair("b", "p", "c", "r")], "es": [pair("a", "q", "c", "r")]}
    before = digests_of(rows, ["a"])
    assert before["en"] != before["es"]
    rows["en"][1]["prompt"] = [{"role": "user", "content": "other"}]
    assert digests_of(rows, ["a"]) == before
    rows["es"][0]["prompt"] = [{"role": "user", "content": "p"}]
    assert digests_of(rows, ["a"]) == {"en": before["en"], "es": before["en"]}

"""A row counts only if it is valid in every language."""

import pytest

from conftest import pair
from rmtransfer.kit.errors import StudyError
from rmtransfer.kit.manifest import digest_of
from rmtransfer.study.sections import item_of
from rmtransfer.texts.corpus import save_rows
from rmtransfer.texts.selection import Reading, digests_of, select_parts, select_rows


def test_a_row_lost_in_one_language_is_lost_in_all():
    english = [pair(i, "p", "yes", "no") for i in "abcd"]
    spanish = [pair("a", "p", "si", "no"), pair("b", "p", "igual", "igual "), pair("d", "p", "x" * 30, "no")]
    kept, dropped = select_rows(
        {"en": english, "es": spanish}, lambda row: Reading(len(row["chosen"][0]["content"])), max_length=20
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


def test_a_row_that_a_base_refuses_or_cannot_tell_apart_is_lost_in_all():
    """Answers that are one input teach nothing; a benchmark counts them as the ties that they are."""
    rows = {"en": [pair(i, "p", "yes", "no") for i in "abc"], "es": [pair(i, "p", "si", "no") for i in "abc"]}
    readings = {("a", "si"): Reading(0, refused="no system role"), ("b", "yes"): Reading(3, alike="the same 3 tokens")}

    def read(row):
        return readings.get((row["id"], row["chosen"][0]["content"]), Reading(3))

    kept, dropped = select_rows(rows, read, max_length=20)
    assert kept == ["c"]
    assert [(d["id"], d["language"], d["reason"]) for d in dropped] == [
        ("a", "es", "no system role"),
        ("b", "en", "the same 3 tokens"),
    ]
    assert select_rows(rows, read)[0] == ["b", "c"]  # a benchmark


def test_a_digest_is_of_the_rows_in_the_order_of_the_ids_wherever_they_stand_in_a_file():
    rows = [pair(i, "p", f"c{i}", "r") for i in "abcd"]
    wanted = digest_of([rows[2], rows[0], rows[3]])
    assert digests_of({"en": rows, "es": rows[::-1]}, ["c", "a", "d"]) == {"en": wanted, "es": wanted}


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


def test_an_item_of_several_rows_goes_as_a_whole():
    """One wrong answer lost in translation would turn a best of 4 into a best of 3."""
    rows = [pair(i, "p", "good", f"bad {i}") for i in ("7/0/0", "7/0/1", "ref:1/0/0", "tied:1/0/0", "8/0/0")]
    lossy = [row for row in rows if row["id"] not in ("7/0/1", "tied:1/0/0")]
    kept, dropped = select_rows({"en": rows, "es": lossy}, item_of=item_of)
    assert kept == ["8/0/0"]
    assert {d["id"] for d in dropped if "another row" in d["reason"]} == {"7/0/0", "ref:1/0/0"}


def test_a_table_says_what_each_benchmark_is_made_of(tmp_path):
    """Three rows of two clusters, of which one row is lost in Spanish; an item of two rows; a native one without clusters."""
    sets = {
        "sample": {
            "en": [{**pair(i, i, "x", "y"), "cluster": k} for i, k in (("a", "k"), ("b", "k"), ("c", "c"))],
            "es": [{**pair(i, i, "x", "y"), "cluster": k} for i, k in (("a", "k"), ("b", "k"))],
        },
        "best": {"en": [pair(f"7/0/{j}", "p", "x", "y") for j in range(3)]},
        "written": {"es": [pair(i, i, "x", "y") for i in "ab"]},
    }
    rows = {}
    for part, by_language in sets.items():
        for language, these in by_language.items():
            rows.setdefault(part, {})[language] = path = tmp_path / f"{part}.{language}.parquet"
            save_rows(these, path)
    select_parts(
        rows,
        {part: tmp_path / f"{part}.ids" for part in sets},
        {part: tmp_path / f"{part}.dropped" for part in sets},
        tmp_path / "digests",
        tmp_path / "benchmarks.csv",
        read=lambda row: Reading(1),
        max_length={},
        several_rows=["best"],
        origins={
            "sample": {"en": ["original", ""], "es": ["translated", "deepl"]},
            "best": {"en": ["original", ""]},
            "written": {"es": ["native", ""]},
        },
    )
    assert (tmp_path / "benchmarks.csv").read_text().splitlines() == [
        "benchmark,language,origin,translator,rows,clusters",
        "sample,en,original,,2,1",
        "sample,es,translated,deepl,2,1",
        "best,en,original,,3,1",
        "written,es,native,,2,2",
    ]

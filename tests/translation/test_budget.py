"""What is to be paid is what can be counted by hand, and nothing starts that the budget cannot pay."""

import csv

import pytest

from conftest import pair
from fake_deepl import FakeDeepL
from rmtransfer.kit.errors import StudyError
from rmtransfer.texts.corpus import save_rows
from rmtransfer.translation.budget import (
    COLUMNS,
    check_budget,
    plan_translation,
    quota_sentence,
    refuse_beyond,
)
from rmtransfer.translation.engines import build_engine
from rmtransfer.translation.pipeline import adopt
from rmtransfer.translation.store import SegmentStore, Translation
from scripted_engine import MACHINE

DEEPL = {"engine": "deepl", "options": {}}
# prompt and both answers; "One." twice, and code that nobody is asked for
ROWS = [pair("a", "One.", "Two two.", "```\ncode\n```"), pair("b", "One.", "1. First\n2. Second", "42")]


@pytest.fixture
def rows(tmp_path):
    save_rows(ROWS, tmp_path / "rows.parquet")
    return {"preferences": tmp_path / "rows.parquet"}


def way(target, rows, source="en", spec=DEEPL, name=None):
    """From a language into another."""
    return {
        "language": name or target,
        "spec": spec,
        "source": source,
        "target": target,
        "rows": {part: str(path) for part, path in rows.items()},
    }


def deepl(source, target):
    return build_engine(DEEPL, source, target, MACHINE)


def test_what_is_left_to_pay(tmp_path, rows):
    store = tmp_path / "store.sqlite"
    ways = [way("es", rows), way("it", rows)]
    entries = plan_translation(ways, rows, store, tmp_path)
    expected = {"engine": "deepl", "texts": 6, "unique": 5, "stored": 0, "segments": 4}
    characters = len("One.") + len("Two two.") + len("First") + len("Second")
    assert entries == [{"language": code, **expected, "characters": characters} for code in ("es", "it")]
    adopt({"Two two.": Translation("Dos dos.")}, deepl("en", "es"), SegmentStore(store))
    after = plan_translation(ways, rows, store, tmp_path)
    assert (after[0]["stored"], after[0]["segments"], after[0]["characters"]) == (1, 3, characters - len("Two two."))
    assert after[1] == entries[1]


def test_the_way_back_is_paid_for_too(tmp_path, rows):
    """Exactly where the texts are translated, else as if every language were as long as the source."""
    store = tmp_path / "store.sqlite"
    save_rows([pair("a", "Uno.", "Dos.", "Tres tres.")], tmp_path / "es.parquet")
    known = {"sample": rows["preferences"], "instructions": tmp_path / "elsewhere.parquet"}
    spanish = way("en", {"sample": tmp_path / "es.parquet"}, source="es", name="es > en")
    italian = way("en", {"sample": tmp_path / "not_yet.parquet"}, source="it", name="it > en")
    there, coming = plan_translation([spanish, italian], known, store, tmp_path)
    assert there == {
        "language": "es > en",
        "engine": "deepl",
        "texts": 3,
        "unique": 3,
        "stored": 0,
        "segments": 3,
        "characters": len("Uno.Dos.Tres tres."),
    }
    (outward,) = plan_translation([way("it", {"sample": known["sample"]})], known, store, tmp_path)
    assert coming == {**outward, "language": "it > en"}
    with pytest.raises(StudyError, match=f"es > en {there['characters']}, it > en {coming['characters']}"):
        refuse_beyond(there["characters"], [there, coming], store)
    adopt({"Uno.": Translation("One.")}, deepl("es", "en"), SegmentStore(store))
    expected = {"sample": {"rows": 10, "characters": 7}, "instructions": {"rows": 1, "characters": 1}}
    there, downloaded = plan_translation([spanish, italian], {}, store, tmp_path, expected)
    assert (there["stored"], there["texts"]) == (1, 3)
    assert (downloaded["texts"], downloaded["characters"]) == (30, 70)


def test_the_budget_counts_what_was_billed_and_what_is_to_come(tmp_path, rows):
    store = tmp_path / "store.sqlite"
    entries = plan_translation([way("es", rows)], rows, store, tmp_path)
    coming = entries[0]["characters"]
    refuse_beyond(coming, entries, store)
    SegmentStore(store).put(deepl("en", "ko").scope, {"old": Translation("x", billed=10)})
    with pytest.raises(StudyError, match=rf"billed 10 .* {coming} are to come \(es {coming}\)"):
        refuse_beyond(coming + 9, entries, store)
    refuse_beyond(coming + 10, entries, store)


def test_only_paid_engines_are_counted_and_nothing_is_written_that_cannot_be_paid(tmp_path, rows):
    store, output = tmp_path / "store.sqlite", tmp_path / "budget.csv"
    model = {"engine": "seq2seq", "options": {"model": "a/b", "revision": "a" * 40}}
    there = way("es", rows)
    back = way("en", {"preferences": tmp_path / "not_yet.parquet"}, source="es", name="en-x-es")
    ways = [there, way("it", rows, spec=model), back]
    (entry,) = plan_translation([there], rows, store, tmp_path)
    needed = 2 * entry["characters"]
    with pytest.raises(StudyError, match=r"es 2\d, en-x-es 2\d"):
        check_budget(ways, rows, store, needed - 1, tmp_path, output)
    assert not output.exists()
    check_budget(ways, rows, store, needed, tmp_path, output)
    with output.open(newline="") as file:
        lines = list(csv.DictReader(file))
    assert list(lines[0]) == list(COLUMNS)
    assert [(line["language"], line["characters"]) for line in lines] == [
        ("es", str(entry["characters"])),
        ("en-x-es", str(entry["characters"])),
    ]
    check_budget([there], rows, store, entry["characters"], tmp_path, output)


def test_a_base_model_that_is_not_prepared_has_translated_nothing(tmp_path, rows):
    spec = {"engine": "llm", "options": {"model": "results/s/base_models/m"}}
    (entry,) = plan_translation([way("es", rows, spec=spec)], rows, tmp_path / "store.sqlite", tmp_path)
    assert (entry["unique"], entry["stored"], entry["segments"]) == (5, 0, 4)


def test_the_quota_is_asked_for_only_where_there_is_a_key(tmp_path, monkeypatch):
    monkeypatch.delenv("DEEPL_AUTH_KEY", raising=False)
    memory = way("es", {}, spec={"engine": "memory", "options": "x"})
    assert quota_sentence([memory], tmp_path) == ""
    assert quota_sentence([memory, way("en", {}, source="es")], tmp_path) == "quota: unknown, DEEPL_AUTH_KEY is not set"
    with FakeDeepL("key:fx") as server:
        server.character_count, server.character_limit = 100, 1500
        monkeypatch.setenv("DEEPL_AUTH_KEY", "key:fx")
        paid = way("es", {}, spec={"engine": "deepl", "options": {"server_url": server.url}})
        assert quota_sentence([paid], tmp_path) == "quota: 1,400 of 1,500 characters left"
        server.character_limit = None
        assert quota_sentence([paid], tmp_path) == "quota: unlimited"

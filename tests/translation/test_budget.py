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
    plan_back,
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


def deepl(source, target):
    return build_engine(DEEPL, source, target, MACHINE)


def test_what_is_left_to_pay(tmp_path, rows):
    store = tmp_path / "store.sqlite"
    specs = {"es": DEEPL, "it": DEEPL}
    entries = plan_translation(specs, "en", rows, store, tmp_path)
    expected = {"engine": "deepl", "texts": 6, "unique": 5, "stored": 0, "segments": 4}
    characters = len("One.") + len("Two two.") + len("First") + len("Second")
    assert entries == [{"language": code, **expected, "characters": characters} for code in ("es", "it")]
    adopt({"Two two.": Translation("Dos dos.")}, deepl("en", "es"), SegmentStore(store))
    after = plan_translation(specs, "en", rows, store, tmp_path)
    assert (after[0]["stored"], after[0]["segments"], after[0]["characters"]) == (1, 3, characters - len("Two two."))
    assert after[1] == entries[1]


def test_the_way_back_is_paid_for_too(tmp_path, rows):
    """Exactly where the benchmark is translated, else as if every language were as long as the source."""
    store = tmp_path / "store.sqlite"
    save_rows([pair("a", "Uno.", "Dos.", "Tres tres.")], tmp_path / "es.parquet")
    known = {"sample": rows["preferences"], "instructions": tmp_path / "elsewhere.parquet"}
    files = {"es": str(tmp_path / "es.parquet"), "it": str(tmp_path / "not_yet.parquet")}
    back = {"spec": DEEPL, "part": "sample", "rows": files}
    spanish, italian = plan_back(back, "en", known, store, tmp_path)
    assert spanish == {
        "language": "es > en",
        "engine": "deepl",
        "texts": 3,
        "unique": 3,
        "stored": 0,
        "segments": 3,
        "characters": len("Uno.Dos.Tres tres."),
    }
    assert italian == {
        **plan_translation({"it": DEEPL}, "en", {"sample": known["sample"]}, store, tmp_path)[0],
        "language": "it > en",
    }
    with pytest.raises(StudyError, match=f"es > en {spanish['characters']}, it > en {italian['characters']}"):
        refuse_beyond(spanish["characters"], [spanish, italian], store)
    adopt({"Uno.": Translation("One.")}, deepl("es", "en"), SegmentStore(store))
    assert plan_back(back, "en", known, store, tmp_path)[0]["stored"] == 1
    back["rows"] = {"it": files["it"]}
    expected = {"sample": {"rows": 10, "characters": 7}, "instructions": {"rows": 1, "characters": 1}}
    (downloaded,) = plan_back(back, "en", {}, store, tmp_path, expected)
    assert (downloaded["texts"], downloaded["characters"]) == (30, 70)


def test_the_budget_counts_what_was_billed_and_what_is_to_come(tmp_path, rows):
    store = tmp_path / "store.sqlite"
    entries = plan_translation({"es": DEEPL}, "en", rows, store, tmp_path)
    coming = entries[0]["characters"]
    refuse_beyond(coming, entries, store)
    SegmentStore(store).put(deepl("en", "ko").scope, {"old": Translation("x", billed=10)})
    with pytest.raises(StudyError, match=rf"billed 10 .* {coming} are to come \(es {coming}\)"):
        refuse_beyond(coming + 9, entries, store)
    refuse_beyond(coming + 10, entries, store)


def test_only_paid_engines_are_counted_and_nothing_is_written_that_cannot_be_paid(tmp_path, rows):
    store, output = tmp_path / "store.sqlite", tmp_path / "budget.csv"
    (entry,) = plan_translation({"es": DEEPL}, "en", rows, store, tmp_path)
    back = {"spec": DEEPL, "part": "preferences", "rows": {"es": str(tmp_path / "not_yet.parquet")}}
    specs = {"es": DEEPL, "it": {"engine": "seq2seq", "options": {"model": "a/b", "revision": "a" * 40}}}
    needed = 2 * entry["characters"]
    with pytest.raises(StudyError, match=r"es 2\d, es > en 2\d"):
        check_budget(specs, back, "en", rows, rows, store, needed - 1, tmp_path, output)
    assert not output.exists()
    check_budget(specs, back, "en", rows, rows, store, needed, tmp_path, output)
    with output.open(newline="") as file:
        lines = list(csv.DictReader(file))
    assert list(lines[0]) == list(COLUMNS)
    assert [(line["language"], line["characters"]) for line in lines] == [
        ("es", str(entry["characters"])),
        ("es > en", str(entry["characters"])),
    ]
    check_budget(specs, None, "en", rows, rows, store, entry["characters"], tmp_path, output)
    # A benchmark that is given in every language is only translated back.
    check_budget(specs, back, "en", rows, [], store, entry["characters"], tmp_path, output)
    with pytest.raises(StudyError, match=r"\(es 0, es > en 2\d\)"):
        check_budget(specs, back, "en", rows, [], store, entry["characters"] - 1, tmp_path, output)


def test_a_base_model_that_is_not_prepared_has_translated_nothing(tmp_path, rows):
    spec = {"engine": "llm", "options": {"model": "results/s/base_models/m"}}
    (entry,) = plan_translation({"es": spec}, "en", rows, tmp_path / "store.sqlite", tmp_path)
    assert (entry["unique"], entry["stored"], entry["segments"]) == (5, 0, 4)


def test_the_quota_is_asked_for_only_where_there_is_a_key(tmp_path, monkeypatch):
    monkeypatch.delenv("DEEPL_AUTH_KEY", raising=False)
    memory = ({"engine": "memory", "options": "x"}, "en", "es")
    assert quota_sentence([memory], tmp_path) == ""
    assert quota_sentence([memory, (DEEPL, "es", "en")], tmp_path) == "quota: unknown, DEEPL_AUTH_KEY is not set"
    with FakeDeepL("key:fx") as server:
        server.character_count, server.character_limit = 100, 1500
        monkeypatch.setenv("DEEPL_AUTH_KEY", "key:fx")
        spec = {"engine": "deepl", "options": {"server_url": server.url}}
        assert quota_sentence([(spec, "en", "es")], tmp_path) == "quota: 1,400 of 1,500 characters left"
        server.character_limit = None
        assert quota_sentence([(spec, "en", "es")], tmp_path) == "quota: unlimited"

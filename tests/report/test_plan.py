"""The plan's numbers are those that can be counted by hand."""

import pytest
from transformers import AutoModelForCausalLM

from conftest import ROOT, pair
from rmtransfer.kit.errors import StudyError
from rmtransfer.report.plan import check_budget, plan_back, plan_translation, quota_sentence, render_plan
from rmtransfer.study.config import load_config
from rmtransfer.texts.corpus import save_rows
from rmtransfer.translation.deepl import DeepL
from rmtransfer.translation.pipeline import adopt
from rmtransfer.translation.store import SegmentStore, Translation

DEEPL = {"engine": "deepl", "options": {}}
# prompt and both answers; "One." twice, and code that nobody is asked for
ROWS = [pair("a", "One.", "Two two.", "```\ncode\n```"), pair("b", "One.", "1. First\n2. Second", "42")]


@pytest.fixture
def rows(tmp_path):
    save_rows(ROWS, tmp_path / "rows.parquet")
    return {"preferences": tmp_path / "rows.parquet"}


def test_what_is_left_to_pay(tmp_path, rows):
    store = tmp_path / "store.sqlite"
    specs = {"es": DEEPL, "it": DEEPL}
    entries = plan_translation(specs, "en", rows, store, tmp_path)
    expected = {"engine": "deepl", "texts": 6, "unique": 5, "stored": 0, "segments": 4}
    characters = len("One.") + len("Two two.") + len("First") + len("Second")
    assert entries == [{"language": code, **expected, "characters": characters} for code in ("es", "it")]
    adopt({"Two two.": Translation("Dos dos.")}, DeepL({}, "en", "es"), SegmentStore(store))
    after = plan_translation(specs, "en", rows, store, tmp_path)
    assert (after[0]["stored"], after[0]["segments"], after[0]["characters"]) == (1, 3, characters - len("Two two."))
    assert after[1] == entries[1]


def test_the_way_back_is_paid_for_too(tmp_path, rows):
    """Exactly where the benchmark is translated, else as if every language were as long as the source."""
    store = tmp_path / "store.sqlite"
    save_rows([pair("a", "Uno.", "Dos.", "Tres tres.")], tmp_path / "es.parquet")
    source = {"benchmark": rows["preferences"]}
    benchmarks = {"es": tmp_path / "es.parquet", "it": tmp_path / "not_yet.parquet"}
    spanish, italian = plan_back(DEEPL, "en", benchmarks, source, store, tmp_path)
    assert spanish == {
        "language": "es > en",
        "engine": "deepl",
        "texts": 3,
        "unique": 3,
        "stored": 0,
        "segments": 3,
        "characters": len("Uno.Dos.Tres tres."),
    }
    assert italian == {**plan_translation({"it": DEEPL}, "en", source, store, tmp_path)[0], "language": "it > en"}
    with pytest.raises(StudyError, match=f"es > en {spanish['characters']}, it > en {italian['characters']}"):
        check_budget([spanish, italian], store, spanish["characters"])
    adopt({"Uno.": Translation("One.")}, DeepL({}, "es", "en"), SegmentStore(store))
    assert plan_back(DEEPL, "en", benchmarks, source, store, tmp_path)[0]["stored"] == 1
    (downloaded,) = plan_back(
        DEEPL, "en", {"it": benchmarks["it"]}, {}, store, tmp_path, {"benchmark": {"rows": 10, "characters": 7}}
    )
    assert (downloaded["texts"], downloaded["characters"]) == (30, 70)


def test_the_budget_counts_what_was_billed_and_what_is_to_come(tmp_path, rows):
    store = tmp_path / "store.sqlite"
    entries = plan_translation({"es": DEEPL}, "en", rows, store, tmp_path)
    coming = entries[0]["characters"]
    check_budget(entries, store, coming)
    SegmentStore(store).put(DeepL({}, "en", "ko").scope, {"old": Translation("x", billed=10)})
    with pytest.raises(StudyError, match=rf"billed 10 .* {coming} are to come \(es {coming}\)"):
        check_budget(entries, store, coming + 9)
    check_budget(entries, store, coming + 10)


@pytest.fixture
def study(tmp_path, bases):
    config = {
        "study": "s",
        "languages": {"source": "en", "targets": ["es"]},
        "base_models": {"m": {"path": str(bases["llama"])}},
        **{
            role: {"path": "resources/sample/instructions.jsonl"}
            for role in ("preferences", "benchmark", "instructions")
        },
        "translation": {"engine": "deepl", "price_per_million": 25, "budget_characters": 10},
    }
    return load_config(config, ROOT)


def test_the_plan_of_the_models_follows_from_their_size(tmp_path, rows, study, bases):
    parameters = AutoModelForCausalLM.from_pretrained(bases["llama"]).num_parameters()
    rows = dict.fromkeys(("preferences", "benchmark", "instructions"), rows["preferences"])
    entries = plan_translation(
        {"es": DEEPL}, "en", {"preferences": rows["preferences"]}, tmp_path / "s.sqlite", tmp_path
    )
    text = render_plan(study, entries, rows, ["en", "es"], tmp_path / "nowhere", ROOT, "quota: unknown")
    assert f"{parameters / 1e9:.2f}B parameters" in text
    assert "m: 2 reward models" in text
    assert "budget: 10 characters - DOES NOT SUFFICE" in text
    characters = entries[0]["characters"]
    assert f"to pay: {characters} characters, about {characters * 25 / 1e6:.2f} at 25 a million" in text
    assert "quota: unknown" in text
    # three copies of the weights in fp32 (the base and two reward models): the gigabytes, to a tenth
    assert f"{4 * parameters * 3 / 1e9:.1f} GB on disk" in text


def test_a_model_that_is_not_here_yet_leaves_its_numbers_open(tmp_path, rows, study):
    study["base_models"] = {"m": {"path": "package:not_here"}}
    rows = dict.fromkeys(("preferences", "benchmark", "instructions"), rows["preferences"])
    text = render_plan(study, [], rows, ["en", "es"], tmp_path, tmp_path, "")
    assert "size unknown until package:not_here is downloaded" in text
    assert "at least 0.00 GPU hours" in text


def test_the_quota_is_asked_for_only_where_there_is_a_key(monkeypatch):
    monkeypatch.delenv("DEEPL_AUTH_KEY", raising=False)
    memory = ({"engine": "memory", "options": "x"}, "en", "es")
    assert quota_sentence([memory]) == ""
    assert quota_sentence([memory, (DEEPL, "es", "en")]) == "quota: unknown, DEEPL_AUTH_KEY is not set"


def test_what_is_not_downloaded_is_assumed_and_said(tmp_path, study, rows):
    config = study
    config["preferences"] = {
        "hub": "org/pairs",
        "revision": "a",
        "expected": {"rows": 1000, "characters": 400},
    }
    (entry,) = plan_translation(
        {"es": DEEPL}, "en", {}, tmp_path / "s.sqlite", tmp_path, {"preferences": config["preferences"]["expected"]}
    )
    assert (entry["texts"], entry["characters"]) == (3000, 400_000)
    known = {"benchmark": rows["preferences"], "instructions": rows["preferences"]}
    text = render_plan(config, [entry], known, ["en", "es"], tmp_path, ROOT, "")
    assert "preferences: not downloaded yet, 1,000 rows of 400 characters assumed" in text
    assert "about 10.00 at 25 a million" in text
    assert "a language's tokens: 100,000 to train on" in text  # 1,000 rows of 400 characters, 4 to a token


def test_a_name_says_how_large_a_model_is_that_is_not_here(tmp_path, study, rows, monkeypatch):
    config = study
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    config["reward_models"] = {"shelf": {"kind": "classifier", "path": "org/Some-RM-8B-v0.1", "revision": "a"}}
    everything = dict.fromkeys(("preferences", "benchmark", "instructions"), rows["preferences"])
    text = render_plan(config, [], everything, ["en", "es"], tmp_path, ROOT, "")
    assert "shelf: classifier\n    8.00B parameters" in text

"""Nothing is asked for twice, what the gates refuse is tried once more, and no budget is overrun."""

import contextlib
import itertools
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from conftest import ROOT
from rmtransfer.kit.errors import StudyError
from rmtransfer.translation.llm import CausalLM
from rmtransfer.translation.pipeline import adopt, stored, translate_texts, unasked
from rmtransfer.translation.seq2seq import Seq2Seq
from rmtransfer.translation.store import SegmentStore, Translation
from rmtransfer.translation.structure import split_text
from scripted_engine import MACHINE, Scripted

LONG = "The house on the hill is old and quiet, and nobody has lived there for years."
SPANISH = "La casa de la colina es vieja y tranquila, y hace años que nadie vive en ella."


@pytest.fixture
def store(tmp_path):
    return SegmentStore(tmp_path / "store.sqlite")


def test_only_prose_is_asked_for_and_each_stretch_once(store):
    engine = Scripted()
    text = "# Title\n\n- one\n- one\n```\ncode\n```\n"
    results = translate_texts([text, "one", text, "42"], engine, store)
    assert engine.asked == ["Title", "one"]
    assert results[text].text == "# TITLE\n\n- ONE\n- ONE\n```\ncode\n```\n"
    assert (results["one"].text, results["42"].text) == ("ONE", "42")
    assert results[text].billed + results["one"].billed == len("Title") + len("one")  # each stretch is paid once


def test_a_rerun_asks_for_nothing_and_a_new_text_for_itself(store):
    first = translate_texts(["one", "two"], Scripted(), store)
    engine = Scripted()
    assert translate_texts(["one", "two"], engine, store) == first
    assert engine.asked == []
    assert unasked(["one", "three", "two"], engine, store) == ["three"]
    translate_texts(["one", "three"], engine, store)
    assert engine.asked == ["three"]
    assert set(stored(["one", "two", "three", "four"], engine, store)) == {"one", "two", "three"}


def test_what_a_killed_run_had_paid_is_counted_once_for_the_text_that_it_was_paid_for(tmp_path):
    """The receipt is the same as without the kill."""

    def translated(path, batches):
        store = SegmentStore(path)
        for number in batches:
            engine = Scripted(batch=1)
            original = engine.translate
            engine.translate = lambda texts, original=original, number=number: itertools.islice(original(texts), number)
            with contextlib.suppress(KeyError):  # no whole text can be made of what is missing
                translate_texts(["- one\n- two\n", "two"], engine, store)
        first = translate_texts(["- one\n- two\n", "two"], Scripted(), store)
        return {
            text: result.billed
            for text, result in (first | translate_texts(["- one\n- four\n"], Scripted(), store)).items()
        }

    undisturbed = translated(tmp_path / "whole.sqlite", [])
    assert undisturbed == {"- one\n- two\n": 6, "two": 0, "- one\n- four\n": 4}
    assert translated(tmp_path / "killed.sqlite", [1, 1]) == undisturbed


def test_what_the_gates_refuse_is_asked_once_more_in_a_safer_way(store):
    engine = Scripted(answer=lambda text: "la la la la la la la la la la la la la la la la la la", again=str.upper)
    (result,) = translate_texts([LONG], engine, store).values()
    assert result.text == LONG.upper()
    assert result.flaws == ()
    assert "repetition loop" in result.retried_for
    assert result.billed == 2 * len(LONG)
    again = Scripted()
    assert translate_texts([LONG], again, store) == {LONG: result}
    assert again.asked == []


def test_what_stays_refused_keeps_its_reasons_and_is_not_asked_for_again(store):
    engine = Scripted(answer=lambda text: Translation("X", ("stopped at the length limit",)), again=lambda text: "")
    (result,) = translate_texts([LONG], engine, store).values()
    assert result.flaws == ("empty translation",)
    assert "stopped at the length limit" in result.retried_for
    again = Scripted()
    translate_texts([LONG], again, store)
    assert again.asked == []


def test_an_engine_that_fails_in_the_middle_keeps_its_finished_batches(store):
    def fail(text):
        if text == "five":
            raise StudyError("broken")
        return text.upper()

    texts = ["one", "two", "three", "four", "five", "six"]
    with pytest.raises(StudyError, match="broken"):
        translate_texts(texts, Scripted(fail), store)
    engine = Scripted()
    assert [r.text for r in translate_texts(texts, engine, store).values()] == [t.upper() for t in texts]
    assert engine.asked == ["five", "six"]


def test_the_budget_is_checked_before_and_while_asking(store):
    engine = Scripted()
    with pytest.raises(StudyError, match=r"budget_characters: 5 do not suffice.*0 .*6 are to come"):
        translate_texts(["one", "two"], engine, store, budget=5)
    assert engine.asked == []
    translate_texts(["one", "two"], engine, store, budget=6)
    with pytest.raises(StudyError, match="has billed 6"):
        translate_texts(["x"], engine, store, budget=6)
    # a service that bills more than it should is stopped after the batch that shows it
    dear = Scripted(lambda text: Translation("X", billed=100), batch=1)
    with pytest.raises(StudyError, match="has billed 106"):
        translate_texts(["seven", "eight"], dear, store, budget=50)
    assert dear.asked == ["seven"]


def test_adopted_translations_count_as_asked_for(store):
    engine = Scripted()
    adopt({"one": Translation("EINS")}, engine, store)
    assert translate_texts(["one"], engine, store)["one"].text == "EINS"
    assert engine.asked == []


FRAGMENTS = st.sampled_from(
    [
        "Hello world. ",
        "你好。再见！",
        "안녕하세요. ",
        "`a. b`",
        "**bold**",
        "https://a.org/b_c",
        "$x^2$",
        "{name}",
        "\n",
        "\n- ",
        "\n1. ",
        "```\ncode `x`\n```\n",
        "````\n```\n````\n",
        "```",
        "| a | b |",
        "<b>",
        "&amp;",
        "\x00",
        "\u2028",
        "🙂",
        "e\u0301",
        "5 %",
    ]
)
TEXTS = st.lists(FRAGMENTS | st.text(max_size=6), max_size=8).map("".join)
LITERALS = ("`a. b`", "https://a.org/b_c", "$x^2$", "{name}")
PLANTED = st.lists(st.sampled_from(("Hi", "Hello world.", "\n", *LITERALS)), min_size=1, max_size=6).map(" ".join)


@pytest.fixture(scope="module")
def engines(bases, translators):
    """Engines whose models know nothing: what survives them survives anything."""
    seq2seq = [
        Seq2Seq(Seq2Seq.Options(model=str(translators[family]), beams=1), "en", "es", MACHINE)
        for family in ("m2m100", "madlad")
    ]
    options = [CausalLM.Options(model=str(bases["qwen"]), prompt="{text} =", chat=chat) for chat in (False, True)]
    return [*seq2seq, *(CausalLM(own, "en", "es", MACHINE) for own in options)]


@pytest.mark.parametrize("which", range(4))
@settings(max_examples=5, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=TEXTS)
def test_what_is_fixed_stays_in_order_even_in_refused_texts(engines, which, text):
    (result,) = translate_texts([text], engines[which], None).values()
    if result.retried_for or which < 2:  # prose ended at spans, so even a refused text has what is fixed, in order
        end = 0
        for part in split_text(text, "en", replace(engines[which].splitting, unit="sentence", spans_inside=False)):
            if part.kind == "fixed":
                assert part.text in result.text[end:]
                end = result.text.index(part.text, end) + len(part.text)


@settings(max_examples=200, deadline=None)
@given(text=PLANTED, start=st.integers(0, 30), length=st.integers(0, 12), instead=st.sampled_from(("", "x")))
@example(text="Hi {name} {name}", start=3, length=6, instead="")
@example(text="Hi `a. b`", start=4, length=2, instead="x")
def test_what_an_engine_loses_is_flagged_or_harmless(text, start, length, instead):
    """A text without flaws has its code, links, formulas and placeholders, as often as they were planted."""
    engine = Scripted(lambda prose: prose[:start] + instead + prose[start + length :])
    (result,) = translate_texts([text], engine, None).values()
    if not result.flaws:
        assert [result.text.count(literal) for literal in LITERALS] == [text.count(literal) for literal in LITERALS]


KILLED = """
import sys, time
sys.path.insert(0, "tests")
from pathlib import Path
from scripted_engine import Scripted
from rmtransfer.translation.pipeline import translate_texts
from rmtransfer.translation.store import SegmentStore
log = open(sys.argv[2], "a", buffering=1)
def answer(text):
    print(text, file=log)
    time.sleep(0.01)
    return text.upper()
translate_texts([f"text {chr(97 + i // 26)}{chr(97 + i % 26)}" for i in range(200)], Scripted(answer), SegmentStore(Path(sys.argv[1])))
"""


def test_a_killed_run_pays_again_for_at_most_the_batch_in_flight(tmp_path):
    def run():
        return subprocess.Popen(
            [sys.executable, "-c", KILLED, str(tmp_path / "store.sqlite"), str(tmp_path / "asked")],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT / "workflow")},
        )

    asked = tmp_path / "asked"
    for enough in (30, 80, 120):
        process = run()
        while not asked.exists() or len(asked.read_text().splitlines()) < enough:
            time.sleep(0.02)
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert run().wait() == 0
    texts = asked.read_text().splitlines()
    assert len(set(texts)) == 200
    assert len(texts) <= 200 + 3 * 2  # three kills, batches of two

"""Rows keep everything but their words; a refused text drops its pair and is accounted for."""

import csv

import pyarrow.parquet as pq
import pytest
from sacrebleu.metrics import CHRF
from test_pipeline import LONG

from conftest import pair
from rmtransfer.texts.corpus import load_rows, save_rows
from rmtransfer.translation.memory import write_tmx
from rmtransfer.translation.rows import chrf_plus_plus, translate_rows
from rmtransfer.translation.store import Translation
from scripted_engine import Scripted


@pytest.fixture
def run(tmp_path):
    def translate(rows, engine, **options):
        source, store = tmp_path / "rows.parquet", tmp_path / "store.sqlite"
        save_rows(rows, source)
        paths = [tmp_path / name for name in ("out.parquet", "dropped.csv", "measures.csv")]
        translate_rows(source, "sample", "es-x-a", engine, store, *paths, **options)
        with paths[1].open() as dropped, paths[2].open() as measures:
            lines = list(csv.DictReader(measures))
            assert {(m["language"], m["part"], m["engine"]) for m in lines} == {("es-x-a", "sample", "scripted")}
            counted = {(m["measure"], m["reason"]): float(m["value"]) for m in lines}
            out = load_rows(paths[0])
            return len(out), out, list(csv.DictReader(dropped)), counted

    return translate


def test_ids_subsets_and_roles_stay(run):
    rows = [pair("a", "one", "two", "three", "chat"), pair("b", "one", "four", "five", None)]
    rows[0]["prompt"].insert(0, {"role": "system", "content": "brief"})
    kept, out, dropped, counted = run(rows, Scripted())
    assert (kept, dropped) == (2, [])
    assert out[0]["prompt"] == [{"role": "system", "content": "BRIEF"}, {"role": "user", "content": "ONE"}]
    assert [(r["id"], r["subset"], r["rejected"][0]["content"]) for r in out] == [
        ("a", "chat", "THREE"),
        ("b", None, "FIVE"),
    ]
    assert counted == {
        ("texts", ""): 7,
        ("passed", ""): 7,
        ("rows", ""): 2,
        ("rows_kept", ""): 2,
        ("characters", ""): len("briefonetwothreeonefourfive"),
        ("billed_characters", ""): len("briefonetwothreefourfive"),  # "one" once
    }


def test_clusters_stay(run):
    rows = [{**pair("a", "one", "two", "three"), "cluster": "k"}, {**pair("b", "four", "five", "six"), "cluster": "b"}]
    assert [row["cluster"] for row in run(rows, Scripted())[1]] == ["k", "b"]


def test_a_refused_text_drops_its_pair_with_field_and_reason(run):
    def answer(text):
        return Translation("x", ("stopped at the length limit",)) if text in ("two", LONG) else text.upper()

    rows = [pair("a", "one", "two", "three"), pair("b", LONG, "four", "five"), pair("c", "six", "seven", "eight")]
    engine = Scripted(answer, again=lambda text: text.upper() if text == LONG else "")
    kept, out, dropped, counted = run(rows, engine)
    assert kept == 2
    assert [r["id"] for r in out] == ["b", "c"]
    assert dropped == [
        {"id": "a", "language": "es-x-a", "engine": "scripted", "reason": "chosen: empty translation"},
    ]
    assert counted["refused", "empty translation"] == 1
    assert counted["passed_after_retry", "stopped at the length limit"] == 1
    assert counted["passed", ""] == 7
    assert (counted["rows", ""], counted["rows_kept", ""]) == (3, 2)


def test_references_are_scored_with_sacrebleu(run, tmp_path):
    rows = [pair("a", "one house", "two", "three"), pair("b", "four", "five", "six")]
    references = {"one house": Translation("ONE HORSE"), "two": Translation("TWO"), "elsewhere": Translation("X")}
    engine = Scripted()
    engine.target = "es"
    write_tmx(tmp_path / "human.tmx", "en", ((text, {"es": known}) for text, known in references.items()))
    *_, counted = run(rows, engine, references=tmp_path / "human.tmx")
    expected = CHRF(word_order=2).corpus_score(["ONE HOUSE", "TWO"], [["ONE HORSE", "TWO"]]).score
    assert counted["chrf++", ""] == pytest.approx(expected, abs=0.01)
    assert counted["chrf++_texts", ""] == 2
    assert chrf_plus_plus([("the same", "the same")]) == pytest.approx(100)


def test_rows_are_read_in_slices_and_keep_their_order(run, tmp_path):
    rows = [pair(f"r{i}", f"prompt {i}", f"chosen {i}", f"rejected {i}") for i in range(4_500)]
    engine = Scripted(batch=1_000)
    kept, out, _, _ = run(rows, engine)
    assert kept == 4_500
    assert [r["id"] for r in out] == [r["id"] for r in rows]
    assert out[4_321]["chosen"][0]["content"] == "CHOSEN 4321"
    assert pq.ParquetFile(tmp_path / "out.parquet").num_row_groups == 3  # 2,000 rows at a time
    again = Scripted()
    assert run([*rows, pair("new", "prompt 1", "something new", "rejected 2")], again)[0] == 4_501
    assert again.asked == ["something new"]

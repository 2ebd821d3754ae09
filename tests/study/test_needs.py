"""What jobs ask for, counted by hand on a model of two small blocks."""

import json
import subprocess
import sys

import pytest

from conftest import ROOT, name_model, pair
from rmtransfer.study import footprint, needs
from rmtransfer.study.config import load_config
from rmtransfer.study.footprint import Shape
from rmtransfer.study.needs import GPU_RATE, SMALL, Need, Needs, Texts, UnknownSizeError, largest
from rmtransfer.study.study import Study
from rmtransfer.texts.corpus import save_rows

COMMIT = 40 * "a"
# 8 * (2 * 8 + 2 * 4 + 3 * 16) = 576 parameters a block, 800 of the table
SIZES = {
    "model_type": "llama",
    "vocab_size": 100,
    "hidden_size": 8,
    "intermediate_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
}
READING, WRITING = 2 * 2 * 576, 2 * 2 * 576 + 2 * 800
FILE = {"path": "resources/sample/instructions.jsonl"}
JUDGE = {"kind": "judge", "mode": "pairwise"}


@pytest.fixture
def study(tmp_path):
    (tmp_path / "results/s/base_models/m").mkdir(parents=True)
    (tmp_path / "results/s/base_models/m/config.json").write_text(json.dumps(SIZES))
    (tmp_path / "shelf").mkdir()
    (tmp_path / "shelf/config.json").write_text(json.dumps(SIZES))

    def study(**sections) -> Study:
        config = {
            "study": "s",
            "languages": {"source": "en", "targets": ["es"]},
            "base_models": {"m": {"path": "org/Some-7B", "revision": COMMIT}},
            "preferences": FILE,
            "benchmarks": {"sample": FILE, "native": {**FILE, "native": "es"}},
            "instructions": FILE,
            "translation": {"engine": "deepl"},
            "training": {"held_out": 0.1, "epochs": 2, "pairs_per_step": 1},
            "alignment": {"samples": 4, "max_new_tokens": 5},
            "resources": {"tokens_per_batch": 64, "requests_at_once": 4},
        }
        for section, values in sections.items():
            config[section] = {**config.get(section, {}), **values}
        return Study(load_config(config, ROOT))

    return study


@pytest.fixture
def of(tmp_path, monkeypatch):
    """The needs of a study, each part of which has 100 rows of 1,000 tokens."""
    monkeypatch.setattr(Needs, "texts", lambda *_: Texts(100, 4000, 1000))

    def of(study: Study, gpu: bool = True, threads: int = 1) -> Needs:
        return Needs(study, tmp_path, gpu=gpu, threads=threads)

    return of


def test_what_is_asked_for_is_generous_and_grows_with_the_attempt():
    need = Need(memory=2e9, seconds=300, disk=4e9)
    assert need.asked() == {"mem_mb": 1000 + 2500, "runtime": 10 + 4 * 5, "disk_mb": 1000 + 5000}
    assert need.asked(2) == {"mem_mb": 7000, "runtime": 60, "disk_mb": 12000}
    assert SMALL.asked() == {"mem_mb": 1000, "runtime": 10, "disk_mb": 1000}
    assert largest([Need(1, 5, 3), Need(2, 4, 3)]) == Need(2, 5, 3)


def test_training_is_counted_by_pairs_epochs_and_what_is_held_out(study, of):
    """90 of 100 pairs of 10 tokens twice: forward, and 4 operations a weight back; 10 pairs are looked at 5 times."""
    needed = of(study()).training("m/en/seed0")
    operations = 2 * 900 * (READING + 4 * 2 * 576) + 5 * 100 * READING
    assert needed.seconds == pytest.approx(operations / GPU_RATE)
    assert needed.memory == 4e9 + 2 * 4 * 1952
    assert needed.disk == (4 + 16) * 1952

    # A part has its own pairs; its last block alone is trained, a probe reads every pair once more, and two cores compute.
    last = study(training={"pairs": [30], "frozen_layers": 1, "freeze_embeddings": True, "head": "probe"})
    needed = of(last, gpu=False, threads=2).training("m/en.30/seed0")
    operations = 2 * 300 * (READING + 4 * 576) + (300 + 5 * 100) * READING
    assert needed.seconds == pytest.approx(operations / (2 * 60e9))
    shape, recipe = Shape.of(SIZES), footprint.Recipe(freeze_embeddings=True, frozen_layers=1)
    assert needed.memory == footprint.training_bytes(shape, recipe, 2 * 2048, gpu=False)
    assert needed.disk == 4 * 1952 + 16 * 576 + 4 * 8 * 300

    several = of(study(training={"processes": 4, "pairs_per_step": 4})).training("m/en/seed0")
    assert several.memory == 4 * 4e9 + 5 * 4 * 1952
    assert of(study()).training("m/en/seed0").seconds == pytest.approx(4 * several.seconds)


def test_scoring_is_counted_by_languages_models_and_vocabulary(study, of, tmp_path):
    shelf = {"kind": "classifier", "path": str(name_model(tmp_path / "local"))}
    here = study(reward_models={"shelf": shelf, "twice": {"kind": "likelihood", "path": "m"}, "r": {"kind": "random"}})
    needed = of(here)
    assert needed.scoring("m/en/seed0", "sample").seconds == pytest.approx(2 * 1000 * READING / GPU_RATE)
    assert needed.scoring("m/en/seed0", "native").seconds == pytest.approx(1000 * READING / GPU_RATE)
    assert needed.scoring("twice", "sample").seconds == pytest.approx(2 * 1000 * WRITING / GPU_RATE)
    assert needed.scoring("m/en/seed0", "sample").memory == 4e9 + 2 * 2 * 1952 + 6 * 4000 * 2
    # 400 answers of 5 tokens to 1,000 tokens of prompts, in two languages
    assert needed.scoring_answers("m/en/seed0", "m", "instructions").seconds == pytest.approx(
        2 * 6000 * READING / GPU_RATE
    )
    assert needed.scoring_answers("r", "m", "instructions") == SMALL
    ours, likelihood = (of(here, gpu=False).scoring(name, "sample").memory for name in ("m/en/seed0", "twice"))
    assert likelihood - ours == pytest.approx(2 * 4 * 800 + 4 * 4 * 100 * 64)


def test_writing_costs_ten_times_its_arithmetic_and_a_server_its_time(study, of):
    models = {
        "local": {**JUDGE, "path": "m", "max_new_tokens": 7},
        "far": {**JUDGE, "server": {"url": "u", "model": "x"}},
    }
    needed = of(study(reward_models=models))
    assert needed.sampling("m", "instructions").seconds == pytest.approx(
        2 * (4000 * READING + 10 * 2000 * WRITING) / GPU_RATE
    )
    asked = 2 * 100 * 2  # languages, pairs, orders
    written = 10 * asked * 7 * WRITING
    assert needed.scoring("local", "sample").seconds == pytest.approx((2 * 2000 * READING + written) / GPU_RATE)
    assert needed.scoring("far", "sample").seconds == asked * 10 / 4
    assert needed.study.asks_a_server("far")
    assert not needed.study.asks_a_server("local")
    assert not needed.study.asks_a_server("m/en/seed0")


def test_translating_by_a_service_a_model_and_a_memory(study, of, tmp_path):
    by_model = {"engine": "seq2seq", "options": {"model": "org/nllb-600M", "beams": 4}}
    here = study()
    needed, deepl = of(here), here.engine("es")
    assert needed.translating(deepl, "sample").seconds == 3 * 100 / (10 * 4)
    assert needed.translating(deepl, "instructions").seconds == 100 / (10 * 4)
    # 1,000 tokens are read once, and written in four beams
    seconds = needed.translating(by_model, "sample").seconds
    assert seconds == pytest.approx(1000 * 2 * 600e6 * (1 + 4 * 10) / GPU_RATE, rel=0.01)
    (tmp_path / "m.tmx").write_bytes(bytes(5000))
    assert needed.translating({"engine": "memory", "options": "m.tmx"}, "sample").memory == 6 * 4000 + 10 * 5000
    assert (here.needs_network(deepl), here.needs_network(by_model)) == (True, True)
    assert not here.needs_network({"engine": "llm", "options": {"model": "results/s/base_models/m"}})
    assert not here.needs_network({"engine": "memory", "options": "m.tmx"})
    assert not here.needs_network({"engine": "llm", "options": {"model": str(tmp_path)}})
    assert here.downloads_base("m")


def test_a_model_that_is_downloaded_is_sized_by_its_name(study, of):
    shelf = {"kind": "classifier", "path": "org/RM-8B", "revision": COMMIT}
    nameless = {**shelf, "path": "org/RM"}
    needed = of(study(reward_models={"shelf": shelf, "nameless": nameless}))
    assert needed.preparing("m") == Need(
        pytest.approx(4 * 7e9, rel=1e-3), pytest.approx(28e9 / 20e6, rel=1e-3), pytest.approx(28e9, rel=1e-3)
    )
    assert needed.fetching("shelf", "path").disk == 16e9
    assert needed.fetching("nameless", "path").disk == 2 * 3e9
    with pytest.raises(UnknownSizeError, match="org/RM-8B"):  # its job starts when it is here
        needed.scoring("shelf", "sample")


def test_tables_grow_with_items_models_and_languages(study, of):
    here = study(training={"pairs": [30]})
    needed = of(here)
    # whole languages and parts, in two languages; and the same in one
    assert needed.comparing("sample").memory == 80 * 100 * 4 * 2
    assert needed.comparing("native").memory == 80 * 100 * 4
    states = 4 * 200 * 2 * 8  # bytes: both answers in two languages
    assert needed.representing().memory == states + 8 * states
    assert needed.selecting().memory == 6 * 4000 * 2 + 0.5e9
    assert needed.going_through(["sample", "preferences"]).memory == 6 * 8000
    assert needed.heads("sample").memory == 4 * 2 * (2 * 100 + 100) * 4 * 8


def test_rows_are_measured_once_they_are_there_and_expected_before(study, tmp_path):
    here = study(
        preferences={"path": None, "hub": "org/data", "revision": COMMIT, "expected": {"rows": 50, "characters": 80}}
    )
    needed = Needs(here, tmp_path, gpu=True, threads=1)
    assert needed.texts("preferences") == Texts(50, 4000, 1000)
    with pytest.raises(UnknownSizeError, match="sample"):
        needed.texts("sample")
    assert needed.importing("native").memory == 0
    rows = [pair(f"r{i}", f"{i:03} prompt " * 30, f"{i:03} chosen " * 20, f"{i:03} no " * 20) for i in range(300)]
    for part in ("preferences", "sample"):
        save_rows(rows, tmp_path / f"results/s/corpus/{part}.parquet")
    found = needed.texts("preferences")
    assert found == needed.texts("sample")
    assert found.rows == 300
    assert found.bytes == pytest.approx(300 * (30 * 11 + 20 * 11 + 20 * 7), rel=0.05)
    assert found.tokens == pytest.approx(300 * (2 * 30 * 11 + 20 * 11 + 20 * 7) / 4, rel=0.05)
    (tmp_path / "results/s/corpus/sample.parquet").write_bytes(b"PAR1")  # cut off: its reader says so
    with pytest.raises(UnknownSizeError):
        needed.texts("sample")


def test_a_model_is_looked_at_once_and_again_when_it_changes(study, tmp_path, monkeypatch):
    folder, looked = tmp_path / "results/s/base_models/m", []
    monkeypatch.setattr(needs.Shape, "of_folder", classmethod(lambda _, path: looked.append(path)))
    needed = Needs(study(), tmp_path, gpu=True, threads=1)
    assert (
        needed.shape("m") == needed.shape("m") == Shape.like(3e9)
    )  # nobody knows how it is built, nor how large it is
    assert looked == [folder]
    (folder / "new").touch()
    assert needed.shape("m")
    assert looked == [folder, folder]
    with pytest.raises(UnknownSizeError):
        needed.shape_of("nowhere", "org/x")


def test_nothing_heavy_is_imported():
    code = "import sys, rmtransfer.study.needs; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT / "workflow"
    )
    assert not {"torch", "transformers", "pandas", "numpy", "scipy", "pyarrow"} & set(done.stdout.split())

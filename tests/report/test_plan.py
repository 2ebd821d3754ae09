"""The plan's numbers are those that can be counted by hand."""

import re

import pytest
from transformers import AutoModelForCausalLM

from conftest import ROOT, pair
from rmtransfer.kit import machine
from rmtransfer.report import plan
from rmtransfer.report.plan import print_plan, render_plan
from rmtransfer.study import footprint
from rmtransfer.study.config import load_config
from rmtransfer.study.needs import Needs
from rmtransfer.study.study import Study
from rmtransfer.texts.corpus import save_rows
from rmtransfer.translation.budget import plan_translation

COMMIT = 40 * "a"
DEEPL = {"engine": "deepl", "options": {}}
SPANISH = {"language": "es", "spec": DEEPL, "source": "en", "target": "es", "rows": {"preferences": "not/there/yet"}}
# prompt and both answers; "One." twice, and code that nobody is asked for
# 10 billion parameters a layer, and no vocabulary
LARGE = footprint.Shape(0, 1, 10**10 // 3 + 1, 10**9, queries=0, keys=0, norms=2, normed_heads=False)
ROWS = [pair("a", "One.", "Two two.", "```\ncode\n```"), pair("b", "One.", "1. First\n2. Second", "42")]


@pytest.fixture(autouse=True)
def offline(monkeypatch):
    """Without the network, which some machines have and others wait for."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)


@pytest.fixture
def rows(tmp_path):
    save_rows(ROWS, tmp_path / "rows.parquet")
    return {"preferences": tmp_path / "rows.parquet"}


@pytest.fixture
def config(bases):
    file = {"path": "resources/sample/instructions.jsonl"}
    return {
        "study": "s",
        "languages": {"source": "en", "targets": ["es"]},
        "base_models": {"m": {"path": str(bases["llama"])}},
        "preferences": file,
        "benchmarks": {"sample": file},
        "instructions": file,
        "translation": {"engine": "deepl", "price_per_million": 25, "budget_characters": 10},
    }


def study_of(config) -> Study:
    return Study(load_config(config, ROOT))


def of_all_parts(rows):
    return dict.fromkeys(("preferences", "sample", "instructions"), rows["preferences"])


def test_the_plan_of_the_models_follows_from_their_size(tmp_path, rows, config, bases):
    parameters = AutoModelForCausalLM.from_pretrained(bases["llama"]).num_parameters()
    entries = plan_translation([SPANISH], rows, tmp_path / "s.sqlite", tmp_path)
    text = render_plan(study_of(config), entries, of_all_parts(rows), ROOT, "quota: unknown")
    assert f"{parameters / 1e9:.2f}B parameters" in text
    assert "m: 2 reward models" in text
    assert "budget: 10 characters - DOES NOT SUFFICE" in text
    characters = entries[0]["characters"]
    assert f"to pay: {characters} characters, about {characters * 25 / 1e6:.2f} at 25 a million" in text
    assert "quota: unknown" in text
    # three copies of the weights in fp32 (the base and two reward models): the gigabytes, to a tenth
    assert f"{4 * parameters * 3 / 1e9:.1f} GB on disk" in text


def test_training_sets_count_with_their_sizes(rows, config, monkeypatch):
    """Two languages; of 2 pairs, a part of 1 of each, and a mixture of 3: 2 + 2 / 2 + 3 / 2 times a language's tokens."""
    monkeypatch.setattr(plan._Counting, "shape_of", lambda *_: LARGE)
    config["training"] = {"pairs_per_step": 1}
    config["alignment"] = {"max_new_tokens": 1}

    def hours(what):
        text = render_plan(study_of(config), [], of_all_parts(rows), ROOT, "")
        return float(re.search(rf"{what} ([\d,.]+) h", text)[1].replace(",", ""))

    whole = {what: hours(what) for what in ("training", "scoring")}
    config["training"]["pairs"] = [1]
    config["mixtures"] = {"m": {"en": 1, "es": 1, "pairs": 3}}
    assert hours("training") == pytest.approx(whole["training"] * 4.5 / 2, abs=0.02)
    config["mixtures"] = {}
    text = render_plan(study_of(config), [], of_all_parts(rows), ROOT, "")
    assert "m: 4 reward models" in text
    # Two more models score the benchmark in two languages, 2 operations to a parameter and token, and no sampled answers.
    scored = int(re.search(r"([\d,]+) to score", text)[1].replace(",", ""))
    more = 2 * 2 * 2 * scored * LARGE.parameters / 400e12 / 3600
    assert hours("scoring") == pytest.approx(whole["scoring"] + more, abs=0.02)


def test_the_memory_of_a_job_stands_next_to_what_there_is(rows, config, bases, monkeypatch):
    training = load_config(config, ROOT).training.model_dump()
    shape = footprint.Shape.of_folder(bases["llama"])
    need = footprint.training_bytes(shape, footprint.Recipe.of(training), 16384, gpu=False)
    monkeypatch.setattr(plan, "visible_devices", list)
    text = render_plan(study_of(config), [], of_all_parts(rows), ROOT, "")
    # without a GPU the plan also says what one would need
    assert "memory of a job on a GPU: training " in text
    line = next(line for line in text.splitlines() if "memory of a job on the CPU" in line)
    assert f"training {need / 1e9:.1f} GB" in line
    assert f"; this machine has {machine.memory_here(gpu=False).bytes / 1e9:.1f} GB" in line
    assert "WARNING" not in text

    monkeypatch.setattr(plan, "visible_devices", lambda: ["0"])
    monkeypatch.setattr(plan, "memory_here", lambda gpu: machine.Memory(1e9, "a small GPU"))
    text = render_plan(study_of(config), [], of_all_parts(rows), ROOT, "")
    assert "on the CPU" not in text
    assert "WARNING: training takes about" in text
    assert "a small GPU has 1.0 GB" in text


def test_two_jobs_at_a_time_are_compared_with_the_memory_that_they_share(rows, config, monkeypatch):
    """A job of a tiny model takes the 0.9 GB of its libraries: one fits into 1.5 GB, two do not."""
    monkeypatch.setattr(plan, "visible_devices", list)
    monkeypatch.setattr(plan.os, "cpu_count", lambda: 8)
    monkeypatch.setattr(plan, "memory_here", lambda gpu: machine.Memory(1.5e9, "this machine"))
    warning = "WARNING: 2 jobs at a time of training or scoring or sampling take up to "
    shown = render_plan(study_of(config), [], of_all_parts(rows), ROOT, "")
    assert warning in shown
    assert "--resources mem_mb=1500 lets as many run as fit" in shown
    config["resources"] = {"threads_per_job": 8}  # one at a time
    assert "WARNING" not in render_plan(study_of(config), [], of_all_parts(rows), ROOT, "")


def test_pairs_that_are_held_out_are_not_trained_on_but_looked_at(rows, config, monkeypatch):
    """One of two pairs: half of the training, 6 operations a weight, and two looks forward."""
    monkeypatch.setattr(plan._Counting, "shape_of", lambda *_: LARGE)
    config["alignment"] = {"max_new_tokens": 1}

    def hours() -> float:
        text = render_plan(study_of(config), [], of_all_parts(rows), ROOT, "")
        return float(re.search(r"training ([\d,.]+) h", text)[1].replace(",", ""))

    whole = hours()
    config["training"] = {"held_out": 0.5, "evaluations": 2}
    # no table and no frozen blocks: 6 a weight and token of all pairs, then 6 of a half and 2 * 2 of the other one
    assert hours() == pytest.approx(whole * (6 / 2 + 2 * 2 / 2) / 6, rel=1e-4)


def test_what_a_cluster_is_asked_for_is_what_the_rules_ask_for(tmp_path, config, bases):
    config["base_models"] = {"m": {"path": str(bases["llama"])}}
    config["training"] = {"processes": 2, "pairs_per_step": 4}
    study = study_of(config)
    for part in study.parts:
        save_rows(ROWS, tmp_path / study.rows(part)[0])

    def asked(kind: str) -> list[str]:
        lines = list(plan._plan_jobs(study, tmp_path))
        return next(re.split(r" {2,}", line.strip()) for line in lines if line.strip().startswith(kind))

    needs = Needs(study, tmp_path, gpu=True, threads=8)
    training = needs.training("m/en/seed0").asked()
    memory, disk = (f"{training[name] / 1000:.1f} GB" for name in ("mem_mb", "disk_mb"))
    assert asked("train_reward_model m") == ["train_reward_model m", "2", memory, "10", "2", disk]
    assert asked("sample_answers m")[4] == "1"
    assert asked("translate_rows deepl")[1:2] + asked("translate_rows deepl")[4:5] == ["3", "0"]
    assert asked("all others") == ["all others: 1.0 GB, 10 minutes, or little more"]
    config["resources"] = {"device": "cpu"}
    study = study_of(config)
    assert asked("train_reward_model m")[4] == "0"
    config["base_models"] = {"m": {"path": "org/nobody-knows", "revision": COMMIT}}
    study = study_of(config)
    assert "known later" in asked("train_reward_model m")[1]


def test_a_model_that_is_not_here_yet_leaves_its_numbers_open(rows, config):
    config["base_models"] = {"m": {"path": "package:not_here", "chat_template": "README.md"}}
    text = render_plan(study_of(config), [], of_all_parts(rows), ROOT, "")
    assert "size unknown until package:not_here is downloaded" in text
    assert "at least 0.00 GPU hours" in text


def test_what_is_frozen_is_on_disk_once(rows, config, monkeypatch):
    """A billion parameters, a tenth of them embeddings: the base, and nine tenths of it for each of two models."""
    sizes = footprint.Shape(100_000, 1000, 300_000, 1, queries=0, keys=0, norms=2, normed_heads=False)
    monkeypatch.setattr(plan._Counting, "shape_of", lambda *_: sizes)
    assert "12.0 GB on disk" in render_plan(study_of(config), [], of_all_parts(rows), ROOT, "")
    config["training"] = {"freeze_embeddings": True}
    assert "11.2 GB on disk" in render_plan(study_of(config), [], of_all_parts(rows), ROOT, "")


def test_what_is_not_downloaded_is_assumed_and_said(tmp_path, config, rows):
    expected = {"rows": 1000, "characters": 400}
    config["preferences"] = {"hub": "org/pairs", "revision": COMMIT, "expected": expected}
    (entry,) = plan_translation([SPANISH], {}, tmp_path / "s.sqlite", tmp_path, {"preferences": expected})
    assert (entry["texts"], entry["characters"]) == (3000, 400_000)
    known = {"sample": rows["preferences"], "instructions": rows["preferences"]}
    text = render_plan(study_of(config), [entry], known, ROOT, "")
    assert "preferences: not downloaded yet, 1,000 rows of 400 characters assumed" in text
    assert "about 10.00 at 25 a million" in text
    assert "a language's tokens: 100,000 to train on" in text  # 1,000 rows of 400 characters, 4 to a token


def test_a_native_benchmark_is_scored_in_one_language(rows, config, monkeypatch):
    """A model of a billion parameters on 10 million tokens: two operations each, in two languages, and then in one more."""
    monkeypatch.setattr(plan._Counting, "shape_of", lambda *_: LARGE._replace(layers=1))
    monkeypatch.setattr(plan, "_tokens", lambda *_: 10**10)
    config["reward_models"] = {"shelf": {"kind": "classifier", "path": "org/RM", "revision": COMMIT}}
    del config["base_models"]

    def hours() -> str:
        text = render_plan(study_of(config), [], {**of_all_parts(rows), "written": rows["preferences"]}, ROOT, "")
        return text.partition("scoring ")[2].partition(" h")[0]

    once = 2 * 10**10 * 10**10 / 400e12 / 3600
    assert hours() == f"{2 * once:,.2f}"
    config["benchmarks"]["written"] = {"path": "resources/sample/instructions.jsonl", "native": "es"}
    assert hours() == f"{3 * once:,.2f}"


def test_a_name_says_how_large_a_model_is_that_is_not_here(config, rows):
    config["reward_models"] = {"shelf": {"kind": "classifier", "path": "org/Some-RM-8B-v0.1", "revision": COMMIT}}
    text = render_plan(study_of(config), [], of_all_parts(rows), ROOT, "")
    assert "shelf: classifier\n    8.00B parameters" in text


def test_the_whole_plan_is_reported(tmp_path, config, rows, capsys):
    print_plan(load_config(config, ROOT).plain(), [SPANISH], rows, tmp_path / "s.sqlite", ROOT)
    shown = capsys.readouterr().out
    assert "  es              deepl              6         5         0         4" in shown
    assert "quota: unknown" in shown
    assert "sample: not downloaded yet, not counted" in shown

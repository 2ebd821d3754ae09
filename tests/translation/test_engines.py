"""Every engine of the catalogue keeps the protocol, and says what is wrong with its section of the config."""

import subprocess
import sys

import pytest

from conftest import ROOT, name_model
from rmtransfer.kit.errors import StudyError
from rmtransfer.study.catalogue import ENGINES, load
from rmtransfer.translation.engines import PAID, build_engine
from scripted_engine import MACHINE

COMMIT = "0123456789" * 4
# The least that each engine needs to be told.
LEAST = {"memory": "m.tmx", "deepl": {}, "seq2seq": {"model": "a/b"}, "llm": {"model": "a/b"}}
HEAVY = (
    "torch", "transformers", "datasets", "pandas", "numpy", "sklearn", "scipy", "requests", "deepl", "pyarrow", "lxml"
)  # fmt: skip


def build(name, options, source="en", code="es", root=ROOT):
    return build_engine({"engine": name, "options": options}, source, code, MACHINE._replace(root=root))


def problems(name, options, target="es", bases=(), root=ROOT, source="en"):
    return list(load(ENGINES, name).check(options, target, bases, source, root))


def test_the_tests_know_every_engine():
    assert LEAST.keys() == ENGINES.keys()
    assert PAID == ("deepl",)


@pytest.mark.parametrize("name", ENGINES)
def test_an_engine_is_built_for_the_language_of_a_code(name):
    engine = build(name, LEAST[name], "en", "zh-Hant-x-second")
    assert (engine.source, engine.target) == ("en", "zh-Hant")
    assert isinstance(engine.paid, bool)
    assert isinstance(engine.runs_a_model, bool)
    assert engine.needs_section is (name != "deepl")
    assert (engine.lock is None) is (name == "memory")


def test_an_unknown_engine_is_no_other_one():
    with pytest.raises(StudyError, match="'nllbb' is none of memory, deepl, seq2seq, llm"):
        build("nllbb", {"model": "a/b"})


def test_engines_import_nothing_heavy():
    code = (
        "import sys; from rmtransfer.study.catalogue import ENGINES, load\n"
        "for name in ENGINES: load(ENGINES, name)\n"
        f"print([name for name in {HEAVY} if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env={"PYTHONPATH": str(ROOT / "workflow")}
    )
    assert (done.stdout.strip(), done.stderr) == ("[]", "")


def test_what_an_engine_reads():
    assert load(ENGINES, "memory").files("m.tmx") == ["m.tmx"]
    for name in ("deepl", "seq2seq", "llm"):
        assert load(ENGINES, name).files(LEAST[name]) == []


def test_a_memory_must_be_there_and_hold_the_languages(tmp_path):
    assert problems("memory", "m.tmx", root=tmp_path) == [
        "translation.memory: 'm.tmx' does not exist; correct the path"
    ]
    sample = "resources/sample/memory.tmx"
    assert problems("memory", sample) == []
    (problem,) = problems("memory", sample, target="fi")
    assert problem.startswith(f"languages: 'fi' is not in {sample}, which holds ")


@pytest.mark.parametrize("name", ["seq2seq", "llm"])
def test_a_hub_model_needs_its_commit(name, tmp_path):
    key = f"translation.{name}.model"
    assert problems(name, {"model": "a/b", "revision": COMMIT}) == []
    assert problems(name, {"model": "a/b"}) == [
        f"{key}: 'a/b' has no revision; add the model's commit, a branch can move"
    ]
    assert problems(name, {"model": "./b"}) == [f"{key}: './b' is not a folder; correct the path"]
    (tmp_path / "empty").mkdir()
    assert problems(name, {"model": "empty"}, root=tmp_path) == [
        f"{key}: 'empty' is a folder without files; put the model there, or name another"
    ]
    name_model(tmp_path / "b")
    assert problems(name, {"model": "./b"}, root=tmp_path) == []
    with pytest.raises(ValueError, match="revision"):
        build(name, {"model": "a/b", "revision": "main"})


def test_models_per_language_pair_need_a_commit_each(tmp_path):
    opus = {"model": "Helsinki-NLP/opus-mt-{source}-{target}"}
    (problem,) = problems("seq2seq", {**opus, "revision": COMMIT})  # one commit cannot be that of several models
    assert problem == (
        f"translation.seq2seq.model: '{opus['model']}' has no revisions.es; add the model's commit, a branch can move"
    )
    pinned = {**opus, "revisions": {"es": COMMIT}}
    assert problems("seq2seq", pinned) == []
    assert build("seq2seq", pinned).scope.settings["model"] == f"Helsinki-NLP/opus-mt-en-es@{COMMIT}"
    back = build("seq2seq", pinned, "es", "en")
    assert back.scope.settings["model"] == f"Helsinki-NLP/opus-mt-es-en@{COMMIT}"
    with pytest.raises(ValueError, match="revisions"):
        build("seq2seq", {**opus, "revisions": {"es": "main"}})
    name_model(tmp_path / "opus-en-es")
    assert problems("seq2seq", {"model": "opus-{source}-{target}"}, root=tmp_path) == []
    assert len(problems("seq2seq", {"model": "opus-{source}-{target}"}, target="it", root=tmp_path)) == 1


def test_a_base_model_of_the_study_needs_no_commit():
    assert problems("llm", {"model": "results/s/base_models/m"}, bases=["results/s/base_models/m"]) == []


def test_a_prompt_must_hold_the_text():
    (problem,) = problems("llm", {"model": "a/b", "revision": COMMIT, "prompt": "Translate!"})
    assert problem == "translation.llm.prompt: 'Translate!' does not hold {text}; put it where the text goes"

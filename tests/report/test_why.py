"""First causes apart from what follows, and what nobody knows before a checkpoint has run."""

import re
from pathlib import Path

import pytest

from conftest import name_model, pair
from rmtransfer.kit.kept import Keep, digest_of_inputs
from rmtransfer.kit.manifest import write_manifest
from rmtransfer.report.kept import print_kept
from rmtransfer.report.why import Pending, Record, causes, explain, findings, render_why
from rmtransfer.study.config import load_config
from rmtransfer.study.needs import Need, Needs
from rmtransfer.study.study import Study
from rmtransfer.texts.corpus import save_rows
from rmtransfer.translation import Machine
from rmtransfer.translation.engines import build_engine
from rmtransfer.translation.pipeline import adopt
from rmtransfer.translation.store import SegmentStore, Translation

CONFIG = {"training": {"learning_rate": 2e-5}}


def trained(train: str, rate: float = 2e-5, **more) -> Pending:
    wildcards = {"reward_model": f"llama/{train}/seed0"}
    output = f"results/tiny/models/llama/{train}/seed0"
    record = Record([repr({"learning_rate": 5e-5}), "['0a']"], ["base"])
    params = {"recipe": {"learning_rate": rate}, **({} if "waits" in more else {"rows": ["0a"]})}
    current = Record([], ["base"])
    return Pending(
        "train_reward_model", wildcards, "train_reward_model", output, "base", params, record, current, **more
    )


def told(jobs: list[Pending], returns: list[bool] | None = None) -> list[str]:
    return [line for line in explain(findings(jobs, CONFIG), returns or [False] * len(jobs)) if line]


def test_causes_are_apart_from_what_follows_and_jobs_are_counted():
    ran = Record()
    jobs = [
        *(trained(train) for train in ("en", "es", "it", "ko")),
        Pending("score", {"reward_model": "llama/en/seed0", "benchmark": "sample"}, record=ran, after=[0]),
        Pending("gather_training_logs", {}, record=ran, after=[0, 1, 2, 3]),
        Pending("draw_pca", {}, record=ran, after=[4]),
        Pending("draw_transfer", {}, record=ran, after=[4]),
        Pending("score_answers", {"base": "new"}, record=ran, remade=True),
        Pending("score_answers", {"base": "llama"}, record=ran, remade=True, after=[0]),
        Pending("sample_answers", {"base": "new", "language": "es"}, missing=["es.parquet"]),
    ]
    assert told(jobs, [True, True] + [False] * 9) == [
        "because training.learning_rate was 5e-05 and is 2e-05:",
        "  4 train_reward_model",
        "  2 of them come back from what is kept, and what was scored of them",
        "because an earlier run made again what it reads:",
        "  1 score_answers (new)",
        "for the first time:",
        "  1 sample_answers (new es)",
        "after them:",
        "  1 score (llama/en/seed0 sample)",
        "  1 gather_training_logs",
        "  2 draw_*",
        "  1 score_answers (llama)",
    ]


def test_behind_a_checkpoint_only_what_changed_itself_is_certain():
    ran = Record()
    jobs = [
        Pending("select_rows", {}, record=Record([], ["es"]), current=Record([], ["es"]), updated=["es"]),
        trained("en", waits=True),
        trained("es", rate=5e-5, waits=True),
        Pending("score", {"reward_model": "llama/en/seed0"}, record=ran, waits=True, after=[1]),
        Pending("score", {"reward_model": "llama/es/seed0"}, record=ran, waits=True, after=[2]),
    ]
    assert told(jobs) == [
        "because es is newer:",
        "  1 select_rows",
        "because training.learning_rate was 5e-05 and is 2e-05:",
        "  1 train_reward_model (llama/en/seed0)",
        "after them:",
        "  1 score (llama/en/seed0)",
        "perhaps, as the rows decide that select_rows will select; if they are the same, none of these:",
        "  1 train_reward_model (llama/es/seed0)",
        "  1 score (llama/es/seed0)",
    ]


def test_every_cause_has_its_clause(tmp_path):
    (tmp_path / "small").write_text("x")
    path = str(tmp_path / "small")
    job = Pending(
        "score",
        {},
        "score",
        record=Record([], [path], deployed="none"),
        current=Record([], [path, "new"], deployed="conda"),
        missing=["a.parquet"],
        updated=[path, "new"],
        edited=True,
    )
    assert causes(job, CONFIG) == [
        "it reads new too",
        "its software is another (--sdm), of the same description",
        f"{path} has another content",
        "workflow/scripts/score.py is newer than what it made (edited, or checked out again)",
    ]  # so that its output is missing too needs no word
    left = Pending("score", {}, record=Record(), missing=["a.parquet", "b.parquet"], incomplete=["c.parquet"])
    assert causes(left, CONFIG) == ["a.parquet and 1 more is missing", "c.parquet is what a killed run left behind"]


@pytest.fixture
def study(tmp_path, monkeypatch):
    """A study with a base model and one trained model."""
    monkeypatch.chdir(tmp_path)
    for name in ("preferences", "benchmark", "instructions"):
        Path(f"{name}.jsonl").write_text("{}\n")
    segments = "".join(f'<tuv xml:lang="{language}"><seg>a</seg></tuv>' for language in ("en", "es"))
    Path("memory.tmx").write_text(f'<tmx version="1.4"><body><tu>{segments}</tu></body></tmx>')
    for folder in ("base", "results/tiny/models/llama/en/seed0"):
        name_model(Path(folder))
        (Path(folder) / "weights").write_bytes(b"weights")
        write_manifest(Path(folder), {})
    config = {
        "study": "tiny",
        "languages": {"source": "en", "targets": ["es"]},
        "base_models": {"llama": {"path": "base"}},
        "preferences": {"path": "preferences.jsonl"},
        "benchmarks": {"sample": {"path": "benchmark.jsonl"}},
        "instructions": {"path": "instructions.jsonl"},
        "translation": {"engine": "memory", "memory": "memory.tmx"},
    }
    return Study(load_config(config, tmp_path))


def keep(study: Study, job: Pending) -> None:
    decides = {**job.wildcards, **job.params}
    Keep(Path(study.at.kept), Path(study.at.folder), Path(job.output), decides, Path(job.base)).put()


def test_it_says_beforehand_what_comes_back_what_goes_and_what_stays(study, tmp_path, capsys):
    before, after = trained("en", 5e-5), trained("en")
    needs = Needs(study, tmp_path, gpu=False, threads=1)
    shown = render_why(study, [after], needs)
    assert "WARNING: results/tiny/models/llama/en/seed0 is not in results/tiny/.work/kept" in shown
    keep(study, before)
    shown = render_why(study, [after], needs)
    assert "WARNING" not in shown
    assert "to compute: about 0.00 hours of one core, as snakemake plan counts; and what 1 jobs take" in shown
    assert "kept: 1 models that this run replaces stay in results/tiny/.work/kept" in shown
    assert "of other settings" not in shown
    assert "come back" not in shown
    (Path(after.output) / "weights").write_bytes(b"others")  # trained again
    write_manifest(Path(after.output), {})
    keep(study, after)
    assert "kept: 1 models of other settings, 0.00 GB" in render_why(study, [], needs)
    assert "  all of them come back from what is kept, and what was scored of them" in render_why(
        study, [before], needs
    )
    base = Pending("prepare_base_model", {"base": "llama"}, "prepare_base_model", missing=["base"])
    assert "come back" not in render_why(study, [base, trained("en", 5e-5, after=[0])], needs)
    print_kept(study.at, CONFIG)
    listed = capsys.readouterr().out
    assert "Kept in results/tiny/.work/kept: 1 models that are in results now" in listed
    (line,) = re.findall(r"models/llama/en/seed0/.*", listed)
    assert line.endswith("  training.learning_rate: 5e-05")
    assert (Path(study.at.kept) / line.split()[0]).is_dir()


def test_an_aligned_policy_comes_back_where_the_answers_are_those_that_it_was_aligned_on(study, tmp_path):
    answers, wildcards = Path("answers.parquet"), {"aligned": "llama/dpo/llama/en/seed0"}
    answers.write_bytes(b"answers")
    output = "results/tiny/models/llama/en/seed0"  # a folder with a manifest
    job = Pending(
        "align_policy",
        wildcards,
        "align_policy",
        output,
        "base",
        record=Record(),
        current=Record([], ["base", str(answers)]),
        missing=[output],
    )
    inputs = digest_of_inputs([answers])
    Keep(Path(study.at.kept), Path(study.at.folder), Path(output), {**wildcards, "inputs": inputs}, Path("base")).put()
    needs = Needs(study, tmp_path, gpu=False, threads=1)
    assert "all of them come back from what is kept" in render_why(study, [job], needs)
    answers.write_bytes(b"others")
    assert "come back" not in render_why(study, [job], needs)


class AnHourEach(Needs):
    def training(self, reward_model):
        return Need(seconds=3600)

    def scoring(self, reward_model, benchmark):
        return Need(seconds=3600)


def test_hours_are_of_what_computes(study, tmp_path):
    needs = AnHourEach(study, tmp_path, gpu=True, threads=1)
    scored = {"reward_model": "llama/en/seed0", "benchmark": "sample"}
    ran = Record(["3"])
    model = trained("en")
    follows = Pending("score", scored, "score", params={"version": 3}, record=ran, after=[0])
    changed = Pending("score", scored, "score", params={"version": 4}, record=ran, after=[0])
    jobs = [model, follows, changed, Pending("draw_pca", {}, "draw_figure", record=Record(), after=[1])]
    assert "to compute: about 3.00 hours of a GPU, as snakemake plan counts" in render_why(study, jobs, needs)
    keep(study, model)
    assert "to compute: about 1.00 hours of a GPU" in render_why(study, jobs, needs)


def test_what_the_store_does_not_hold_is_to_be_paid(study, tmp_path, monkeypatch):
    rows = [pair("a", "How old is it?", "Ten years.", "Nobody knows.")]
    save_rows(rows, Path("results/tiny/corpus/sample.parquet"))
    deepl = {"engine": "deepl", "options": {}}
    params = {"part": "sample", "spec": deepl, "source": "en", "target": "es", "version": 2}
    job = Pending(
        "translate_rows", {"language": "es", "part": "sample"}, "translate_rows", params=params, missing=["es"]
    )
    shown = render_why(study, [job], Needs(study, tmp_path, gpu=False, threads=1))
    assert "to pay: 37 characters that the translation store does not hold, about 0.00" in shown
    engine = build_engine(deepl, "en", "es", Machine(tmp_path))
    texts = ["How old is it?", "Ten years.", "Nobody knows."]
    adopt({text: Translation("x") for text in texts}, engine, SegmentStore(tmp_path / study.config.translation.store))
    assert "to pay: nothing, the translation store holds every text" in render_why(
        study, [job], Needs(study, tmp_path, gpu=False, threads=1)
    )


def test_nothing_to_do_is_one_sentence(study, tmp_path):
    assert (
        render_why(study, [], Needs(study, tmp_path, gpu=False, threads=1))
        == "Nothing would run: results/tiny is what the configuration asks for."
    )

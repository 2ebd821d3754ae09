"""The real DAG, end to end on a tiny model, and what its provenance makes rerun.

One finished study serves all tests. Nothing is stubbed: the base is a randomly initialised Llama in a local folder, the
texts are the embedded ones.
"""

import json
import os
import re
import shutil
import subprocess
import sys
from copy import deepcopy
from itertools import islice
from pathlib import Path

import pandas as pd
import pytest
import yaml
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from conftest import ROOT, build_model, build_tokenizer
from rmtransfer.transfer.transfer import TRANSFER_COLUMNS

pytestmark = pytest.mark.slow

CONFIG = {
    "study": "tiny",
    "languages": {"source": "en", "targets": ["es"]},
    "base_models": {"llama": {"path": "tiny"}},
    "preferences": {"path": "preferences.jsonl"},
    "benchmark": {"path": "benchmark.jsonl"},
    "instructions": {"path": "instructions.jsonl"},
    "translation": {"engine": "memory", "memory": "resources/sample/memory.tmx"},
    "training": {"learning_rate": 1e-3, "pairs_per_step": 4},
    "alignment": {"samples": 2, "best_of": [1, 2], "max_new_tokens": 4},
    "figures": {"dpi": 72},
    "resources": {"tokens_per_batch": 4096, "device": "cpu"},
}
AGGREGATES = {"evaluate_transfer", "write_paper_tables", "analyse_representations", "evaluate_best_of_n"}
DRAWINGS = {"draw_transfer", "draw_source_against_target", "draw_representation", "draw_alignment"}
FIGURES = {
    "translation",
    "transfer",
    "sections",
    "source_against_target",
    "consistency",
    "rewards",
    "length_bias",
    "pca",
    "representation",
    "best_of_n",
}


def snakemake(folder: Path, config: dict, *arguments: str) -> subprocess.CompletedProcess:
    (folder / "study.yaml").write_text(yaml.safe_dump(config))
    cores = [] if "--report" in arguments else ["--cores", "2"]  # the README's commands
    return subprocess.run(
        [sys.executable, "-m", "snakemake", *arguments, *cores, "--configfile", "study.yaml"],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "COLUMNS": "200"},
        check=False,
    )


def jobs(folder: Path, config: dict) -> set[str]:
    """What a dry run would do, as "rule wildcard wildcard ..."; rule all apart."""
    done = snakemake(folder, config, "--dry-run")
    assert done.returncode == 0, done.stdout
    found = set()
    for block in re.split(r"\n(?=(?:local)?(?:rule|checkpoint) \w+:\n)", done.stdout)[1:]:
        name = re.match(r"(?:local)?(?:rule|checkpoint) (\w+):", block).group(1)
        wildcards = re.search(r"^    wildcards: (.+)$", block, re.M)
        values = [w.split("=")[1] for w in wildcards.group(1).split(", ")] if wildcards else []
        found.add(" ".join(filter(None, [name, *values])))
    return found - {"all"}


def changed(**sections) -> dict:
    config = deepcopy(CONFIG)
    for section, values in sections.items():
        config[section] = {**config.get(section, {}), **values} if isinstance(values, dict) else values
    return config


@pytest.fixture(scope="module")
def checkout(tmp_path_factory) -> Path:
    """A copy of the workflow with a tiny base model and the first rows of each embedded file."""
    folder = tmp_path_factory.mktemp("study")
    for name in ("workflow", "resources", "envs", "studies"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "Snakefile", folder)
    for name, step in (("preferences", 8), ("benchmark", 15), ("instructions", 8)):
        lines = (ROOT / f"resources/sample/{name}.jsonl").read_text(encoding="utf-8").splitlines(keepends=True)
        (folder / f"{name}.jsonl").write_text("".join(islice(lines, 0, None, step)), encoding="utf-8")
    tokenizer = build_tokenizer("llama")
    build_model("llama", tokenizer).save_pretrained(folder / "tiny")
    tokenizer.save_pretrained(folder / "tiny")
    return folder


@pytest.fixture(scope="module")
def finished(checkout) -> Path:
    done = snakemake(checkout, CONFIG)
    assert done.returncode == 0, done.stdout
    (checkout / "shown.txt").write_text(done.stdout)
    return checkout


def test_results_follow_the_contract(finished):
    results = finished / "results/tiny"
    transfer = pd.read_csv(results / "tables/transfer.csv")
    assert list(transfer.columns) == TRANSFER_COLUMNS
    assert len(transfer) == 2 * 2 * 5  # training languages x evaluation languages x four sections and their average
    model = results / "models/llama/en/seed0"
    assert AutoModelForSequenceClassification.from_pretrained(model).config.num_labels == 1
    assert AutoTokenizer.from_pretrained(model).chat_template
    assert json.loads((model / "manifest.json").read_text())["pairs"] == 12
    assert {p.name for p in (results / "figures").iterdir()} == {
        f"{name}.{suffix}" for name in FIGURES for suffix in ("png", "pdf")
    }
    assert "reward model is" in (results / "tables/answer.txt").read_text()
    assert not (results / ".work/training").exists()


def test_the_terminal_shows_progress_and_the_answer(finished):
    shown = (finished / "shown.txt").read_text()
    assert "[train_reward_model llama es] training: 3/3 steps" in shown
    assert "scoring en: " in shown
    assert "sampling es: " in shown
    assert "Results: results/tiny/" in shown
    for log in (finished / "results/tiny/logs").rglob("*.log"):
        assert "started" in log.read_text(encoding="utf-8")


def test_a_second_run_does_nothing(finished):
    assert jobs(finished, CONFIG) == set()
    assert "Nothing to be done" in snakemake(finished, CONFIG).stdout


def test_speed_settings_rerun_nothing(finished):
    assert jobs(finished, changed(resources={"tokens_per_batch": 64, "checkpoint_minutes": 1})) == set()


def test_a_figure_option_redraws_figures_only(finished):
    assert jobs(finished, changed(figures={"dpi": 80})) == DRAWINGS | {"draw_translation"}


def test_other_sections_score_nothing_again(finished):
    assert jobs(finished, changed(benchmark={"sections": "subsets"})) == {
        "evaluate_transfer",
        "write_paper_tables",
        "draw_transfer",
        "draw_source_against_target",
    }


def test_the_learning_rate_retrains_and_translates_nothing(finished):
    models = {f"{rule} llama {t} 0" for rule in ("score_benchmark", "score_answers") for t in ("en", "es")}
    trained = {"train_reward_model llama en 0", "train_reward_model llama es 0"}
    assert jobs(finished, changed(training={"learning_rate": 2e-3})) == trained | models | AGGREGATES | DRAWINGS


def test_best_of_n_options(finished):
    assert jobs(finished, changed(alignment={"best_of": [1]})) == {"evaluate_best_of_n", "draw_alignment"}


def test_a_stages_version_reruns_its_descendants_only(finished):
    versions = finished / "workflow/rmtransfer/versions.py"
    before = versions.read_text()
    try:
        for name, expected in {
            "TRANSFER": {"evaluate_transfer", "write_paper_tables", "draw_transfer", "draw_source_against_target"},
            "FIGURES": DRAWINGS | {"draw_translation"},
            "REPRESENTATION": {"analyse_representations", "draw_representation"},
        }.items():
            changed_version, found = re.subn(rf"^{name} = (\d+)$", rf"{name} = \g<1>0", before, flags=re.M)
            assert found == 1
            versions.write_text(changed_version)
            assert jobs(finished, CONFIG) == expected
    finally:
        versions.write_text(before)


def test_same_seed_same_tables_and_a_report(finished):
    again = changed(study="again")
    done = snakemake(finished, again)
    assert done.returncode == 0, done.stdout
    for name in ("transfer", "significance", "length_baseline", "representation", "pca", "alignment"):
        first, second = (finished / f"results/{study}/tables/{name}.csv" for study in ("tiny", "again"))
        assert first.read_bytes() == second.read_bytes()
    done = snakemake(finished, again, "--report", "results/again/report.html")
    assert done.returncode == 0, done.stdout
    report = (finished / "results/again/report.html").read_text(encoding="utf-8")
    assert "evaluate_transfer" in report
    assert "difference in percentage points" in report
    answer = (finished / "results/again/tables/answer.txt").read_text(encoding="utf-8").split("(")[0].strip()
    assert answer in report


def test_a_translation_that_comes_out_the_same_retrains_nothing(finished):
    """A memory that gains a segment is another file, and every text of the study comes out of it as before."""
    memory = finished / "resources/sample/memory.tmx"
    before = memory.read_bytes()
    unit = b'<tu><tuv xml:lang="en"><seg>Unused.</seg></tuv><tuv xml:lang="es"><seg>Sin uso.</seg></tuv></tu></body>'
    memory.write_bytes(before.replace(b"</body>", unit))
    done = snakemake(finished, CONFIG)
    assert done.returncode == 0, done.stdout
    ran = set(re.findall(r"^(?:local)?(?:rule|checkpoint) (\w+):", done.stdout, re.M))
    assert ran - {"all"} == {"translate_rows", "select_rows", "summarise_translation", "draw_translation"}
    assert jobs(finished, CONFIG) == set()


def test_adding_a_language_runs_that_language_and_the_aggregates(finished):
    config = changed(languages={"targets": ["es", "it"]})
    lists = [f"results/tiny/corpus/{role}.ids.jsonl" for role in ("preferences", "benchmark", "instructions")]
    done = snakemake(finished, config, *lists)
    assert done.returncode == 0, done.stdout
    rerun = set(re.findall(r"^(?:local)?(?:rule|checkpoint) (\w+):", done.stdout, re.M))
    assert rerun == {"translate_rows", "select_rows"}
    # Every model is scored on the new language, from a store that holds the others.
    expected = {f"{rule} llama {t} 0" for rule in ("score_benchmark", "score_answers") for t in ("en", "es", "it")}
    expected |= {"embed_benchmark llama", "train_reward_model llama it 0", "sample_answers llama it"}
    expected |= {"summarise_translation", "draw_translation"}
    assert jobs(finished, config) == expected | AGGREGATES | DRAWINGS

    done = snakemake(finished, config, "results/tiny/scores/llama/en/seed0/it.parquet")
    assert done.returncode == 0, done.stdout
    assert re.findall(r"scoring (\w+):", done.stdout) == ["it"]


def test_a_second_translation_of_the_same_texts_flows_through_the_study_beside_the_first(finished):
    """The variant replays the same memory under another name, so its numbers are those of the first translation."""
    shutil.copy(finished / "resources/sample/memory.tmx", finished / "other.tmx")
    variant = {"engine": "memory", "memory": "other.tmx", "targets": ["es"]}
    config = changed(translation={"variants": {"other": variant}})
    lists = [f"results/tiny/corpus/{role}.ids.jsonl" for role in ("preferences", "benchmark", "instructions")]
    assert snakemake(finished, config, *lists).returncode == 0
    waiting = jobs(finished, config)
    assert {j for j in waiting if j.startswith(("train", "sample"))} == {
        "train_reward_model llama es-x-other 0",
        "sample_answers llama es-x-other",
    }
    done = snakemake(finished, config)
    assert done.returncode == 0, done.stdout
    transfer = pd.read_csv(finished / "results/tiny/tables/transfer.csv")
    assert set(transfer["train_language"]) == set(transfer["eval_language"]) == {"en", "es", "es-x-other"}
    plain = transfer.drop(columns=["train_language", "eval_language"])
    first = plain[(transfer["train_language"] == "es") & (transfer["eval_language"] == "es")]
    second = plain[(transfer["train_language"] == "es-x-other") & (transfer["eval_language"] == "es-x-other")]
    assert first.to_numpy().tolist() == second.to_numpy().tolist()
    table = pd.read_csv(finished / "results/tiny/tables/translation.csv")
    assert set(table["language"]) == {"es", "es-x-other"}


def test_anything_that_judges_gets_a_row_in_the_tables_of_every_benchmark(finished):
    """Off-the-shelf models, baselines, a mixture and translate-test, on two benchmarks."""
    head = finished / "off-the-shelf"
    shutil.copytree(finished / "results/tiny/models/llama/en/seed0", head, dirs_exist_ok=True)
    lines = (ROOT / "resources/sample/benchmark.jsonl").read_text(encoding="utf-8").splitlines(keepends=True)
    (finished / "second.jsonl").write_text("".join(lines[3::12]), encoding="utf-8")
    config = changed(
        study="judges",
        benchmarks={"second": {"path": "second.jsonl", "sections": "subsets"}},
        mixtures={"both": {"en": 1, "es": 1}},
        reward_models={
            "published": {"kind": "classifier", "path": "off-the-shelf"},
            "likelihood": {"kind": "likelihood", "path": "llama"},
            "longer": {"kind": "length", "unit": "tokens", "tokenizer": "llama"},
            "random": {"kind": "random"},
        },
        translation={"translate_test": {"engine": "memory"}},
    )
    tables = finished / "results/judges/tables"
    wanted = [
        f"results/judges/{kind}" for kind in ("tables/paper.md", "tables/second/paper.md", "figures/transfer.png")
    ]
    done = snakemake(finished, config, *wanted)
    assert done.returncode == 0, done.stdout

    frame = pd.read_csv(tables / "transfer.csv")
    average = frame[frame["section"] == "average"].set_index(["base_model", "train_language", "eval_language"])
    own = {("llama", t) for t in ("en", "es", "both", "translate-test")}
    shelf = {(name, "-") for name in config["reward_models"]}
    assert set(average.index.droplevel("eval_language")) == own | shelf
    assert len(average) == len(own | shelf) * 2

    accuracy = average["accuracy"]
    # The memory gives the English original back, so that translate-test judges what the English model judged.
    assert accuracy["llama", "translate-test", "es"] == accuracy["llama", "en", "en"]
    scores = finished / "results/judges/scores"
    published, trained = (pd.read_parquet(scores / folder / "es.parquet") for folder in ("published", "llama/en/seed0"))
    # The same weights as a model of our own and as anybody's.
    assert (published["reward_chosen"] - trained["reward_chosen"]).abs().max() < 1e-4
    mixed = json.loads((finished / "results/judges/models/llama/both/seed0/manifest.json").read_text())
    assert (mixed["pairs"], mixed["languages"]) == (12, "en, es")

    second = pd.read_csv(tables / "second/transfer.csv")
    assert set(second["section"]) == {"chat", "chat-hard", "safety", "reasoning", "average"}
    assert "translate-test" not in set(second["train_language"])
    assert (tables / "second/paper.tex").is_file()


def test_a_row_lost_in_a_new_language_retrains_the_others(finished, checkout):
    rows = [json.loads(line) for line in (checkout / "preferences.jsonl").read_text(encoding="utf-8").splitlines()]
    memory = checkout / "lossy.tmx"
    text = (checkout / "resources/sample/memory.tmx").read_text(encoding="utf-8")
    unit = re.search(rf'<tu tuid="{rows[0]["id"]}/rejected">.*?</tu>', text, re.S).group(0)
    chosen = re.search(rf'<tu tuid="{rows[0]["id"]}/chosen">.*?</tu>', text, re.S).group(0)
    seg = r'<tuv xml:lang="it">.*?</tuv>'
    equal = re.sub(seg, lambda _: re.search(seg, chosen, re.S).group(0), unit, flags=re.S)
    memory.write_text(text.replace(unit, equal), encoding="utf-8")
    config = changed(languages={"targets": ["es", "it"]}, translation={"memory": "lossy.tmx"}, study="lossy")
    shutil.copytree(checkout / "results/tiny", checkout / "results/lossy", dirs_exist_ok=True)
    done = snakemake(finished, config, "results/lossy/corpus/preferences.ids.jsonl")
    assert done.returncode == 0, done.stdout
    ids = (checkout / "results/lossy/corpus/preferences.ids.jsonl").read_text().splitlines()
    assert len(ids) == len(rows) - 1
    ledger = pd.read_csv(checkout / "results/lossy/corpus/preferences.dropped.csv")
    assert ledger[["id", "language", "reason"]].to_numpy().tolist() == [
        [rows[0]["id"], "it", "chosen and rejected are identical after translation"]
    ]


FAULTS = {
    "a missing segment": (
        "benchmark.jsonl",
        b'{"id": "new", "subset": "chat", "prompt": "Not in memory?", "chosen": "No.", "rejected": "Yes."}\n',
        ["segments have no en -> es translation", "'Not in memory?'"],
    ),
    "a subset of no section": (
        "benchmark.jsonl",
        b'{"id": "new", "subset": "chat-hrad", "prompt": "Two?", "chosen": "No.", "rejected": "Yes."}\n',
        ["benchmark.jsonl: row 'new' has subset 'chat-hrad'", "every row needs one of chat, chat-hard"],
    ),
    "a duplicate id": (
        "preferences.jsonl",
        b'{"id": "p001", "prompt": "a", "chosen": "b", "rejected": "c"}\n',
        ["preferences.jsonl: 1 invalid row", "line 13, id p001: duplicate id, first used in line 1"],
    ),
    "invalid UTF-8": ("instructions.jsonl", b'{"id": "\xff"}\n', ["line 4, id none: invalid UTF-8 at byte 9"]),
}


@pytest.mark.parametrize("name", FAULTS)
def test_bad_input_stops_the_run_before_any_training(checkout, name):
    file, line, words = FAULTS[name]
    path = checkout / file
    before = path.read_bytes()
    config = changed(study="bad_" + str(list(FAULTS).index(name)))
    try:
        path.write_bytes(before + line)
        done = snakemake(checkout, config, "--keep-going")
    finally:
        path.write_bytes(before)
    assert done.returncode == 1
    for word in [*words, "check log file", "finished jobs are kept"]:
        assert word in done.stdout
    logs = {p.name for p in (checkout / f"results/{config['study']}/logs").iterdir()}
    assert logs <= {"read_rows", "translate_rows", "prepare_base_model", "select_rows", "find_contamination"}


def test_a_bad_config_runs_nothing(checkout):
    done = snakemake(checkout, {**CONFIG, "languagse": {}})
    assert done.returncode == 1
    assert "did you mean 'languages'?" in done.stdout
    assert "Traceback" not in done.stdout


@pytest.mark.parametrize("study", ["paper", "m_rewardbench"])
def test_the_published_studies_plan_and_dry_run_without_a_network(checkout, study):
    config = yaml.safe_load((ROOT / f"studies/{study}.yaml").read_text(encoding="utf-8"))
    done = snakemake(checkout, config, "plan")
    assert done.returncode == 0, done.stdout
    assert "benchmark: not downloaded yet, 2,869 rows" in done.stdout
    assert re.search(r"in all: \d+\.\d+ GPU hours", done.stdout)
    waiting = jobs(checkout, config)
    assert {"fetch_model armorm-8b path", "score_reward_model armorm-8b"} <= waiting
    trained = {job for job in waiting if job.startswith("train_reward_model")}
    assert len(trained) == {"paper": 2 * (5 + 3), "m_rewardbench": 0}[study]

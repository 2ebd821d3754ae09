"""The real DAG, end to end on a tiny model, and what its provenance makes rerun.

Every test has a copy of one finished study. Nothing is stubbed: the base is a randomly initialised Llama in a local
folder, the texts are the embedded ones; jobs, and Snakemake itself but where a test says otherwise, are forked from an
interpreter that has the libraries loaded.
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
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer

import golden
from conftest import ROOT, build_model, build_tokenizer, warm_python, warm_snakemake
from rmtransfer.kit import stages
from rmtransfer.report.catalogue import FIGURES
from rmtransfer.transfer.measures import MEASURES

pytestmark = pytest.mark.slow

CONFIG = {
    "study": "tiny",
    "languages": {"source": "en", "targets": ["es"]},
    "base_models": {"llama": {"path": "tiny"}},
    "preferences": {"path": "preferences.jsonl"},
    "benchmarks": {"sample": {"path": "benchmark.jsonl"}},
    "instructions": {"path": "instructions.jsonl"},
    "translation": {"engine": "memory", "memory": "resources/sample/memory.tmx"},
    "training": {"learning_rate": 1e-3, "pairs_per_step": 4, "max_length": 512},  # what the tiny base reads
    "alignment": {"samples": 2, "best_of": [1, 2], "max_new_tokens": 4},
    "figures": {"dpi": 72},
    "resources": {"tokens_per_batch": 4096, "device": "cpu"},
}
OF_A_BENCHMARK = [f.name for f in FIGURES if f.scope == "benchmark" and f.needs not in ("parts", "sizes")]
OF_THE_STUDY = [f.name for f in FIGURES if f.scope == "study" and f.needs not in ("held_out", "constraints")]
TABLES_OF_A_BENCHMARK = {"evaluate_transfer sample", "write_paper_tables sample", "gather_variance"}
DRAWINGS_OF_A_BENCHMARK = {f"draw_{name} sample" for name in OF_A_BENCHMARK}
PICKS = {"evaluate_best_of_n", "evaluate_agreement", "evaluate_alignment"}
AGGREGATES = TABLES_OF_A_BENCHMARK | {"analyse_representations", *PICKS, "gather_training_logs"}
DRAWINGS = DRAWINGS_OF_A_BENCHMARK | {f"draw_{name}" for name in OF_THE_STUDY if name != "translation"}


def models(*trained: str, rules=("score_with_states", "score_answers")) -> set[str]:
    """Jobs of the reward models trained in these languages."""
    scored = {"score_with_states": " sample", "score_answers": " llama instructions"}  # a benchmark, a policy's answers
    return {f"{rule} llama/{train}/seed0{scored.get(rule, '')}" for rule in rules for train in trained}


def snakemake(
    folder: Path, config: dict, *arguments: str, hash_seed: int = 0, cold: bool = False
) -> subprocess.CompletedProcess:
    """Run it as a user does.

    Args:
        hash_seed: the order in which sets are gone through, in Snakemake and its jobs.
        cold: Snakemake is a Python of its own, which goes through its sets in an order of its own.
    """
    (folder / "study.yaml").write_text(yaml.safe_dump(config))
    cores = [] if "--report" in arguments else ["--cores", "2"]  # the README's commands
    return subprocess.run(
        [sys.executable, "-m", "snakemake", *arguments, *cores, "--configfile", "study.yaml"],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, **(warm_python if cold else warm_snakemake)(hash_seed), "COLUMNS": "200"},
        check=False,
    )


def jobs(folder: Path, config: dict, *, cold: bool = False) -> set[str]:
    """What a dry run would do, as "rule wildcard wildcard ..."; rule all apart."""
    done = snakemake(folder, config, "--dry-run", cold=cold)
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


def set_up(folder: Path) -> None:
    """Copy the workflow, with a tiny base model and the first rows of each embedded file."""
    for name in ("workflow", "resources", "envs", "studies"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "Snakefile", folder)
    for name, step in (("preferences", 8), ("benchmark", 15), ("instructions", 8)):
        lines = (ROOT / f"resources/sample/{name}.jsonl").read_text(encoding="utf-8").splitlines(keepends=True)
        (folder / f"{name}.jsonl").write_text("".join(islice(lines, 0, None, step)), encoding="utf-8")
    tokenizer = build_tokenizer("llama")
    build_model("llama", tokenizer).save_pretrained(folder / "tiny")
    tokenizer.save_pretrained(folder / "tiny")


def run_study(folder: Path) -> None:
    set_up(folder)
    done = snakemake(folder, CONFIG)
    assert done.returncode == 0, done.stdout
    (folder / "shown.txt").write_text(done.stdout)


@pytest.fixture
def checkout(shared, tmp_path) -> Path:
    """A study that was never run."""
    return shutil.copytree(shared("study", set_up), tmp_path / "study")


@pytest.fixture
def finished(shared, tmp_path) -> Path:
    """A finished study, Snakemake's metadata included: without it, no param could trigger anything."""
    return shutil.copytree(shared("finished", run_study), tmp_path / "study", symlinks=True)


def test_results_follow_the_contract(finished):
    results = finished / "results/tiny"
    transfer = pd.read_csv(results / "tables/sample/transfer.csv")
    assert list(transfer.columns) == list(MEASURES["transfer"].columns)
    assert {p.stem for p in (results / "tables/sample").glob("*.csv")} == set(MEASURES)
    assert len(transfer) == 2 * 2 * 5  # training languages x evaluation languages x four sections and their average
    model = results / "models/llama/en/seed0"
    assert AutoModelForSequenceClassification.from_pretrained(model).config.num_labels == 1
    assert AutoTokenizer.from_pretrained(model).chat_template
    assert json.loads((model / "manifest.json").read_text())["pairs"] == 12
    for folder, names in (("figures/sample", OF_A_BENCHMARK), ("figures", OF_THE_STUDY)):
        files = {p.name for p in (results / folder).iterdir() if p.is_file()}
        assert files == {f"{name}.{suffix}" for name in names for suffix in ("png", "pdf")}
    assert len(FIGURES) >= 14
    scores = pd.read_parquet(results / "scores/llama/en/seed0/sample/es.parquet")
    assert set(scores["language"]) == {"es"}
    assert json.loads((results / "scores/llama/en/seed0/sample/settings.json").read_text())["kind"] == "trained"
    assert "reward model is" in (results / "tables/sample/answer.txt").read_text()
    assert not (results / ".work/training").exists()


def test_baselines_rerun_nothing_of_what_is_there(finished):
    """A probe asks the base for the states of the preferences; no model is trained, and none that is there scores again."""
    heads = {"fresh": {"kind": "untrained", "path": "llama"}, "linear": {"kind": "probe", "path": "llama"}}

    def before(reward_models: dict) -> set[str]:
        found = jobs(finished, changed(reward_models=reward_models))
        made_of_scores = TABLES_OF_A_BENCHMARK | DRAWINGS_OF_A_BENCHMARK
        assert found >= made_of_scores
        return found - made_of_scores

    assert before({"fresh": heads["fresh"]}) == {"score_states fresh sample"}
    assert before(heads) == {
        "embed_base llama/base preferences",
        *(f"score_states {head} sample" for head in ("fresh", "linear/en/seed0", "linear/es/seed0")),
    }


def test_the_tables_are_those_that_were_kept(finished):
    """Whoever refreshes a stage's digest says that results do not change: here they are."""
    tables = finished / "results/tiny/tables"
    assert golden.differences(tables) == [], (
        f"if that is meant, raise the stage's number and keep these tables: python tests/golden.py {tables}"
    )
    altered = pd.read_csv(tables / "sample/transfer.csv")
    altered.loc[3, "accuracy"] += 0.001
    altered.to_csv(tables / "sample/transfer.csv", index=False)
    assert len(golden.differences(tables)) == 1


def test_the_terminal_shows_progress_and_the_answer(finished):
    shown = (finished / "shown.txt").read_text()
    assert "[train_reward_model llama/es/seed0] training: 3/3 steps" in shown
    assert "scoring en: " in shown
    assert "sampling en+es: " in shown
    assert "Results: results/tiny/" in shown
    for log in (finished / "results/tiny/logs").rglob("*.log"):
        assert "started" in log.read_text(encoding="utf-8")


def test_a_second_run_does_nothing(finished):
    assert jobs(finished, CONFIG, cold=True) == set()
    assert "Nothing to be done" in snakemake(finished, CONFIG).stdout


def test_speed_settings_rerun_nothing(finished):
    assert jobs(finished, changed(resources={"tokens_per_batch": 64, "checkpoint_minutes": 1})) == set()


def test_another_day_for_templates_that_write_none_reruns_nothing(finished):
    assert jobs(finished, changed(chat={"date": "2025-01-02"})) == set()


def test_another_chat_template_translates_nothing_again(finished):
    named = {"path": "tiny", "chat_template": "resources/chat_templates/question_answer.jinja"}
    found = jobs(finished, changed(base_models={"llama": named}))
    assert {"prepare_base_model llama", "check_templates", "select_rows"} <= found
    assert not [job for job in found if job.startswith(("translate_rows", "read_rows"))]


def test_a_figure_option_redraws_figures_only(finished):
    assert jobs(finished, changed(figures={"dpi": 80})) == DRAWINGS | {"draw_translation"}


def test_other_sections_score_nothing_again(finished):
    sample = {**CONFIG["benchmarks"]["sample"], "sections": "subsets"}
    assert jobs(finished, changed(benchmarks={"sample": sample})) == TABLES_OF_A_BENCHMARK | DRAWINGS_OF_A_BENCHMARK


def test_the_learning_rate_retrains_and_translates_nothing(finished):
    trained = models("en", "es", rules=("train_reward_model", "score_with_states", "score_answers"))
    assert jobs(finished, changed(training={"learning_rate": 2e-3})) == trained | AGGREGATES | DRAWINGS


def test_best_of_n_options(finished):
    assert jobs(finished, changed(alignment={"best_of": [1]})) == {
        "evaluate_best_of_n",
        "evaluate_alignment",
        "draw_best_of_n",
        "draw_over_optimisation",
    }


def test_a_stages_version_reruns_its_descendants_only(finished):
    file = finished / "workflow/rmtransfer/kit/stages.py"
    before = file.read_text()
    try:
        for name, expected in {
            "TRANSFER": TABLES_OF_A_BENCHMARK | DRAWINGS_OF_A_BENCHMARK,
            "FIGURES": DRAWINGS | {"draw_translation"},
            "REPRESENTATION": {"analyse_representations", "draw_representation", "draw_pca"},
        }.items():
            version = getattr(stages, name).version
            changed_version, found = re.subn(
                rf"^({name} = Stage\(\s*(?:version=)?){version}\b", rf"\g<1>{version}0", before, flags=re.M
            )
            assert found == 1
            file.write_text(changed_version)
            assert jobs(finished, CONFIG) == expected
    finally:
        file.write_text(before)


def test_same_seed_same_tables_and_a_report(finished):
    tables = [
        p.relative_to(finished / "results/tiny/tables") for p in (finished / "results/tiny/tables").rglob("*.csv")
    ]
    assert len(tables) == len(MEASURES) + 9
    again = [f"results/again/tables/{name}" for name in tables]
    done = snakemake(finished, changed(study="again"), *again, hash_seed=1)
    assert done.returncode == 0, done.stdout
    for name in tables:
        first, second = (finished / f"results/{study}/tables/{name}" for study in ("tiny", "again"))
        assert first.read_bytes() == second.read_bytes()
    done = snakemake(finished, CONFIG, "--report", "results/tiny/report.html")
    assert done.returncode == 0, done.stdout
    report = (finished / "results/tiny/report.html").read_text(encoding="utf-8")
    assert "evaluate_transfer" in report
    assert "difference in percentage points" in report
    answer = (finished / "results/tiny/tables/sample/answer.txt").read_text(encoding="utf-8").split("(")[0].strip()
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
    lists = [f"results/tiny/corpus/{part}.ids.jsonl" for part in ("preferences", "sample", "instructions")]
    done = snakemake(finished, config, *lists)
    assert done.returncode == 0, done.stdout
    rerun = set(re.findall(r"^(?:local)?(?:rule|checkpoint) (\w+):", done.stdout, re.M))
    assert rerun == {"translate_rows", "select_rows"}
    # Every model is scored on the new language, from a store that holds the others.
    expected = models("en", "es", "it") | {"embed_base llama/base sample", "train_reward_model llama/it/seed0"}
    expected |= {"sample_answers llama instructions", "summarise_translation", "draw_translation"}
    assert jobs(finished, config) == expected | AGGREGATES | DRAWINGS

    done = snakemake(finished, config, "results/tiny/scores/llama/en/seed0/sample/it.parquet")
    assert done.returncode == 0, done.stdout
    assert re.findall(r"scoring (\w+):", done.stdout) == ["it"]


def test_adding_parts_trains_and_scores_the_parts_and_what_was_trained_stays(finished):
    config = changed(training={"pairs": [8, 4]})
    parts = [f"{language}.{pairs}" for pairs in (4, 8) for language in ("en", "es")]
    expected = {f"train_reward_model llama/{part}/seed0" for part in parts}
    expected |= {f"score llama/{part}/seed0 sample" for part in parts}
    expected |= {"evaluate_scaling sample", "draw_dose sample"}
    # No hidden states and no sampled answers of parts: representation and best-of-n stay.
    expected |= {"gather_training_logs", "draw_training"}
    assert jobs(finished, config) == expected | TABLES_OF_A_BENCHMARK | DRAWINGS_OF_A_BENCHMARK

    done = snakemake(finished, config)
    assert done.returncode == 0, done.stdout
    assert jobs(finished, config) == set()
    results = finished / "results/tiny"
    for part in parts:
        manifest = json.loads((results / f"models/llama/{part}/seed0/manifest.json").read_text())
        assert (manifest["pairs"], manifest["languages"]) == (int(part[3:]), part[:2])
    table = pd.read_csv(results / "tables/sample/scaling.csv")
    assert set(table["pairs"]) == {4, 8, 12}
    assert set(table["parameters"]) == {AutoModelForCausalLM.from_pretrained(finished / "tiny").num_parameters()}
    assert (results / "figures/sample/dose.png").is_file()

    done = snakemake(finished, changed(training={"pairs": [12]}))
    assert done.returncode
    assert "training.pairs: 12 is no part of the 12 pairs that there are to train on" in done.stdout


def test_a_second_translation_of_the_same_texts_flows_through_the_study_beside_the_first(finished):
    """The variant replays the same memory under another name, so its numbers are those of the first translation."""
    shutil.copy(finished / "resources/sample/memory.tmx", finished / "other.tmx")
    variant = {"engine": "memory", "memory": "other.tmx", "targets": ["es"]}
    config = changed(translation={"variants": {"other": variant}})
    lists = [f"results/tiny/corpus/{part}.ids.jsonl" for part in ("preferences", "sample", "instructions")]
    assert snakemake(finished, config, *lists).returncode == 0
    waiting = jobs(finished, config)
    assert {j for j in waiting if j.startswith(("train", "sample"))} == {
        "train_reward_model llama/es-x-other/seed0",
        "sample_answers llama instructions",
    }
    results = finished / "results/tiny"
    wanted = [*(results / "tables").rglob("*.csv"), results / "figures/sample/transfer.png"]
    done = snakemake(finished, config, *(str(path.relative_to(finished)) for path in wanted))
    assert done.returncode == 0, done.stdout
    transfer = pd.read_csv(finished / "results/tiny/tables/sample/transfer.csv")
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
        benchmarks={**CONFIG["benchmarks"], "second": {"path": "second.jsonl", "sections": "subsets"}},
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
        f"results/judges/{file}"
        for file in ("tables/sample/paper.md", "tables/second/paper.md", "figures/sample/transfer.png")
    ]
    done = snakemake(finished, config, *wanted)
    assert done.returncode == 0, done.stdout

    frame = pd.read_csv(tables / "sample/transfer.csv")
    average = frame[frame["section"] == "average"].set_index(["base_model", "train_language", "eval_language"])
    own = {("llama", t) for t in ("en", "es", "both", "translate-test")}
    shelf = {(name, "-") for name in config["reward_models"]}
    assert set(average.index.droplevel("eval_language")) == own | shelf
    assert len(average) == len(own | shelf) * 2

    accuracy = average["accuracy"]
    # The memory gives the English original back, so that translate-test judges what the English model judged.
    assert accuracy["llama", "translate-test", "es"] == accuracy["llama", "en", "en"]
    scores = finished / "results/judges/scores"
    published, trained = (
        pd.read_parquet(scores / folder / "sample/es.parquet") for folder in ("published", "llama/en/seed0")
    )
    # The same weights as a model of our own and as anybody's.
    assert (published["reward_chosen"] - trained["reward_chosen"]).abs().max() < 1e-4
    mixed = json.loads((finished / "results/judges/models/llama/both/seed0/manifest.json").read_text())
    assert (mixed["pairs"], mixed["languages"]) == (12, "en, es")

    second = pd.read_csv(tables / "second/transfer.csv")
    assert set(second["section"]) == {"chat", "chat-hard", "safety", "reasoning", "average"}
    assert "translate-test" not in set(second["train_language"])
    assert (tables / "second/paper.tex").is_file()


def test_a_row_lost_in_a_new_language_retrains_the_others(finished):
    rows = [json.loads(line) for line in (finished / "preferences.jsonl").read_text(encoding="utf-8").splitlines()]
    memory = finished / "lossy.tmx"
    text = (finished / "resources/sample/memory.tmx").read_text(encoding="utf-8")
    unit = re.search(rf'<tu tuid="{rows[0]["id"]}/rejected">.*?</tu>', text, re.S).group(0)
    chosen = re.search(rf'<tu tuid="{rows[0]["id"]}/chosen">.*?</tu>', text, re.S).group(0)
    seg = r'<tuv xml:lang="it">.*?</tuv>'
    equal = re.sub(seg, lambda _: re.search(seg, chosen, re.S).group(0), unit, flags=re.S)
    memory.write_text(text.replace(unit, equal), encoding="utf-8")
    config = changed(languages={"targets": ["es", "it"]}, translation={"languages": {"it": {"memory": "lossy.tmx"}}})
    done = snakemake(finished, config, "results/tiny/corpus/preferences.ids.jsonl")
    assert done.returncode == 0, done.stdout
    ids = (finished / "results/tiny/corpus/preferences.ids.jsonl").read_text().splitlines()
    assert len(ids) == len(rows) - 1
    ledger = pd.read_csv(finished / "results/tiny/corpus/preferences.dropped.csv")
    assert ledger[["id", "language", "reason"]].to_numpy().tolist() == [
        [rows[0]["id"], "it", "chosen and rejected are identical after translation"]
    ]
    assert models("en", "es", "it", rules=("train_reward_model",)) <= jobs(finished, config)


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
    assert logs <= {
        *(
            "read_rows",
            "translate_rows",
            "prepare_base_model",
            "check_templates.log",
            "select_rows",
            "find_contamination",
        )
    }


def test_sizes_that_cannot_be_stop_the_run_before_any_training(checkout):
    config = changed(
        study="sizes",
        training={"pairs": [8, 12]},
        mixtures={"both": {"en": 1, "es": 1, "pairs": 24}, "en-es": {"en": 3, "es": 1, "pairs": 24}},
    )
    done = snakemake(checkout, config, "--keep-going")
    assert done.returncode == 1
    assert "training.pairs: 12 is no part of the 12 pairs" in done.stdout
    assert "mixtures.en-es.pairs: of 24 pairs 18 would be in en, and there are 12" in done.stdout
    assert "mixtures.both" not in done.stdout
    assert "train_reward_model" not in {path.name for path in (checkout / "results/sizes/logs").iterdir()}


def test_a_bad_config_runs_nothing(checkout):
    done = snakemake(checkout, {**CONFIG, "languagse": {}})
    assert done.returncode == 1
    assert "did you mean 'languages'?" in done.stdout
    assert "Traceback" not in done.stdout


@pytest.mark.parametrize("study", ["paper", "m_rewardbench"])
def test_the_published_studies_plan_and_dry_run_without_a_network(checkout, study):
    config = yaml.safe_load((ROOT / f"studies/{study}.yaml").read_text(encoding="utf-8"))
    if study == "paper":  # whoever runs it says which commit
        config["preferences"]["revision"] = config["held_out_instructions"]["revision"] = 40 * "0"
    done = snakemake(checkout, config, "plan")
    assert done.returncode == 0, done.stdout
    assert "m-rewardbench: not downloaded yet, 2,869 rows" in done.stdout
    assert re.search(r"in all: \d+\.\d+ GPU hours", done.stdout)
    waiting = jobs(checkout, config)
    assert {"fetch_model armorm-8b path", "score armorm-8b m-rewardbench"} <= waiting
    trained = {job for job in waiting if job.startswith("train_reward_model")}
    assert len(trained) == {"paper": 2 * (5 + 3) * 3, "m_rewardbench": 0}[study]  # bases, training sets, seeds
    aligned = {job for job in waiting if job.startswith("align_policy")}
    assert len(aligned) == {"paper": 2 * 2 * 2 * 3, "m_rewardbench": 0}[study]  # methods, bases, selectors, seeds

"""What a change makes rerun is said beforehand, and what it replaces comes back when the change is undone."""

import json
import re
import shutil
from base64 import urlsafe_b64encode
from pathlib import Path

import pytest
from test_workflow import CONFIG, changed, run_study, snakemake

pytestmark = pytest.mark.slow

FASTER = changed(training={"learning_rate": 2e-3})
KEPT = "results/tiny/.work/kept"


@pytest.fixture
def finished(shared, tmp_path) -> Path:
    """See test_workflow.py."""
    return shutil.copytree(shared("finished", run_study), tmp_path / "study", symlinks=True)


def told(folder: Path, config: dict, target: str = "why") -> str:
    """What a target prints, between the lines of Snakemake."""
    done = snakemake(folder, config, target)
    assert done.returncode == 0, done.stdout
    return re.search(rf"\[{target}\] \n(.*?)\n\[\w{{3}} \w{{3}}", done.stdout, re.S).group(1)


def sections(text: str) -> dict[str, list[str]]:
    """Title to lines."""
    found = [block.splitlines() for block in text.split("\n\n")]
    return {lines[0]: [line.strip() for line in lines[1:]] for lines in found}


def files_of(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and not path.name.startswith(".")
    }


def test_a_learning_rate_and_back(finished):
    models = finished / "results/tiny/models"
    before = files_of(models)
    assert told(finished, CONFIG) == "Nothing would run: results/tiny is what the configuration asks for."

    shown = sections(told(finished, FASTER))
    cause = "because training.learning_rate was 0.001 and is 0.002:"
    assert shown[cause] == ["2 train_reward_model (llama/en/seed0, llama/es/seed0)"]
    assert {"2 score_with_states (llama/en/seed0 sample, llama/es/seed0 sample)", "1 evaluate_best_of_n"} <= set(
        shown["after them:"]
    )
    assert not any("train" in line and "gather" not in line for line in shown["after them:"])
    assert list(shown)[-1] == f"kept: 2 models that this run replaces stay in {KEPT}"

    logs = "results/tiny/tables/training.csv"  # asks for both models and no more
    done = snakemake(finished, FASTER, logs)
    assert done.returncode == 0, done.stdout
    assert "[train_reward_model llama/es/seed0] training: 3/3 steps" in done.stdout
    assert files_of(models) != before

    shown = sections(told(finished, CONFIG))
    assert shown["because training.learning_rate was 0.002 and is 0.001:"] == [
        "2 train_reward_model (llama/en/seed0, llama/es/seed0)",
        "all of them come back from what is kept, and what was scored of them",
    ]
    listed = told(finished, CONFIG, "kept")
    assert f"Kept in {KEPT}: 2 models that are in results now" in listed
    assert len(re.findall(r"models/llama/e[ns]/seed0/\w{16}  training.learning_rate: 0.001$", listed, re.M)) == 2

    done = snakemake(finished, CONFIG, logs)
    assert done.returncode == 0, done.stdout
    assert "training:" not in done.stdout
    assert len(re.findall(r"\[train_reward_model llama/e[ns]/seed0\] made before .*: taken from", done.stdout)) == 2
    assert files_of(models) == before
    # What was scored with these models is there, too.
    done = snakemake(finished, CONFIG, "results/tiny/scores/llama/en/seed0/sample/es.parquet")
    assert done.returncode == 0, done.stdout
    assert "score_with_states llama/en/seed0 sample" in done.stdout
    assert "scoring en:" not in done.stdout


def test_answers_come_back_and_a_checkpoint_leaves_open_what_it_decides(finished):
    answers = finished / "results/tiny/alignment/answers/llama/instructions/es.parquet"
    before = answers.read_bytes()
    done = snakemake(finished, changed(alignment={"temperature": 0.8}), str(answers.relative_to(finished)))
    assert done.returncode == 0, done.stdout
    assert answers.read_bytes() != before
    # Rows of the benchmark say nothing of what is trained, but that is known when they have been selected.
    rows = (finished / "benchmark.jsonl").read_text(encoding="utf-8").splitlines(keepends=True)
    (finished / "benchmark.jsonl").write_text("".join(rows[:-1]), encoding="utf-8")
    shown = sections(told(finished, CONFIG))
    assert shown["because benchmark.jsonl has another content:"] == ["1 read_rows (sample)"]
    assert "1 select_rows" in shown["after them:"]
    (perhaps,) = (lines for title, lines in shown.items() if title.startswith("perhaps, as the rows decide"))
    assert "2 train_reward_model (llama/en/seed0, llama/es/seed0)" in perhaps
    assert "2 score_with_states (llama/en/seed0 sample, llama/es/seed0 sample)" in perhaps

    done = snakemake(finished, CONFIG, str(answers.relative_to(finished)))
    assert done.returncode == 0, done.stdout
    assert "sampling es:" not in done.stdout
    assert answers.read_bytes() == before


def test_a_kept_model_that_is_damaged_is_trained_again(finished):
    model = finished / "results/tiny/models/llama/en/seed0"
    before = json.loads((model / "manifest.json").read_text())["files"]
    (entry,) = (finished / KEPT / "models/llama/en/seed0").iterdir()
    config = entry / "seed0/config.json"
    config.write_text(config.read_text() + " ")
    shutil.rmtree(model)
    table = "results/tiny/tables/sample/paper.md"
    (finished / ".snakemake/incomplete" / urlsafe_b64encode(table.encode()).decode()).write_text(
        "{}"
    )  # of a killed run
    for name in ("tables/training.csv", "figures/training.png"):  # nobody asks for a model or this table by itself
        (finished / "results/tiny" / name).unlink()
    shown = sections(told(finished, CONFIG))
    assert shown["because results/tiny/models/llama/en/seed0 is missing:"] == [
        "1 train_reward_model (llama/en/seed0)",
        "all of them come back from what is kept, and what was scored of them",
    ]
    assert shown["because results/tiny/tables/training.csv is missing:"] == ["1 gather_training_logs"]
    assert shown[f"because {table} is what a killed run left behind:"] == ["1 write_paper_tables (sample)"]
    done = snakemake(finished, CONFIG, str(model.relative_to(finished)))
    assert done.returncode == 0, done.stdout
    assert "config.json: is not what was kept" in done.stdout
    assert "training: 3/3 steps" in done.stdout
    assert json.loads((model / "manifest.json").read_text())["files"] == before

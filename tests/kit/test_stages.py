"""A stage whose code moved says so, until its number is raised or its digest refreshed."""

import re
import shutil
import subprocess
import sys

import pytest

from conftest import ROOT
from rmtransfer.kit import stages

LIBRARY = ROOT / "workflow"
COMMAND = "PYTHONPATH=workflow python -m rmtransfer.kit.stages"


def test_no_stages_code_has_moved_without_a_word():
    moved = stages.moved()
    assert not moved, (
        f"the code of {', '.join(moved)} has moved. If results can change, give them a new number, so that what depends on "
        f"them runs again: {COMMAND} raise {' '.join(moved)}. If they cannot: {COMMAND} refresh {' '.join(moved)}"
    )


def test_every_rule_passes_the_number_of_the_stage_that_its_script_belongs_to():
    found: dict[str, set[str]] = {}
    for file in (LIBRARY / "rules").glob("*.smk"):
        blocks = re.split(r"^\s*(?:use rule \w+ as|rule|checkpoint)\b", file.read_text(encoding="utf-8"), flags=re.M)
        inherited = None
        for block in blocks[1:]:
            version = re.search(r"version=stages\.(\w+)\.version", block)
            script = re.search(r'"\.\./scripts/(\w+)\.py"', block)
            inherited = script.group(1) if script else inherited
            if version:
                found.setdefault(version.group(1), set()).add(inherited)
    assert found == {name: set(stage.scripts) for name, stage in stages.all_stages().items()}
    unnumbered = {p.stem for p in (LIBRARY / "scripts").glob("*.py")} - set().union(*found.values())
    assert unnumbered == {"plan", "import_memory", "why", "kept", "measure_gpus"}  # no result is made of what these do


@pytest.fixture
def library(tmp_path):
    """A copy whose digests are fresh, and ``moved(edits)``: the stages that edits to its files move."""
    folder = tmp_path / "workflow"
    for name in ("scripts", "rmtransfer"):
        shutil.copytree(LIBRARY / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    before = {name: stages.code_digest(stage, folder) for name, stage in stages.all_stages().items()}

    def moved(file: str, *edit: str) -> set[str]:
        path = folder / file
        text = path.read_text(encoding="utf-8")
        old, new = edit or (text, text + "\n_NEW = 1\n")
        assert text.count(old) == 1
        path.write_text(text.replace(old, new), encoding="utf-8")
        after = {name: stages.code_digest(stage, folder) for name, stage in stages.all_stages().items()}
        path.write_text(text, encoding="utf-8")
        return {name for name in before if before[name] != after[name]}

    return moved


READS_TEXTS = {"CORPUS", "TRANSLATION", "BASE_MODEL", "SELECTION", "TRAINING", "SCORING", "CONTAMINATION", "SAMPLING"}


@pytest.mark.parametrize(
    ("file", "expected"),
    [
        ("models/training.py", {"TRAINING", "ALIGNING"}),
        ("models/reward.py", {"TRAINING", "ALIGNING", "SCORING"}),  # by a scorer too, inside its methods
        ("texts/mixture.py", {"SELECTION", "TRAINING"}),  # selection refuses sets that are larger than what there is
        ("models/pretrained.py", {"BASE_MODEL"}),  # named in a catalogue
        ("scoring/rating.py", {"SCORING"}),  # named in a catalogue that a module of another catalogue uses
        ("scoring/probe.py", {"BASELINES"}),
        ("translation/deepl.py", {"TRANSLATION"}),
        ("report/figures/rewards.py", {"FIGURES"}),  # named in a string of the figures' catalogue
        ("alignment/best_of_n.py", {"BEST_OF_N", "ALIGNMENT"}),
        (
            "translation/__init__.py",
            {"TRANSLATION", "BEST_OF_N", "SAMPLING", "AGREEMENT", "CONSTRAINTS", "ALIGNMENT"},
        ),  # run before any module of the package
        ("kit/progress.py", set()),
        ("study/config.py", set()),
    ],
)
def test_an_edit_moves_the_stages_that_run_it(library, file, expected):
    assert library(f"rmtransfer/{file}") == expected


def test_what_many_stages_share_moves_all_of_them(library):
    assert library("rmtransfer/texts/corpus.py") >= READS_TEXTS - {"BASE_MODEL"}


def test_comments_docstrings_and_layout_move_nothing(library):
    file, line = "rmtransfer/models/artifact.py", "def rescore(\n"
    assert library(file, line, f"# A remark.\n\n\n{line}    # Another.\n") == set()
    assert library(file, '    """The largest difference', '    """More words: the largest difference') == set()
    line = "    model.config.use_cache = False"
    assert library(file, line, "    model.config.use_cache = (\n        False\n    )") == set()
    assert library(file, line, "    model.config.use_cache = None") == {"TRAINING", "ALIGNING"}


def test_a_script_moves_nothing(library):
    """Snakemake sees it itself."""
    assert library("scripts/score.py") == set()


def test_raising_and_refreshing(tmp_path):
    folder = tmp_path / "workflow"
    for name in ("scripts", "rmtransfer"):
        shutil.copytree(LIBRARY / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))

    def run(*arguments: str) -> tuple[int, str]:
        done = subprocess.run(
            [sys.executable, "-m", "rmtransfer.kit.stages", *arguments],
            cwd=folder,
            stdout=subprocess.PIPE,
            text=True,
            check=False,
        )
        return done.returncode, done.stdout.strip()

    def numbers() -> dict[str, int]:
        text = (folder / "rmtransfer/kit/stages.py").read_text(encoding="utf-8")
        return {name: int(number) for name, number in re.findall(r"^(\w+) = Stage\(\s*(\d+)", text, re.M)}

    assert run("refresh")[0] == 0
    assert run() == (0, "no stage's code has moved")
    before = numbers()
    assert before == {name: stage.version for name, stage in stages.all_stages().items()}
    for name in ("models/training.py", "models/reward.py", "scoring/untrained.py"):
        with (folder / "rmtransfer" / name).open("a", encoding="utf-8") as file:
            file.write("\n_NEW = 1\n")
    assert run() == (1, "TRAINING\nSCORING\nBASELINES\nALIGNING")
    assert run("raise", "TRAINING") == (0, "TRAINING: raise")
    assert run() == (1, "SCORING\nBASELINES\nALIGNING")
    assert run("refresh", "SCORING") == (0, "SCORING: refresh")
    assert run() == (1, "BASELINES\nALIGNING")
    assert run("refresh") == (0, "BASELINES: refresh\nALIGNING: refresh")
    assert run()[0] == 0
    assert numbers() == {**before, "TRAINING": before["TRAINING"] + 1}
    assert run("raise")[0] == run("refresh", "NOTHING")[0] == run("reset")[0] == 2


def test_reading_a_number_loads_and_computes_nothing():
    code = "import sys; from rmtransfer.kit import stages; print(sorted(m for m in sys.modules if m.startswith('rmtransfer')))"
    environment = {"PYTHONPATH": str(LIBRARY)}
    shown = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == "['rmtransfer', 'rmtransfer.kit', 'rmtransfer.kit.stages']"

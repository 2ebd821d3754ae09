"""The environments of envs/: each holds what its jobs import, at the lock's versions, and all are made alike."""

import ast
import importlib.metadata
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from conftest import ROOT
from rmtransfer.kit.stages import Stage, modules_of

WORKFLOW = ROOT / "workflow"
PACKAGE = "rmtransfer"
CATALOGUE = WORKFLOW / PACKAGE / "study/catalogue.py"
LOCK = (ROOT / "envs/requirements.lock").read_text()
DOCKERFILE = (ROOT / "envs/Dockerfile").read_text()
APPTAINER = (ROOT / "envs/apptainer.def").read_text()
ENVIRONMENTS = {p.stem: yaml.safe_load(p.read_text()) for p in (ROOT / "envs").glob("*.yaml")}
DISTRIBUTIONS = importlib.metadata.packages_distributions()

# In functions that the script's job calls under no circumstances.
NEVER_IMPORTED = {
    ("evaluate_transfer", "datasets"),
    ("compare_answers", "datasets"),
    ("evaluate_alignment", "datasets"),
    ("evaluate_constraints", "datasets"),
    ("write_sample_answers", "datasets"),
    ("sample_answers", "vllm"),  # the user installs it
    ("plan", "scipy"),
    ("plan", "peft"),
    ("why", "scipy"),
    ("why", "peft"),
}


def environment_of_scripts() -> dict[str, str]:
    """Script to environment, as the rules say; a rule that is made from another has that one's."""
    found = {}
    for file in (WORKFLOW / "rules").glob("*.smk"):
        for rule in re.split(r"\n(?=\s*(?:use )?(?:rule|checkpoint)\b)", file.read_text()):
            script, environment = (re.search(rf"{folder}/(\w+)\.", rule) for folder in ("scripts", "envs"))
            if script:
                found[script[1]] = environment[1] if environment else ""
    return found


SCRIPTS = environment_of_scripts()


def file_of(module: str) -> Path | None:
    path = WORKFLOW / module.replace(".", "/")
    return next((f for f in (path.with_suffix(".py"), path / "__init__.py") if f.is_file()), None)


def imported(statements: list[ast.stmt], *, everywhere: bool = False) -> Iterator[str]:
    """Names of modules: what importing this code imports, or whatever it may import later, in its functions."""
    for node in [n for s in statements for n in ast.walk(s)] if everywhere else statements:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (str(node.module), *(f"{node.module}.{alias.name}" for alias in node.names))
        elif isinstance(node, ast.If) and not everywhere:
            checked = ast.unparse(node.test) == "TYPE_CHECKING"
            yield from imported(node.orelse if checked else node.body + node.orelse)


def code_of(path: Path) -> list[ast.stmt]:
    return ast.parse(path.read_text()).body


def needed_by(script: str) -> set[str]:
    """Top-level modules of others that a script's job imports, or may import."""
    path = WORKFLOW / f"scripts/{script}.py"
    found, waiting = set(), list(imported(code_of(path)))
    while waiting:
        module = waiting.pop()
        if module in found:
            continue
        found.add(module)
        if module.startswith(PACKAGE) and (file := file_of(module)):
            waiting += [*imported(code_of(file)), module.rpartition(".")[0]]
            if module == f"{PACKAGE}.study.config":  # loads all that the catalogue names
                waiting += re.findall(r'"(rmtransfer\.[\w.]+):', CATALOGUE.read_text())
    for module in modules_of(Stage(0, (script,), "")):
        found |= set(imported(code_of(file_of(module)), everywhere=True))
    others = {module.split(".")[0] for module in found if module} - sys.stdlib_module_names - {PACKAGE}
    return {module for module in others if (script, module) not in NEVER_IMPORTED}


def pins(environment: dict) -> dict[str, str]:
    (pip,) = (entry["pip"] for entry in environment["dependencies"] if isinstance(entry, dict))
    return dict(line.split("==") for line in pip)


def installed_with(names: set[str]) -> set[str]:
    """These distributions, and what they require themselves."""
    found, waiting = set(), list(names)
    while waiting:
        name = re.sub(r"[-_.]+", "-", waiting.pop()).lower()
        if name not in found:
            found.add(name)
            with_extras = importlib.metadata.requires(name) or []
            waiting += [re.match(r"[\w.-]+", line)[0] for line in with_extras if ";" not in line]
    return found


def test_every_script_has_an_environment():
    assert set(SCRIPTS) == {p.stem for p in (WORKFLOW / "scripts").glob("*.py")}
    assert set(SCRIPTS.values()) == set(ENVIRONMENTS)


@pytest.mark.parametrize("script", sorted(SCRIPTS))
def test_an_environment_holds_what_its_scripts_import(script):
    there = installed_with(set(pins(ENVIRONMENTS[SCRIPTS[script]])))
    for module in needed_by(script) - {"snakemake"}:  # which jobs import from where it runs
        names = {re.sub(r"[-_.]+", "-", name).lower() for name in DISTRIBUTIONS[module]}
        assert names & there, f"{script} imports {module}, which envs/{SCRIPTS[script]}.yaml does not install"


def test_imports_are_found_at_any_depth():
    assert "torch" in needed_by("train_reward_model")
    assert {"sklearn", "statsmodels", "scipy"} <= needed_by("evaluate_transfer")
    assert "deepl" in needed_by("translate_rows")
    assert "torch" not in needed_by("write_paper_tables")


def test_all_environments_have_one_python():
    """Jobs of Snakemake's import it from where it is installed, whatever their environment: minor versions have to agree."""
    versions = {name: environment["dependencies"][0] for name, environment in ENVIRONMENTS.items()}
    assert set(versions.values()) == {"python=3.11"}
    assert "FROM python:3.11-" in DOCKERFILE
    assert "From: python:3.11-" in APPTAINER


@pytest.mark.parametrize("text", [DOCKERFILE, APPTAINER])
def test_an_image_installs_the_lock_torch_first_and_nothing_else(text):
    installs = re.findall(r"pip install (.+?)(?: \\| &&|$)", text, re.M)
    assert [re.sub(r"/\S*/", "", line) for line in installs] == [
        "\"$(grep '^torch==' requirements.lock)\"",
        "-r requirements.lock",
    ]
    assert "envs/requirements.lock" in text
    assert not re.search(r"==\d", text)  # versions stand in the lock alone
    assert re.search(r"^torch==", LOCK, re.M)

"""Files that must agree with each other."""

import ast
import inspect
import re
import tomllib

import yaml
from snakemake.api import Workflow
from snakemake.persistence import PersistenceBase
from snakemake.persistence.db import DbPersistence
from snakemake.persistence.file import FilePersistence

from conftest import ROOT
from rmtransfer.report.catalogue import FIGURES


def pins(text: str) -> dict[str, str]:
    return dict(re.findall(r"^\s*(?:- )?([A-Za-z0-9_.-]+)==(\S+)", text, re.M))


LOCK = pins((ROOT / "envs/requirements.lock").read_text())


def test_every_direct_dependency_is_locked_at_its_pin():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    direct = project["dependencies"] + project["optional-dependencies"]["dev"]
    for requirement in direct:
        name, _, version = requirement.partition("==")
        assert LOCK[name] == (version or LOCK[name])
    assert len(direct) >= 20


def test_the_plugin_for_slurm_is_locked_at_its_pin_with_what_only_it_needs():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    (requirement,) = project["optional-dependencies"]["slurm"]
    name, _, version = requirement.partition("==")
    locked = pins((ROOT / "envs/slurm.lock").read_text())
    assert locked[name] == version
    assert not locked.keys() & LOCK.keys()


def test_the_lock_names_no_local_build_and_no_registry():
    text = (ROOT / "envs/requirements.lock").read_text()
    assert "://" not in text
    assert not re.search(r"==\S*\+", text)


def test_environment_files_hold_the_locks_versions():
    files = sorted((ROOT / "envs").glob("*.yaml"))
    assert [f.stem for f in files] == ["analyse", "train", "translate"]
    for file in files:
        mine = pins(file.read_text())
        assert len(mine) >= 5
        assert mine.items() <= LOCK.items()


def test_every_rule_has_its_script_and_every_script_a_rule():
    used = set()
    for file in (ROOT / "workflow/rules").glob("*.smk"):
        used |= set(re.findall(r'"\.\./scripts/(\w+)\.py"', file.read_text()))
    assert used == {p.stem for p in (ROOT / "workflow/scripts").glob("*.py")}
    assert len(used) >= 12


def test_profiles_know_every_figure_and_the_default_one_is_where_snakemake_looks():
    profile = yaml.safe_load((ROOT / "workflow/profiles/slurm/config.yaml").read_text())
    assert set(profile["groups"]) == {f"draw_{figure.name}" for figure in FIGURES}
    assert set(profile["group-components"]) == set(profile["groups"].values())
    assert (ROOT / "profiles/default/config.yaml").samefile(ROOT / "workflow/profiles/default/config.yaml")


def test_every_room_is_in_the_layers_contract_and_says_what_it_is_for():
    contract = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]
    layers = next(c["layers"] for c in contract["contracts"] if c["type"] == "layers")
    rooms = [p.parent.name for p in (ROOT / "workflow/rmtransfer").glob("*/__init__.py")]
    assert sorted(layer.removeprefix("rmtransfer.") for layer in layers) == sorted(rooms)
    for room in rooms:
        docstring = ast.get_docstring(ast.parse((ROOT / f"workflow/rmtransfer/{room}/__init__.py").read_text()))
        assert "In:" in docstring
        assert "Out:" in docstring


def test_tests_mirror_the_rooms():
    tested = {p.parent.name for p in (ROOT / "tests").glob("*/test_*.py")}
    assert tested == {p.parent.name for p in (ROOT / "workflow/rmtransfer").glob("*/__init__.py")} | {"workflow"}


def test_snakemake_takes_its_lock_where_the_workflow_puts_its_own():
    """What rules/run.smk replaces is no public interface, and there is none: no plugin, and no handler before the lock."""
    for backend in (FilePersistence, DbPersistence):
        assert issubclass(backend, PersistenceBase)
        assert not {"lock", "lock_warn_only"} & vars(backend).keys()
    for method in (PersistenceBase.lock, PersistenceBase.lock_warn_only):
        assert list(inspect.signature(method).parameters) == ["self"]
    assert "self.lock = self.lock_warn_only" in inspect.getsource(PersistenceBase.__init__)  # where nothing is written
    assert "with self.persistence.lock():" in inspect.getsource(Workflow)

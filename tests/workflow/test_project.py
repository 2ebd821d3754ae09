"""Files that must agree with each other."""

import re
import tomllib

import yaml

from conftest import ROOT
from rmtransfer.study.config import SCHEMA_PATH


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


def test_every_figure_has_its_caption():
    rules = (ROOT / "workflow/rules/report.smk").read_text()
    names = re.findall(r'=figure\("(\w+)"', rules)
    assert len(names) == 10
    for name in names:
        assert (ROOT / f"workflow/report/{name}.rst").read_text().strip()


def test_every_config_key_is_in_the_default_config():
    """The default config is the documentation: a key that it does not show is a key that nobody finds."""
    schema = yaml.safe_load(SCHEMA_PATH.read_text())
    config = yaml.safe_load((ROOT / "config.yaml").read_text())
    assert set(schema["properties"]) == set(config)
    for section in ("training", "representation", "alignment", "figures", "resources"):
        assert set(schema["properties"][section]["properties"]) == set(config[section])


def test_the_library_never_imports_snakemake_and_imports_one_way():
    order = [
        "errors",
        "versions",
        "machine",
        "progress",
        "languages",
        "benchmarks",
        "corpus",
        "contamination",
        "manifest",
        "hidden_states",
        "device",
        "batching",
        "chat",
        "translation",
        "base_model",
        "selection",
        "mixture",
        "reward",
        "training",
        "scoring",
        "reward_models",
        "statistics",
        "transfer",
        "paper_tables",
        "representation",
        "sampling",
        "best_of_n",
        "figures",
        "config",
        "plan",
    ]
    modules = [p for p in (ROOT / "workflow/rmtransfer").iterdir() if p.stem not in ("__init__", "__pycache__")]
    assert {p.stem for p in modules} == set(order)
    for path in modules:
        for file in path.glob("*.py") if path.is_dir() else [path]:
            text = file.read_text()
            assert "import snakemake" not in text
            assert "from snakemake" not in text
            if path.stem == "config":  # checks a study against what the stages know
                continue
            names = re.findall(r"from rmtransfer\.(\w+)", text)
            for line in re.findall(r"from rmtransfer import (.+)", text):
                names += [n.strip() for n in line.split(",")]
            for name in names:
                assert order.index(name) <= order.index(path.stem), (path.stem, name)

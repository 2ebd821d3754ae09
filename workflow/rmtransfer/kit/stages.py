"""One number per stage, raised when its code changes what comes out; beside it a digest of that code, so that none is forgotten.

Snakemake sees an edited script and no edited library, so every rule passes its stage's number as a param. Raising it reruns
that stage and what depends on it, and leaves the rest cached. A test compares the digests and asks, where code has moved:

    PYTHONPATH=workflow python -m rmtransfer.kit.stages                     which stages' code has moved
    PYTHONPATH=workflow python -m rmtransfer.kit.stages raise <STAGE>...    results change: a new number, a new digest
    PYTHONPATH=workflow python -m rmtransfer.kit.stages refresh [<STAGE>...]    they do not: a new digest, by default of all

A stage's code is what its scripts import, directly or not, at any depth of a function, and what those modules name as
"module:attribute", without comments, docstrings and whatever decides no result.
"""

import ast
import functools
import hashlib
import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple


class Stage(NamedTuple):
    version: int
    scripts: tuple[str, ...]
    """of workflow/scripts: all that rules with this version run"""
    digest: str
    """of the code that they import, see :func:`code_digest`"""


CORPUS = Stage(2, ("read_rows",), "5b22149806feaf7a")
TRANSLATION = Stage(2, ("translate_rows", "check_budget", "summarise_translation", "export_memory"), "5124bfd5354c0f96")
BASE_MODEL = Stage(2, ("prepare_base_model", "prepare_policy", "fetch_model"), "b48a94fa115d8564")
TEMPLATES = Stage(2, ("check_templates",), "74385dab8da8b3c3")
SELECTION = Stage(4, ("select_rows",), "05ea09739a326afc")
TRAINING = Stage(3, ("train_reward_model",), "bf5c35eb0b003931")
TRAINING_LOGS = Stage(1, ("gather_training_logs",), "0cbecbebff6c5feb")
SCORING = Stage(4, ("score", "measure_drift"), "514ff786f0b28f58")
BASELINES = Stage(1, ("score_states",), "f00dbddb818966d0")
CONTAMINATION = Stage(1, ("find_contamination",), "99a1132bfaf2e82e")
SCALING = Stage(2, ("evaluate_scaling",), "04c2c6e57ccc1021")
TRANSFER = Stage(4, ("evaluate_transfer",), "229307b5306dba4e")
VARIANCE = Stage(1, ("gather_variance",), "6352a08a9ec0a548")
PAPER_TABLES = Stage(2, ("write_paper_tables",), "291ff26c7e504e33")
REPRESENTATION = Stage(1, ("analyse_representations",), "8a37a40790452eea")
SAMPLING = Stage(4, ("sample_answers",), "3a9880cf9650f65a")
BEST_OF_N = Stage(5, ("evaluate_best_of_n",), "f32b562ce1459dc5")
AGREEMENT = Stage(1, ("evaluate_agreement",), "1ef7844f95719718")
CONSTRAINTS = Stage(1, ("read_constraints", "evaluate_constraints"), "81a92c223585502e")
ALIGNING = Stage(1, ("align_policy",), "d795be3eb7d41902")
COMPARISONS = Stage(2, ("compare_answers",), "cd307a68d6a7b35b")
ALIGNMENT = Stage(1, ("evaluate_alignment",), "523d371e6eef3e2b")
FIGURES = Stage(6, ("draw_figure", "write_sample_answers"), "6a87943d630f5393")

_LIBRARY = Path(__file__).parents[2]
_PACKAGE = "rmtransfer"
_CATALOGUE = f"{_PACKAGE}.study.catalogue"
# Of what these say or do no result is made: how files are written and servers asked, what a config may say (what it says
# comes as a param), where files lie.
_DECIDES_NOTHING = {
    f"{_PACKAGE}.{name}"
    for name in (
        *(
            f"kit.{name}"
            for name in (
                "cores",
                "devices",
                "errors",
                "files",
                "http",
                "kept",
                "machine",
                "progress",
                "sqlite",
                "stages",
            )
        ),
        *(f"study.{name}" for name in ("catalogue", "checks", "config", "explain", "job", "layout", "options")),
        *(f"study.{name}" for name in ("reference", "study")),
    )
}
_NAMED = re.compile(rf"({_PACKAGE}(?:\.\w+)+):\w+")


def all_stages() -> dict[str, Stage]:
    """Every stage by its name."""
    return {name: value for name, value in globals().items() if isinstance(value, Stage)}


def code_digest(stage: Stage, library: Path = _LIBRARY) -> str:
    """Digest of the code that a stage's scripts import.

    Args:
        library: the folder of the package; scripts lie beside it.
    """
    code = hashlib.sha256()
    for module in modules_of(stage, library):
        code.update(f"{module}\n{_plain_module(_parse(_text(module, library)))}\n".encode())
    return code.hexdigest()[:16]


def modules_of(stage: Stage, library: Path = _LIBRARY) -> list[str]:
    """Names of the modules that decide what comes out of a stage."""
    waiting = [
        module
        for script in stage.scripts
        for module in _references(_parse((library / f"scripts/{script}.py").read_text(encoding="utf-8")), library)
    ]
    found: set[str] = set()
    while waiting:
        module = waiting.pop()
        if module not in found | _DECIDES_NOTHING:
            found.add(module)
            waiting.extend(_references(_parse(_text(module, library)), library))
            waiting.extend([module.rpartition(".")[0]] if "." in module else [])  # its package, which is run first
    return sorted(found)


def moved(library: Path = _LIBRARY) -> list[str]:
    """Stages whose code is no longer the one that their digest stands for."""
    return [name for name, stage in all_stages().items() if code_digest(stage, library) != stage.digest]


def _file(module: str, library: Path) -> Path | None:
    path = library / module.replace(".", "/")
    return next((f for f in (path.with_suffix(".py"), path / "__init__.py") if f.is_file()), None)


def _text(module: str, library: Path) -> str:
    file = _file(module, library)
    assert file is not None, module
    return file.read_text(encoding="utf-8")


@functools.cache
def _parse(text: str) -> ast.Module:
    return ast.parse(text)


@functools.cache
def _references(tree: ast.AST, library: Path) -> frozenset[str]:
    """Modules of the package that some code imports, wherever it does, or names as a string; of a catalogue, what it uses."""
    return frozenset(_named_in(tree, library))


def _named_in(tree: ast.AST, library: Path) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if _file(alias.name, library) and _ours(alias.name))
        elif isinstance(node, ast.ImportFrom) and _ours(node.module or ""):
            module = str(node.module)
            yield module
            yield from (name for a in node.names if _file(name := f"{module}.{a.name}", library))
            if module == _CATALOGUE:
                yield from _listed({alias.name for alias in node.names}, library)
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "catalogue":
            yield from _listed({node.attr}, library)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield from _NAMED.findall(node.value)


def _listed(names: set[str], library: Path) -> Iterator[str]:
    """Modules that the named catalogues list."""
    for statement in _parse(_text(_CATALOGUE, library)).body:
        if isinstance(statement, ast.Assign) and {ast.unparse(target) for target in statement.targets} & names:
            yield from _NAMED.findall(ast.unparse(statement.value))


def _ours(module: str) -> bool:
    return module.split(".")[0] == _PACKAGE


@functools.cache
def _plain_module(module: ast.Module) -> str:
    return _plain(module)


def _plain(node: object) -> str:
    """Code without comments, docstrings and layout, written alike under every Python that we support."""
    if isinstance(node, list):
        return "[" + ",".join(_plain(item) for item in node if not _is_docstring(item)) + "]"
    if isinstance(node, ast.AST):
        fields = [(name, value) for name, value in ast.iter_fields(node) if value not in (None, [])]
        return type(node).__name__ + "(" + ",".join(f"{name}={_plain(value)}" for name, value in fields) + ")"
    return repr(node)


def _is_docstring(node: object) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)


def _main(arguments: Sequence[str]) -> int:
    stages = all_stages()
    action, names = (arguments[0], list(arguments[1:])) if arguments else ("", [])
    if action not in ("", "raise", "refresh") or not stages.keys() >= set(names) or (action == "raise" and not names):
        print(
            f"usage: python -m rmtransfer.kit.stages [raise STAGE... | refresh [STAGE...]]\nstages: {', '.join(stages)}"
        )
        return 2
    if not action:
        print("\n".join(moved()) or "no stage's code has moved")
        return bool(moved())
    file = Path(__file__)
    text = file.read_text(encoding="utf-8")
    for name in names or moved():
        version, _, digest = stages[name]
        written = rf'^({name} = Stage\(\s*){version}(,.*?"){digest}"'
        now = rf'\g<1>{version + (action == "raise")}\g<2>{code_digest(stages[name])}"'
        text, count = re.subn(written, now, text, count=1, flags=re.M | re.S)
        assert count == 1, name
        print(f"{name}: {action}")
    file.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(_main(sys.argv[1:]))

"""The catalogue of figures: rules, the report and the figures themselves are made from its lines."""

import importlib
import inspect
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from docutils.core import publish_doctree

from rmtransfer.report import catalogue
from rmtransfer.report.catalogue import FIGURES
from rmtransfer.study.config import load_config
from rmtransfer.study.study import Study

ROOT = Path(__file__).parents[2]


def test_it_imports_nothing_but_the_standard_library():
    code = "import sys; before = {*sys.modules}; import rmtransfer.report.catalogue; print(*{*sys.modules} - before)"
    path = {**os.environ, "PYTHONPATH": str(ROOT / "workflow")}
    run = subprocess.run([sys.executable, "-c", code], env=path, capture_output=True, text=True, check=True)
    loaded = {module.split(".")[0] for module in run.stdout.split()}
    assert loaded - sys.stdlib_module_names == {"rmtransfer"}


def test_every_line_is_complete():
    assert len({figure.name for figure in FIGURES}) == len(FIGURES) >= 10
    for figure in FIGURES:
        assert figure.scope in ("benchmark", "study")
        assert figure.needs in ("", "bases", "translations", "parts", "sizes", "held_out", "constraints")
        assert figure.tables
        assert figure.category


@pytest.mark.parametrize("figure", FIGURES, ids=[figure.name for figure in FIGURES])
def test_every_figure_is_one_function_that_is_called_like_all_others(figure):
    module, _, name = figure.draw.partition(":")
    function = getattr(importlib.import_module(module), name)
    types = {"source": "str", "baselines": "collections.abc.Mapping[str, str]"}
    assert str(inspect.signature(function)) == (
        "(tables: collections.abc.Mapping[str, pathlib.Path], outputs: collections.abc.Sequence[pathlib.Path]"
        + (f", *, {', '.join(f'{known}: {types[known]}' for known in figure.names)}" if figure.names else "")
        + ") -> None"
    )
    assert len({other.draw for other in FIGURES}) == len(FIGURES)


@pytest.mark.parametrize("figure", FIGURES, ids=[figure.name for figure in FIGURES])
def test_a_caption_is_plain_text_that_the_report_can_set(figure):
    assert "{" not in figure.caption
    assert "\n" not in figure.caption
    (paragraph,) = publish_doctree(figure.caption, settings_overrides={"halt_level": 2, "report_level": 2}).children
    assert paragraph.tagname == "paragraph"
    assert paragraph.astext().endswith(".")


def test_one_file_sets_all_captions():
    assert {path.name for path in (ROOT / "workflow/report").iterdir()} == {"figure.rst", "workflow.rst"}
    assert (ROOT / "workflow/report/figure.rst").read_text().strip() == "{{ snakemake.params.caption }}"


def test_a_study_has_the_figures_that_it_has_something_for():
    config = yaml.safe_load((ROOT / "config.yaml").read_text(encoding="utf-8"))

    def names() -> set[str]:
        return {figure.name for figure in catalogue.figures_of(Study(load_config(config, ROOT)))}

    plain = names()
    assert plain == {figure.name for figure in FIGURES} - {"dose", "sizes"}
    config["training"]["pairs"] = [24]
    assert names() == plain | {"dose"}
    config["base_models"]["again"] = config["base_models"]["gemma-3-270m"]
    assert names() == plain | {"dose", "sizes"}


def test_an_unknown_figure_is_an_error():
    with pytest.raises(KeyError, match="piechart"):
        catalogue.draw("piechart", {}, [], {}, {"dpi": 72, "font_size": 8})

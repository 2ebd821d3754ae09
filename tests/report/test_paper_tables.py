"""The paper's main table: numbers worked out by hand, in LaTeX and Markdown alike."""

import re

import pandas as pd
import pytest

from rmtransfer.report.paper_tables import write_paper_tables
from rmtransfer.transfer.measures import MEASURES


def rows(base, train, language, accuracies, seeds=3):
    return [
        (base, train, language, section, value, 0.01, value - 0.1, value + 0.05, seeds, 9.0, 10)
        for section, value in accuracies.items()
    ]


def cells(chat, safety, average):
    return {"Chat & co": chat, "Safety_100%": safety, "average": average}


OWN = [
    *rows("m_1", "en", "en", cells(0.9, 0.8, 0.85)),
    *rows("m_1", "en", "es", cells(0.75, 0.6, 0.675)),
    *rows("m_1", "es", "en", cells(0.5, 0.5, 0.5)),
    *rows("m_1", "es", "es", cells(0.7, 0.9, 0.8)),
    *rows("m_1", "en", "ko", cells(0.6, 0.5, 0.553)),
    *rows("m_1", "ko", "ko", cells(0.6, 0.42, 0.51)),
    *rows("m_1", "mix", "es", cells(1.0, 1.0, 1.0)),
]
SHELF = [
    *rows("rm_a", "-", "en", cells(0.9, 0.9, 0.9), 1),
    *rows("rm_a", "-", "es", cells(0.8, 0.8, 0.8), 1),
    *rows("rm_a", "-", "ko", cells(0.6, 0.6, 0.6), 1),
]
TESTS = [
    ("es", "m_1", "en", "m_1", "es", "primary", -0.125, -0.2, -0.05, 0.002, 0.004, 0.003, 10, 3),
    ("ko", "m_1", "en", "m_1", "ko", "primary", 0.043, -0.1, 0.186, 0.4, 0.4, 0.3, 10, 3),
    ("en", "m_1", "es", "m_1", "en", "in-language", -0.35, -0.5, -0.2, 0.001, 0.001, 0.001, 10, 3),
]
MEANS = [
    ("m_1", "source minus target-language", -0.041, -0.12, 0.038, 2, 10, 3),
    ("m_1", "elsewhere minus in-language", -0.2, -0.3, -0.1, 3, 10, 3),
]

ORIGINS = {"en": "original", "es": "translated", "ko": "native"}


@pytest.fixture
def write(tmp_path):
    def written(seeds, tests=(), means=()):
        tables = {"seeds": seeds, "significance": tests, "headline": means}
        for name, lines in tables.items():
            columns = list(MEASURES[name].columns)
            pd.DataFrame(list(lines), columns=columns).to_csv(tmp_path / f"{name}.csv", index=False)
        paths = tmp_path / "table.tex", tmp_path / "table.md"
        write_paper_tables({name: tmp_path / f"{name}.csv" for name in tables}, *paths, "en", ORIGINS)
        return [path.read_text(encoding="utf-8") for path in paths]

    return written


def test_numbers_intervals_and_what_is_significant(write):
    _, markdown = write(OWN, TESTS, MEANS)
    first, _ = markdown.split("\n\n")
    assert first.splitlines()[2:] == [
        "| *m_1* |  |  |  |  |  |  |  |  |",
        "| Spanish | Spanish | 3 | 70.0 | 90.0 | 80.0 | 70.0 to 85.0 |  |  |",
        "|  | English | 3 | 75.0 | 60.0 | 67.5 | 57.5 to 72.5 | **−12.5** | −20.0 to −5.0 |",
        "| Korean | Korean | 3 | 60.0 | 42.0 | 51.0 | 41.0 to 56.0 |  |  |",
        "|  | English | 3 | 60.0 | 50.0 | 55.3 | 45.3 to 60.3 | +4.3 | −10.0 to +18.6 |",
        # Spanish and Korean: (70 + 60) / 2, (90 + 42) / 2, (80 + 51) / 2 and (75 + 60) / 2, (60 + 50) / 2, ...
        "| Mean of targets | target | 3 | 65.0 | 66.0 | 65.5 |  |  |  |",
        "|  | English | 3 | 67.5 | 55.0 | 61.4 |  | −4.1 | −12.0 to +3.8 |",
        "| English | English | 3 | 90.0 | 80.0 | 85.0 | 75.0 to 90.0 |  |  |",
    ]


def test_every_training_set_and_baseline_has_a_row(write):
    _, markdown = write(OWN + SHELF, TESTS, MEANS)
    _, second = markdown.split("\n\n")
    assert second.splitlines() == [
        "| Trained in, or name | Seeds | en (original) | es (translated) | ko (native) | Mean without en |",
        "| :-- | --: | --: | --: | --: | --: |",
        "| *m_1* |  |  |  |  |  |",
        "| en | 3 | 85.0 (75.0 to 90.0) | 67.5 (57.5 to 72.5) | 55.3 (45.3 to 60.3) | 61.4 |",
        "| es | 3 | 50.0 (40.0 to 55.0) | 80.0 (70.0 to 85.0) |  |  |",
        "| ko | 3 |  |  | 51.0 (41.0 to 56.0) |  |",
        "| mix | 3 |  | 100.0 (90.0 to 105.0) |  |  |",
        "| *Models of others and baselines* |  |  |  |  |  |",
        "| rm_a | 1 | 90.0 (80.0 to 95.0) | 80.0 (70.0 to 85.0) | 60.0 (50.0 to 65.0) | 70.0 |",
    ]


def test_latex_holds_the_numbers_of_the_markdown(write):
    latex, markdown = write(OWN + SHELF, TESTS, MEANS)

    def numbers(text):
        return re.findall(r"[+−]?\d+\.\d", text)

    assert numbers(latex.replace("$-$", "−")) == numbers(markdown)
    assert len(numbers(markdown)) == 7 * 3 + 5 * 2 + 3 * 3 + (7 + 3) * 3 + 2
    assert latex.count(r"\textbf{") == markdown.count("**") / 2 == 1


def test_latex_is_balanced_and_rectangular(write):
    latex, _ = write(OWN + SHELF, TESTS, MEANS)
    assert re.findall(r"\\(begin|end)\{(\w+)\}", latex) == 2 * [("begin", "tabular"), ("end", "tabular")]
    assert latex.count("{") - latex.count(r"\{") == latex.count("}") - latex.count(r"\}")
    assert all(latex.count(rule) == 2 for rule in (r"\toprule", r"\bottomrule"))
    counted = 0
    for tabular in re.findall(r"\\begin\{tabular\}(.+?)\\end\{tabular\}", latex, re.S):
        columns = len(re.match(r"\{([lr]+)\}", tabular)[1])
        for line in re.findall(r"^(.+) \\\\$", tabular, re.M):
            counted += 1
            if line.startswith(r"\multicolumn"):
                assert line.startswith(rf"\multicolumn{{{columns}}}{{l}}")
            else:
                assert len(re.findall(r"(?<!\\)&", line)) == columns - 1
    assert counted == (1 + 1 + 4 + 2 + 1) + (1 + 1 + 4 + 1 + 1)


def test_latex_escapes_names(write):
    latex, markdown = write(OWN, TESTS, MEANS)
    assert r"Chat \& co & Safety\_100\% & Average & 95 \% interval" in latex
    assert r"\textit{m\_1}" in latex
    assert "| Chat & co | Safety_100% | Average |" in markdown


def test_a_study_of_off_the_shelf_models_only(write):
    latex, markdown = write(SHELF)
    assert markdown.splitlines()[2:] == [
        "| *Models of others and baselines* |  |  |  |  |  |",
        "| rm_a | 1 | 90.0 (80.0 to 95.0) | 80.0 (70.0 to 85.0) | 60.0 (50.0 to 65.0) | 70.0 |",
    ]
    assert r"rm\_a & 1 & 90.0 (80.0 to 95.0) &" in latex


def test_what_was_not_measured_stays_empty(write):
    lines = [line for line in OWN if line[:3] != ("m_1", "es", "es") or line[3] != "Chat & co"]
    _, markdown = write(lines, TESTS, MEANS)
    assert "| Spanish | Spanish | 3 |  | 90.0 | 80.0 | 70.0 to 85.0 |  |  |" in markdown

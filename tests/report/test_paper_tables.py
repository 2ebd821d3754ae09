"""The paper's main table: numbers worked out by hand, in LaTeX and Markdown alike."""

import re

import pandas as pd
import pytest

from rmtransfer.report.paper_tables import write_paper_tables
from rmtransfer.transfer.measures import MEASURES


def rows(base, train, language, accuracies, seed=0):
    return [(base, train, seed, language, section, value, 0.0, 1.0, 10) for section, value in accuracies.items()]


def cells(chat, safety, average):
    return {"Chat & co": chat, "Safety_100%": safety, "average": average}


OWN = [
    *rows("m_1", "en", "en", cells(0.9, 0.8, 0.85)),
    *rows("m_1", "en", "es", cells(0.7, 0.6, 0.65), seed=0),
    *rows("m_1", "en", "es", cells(0.8, 0.6, 0.70), seed=1),  # means over seeds: 75.0, 60.0, 67.5
    *rows("m_1", "es", "en", cells(0.5, 0.5, 0.5)),
    *rows("m_1", "es", "es", cells(0.7, 0.9, 0.8)),
    *rows("m_1", "en", "ko-x-nllb", cells(0.6, 0.5, 0.553)),
    *rows("m_1", "ko-x-nllb", "ko-x-nllb", cells(0.6, 0.42, 0.51)),
    *rows("m_1", "mix", "es", cells(1.0, 1.0, 1.0)),
]
SHELF = [
    *rows("rm_a", "-", "en", cells(0.9, 0.9, 0.9)),
    *rows("rm_a", "-", "es", cells(0.8, 0.8, 0.8)),
    *rows("rm_a", "-", "ko-x-nllb", cells(0.6, 0.6, 0.6)),
]


@pytest.fixture
def write(tmp_path):
    def written(lines):
        pd.DataFrame(lines, columns=list(MEASURES["transfer"].columns)).to_csv(tmp_path / "transfer.csv", index=False)
        paths = tmp_path / "table.tex", tmp_path / "table.md"
        write_paper_tables(tmp_path / "transfer.csv", *paths, "en")
        return [path.read_text(encoding="utf-8") for path in paths]

    return written


def test_numbers_differences_and_the_better_of_two(write):
    _, markdown = write(OWN)
    assert markdown.splitlines()[2:] == [
        "| *m_1* |  |  |  |  |  |",
        "| Spanish | Spanish | 70.0 | **90.0** | **80.0** |  |",
        "|  | English | **75.0** | 60.0 | 67.5 | −12.5 |",
        "| Korean (nllb) | Korean (nllb) | 60.0 | 42.0 | 51.0 |  |",
        "|  | English | 60.0 | **50.0** | **55.3** | +4.3 |",
        # Spanish and Korean: (70 + 60) / 2, (90 + 42) / 2, (80 + 51) / 2 and (75 + 60) / 2, (60 + 50) / 2, ...
        "| Mean of targets | target | 65.0 | **66.0** | **65.5** |  |",
        "|  | English | **67.5** | 55.0 | 61.4 | −4.1 |",
        "| English | English | 90.0 | 80.0 | 85.0 |  |",
    ]


def test_latex_holds_the_numbers_of_the_markdown(write):
    latex, markdown = write(OWN + SHELF)

    def numbers(text):
        return re.findall(r"[+−]?\d+\.\d", text)

    assert numbers(latex.replace("$-$", "−")) == numbers(markdown)
    assert len(numbers(markdown)) == 7 * 3 + 3 + 4  # seven rows of three, three differences, one off-the-shelf model
    assert latex.count(r"\textbf{") == markdown.count("**") / 2 == 8


def test_latex_is_balanced_and_rectangular(write):
    latex, _ = write(OWN + SHELF)
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
    assert counted == (1 + 1 + 4 + 2 + 1) + (1 + 1)


def test_latex_escapes_names(write):
    latex, markdown = write(OWN)
    assert r"Chat \& co & Safety\_100\% & Average" in latex
    assert r"\textit{m\_1}" in latex
    assert "| Chat & co | Safety_100% | Average |" in markdown


def test_a_study_of_off_the_shelf_models_only(write):
    latex, markdown = write(SHELF)
    assert markdown.splitlines() == [
        "| Model | en | es | ko-x-nllb | Mean without en |",
        "| :-- | --: | --: | --: | --: |",
        "| rm_a | 90.0 | 80.0 | 60.0 | 70.0 |",
    ]
    assert r"rm\_a & 90.0 & 80.0 & 60.0 & 70.0 \\" in latex


def test_what_was_not_measured_stays_empty(write):
    lines = [line for line in OWN if line[:4] != ("m_1", "es", 0, "es") or line[4] != "Chat & co"]
    _, markdown = write(lines)
    assert "| Spanish | Spanish |  | **90.0** | **80.0** |  |" in markdown

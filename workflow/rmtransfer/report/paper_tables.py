"""The study's main result as a table for a paper, in LaTeX and in Markdown."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from rmtransfer.study.languages import english_name, split_variant
from rmtransfer.study.names import AVERAGE, NOT_OURS

_MINUS = "\N{MINUS SIGN}"
_LATEX = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    **{character: f"\\{character}" for character in "&%$#_{}"},
    _MINUS: "$-$",
}


@dataclass(frozen=True)
class _Cell:
    text: str = ""
    bold: bool = False


@dataclass(frozen=True)
class _Table:
    """A header, and blocks of rows that a rule divides; a row of one cell is the title of what follows it."""

    names: int  # leading columns that hold names, not numbers
    header: Sequence[str]
    blocks: Sequence[Sequence[Sequence[_Cell]]]


def write_paper_tables(transfer: Path, latex: Path, markdown: Path, source: str) -> None:
    """Write the main result in the layout of Hong et al. (arXiv 2410.18027), once in LaTeX and once in Markdown.

    Accuracies in per cent, means over seeds. Per base model and target language, two rows: the reward model trained in
    that language, and the one trained in the source language with its difference in ``average``; the better of the two
    (at one decimal) is bold. Then the same as a mean over these languages, and the source-language model in its own
    language. Off-the-shelf models follow in a table of their own: ``average`` in every language and its mean over all
    languages but the source.

    The LaTeX file holds one ``tabular`` each, for ``\\input`` into a ``table`` environment, and needs ``booktabs``.

    Args:
        transfer: transfer.csv.
        latex, markdown: files to write.
        source: the study's source language.
    """
    keys = ["base_model", "train_language", "eval_language", "section"]
    frame = pd.read_csv(transfer, keep_default_na=False, na_values=[""], dtype=dict.fromkeys(keys, str))
    percent = 100 * frame.groupby(keys, sort=False)["accuracy"].mean()
    own = [base for base, train in _distinct(percent, "base_model", "train_language") if train != NOT_OURS]
    tables = []
    if own:
        tables.append(_own_models(percent, list(dict.fromkeys(own)), source))
    if (frame["train_language"] == NOT_OURS).any():
        tables.append(_off_the_shelf(percent.xs(NOT_OURS, level="train_language"), source))
    needs = "% Accuracy in per cent. Needs \\usepackage{booktabs}; many columns need \\resizebox around the tabular."
    latex.write_text("\n\n".join([needs, *map(_to_latex, tables)]) + "\n", encoding="utf-8")
    markdown.write_text("\n\n".join(map(_to_markdown, tables)) + "\n", encoding="utf-8")


def _distinct(percent: pd.Series, *levels: str) -> list:
    index = percent.index.droplevel([name for name in percent.index.names if name not in levels])
    return list(dict.fromkeys(index))


def _own_models(percent: pd.Series, bases: Sequence[str], source: str) -> _Table:
    own = percent[percent.index.get_level_values("train_language") != NOT_OURS]
    sections = _distinct(own, "section")
    blocks: list[list[list[_Cell]]] = []
    for base in bases:
        models = own.xs(base, level="base_model").unstack("section")[sections]
        targets = [
            k
            for k in _distinct(own, "eval_language")
            if k != source and (k, k) in models.index and (source, k) in models.index
        ]
        blocks.append([[_Cell(base)]])
        for target in targets:
            theirs, ours = models.loc[(target, target)], models.loc[(source, target)]
            blocks[-1] += _pair(_name(target), _name(target), _name(source), theirs, ours)
        if targets:
            theirs = pd.DataFrame([models.loc[(k, k)] for k in targets]).mean()
            ours = pd.DataFrame([models.loc[(source, k)] for k in targets]).mean()
            blocks.append(_pair("Mean of targets", "target", _name(source), theirs, ours))
        if (source, source) in models.index:
            at_home = [_Cell(_number(value)) for value in models.loc[(source, source)]]
            blocks.append([[_Cell(_name(source)), _Cell(_name(source)), *at_home, _Cell()]])
    titles = ["Average" if section == AVERAGE else section for section in sections]
    return _Table(2, ["Evaluated in", "Trained in", *titles, "Difference"], blocks)


def _pair(language: str, target: str, source: str, theirs: pd.Series, ours: pd.Series) -> list[list[_Cell]]:
    """The row of the model trained in the target language, and that of the source-language one with the difference."""
    rows = []
    for mine, other in ((theirs, ours), (ours, theirs)):
        rows.append([_Cell(_number(a), round(a, 1) > round(b, 1)) for a, b in zip(mine, other, strict=True)])
    difference = _Cell(_number(ours[AVERAGE] - theirs[AVERAGE], signed=True))
    return [[_Cell(language), _Cell(target), *rows[0], _Cell()], [_Cell(), _Cell(source), *rows[1], difference]]


def _off_the_shelf(percent: pd.Series, source: str) -> _Table:
    average = percent.xs(AVERAGE, level="section")
    languages = _distinct(average, "eval_language")
    cells = average.unstack("eval_language").reindex(_distinct(average, "base_model"))[languages]
    mean = cells[[k for k in languages if k != source]].mean(axis=1)
    rows = [
        [_Cell(str(model)), *(_Cell(_number(value)) for value in values), _Cell(_number(mean[model]))]
        for model, values in cells.iterrows()
    ]
    return _Table(1, ["Model", *languages, "Mean" if source not in languages else f"Mean without {source}"], [rows])


def _name(code: str) -> str:
    language, variant = split_variant(code)
    return f"{english_name(language)} ({variant})" if variant else english_name(language)


def _number(value: float, signed: bool = False) -> str:
    """One decimal with a true minus sign; empty where nothing was measured."""
    if pd.isna(value):
        return ""
    text = f"{value:{'+' if signed else ''}.1f}"
    return "0.0" if float(text) == 0 else text.replace("-", _MINUS)


def _to_latex(table: _Table) -> str:
    width = len(table.header)

    def written(cell: _Cell) -> str:
        text = "".join(_LATEX.get(character, character) for character in cell.text)
        return rf"\textbf{{{text}}}" if cell.bold else text

    lines = [rf"\begin{{tabular}}{{{'l' * table.names}{'r' * (width - table.names)}}}", r"\toprule"]
    lines.append(" & ".join(written(_Cell(title)) for title in table.header) + r" \\")
    for block in table.blocks:
        lines.append(r"\midrule")
        for row in block:
            if len(row) == 1:
                lines.append(rf"\multicolumn{{{width}}}{{l}}{{\textit{{{written(row[0])}}}}} \\")
            else:
                lines.append(" & ".join(map(written, row)) + r" \\")
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}"])


def _to_markdown(table: _Table) -> str:
    width = len(table.header)

    def line(cells: Sequence[str]) -> str:
        return "| " + " | ".join(cells) + " |"

    def written(cell: _Cell) -> str:
        text = cell.text.replace("|", r"\|")
        return f"**{text}**" if cell.bold else text

    lines = [
        line([written(_Cell(title)) for title in table.header]),
        line([":--"] * table.names + ["--:"] * (width - table.names)),
    ]
    for row in (row for block in table.blocks for row in block):
        if len(row) == 1:
            lines.append(line([f"*{written(row[0])}*"] + [""] * (width - 1)))
        else:
            lines.append(line([written(cell) for cell in row]))
    return "\n".join(lines)

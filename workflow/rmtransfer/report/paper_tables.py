"""The study's main results as tables for a paper, in LaTeX and in Markdown."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from rmtransfer.study.languages import english_name, split_variant
from rmtransfer.study.names import ALPHA, AVERAGE, NOT_OURS, PRIMARY, SOURCE_AGAINST_TARGETS

_MINUS = "\N{MINUS SIGN}"
_INTERVAL = "95 % interval"
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


def write_paper_tables(
    tables: Mapping[str, Path], latex: Path, markdown: Path, source: str, origins: Mapping[str, str]
) -> None:
    """Write the main results, once in LaTeX and once in Markdown: accuracies in per cent, means over seeds.

    The first table has the layout of Hong et al. (arXiv 2410.18027): per base model and target language, the reward model
    trained in that language, and the one trained in the source language with their difference in ``average``, bold where it
    is significant in the primary family; then the same as a mean over these languages, and the source-language model in its
    own language. The second holds ``average`` in every language with its interval, of every training set, mixtures, parts and
    variants included, and of all models of others and baselines.

    The LaTeX file holds one ``tabular`` each, for ``\\input`` into a ``table`` environment, and needs ``booktabs``.

    Args:
        tables: the benchmark's ``seeds``, ``significance`` and ``headline``.
        latex, markdown: files to write.
        source: the study's source language.
        origins: where the benchmark's texts in a language come from, see :meth:`rmtransfer.study.study.Study.origin`.
    """
    seeds, significance, headline = (
        pd.read_csv(tables[name], keep_default_na=False, na_values=[""], dtype=dict.fromkeys(_TEXTS, str))
        for name in ("seeds", "significance", "headline")
    )
    cells = seeds.set_index(["base_model", "train_language", "eval_language"])
    tests = significance[significance["family"] == PRIMARY].set_index(["base_a", "eval_language"])
    means = headline[headline["comparison"] == SOURCE_AGAINST_TARGETS].set_index("base_model")
    found = [_all_models(cells, source, origins)]
    if len(tests):
        found.insert(0, _source_against_targets(cells, tests, means, source))
    needs = "% Accuracy in per cent. Needs \\usepackage{booktabs}; many columns need \\resizebox around the tabular."
    latex.write_text("\n\n".join([needs, *map(_to_latex, found)]) + "\n", encoding="utf-8")
    markdown.write_text("\n\n".join(map(_to_markdown, found)) + "\n", encoding="utf-8")


_TEXTS = ("base_model", "train_language", "eval_language", "section", "base_a", "train_a", "base_b", "train_b")


def _source_against_targets(cells: pd.DataFrame, tests: pd.DataFrame, means: pd.DataFrame, source: str) -> _Table:
    sections = list(cells["section"].unique())
    blocks: list[list[list[_Cell]]] = []

    def row(names: Sequence[str], found: pd.DataFrame, difference: Sequence[_Cell] = (_Cell(), _Cell())) -> list[_Cell]:
        """Accuracies of one cell's sections, or their means over several cells, whose interval is not that of a mean."""
        numbers = found.groupby("section")["mean"].mean().reindex(sections)
        average = found[found["section"] == AVERAGE]
        interval = _bounds(average.iloc[0]) if len(average) == 1 else ""
        return [*map(_Cell, [*names, _seeds(average)]), *_numbers(numbers), _Cell(interval), *difference]

    def compared(test: pd.Series, *, bold: bool = False) -> list[_Cell]:
        return [_Cell(_number(100 * test["difference"], signed=True), bold), _Cell(_bounds(test, signed=True))]

    for base, of_base in tests.groupby(level="base_a", sort=False):
        targets = list(of_base.index.get_level_values("eval_language"))
        blocks.append([[_Cell(str(base))]])
        for target in targets:
            test = of_base.loc[(base, target)]
            blocks[-1].append(row([_name(target), _name(target)], cells.loc[[(base, target, target)]]))
            difference = compared(test, bold=test["p_holm"] < ALPHA)
            blocks[-1].append(row(["", _name(source)], cells.loc[[(base, source, target)]], difference))
        theirs, ours = cells.loc[[(base, k, k) for k in targets]], cells.loc[[(base, source, k) for k in targets]]
        difference = compared(means.loc[base])
        blocks.append([row(["Mean of targets", "target"], theirs), row(["", _name(source)], ours, difference)])
        if (base, source, source) in cells.index:
            blocks.append([row([_name(source), _name(source)], cells.loc[[(base, source, source)]])])
    titles = ["Average" if section == AVERAGE else section for section in sections]
    return _Table(2, ["Evaluated in", "Trained in", "Seeds", *titles, _INTERVAL, "Difference", _INTERVAL], blocks)


def _all_models(cells: pd.DataFrame, source: str, origins: Mapping[str, str]) -> _Table:
    average = cells[cells["section"] == AVERAGE]
    languages = list(average.index.unique("eval_language"))
    blocks: dict[str, list[list[_Cell]]] = {}
    for (base, train), mine in average.groupby(level=["base_model", "train_language"], sort=False):
        by_language = mine.droplevel(["base_model", "train_language"])
        texts = [
            f"{_number(100 * by_language.at[k, 'mean'])} ({_bounds(by_language.loc[k])})"
            if k in by_language.index
            else ""
            for k in languages
        ]
        mean = 100 * by_language["mean"].reindex([k for k in languages if k != source]).mean(skipna=False)
        name = str(base) if train == NOT_OURS else str(train)
        title = "Models of others and baselines" if train == NOT_OURS else str(base)
        cells_of_row = [name, _seeds(by_language), *texts, _number(mean)]
        blocks.setdefault(title, [[_Cell(title)]]).append([*map(_Cell, cells_of_row)])
    mean_title = "Mean" if source not in languages else f"Mean without {source}"
    titles = [f"{k} ({origins[k]})" for k in languages]
    return _Table(1, ["Trained in, or name", "Seeds", *titles, mean_title], list(blocks.values()))


def _seeds(rows: pd.DataFrame) -> str:
    return str(int(rows["seeds"].min()))


def _numbers(accuracies: pd.Series) -> list[_Cell]:
    return [_Cell(_number(100 * accuracy)) for accuracy in accuracies]


def _bounds(row: pd.Series, signed: bool = False) -> str:
    low, high = (_number(100 * row[bound], signed) for bound in ("ci_low", "ci_high"))
    return f"{low} to {high}" if low and high else ""


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

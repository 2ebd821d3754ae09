"""Answers to held-out instructions side by side, as a page: the policy's own, what selectors picked, and aligned policies' ones."""

import html
from collections.abc import Mapping, Sequence
from pathlib import Path

from rmtransfer.study.aligning import Contender
from rmtransfer.texts.corpus import Row, load_rows, texts_of

_SHOWN = 8  # instructions
_LOOK = {True: "answer", False: "empty"}

_STYLE = """
:root { color-scheme: light dark; }
body { font: 15px/1.45 system-ui, "Noto Sans", "Noto Sans CJK KR", "Noto Sans CJK SC", "Apple SD Gothic Neo", "PingFang SC",
  "Malgun Gothic", "Microsoft YaHei", sans-serif; max-width: 60rem; margin: 1.5rem auto; padding: 0 1rem; }
h2 { font-size: 1.05rem; margin: 2rem 0 .3rem; }
p.gloss { margin: 0 0 .5rem; opacity: .7; font-style: italic; }
div.scroll { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; }
th, td { text-align: left; vertical-align: top; padding: .35rem .6rem; border-top: 1px solid #8886; }
th { white-space: nowrap; font-weight: 600; width: 1%; }
td { white-space: pre-wrap; overflow-wrap: anywhere; min-width: 16rem; }
td.empty::before { content: "(empty)"; opacity: .6; }
nav a { display: inline-block; margin-right: .8rem; }
@media (max-width: 40rem) {
  tr, th, td { display: block; width: auto; min-width: 0; }
  td { border-top: 0; padding-top: 0; }
}
"""


def write_sample_answers(comparisons: Mapping[str, Mapping[str, Path]], source: str, output: Path) -> None:
    """Write a self-contained HTML page of the first held-out instructions, by policy and language.

    Args:
        comparisons: policy to language to Parquet file, see :mod:`rmtransfer.alignment.comparisons`. Of several seeds the first is
            shown, and of the best of n the largest n.
        source: the source language, whose instructions gloss those of the others.
    """
    parts = []
    for policy, files in comparisons.items():
        rows = {language: load_rows(path) for language, path in files.items()}
        gloss = {str(row["cluster"]): _prompt(row) for row in rows[source]}
        for language, these in rows.items():
            parts.append(f'<h1 id="{html.escape(f"{policy}-{language}")}">{html.escape(f"{policy}, {language}")}</h1>')
            parts += _instructions(these, language, {} if language == source else gloss)
    links = [
        f'<a href="#{html.escape(f"{policy}-{language}")}">{html.escape(f"{policy}, {language}")}</a>'
        for policy, files in comparisons.items()
        for language in files
    ]
    page = [
        '<!doctype html><html lang="en"><head><meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1"><title>Sample answers</title>',
        f"<style>{_STYLE}</style></head><body><nav>{''.join(links)}</nav>",
        *parts,
        "</body></html>\n",
    ]
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text("\n".join(page), encoding="utf-8")


def _instructions(rows: Sequence[Row], language: str, gloss: Mapping[str, str]) -> list[str]:
    by_instruction: dict[str, list[Row]] = {}
    for row in rows:
        by_instruction.setdefault(str(row["cluster"]), []).append(row)
    shown = []
    for identity, these in list(by_instruction.items())[:_SHOWN]:
        shown.append(f'<h2 lang="{html.escape(language)}">{html.escape(_prompt(these[0]))}</h2>')
        if identity in gloss:
            shown.append(f'<p class="gloss">{html.escape(gloss[identity])}</p>')
        answers = {"the policy itself": _text(these[0], "rejected"), **_contenders(these)}
        cells = [
            f'<tr><th>{html.escape(name)}</th><td lang="{html.escape(language)}" class="{_LOOK[bool(answer)]}">'
            f"{html.escape(answer)}</td></tr>"
            for name, answer in answers.items()
        ]
        shown.append(f'<div class="scroll"><table>{"".join(cells)}</table></div>')
    return shown


def _contenders(rows: Sequence[Row]) -> dict[str, str]:
    """Name to answer: one seed of each method and selector, the largest of best-of-n."""
    contenders = [(Contender.parse(row["subset"]), row) for row in rows]
    largest = max((contender.n or 1 for contender, _ in contenders), default=1)
    found: dict[str, str] = {}
    for contender, row in contenders:
        if contender.n is not None and contender.n < largest:
            continue
        base, train, _ = contender.selector
        method = contender.method.upper() if contender.n is None else f"best of {contender.n}"
        found.setdefault(f"{method}, {base if train == '-' else train}", _text(row, "chosen"))
    return found


def _prompt(row: Row) -> str:
    return "\n".join(texts_of(row, ["prompt"]))


def _text(row: Row, side: str) -> str:
    return "\n".join(texts_of(row, [side]))

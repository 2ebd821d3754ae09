"""Which rows stand or fall together: rows of one *cluster* are no independent items.

A row says so in its column ``cluster``; for HumanEval's problems it follows from the prompts. Decided once, from the rows in
the source language, so that it is the same in all of them.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

from rmtransfer.kit.progress import report
from rmtransfer.study.sections import SAME_PROBLEMS

if TYPE_CHECKING:
    from rmtransfer.texts.corpus import Row

# "Write a Go function `func HasCloseElements(numbers []float64, threshold float64) bool` to solve ...": the name before the
# first bracket; in JavaScript `const hasCloseElements = (numbers, threshold)`, in Rust `compare_one<'a>(a: ...)`.
_FUNCTION = re.compile(r"`[^`(=]*?(\w+)(?:<[^`(]*>)?(?: = )?\(")


def set_clusters(rows: Sequence[Row]) -> None:
    """Give every row a ``cluster``, in place, if any of them is in one with others; a row by itself has its own id there.

    Rows of ``SAME_PROBLEMS`` that name no cluster are in that of their problem, known by the function that it asks for:
    ``has_close_elements`` in Python is ``HasCloseElements`` in Go. Against HumanEvalPack's own numbers, this joins 97 % of the
    pairs of rows that are of one problem; what is renamed in one language (35, 61, 71, ...) stays apart there. Sixteen
    problems that share a name with another one (84 and 161, both ``solve``) are joined with it.
    """
    unnamed = []
    for row in rows:
        if row.get("cluster") is None and row["subset"] in SAME_PROBLEMS:
            found = _FUNCTION.search(row["prompt"][-1]["content"])
            if found is None:
                unnamed.append(row["id"])
            else:
                row["cluster"] = f"humaneval/{found[1].replace('_', '').lower()}"
    if unnamed:
        report(
            f"{len(unnamed):,} rows of {', '.join(SAME_PROBLEMS)} name no function in their prompt, the first is "
            f"{unnamed[0]!r}: each counts as a problem of its own"
        )
    if any(row.get("cluster") is not None for row in rows):
        for row in rows:
            row["cluster"] = row.get("cluster") or row["id"]


def take_clusters(rows: Sequence[Row], original: Sequence[Row]) -> None:
    """Give rows the clusters, in place, that the rows with their ids have in the source language."""
    known = {row["id"]: row["cluster"] for row in original if "cluster" in row}
    for row in rows:
        row.pop("cluster", None)
        if known:
            row["cluster"] = known.get(row["id"], row["id"])

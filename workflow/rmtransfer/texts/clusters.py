"""Which rows stand or fall together: rows of one *cluster* are no independent items.

A row says so in its column ``cluster``; for HumanEval's problems it follows from the prompts. Decided once, from the rows in
the source language, so that it is the same in all of them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import TYPE_CHECKING

from rmtransfer.kit.progress import report
from rmtransfer.study.sections import SAME_PROBLEMS

if TYPE_CHECKING:
    from rmtransfer.texts.corpus import Row

# "Write a Go function `func HasCloseElements(numbers []float64, threshold float64) bool` to solve ...": the name before the
# first bracket; in JavaScript `const hasCloseElements = (numbers, threshold)`, in Rust `compare_one<'a>(a: ...)`.
_FUNCTION = re.compile(r"`[^`(=]*?(\w+)(?:<[^`(]*>)?(?: = )?\(")


class Clusters:
    """Which cluster the rows of a file are in, one row after the other.

    Rows of ``SAME_PROBLEMS`` that name no cluster are in that of their problem, known by the function that it asks for:
    ``has_close_elements`` in Python is ``HasCloseElements`` in Go. Against HumanEvalPack's own numbers, this joins 97 % of the
    pairs of rows that are of one problem; what is renamed in one language (35, 61, 71, ...) stays apart there. Sixteen
    problems that share a name with another one (84 and 161, both ``solve``) are joined with it.

    Args:
        original: the same rows in the source language, where these are a translation: their clusters count.

    Attributes:
        named: how many rows named a cluster themselves.
    """

    def __init__(self, original: Iterable[Row] | None = None) -> None:
        self._known = None
        if original is not None:
            self._known = {row["id"]: row["cluster"] for row in original if "cluster" in row}
        self.named = self._unknown = 0
        self._first = ""

    def of(self, row: Row) -> str | None:
        """The cluster of a row; None where it is by itself."""
        cluster: str | None = row.get("cluster")
        self.named += cluster is not None
        if self._known is not None:
            return self._known.get(row["id"])
        if cluster is None and row["subset"] in SAME_PROBLEMS:
            if found := _FUNCTION.search(row["prompt"][-1]["content"]):
                return f"humaneval/{found[1].replace('_', '').lower()}"
            self._first = self._first or row["id"]
            self._unknown += 1
        return cluster

    def say(self) -> None:
        """Which problems have not been recognised."""
        if self._unknown:
            report(
                f"{self._unknown:,} rows of {', '.join(SAME_PROBLEMS)} name no function in their prompt, the first is "
                f"{self._first!r}: each counts as a problem of its own"
            )

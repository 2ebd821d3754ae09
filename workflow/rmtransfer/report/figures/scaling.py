"""Accuracy by number of training pairs and by base model, in-language, from the source and from elsewhere."""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import NullLocator

from rmtransfer.report.figures.style import (
    COLUMN,
    FULL,
    grid_shape,
    label_lowest,
    legend_above,
    order,
    read_table,
    save,
    series,
    wrapped,
)
from rmtransfer.study.names import ALL, ELSEWHERE, IN_LANGUAGE, ORIGINS, SOURCE

_MOST_PANELS = 30
_LINES = dict(zip(ORIGINS, ("-", "--", ":"), strict=True))


def draw_dose(tables: Mapping[str, Path], outputs: Sequence[Path], *, source: str) -> None:
    """Accuracy against the number of training pairs: a panel per base model and evaluation language."""
    frame = read_table(tables["scaling"])
    sizes = sorted(set(frame["pairs"]))
    bases = order(frame["base_model"])
    panels = {
        (base, language): frame[(frame["base_model"] == base) & (frame["eval_language"] == language)]
        for base in bases
        for language in _languages(frame, len(bases))
    }
    titles = [f"{base}\n{_title(k)}" if len(bases) > 1 else _title(k) for base, k in panels]
    figure, axes = _panels(titles)
    for axis, cells in zip(axes.flat, panels.values(), strict=False):
        axis.set_xscale("log")
        axis.set_xticks(sizes, [f"{size:,}" for size in sizes])
        axis.xaxis.set_minor_locator(NullLocator())
        # A share of the way from one size to the next.
        step = min((b / a for a, b in pairwise(sizes)), default=2) ** 0.08
        _points(axis, cells, cells["pairs"], lambda x, place, step=step: x * step**place, joined=True)
    _finish(figure, axes, frame, source, "training pairs")
    save(figure, outputs)


def draw_sizes(tables: Mapping[str, Path], outputs: Sequence[Path], *, source: str) -> None:
    """Accuracy of the reward models of full training sets by base model, from the smallest: a panel per evaluation language."""
    frame = read_table(tables["scaling"])
    frame = frame[frame["pairs"] == frame["pairs"].max()].sort_values("parameters", kind="stable")
    bases = frame.drop_duplicates("base_model").set_index("base_model")["parameters"]
    places = {base: place for place, base in enumerate(bases.index)}
    languages = _languages(frame, 1)
    figure, axes = _panels([_title(language) for language in languages])
    for axis, language in zip(axes.flat, languages, strict=False):
        axis.set_xticks(range(len(bases)), [f"{base}\n{_billions(number)}" for base, number in bases.items()])
        axis.set_xlim(-0.5, len(bases) - 0.5)
        cells = frame[frame["eval_language"] == language]
        x = cells["base_model"].map(places).astype(float)
        _points(axis, cells, x, lambda x, place: x + 0.15 * place, joined=False)
    _finish(figure, axes, frame, source, "base model and its parameters")
    save(figure, outputs)


def _languages(frame: pd.DataFrame, bases: int) -> list[str]:
    """Evaluation languages of the panels, the mean first; the mean alone where there are too many."""
    languages = [language for language in order(frame["eval_language"]) if language != ALL]
    several = [ALL] if len(languages) > 1 else []
    return several if several and bases * (len(languages) + 1) > _MOST_PANELS else [*several, *languages]


def _panels(titles: Sequence[str]) -> tuple[Any, np.ndarray]:
    few = len(titles) <= 6
    rows, columns = grid_shape(len(titles), 2 if few else 6)
    figure, axes = plt.subplots(
        rows,
        columns,
        figsize=(COLUMN if few else FULL, (1.5 if few else 1.25) * rows + 0.8),
        sharex=True,
        sharey=True,
        squeeze=False,
        layout="constrained",
    )
    for axis, title in zip(axes.flat, titles, strict=False):
        room = (COLUMN if few else FULL) / columns - 0.3
        axis.set_title("\n".join(wrapped(line, room) for line in title.split("\n")))
    for axis in axes.flat[len(titles) :]:
        axis.set_axis_off()
    return figure, axes


def _points(axis: Axes, cells: pd.DataFrame, x: pd.Series, beside: Any, *, joined: bool) -> None:
    """Means with their intervals, each origin with its own colour, marker and line.

    Args:
        x: where the cells go.
        beside: moves that by so many places to the right, from -1 to 1, so that intervals do not cover each other.
    """
    for i, (origin, line) in enumerate(_LINES.items()):
        these = cells[cells["origin"] == origin]
        low, high = these["mean"] - these["ci_low"], these["ci_high"] - these["mean"]
        axis.errorbar(
            beside(x[these.index], i - 1),
            100 * these["mean"],
            yerr=[100 * low.clip(lower=0), 100 * high.clip(lower=0)],
            linestyle=line if joined else "none",
            linewidth=1,
            markersize=3.5,
            elinewidth=0.8,
            label=origin,
            **series(i),
        )


def _finish(figure: Any, axes: np.ndarray, frame: pd.DataFrame, source: str, what: str) -> None:
    label_lowest(axes)
    for axis in axes[:, 0]:
        axis.set_ylabel("accuracy, %")
    figure.supxlabel(what)
    names = {IN_LANGUAGE: "RM trained in the language itself", SOURCE: f"in {source}", ELSEWHERE: "in other targets"}
    there = {*frame["origin"]}
    handles, labels = axes.flat[0].get_legend_handles_labels()
    known = [(handle, names[label]) for handle, label in zip(handles, labels, strict=True) if label in there]
    legend_above(figure, [handle for handle, _ in known], [name for _, name in known])


def _title(language: str) -> str:
    return "mean over targets" if language == ALL else language


def _billions(parameters: int) -> str:
    return f"{parameters / 1e9:.2g}B" if parameters >= 1e8 else f"{parameters / 1e6:.2g}M"

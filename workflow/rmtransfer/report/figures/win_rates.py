"""Answers to held-out instructions against the policy's own, as judges see them, and what code can check of them."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from rmtransfer.report.figures.style import (
    FULL,
    label_lowest,
    legend_above,
    order,
    read_table,
    save,
    say,
    series,
    wrapped,
)

_MOST_PANELS = 4  # judges beside each other
_MOST_ROWS = 8
_WIN_RATE, _CONTROLLED = "win_rate", "lc_win_rate"
_WIDTH = 0.6  # of a language's place, for all selectors together


def draw_win_rates(tables: Mapping[str, Path], outputs: Sequence[Path]) -> None:
    """Win rates by language and selector: a row for each policy and method, a column for each judge."""
    frame = read_table(tables["alignment"])
    frame = frame[frame["measure"].isin([_WIN_RATE, _CONTROLLED])]
    if frame.empty:
        say("No answers were compared.", outputs)
        return
    # Of the best of n the largest n: smaller ones are in the table.
    frame = frame[frame["n"].isna() | (frame["n"] == frame["n"].max())]
    rows = [(p, m) for p, cells in frame.groupby("policy", sort=False) for m in order(cells["method"])][:_MOST_ROWS]
    judges = order(frame["judge"])[:_MOST_PANELS]
    languages, selectors = order(frame["language"]), _selectors(frame)
    looks = {name: series(i) for i, name in enumerate(selectors)}
    figure, axes = plt.subplots(
        len(rows),
        len(judges),
        figsize=(FULL, 1.45 * len(rows) + 0.9),
        sharex=True,
        sharey=True,
        squeeze=False,
        layout="constrained",
    )
    several = frame["policy"].nunique() > 1
    for panels, (policy, method) in zip(axes, rows, strict=True):
        for axis, judge in zip(panels, judges, strict=True):
            here = frame[(frame["policy"] == policy) & (frame["method"] == method) & (frame["judge"] == judge)]
            _draw_panel(axis, here, languages, looks)
            if axis in axes[0]:
                relation = ", ".join(kind for kind in order(here["relation"].fillna("")) if kind)
                axis.set_title(
                    wrapped(f"judged by {judge}" + (f" ({relation})" if relation else ""), FULL / len(judges))
                )
        named = _method(method, frame.loc[frame["method"] == method, "n"].max())
        panels[0].set_ylabel(f"{wrapped(policy, 1.2)}\n{named}" if several else named)
    axes[0, 0].yaxis.set_major_locator(MaxNLocator(5))
    label_lowest(axes)
    handles = [plt.Line2D([], [], markersize=4, linewidth=0, **look) for look in looks.values()]
    handles.append(plt.Line2D([], [], color="0.2", marker="_", markersize=7, linewidth=0))
    legend_above(figure, handles, [*selectors, "at equal length"], "selected by the reward model trained in, or named")
    figure.supylabel("wins against the policy's own answers, %")
    save(figure, outputs)


def _selectors(frame: pd.DataFrame) -> list[str]:
    """Names of selectors, with their base where there are several."""
    return order(_selector(frame))


def _selector(frame: pd.DataFrame) -> pd.Series:
    bases = frame.loc[frame["selector_base"] != "-", "selector_base"].nunique()
    named = frame["selector_base"] + " " + frame["selector"] if bases > 1 else frame["selector"]
    return named.str.removeprefix("- ")


def _method(method: str, n: float) -> str:
    return method.upper() if np.isnan(n) else f"best of {n:.0f}"


def _draw_panel(
    axis: Axes, frame: pd.DataFrame, languages: Sequence[str], looks: Mapping[str, Mapping[str, Any]]
) -> None:
    axis.axhline(50, color="0.4", linewidth=0.8, linestyle=":", zorder=1)
    frame = frame.assign(name=_selector(frame))
    for place, (name, look) in enumerate(looks.items()):
        shift = _WIDTH * ((place + 0.5) / len(looks) - 0.5)
        cells = frame[frame["name"] == name]
        for measure in (_WIN_RATE, _CONTROLLED):
            these = cells[cells["measure"] == measure].set_index("language")[["value", "ci_low", "ci_high"]]
            values = 100 * these.reindex(languages)
            x = np.arange(len(languages)) + shift
            if measure == _CONTROLLED:
                axis.plot(x, values["value"], color="0.2", marker="_", markersize=7, linewidth=0, zorder=3)
                continue
            spread = [values["value"] - values["ci_low"], values["ci_high"] - values["value"]]
            axis.errorbar(x, values["value"], np.nan_to_num(spread), linewidth=0, elinewidth=0.8, markersize=4, **look)
    axis.set_xticks(range(len(languages)), languages)
    axis.set_xlim(-0.6, len(languages) - 0.4)
    if "targets" in languages:  # a mean, apart from what it is a mean of
        axis.axvspan(languages.index("targets") - 0.5, languages.index("targets") + 0.5, color="0.95", zorder=0)

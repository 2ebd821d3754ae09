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
    COLUMN,
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
_MOST_LANGUAGES = 6
_WIN_RATE, _CONTROLLED = "win_rate", "lc_win_rate"
_PROXY, _BY_JUDGE = "proxy_gain", "judge_gain"
_STRICT, _LOOSE = "strict_prompt_accuracy", "loose_prompt_accuracy"
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
                title = wrapped(f"judged by {judge}", 0.8 * (FULL - 1) / len(judges))
                axis.set_title(f"{title}\n({relation})" if relation else title)
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
        _draw_points(axis, cells, (_WIN_RATE, _CONTROLLED), languages, shift, look)
    axis.set_xticks(range(len(languages)), languages)
    axis.set_xlim(-0.6, len(languages) - 0.4)
    if "targets" in languages:  # a mean, apart from what it is a mean of
        axis.axvspan(languages.index("targets") - 0.5, languages.index("targets") + 0.5, color="0.95", zorder=0)


def _draw_points(
    axis: Axes,
    cells: pd.DataFrame,
    measures: tuple[str, str],
    languages: Sequence[str],
    shift: float,
    look: Mapping[str, Any],
) -> None:
    """One selector's shares in per cent: the first measure with its interval, the second as a dash."""
    x = np.arange(len(languages)) + shift
    for measure, dash in zip(measures, (False, True), strict=True):
        these = cells[cells["measure"] == measure].set_index("language")[["value", "ci_low", "ci_high"]]
        values = 100 * these.reindex(languages)
        if dash:
            axis.plot(x, values["value"], color="0.2", marker="_", markersize=7, linewidth=0, zorder=3)
        else:
            spread = [values["value"] - values["ci_low"], values["ci_high"] - values["value"]]
            axis.errorbar(x, values["value"], np.nan_to_num(spread), linewidth=0, elinewidth=0.8, markersize=4, **look)


def draw_over_optimisation(tables: Mapping[str, Path], outputs: Sequence[Path], *, source: str) -> None:
    """Gain of the best of n by the selector's own rewards and by each judge's; a column per language, a row per selector."""
    frame = read_table(tables["alignment"])
    frame = frame[frame["measure"].isin([_PROXY, _BY_JUDGE])]
    if frame.empty:
        say("Nothing was picked of several answers.", outputs)
        return
    languages = order(frame["language"])[:_MOST_LANGUAGES]
    policies = order(frame["policy"])
    judges = order(frame.loc[frame["measure"] == _BY_JUDGE, "judge"])
    looks = {judge: series(i + 1) for i, judge in enumerate(judges)}
    kinds = [f"trained in {source}", "trained in the\nlanguage itself"]
    rows = [(policy, kind) for policy in policies for kind in kinds][:_MOST_ROWS]
    figure, axes = plt.subplots(
        len(rows),
        len(languages),
        figsize=(FULL, 1.3 * len(rows) + 0.9),
        sharex=True,
        sharey=True,
        squeeze=False,
        layout="constrained",
    )
    for panels, (policy, kind) in zip(axes, rows, strict=True):
        for axis, language in zip(panels, languages, strict=True):
            selector = source if kind == kinds[0] else language
            here = frame[(frame["policy"] == policy) & (frame["language"] == language)]
            here = here[(here["selector"] == selector) & (here["selector_base"] == here["selector_base"].iloc[0])]
            axis.axhline(0, color="0.4", linewidth=0.8, linestyle=":", zorder=1)
            proxy = here[here["measure"] == _PROXY].sort_values("n")
            axis.plot(proxy["n"], proxy["value"], color="0.2", linewidth=1, linestyle="--")
            for judge, look in looks.items():
                curve = here[(here["measure"] == _BY_JUDGE) & (here["judge"] == judge)].sort_values("n")
                axis.plot(curve["n"], curve["value"], markersize=3, linewidth=1, **look)
                axis.fill_between(
                    curve["n"], curve["ci_low"], curve["ci_high"], color=look["color"], alpha=0.12, linewidth=0
                )
            axis.set_xticks(sorted(frame["n"].unique()))
            if axis in axes[0]:
                axis.set_title(f"answers in {language}")
        panels[0].set_ylabel(f"{wrapped(policy, 1.2)}\n{kind}" if len(policies) > 1 else kind)
    label_lowest(axes)
    handles = [plt.Line2D([], [], color="0.2", linewidth=1, linestyle="--")]
    handles += [plt.Line2D([], [], markersize=3, linewidth=1, **look) for look in looks.values()]
    legend_above(figure, handles, ["the selector's own rewards", *judges], "gain by")
    figure.supylabel("gain, sd within an instruction")
    figure.supxlabel("best of n")
    save(figure, outputs)


def draw_constraints(tables: Mapping[str, Path], outputs: Sequence[Path]) -> None:
    """Share of instructions all of whose constraints an answer fulfils, by language: the policy itself and aligned ones."""
    frame = read_table(tables["alignment"])
    frame = frame[frame["measure"].isin([_STRICT, _LOOSE])]
    if frame.empty:
        say("No constraints were checked.", outputs)
        return
    policies, languages = order(frame["policy"])[:_MOST_ROWS], order(frame["language"])
    several = frame.loc[frame["selector_base"] != "-", "selector_base"].nunique() > 1
    base = frame["selector_base"].where(several & (frame["selector_base"] != "-"), "")
    named = (frame["method"].str.upper() + ", " + (base + " " + frame["selector"]).str.strip()).where(
        frame["selector"] != "-", "the policy itself"
    )
    frame = frame.assign(name=named)
    looks = {name: series(i) for i, name in enumerate(order(frame["name"]))}
    figure, axes = plt.subplots(
        len(policies),
        1,
        figsize=(FULL if several else COLUMN, 1.7 * len(policies) + 0.8),
        sharex=True,
        squeeze=False,
        layout="constrained",
    )
    for axis, policy in zip(axes[:, 0], policies, strict=True):
        for place, (name, look) in enumerate(looks.items()):
            shift = _WIDTH * ((place + 0.5) / len(looks) - 0.5)
            cells = frame[(frame["policy"] == policy) & (frame["name"] == name)]
            _draw_points(axis, cells, (_STRICT, _LOOSE), languages, shift, look)
        axis.set_xticks(range(len(languages)), languages)
        axis.set_xlim(-0.6, len(languages) - 0.4)
        axis.set_ylim(bottom=0)
        if len(policies) > 1:
            axis.set_title(wrapped(policy, COLUMN))
    handles = [plt.Line2D([], [], markersize=4, linewidth=0, **look) for look in looks.values()]
    handles.append(plt.Line2D([], [], color="0.2", marker="_", markersize=7, linewidth=0))
    legend_above(figure, handles, [*looks, "read loosely"])
    figure.supylabel("all constraints fulfilled, %")
    save(figure, outputs)

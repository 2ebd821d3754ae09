"""How accurate every reward model is in every language, and how alike its verdicts are across languages."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from rmtransfer.report.figures.baselines import CHANCE, PROBE, baselines_of, draw_marks, legend_of, looks_of, probes_of
from rmtransfer.report.figures.style import (
    BASELINES,
    COLORS,
    COLUMN,
    FULL,
    MANY,
    MOST_SERIES,
    OTHERS,
    color_bar,
    grid_shape,
    hatched,
    heat,
    intervals,
    label_lowest,
    legend_above,
    matrix,
    model_groups,
    number,
    order,
    read_table,
    save,
    say,
    series,
    spread,
    wrapped,
)
from rmtransfer.study.names import ALPHA, AVERAGE, NOT_OURS, PRIMARY


def draw_heatmap(tables: Mapping[str, Path], outputs: Sequence[Path], *, baselines: Mapping[str, str]) -> None:
    """Heat maps of accuracy and of the difference to the in-language model.

    Differences that are not significant (``p_holm`` within their family not below 0.05, or no test at all) are hatched, their
    numbers in italics.
    """
    frame, significance = read_table(tables["transfer"]), read_table(tables["significance"])
    length_rule, chance = read_table(tables["length_baseline"]), _chance(tables["chance"])
    groups = model_groups(frame[frame["section"] == AVERAGE], baselines)
    languages = order(frame["eval_language"])
    accuracy = {group: 100 * matrix(cells, "accuracy", languages) for group, cells in groups.items()}
    difference = {group: _difference(cells) for group, cells in accuracy.items() if group not in OTHERS}
    difference = {group: cells for group, cells in difference.items() if not cells.empty}
    lowest = min([chance[AVERAGE], *(float(np.nanmin(cells)) for cells in accuracy.values())])
    largest = max([1.0, *(float(np.nanmax(np.abs(cells))) for cells in difference.values())])

    # Accuracy left and difference right; with many languages one above the other.
    beside = bool(difference) and len(languages) <= MANY
    if beside:
        lines = [[(group, "accuracy"), (group, "difference")] for group in groups]
    else:
        lines = [[(group, "accuracy")] for group in groups]
        for group in reversed(difference):
            lines.insert(list(groups).index(group) + 1, [(group, "difference")])
    heights = [_height(len(accuracy[line[0][0]])) for line in lines]
    figure, axes = plt.subplots(
        len(lines),
        2 if beside else 1,
        figsize=(FULL, sum(heights) + 0.75 * len(heights) + (0.3 if difference else 0)),
        height_ratios=heights,
        squeeze=False,
        layout="constrained",
    )
    images: dict[str, Any] = {}
    bars: dict[str, list[Axes]] = {}
    for (group, what), axis in zip([block for line in lines for block in line], axes.flat, strict=True):
        bars.setdefault(what, []).append(axis)
        if what == "accuracy":
            deviation = spread(groups[group], "accuracy", languages)
            images[what] = heat(
                axis,
                accuracy[group],
                "viridis",
                (lowest, 100),
                "{:.0f}",
                None if deviation is None else 100 * deviation,
            )
            axis.set_title(f"{group}: accuracy, %")
            axis.set_xlabel(_with_length_rule(axis, length_rule, group, languages))
            axis.set_ylabel("" if group in OTHERS else "trained in")
        elif group in difference:
            marked = _not_significant(difference[group], significance, group)
            images[what] = heat(axis, difference[group], "RdBu_r", (-largest, largest), "{:+.0f}", marked=marked)
            axis.set_title(
                "minus the in-language RM, points" if beside else f"{group} minus the in-language RM, points"
            )
            axis.set_xlabel("evaluated in")
            axis.set_ylabel("" if beside else "trained in")
        else:
            axis.set_axis_off()
    for what, image in images.items():
        # Where both kinds alternate in one column, one bar over all of a kind would lie on the other's.
        color_bar(figure, image, bars[what] if beside or not difference else bars[what][:1])
    if difference:
        sentence = f"difference not significant (Holm-corrected p ≥ {ALPHA})"
        legend_above(figure, [hatched((0, 0), "white")], [sentence])
    save(figure, outputs)


def _difference(accuracy: pd.DataFrame) -> pd.DataFrame:
    """Points to the model trained in the column's language; only columns with such a model."""
    own = {k: accuracy.at[k, k] for k in accuracy.columns if k in accuracy.index}
    return accuracy[list(own)] - pd.Series(own, dtype=float)


def _not_significant(difference: pd.DataFrame, significance: pd.DataFrame, base: str) -> pd.DataFrame:
    """Bool in the shape of ``difference``: no test says that the cell differs. The models themselves need no test."""
    tests = significance[
        (significance["base_a"] == base)
        & (significance["base_b"] == base)
        & (significance["train_b"] == significance["eval_language"])
        & (significance["p_holm"] < ALPHA)
    ]
    found = set(zip(tests["train_a"], tests["eval_language"], strict=True))
    marks = [[(m, k) not in found and m != k for k in difference.columns] for m in difference.index]
    return pd.DataFrame(marks, difference.index, difference.columns)


def _chance(path: Path) -> dict[str, float]:
    """Section to what rewards by chance come to there, in per cent."""
    return dict(read_table(path).set_index("section")["chance"] * 100)


def _with_length_rule(axis: Axes, baseline: pd.DataFrame, group: str, languages: Sequence[str]) -> str:
    """Put the longer-answer rule's accuracy below the languages, where its tokens are this group's; the axis label."""
    mine = baseline[(baseline["subset"] == AVERAGE) & (baseline["base_model"] == group)]
    rule = mine.set_index("eval_language")["accuracy"]
    if rule.empty:
        return "evaluated in"
    ticks = [f"{k}\n({100 * rule[k]:.0f})" if k in rule.index else k for k in languages]
    axis.set_xticks(range(len(ticks)), ticks)
    return "evaluated in (longer-answer rule)"


def _height(models: int) -> float:
    """Inches of a heat map with so many rows: room for two lines, less in long ones."""
    return max(min(0.38 * models, 2.2), 0.27 * models)


def draw_sections(tables: Mapping[str, Path], outputs: Sequence[Path], *, baselines: Mapping[str, str]) -> None:
    """Accuracy by benchmark section: a panel of points each, or a heat map each where points are too many."""
    frame, chance = read_table(tables["seeds"]), _chance(tables["chance"])
    groups = model_groups(frame, baselines)
    languages, names = order(frame["eval_language"]), order(frame["section"])
    # Baselines are marks beside the points of reward models, and points themselves where there are no others.
    drawn = {group: cells for group, cells in groups.items() if group != BASELINES} or groups
    styles: dict[tuple[bool, str], int] = {}
    for group, cells in drawn.items():
        for model in order(cells["model"]):
            styles.setdefault((group in OTHERS, model), len(styles))
    most = max(cells["model"].nunique() for cells in drawn.values())
    width = max(1.15, 0.036 * most * len(languages))  # inches that a panel of points needs
    if len(styles) > MOST_SERIES or width > FULL / 2:
        if BASELINES in groups:  # without probes, which would be as many rows again
            rows = groups[BASELINES]
            groups[BASELINES] = rows[rows["train_language"] == NOT_OURS]
        _draw_section_heatmaps(
            {g: cells for g, cells in groups.items() if len(cells)}, languages, names, chance, outputs
        )
        return
    marks = {group: baselines_of(groups, group, baselines) for group in drawn if group != BASELINES}
    beside = pd.concat([*marks.values(), frame.iloc[:0]])
    looks = looks_of(beside)
    # With marks between the points wider panels are easier to read, as long as the figure stays on a page.
    shapes = [grid_shape(len(names), min(5, int(6.3 / inches))) for inches in (1.5 * width, width)]
    rows, columns = shapes[0] if not beside.empty and shapes[0][0] * len(drawn) < 4 else shapes[1]
    figure, axes = plt.subplots(
        rows * len(drawn),
        columns,
        figsize=(FULL, (1.95 if rows * len(drawn) < 4 else 1.6) * rows * len(drawn) + 0.5),
        sharex=True,
        sharey=True,
        squeeze=False,
        layout="constrained",
    )
    for g, (group, cells) in enumerate(drawn.items()):
        panels = axes[g * rows : (g + 1) * rows]
        for axis, name in zip(panels.flat, names, strict=False):
            axis.axhline(chance[name], zorder=0.5, **CHANCE)
            if group in marks:
                draw_marks(axis, marks[group][marks[group]["section"] == name], languages, looks, "x")
            _section_panel(
                axis,
                cells[cells["section"] == name],
                {m: i for (other, m), i in styles.items() if other == (group in OTHERS)},
                languages,
            )
            if group in marks:
                of_section = marks[group][marks[group]["section"] == name]
                _section_probes(axis, of_section, order(cells["model"]), languages)
            axis.set_title(wrapped(_title(name), 5.6 / columns))
        for axis in panels.flat[len(names) :]:
            axis.set_axis_off()
        for axis in panels[:, 0]:
            axis.set_ylabel(f"{wrapped(group, 1.4)}\naccuracy, %")
    label_lowest(axes)
    lowest = 100 * min(frame["ci_low"].min(), frame["mean"].min())
    axes[0, 0].set_ylim(min([45.0, lowest, *chance.values()]) - 2, 102)
    handles = [
        axes.flat[0].errorbar([], [], yerr=[], linestyle="none", markersize=3, elinewidth=0.7, **series(i))
        for i in styles.values()
    ]
    labels = [model for _, model in styles]
    if probes := probes_of(beside):
        handles.append(plt.Line2D([], [], marker="x", **PROBE))
        labels.append(f"{', '.join(probes)}, of the same training language")
    for label, handle in legend_of(beside, looks).items():
        handles.append(handle)
        labels.append(label)
    title = "reward model" if all(other for other, _ in styles) else "reward model (training language or name)"
    legend_above(figure, handles, labels, title)
    figure.supxlabel("evaluated in")
    save(figure, outputs)


def _offset(place: int, models: int) -> float:
    """Where a model's points lie in the slot of a language."""
    return (place - (models - 1) / 2) * 0.7 / models


def _section_panel(axis: Axes, frame: pd.DataFrame, styles: Mapping[str, int], languages: Sequence[str]) -> None:
    cells = intervals(frame, ["model", "eval_language"])
    models = order(frame["model"])
    for place, model in enumerate(models):
        mine = cells.loc[model].reindex(languages)
        x = np.arange(len(languages)) + _offset(place, len(models))
        low, high = mine["accuracy"] - mine["low"], mine["high"] - mine["accuracy"]
        axis.errorbar(
            x,
            mine["accuracy"],
            yerr=[low.clip(lower=0), high.clip(lower=0)],
            linestyle="none",
            markersize=3,
            markeredgewidth=0.7,
            elinewidth=0.7,
            **series(styles[model]),
        )
    axis.set_xticks(range(len(languages)), languages)
    axis.set_xlim(-0.6, len(languages) - 0.4)


def _section_probes(axis: Axes, rows: pd.DataFrame, models: Sequence[str], languages: Sequence[str]) -> None:
    """A probe of every training language where the reward model of that language is."""
    for cells in probes_of(rows).values():
        for place, model in enumerate(models):
            if model in cells.index:
                x = np.arange(len(languages)) + _offset(place, len(models))
                axis.plot(x, cells.loc[model].reindex(languages)["accuracy"], marker="x", zorder=5, **PROBE)


def _draw_section_heatmaps(
    groups: Mapping[str, pd.DataFrame],
    languages: Sequence[str],
    names: Sequence[str],
    chance: Mapping[str, float],
    outputs: Sequence[Path],
) -> None:
    """What points cannot show any more: one heat map per section, two beside each other where a page is too short."""
    height = [0.17 * cells["model"].nunique() for cells in groups.values()]
    rows, columns = grid_shape(len(names), 1 if len(names) * (sum(height) + 0.35) < 9.5 else 2)
    figure, axes = plt.subplots(
        rows * len(groups),
        columns,
        figsize=(FULL, rows * (sum(height) + 0.35 * len(groups)) + 0.7),
        height_ratios=[inches for inches in height for _ in range(rows)],
        sharex=True,
        squeeze=False,
        layout="constrained",
    )
    cells = {
        (group, name): 100 * matrix(frame[frame["section"] == name], "mean", languages)
        for group, frame in groups.items()
        for name in names
    }
    lowest = min([*chance.values(), *(float(np.nanmin(values)) for values in cells.values())])
    for g, group in enumerate(groups):
        panels = axes[g * rows : (g + 1) * rows]
        for axis, name in zip(panels.flat, names, strict=False):
            image = heat(axis, cells[group, name], "viridis", (lowest, 100), "{:.0f}", label_inches=2.5)
            axis.set_title(wrapped(_title(name) if len(groups) == 1 else f"{group}: {_title(name)}", 5.6 / columns))
        for axis in panels.flat[len(names) :]:
            axis.set_axis_off()
        for axis in panels[:, 1:].flat:
            axis.set_yticks([])
        if group not in OTHERS:
            for axis in panels[:, 0]:
                axis.set_ylabel("trained in")
    label_lowest(axes)
    color_bar(figure, image, axes, "accuracy, %")
    figure.supxlabel("evaluated in")
    save(figure, outputs)


def _title(section: str) -> str:
    return "Average" if section == AVERAGE else section


def draw_source_against_target(
    tables: Mapping[str, Path], outputs: Sequence[Path], *, source: str, baselines: Mapping[str, str]
) -> None:
    """Accuracy in every target language of the reward models trained in the source language and in that language; beside it
    their difference."""
    frame, chance = read_table(tables["seeds"]), _chance(tables["chance"])
    frame = frame[frame["section"] == AVERAGE]
    tests = read_table(tables["significance"])
    tests = tests[tests["family"] == PRIMARY]
    groups = model_groups(frame, baselines)
    pairs = {group: cells for group, cells in groups.items() if group not in OTHERS and group in set(tests["base_a"])}
    if not pairs:
        say(f"No reward model is trained in {source} and in a target language.", outputs)
        return
    marks = {group: baselines_of(groups, group, baselines) for group in pairs}
    beside = pd.concat(list(marks.values()))
    looks, probes = looks_of(beside), ", ".join(probes_of(beside))
    targets = {group: order(tests.loc[tests["base_a"] == group, "eval_language"]) for group in pairs}
    heights = [0.27 * len(rows) + 0.2 for rows in targets.values()]
    legend: dict[str, Any] = {}
    figure, axes = plt.subplots(
        len(pairs),
        2,
        figsize=(COLUMN, sum(heights) + 1.3),
        height_ratios=heights,
        width_ratios=[1.6, 1],
        sharex="col",
        squeeze=False,
        layout="constrained",
    )
    for (left, right), (base, rows) in zip(axes, pairs.items(), strict=True):
        languages = targets[base]
        y = np.arange(len(languages))
        cells = intervals(rows, ["model", "eval_language"])
        left.axvline(chance[AVERAGE], zorder=0.5, **CHANCE)
        draw_marks(left, marks[base], languages, looks, "y")
        # The source's filled circle fits into the target's open square, so that both are seen where they coincide.
        for label, keys, side, color, look in (
            (
                f"RM trained in {source}",
                [(source, k) for k in languages],
                *(-1, COLORS[0], {"marker": "o", "markersize": 3.5, "zorder": 4}),
            ),
            (
                "RM trained in target",
                [(k, k) for k in languages],
                *(1, COLORS[1], {"marker": "s", "markersize": 6.5, "markerfacecolor": "white", "zorder": 3}),
            ),
        ):
            mine = cells.reindex(keys)
            left.hlines(y + 0.27 * side, mine["low"], mine["high"], color=color, linewidth=0.9)
            legend[label] = left.plot(mine["accuracy"], y, linestyle="none", color=color, **look)[0]
            shape = {"marker": "+" if side < 0 else "x", **PROBE}
            for fitted in probes_of(marks[base]).values():
                left.plot(fitted.reindex(keys)["accuracy"], y + 0.27 * side, zorder=5, **shape)
            if probes:
                legend[f"{probes}, {source if side < 0 else 'target'}"] = plt.Line2D([], [], **shape)
        test = tests[tests["base_a"] == base].set_index("eval_language").loc[languages]
        difference, low, high = (100 * test[name] for name in ("difference", "ci_low", "ci_high"))
        right.axvline(0, color="0.6", linewidth=0.7)
        right.hlines(y, low, high, color="black", linewidth=0.9)
        right.plot(difference, y, "o", color="black", markersize=3)
        for place, value, end in zip(y, difference, high, strict=True):
            right.annotate(number("{:+.1f}", value), (end, place), (3, 0), textcoords="offset points", va="center")
        left.set_title(base)
        left.set_yticks(y, languages)
        right.set_yticks([])
        for axis in (left, right):
            axis.set_ylim(len(languages) - 0.4, -0.6)
            axis.tick_params(axis="y", length=0)
    low, high = axes[0, 1].get_xlim()
    axes[0, 1].set_xlim(low, high + 0.35 * (high - low))  # room for the numbers
    axes[-1, 0].set_xlabel("accuracy, %")
    axes[-1, 1].set_xlabel(f"{source} minus target,\npoints")
    legend |= legend_of(beside, looks)
    legend_above(figure, list(legend.values()), list(legend))
    save(figure, outputs)


def draw_consistency(tables: Mapping[str, Path], outputs: Sequence[Path], *, baselines: Mapping[str, str]) -> None:
    """Cohen's kappa of a reward model's outcomes in a language against those in the source language: model x language."""
    frame = read_table(tables["consistency"])
    if frame.empty:
        say("No reward model is evaluated in the source language and in another.", outputs)
        return
    languages, groups = order(frame["eval_language"]), model_groups(frame, baselines)
    cells = {group: matrix(rows, "kappa", languages) for group, rows in groups.items()}
    lowest = min(0.0, *(float(np.nanmin(c)) for c in cells.values()))
    wide = len(languages) > MANY
    heights = [0.35 + (0.22 if wide else 0.3) * len(c) for c in cells.values()]
    figure, axes = plt.subplots(
        len(groups),
        1,
        figsize=(FULL if wide else COLUMN, sum(heights) + 0.5),
        height_ratios=heights,
        squeeze=False,
        layout="constrained",
    )
    for axis, (group, rows) in zip(axes[:, 0], groups.items(), strict=True):
        deviation, inches = spread(rows, "kappa", languages), 2.5 if wide else 1.3
        image = heat(axis, cells[group], "viridis", (lowest, 1), "{:.2f}", deviation, label_inches=inches)
        axis.set_title(group)
        if group not in OTHERS:
            axis.set_ylabel("trained in")
    axes[-1, 0].set_xlabel("evaluated in")
    color_bar(figure, image, axes, "Cohen's κ")
    save(figure, outputs)

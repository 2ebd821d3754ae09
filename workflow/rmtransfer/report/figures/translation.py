"""What became of the translated texts."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np

from rmtransfer.report.figures.style import COLORS, FULL, HATCHES, legend_above, read_table, save


def draw_translation(tables: Mapping[str, Path], outputs: Sequence[Path]) -> None:
    """Bars of what became of every text: kept, kept after a retry, refused and why; one bar per language and engine."""
    frame = read_table(tables["translation"])
    outcome = frame["measure"].where(frame["measure"] != "refused", "refused: " + frame["reason"])
    shown = {"passed": "kept", "passed_after_retry": "kept after a retry"}
    known = outcome[outcome.isin(shown) | outcome.str.startswith("refused: ")]
    counts = (
        frame.loc[known.index]
        .assign(outcome=known.replace(shown), bar=frame["language"] + " (" + frame["engine"] + ")")
        .pivot_table(index="bar", columns="outcome", values="value", aggfunc="sum", fill_value=0, sort=False)
    )
    refused = [name for name in counts.columns if name not in shown.values()]
    looks: dict[str, dict[str, Any]] = {
        "kept": {"color": "#BBD3E6"},
        "kept after a retry": {"color": COLORS[0], "hatch": HATCHES[0]},
    }
    # Once all hatches are used, denser ones follow: reasons are told apart in greyscale, too.
    hatches = [hatch * dense for dense in (1, 2) for hatch in HATCHES[1:]]
    for i, name in enumerate(refused):
        looks[name] = {"color": COLORS[1 + i % 5], "hatch": hatches[i % len(hatches)]}
    names = [name for name in looks if name in counts]
    share = 100 * counts.div(counts.sum(axis=1), axis=0)
    height = 0.6 + 0.28 * len(share) + 0.07 * len(names)  # with two or three names in a line of the legend
    figure, axis = plt.subplots(figsize=(FULL, height), layout="constrained")
    left = np.zeros(len(share))
    handles = []
    for name in names:
        bars = axis.barh(
            share.index, share[name], left=left, height=0.7, edgecolor="white", linewidth=0.4, **looks[name]
        )
        handles.append(bars)
        left += share[name].to_numpy()
    for place, (_, row) in enumerate(counts.iterrows()):
        axis.text(101, place, f"{row[refused].sum():,.0f} of {row.sum():,.0f} refused", va="center")
    axis.set_ylim(len(share) - 0.5, -0.5)
    axis.set_xlim(0, 100)
    axis.set_xlabel("texts, %")
    axis.tick_params(axis="y", length=0)
    legend_above(figure, handles, names)
    save(figure, outputs)

"""What became of the translated texts."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from rmtransfer.report.figures.style import COLORS, FULL, HATCHES, save, use_style


def draw_translation(table: Path, outcomes: Sequence[Path], **style: Any) -> None:
    """Bars of what became of every text: kept, kept after a retry, refused and why; one bar per language and engine."""
    use_style(style)
    frame = pd.read_csv(table, keep_default_na=False)
    outcome = frame["measure"].where(frame["measure"] != "refused", "refused: " + frame["reason"])
    shown = {"passed": "kept", "passed_after_retry": "kept after a retry"}
    known = outcome[outcome.isin(shown) | outcome.str.startswith("refused: ")]
    counts = (
        frame.loc[known.index]
        .assign(outcome=known.replace(shown), bar=frame["language"] + " (" + frame["engine"] + ")")
        .pivot_table(index="bar", columns="outcome", values="value", aggfunc="sum", fill_value=0, sort=False)
    )
    refused = [name for name in counts.columns if name not in shown.values()]
    columns = [*(n for n in shown.values() if n in counts.columns), *refused]
    share = 100 * counts[columns].div(counts.sum(axis=1), axis=0)
    figure, axis = plt.subplots(figsize=(FULL, 0.8 + 0.28 * len(share)), layout="constrained")
    palette = {"kept": "#BBD3E6", "kept after a retry": COLORS[0]}
    reds = [c for c in COLORS if c != COLORS[0]]
    left = np.zeros(len(share))
    for i, name in enumerate(columns):
        axis.barh(
            share.index,
            share[name],
            left=left,
            height=0.7,
            color=palette.get(name, reds[(i - len(columns) + len(refused)) % len(reds)]),
            hatch="" if name == "kept" else HATCHES[i % len(HATCHES)],
            edgecolor="white",
            linewidth=0.4,
            label=name,
        )
        left += share[name].to_numpy()
    for place, (_, row) in enumerate(counts.iterrows()):
        axis.text(101, place, f"{row[refused].sum():,.0f} of {row.sum():,.0f} refused", va="center")
    axis.invert_yaxis()
    axis.set_xlim(0, 100)
    axis.set_xlabel("texts, %")
    axis.tick_params(axis="y", length=0)
    figure.legend(loc="outside lower center", ncols=3, frameon=False)
    save(figure, outcomes, style)

"""The figures a paper would carry: single-column or full-width, readable in greyscale, PNG and PDF."""

import matplotlib

matplotlib.use("Agg")  # no display where studies run

from rmtransfer.report.figures.alignment import draw_alignment
from rmtransfer.report.figures.representation import draw_representation
from rmtransfer.report.figures.rewards import draw_length_bias, draw_rewards
from rmtransfer.report.figures.transfer import draw_consistency, draw_source_against_target, draw_transfer
from rmtransfer.report.figures.translation import draw_translation

__all__ = [
    "draw_alignment",
    "draw_consistency",
    "draw_length_bias",
    "draw_representation",
    "draw_rewards",
    "draw_source_against_target",
    "draw_transfer",
    "draw_translation",
]

"""Figures come from tables alone, the same bytes each time, with every label on them."""

import pandas as pd
import pytest
from matplotlib import colormaps

from rmtransfer import figures
from rmtransfer.transfer import TRANSFER_COLUMNS

STYLE = {"dpi": 72, "font_size": 8}


@pytest.fixture
def tables(tmp_path):
    rows = [
        ("m", train, 0, language, section, accuracy, accuracy - 0.1, accuracy + 0.1, 15)
        for train in ("en", "es")
        for language in ("en", "es")
        for section in ("Chat", "average")
        for accuracy in [0.7 if train == language else 0.6]
    ]
    pd.DataFrame(rows, columns=TRANSFER_COLUMNS).to_csv(tmp_path / "transfer.csv", index=False)
    lengths = [("m", language, "average", 0.5, 15) for language in ("en", "es")]
    columns = ["base_model", "eval_language", "subset", "accuracy", "n"]
    pd.DataFrame(lengths, columns=columns).to_csv(tmp_path / "length.csv", index=False)
    return tmp_path


def draw(tables, name):
    outputs = [[tables / f"{name}_{kind}.{s}" for s in ("png", "pdf")] for kind in ("heat", "sections")]
    figures.draw_transfer(tables / "transfer.csv", tables / "length.csv", *outputs, **STYLE)
    return [path.read_bytes() for pair in outputs for path in pair]


def test_the_same_table_gives_the_same_bytes(tables):
    first, second = draw(tables, "a"), draw(tables, "b")
    assert first == second
    assert all(len(content) > 3000 for content in first)


def test_numbers_carry_a_true_minus_and_no_signed_zero():
    assert figures._number("{:+.0f}", -3.2) == "\N{MINUS SIGN}3"
    assert figures._number("{:+.0f}", 2.6) == "+3"
    assert figures._number("{:+.0f}", -0.2) == "0"
    assert figures._number("{:.2f}", 0.071) == "0.07"


def test_differences_are_coloured_symmetrically_around_white():
    middle = colormaps["RdBu_r"](0.5)
    assert min(middle[:3]) > 0.95


def test_every_colour_has_its_marker():
    assert len(set(figures._COLORS)) == len(set(figures._MARKERS)) == len(figures._COLORS) >= 5

"""Chance, against its definition."""

import pandas as pd
from scipy.stats import kstest

from conftest import pair
from scored import run, settings


def test_chance_depends_on_seed_language_row_and_side_alone(tmp_path):
    many = [pair(f"r{i}", "Q", "yes", "no") for i in range(500)]
    first = run(tmp_path, {"kind": "random", "seed": 0}, {"en": many, "ko": many})
    numbers = pd.concat([first[k][c] for k in first for c in ("reward_chosen", "reward_rejected")])
    assert kstest(numbers, "uniform").pvalue > 0.01
    assert numbers.nunique() == 2000
    other_texts = [pair(p["id"], "Why", "sí", "nein") for p in reversed(many)]
    again = run(tmp_path, {"kind": "random", "seed": 0}, {"ko": other_texts})["ko"].iloc[::-1].reset_index(drop=True)
    pd.testing.assert_frame_equal(again, first["ko"])
    assert (run(tmp_path, {"kind": "random", "seed": 1}, {"en": many})["en"]["reward_chosen"] != numbers[:500]).all()
    assert settings(tmp_path) == {"kind": "random", "seed": 1}

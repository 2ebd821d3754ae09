"""A gap is what translating costs and what the language adds; intervals are those of paired differences."""

import numpy as np
import pytest
from scipy.stats import ttest_rel

from score_rows import measured, rows_of

ITEMS = np.arange(20)
# (training set, evaluation language): how many of 20 items are right.
RIGHT = {
    ("en", "en"): 16,
    ("en", "en-x-es"): 12,
    ("en", "es"): 10,
    ("en-x-es", "es"): 8,
    ("es", "es"): 14,
}


def outcomes(count):
    order = (ITEMS * 7) % 20  # not the first ones
    return order < count


@pytest.fixture
def cells():
    return {("m", train, 0, language): outcomes(count) for (train, language), count in RIGHT.items()}


def test_the_two_parts_of_a_gap_add_up_in_evaluation_and_in_training(cells):
    table = measured("translation_gap", rows_of(cells)).set_index(["varied", "part"])
    assert set(table["target"]) == {"es"}
    differences = table["difference"]
    assert differences["evaluation"].to_dict() == pytest.approx({"gap": 0.3, "translation": 0.2, "language": 0.1})
    assert differences["training"].to_dict() == pytest.approx({"gap": -0.2, "translation": 0.1, "language": -0.3})
    assert (table.loc["evaluation", "train_language"] == "en").all()
    assert table.loc["training", "train_language"].isna().all()
    assert set(table["n"]) == {20}
    expected = ttest_rel(outcomes(12).astype(float), outcomes(10).astype(float)).confidence_interval()
    assert tuple(table.loc[("evaluation", "language"), ["ci_low", "ci_high"]]) == pytest.approx(expected)


def test_what_was_not_judged_on_the_round_trip_has_no_row(cells):
    cells |= {("armo", "-", 0, language): outcomes(9) for language in ("en", "es")}
    cells |= {("m", "translate-test", 0, language): outcomes(9) for language in ("en", "es")}
    table = measured("translation_gap", rows_of(cells))
    assert set(table["base_model"]) == {"m"}
    assert set(table["train_language"].dropna()) == {"en"}


def test_a_variant_of_a_target_is_no_round_trip(cells):
    kept = {key: these for key, these in cells.items() if "en-x-es" not in key}
    kept |= {("m", "en", 0, language): outcomes(11) for language in ("es-x-ko", "ko")}  # a translator called ko
    assert measured("translation_gap", rows_of(kept)).empty

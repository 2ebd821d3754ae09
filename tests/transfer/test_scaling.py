"""Accuracy by size: means that can be formed by hand, with the intervals of seeds.csv."""

from itertools import product

import numpy as np
import pandas as pd
import pytest

from rmtransfer.study.names import ALL, ELSEWHERE, IN_LANGUAGE, SOURCE
from rmtransfer.study.study import RewardModelId, TrainingSet
from rmtransfer.transfer.scaling import COLUMNS, evaluate_scaling
from score_rows import measured, scores

LANGUAGES = ["en", "es", "ko"]
PARAMETERS = {"m": 10, "k": 300}
SETS = {k: TrainingSet({k: 1}) for k in LANGUAGES} | {f"{k}.24": TrainingSet({k: 1}, 24) for k in LANGUAGES}
ITEMS = 40


@pytest.fixture(scope="module")
def frames():
    """Two seeds of every training set, right on some items."""
    draw = np.random.default_rng(0)
    return {
        (base, train, seed, language): scores(draw.random(ITEMS) < draw.uniform(0.4, 0.9))
        for base, train, seed, language in product(PARAMETERS, SETS, (0, 1), LANGUAGES)
    }


def scaling(folder, frames, languages=LANGUAGES, sets=SETS):
    files: dict = {}
    for i, ((*scorer, language), frame) in enumerate(frames.items()):
        frame.assign(language=language).to_parquet(folder / f"{i}.parquet")
        files.setdefault(RewardModelId(*scorer), {})[language] = folder / f"{i}.parquet"
    evaluate_scaling(
        files,
        "rewardbench",
        folder / "scaling.csv",
        source="en",
        targets=[k for k in languages if k != "en"],
        training_sets=sets,
        pairs=96,
        parameters=PARAMETERS,
    )
    return pd.read_csv(folder / "scaling.csv").set_index(["base_model", "pairs", "eval_language", "origin"])


@pytest.fixture(scope="module")
def table(frames, tmp_path_factory):
    return scaling(tmp_path_factory.mktemp("scaling"), frames)


def by_seed(frames, base, trained, evaluated):
    """Accuracies of two seeds, mean over cells."""
    cells = [
        [(frames[base, train, seed, k]["reward_chosen"] > 0.5).mean() for seed in (0, 1)]
        for train, k in zip(trained, evaluated, strict=True)
    ]
    return np.mean(cells, axis=0)


EXPECTED = {
    ("es", IN_LANGUAGE): (["es"], ["es"]),
    ("en", IN_LANGUAGE): (["en"], ["en"]),
    ("ko", SOURCE): (["en"], ["ko"]),
    ("ko", ELSEWHERE): (["es"], ["ko"]),
    ("en", ELSEWHERE): (["es", "ko"], ["en", "en"]),
    # The source's own language is in none of the means over the targets.
    (ALL, IN_LANGUAGE): (["es", "ko"], ["es", "ko"]),
    (ALL, SOURCE): (["en", "en"], ["es", "ko"]),
    (ALL, ELSEWHERE): (["ko", "es"], ["es", "ko"]),
}


@pytest.mark.parametrize(("cell", "of"), EXPECTED.items(), ids=map(" ".join, EXPECTED))
@pytest.mark.parametrize(("base", "size"), [("m", 96), ("k", 24)])
def test_a_mean_is_one_over_languages_and_seeds(table, frames, base, size, cell, of):
    trained, evaluated = of
    names = trained if size == 96 else [f"{k}.24" for k in trained]
    accuracies = by_seed(frames, base, names, evaluated)
    row = table.loc[base, size, *cell]
    assert row["mean"] == pytest.approx(accuracies.mean(), abs=1e-6)
    assert row["sd"] == pytest.approx(abs(accuracies[0] - accuracies[1]) / np.sqrt(2), abs=1e-6)
    assert row["ci_low"] < row["mean"] < row["ci_high"]
    assert (row["seeds"], row["n"], row["parameters"]) == (2, ITEMS, PARAMETERS[base])


def test_every_base_size_language_and_origin_has_a_row_and_the_source_none_from_itself(table):
    cells = {*product([*LANGUAGES, ALL], (IN_LANGUAGE, SOURCE, ELSEWHERE))} - {("en", SOURCE)}
    assert sorted(table.index) == sorted((b, p, *cell) for b in PARAMETERS for p in (24, 96) for cell in cells)
    assert [*table.index.names, *table.columns] == [
        *("base_model", "pairs", "eval_language", "origin"),
        *(name for name in COLUMNS if name not in table.index.names),
    ]


@pytest.mark.parametrize("size", [24, 96])
def test_a_models_own_interval_is_that_of_a_study_of_its_size(table, frames, size):
    """Other sizes say nothing about how far seeds move this one."""
    suffix = ".24" if size == 24 else ""
    alone = {
        (base, k, seed, language): frames[base, f"{k}{suffix}", seed, language]
        for base, k, seed, language in product(PARAMETERS, LANGUAGES, (0, 1), LANGUAGES)
    }
    seeds = measured("seeds", alone)
    seeds = seeds[seeds["section"] == "average"].set_index(["base_model", "train_language", "eval_language"])
    for base, language in product(PARAMETERS, LANGUAGES):
        found = table.loc[base, size, language, IN_LANGUAGE]
        for column in ("mean", "ci_low", "ci_high"):
            assert found[column] == pytest.approx(seeds.loc[(base, language, language), column], abs=1e-6)


def test_with_one_target_nothing_comes_from_elsewhere_but_to_the_source(frames, tmp_path):
    some = {k: f for k, f in frames.items() if "ko" not in (k[1][:2], k[3])}
    sets = {name: these for name, these in SETS.items() if "ko" not in these.shares}
    table = scaling(tmp_path, some, ["en", "es"], sets).reset_index()
    assert set(table.loc[table["origin"] == ELSEWHERE, "eval_language"]) == {"en"}
    assert set(table.loc[table["origin"] == SOURCE, "eval_language"]) == {"es", ALL}

"""Linear heads on states that are there, against their definitions."""

import json
import os
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from scipy.stats import kstest

from conftest import ROOT, pair
from rmtransfer.kit.errors import StudyError
from rmtransfer.kit.manifest import digest_folder, write_manifest
from rmtransfer.models.probe import fit_probe
from rmtransfer.models.states import load_states, save_states
from rmtransfer.scoring.job import Outputs, score
from rmtransfer.scoring.states import score_states
from rmtransfer.scoring.untrained import Untrained, UntrainedOptions
from rmtransfer.texts.split import held_out
from scored import run

UNTRAINED = {"kind": "untrained", "path": "gemma"}
PROBE = {"kind": "probe", "path": "gemma"}


def put_onto(tmp_path, options, states, rows, **fitted) -> pd.DataFrame:
    """The score file of a head on one language."""
    base = tmp_path / "base"
    base.mkdir(exist_ok=True)
    write_manifest(base, {})
    path = tmp_path / "scores/en.parquet"
    score_states(
        options, "theirs", base, {"en": states}, {"en": rows}, {"en": path}, tmp_path / "settings.json", **fitted
    )
    return pd.read_parquet(path)


def random_states(path, ids, hidden=8, seed=0):
    """A file of states, each side's [n, hidden], and the token counts that are in it."""
    draw = np.random.default_rng(seed)
    tokens = draw.integers(3, 90, (len(ids), 2))
    save_states(path, ids, *draw.normal(size=(2, len(ids), hidden)), tokens)
    return path


def test_rewards_of_every_draw_are_products_of_the_bases_states(tmp_path, bases, pairs):
    states = tmp_path / "states.npz"
    options = {"kind": "trained", "head": False, "path": str(bases["gemma"])}
    resources = {"tokens_per_batch": 512, "requests_at_once": 1, "device": "cpu"}
    score(options, "gemma/base", {"en": pairs}, Outputs(None, {"en": states}), tmp_path / "cache", **resources)
    frame = put_onto(tmp_path, {**UNTRAINED, "draws": 3}, states, pairs)
    assert list(frame.columns) == [
        *("id", "subset", "language", "reward_chosen", "reward_rejected", "tokens_chosen", "tokens_rejected", "seed")
    ]
    assert frame["seed"].tolist() == [seed for seed in range(3) for _ in pairs]
    found = load_states(states)
    weights = Untrained(UntrainedOptions(**UNTRAINED)).weights(32, None)
    for seed, rows in frame.groupby("seed"):
        assert rows["id"].tolist() == [p["id"] for p in pairs]
        for side in ("chosen", "rejected"):
            np.testing.assert_allclose(rows[f"reward_{side}"], found[side] @ weights[seed], rtol=1e-5)
    counted = run(tmp_path, {**options, "head": True, "path": str(rewarded(bases["gemma"], tmp_path))}, {"en": pairs})
    for side in ("chosen", "rejected"):
        assert frame[f"tokens_{side}"].tolist() == 3 * counted["en"][f"tokens_{side}"].tolist()
    assert json.loads((tmp_path / "settings.json").read_text()) == {
        **{"kind": "untrained", "path": "gemma", "draws": 3},
        "model": f"sha256:{digest_folder(tmp_path / 'base')}",
    }


def test_pairs_of_one_state_are_counted_as_ties_by_construction(tmp_path, pairs):
    draw = np.random.default_rng(0)
    chosen, rejected = draw.normal(size=(2, len(pairs), 8))
    rejected[[3, 5]] = chosen[[3, 5]]
    save_states(tmp_path / "states.npz", [p["id"] for p in pairs], chosen, rejected, [[5, 5]] * len(pairs))
    put_onto(tmp_path, {**UNTRAINED, "draws": 2}, tmp_path / "states.npz", pairs)
    assert json.loads((tmp_path / "settings.json").read_text())["ties_by_construction"] == {"en": 2}


def rewarded(base, tmp_path):
    from rmtransfer.models import chat, reward

    folder = tmp_path / "rm"
    reward.build_reward_model(base, 0).save_pretrained(folder)
    chat.load_tokenizer(base).save_pretrained(folder)
    write_manifest(folder, {})
    return folder


def test_fresh_heads_are_normal_and_more_of_them_change_none():
    weights = Untrained(UntrainedOptions(**UNTRAINED)).weights(400, None)
    assert weights.shape == (20, 400)
    assert kstest(weights.ravel() * 401**0.5, "norm").pvalue > 0.01
    assert len(np.unique(weights)) == weights.size
    more = Untrained(UntrainedOptions(**UNTRAINED, draws=30)).weights(400, None)
    np.testing.assert_array_equal(more[:20], weights)


def test_rows_find_their_states_by_id(tmp_path):
    ids = [f"r{i}" for i in range(6)]
    rows = [pair(name, "Q", "a", "b", "chat") for name in reversed(ids)]
    states = random_states(tmp_path / "en.npz", ids)
    frame = put_onto(tmp_path, UNTRAINED, states, rows[1:])
    straight = put_onto(tmp_path, UNTRAINED, states, rows[::-1])
    for name in ids[:-1]:
        one, other = (f[f["id"] == name].drop(columns="id").reset_index(drop=True) for f in (frame, straight))
        pd.testing.assert_frame_equal(one, other)


def test_a_probe_is_fitted_to_the_pairs_that_are_trained_on(tmp_path):
    ids = [f"p{i}" for i in range(20)]
    training = load_states(random_states(tmp_path / "pairs.npz", ids, seed=1))
    rows = [pair(f"r{i}", "Q", "a", "b", "chat") for i in range(5)]
    states = random_states(tmp_path / "en.npz", [row["id"] for row in rows])
    frame = put_onto(tmp_path, PROBE, states, rows, pairs=tmp_path / "pairs.npz", held_out=0.2)
    mine = [i for i, name in enumerate(ids) if name not in held_out(ids, 0.2)]
    assert len(mine) == 16
    weights = fit_probe(training["chosen"][mine], training["rejected"][mine])
    np.testing.assert_allclose(frame["reward_chosen"], load_states(states)["chosen"] @ weights)
    np.testing.assert_allclose(frame["reward_rejected"], load_states(states)["rejected"] @ weights)
    assert "seed" not in frame
    written = json.loads((tmp_path / "settings.json").read_text())
    assert (written["kind"], written["pairs"], written["held_out"]) == ("probe", 16, 4)


def test_pairs_that_teach_nothing_are_an_error(tmp_path):
    same = np.ones((4, 8))
    save_states(tmp_path / "pairs.npz", list("abcd"), same, same, np.ones((4, 2), int))
    rows = [pair("r", "Q", "a", "b", "chat")]
    with pytest.raises(StudyError, match="theirs: all 2 rewards on en are 0; the chosen and the rejected answers of"):
        put_onto(tmp_path, PROBE, random_states(tmp_path / "en.npz", ["r"]), rows, pairs=tmp_path / "pairs.npz")


def test_states_that_are_no_numbers_are_an_error(tmp_path):
    chosen = np.ones((2, 8))
    chosen[1, 3] = np.nan
    save_states(tmp_path / "en.npz", ["a", "b"], chosen, np.zeros((2, 8)), np.ones((2, 2), int))
    rows = [pair(name, "Q", "a", "b", "chat") for name in "ab"]
    with pytest.raises(StudyError, match=r"theirs: 1 of 4 rewards on en .* the first on row 'b'; the base model"):
        put_onto(tmp_path, UNTRAINED, tmp_path / "en.npz", rows)


def test_a_cluster_goes_with_its_row(tmp_path):
    rows = [{**pair(f"r{i}", "Q", "yes", "no", "chat"), "cluster": f"c{i // 2}"} for i in range(4)]
    expected = ["c0", "c0", "c1", "c1"]
    assert run(tmp_path, {"kind": "random"}, {"en": rows})["en"]["cluster"].tolist() == expected
    states = random_states(tmp_path / "en.npz", [row["id"] for row in rows])
    assert put_onto(tmp_path, {**UNTRAINED, "draws": 2}, states, rows)["cluster"].tolist() == 2 * expected


def test_no_model_is_loaded_for_it():
    """What a job imports is most of what it costs."""
    code = "import sys; import rmtransfer.scoring.states, rmtransfer.scoring.untrained, rmtransfer.scoring.probe; print(*sys.modules)"
    path = {**os.environ, "PYTHONPATH": str(ROOT / "workflow")}
    run = subprocess.run([sys.executable, "-c", code], env=path, capture_output=True, text=True, check=True)
    loaded = {module.split(".")[0] for module in run.stdout.split()}
    assert "numpy" in loaded
    assert not loaded & {"torch", "transformers", "pandas", "scipy", "sklearn"}

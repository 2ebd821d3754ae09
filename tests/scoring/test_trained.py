"""Scores land in the contract's columns, and a new language costs one language."""

import numpy as np
import pandas as pd
import pytest
import torch

from rmtransfer.kit.errors import StudyError
from rmtransfer.kit.manifest import write_manifest
from rmtransfer.models import chat, reward
from rmtransfer.models.states import load_states
from rmtransfer.scoring import job as scoring


@pytest.fixture
def model(bases, tmp_path):
    folder = tmp_path / "rm"
    trained = reward.build_reward_model(bases["gemma"], 0)
    tokenizer = chat.load_tokenizer(bases["gemma"])
    trained.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    write_manifest(folder, {})
    return folder


@pytest.fixture
def forwards(monkeypatch):
    """Languages whose texts really went through a model."""
    seen = []
    original = scoring._Scorer.run
    monkeypatch.setattr(
        scoring._Scorer, "run", lambda self, name, ids: (seen.append(name), original(self, name, ids))[1]
    )
    return seen


def run(tmp_path, model, rows, budget=512):
    paths = {
        kind: {language: tmp_path / kind / f"{language}{suffix}" for language in rows}
        for kind, suffix in (("scores", ".parquet"), ("states", ".npz"))
    }
    scoring.score_pairs(
        model, rows, paths["scores"], paths["states"], tmp_path / "store", tokens_per_batch=budget, device="cpu"
    )
    return paths


def test_contract_columns_and_values(tmp_path, model, pairs):
    paths = run(tmp_path, model, {"en": pairs})
    frame = pd.read_parquet(paths["scores"]["en"])
    assert list(frame.columns) == [
        "id",
        "subset",
        "language",
        "reward_chosen",
        "reward_rejected",
        "tokens_chosen",
        "tokens_rejected",
    ]
    assert frame["id"].tolist() == [p["id"] for p in pairs]
    states = load_states(paths["states"]["en"])
    loaded = reward.load_reward_model(model, torch.device("cpu"))
    weight = loaded.score.weight[0].detach().numpy()
    np.testing.assert_allclose(states["chosen"] @ weight, frame["reward_chosen"], atol=1e-4)
    np.testing.assert_allclose(states["rejected"] @ weight, frame["reward_rejected"], atol=1e-4)
    ids = chat.encode_answer(chat.load_tokenizer(model), pairs[3]["prompt"], pairs[3]["rejected"])
    assert frame["tokens_rejected"][3] == len(ids)


def test_a_new_language_costs_one_language_and_a_new_budget_nothing(tmp_path, model, pairs, forwards):
    run(tmp_path, model, {"en": pairs, "es": pairs[:6]})
    before = (tmp_path / "scores/en.parquet").read_bytes()
    for path in (tmp_path / "scores").iterdir():  # as Snakemake does before it reruns a job
        path.unlink()
    run(tmp_path, model, {"en": pairs, "es": pairs[:6], "ko": pairs[:3]}, budget=100)
    assert forwards == ["en", "es", "ko"]
    assert (tmp_path / "scores/en.parquet").read_bytes() == before


def test_another_text_is_scored_again(tmp_path, model, pairs, forwards):
    run(tmp_path, model, {"en": pairs})
    run(tmp_path, model, {"en": [*pairs[:-1], {**pairs[-1], "chosen": [{"role": "assistant", "content": "Rome"}]}]})
    assert forwards == ["en", "en"]


def test_a_base_model_has_states_but_no_rewards(tmp_path, bases, pairs):
    path = tmp_path / "en.npz"
    scoring.score_pairs(
        bases["llama"], {"en": pairs}, None, {"en": path}, tmp_path / "store", tokens_per_batch=512, device="cpu"
    )
    assert load_states(path)["chosen"].shape == (len(pairs), 32)
    assert not list((tmp_path / "store").glob("*.parquet"))


def test_answers(tmp_path, model, pairs):
    rows = [{"id": p["id"], "sample": 0, "prompt": p["prompt"], "answer": p["chosen"]} for p in pairs]
    out = tmp_path / "rewards.parquet"
    scoring.score_answers(model, {"en": rows}, {"en": out}, tmp_path / "store", tokens_per_batch=512, device="cpu")
    expected = pd.read_parquet(run(tmp_path, model, {"en": pairs})["scores"]["en"])["reward_chosen"]
    np.testing.assert_allclose(pd.read_parquet(out)["reward"], expected, atol=1e-4)


@pytest.mark.parametrize(
    ("weight", "named"), [(torch.nan, "24 of 24 rewards on en are not finite"), (0.0, "all rewards on en are 0;")]
)
def test_rewards_that_say_nothing_stop_the_study(tmp_path, bases, pairs, weight, named):
    folder = tmp_path / "broken"
    broken = reward.build_reward_model(bases["gemma"], 0)
    with torch.no_grad():
        broken.score.weight.fill_(weight)
    broken.save_pretrained(folder)
    chat.load_tokenizer(bases["gemma"]).save_pretrained(folder)
    write_manifest(folder, {})
    with pytest.raises(StudyError, match=named):
        run(tmp_path, folder, {"en": pairs})
    assert not (tmp_path / "store").exists()


def test_a_text_that_occurs_often_is_computed_once(tmp_path, model, pairs, monkeypatch):
    """RewardBench 2 sets one chosen answer against three rejected ones."""
    computed = []
    original = reward.score
    monkeypatch.setattr(
        reward,
        "score",
        lambda m, t, sequences, *rest: (computed.append(len(sequences)), original(m, t, sequences, *rest))[1],
    )
    item = [{**p, "prompt": pairs[0]["prompt"], "chosen": pairs[0]["chosen"]} for p in pairs[:3]]
    frame = pd.read_parquet(run(tmp_path, model, {"en": item})["scores"]["en"])
    assert computed == [4]
    assert frame["reward_chosen"].nunique() == 1
    assert frame["reward_rejected"].nunique() == 3
    assert frame["tokens_chosen"].nunique() == 1

"""Our own reward models: scores in the contract's columns, hidden states, and a new language costs one language."""

import numpy as np
import pandas as pd
import pytest
import torch

from rmtransfer.kit.errors import StudyError
from rmtransfer.kit.manifest import digest_folder, write_manifest
from rmtransfer.models import chat, reward
from rmtransfer.models.states import load_states
from rmtransfer.scoring.job import Outputs, score
from rmtransfer.scoring.trained import Trained
from scored import run, settings


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
    original = Trained.rewards
    monkeypatch.setattr(
        Trained, "rewards", lambda self, name, items: (seen.append(name), original(self, name, items))[1]
    )
    return seen


def ours(folder, **more) -> dict:
    return {"kind": "trained", "path": str(folder), **more}


def test_contract_columns_and_values(tmp_path, model, pairs):
    frame = run(tmp_path, ours(model), {"en": pairs}, budget=512, states=True)["en"]
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
    states = load_states(tmp_path / "states/en.npz")
    loaded = reward.load_reward_model(model, torch.device("cpu"))
    weight = loaded.score.weight[0].detach().numpy()
    np.testing.assert_allclose(states["chosen"] @ weight, frame["reward_chosen"], atol=1e-4)
    np.testing.assert_allclose(states["rejected"] @ weight, frame["reward_rejected"], atol=1e-4)
    ids = chat.encode_answer(chat.load_tokenizer(model), pairs[3]["prompt"], pairs[3]["rejected"])
    assert frame["tokens_rejected"][3] == len(ids)
    assert states["id"].tolist() == frame["id"].tolist()


def test_a_new_language_costs_one_language_and_a_new_budget_nothing(tmp_path, model, pairs, forwards):
    run(tmp_path, ours(model), {"en": pairs, "es": pairs[:6]}, budget=512, states=True)
    before = (tmp_path / "scores/en.parquet").read_bytes()
    for path in (tmp_path / "scores").iterdir():  # as Snakemake does before it reruns a job
        path.unlink()
    run(tmp_path, ours(model), {"en": pairs, "es": pairs[:6], "ko": pairs[:3]}, budget=100, states=True)
    assert forwards == ["en", "es", "ko"]
    assert (tmp_path / "scores/en.parquet").read_bytes() == before


def test_another_text_is_scored_again(tmp_path, model, pairs, forwards):
    run(tmp_path, ours(model), {"en": pairs})
    run(
        tmp_path,
        ours(model),
        {"en": [*pairs[:-1], {**pairs[-1], "chosen": [{"role": "assistant", "content": "Rome"}]}]},
    )
    assert forwards == ["en", "en"]


def test_states_that_are_asked_for_later(tmp_path, model, pairs, forwards):
    first = run(tmp_path, ours(model), {"en": pairs})["en"]
    pd.testing.assert_frame_equal(run(tmp_path, ours(model), {"en": pairs}, states=True)["en"], first)
    assert forwards == ["en", "en"]
    assert load_states(tmp_path / "states/en.npz")["id"].tolist() == first["id"].tolist()


@pytest.mark.parametrize("nothing", [None, {}])
def test_a_base_model_has_states_but_no_rewards(tmp_path, bases, pairs, nothing):
    path = tmp_path / "en.npz"
    score(
        ours(bases["llama"], head=False),
        "llama/base",
        {"en": pairs},
        Outputs(nothing, {"en": path}),
        tmp_path / "cache",
        tokens_per_batch=512,
        requests_at_once=1,
        device="cpu",
    )
    assert load_states(path)["chosen"].shape == (len(pairs), 32)
    assert not list((tmp_path / "cache").glob("*.parquet"))


def test_settings_say_which_model_it_is(tmp_path, model, pairs):
    run(tmp_path, ours(model), {"en": pairs})
    named = settings(tmp_path)
    assert named.pop("libraries").keys() == {"torch", "transformers"}
    assert named == {
        "kind": "trained",
        "path": str(model),
        "model": f"sha256:{digest_folder(model)}",
        "head": True,
        "dtype": "float32",
    }


@pytest.mark.parametrize("many", [False, True])
def test_answers(tmp_path, model, pairs, many):
    """Items of one answer, and of two."""
    rows = [{"id": p["id"], "sample": 0, "prompt": p["prompt"], "answer": p["chosen"]} for p in pairs]
    if many:
        rows += [{"id": p["id"], "sample": 1, "prompt": p["prompt"], "answer": p["rejected"]} for p in pairs]
    frame = run(tmp_path, ours(model), {"en": rows}, budget=512)["en"]
    assert list(frame.columns) == ["id", "sample", "reward"]
    expected = run(tmp_path, ours(model), {"en": pairs})["en"]
    for sample, side in enumerate(("chosen", "rejected")[: 1 + many]):
        these = frame[frame["sample"] == sample]
        assert these["id"].tolist() == expected["id"].tolist()
        np.testing.assert_allclose(these["reward"], expected[f"reward_{side}"], atol=1e-4)


def test_one_answer_alone_may_have_any_reward(tmp_path, model, pairs):
    row = {"id": "a", "sample": 0, "prompt": pairs[0]["prompt"], "answer": pairs[0]["chosen"]}
    assert len(run(tmp_path, ours(model), {"en": [row]})["en"]) == 1


@pytest.mark.parametrize(
    ("weight", "named"), [(torch.nan, "24 of 24 rewards on en are not finite"), (0.0, "all 24 rewards on en are 0;")]
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
        run(tmp_path, ours(folder), {"en": pairs})
    assert not (tmp_path / "cache").exists()


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
    frame = run(tmp_path, ours(model), {"en": item})["en"]
    assert computed == [4]
    assert frame["reward_chosen"].nunique() == 1
    assert frame["reward_rejected"].nunique() == 3
    assert frame["tokens_chosen"].nunique() == 1


def test_an_unfinished_folder_is_refused(tmp_path, model, pairs):
    (model / "manifest.json").unlink()
    with pytest.raises(StudyError, match="never finished"):
        run(tmp_path, ours(model), {"en": pairs})

"""Our own reward models: scores in the contract's columns, hidden states, and a new language costs one language."""

import json

import numpy as np
import pandas as pd
import pytest
import torch

from conftest import pair
from rmtransfer.kit.errors import StudyError
from rmtransfer.kit.manifest import digest_folder, write_manifest
from rmtransfer.models import chat, reward
from rmtransfer.models.clock import stop_clock
from rmtransfer.models.states import load_states
from rmtransfer.models.trunk import Trunk
from rmtransfer.scoring.job import Outputs, score
from rmtransfer.scoring.reward_model import TrunkStore
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


def test_a_model_that_was_saved_without_a_day_is_told_the_studys_and_the_settings_say_which(tmp_path, model, pairs):
    run(tmp_path, ours(model), {"en": pairs})
    assert "date" not in settings(tmp_path)
    file = model / "chat_template.jinja"
    file.write_text(file.read_text() + "{{ strftime_now('%d %b %Y') }}")
    found = []
    for day, more in (("2024-07-26", {}), ("2025-01-02", {"date": "2025-01-02"})):
        found.append(tuple(run(tmp_path, ours(model, **more), {"en": pairs})["en"]["reward_chosen"]))
        assert settings(tmp_path)["date"] == day
    assert found[0] != found[1]
    file.write_text(stop_clock(file.read_text(), "2025-01-02"))
    assert tuple(run(tmp_path, ours(model, date="2026-03-04"), {"en": pairs})["en"]["reward_chosen"]) == found[1]
    assert settings(tmp_path)["date"] == "2025-01-02"


def test_two_sides_of_one_input_are_a_tie_by_construction_and_counted(tmp_path, model, pairs):
    """A template that drops reasoning leaves nothing of what differs."""
    template = (model / "chat_template.jinja").read_text()
    (model / "chat_template.jinja").write_text(
        template.replace("m['content'] |", "m['content'].split('</think>')[-1] |")
    )
    alike = [
        pair("t0", "Where?", "<think>Hm.</think>Here.", "<think>Well.</think>Here."),
        pair("t1", "Where?", "Here.", "<think>Well.</think>Here."),
    ]
    frame = run(tmp_path, ours(model), {"en": [*pairs, *alike], "es": pairs})["en"]
    assert (frame["reward_chosen"] == frame["reward_rejected"]).tolist() == [False] * len(pairs) + [True, True]
    assert settings(tmp_path)["ties_by_construction"] == {"en": 2}
    run(tmp_path, ours(model), {"es": pairs})
    assert "ties_by_construction" not in settings(tmp_path)


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
        lambda m, sequences, *rest: (computed.append(len(sequences)), original(m, sequences, *rest))[1],
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


@pytest.fixture
def lower_passes(monkeypatch):
    """Tokens of each pass through a lower part."""
    seen = []
    original = Trunk._compute
    monkeypatch.setattr(
        Trunk,
        "_compute",
        lambda self, groups: (seen.append(sum(g.tokens for g in groups.values())), original(self, groups))[1],
    )
    return seen


def with_trunk(options, rows, outputs, cache, store):
    score(options, "ours", rows, outputs, cache, tokens_per_batch=512, requests_at_once=1, device="cpu", trunk=store)


def test_a_base_computes_what_its_reward_models_start_from(tmp_path, bases, model, pairs, lower_passes):
    rows, store = {"en": pairs}, TrunkStore(tmp_path / "trunk", 1, 2)
    write_manifest(model, {"trunk": {"base": digest_folder(bases["gemma"]), "layers": 2}})
    expected = run(tmp_path / "alone", ours(model), rows, budget=512, states=True)["en"]
    states = load_states(tmp_path / "alone/states/en.npz")
    base_states = tmp_path / "base.npz"
    score(
        ours(bases["gemma"], head=False),
        "gemma/base",
        rows,
        Outputs(None, {"en": tmp_path / "base_alone.npz"}),
        tmp_path / "other_cache",
        tokens_per_batch=512,
        requests_at_once=1,
        device="cpu",
    )
    assert lower_passes == []
    with_trunk(ours(bases["gemma"], head=False), rows, Outputs(None, {"en": base_states}), tmp_path / "cache", store)
    computed = len(lower_passes)
    assert computed > 0
    without = load_states(tmp_path / "base_alone.npz")
    for side in ("chosen", "rejected"):
        np.testing.assert_allclose(load_states(base_states)[side], without[side], atol=1e-5)

    outputs = Outputs({"en": tmp_path / "en.parquet"}, {"en": tmp_path / "en.npz"})
    with_trunk(ours(model), rows, outputs, tmp_path / "cache", store)
    assert len(lower_passes) == computed
    pd.testing.assert_frame_equal(pd.read_parquet(tmp_path / "en.parquet"), expected, atol=1e-5)
    np.testing.assert_allclose(load_states(tmp_path / "en.npz")["chosen"], states["chosen"], atol=1e-5)


def test_how_fast_it_was_scored_decides_nothing(tmp_path, bases, model, pairs, forwards):
    """What one job has scored with a trunk another takes without."""
    write_manifest(model, {"trunk": {"base": digest_folder(bases["gemma"]), "layers": 2}})
    store = TrunkStore(tmp_path / "trunk", 1, 2)
    outputs = Outputs({"en": tmp_path / "en.parquet"}, None, tmp_path / "settings.json")
    with_trunk(ours(model), {"en": pairs}, outputs, tmp_path / "cache", store)
    run(tmp_path, ours(model), {"en": pairs}, budget=512)
    assert forwards == ["en"]
    assert (tmp_path / "settings.json").read_text() == (tmp_path / "scores/settings.json").read_text()


@pytest.mark.parametrize("facts", [{}, {"trunk": None}])
def test_a_model_without_frozen_layers_has_no_trunk(tmp_path, model, pairs, lower_passes, facts):
    write_manifest(model, facts)
    store = TrunkStore(tmp_path / "trunk", 1, 2)
    with_trunk(ours(model), {"en": pairs}, Outputs({"en": tmp_path / "en.parquet"}), tmp_path / "cache", store)
    assert lower_passes == []
    assert not (tmp_path / "trunk").exists()


def test_a_text_longer_than_the_model_reads_is_refused(tmp_path, model, pairs):
    config = json.loads((model / "config.json").read_text())
    (model / "config.json").write_text(json.dumps(config | {"max_position_embeddings": 16}))
    with pytest.raises(
        StudyError, match=r"row 'r9' in en with its chosen answer has \d+ tokens, more than the 16 that"
    ):
        run(tmp_path, ours(model), {"en": pairs})

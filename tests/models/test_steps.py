"""How the score head starts and at which rate it learns, and what is measured on pairs that are kept out of training."""

import math

import numpy as np
import pandas as pd
import pytest
import torch
from transformers import AutoModelForSequenceClassification

from rmtransfer.kit.manifest import read_manifest
from rmtransfer.models import chat, reward, steps, training
from rmtransfer.models.probe import fit_probe
from trainings import RECIPE, parameters, train

ADAPTER = {"kind": "lora", "rank": 2, "alpha": 4, "dropout": 0.5, "target_modules": "all-linear", "merge": True}


def log_of(folder):
    return pd.read_csv(folder / "training_log.csv")


def texts_of(base, rows):
    return [ids for pair in training.encode_pairs(chat.load_tokenizer(base), rows, 512) for ids in pair.values()]


def the_probe(base, rows):
    """By the base model as it is, one text at a time through the stock model."""
    model = AutoModelForSequenceClassification.from_pretrained(base, num_labels=1).base_model
    with torch.no_grad():
        states = [model(torch.tensor([ids])).last_hidden_state[0, -1].numpy() for ids in texts_of(base, rows)]
    return fit_probe(np.array(states[0::2]), np.array(states[1::2]))


def starts(monkeypatch):
    """The weights [1, hidden] that heads start with, as they come."""
    found = []
    original = steps.PackTrainer.set_head
    monkeypatch.setattr(steps.PackTrainer, "set_head", lambda self, w: (found.append(w.clone()), original(self, w))[1])
    return found


@pytest.mark.parametrize("how", ["normal", "zero", "probe"])
@pytest.mark.parametrize("adapter", [None, ADAPTER])
def test_the_first_loss_is_that_of_the_head_it_starts_with(base, pairs, tmp_path, how, adapter):
    """Also with the trunk, an adapter that drops inputs at random, and pairs kept out of the probe."""
    recipe = {**RECIPE, "head": how, "epochs": 1, "pairs_per_step": 8, "held_out": 0.25}
    recipe |= {"adapter": adapter} if adapter else {}
    options = {"trunk_store": tmp_path / "trunk", "trunk_gigabytes": 1, "tokens_per_batch": 64}
    train(base, pairs[:9], tmp_path, recipe=recipe, held_out=pairs[9:], **options)
    model = reward.build_reward_model(base, 0)
    with torch.no_grad():
        if how == "zero":
            model.score.weight.zero_()
        if how == "probe":
            model.score.weight.copy_(torch.tensor(the_probe(base, pairs[:9]))[None])
    rewards, _ = reward.score(model.eval(), texts_of(base, pairs[9:]), 10_000)
    margins = (rewards[0::2] - rewards[1::2]).tolist()
    first = log_of(tmp_path / "out").iloc[0]
    assert first["held_out_loss"] == pytest.approx(sum(math.log(1 + math.exp(-m)) for m in margins) / 3, rel=1e-4)
    assert first["held_out_accuracy"] == pytest.approx(sum((m > 0) + (m == 0) / 2 for m in margins) / 3)


@pytest.mark.parametrize("how", ["zero", "probe"])
def test_no_seed_decides_where_the_head_starts(bases, pairs, tmp_path, monkeypatch, how):
    heads = starts(monkeypatch)
    recipe = {**RECIPE, "head": how}
    for seed in (0, 1):
        training.train_reward_model(
            bases["llama"],
            pairs,
            recipe,
            seed,
            tmp_path / str(seed),
            tmp_path / "work",
            card={"base_model": "tiny", "train_language": "en", "languages": "en"},
            device="cpu",
            tokens_per_batch=64 + 64 * seed,
            checkpoint_minutes=10,
        )
    torch.testing.assert_close(heads[0], heads[1], rtol=1e-4, atol=1e-6)
    assert (heads[0].abs().max() > 0) == (how == "probe")


def test_the_head_has_a_rate_of_its_own(bases, pairs, tmp_path):
    """A rate of next to nothing for all but the head, and for the head alone."""
    start = reward.build_reward_model(bases["gemma"], 0)
    for name, rates in {"head": (1e-12, 1e-3), "body": (1e-3, 1e-12)}.items():
        recipe = {**RECIPE, "learning_rate": rates[0], "head_learning_rate": rates[1]}
        model = train(bases["gemma"], pairs, tmp_path, name, recipe)
        moved = {
            n
            for (n, p), q in zip(start.named_parameters(), model.parameters(), strict=True)
            if (p - q).abs().max() > 1e-6
        }
        assert ("score.weight" in moved) == (name == "head")
        assert bool(moved - {"score.weight"}) == (name == "body")


def test_the_same_rate_given_twice_is_the_same_training(bases, pairs, tmp_path):
    once = parameters(train(bases["qwen"], pairs, tmp_path, "once"))
    twice = parameters(train(bases["qwen"], pairs, tmp_path, "twice", {**RECIPE, "head_learning_rate": 1e-3}))
    torch.testing.assert_close(once, twice, rtol=0, atol=1e-6)


def test_the_schedule_scales_both_rates(bases, pairs, tmp_path, monkeypatch):
    seen = []
    original = steps.StepCount.on_log

    def watch(self, args, state, control, logs=None, optimizer=None, **kwargs):
        seen.append({group["lr"] for group in optimizer.param_groups if group["params"]})
        original(self, args, state, control, logs=logs, **kwargs)

    monkeypatch.setattr(steps.StepCount, "on_log", watch)
    train(bases["qwen"], pairs, tmp_path, recipe={**RECIPE, "head_learning_rate": 1e-2})
    for rates in seen:
        low, high = min(rates), max(rates)
        assert high == pytest.approx(10 * low)


def test_what_is_held_out_is_not_trained_on_and_measured_evenly(bases, pairs, tmp_path):
    recipe = {**RECIPE, "epochs": 4, "evaluations": 3}
    without = parameters(train(bases["llama"], pairs[:9], tmp_path, "without", recipe))
    model = train(bases["llama"], pairs[:9], tmp_path, "with", recipe, held_out=pairs[9:])
    assert torch.equal(parameters(model), without)
    log = log_of(tmp_path / "with")
    assert log["step"].tolist() == list(range(13))  # 3 steps of 9 pairs, 4 times
    assert log.loc[log["held_out_loss"].notna(), "step"].tolist() == [0, 6, 12]
    assert log["loss"].notna().tolist() == [False] + 12 * [True]
    assert log_of(tmp_path / "without")["held_out_loss"].isna().all()
    rewards, _ = reward.score(model.eval(), texts_of(bases["llama"], pairs[9:]), 10_000)
    margins = (rewards[0::2] - rewards[1::2]).tolist()
    last = log.iloc[-1]
    assert last["held_out_loss"] == pytest.approx(sum(math.log(1 + math.exp(-m)) for m in margins) / 3, rel=1e-3)
    assert last["held_out_accuracy"] == pytest.approx(sum(m > 0 for m in margins) / 3)
    manifest = read_manifest(tmp_path / "with")
    assert (manifest["pairs"], manifest["held_out_pairs"]) == (9, 3)
    assert f"| loss on held-out pairs | {last['held_out_loss']:.4f} |" in (tmp_path / "with" / "README.md").read_text()


@pytest.mark.parametrize("how", ["zero", "probe"])
def test_going_on_neither_starts_the_head_again_nor_loses_or_doubles_a_row(bases, pairs, tmp_path, monkeypatch, how):
    recipe = {**RECIPE, "head": how, "head_learning_rate": 1e-2}
    whole = parameters(train(bases["llama"], pairs[:9], tmp_path, "whole", recipe, held_out=pairs[9:]))

    class KilledError(Exception):
        pass

    def die(self, args, state, control, **kwargs):
        if state.global_step == 4:
            raise KilledError

    with monkeypatch.context() as patch:
        patch.setattr(steps.StepCount, "on_step_end", die, raising=False)
        with pytest.raises(KilledError):
            train(bases["llama"], pairs[:9], tmp_path, "resumed", recipe, held_out=pairs[9:], checkpoint_minutes=0)
    heads = starts(monkeypatch)
    resumed = parameters(train(bases["llama"], pairs[:9], tmp_path, "resumed", recipe, held_out=pairs[9:]))
    assert not heads
    torch.testing.assert_close(resumed, whole, atol=1e-6, rtol=0)
    pd.testing.assert_frame_equal(log_of(tmp_path / "resumed"), log_of(tmp_path / "whole"), rtol=1e-3)


@pytest.mark.parametrize("how", ["zero", "probe"])
def test_several_processes_write_the_same_log(bases, pairs, tmp_path, how, warm_training):
    recipe = {**RECIPE, "head": how, "head_learning_rate": 1e-2, "pairs_per_step": 5}
    one = train(bases["gemma"], pairs[:9], tmp_path, "one", recipe, held_out=pairs[9:], tokens_per_batch=60)
    two = train(
        bases["gemma"], pairs[:9], tmp_path, "two", recipe, held_out=pairs[9:], tokens_per_batch=60, processes=2
    )
    torch.testing.assert_close(parameters(two), parameters(one), atol=1e-5, rtol=0)
    pd.testing.assert_frame_equal(log_of(tmp_path / "two"), log_of(tmp_path / "one"), rtol=1e-3)

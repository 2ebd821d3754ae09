"""The loss by hand, TRL's own trainer as the reference, and resumed training equal to uninterrupted training."""

import functools
import json
import math
import re

import pytest
import torch
from datasets import Dataset
from transformers import AutoModelForSequenceClassification
from trl import RewardConfig, RewardTrainer

from rmtransfer.kit.errors import StudyError
from rmtransfer.models import chat, reward, training

RECIPE = {
    "learning_rate": 1e-3,
    "epochs": 2,
    "pairs_per_step": 4,
    "warmup_ratio": 0.1,
    "max_length": 512,
    "freeze_embeddings": True,
    "frozen_layers": 1,
}
CARD = {"base_model": "tiny", "train_language": "en", "languages": "en"}


def train(base, pairs, tmp_path, name="out", recipe=RECIPE, tokens_per_batch=10_000, minutes=10.0):
    output = tmp_path / name
    training.train_reward_model(
        base,
        pairs,
        recipe,
        0,
        output,
        tmp_path / "work",
        card=CARD,
        tokens_per_batch=tokens_per_batch,
        checkpoint_minutes=minutes,
        device="cpu",
    )
    return AutoModelForSequenceClassification.from_pretrained(output)


def parameters(model):
    return torch.cat([p.detach().flatten() for p in model.parameters()])


def test_bradley_terry_loss_by_hand(bases, tmp_path):
    model = reward.build_reward_model(bases["qwen"], 0)
    tokenizer = chat.load_tokenizer(bases["qwen"])
    ids = [[5, 6, 7], [8, 9], [10], [11, 12]]  # two pairs: chosen above rejected
    dataset = Dataset.from_list(
        [{"chosen_ids": ids[0], "rejected_ids": ids[2]}, {"chosen_ids": ids[1], "rejected_ids": ids[3]}]
    )
    trainer = training._Trainer(
        model=model,
        args=RewardConfig(output_dir=str(tmp_path), use_cpu=True, bf16=False, report_to="none"),
        train_dataset=dataset,
        processing_class=tokenizer,
        tokens_per_batch=4,
    )
    batch = trainer.data_collator([dataset[0], dataset[1]])
    r, _ = reward.score(model, tokenizer, ids, 100)
    by_hand = (math.log(1 + math.exp(r[2] - r[0])) + math.log(1 + math.exp(r[3] - r[1]))) / 2
    assert trainer.compute_loss(model, batch).item() == pytest.approx(by_hand, rel=1e-4)


def test_mixed_precision_reaches_the_forward_pass(bases, tmp_path, monkeypatch):
    """What a GPU does with bf16=True, shown with the CPU's autocast."""
    seen = []
    original = reward.last_token_states
    monkeypatch.setattr(
        reward, "last_token_states", lambda *a: (seen.append(torch.is_autocast_enabled("cpu")), original(*a))[1]
    )
    dataset = Dataset.from_list([{"chosen_ids": [5, 6, 7], "rejected_ids": [8, 9]}] * 2)
    trainer = training._Trainer(
        model=reward.build_reward_model(bases["qwen"], 0),
        args=RewardConfig(
            output_dir=str(tmp_path),
            use_cpu=True,
            bf16=True,
            gradient_checkpointing=False,
            report_to="none",
            save_strategy="no",
        ),
        train_dataset=dataset,
        processing_class=chat.load_tokenizer(bases["qwen"]),
        tokens_per_batch=64,
    )
    trainer.train()
    assert seen
    assert all(seen)


def test_equals_stock_trl(bases, pairs, tmp_path):
    """Same data order, same optimiser: our padding-free trainer takes the steps that TRL's takes."""
    base = bases["gemma"]
    ours = train(base, pairs, tmp_path, recipe={**RECIPE, "frozen_layers": 0, "freeze_embeddings": False})
    tokenizer = chat.load_tokenizer(base)
    model = reward.build_reward_model(base, 0)
    before = parameters(model)
    arguments = RewardConfig(
        output_dir=str(tmp_path / "stock"),
        learning_rate=1e-3,
        num_train_epochs=2,
        per_device_train_batch_size=4,
        warmup_steps=0.1,
        lr_scheduler_type="cosine",
        seed=0,
        max_length=512,
        bf16=False,
        use_cpu=True,
        gradient_checkpointing=False,
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
    )
    conversations = [
        {"chosen": row["prompt"] + row["chosen"], "rejected": row["prompt"] + row["rejected"]} for row in pairs
    ]
    RewardTrainer(
        model=model, args=arguments, train_dataset=Dataset.from_list(conversations), processing_class=tokenizer
    ).train()
    moved = (parameters(model) - before).abs().max().item()
    assert (parameters(ours) - parameters(model)).abs().max().item() < 0.01 * moved


def test_the_token_budget_does_not_change_what_is_learnt(bases, pairs, tmp_path):
    """Two pairs at a time with accumulated gradients, or all four at once."""
    longest = max(
        len(i) for p in training.encode_pairs(chat.load_tokenizer(bases["llama"]), pairs, 512) for i in p.values()
    )
    whole = parameters(train(bases["llama"], pairs, tmp_path, "whole"))
    parts = parameters(train(bases["llama"], pairs, tmp_path, "parts", tokens_per_batch=4 * longest))
    start = parameters(reward.build_reward_model(bases["llama"], 0))
    assert (whole - parts).abs().max() < 0.02 * (whole - start).abs().max()


def test_of_several_gpus_one_is_used(bases, pairs, tmp_path, monkeypatch):
    """As Trainer sees a machine with two, but for the arithmetic, which stays on the CPU."""

    set_up = training.RewardConfig._setup_devices.func

    def two_gpus(arguments):
        device = set_up(arguments)
        arguments._n_gpu = 2
        return device

    seen = functools.cached_property(two_gpus)
    seen.__set_name__(training.RewardConfig, "_setup_devices")
    expected = parameters(train(bases["llama"], pairs, tmp_path, "one"))
    monkeypatch.setattr(training.RewardConfig, "_setup_devices", seen)
    torch.testing.assert_close(parameters(train(bases["llama"], pairs, tmp_path, "two")), expected)


@pytest.mark.parametrize("family", ["gemma", "llama", "qwen"])
def test_mixed_precision_as_on_a_gpu(bases, pairs, tmp_path, monkeypatch, family):
    """bf16 products over fp32 weights go the same way, and the bf16 model judges like the fp32 one; here on the CPU."""
    expected = parameters(train(bases[family], pairs, tmp_path, "fp32"))
    stock = training.RewardConfig
    monkeypatch.setattr(training, "RewardConfig", lambda **arguments: stock(**{**arguments, "bf16": True}))
    monkeypatch.setattr(training, "train_with_onednn", lambda *_: None)
    got = parameters(train(bases[family], pairs, tmp_path, "bf16"))
    assert got.dtype == torch.float32
    assert 0 < (got - expected).abs().max() < RECIPE["learning_rate"] * 6  # six steps, the wrong way every time

    sequences = [
        ids
        for pair in pairs
        for ids in training.encode_pairs(chat.load_tokenizer(bases[family]), [pair], 512)[0].values()
    ]
    rewards = []
    for precision in (torch.float32, torch.bfloat16):
        monkeypatch.setattr(reward, "inference_dtype", lambda _, precision=precision: precision)
        monkeypatch.setattr(reward, "pack_for_cpu", lambda *_: None)
        model = reward.load_reward_model(tmp_path / "bf16", torch.device("cpu"))
        assert model.dtype == precision
        rewards.append(reward.score(model, chat.load_tokenizer(bases[family]), sequences, 64)[0])
    assert rewards[1].dtype == torch.float32
    torch.testing.assert_close(rewards[1], rewards[0], atol=0.1, rtol=0)


def test_resumed_equals_uninterrupted(bases, pairs, tmp_path, monkeypatch):
    whole = parameters(train(bases["llama"], pairs, tmp_path, "whole"))

    class KilledError(Exception):
        pass

    def die(self, args, state, control, **kwargs):
        if state.global_step == 4:
            raise KilledError

    with monkeypatch.context() as patch:
        patch.setattr(training._StepCount, "on_step_end", die, raising=False)
        with pytest.raises(KilledError):
            train(bases["llama"], pairs, tmp_path, "resumed", minutes=0)
    (state,) = (tmp_path / "work").iterdir()
    assert [p.name for p in state.glob("checkpoint-*")] == ["checkpoint-3"]

    steps = []
    original = training._StepCount.on_log

    def watch(self, args, state, control, logs=None, **kwargs):
        steps.append(state.global_step)
        original(self, args, state, control, logs=logs, **kwargs)

    monkeypatch.setattr(training._StepCount, "on_log", watch)
    resumed = parameters(train(bases["llama"], pairs, tmp_path, "resumed"))
    assert steps[0] == 4
    torch.testing.assert_close(resumed, whole, atol=1e-6, rtol=0)
    assert not (tmp_path / "work").exists()


def test_same_seed_same_model(bases, pairs, tmp_path):
    first, second = (train(bases["qwen"], pairs, tmp_path, name) for name in ("a", "b"))
    assert torch.equal(parameters(first), parameters(second))


def test_frozen_parts_stay_and_the_rest_moves(bases, pairs, tmp_path):
    start = reward.build_reward_model(bases["gemma"], 0)
    model = train(bases["gemma"], pairs, tmp_path)
    moved = {n for (n, p), q in zip(start.named_parameters(), model.parameters(), strict=True) if not torch.equal(p, q)}
    assert not any(n.startswith(("model.embed_tokens", "model.layers.0.")) for n in moved)
    assert {n.split(".")[2] for n in moved if ".layers." in n} == {"1", "2"}
    assert "score.weight" in moved


def test_it_learns(bases, pairs, tmp_path):
    model = train(bases["llama"], pairs, tmp_path, recipe={**RECIPE, "epochs": 10}).eval()
    tokenizer = chat.load_tokenizer(tmp_path / "out")
    rewards, _ = reward.score(
        model, tokenizer, [i for p in training.encode_pairs(tokenizer, pairs, 512) for i in p.values()], 10_000
    )
    assert (rewards[0::2] > rewards[1::2]).float().mean() > 0.9


def test_a_finished_model_says_what_it_is(bases, pairs, tmp_path):
    train(bases["llama"], pairs, tmp_path)
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert manifest["pairs"] == len(pairs)
    assert manifest["training"] == RECIPE
    assert manifest["largest_difference_after_reload"] < 1e-4
    assert {"model.safetensors", "tokenizer.json", "chat_template.jinja", "README.md"} <= manifest["files"].keys()


@pytest.mark.parametrize("writes_bos", [True, False])
def test_the_cards_own_code_gives_the_rewards(base, pairs, tmp_path, monkeypatch, writes_bos):
    tokenizer = chat.load_tokenizer(base)
    if not writes_bos:
        tokenizer.chat_template = tokenizer.chat_template.replace("{{ bos_token }}", "")
    model = reward.build_reward_model(base, 0)
    training.save_reward_model(model, tokenizer, tmp_path, CARD, RECIPE, [])
    monkeypatch.chdir(tmp_path)
    names = {}
    rewards = []
    for code in re.findall(r"```python\n(.+?)```", (tmp_path / "README.md").read_text(), re.S):
        exec(code, names)
        rewards.append(names["reward"])
    assert len(rewards) == 2

    by_pipeline, inputs = names["reward_model"], names["conversation"]
    conversations = [inputs, *(pair["prompt"] + pair["chosen"] for pair in pairs)]
    for conversation in conversations[1:]:
        text = by_pipeline.tokenizer.apply_chat_template(conversation, tokenize=False)
        rewards.append(by_pipeline(text)[0]["score"])
    sequences = [chat.encode(tokenizer, conversation) for conversation in conversations]
    expected, _ = reward.score(model.eval(), tokenizer, [sequences[0], *sequences], 64)
    assert rewards == pytest.approx(expected.tolist(), abs=1e-4)
    assert expected.std() > 0.1


def test_a_model_that_does_not_reload_is_never_finished(bases, pairs, tmp_path, monkeypatch):
    def save_another(model, *args, **kwargs):
        with torch.no_grad():
            model.score.weight.mul_(2)
        original(model, *args, **kwargs)
        with torch.no_grad():
            model.score.weight.div_(2)

    original = training.save_reward_model
    monkeypatch.setattr(training, "save_reward_model", save_another)
    with pytest.raises(RuntimeError, match="differ by"):
        train(bases["llama"], pairs, tmp_path)
    assert not (tmp_path / "out" / "manifest.json").exists()


def test_bad_recipes(bases, pairs, tmp_path):
    with pytest.raises(StudyError, match=r"frozen_layers: 9 is more than the 3 layers"):
        train(bases["llama"], pairs, tmp_path, recipe={**RECIPE, "frozen_layers": 9})
    with pytest.raises(StudyError, match=r"row r0: longer than training\.max_length = 8"):
        train(bases["llama"], pairs, tmp_path, recipe={**RECIPE, "max_length": 8})

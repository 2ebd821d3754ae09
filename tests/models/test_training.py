"""The loss by hand, TRL's own trainer as the reference, and resumed training equal to uninterrupted training."""

import collections
import functools
import json
import math
import re
import shutil
from typing import get_args

import pytest
import torch
from datasets import Dataset
from transformers import AutoModelForCausalLM
from transformers.training_args import OptimizerNames
from trl import RewardConfig, RewardTrainer

from rmtransfer.kit.errors import StudyError
from rmtransfer.kit.manifest import digest_folder, write_manifest
from rmtransfer.models import artifact, attention, chat, fit, reward, steps, training
from rmtransfer.models.trunk import Trunk
from rmtransfer.study.config import Training
from trainings import CARD, RECIPE, parameters, train


def a_trainer(model, base, pairs, tmp_path, tokens_per_batch, **arguments):
    """The trainer alone, on pairs of token ids."""
    attention.use_packed_attention(model)
    steps.give_rewards(model, model)
    return steps.PackTrainer(
        model=model,
        classifier=model,
        args=RewardConfig(
            **{
                "output_dir": str(tmp_path),
                "use_cpu": True,
                "bf16": False,
                "gradient_checkpointing": False,
                "report_to": "none",
                "save_strategy": "no",
                "disable_tqdm": True,
                **arguments,
            }
        ),
        train_dataset=Dataset.from_list([{"chosen_ids": chosen, "rejected_ids": other} for chosen, other in pairs]),
        processing_class=chat.load_tokenizer(base),
        tokens_per_batch=tokens_per_batch,
    )


def test_bradley_terry_loss_by_hand(bases, tmp_path):
    model = reward.build_reward_model(bases["qwen"], 0)
    pairs = [([5, 6, 7], [5, 6]), ([8, 9], [11, 12])]
    trainer = a_trainer(model, bases["qwen"], pairs, tmp_path, 4)
    batch = trainer.data_collator(trainer.train_dataset.to_list())
    r, _ = reward.score(model, [text for pair in pairs for text in pair], 100)
    by_hand = (math.log(1 + math.exp(r[1] - r[0])) + math.log(1 + math.exp(r[3] - r[2]))) / 2
    assert trainer.training_step(model, batch).item() == pytest.approx(by_hand, rel=1e-4)
    logged = {name: values[-1] for name, values in trainer._metrics["train"].items()}
    assert logged == pytest.approx(
        {
            "num_tokens": 9,
            "min_reward": r.min().item(),
            "mean_reward": r.mean().item(),
            "max_reward": r.max().item(),
            "accuracy": ((r[0] > r[1]).float().item() + (r[2] > r[3]).float().item()) / 2,
            "margin": (r[0] - r[1] + r[2] - r[3]).item() / 2,
        },
        rel=1e-4,
    )


def test_mixed_precision_reaches_the_forward_pass(bases, tmp_path, monkeypatch):
    """What a GPU does with bf16=True, shown with the CPU's autocast."""
    seen = []
    original = reward.last_token_states
    monkeypatch.setattr(
        reward, "last_token_states", lambda *a: (seen.append(torch.is_autocast_enabled("cpu")), original(*a))[1]
    )
    pairs = [([5, 6, 7], [8, 9])] * 2
    model = reward.build_reward_model(bases["qwen"], 0)
    a_trainer(model, bases["qwen"], pairs, tmp_path, 64, bf16=True).train()
    assert seen
    assert all(seen)


def test_equals_stock_trl(base, pairs, tmp_path, monkeypatch):
    """Same data order, same optimiser: our trainer takes the steps that TRL's takes, the incomplete ones too."""
    recipe = {**RECIPE, "pairs_per_step": 5, "epochs": 4, "frozen_layers": 0, "freeze_embeddings": False}
    histories = []
    log = fit.training_log
    monkeypatch.setattr(fit, "training_log", lambda *a: (histories.append(a[0]), log(*a))[1])
    ours = train(base, pairs, tmp_path, recipe=recipe, tokens_per_batch=64)
    tokenizer = chat.load_tokenizer(base)
    model = reward.build_reward_model(base, 0)
    before = parameters(model)
    arguments = RewardConfig(
        output_dir=str(tmp_path / "stock"),
        learning_rate=1e-3,
        num_train_epochs=4,
        per_device_train_batch_size=5,
        warmup_steps=0.1,
        lr_scheduler_type="cosine",
        seed=0,
        max_length=512,
        bf16=False,
        use_cpu=True,
        gradient_checkpointing=False,
        save_strategy="no",
        logging_steps=1,
        report_to="none",
        disable_tqdm=True,
    )
    conversations = [
        {"chosen": row["prompt"] + row["chosen"], "rejected": row["prompt"] + row["rejected"]} for row in pairs
    ]
    stock = RewardTrainer(
        model=model, args=arguments, train_dataset=Dataset.from_list(conversations), processing_class=tokenizer
    )
    stock.train()
    histories.append(stock.state.log_history)
    measures = ("loss", "grad_norm", "accuracy", "margin", "min_reward", "mean_reward", "max_reward", "num_tokens")
    got, expected = ([[h[m] for m in measures] for h in history if "loss" in h] for history in histories)
    print(
        "largest relative difference of a loss", max(abs(a[0] / b[0] - 1) for a, b in zip(got, expected, strict=True))
    )
    assert len(expected) == 12
    assert [h[0] for h in got] == pytest.approx([h[0] for h in expected], rel=1e-5)
    torch.testing.assert_close(torch.tensor(got), torch.tensor(expected), rtol=1e-3, atol=1e-4)
    moved = (parameters(model) - before).abs().max().item()
    assert (parameters(ours) - parameters(model)).abs().max().item() < 0.01 * moved


@pytest.mark.parametrize("packed", [True, False])
def test_gradients_of_packs(base, pairs, tmp_path, packed):
    """Against one text at a time through the stock model."""
    texts = [tuple(p.values()) for p in training.encode_pairs(chat.load_tokenizer(base), pairs, 512)]
    texts += [([5, 6, 7], [5, 6, 7]), ([5], [6]), ([5, 6, 7, 8], [5, 6])]
    stock = reward.build_reward_model(base, 0)
    for chosen, other in texts:
        r = [stock(input_ids=torch.tensor([ids])).logits.squeeze() for ids in (chosen, other)]
        (-torch.nn.functional.logsigmoid(r[0] - r[1]) / len(texts)).backward()
    for tokens_per_batch in (1, 64, 10_000):
        model = reward.build_reward_model(base, 0)
        trainer = a_trainer(model, base, texts, tmp_path, tokens_per_batch)
        assert trainer.packed
        trainer.packed = packed
        if not packed:
            model.set_attn_implementation("sdpa")
        trainer.passes(model, texts)
        for (name, p), q in zip(model.named_parameters(), stock.parameters(), strict=True):
            assert (p.grad - q.grad).abs().max() <= 1e-5 * q.grad.abs().max(), name


def test_the_token_budget_does_not_change_what_is_learnt(bases, pairs, tmp_path):
    """Two pairs at a time with accumulated gradients, or all four at once."""
    longest = max(
        len(i) for p in training.encode_pairs(chat.load_tokenizer(bases["llama"]), pairs, 512) for i in p.values()
    )
    whole = parameters(train(bases["llama"], pairs, tmp_path, "whole"))
    parts = parameters(train(bases["llama"], pairs, tmp_path, "parts", tokens_per_batch=4 * longest))
    start = parameters(reward.build_reward_model(bases["llama"], 0))
    assert (whole - parts).abs().max() < 0.02 * (whole - start).abs().max()


def run_out(monkeypatch, times, problem):
    """Have forward passes fail, ``times`` times in turn: the second pass of the third step first."""
    passes = []
    states = reward.last_token_states

    def failing(*arguments):
        passes.append(arguments)
        if 6 <= len(passes) < 6 + times:
            problem()
        return states(*arguments)

    monkeypatch.setattr(reward, "last_token_states", failing)


def gpu_is_full():
    raise torch.OutOfMemoryError("CUDA out of memory")


def machine_is_full():
    torch.empty(2**50)


@pytest.fixture(scope="module")
def whole(bases, pairs, tmp_path_factory):
    """Parameters that memory for every step leads to."""
    return parameters(train(bases["gemma"], pairs, tmp_path_factory.mktemp("whole"), tokens_per_batch=120))


@pytest.mark.parametrize("problem", [gpu_is_full, machine_is_full])
@pytest.mark.parametrize("times", [1, 2])
def test_out_of_memory_the_step_is_done_again(whole, bases, pairs, tmp_path, monkeypatch, capsys, problem, times):
    start = parameters(reward.build_reward_model(bases["gemma"], 0))
    recomputed = []
    monkeypatch.setattr(fit, "recompute_activations", None)
    switch = steps.recompute_activations
    monkeypatch.setattr(steps, "recompute_activations", lambda model: (recomputed.append(model), switch(model)))
    capsys.readouterr()
    run_out(monkeypatch, times, problem)
    again = parameters(train(bases["gemma"], pairs, tmp_path, "again", tokens_per_batch=120))
    assert (whole - again).abs().max() < 1e-3 * (whole - start).abs().max()
    said = capsys.readouterr().out
    assert said.count("out of memory: the step is done again, 60 tokens at a time") == 1
    assert said.count("out of memory again: from here on activations are computed twice") == times - 1
    assert [model.is_activation_checkpointing for model in recomputed] == [True] * (times - 1)


@pytest.mark.parametrize(("times", "recompute"), [(3, "auto"), (2, False), (2, True)])
def test_out_of_memory_whatever_is_tried(bases, pairs, tmp_path, monkeypatch, times, recompute):
    run_out(monkeypatch, times, gpu_is_full)
    with pytest.raises(StudyError, match=r"out of memory at 60 tokens at a time; lower resources\.tokens_per_batch"):
        train(bases["gemma"], pairs, tmp_path, tokens_per_batch=120, gradient_checkpointing=recompute)


def test_another_error_in_a_step_is_not_taken_for_too_little_memory(bases, pairs, tmp_path, monkeypatch):
    def fail():
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    run_out(monkeypatch, 1, fail)
    with pytest.raises(RuntimeError, match="illegal memory access"):
        train(bases["gemma"], pairs, tmp_path)


def test_recomputed_activations_change_nothing(base, pairs, tmp_path):
    kept = parameters(train(base, pairs, tmp_path, "kept", gradient_checkpointing=False))
    recomputed = parameters(train(base, pairs, tmp_path, "recomputed", gradient_checkpointing=True))
    torch.testing.assert_close(recomputed, kept, atol=1e-6, rtol=0)


def test_optimizers_of_8_bits(bases, pairs, tmp_path, monkeypatch):
    recipe = {**RECIPE, "optimizer": "paged_adamw_8bit"}
    monkeypatch.setattr(reward, "build_reward_model", None)  # said before any model is loaded
    with pytest.raises(StudyError, match=r"training\.optimizer: paged_adamw_8bit needs a GPU; set adamw"):
        train(bases["llama"], pairs, tmp_path, recipe=recipe)
    monkeypatch.setattr(training, "pick_device", lambda _: torch.device("cuda"))
    monkeypatch.setattr(training.importlib.util, "find_spec", lambda _: None)
    with pytest.raises(StudyError, match=r"paged_adamw_8bit needs the package bitsandbytes; install it"):
        train(bases["llama"], pairs, tmp_path, recipe=recipe)
    monkeypatch.setattr(training.importlib.util, "find_spec", lambda name: name)
    with pytest.raises(StudyError, match=r"paged_adamw_8bit works in one process only"):
        train(bases["llama"], pairs, tmp_path, recipe=recipe, processes=2)


def test_optimizers_are_known_to_transformers_and_to_the_config():
    wanted = [OptimizerNames(name) for name in fit.OPTIMIZERS.values()]
    assert wanted[0] == RewardConfig(output_dir="x", use_cpu=True, bf16=False).optim  # as before there was a choice
    assert set(fit.OPTIMIZERS) == set(get_args(Training.model_fields["optimizer"].annotation))


def test_of_several_gpus_one_is_used(bases, pairs, tmp_path, monkeypatch):
    """As Trainer sees a machine with two, but for the arithmetic, which stays on the CPU."""

    set_up = fit.RewardConfig._setup_devices.func

    def two_gpus(arguments):
        device = set_up(arguments)
        arguments._n_gpu = 2
        return device

    seen = functools.cached_property(two_gpus)
    seen.__set_name__(fit.RewardConfig, "_setup_devices")
    expected = parameters(train(bases["llama"], pairs, tmp_path, "one"))
    monkeypatch.setattr(fit.RewardConfig, "_setup_devices", seen)
    torch.testing.assert_close(parameters(train(bases["llama"], pairs, tmp_path, "two")), expected)


@pytest.mark.parametrize("family", ["gemma", "llama", "qwen"])
def test_mixed_precision_as_on_a_gpu(bases, pairs, tmp_path, monkeypatch, family):
    """bf16 products over fp32 weights go the same way, and the bf16 model judges like the fp32 one; here on the CPU."""
    expected = parameters(train(bases[family], pairs, tmp_path, "fp32"))
    stock = fit.RewardConfig
    monkeypatch.setattr(fit, "RewardConfig", lambda **arguments: stock(**{**arguments, "bf16": True}))
    monkeypatch.setattr(fit, "train_with_onednn", lambda *_: None)
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
        rewards.append(reward.score(model, sequences, 64)[0])
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
        patch.setattr(steps.StepCount, "on_step_end", die, raising=False)
        with pytest.raises(KilledError):
            train(bases["llama"], pairs, tmp_path, "resumed", checkpoint_minutes=0)
    (state,) = (tmp_path / "work").iterdir()
    assert [p.name for p in state.glob("checkpoint-*")] == ["checkpoint-3"]
    # One whose writing was cut off: what comes last is not there, or not to its end.
    cut = shutil.copytree(state / "checkpoint-3", state / "checkpoint-4") / "trainer_state.json"
    cut.write_bytes(cut.read_bytes()[:100])
    shutil.copytree(cut.parent, state / "checkpoint-5", ignore=shutil.ignore_patterns(cut.name))

    seen = []
    original = steps.StepCount.on_log

    def watch(self, args, state, control, logs=None, **kwargs):
        seen.append(state.global_step)
        original(self, args, state, control, logs=logs, **kwargs)

    monkeypatch.setattr(steps.StepCount, "on_log", watch)
    resumed = parameters(train(bases["llama"], pairs, tmp_path, "resumed"))
    assert seen[0] == 4
    torch.testing.assert_close(resumed, whole, atol=1e-6, rtol=0)
    assert not (tmp_path / "work").exists()


@pytest.mark.parametrize("bf16", [False, True])
def test_the_trunk_changes_nothing(base, pairs, tmp_path, monkeypatch, bf16):
    """Frozen blocks computed once a text, in the precision of the others."""
    if bf16:
        stock = fit.RewardConfig
        monkeypatch.setattr(fit, "RewardConfig", lambda **arguments: stock(**{**arguments, "bf16": True}))
        monkeypatch.setattr(fit, "train_with_onednn", lambda *_: None)
    recipe = {**RECIPE, "frozen_layers": 2}
    whole = parameters(train(base, pairs, tmp_path, "whole", recipe))
    seen = []
    blocks = []
    monkeypatch.setattr(fit, "give_rewards", lambda *a: (seen.append(a[2]), steps.give_rewards(*a)))
    first = reward.build_reward_model(base, 0).base_model.layers[0]
    forward = type(first).forward
    monkeypatch.setattr(type(first), "forward", lambda self, *a, **k: (blocks.append(self), forward(self, *a, **k))[1])
    options = {"trunk_store": tmp_path / "trunk", "trunk_gigabytes": 1}
    halved = parameters(train(base, pairs, tmp_path, "halved", recipe, **options))
    assert isinstance(seen[0], Trunk)
    assert list((tmp_path / "trunk").rglob("*"))
    torch.testing.assert_close(halved, whole, atol=1e-5, rtol=0)
    counts = collections.Counter(map(id, blocks))
    last = seen[0].upper.layers[-1]
    assert counts[id(last)] >= 6  # once a step
    assert min(counts.values()) < counts[id(last)]


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
        model, [i for p in training.encode_pairs(tokenizer, pairs, 512) for i in p.values()], 10_000
    )
    assert (rewards[0::2] > rewards[1::2]).float().mean() > 0.9


def test_a_finished_model_says_what_it_is(bases, pairs, tmp_path):
    train(bases["llama"], pairs, tmp_path)
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert manifest["pairs"] == len(pairs)
    assert manifest["training"] == RECIPE
    assert manifest["trunk"] == {"base": digest_folder(bases["llama"]), "layers": 1}
    assert "packed" not in (tmp_path / "out" / "config.json").read_text()
    assert manifest["largest_difference_after_reload"] < 1e-4
    assert {"model.safetensors", "tokenizer.json", "chat_template.jinja", "README.md"} <= manifest["files"].keys()


@pytest.mark.parametrize("writes_bos", [True, False])
def test_the_cards_own_code_gives_the_rewards(base, pairs, tmp_path, monkeypatch, writes_bos):
    tokenizer = chat.load_tokenizer(base)
    if not writes_bos:
        tokenizer.chat_template = tokenizer.chat_template.replace("{{ bos_token }}", "")
    model = reward.build_reward_model(base, 0)
    artifact.save_reward_model(model, tokenizer, tmp_path, CARD, RECIPE, [])
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
    expected, _ = reward.score(model.eval(), [sequences[0], *sequences], 64)
    assert rewards == pytest.approx(expected.tolist(), abs=1e-4)
    assert expected.std() > 0.1


def test_a_model_that_does_not_reload_is_never_finished(bases, pairs, tmp_path, monkeypatch):
    def save_another(model, *args, **kwargs):
        with torch.no_grad():
            model.score.weight.mul_(2)
        original(model, *args, **kwargs)
        with torch.no_grad():
            model.score.weight.div_(2)

    original = artifact.save_reward_model
    monkeypatch.setattr(artifact, "save_reward_model", save_another)
    with pytest.raises(RuntimeError, match="differ by"):
        train(bases["llama"], pairs, tmp_path)
    assert not (tmp_path / "out" / "manifest.json").exists()


@pytest.fixture
def scored_in_bf16(monkeypatch):
    """What a GPU does, on the CPU."""
    for module in (reward, artifact):
        monkeypatch.setattr(module, "inference_dtype", lambda _: torch.bfloat16)
    monkeypatch.setattr(reward, "pack_for_cpu", lambda *_: None)


def test_the_precision_that_scores_is_checked_too(base, pairs, tmp_path, scored_in_bf16, capsys):
    train(base, pairs, tmp_path)
    assert re.search(
        r"the same in torch.bfloat16: states differ relatively by at most \d\.\de-0[123]", capsys.readouterr().out
    )


def test_a_model_that_another_precision_damages_is_never_finished(bases, pairs, tmp_path, scored_in_bf16, monkeypatch):
    def damaged(*arguments):
        model = load(*arguments)
        model.base_model.norm.weight.data.mul_(1.5)
        return model

    load = reward.load_weights
    monkeypatch.setattr(reward, "load_weights", damaged)
    with pytest.raises(
        RuntimeError, match=r"in torch\.bfloat16 its states are others than in fp32, relatively by 0\.5"
    ):
        train(bases["llama"], pairs, tmp_path)
    assert not (tmp_path / "out" / "manifest.json").exists()


def test_bad_recipes(bases, pairs, tmp_path):
    with pytest.raises(StudyError, match=r"frozen_layers: 9 is more than the 3 layers"):
        train(bases["llama"], pairs, tmp_path, recipe={**RECIPE, "frozen_layers": 9})
    with pytest.raises(StudyError, match=r"row r0: longer than training\.max_length = 8"):
        train(bases["llama"], pairs, tmp_path, recipe={**RECIPE, "max_length": 8})


def test_a_text_longer_than_the_model_reads_is_refused_before_training(bases, pairs, tmp_path):
    base = shutil.copytree(bases["llama"], tmp_path / "short")
    config = json.loads((base / "config.json").read_text())
    (base / "config.json").write_text(json.dumps(config | {"max_position_embeddings": 16}))
    with pytest.raises(
        StudyError,
        match=r"training\.max_length: 512 is more than the 16 tokens that the base model tiny reads; lower it to 16",
    ):
        train(base, pairs, tmp_path)


def test_a_model_is_kept_when_it_is_finished_and_before_what_it_could_be_resumed_from_goes(bases, pairs, tmp_path):
    class Kept:
        def put(self):
            self.finished = (tmp_path / "out/manifest.json").is_file()
            self.resumable = any((tmp_path / "work").rglob("checkpoint-*"))

    keep = Kept()
    train(bases["llama"], pairs, tmp_path, checkpoint_minutes=0, keep=keep)
    assert keep.finished
    assert keep.resumable
    assert not (tmp_path / "work").exists()


@pytest.mark.parametrize("head", ["normal", "probe"])
def test_a_base_that_gives_no_numbers_is_named_at_step_1(tmp_path, bases, pairs, head):
    base = tmp_path / "base"
    model = AutoModelForCausalLM.from_pretrained(bases["llama"])
    with torch.no_grad():
        model.model.layers[2].mlp.up_proj.weight[0, 0] = torch.nan
    shutil.copytree(bases["llama"], base)
    model.save_pretrained(base)
    write_manifest(base, {"stage": "base_model"})
    with pytest.raises(StudyError, match=r"no finite numbers at step 1.*weights are damaged"):
        train(base, pairs, tmp_path, recipe={**RECIPE, "head": head})


@pytest.mark.parametrize(
    ("after", "more"), [(1, {}), (2, {"head_learning_rate": 1e-3}), (6, {}), (6, {"head_learning_rate": 1e-3})]
)
def test_divergence_is_seen_at_its_step(tmp_path, bases, pairs, monkeypatch, after, more):
    """After the last step too, which no other step follows."""

    def ruin(self, args, state, control, **kwargs):
        if state.global_step == after:
            kwargs["model"].score.weight.data.fill_(torch.inf)

    monkeypatch.setattr(steps.StepCount, "on_step_end", ruin, raising=False)
    monkeypatch.setattr(steps.HeldOut, "on_step_end", lambda *_, **__: None)
    with pytest.raises(
        StudyError, match=rf"diverged: after step {after}, with a learning rate of .*training.learning_rate"
    ) as error:
        train(bases["llama"], pairs, tmp_path, recipe={**RECIPE, **more})
    assert ("training.head_learning_rate" in str(error.value)) == bool(more)
    assert not (tmp_path / "out" / "manifest.json").exists()

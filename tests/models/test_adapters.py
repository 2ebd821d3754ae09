"""Low-rank adapters: what is trained, what is saved, and the same rewards in another process and another place."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForSequenceClassification

from rmtransfer.kit.errors import StudyError
from rmtransfer.kit.manifest import read_manifest
from rmtransfer.models import adapters, chat, reward, steps, training
from trainings import RECIPE, train

ADAPTER = {"kind": "lora", "rank": 4, "alpha": 8.0, "dropout": 0.0, "target_modules": "all-linear", "merge": False}
SCORE = """
import sys, json, torch
from pathlib import Path
from rmtransfer.models import reward
model = reward.load_reward_model(Path(sys.argv[1]), torch.device("cpu"))
print(json.dumps(reward.score(model, json.loads(sys.argv[2]), 64)[0].tolist()))
"""


def adapt(base, pairs, tmp_path, name="models/out", minutes=10, **options):
    recipe = {**RECIPE, "epochs": 3, "adapter": {**ADAPTER, **options}}
    train(base, pairs, tmp_path, name, recipe, tokens_per_batch=64, checkpoint_minutes=minutes)
    return tmp_path / name


@pytest.fixture
def moved(bases, tmp_path):
    """A base model in a study's folder, which may be moved as a whole."""

    def base(family):
        return Path(shutil.copytree(bases[family], tmp_path / "bases" / family))

    return base


def rewards_elsewhere(folder, texts):
    library = Path(adapters.__file__).parents[2]
    command = [sys.executable, "-c", SCORE, str(folder), json.dumps(texts)]
    done = subprocess.run(
        command, capture_output=True, text=True, check=True, env={**os.environ, "PYTHONPATH": str(library)}
    )
    return torch.tensor(json.loads(done.stdout.splitlines()[-1]))


@pytest.mark.parametrize(("name", "merge"), [("gemma", True), ("gemma", False), ("llama", False), ("qwen", False)])
def test_saved_moved_and_loaded(moved, pairs, tmp_path, monkeypatch, name, merge):
    """With the base model's folder, in another place and (once) in another process."""
    score = reward.score
    expected = []
    monkeypatch.setattr(reward, "score", lambda *a: (expected.append(score(*a)[0]), score(*a))[1])
    base = moved(name)
    output = adapt(base, pairs, tmp_path, merge=merge)
    texts = [list(ids) for p in training.encode_pairs(chat.load_tokenizer(base), pairs[:2], 512) for ids in p.values()]
    start = score(reward.build_reward_model(base, 0).eval(), texts, 64)[0]
    assert (expected[0] - start).abs().min() > 1e-3
    assert read_manifest(output)["training"]["adapter"]["merge"] is merge
    assert (output / reward.ADAPTER_CONFIG).exists() is not merge
    study = tmp_path.rename(tmp_path.with_name(f"{tmp_path.name}_moved"))
    folder = study / output.relative_to(tmp_path)
    if merge:
        found = score(AutoModelForSequenceClassification.from_pretrained(folder).eval(), texts, 64)[0]
    elif name == "gemma":
        found = rewards_elsewhere(folder, texts)
    else:
        found = score(reward.load_reward_model(folder, torch.device("cpu")), texts, 64)[0]
    torch.testing.assert_close(found, expected[0], atol=1e-5, rtol=1e-5)


def test_the_artifact_is_the_adapter_and_the_head(bases, pairs, tmp_path):
    output = adapt(bases["gemma"], pairs, tmp_path, target_modules=["q_proj", "down_proj"])
    held = load_file(output / "adapter_model.safetensors")
    assert {n.split(".")[-3] if "lora" in n else n.split(".")[-2] for n in held} == {"q_proj", "down_proj", "score"}
    assert {n.split(".layers.")[1][0] for n in held if ".layers." in n} == {"1", "2"}  # block 0 is frozen
    assert not list(output.glob("model*.safetensors"))
    head = reward.build_reward_model(bases["gemma"], 0).score.weight
    assert not torch.equal(held["base_model.model.score.weight"], head)
    assert {"tokenizer.json", "chat_template.jinja", "README.md", "adapter_config.json"} <= read_manifest(output)[
        "files"
    ].keys()


def test_only_adapters_above_the_frozen_blocks_and_the_head_are_trained(bases):
    model = adapters.add_adapter(reward.build_reward_model(bases["llama"], 0), ADAPTER, 2, 0)
    trained = [name for name, p in model.named_parameters() if p.requires_grad]
    assert {name.split(".lora_")[0].split(".")[-1] for name in trained if "lora" in name} == {
        "q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj",
    }  # fmt: skip
    assert {name.split(".layers.")[1][0] for name in trained if "lora" in name} == {"2"}
    assert [name for name in trained if "lora" not in name] == ["base_model.model.score.modules_to_save.default.weight"]


def test_a_merged_model_has_the_bases_frozen_weights(bases, pairs, tmp_path):
    start = reward.build_reward_model(bases["qwen"], 0)
    model = AutoModelForSequenceClassification.from_pretrained(adapt(bases["qwen"], pairs, tmp_path, merge=True))
    changed = {
        n for (n, p), q in zip(start.named_parameters(), model.parameters(), strict=True) if not torch.equal(p, q)
    }
    assert {name.split(".")[2] for name in changed if ".layers." in name} == {"1", "2"}
    assert {name for name in changed if ".layers." not in name} == {"score.weight"}


def test_a_killed_training_goes_on(bases, pairs, tmp_path, monkeypatch):
    class KilledError(Exception):
        pass

    def die(self, args, state, control, **kwargs):
        if state.global_step == 5:
            raise KilledError

    name = "adapter_model.safetensors"
    whole = load_file(adapt(bases["llama"], pairs, tmp_path, "whole") / name)
    with monkeypatch.context() as patch:
        patch.setattr(steps.StepCount, "on_step_end", die, raising=False)
        with pytest.raises(KilledError):
            adapt(bases["llama"], pairs, tmp_path, "resumed", minutes=0)
    assert [p.name for p in (tmp_path / "work").rglob("checkpoint-*")] == ["checkpoint-4"]
    resumed = load_file(adapt(bases["llama"], pairs, tmp_path, "resumed") / name)
    torch.testing.assert_close(resumed, whole, atol=1e-6, rtol=0)
    assert not (tmp_path / "work").exists()


def test_dropout_is_the_adapters_own(bases, pairs, tmp_path):
    plain = load_file(adapt(bases["llama"], pairs, tmp_path, "a") / "adapter_model.safetensors")
    dropped = load_file(adapt(bases["llama"], pairs, tmp_path, "b", dropout=0.5) / "adapter_model.safetensors")
    assert any(not torch.equal(plain[name], dropped[name]) for name in plain)


def test_bad_adapters(bases, pairs, tmp_path):
    with pytest.raises(
        StudyError, match=r"training\.adapter\.target_modules: .* no layer c_attn; name some of down_proj, g"
    ):
        adapt(bases["llama"], pairs, tmp_path, target_modules=["q_proj", "c_attn"])
    assert not (tmp_path / "work").exists()
    with pytest.raises(StudyError, match=r"frozen_layers: 3 leaves no block"):
        adapters.add_adapter(reward.build_reward_model(bases["llama"], 0), ADAPTER, 3, 0)


def test_the_cards_own_code_gives_the_reward(moved, pairs, tmp_path, monkeypatch):
    output = adapt(moved("gemma"), pairs, tmp_path)
    monkeypatch.chdir(output)
    names = {}
    (code,) = re.findall(r"```python\n(.+?)```", (output / "README.md").read_text(), re.S)
    exec(code, names)
    ids = chat.encode(names["tokenizer"], names["conversation"])
    base = adapters.base_of(output)
    loaded = adapters.load_adapter(output, reward.build_reward_model(base, 1)).eval()
    assert names["reward"] == pytest.approx(reward.score(loaded, [ids], 64)[0].item(), abs=1e-5)
    start = reward.build_reward_model(base, 0).eval()
    assert abs(names["reward"] - reward.score(start, [ids], 64)[0].item()) > 1e-3


def test_a_base_that_is_gone(moved, pairs, tmp_path):
    base = moved("llama")
    output = adapt(base, pairs, tmp_path)
    shutil.rmtree(base)
    with pytest.raises(StudyError, match=r"an adapter of the base model in .*bases/llama, which is not there"):
        adapters.base_of(output)

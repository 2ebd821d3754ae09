"""The attention of packs: a function in transformers' own registry, so that no model is patched.

On a GPU it is one call of variable-length flash attention for all segments, elsewhere one of PyTorch's for each.
"""

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch.nn.attention.varlen import varlen_attn
from torch.nn.functional import scaled_dot_product_attention
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from rmtransfer.kit.progress import report
from rmtransfer.models.packing import PACKED, Batch, Segments, group_of

# Families whose packs, and whose split at a block, the tests compare with one text at a time; any other model is tried first.
TESTED = {"gemma3_text", "llama", "mistral", "qwen2", "qwen3"}
_LAYERS = {"full_attention", "sliding_attention"}
_VARLEN_DTYPES = (torch.float16, torch.bfloat16)
_PROBE = ([2, 3, 5, 7, 11, 13, 17, 19], [[23, 29, 31], [37, 41, 43, 47, 53]])  # token ids that any vocabulary has


def prefer_packs(model: Any) -> Any:
    """The model, which computes packs from now on if it can, and says why if it cannot."""
    reason = use_packed_attention(model)
    if reason:
        report(f"computing padded rows, not packs: {reason}")
    return model


@contextlib.contextmanager
def evaluating(model: torch.nn.Module) -> Iterator[None]:
    """Without dropout meanwhile; afterwards in the mode that it was in."""
    training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(training)


def other_layers(model: Any) -> set[str]:
    """Kinds of layers that a model has besides full and sliding attention, such as linear attention."""
    return set(getattr(model.config.get_text_config(), "layer_types", None) or ()) - _LAYERS


@torch.no_grad()
def use_packed_attention(model: Any) -> str | None:
    """Have a decoder, with or without a head, compute packs from now on.

    Returns:
        None, or why it cannot; the model is then as it was.
    """
    if model.config._attn_implementation == PACKED:
        return None
    config = model.config.get_text_config()
    kinds = other_layers(model)
    if not type(model).__module__.startswith("transformers."):
        return "its code is its own"
    if model.config.is_encoder_decoder or not getattr(model, "_supports_attention_backend", False):
        return "transformers does not let its attention be chosen"
    if getattr(config, "attn_logit_softcapping", None):
        return "it caps attention scores"
    if kinds:
        return f"it has layers of {', '.join(sorted(kinds))}"
    if any(hasattr(module, "sinks") for module in model.modules()):
        return "it has attention sinks"
    if any(getattr(module, "is_causal", True) is False for module in model.modules()):
        return "it is not causal"
    if getattr(config, "attention_dropout", 0):
        return "it drops attention at random"
    before = model.config._attn_implementation
    reason = None
    try:
        alone = [] if config.model_type in TESTED else _states_alone(model)
        model.set_attn_implementation(PACKED)
        if alone:
            reason = _objection(model, alone)
    except Exception as problem:  # whatever a model makes of an attention that it does not expect
        reason = f"it fails on a pack ({type(problem).__name__})"
    if reason:
        model.set_attn_implementation(before)
    return reason


def _states_alone(model: Any) -> list[torch.Tensor]:
    """States of the texts of a probe, one at a time."""
    decoder = model.base_model
    texts = (torch.tensor([[*_PROBE[0], *tail]], device=decoder.device) for tail in _PROBE[1])
    with evaluating(model):
        return [decoder(input_ids=text, use_cache=False).last_hidden_state[0] for text in texts]


def _objection(model: Any, alone: Sequence[torch.Tensor]) -> str | None:
    """What speaks against packs if the texts of a probe have these states one at a time."""
    pack = Batch([group_of([[*_PROBE[0], *tail] for tail in _PROBE[1]])])
    with evaluating(model):
        states = pack.hidden(model.base_model)
    difference = max(_difference(states[place], whole) for place, whole in zip(pack.places, alone, strict=True))
    if difference <= (1e-3 if states.dtype == torch.float32 else 0.1):
        return None
    return f"its states of a pack are others than of one text at a time (by {difference:.1g})"


def _difference(states: torch.Tensor, expected: torch.Tensor) -> float:
    return ((states - expected).abs().max() / expected.abs().max()).item()


def packed_attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    *,
    pack: Batch | None = None,
    scaling: float | None = None,
    sliding_window: int | None = None,
    **_: Any,
) -> tuple[torch.Tensor, None]:
    """Attention within a pack, as transformers' attention interface asks for it.

    Args:
        query: [1, heads, tokens, dimension].
        key: [1, key heads, tokens, dimension]; so is ``value``.
        pack: what the row is.
        sliding_window: how many tokens a query sees, itself included.

    Returns:
        [1, tokens, heads, dimension], and no weights.
    """
    kind = query.device.type
    dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else value.dtype
    query, key, value = (states.to(dtype) for states in (query, key, value))
    if pack is None:
        raise RuntimeError("this model computes packs (models/packing.py); give it one, or load it again")
    attend = _by_varlen if kind == "cuda" and dtype in _VARLEN_DTYPES else _by_segment
    return attend(query, key, value, pack.segments, scaling, sliding_window), None


def _by_varlen(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    segments: Segments,
    scaling: float | None,
    window: int | None,
) -> torch.Tensor:
    """All segments in one call of flash attention, causal from the bottom right."""
    lengths = segments.varlen(query.device)
    q, k, v = (states[0].transpose(0, 1) for states in (query, key, value))
    if lengths.keys is not None:
        k, v = k[lengths.keys], v[lengths.keys]
    found = varlen_attn(
        q.contiguous(),
        k.contiguous(),
        v.contiguous(),
        lengths.cumulative_queries,
        lengths.cumulative_keys,
        lengths.most_queries,
        lengths.most_keys,
        scale=scaling,
        window_size=(-1 if window is None else window - 1, 0),
        enable_gqa=query.shape[1] != key.shape[1],
        num_splits=1,  # the order of a sum must not depend on what else is in the pack
    )
    assert isinstance(found, torch.Tensor)  # nothing besides was asked for
    return found[None]


def _by_segment(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    segments: Segments,
    scaling: float | None,
    window: int | None,
) -> torch.Tensor:
    found = []
    masks = segments.masks(window, query.device)
    for (start, end), spans, mask in zip(segments.queries, segments.keys, masks, strict=True):
        k, v = (torch.cat([states[:, :, a:b] for a, b in spans], 2) for states in (key, value))
        found.append(
            scaled_dot_product_attention(
                query[:, :, start:end],
                k,
                v,
                attn_mask=mask,
                is_causal=mask is None,
                scale=scaling,
                enable_gqa=query.shape[1] != key.shape[1],
            )
        )
    return torch.cat(found, 2).transpose(1, 2).contiguous()


ALL_ATTENTION_FUNCTIONS.register(PACKED, packed_attention)

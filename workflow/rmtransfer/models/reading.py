"""How much a model reads, and which tokens: by its configuration, ours as others'."""

from collections.abc import Iterable, Sequence
from typing import Any

from rmtransfer.kit.errors import StudyError

# What configurations call the number of positions, beside the names that transformers maps to the first.
_POSITIONS = ("max_position_embeddings", "max_seq_len")
_STRETCHED = ("linear", "dynamic", "yarn")


def most_tokens(config: Any) -> int | None:
    """The longest text, in tokens, that a model reads by its configuration; None where that sets no limit.

    That is the number of its positions, but

    - less those that a table of positions keeps for padding: RoBERTa's kin count from the pad id + 1, so that 512 of 514 are
      left (https://github.com/facebookresearch/fairseq/issues/1187);
    - times the factor of a RoPE scaling ``linear``, ``dynamic`` or ``yarn``, and not less than its factor times
      ``original_max_position_embeddings`` (documentation of ``rope_scaling`` in transformers' LlamaConfig). Where kinds of layers
      have a scaling each (Gemma 3), the number of positions is what comes out of it.

    A sliding window limits what a token sees, not the text.
    """
    text = config.get_text_config()
    positions = next((n for n in (getattr(text, name, None) for name in _POSITIONS) if n), None)
    if positions is None:
        return None
    scaling = getattr(text, "rope_parameters", None) or getattr(text, "rope_scaling", None)
    if not scaling:
        return positions - _kept_for_padding(config, positions)
    factor, kind = scaling.get("factor"), scaling.get("rope_type", scaling.get("type"))
    if not factor:
        return positions
    original = scaling.get("original_max_position_embeddings")
    if original:
        return max(positions, int(original * factor))
    return int(positions * factor) if kind in _STRETCHED else positions


def _kept_for_padding(config: Any, positions: int) -> int:
    """Positions of a learned table up to and including that of padding, which the model itself says."""
    import torch
    from transformers import AutoModel

    try:
        with torch.device("meta"):
            model = AutoModel.from_config(config)
    except Exception:  # code of its own, or what a class makes of a configuration: then it does not say
        return 0
    # I-BERT's table is of a class of its own.
    tables: list[Any] = [m for m in model.modules() if hasattr(m, "padding_idx") and hasattr(m, "weight")]
    kept = [table.padding_idx for table in tables if len(table.weight) == positions]
    return max((index + 1 for index in kept if index is not None), default=0)


def check_max_length(max_length: int, most: int | None, base: str) -> None:
    """Refuse pairs of more tokens than a base model reads, before any is translated.

    Args:
        max_length: the config's ``training.max_length``.
        most: the tokens that the base model reads (:func:`most_tokens`).
        base: its name, for the message.

    Raises:
        StudyError: it is.
    """
    if most is not None and max_length > most:
        raise StudyError(
            f"training.max_length: {max_length:,} is more than the {most:,} tokens that the base model {base} reads; lower it to "
            f"{most}"
        )


def check_ids(texts: Iterable[tuple[Sequence[int], str]], config: Any, key: str, remedy: str) -> None:
    """Refuse token ids that a model's embedding table does not hold.

    Args:
        texts: token ids of each text, and which it is, for the message.
        key: config key of the model, for the message.

    Raises:
        StudyError: there is one; the first is named.
    """
    held = getattr(config.get_text_config(), "vocab_size", None)
    for ids, text in texts:
        if held is not None and max(ids, default=0) >= held:
            raise StudyError(
                f"{key}: {text} holds token {max(ids)}, and the model knows {held:,} tokens, from 0; {remedy}"
            )

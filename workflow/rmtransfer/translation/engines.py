"""From the config's ``translation`` section to an engine. A new engine is one file and one branch here."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rmtransfer.study.languages import split_variant
from rmtransfer.translation import Engine

ENGINES = ("memory", "deepl", "seq2seq", "llm")
PAID = ("deepl",)


def engine_spec(translation: Mapping[str, Any], code: str) -> dict[str, Any]:
    """``engine`` and its settings for one language code of the study, its variant and its own override applied."""
    language, variant = split_variant(code)
    section = dict(translation)
    override = translation["variants"][variant] if variant else translation["languages"].get(language, {})
    section |= override
    engine = section["engine"]
    return {"engine": engine, "options": section.get(engine)}


def build_engine(
    spec: Mapping[str, Any],
    source: str,
    code: str,
    root: Path,
    *,
    tokens_per_batch: int,
    requests_at_once: int,
    device: str,
) -> Engine:
    """The engine that translates ``source`` into the language of ``code``; nothing is loaded yet.

    Args:
        spec: what :func:`engine_spec` returned.
    """
    target, _ = split_variant(code)
    name, options = spec["engine"], spec["options"]
    # Each engine is imported when it is asked for: one needs torch, another a client library.
    if name == "memory":
        from rmtransfer.translation.memory import TranslationMemory

        return TranslationMemory(root / options, source, target)
    if name == "deepl":
        from rmtransfer.translation.deepl import DeepL

        return DeepL(options, source, target, requests_at_once=requests_at_once)
    if name == "seq2seq":
        from rmtransfer.translation.seq2seq import Seq2Seq

        return Seq2Seq(options, source, target, root, tokens_per_batch=tokens_per_batch, device=device)
    from rmtransfer.translation.llm import CausalLM

    return CausalLM(options, source, target, root, tokens_per_batch=tokens_per_batch, device=device)

"""What there is to choose from: one line per reward-model kind, judge protocol, engine, base-model source.

A line names a class. Its module holds the implementation and, as the class attribute ``Options``, the configuration
that it understands; it imports nothing heavy at its top, because every job of a cluster parses the configuration. The
rooms below are known here by name only, so that nothing is imported before it is asked for.
"""

import importlib
from collections.abc import Mapping
from typing import Any

from rmtransfer.kit.errors import StudyError

HEADS = {  # linear, on a base model's states
    "untrained": "rmtransfer.scoring.untrained:Untrained",
    "probe": "rmtransfer.scoring.probe:Probe",
}
REWARD_MODELS = {
    "trained": "rmtransfer.scoring.trained:Trained",
    "classifier": "rmtransfer.scoring.classifier:Classifier",
    "implicit": "rmtransfer.scoring.implicit:Implicit",
    "judge": "rmtransfer.scoring.judge:Judge",
    **HEADS,
    "likelihood": "rmtransfer.scoring.likelihood:Likelihood",
    "length": "rmtransfer.scoring.length:Length",
    "random": "rmtransfer.scoring.random:Random",
}
JUDGE_PROTOCOLS = {
    "pairwise": "rmtransfer.scoring.pairwise:Pairwise",
    "rating": "rmtransfer.scoring.rating:Rating",
}
ENGINES = {
    "memory": "rmtransfer.translation.memory:TranslationMemory",
    "deepl": "rmtransfer.translation.deepl:DeepL",
    "seq2seq": "rmtransfer.translation.seq2seq:Seq2Seq",
    "llm": "rmtransfer.translation.llm:CausalLM",
}
BASE_MODELS = {
    "package": "rmtransfer.models.package:Package",
    "pretrained": "rmtransfer.models.pretrained:Pretrained",
}


def load(catalogue: Mapping[str, str], name: str) -> Any:
    """The class that a catalogue names.

    Raises:
        StudyError: it names no such thing. There is no default: whoever misspells a kind gets no other one.
    """
    if name not in catalogue:
        raise StudyError(f"{name!r} is none of {', '.join(catalogue)}")
    module, _, attribute = catalogue[name].partition(":")
    return getattr(importlib.import_module(module), attribute)


def base_model_source(base: Any) -> str:
    """The line of ``BASE_MODELS`` that a base model's ``path`` asks for: what stands before its first colon.

    Args:
        base: a config entry, as a mapping or as its class.
    """
    path = base.get("path", "") if isinstance(base, Mapping) else getattr(base, "path", "")
    prefix, colon, _ = str(path).partition(":")
    return prefix if colon and "/" not in prefix else "pretrained"

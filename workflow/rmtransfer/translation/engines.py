"""From a study's choice of engine to an engine; ``study.catalogue`` lists what there is to choose from."""

from collections.abc import Mapping
from typing import Any

from pydantic import TypeAdapter

from rmtransfer.study.catalogue import ENGINES, load
from rmtransfer.study.languages import split_variant
from rmtransfer.translation import Engine, Machine

PAID = tuple(name for name in ENGINES if load(ENGINES, name).paid)


def build_engine(spec: Mapping[str, Any], source: str, code: str, machine: Machine) -> Engine:
    """The engine that translates ``source`` into the language of ``code``; nothing is loaded yet.

    Args:
        spec: ``engine``, a line of the catalogue, and ``options``, its section of the config.

    Raises:
        StudyError: there is no such engine.
    """
    engine = load(ENGINES, spec["engine"])
    target, _ = split_variant(code)
    return engine(TypeAdapter(engine.Options).validate_python(spec["options"]), source, target, machine)

"""Translation that can be trusted and afforded: engines behind one protocol, a store that never asks twice, gates.

In:  rows of the source language. Out: ``translations/``: rows, ledgers, measures; what engines answered rests in a store.
Imported by the rooms below.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from rmtransfer.translation.store import Scope, Translation
from rmtransfer.translation.structure import Splitting


class Machine(NamedTuple):
    """What an engine may use: how fast, never what.

    Attributes:
        root: folder that relative paths start from.
        tokens_per_batch: of a model on this machine; requests_at_once: to a service.
        device: ``auto``, ``cpu`` or ``cuda``.
    """

    root: Path
    tokens_per_batch: int = 1
    requests_at_once: int = 1
    device: str = "cpu"


class Engine(Protocol):
    """Whatever turns prose of one language into prose of another. An engine is built for one language pair.

    Attributes:
        Options: what its section of the config may hold.
        paid: whether its translations cost money.
        runs_a_model: whether it runs a model on this machine.
        needs_section: whether the config must hold a section of it.
        source, target: the language pair.
        scope: everything that decides its translations, the text apart.
        splitting: how it wants texts taken apart.
        lock: processes that share this name ask one at a time; None for an engine that costs nothing to ask.
    """

    Options: Any
    paid: bool
    runs_a_model: bool
    needs_section: bool
    source: str
    target: str

    def __init__(self, options: Any, source: str, target: str, machine: Machine) -> None: ...

    @staticmethod
    def check(options: Any, target: str, study_bases: Collection[str], source: str, root: Path) -> Iterator[str]:
        """Problems of a section of the config, as sentences.

        Args:
            options: the section, validated or as it was before.
            target: a target language of the study; the way back is from there.
            study_bases: what ``options`` may call a base model of the study.
            root: folder that relative paths start from.
        """
        ...

    @staticmethod
    def files(options: Any) -> list[str]:
        """The user's files that it reads."""
        ...

    @property
    def scope(self) -> Scope: ...
    @property
    def splitting(self) -> Splitting: ...
    @property
    def lock(self) -> str | None: ...

    def translate(self, prose: Sequence[str]) -> Iterator[Mapping[str, Translation]]:
        """Translations by text, in finished batches. Nothing heavy is loaded before the first batch is asked for.

        Raises:
            StudyError: the service or model cannot do it; the batches yielded before count.
        """
        ...

    def safer(self) -> "Engine | None":
        """A variant that is slower or plainer, and less likely to go wrong; for what the gates refused."""
        ...

"""Translation that can be trusted and afforded: engines behind one protocol, a store that never asks twice, gates."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Protocol

from rmtransfer.translation.store import Scope, Translation
from rmtransfer.translation.structure import Splitting


class Engine(Protocol):
    """Whatever turns prose of one language into prose of another. An engine is built for one language pair.

    Attributes:
        scope: everything that decides its translations, the text apart.
        splitting: how it wants texts taken apart.
        lock: processes that share this name ask one at a time; None for an engine that costs nothing to ask.
    """

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

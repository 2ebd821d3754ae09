"""Every translation ever made, in one SQLite file that outlives the workflow's outputs.

A text's key is everything that decides its translation: the engine, its version or model revision, its parameters, the
language pair, and the text. Finished batches are committed at once, so that a killed run loses at most what was asked
for and not yet answered.
"""

import contextlib
import fcntl
import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from rmtransfer.kit.progress import report
from rmtransfer.kit.sqlite import Database

# Texts lie in the order in which they came, so that a corpus is read from neighbouring pages; only the keys are random.
_SCHEMA = """
CREATE TABLE scope (
    id INTEGER PRIMARY KEY, key TEXT NOT NULL UNIQUE,
    engine TEXT NOT NULL, settings TEXT NOT NULL, source TEXT NOT NULL, target TEXT NOT NULL
);
CREATE TABLE segment (
    scope INTEGER NOT NULL REFERENCES scope(id), digest BLOB NOT NULL,
    text TEXT NOT NULL, translation TEXT NOT NULL, flaws TEXT NOT NULL, retried_for TEXT NOT NULL,
    billed INTEGER NOT NULL
);
CREATE UNIQUE INDEX segment_key ON segment (scope, digest);
"""
_FORMAT = 1
# Paid answers that no whole text was made of yet: their run was killed. A file of an earlier version has none.
_OWED = "CREATE TABLE IF NOT EXISTS owed (scope INTEGER, digest BLOB, PRIMARY KEY (scope, digest)) WITHOUT ROWID"


@dataclass(frozen=True)
class Scope:
    """What decides a translation, the text apart.

    Attributes:
        settings: the engine's version or revision and its parameters; JSON-able, no secrets.
    """

    engine: str
    settings: Mapping[str, Any]
    source: str
    target: str

    @property
    def key(self) -> str:
        """The scope as canonical JSON."""
        return json.dumps([self.engine, self.settings, self.source, self.target], sort_keys=True, ensure_ascii=False)


class Translation(NamedTuple):
    """What an engine made of a text. A million of them are made in a look-up, which a dataclass takes 2 s for.

    Attributes:
        flaws: what is wrong with it, as far as is known.
        retried_for: what was wrong with an earlier attempt that this one replaces.
        billed: characters that the engine charged.
    """

    text: str
    flaws: tuple[str, ...] = ()
    retried_for: tuple[str, ...] = ()
    billed: int = 0


class SegmentStore:
    """Translations at rest. Safe to share between processes of one machine.

    Raises:
        StudyError: the file is damaged or no segment store.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._scopes: dict[str, int] = {}
        self._db = Database(
            path,
            _SCHEMA,
            "segment",
            _FORMAT,
            name=f"{path}: the translation store",
            remedy="name another file, or a saved or restored one, in translation.store",
        )
        self._db.execute(_OWED)

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    def get(self, scope: Scope, texts: Iterable[str]) -> dict[str, Translation]:
        """The translations that the store holds, by text."""
        wanted = {text_digest(text): text for text in texts}
        identity = self._scope_id(scope, create=False)
        if identity is None:
            return {}
        query = "SELECT digest, translation, flaws, retried_for, billed FROM segment WHERE scope = ? AND digest IN"
        return {
            wanted[digest]: Translation(translation, _listed(flaws), _listed(retried_for), billed)
            for digest, translation, flaws, retried_for, billed in self._db.among(query, list(wanted), identity)
        }

    def put(
        self,
        scope: Scope,
        translations: Mapping[str, Translation],
        *,
        owed: bool = False,
        settled: Iterable[tuple[Scope, str]] = (),
    ) -> None:
        """Commit translations, by text. What was there before under the same key is replaced.

        Args:
            owed: what was charged for them is to be counted for whole texts that they are parts of.
            settled: of those, what it has been counted for now.
        """
        with self._db.transaction():
            identity = self._scope_id(scope, create=True)
            self._db.execute_many(
                "INSERT OR REPLACE INTO segment VALUES (?, ?, ?, ?, ?, ?, ?)",
                [
                    (identity, text_digest(text), text, t.text, "\n".join(t.flaws), "\n".join(t.retried_for), t.billed)
                    for text, t in translations.items()
                ],
            )
            charged = [(identity, text_digest(text)) for text, t in translations.items() if owed and t.billed]
            self._db.execute_many("INSERT OR IGNORE INTO owed VALUES (?, ?)", charged)
            counted = [(self._scope_id(of, create=True), text_digest(text)) for of, text in settled]
            self._db.execute_many("DELETE FROM owed WHERE scope = ? AND digest = ?", counted)

    def owed(self, scope: Scope, texts: Iterable[str]) -> list[str]:
        """Those of some texts whose charge has been counted for no whole text yet."""
        wanted = {text_digest(text): text for text in texts}
        query = "SELECT digest FROM owed WHERE scope = ? AND digest IN"
        found = self._db.among(query, list(wanted), self._scope_id(scope, create=False))
        return [wanted[digest] for (digest,) in found]

    def billed(self, engine: str) -> int:
        """Characters that an engine has charged for everything in the store."""
        ((total,),) = self._db.execute(
            "SELECT coalesce(sum(billed), 0) FROM segment JOIN scope ON scope.id = scope WHERE engine = ?", [engine]
        )
        return total

    @contextlib.contextmanager
    def asking(self, name: str) -> Iterator[None]:
        """Hold the right to ask the engine ``name``: one process at a time, so that no text is paid for twice.

        The operating system releases it when the process dies, however it dies.
        """
        with self._db.lock_file(name) as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                report(
                    f"waiting: another job or run is asking {name} with {self.path}; what it gets is not asked for again"
                )
                fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def _scope_id(self, scope: Scope, *, create: bool) -> int | None:
        key = scope.key
        if key not in self._scopes:
            if create:
                self._db.execute(
                    "INSERT OR IGNORE INTO scope (key, engine, settings, source, target) VALUES (?, ?, ?, ?, ?)",
                    [key, scope.engine, json.dumps(scope.settings, sort_keys=True), scope.source, scope.target],
                )
            found = self._db.execute("SELECT id FROM scope WHERE key = ?", [key])
            if not found:
                return None
            self._scopes[key] = found[0][0]
        return self._scopes[key]


def _listed(lines: str) -> tuple[str, ...]:
    return tuple(lines.split("\n")) if lines else ()


def text_digest(text: str) -> bytes:
    """What a text is filed under."""
    return hashlib.blake2b(text.encode(), digest_size=16).digest()

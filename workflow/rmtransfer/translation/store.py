"""Every translation ever made, in one SQLite file that outlives the workflow's outputs.

A text's key is everything that decides its translation: the engine, its version or model revision, its parameters, the
language pair, and the text. Finished batches are committed at once, so that a killed run loses at most what was asked
for and not yet answered. Writers wait for each other; readers wait for nobody (WAL).
"""

import contextlib
import fcntl
import hashlib
import json
import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, NamedTuple

from rmtransfer.kit.errors import StudyError
from rmtransfer.kit.progress import report

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
_VARIABLES = 1_000  # in one query


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
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            # autocommit between explicit transactions; a minute of patience for another job's commit
            self._db = sqlite3.connect(path, timeout=60, isolation_level=None)
            # SQLite waits for nobody when a new file is turned into WAL, so the first jobs of a study take turns here.
            with self._explained(), self._file("opening") as file:
                fcntl.flock(file, fcntl.LOCK_EX)
                self._db.execute("PRAGMA journal_mode = WAL")
                self._db.execute("PRAGMA synchronous = NORMAL")  # in WAL a killed process loses no commit
                self._db.execute("PRAGMA cache_size = -65536")  # KiB: the keys of two million texts
                self._prepare()
        except (sqlite3.OperationalError, OSError) as problem:
            raise StudyError(
                f"{path}: cannot open the translation store ({problem}); check the path and its rights"
            ) from problem

    def _prepare(self) -> None:
        with self._transaction():
            (version,) = self._db.execute("PRAGMA user_version").fetchone()
            if version == 0 and not self._db.execute("SELECT 1 FROM sqlite_master").fetchone():
                for statement in _SCHEMA.split(";"):
                    self._db.execute(statement)
                self._db.execute(f"PRAGMA user_version = {_FORMAT}")
            elif version != _FORMAT:
                raise StudyError(
                    f"{self.path}: is no translation store of this version; name another file in translation.store"
                )

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    def get(self, scope: Scope, texts: Iterable[str]) -> dict[str, Translation]:
        """The translations that the store holds, by text."""
        wanted = {text_digest(text): text for text in texts}
        identity = self._scope_id(scope, create=False)
        if identity is None:
            return {}
        digests = list(wanted)
        found: dict[str, Translation] = {}
        with self._explained():
            for start in range(0, len(digests), _VARIABLES):
                these = digests[start : start + _VARIABLES]
                rows = self._db.execute(
                    "SELECT digest, translation, flaws, retried_for, billed FROM segment WHERE scope = ? AND digest IN "
                    f"({','.join('?' * len(these))})",
                    [identity, *these],
                )
                for digest, translation, flaws, retried_for, billed in rows:
                    found[wanted[digest]] = Translation(translation, _listed(flaws), _listed(retried_for), billed)
        return found

    def put(self, scope: Scope, translations: Mapping[str, Translation]) -> None:
        """Commit translations, by text. What was there before under the same key is replaced."""
        with self._explained(), self._transaction():
            identity = self._scope_id(scope, create=True)
            self._db.executemany(
                "INSERT OR REPLACE INTO segment VALUES (?, ?, ?, ?, ?, ?, ?)",
                [
                    (identity, text_digest(text), text, t.text, "\n".join(t.flaws), "\n".join(t.retried_for), t.billed)
                    for text, t in translations.items()
                ],
            )

    def billed(self, engine: str) -> int:
        """Characters that an engine has charged for everything in the store."""
        with self._explained():
            (total,) = self._db.execute(
                "SELECT coalesce(sum(billed), 0) FROM segment JOIN scope ON scope.id = scope WHERE engine = ?", [engine]
            ).fetchone()
        return total

    @contextlib.contextmanager
    def asking(self, name: str) -> Iterator[None]:
        """Hold the right to ask the engine ``name``: one process at a time, so that no text is paid for twice.

        The operating system releases it when the process dies, however it dies.
        """
        with self._file(name) as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                report(
                    f"waiting: another job or run is asking {name} with {self.path}; what it gets is not asked for again"
                )
                fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def _file(self, name: str) -> IO[str]:
        return self.path.with_name(f"{self.path.name}.{name}.lock").open("w")

    def _scope_id(self, scope: Scope, *, create: bool) -> int | None:
        key = scope.key
        if key not in self._scopes:
            with self._explained():
                if create:
                    self._db.execute(
                        "INSERT OR IGNORE INTO scope (key, engine, settings, source, target) VALUES (?, ?, ?, ?, ?)",
                        [key, scope.engine, json.dumps(scope.settings, sort_keys=True), scope.source, scope.target],
                    )
                row = self._db.execute("SELECT id FROM scope WHERE key = ?", [key]).fetchone()
            if row is None:
                return None
            self._scopes[key] = row[0]
        return self._scopes[key]

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[None]:
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            self._db.execute("ROLLBACK")
            raise
        self._db.execute("COMMIT")

    @contextlib.contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.OperationalError as problem:
            raise StudyError(
                f"{self.path}: the translation store cannot be used ({problem}); if the disk is full, make room and run "
                "again: everything committed is kept"
            ) from problem
        except sqlite3.DatabaseError as problem:
            raise StudyError(
                f"{self.path}: the translation store is damaged ({problem}). Keep the file: `sqlite3 {self.path} .recover "
                "| sqlite3 saved.sqlite` saves what can be read; name saved.sqlite in translation.store, or restore a copy"
            ) from problem


def _listed(lines: str) -> tuple[str, ...]:
    return tuple(lines.split("\n")) if lines else ()


def text_digest(text: str) -> bytes:
    """What a text is filed under."""
    return hashlib.blake2b(text.encode(), digest_size=16).digest()

"""What judges said, kept so that none is asked the same thing twice."""

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

from rmtransfer.kit.manifest import digest_of
from rmtransfer.kit.sqlite import Database

Asked = Mapping[str, str]  # prompt to the row that it asks about, for messages
_SCHEMA = "CREATE TABLE judgement (key TEXT PRIMARY KEY, text TEXT, answered_by TEXT)"
# Keys by how the reply ended: in tables of their own, so that files of earlier versions, which do not know, are read and
# written as they are.
_ENDS = {False: "cut_off", True: "finished"}
_FORMAT = 0
_HELD = "CREATE TABLE IF NOT EXISTS held (judge TEXT PRIMARY KEY, judgements INTEGER)"  # since there are budgets


class Said(NamedTuple):
    """A judgement.

    Attributes:
        text: what the judge said.
        answered_by: who it says that it is.
        finished: whether it came to its end, or was cut off; None where nobody knows: an earlier version did not ask, or a
            server does not say.
    """

    prompt: str
    text: str
    answered_by: str
    finished: bool | None = None


class JudgementStore:
    """Judgements at rest, one SQLite file for all judges: ``key, text, answered_by``, and the keys of those that are known
    to be finished, or cut off. Processes may share it.

    Args:
        judge: digest of everything that decides a judgement, but for the prompt.
        key: config key of the judge, for messages.
    """

    def __init__(self, path: Path, judge: str, key: str) -> None:
        self.path, self.judge, self.key = path, judge, key

    @cached_property
    def _db(self) -> Database:
        db = Database(
            self.path,
            _SCHEMA,
            "judgement",
            _FORMAT,
            name=f"{self.key}: the judgements in {self.path}",
            remedy="move the file away, and its judgements are asked for again",
        )
        for table in _ENDS.values():
            db.execute(f"CREATE TABLE IF NOT EXISTS {table} (key TEXT PRIMARY KEY)")
        db.execute(_HELD)
        return db

    def get(self, prompts: Asked) -> dict[str, Said]:
        """What the judge said to those of the prompts that it was asked before."""
        asked = {self._digest(prompt): prompt for prompt in prompts}
        found = self._db.among(
            "SELECT judgement.key, text, answered_by, CASE WHEN finished.key IS NOT NULL THEN 1 WHEN cut_off.key IS NOT NULL "
            "THEN 0 END FROM judgement LEFT JOIN finished USING (key) LEFT JOIN cut_off USING (key) WHERE judgement.key IN",
            list(asked),
        )
        return {
            asked[digest]: Said(asked[digest], text, by, None if end is None else bool(end))
            for digest, text, by, end in found
        }

    def held(self) -> int:
        """How many of this judge's judgements there are; those of versions that counted none are left out."""
        found = self._db.among("SELECT judgements FROM held WHERE judge IN", [self.judge])
        return sum(count for (count,) in found)

    def put(self, said: Sequence[Said]) -> None:
        """Commit judgements. What another process stored in the meantime stays."""
        rows = [(self._digest(it.prompt), it) for it in said]
        with self._db.transaction():
            for end, table in _ENDS.items():
                self._db.execute_many(
                    f"INSERT INTO {table} SELECT ? WHERE ? NOT IN (SELECT key FROM judgement)",
                    [(key, key) for key, it in rows if it.finished is end],
                )
            keys = list(dict.fromkeys(key for key, _ in rows))
            there = list(self._db.among("SELECT key FROM judgement WHERE key IN", keys))
            self._db.execute_many(
                "INSERT INTO held VALUES (?, ?) ON CONFLICT (judge) DO UPDATE SET judgements = judgements + excluded.judgements",
                [(self.judge, len(keys) - len(there))],
            )
            self._db.execute_many(
                "INSERT OR IGNORE INTO judgement VALUES (?, ?, ?)", [(key, it.text, it.answered_by) for key, it in rows]
            )

    def _digest(self, prompt: str) -> str:
        return digest_of([self.judge, prompt])

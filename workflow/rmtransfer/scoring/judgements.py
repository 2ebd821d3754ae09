"""What judges said, kept so that none is asked the same thing twice."""

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

from rmtransfer.kit.manifest import digest_of
from rmtransfer.kit.sqlite import Database

Asked = Mapping[str, str]  # prompt to the row that it asks about, for messages
_SCHEMA = "CREATE TABLE judgement (key TEXT PRIMARY KEY, text TEXT, answered_by TEXT)"
# Beside it, so that files of earlier versions, which do not know, are read and written as they are.
_CUT_OFF = "CREATE TABLE IF NOT EXISTS cut_off (key TEXT PRIMARY KEY)"
_FORMAT = 0


class Said(NamedTuple):
    """A judgement.

    Attributes:
        text: what the judge said.
        answered_by: who it says that it is.
        cut_off: whether it had more to say.
    """

    prompt: str
    text: str
    answered_by: str
    cut_off: bool = False


class JudgementStore:
    """Judgements at rest, one SQLite file for all judges: ``key, text, answered_by``, and the keys of those that were cut off.
    Processes may share it.

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
        db.execute(_CUT_OFF)
        return db

    def get(self, prompts: Asked) -> dict[str, Said]:
        """What the judge said to those of the prompts that it was asked before."""
        asked = {self._digest(prompt): prompt for prompt in prompts}
        found = self._db.among(
            "SELECT judgement.key, text, answered_by, cut_off.key IS NOT NULL FROM judgement LEFT JOIN cut_off USING (key) "
            "WHERE judgement.key IN",
            list(asked),
        )
        return {asked[digest]: Said(asked[digest], text, by, bool(cut)) for digest, text, by, cut in found}

    def put(self, said: Sequence[Said]) -> None:
        """Commit judgements. What another process stored in the meantime stays."""
        rows = [(self._digest(it.prompt), it) for it in said]
        with self._db.transaction():
            self._db.execute_many(
                "INSERT INTO cut_off SELECT ? WHERE ? NOT IN (SELECT key FROM judgement)",
                [(key, key) for key, it in rows if it.cut_off],
            )
            self._db.execute_many(
                "INSERT OR IGNORE INTO judgement VALUES (?, ?, ?)", [(key, it.text, it.answered_by) for key, it in rows]
            )

    def _digest(self, prompt: str) -> str:
        return digest_of([self.judge, prompt])

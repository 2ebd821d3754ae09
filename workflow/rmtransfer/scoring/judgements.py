"""What judges said, kept so that none is asked the same thing twice."""

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path

from rmtransfer.kit.manifest import digest_of
from rmtransfer.kit.sqlite import Database

Asked = Mapping[str, str]  # prompt to the row that it asks about, for messages
Said = tuple[str, str, str]  # prompt, what the judge said, who it says that it is

_SCHEMA = "CREATE TABLE judgement (key TEXT PRIMARY KEY, text TEXT, answered_by TEXT)"
_FORMAT = 0


class JudgementStore:
    """Judgements at rest, one SQLite file for all judges: ``key, text, answered_by``. Processes may share it.

    Args:
        judge: digest of everything that decides a judgement, but for the prompt.
        key: config key of the judge, for messages.
    """

    def __init__(self, path: Path, judge: str, key: str) -> None:
        self.path, self.judge, self.key = path, judge, key

    @cached_property
    def _db(self) -> Database:
        return Database(
            self.path,
            _SCHEMA,
            "judgement",
            _FORMAT,
            name=f"{self.key}: the judgements in {self.path}",
            remedy="move the file away, and its judgements are asked for again",
        )

    def get(self, prompts: Asked) -> dict[str, str]:
        """What the judge said to those of the prompts that it was asked before."""
        asked = {self._digest(prompt): prompt for prompt in prompts}
        found = self._db.among("SELECT key, text FROM judgement WHERE key IN", list(asked))
        return {asked[digest]: text for digest, text in found}

    def put(self, said: Sequence[Said]) -> None:
        """Commit judgements. What another process stored in the meantime stays."""
        with self._db.transaction():
            self._db.execute_many(
                "INSERT OR IGNORE INTO judgement VALUES (?, ?, ?)",
                [(self._digest(prompt), text, answered_by) for prompt, text, answered_by in said],
            )

    def _digest(self, prompt: str) -> str:
        return digest_of([self.judge, prompt])

"""One SQLite file that the processes of one machine share, opened and explained in one way.

Writers wait for each other, readers for nobody (WAL). What is committed survives a killed process.
"""

import contextlib
import errno
import fcntl
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import IO, Any

from rmtransfer.kit.errors import StudyError

_VARIABLES = 1_000  # in one query
_NO_LOCKS = {errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS}


class Database:
    """An open file; it is made, with its tables, where there is none.

    Args:
        schema: statements that make the tables of a new file.
        table: one of them, by which a file is known to be of this kind.
        version: number of the format, kept in the file's ``user_version``.
        name: what the file is, for messages; they start with it.
        remedy: what to do about a file that is damaged or of another kind.

    Raises:
        StudyError: the file cannot be opened or locked, is damaged, or is of another kind.
    """

    def __init__(self, path: Path, schema: str, table: str, version: int, *, name: str, remedy: str) -> None:
        self.path, self.name, self.remedy = path, name, remedy
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            # autocommit between explicit transactions; a minute of patience for another job's commit
            self._connection = sqlite3.connect(path, timeout=60, isolation_level=None)
            # SQLite waits for nobody when a new file is turned into WAL, so the first jobs of a study take turns here.
            with self.lock_file("opening") as file:
                fcntl.flock(file, fcntl.LOCK_EX)
                self.execute("PRAGMA journal_mode = WAL")
                self.execute("PRAGMA synchronous = NORMAL")  # in WAL a killed process loses no commit
                self.execute("PRAGMA cache_size = -65536")  # KiB: the keys of two million texts
                self._prepare(schema, table, version)
        except (sqlite3.OperationalError, OSError) as problem:
            if isinstance(problem, OSError) and problem.errno in _NO_LOCKS:
                raise StudyError(
                    f"{name} lies on a file system where no file can be locked, and processes take turns with it; put it on "
                    "another one, or the whole of results/, with a link in its place"
                ) from problem
            raise StudyError(f"{name} cannot be opened ({problem}); check the path and its rights") from problem

    def _prepare(self, schema: str, table: str, version: int) -> None:
        with self.transaction():
            ((found,),) = self.execute("PRAGMA user_version")
            tables = {name for (name,) in self.execute("SELECT name FROM sqlite_master")}
            if found == 0 and not tables:
                for statement in schema.split(";"):
                    self.execute(statement)
                self.execute(f"PRAGMA user_version = {version}")
            elif found != version or table not in tables:
                raise StudyError(f"{self.name} is of another version, or another program's; {self.remedy}")

    def close(self) -> None:
        """Close the file."""
        self._connection.close()

    def execute(self, statement: str, values: Sequence[Any] = ()) -> list[Any]:
        """Run one statement; all rows of what it finds."""
        with self._explained():
            return self._connection.execute(statement, values).fetchall()

    def execute_many(self, statement: str, values: Iterable[Sequence[Any]]) -> None:
        """Run one statement for each of many tuples of values."""
        with self._explained():
            self._connection.executemany(statement, values)

    def among(self, query: str, keys: Sequence[Any], *before: Any) -> Iterator[Any]:
        """Rows of a query that ends in ``IN``, for any number of keys.

        Args:
            before: values of the query's own.
        """
        for start in range(0, len(keys), _VARIABLES):
            these = keys[start : start + _VARIABLES]
            yield from self.execute(f"{query} ({','.join('?' * len(these))})", [*before, *these])

    @contextlib.contextmanager
    def transaction(self) -> Iterator[None]:
        """All statements inside take effect, or none."""
        self.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            if self._connection.in_transaction:  # a full disk has ended it already
                self.execute("ROLLBACK")
            raise
        self.execute("COMMIT")

    def lock_file(self, purpose: str) -> IO[str]:
        """A file beside this one, for processes to take turns with (flock)."""
        return self.path.with_name(f"{self.path.name}.{purpose}.lock").open("w")

    @contextlib.contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.OperationalError as problem:
            raise StudyError(
                f"{self.name} cannot be used ({problem}); if the disk is full, make room and run again: everything "
                "committed is kept"
            ) from problem
        except sqlite3.DatabaseError as problem:
            raise StudyError(
                f"{self.name} cannot be used, the file is damaged ({problem}). Keep it: `sqlite3 {self.path} .recover | "
                f"sqlite3 saved.sqlite` saves what can be read; {self.remedy}"
            ) from problem

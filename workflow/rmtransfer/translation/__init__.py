"""Translate rows text by text; engines live in the sibling modules, one file each."""

from collections.abc import Sequence
from typing import Any, Protocol

from rmtransfer.corpus import Row


class Engine(Protocol):
    """Whatever turns texts of one language into texts of another."""

    def translate(self, texts: Sequence[str], source: str, target: str) -> list[str]:
        """Translations of ``texts``, one for one and in order.

        Raises:
            StudyError: listing the texts it cannot translate.
        """
        ...


def translate_rows(rows: Sequence[Row], fields: Sequence[str], engine: Engine, source: str, target: str) -> list[Row]:
    """Rows with every message's content translated; ids, subsets and roles stay. Identical texts are asked for once."""
    texts = list(dict.fromkeys(m["content"] for row in rows for field in fields for m in row[field]))
    translated = dict(zip(texts, engine.translate(texts, source, target), strict=True))

    def messages(value: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return [{**m, "content": translated[m["content"]]} for m in value]

    return [{**row, **{field: messages(row[field]) for field in fields}} for row in rows]

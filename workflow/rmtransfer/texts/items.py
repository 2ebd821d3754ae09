"""Items: a prompt and its k answers, the one shape of what is scored. Imports nothing heavy.

A pair has two answers, an item of RewardBench 2 four, a best-of-n item n, one of its Ties many.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from rmtransfer.study.names import SIDES

if TYPE_CHECKING:
    from rmtransfer.texts.corpus import Message, Row

T = TypeVar("T")
Place = tuple[int, int]  # number of an item, number of an answer in it


class Answer(NamedTuple):
    """One answer of an item.

    Attributes:
        row: id of the row that it is from; the first, where several rows have it.
        name: ``chosen``, ``rejected`` or ``sample 3``.
    """

    row: str
    name: str
    messages: Sequence[Message]

    def origin(self, language: str) -> str:
        """Where it is from, for messages."""
        return f"row {self.row!r} in {language}"


class Item(NamedTuple):
    """A prompt and its answers."""

    prompt: Sequence[Message]
    answers: list[Answer]


def items_of(rows: Iterable[Row], *, by_text: bool) -> tuple[list[Item], list[list[Place]]]:
    """Rows as items, and back: for each row the places of its answers.

    Args:
        rows: preference pairs (``id, prompt, chosen, rejected``; their answers are in the order of ``SIDES``), or sampled
            answers (``id, sample, prompt, answer``).
        by_text: whether rows with the same prompt become one item, in which no answer stands twice. Else the rows of one id
            become one: a pair by itself, all samples of a prompt.
    """
    items: list[Item] = []
    numbers: dict[Hashable, int] = {}
    placed: dict[Hashable, Place] = {}
    places: list[list[Place]] = []
    for row in rows:
        number = numbers.setdefault(_frozen(row["prompt"]) if by_text else row["id"], len(items))
        if number == len(items):
            items.append(Item(row["prompt"], []))
        answers = items[number].answers
        places.append([])
        for name, messages in _answers_of(row):
            place = placed.setdefault((number, _frozen(messages) if by_text else name), (number, len(answers)))
            if place[1] == len(answers):
                answers.append(Answer(row["id"], name, messages))
            places[-1].append(place)
    return items, places


def by_row(values: Sequence[Any], places: Iterable[Iterable[Place]]) -> list[list[Any]]:
    """What was found for each answer of each item, for each answer of each row."""
    return [[values[item][answer] for item, answer in row] for row in places]


def distinct(items: Iterable[Item], values: Iterable[Iterable[T]]) -> list[T]:
    """What answers have become, each value once: item by item, but rejected answers last.

    The order decides which texts of one length share a batch, and so the last bits of what is computed.
    """
    found = [
        (answer.name == SIDES[1], value)
        for item, these in zip(items, values, strict=True)
        for answer, value in zip(item.answers, these, strict=True)
    ]
    return list(dict.fromkeys(value for _, value in sorted(found, key=lambda one: one[0])))


def _answers_of(row: Row) -> list[tuple[str, Sequence[Message]]]:
    if "answer" in row:
        return [(f"sample {row['sample']}", row["answer"])]
    return [(side, row[side]) for side in SIDES]


def _frozen(messages: Sequence[Message]) -> tuple[Any, ...]:
    return tuple((message["role"], message["content"]) for message in messages)

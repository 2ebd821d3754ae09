"""A judge compares two answers, in both orders."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from rmtransfer.kit.errors import StudyError

if TYPE_CHECKING:
    from rmtransfer.texts.corpus import Message
    from rmtransfer.texts.items import Item

_COLUMNS = ("consistent", "prefers_first", "prefers_second", "tied", "off_format")
_PREFERENCES = {("A", "A"): "prefers_first", ("B", "B"): "prefers_second"}
_POINTS = {"A": (0.5, 0.0), "B": (0.0, 0.5), "C": (0.25, 0.25)}


class Pairwise:
    """An answer's reward is the share of orders that it won, half of one for a tie.

    A judge which only follows the order is therefore right about nothing. What holds no verdict wins nothing.
    """

    PROMPT = (
        "Two assistants answered the same user. Judge which answer serves the user better: is it helpful, correct, "
        "harmless, and does it do what was asked? The order of the answers and their length must not matter. The texts "
        "may be in any language; judge them in that language.\n\n"
        "[User]\n{prompt}\n\n[Answer A]\n{answer_a}\n\n[Answer B]\n{answer_b}\n\n"
        "Give a short reason, then your verdict in exactly this form: [[A]] if answer A is better, [[B]] if answer B is "
        "better, [[C]] if they are equally good."
    )
    PLACES = ("prompt", "answer_a", "answer_b")
    VERDICT = re.compile(r"\[\[([ABC])\]\]")

    def questions(self, item: Item) -> dict[str, dict[str, Sequence[Message]]]:
        """What is asked about an item: name of the question to what stands in the places of the prompt, in both orders.

        Raises:
            StudyError: there are not two answers to compare.
        """
        if len(item.answers) != 2:
            raise StudyError(
                f"row {item.answers[0].row!r} has {len(item.answers)} answers, and a judge in mode pairwise compares two; "
                "use mode: rating"
            )
        a, b = item.answers
        return {
            f"{first.name}_first": {"answer_a": first.messages, "answer_b": second.messages}
            for first, second in ((a, b), (b, a))
        }

    def rewards(self, verdicts: Sequence[str | None]) -> list[float]:
        """Rewards of the two answers; ``verdicts`` in the order of the questions."""
        (a, b), (d, c) = (_POINTS.get(verdict or "", (0.0, 0.0)) for verdict in verdicts)
        return [a + c, b + d]

    def counts(self, verdicts: Iterable[Sequence[str | None]]) -> Mapping[str, int]:
        """How often a judge says what, by item.

        They are ``consistent`` (the same answer wins in both orders), ``prefers_first`` or ``prefers_second`` (the same
        place wins), ``tied`` (at least one order) or ``off_format`` (no verdict in at least one order); each is one of them.
        """
        return {**dict.fromkeys(_COLUMNS, 0), **Counter(map(_bias, verdicts))}


def _bias(verdicts: Sequence[str | None]) -> str:
    if None in verdicts:
        return "off_format"
    if "C" in verdicts:
        return "tied"
    return _PREFERENCES.get((str(verdicts[0]), str(verdicts[1])), "consistent")

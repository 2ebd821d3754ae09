"""How a verdict looks in a judge's reply, as data, and how it is found there. Imports nothing heavy."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Literal, TypeAlias

from pydantic import AfterValidator, Discriminator, Field, Tag

from rmtransfer.study.options import Options, Text

# What may stand around the letter or number of a verdict. An upper-case letter, or a line's last one: "a" is also a word.
_ANSWER = r"(?:(?:assistant|answer|response|output|model)[\s_]*[(\[]*)?"
_LETTER = r"((?-i:[ABC])|[12]|tie|[abc](?=[\W_]*$))(?![A-Za-z0-9_])(?!\s*(?:/|or\b|and\b))"
_NUMBER = r"(-?\d+(?:[.,٫]\d+)?)(?![A-Za-z0-9_]|[.,٫]\d)"
_GAP = r"(?:(?!-\d)\W)*"  # before a number, whose sign is not passed over
_BETTER = (
    r"(?:winner|verdict|judge?ment|choice|preference|(?:preferred|better|best)(?:[\s_]?(?:answer|response|output))?)"
)

# Form of a verdict: mode to its pattern.
FORMS: dict[str, dict[str, str]] = {
    # [[A]], [[5]]: MT-Bench, RewardBench, RISE-Judge, RM-R1, and what our own prompts ask for
    "brackets": {"pairwise": r"\[\[([ABC])\]\]", "rating": rf"\[\[\s*{_NUMBER}\s*\]\]"},
    # Feedback: ... [RESULT] A: Prometheus 2 (arXiv 2405.01535), M-Prometheus (arXiv 2504.04953)
    "prometheus": {
        "pairwise": rf"(?im)\[result\W*{_ANSWER}{_LETTER}",
        "rating": rf"(?i)\[result{_GAP}(?:score{_GAP})?{_NUMBER}",
    },
    # {"explanation": "...", "score": "Assistant A"}: R3, mR3 (arXiv 2510.01146)
    "mr3": {
        "pairwise": rf"(?im)\bscore[\"']?\s*:\s*[\"']?{_ANSWER}{_LETTER}",
        "rating": rf"(?i)\bscore[\"']?\s*:\s*[\"']?{_NUMBER}",
    },
    # {"winner": "A"}, {"rating": 4}: models that are asked for JSON
    "json": {
        "pairwise": rf"(?im)[\"']{_BETTER}[\"']\s*:\s*[\"']?{_ANSWER}{_LETTER}",
        "rating": rf"(?i)[\"'](?:score|rating|grade)[\"']\s*:\s*[\"']?{_NUMBER}",
    },
    # \boxed{A}
    "boxed": {
        "pairwise": rf"(?im)\\boxed\W*(?:text(?:bf)?\W*)?{_ANSWER}{_LETTER}",
        "rating": rf"(?i)\\boxed{_GAP}(?:text(?:bf)?{_GAP})?{_NUMBER}",
    },
    # **Result:** A (Atla Selene), Verdict: Response B, Final rating: 4/5
    "label": {
        "pairwise": rf"(?im)\b(?:{_BETTER}|result|final answer)\W*:\W*{_ANSWER}{_LETTER}(?=\W*$|[.,;:)\]}}*]|\s+(?:is|wins)\b)",
        "rating": rf"(?i)\b(?:result|score|rating|grade)\W*:{_GAP}{_NUMBER}",
    },
    # the last word of the reply: A, **Answer B**, 7; the ratings of RewardBench 2 (arXiv 2506.01937)
    "end": {
        "pairwise": rf"(?i)(?<![A-Za-z0-9_]){_ANSWER}([ABC12]|tie)[\W_]*\Z",
        "rating": r"(?<![\d.,٫/-])(-?\d+(?:[.,٫]\d+)?)(?:\s*/\s*\d+)?[\W_]*\Z",
    },
}
DEFAULT_FORM = "brackets"


def _one_group(pattern: str) -> str:
    try:
        groups = re.compile(pattern).groups
    except re.error as problem:
        raise ValueError(f"is no regular expression ({problem}); correct it") from problem
    if groups != 1:
        raise ValueError(f"has {groups} groups, and one holds the verdict; put it into ( ), others into (?: )")
    if _ascii(pattern) != pattern:
        raise ValueError("holds full-width characters, which are ASCII ones by the time it is applied; write those")
    return pattern


class VerdictOptions(Options):
    """A verdict's form, where it is none of those that have a name. Case and spaces around what the group holds do not count."""

    pattern: Annotated[Text, AfterValidator(_one_group)]
    """regular expression (Python's re) with one group, the verdict; its last match in a reply counts"""
    first: Annotated[list[Text | int], Field(min_length=1)] = ["A", 1]
    """what the group holds if the answer shown first is better (pairwise)"""
    second: Annotated[list[Text | int], Field(min_length=1)] = ["B", 2]
    """what it holds if the second one is better"""
    tie: list[Text | int] = ["C", "tie"]
    """what it holds if they are equally good"""


if TYPE_CHECKING:
    Verdict: TypeAlias = str | VerdictOptions
else:
    Verdict = Annotated[
        Annotated[Literal[tuple(FORMS)], Tag("name")] | Annotated[VerdictOptions, Tag("pattern")],
        Discriminator(lambda given: "pattern" if isinstance(given, Mapping | VerdictOptions) else "name"),
    ]


def verdict_form(verdict: Verdict, mode: str) -> VerdictOptions:
    """A verdict's form by its name, or the one that the config writes out."""
    return VerdictOptions(pattern=FORMS[verdict][mode]) if isinstance(verdict, str) else verdict


def folded(value: str | int) -> str:
    """What two writings of a verdict have in common."""
    return _ascii(str(value)).strip().casefold()


# Raised when the same reply is read as something else, so that what was read before is read again, of all languages alike.
READING = 3

_TAG = r"(?:seed:)?(?:think|thinking|thought|reasoning)"
_START = rf"<{_TAG}>|<\|begin_of_thought\|>|\[THINK\]|◁think▷|<\|START_THINKING\|>|<\|channel\|>analysis<\|message\|>"
_END = rf"</{_TAG}>|<\|end_of_thought\|>|\[/THINK\]|◁/think▷|<\|END_THINKING\|>|<\|channel\|>final<\|message\|>"


class Reasoning:
    """What a model says to itself before it answers, known by the tags around it. It holds no verdict.

    Args:
        tags: start and end, where they are none of those that models are known to use.
    """

    def __init__(self, tags: Sequence[str] = ()) -> None:
        start, end = ("|".join([known, *map(re.escape, own)]) for known, own in ((_START, tags[:1]), (_END, tags[1:])))
        flags = re.DOTALL | re.IGNORECASE
        self._start_at_end = re.compile(rf"(?:{start})\s*\Z", flags)
        self._closed = re.compile(rf"(?:{start}).*?(?:{end})", flags)
        # What the chat template began holds the end alone.
        self._up_to_end = re.compile(rf"\A.*(?:{end})", flags)
        # Within a line a lone tag is what the judge quotes.
        self._unclosed = re.compile(rf"^[ \t]*(?:{start}).*", flags | re.MULTILINE)

    def removed(self, reply: str) -> str:
        """The reply without it."""
        return self._unclosed.sub("", self._after(reply))

    def among(self, reply: str) -> bool:
        """Whether a reply holds any."""
        return self.removed(reply) != reply

    def unfinished(self, reply: str, prompt: str = "") -> bool:
        """Whether a reply stops before its reasoning ends.

        Args:
            prompt: what stands before it, as far as that is known; some chat templates end with the start tag.
        """
        opened = self._start_at_end.search(prompt)
        return self._unclosed.search(self._after((opened.group() if opened else "") + reply)) is not None

    def _after(self, reply: str) -> str:
        return self._up_to_end.sub("", self._closed.sub("", reply))


def find_verdict(reply: str, form: VerdictOptions, reasoning: Reasoning) -> str | None:
    """What the group of the last match holds, folded; None if there is no match.

    Full-width letters, digits and brackets count as ASCII ones, so that a judge is not worse in Chinese or Korean for its
    punctuation.
    """
    found = re.findall(form.pattern, _ascii(reasoning.removed(reply)))
    return folded(found[-1]) if found else None


def _ascii(text: str) -> str:
    return unicodedata.normalize("NFKC", text).translate({ord("【"): "[", ord("】"): "]", ord("−"): "-"})

"""How a verdict looks in a judge's reply, as data, and how it is found there. Imports nothing heavy."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Literal, TypeAlias

from pydantic import AfterValidator, Discriminator, Field, Tag

from rmtransfer.study.options import Options, Text

# What may stand around the letter or number of a verdict. An upper-case letter, or a line's last one: "a" is also a word.
_ANSWER = r"(?:(?:assistant|answer|response|output|model)[\s_]*[(\[]*)?"
_LETTER = r"((?-i:[ABC])|[12]|tie|[abc](?=[\W_]*$))(?![A-Za-z0-9_])(?!\s*(?:/|or\b|and\b))"
_NUMBER = r"(\d+(?:[.,]\d+)?)(?![A-Za-z0-9_])"
_BETTER = (
    r"(?:winner|verdict|judge?ment|choice|preference|(?:preferred|better|best)(?:[\s_]?(?:answer|response|output))?)"
)

# Form of a verdict: mode to its pattern.
FORMS: dict[str, dict[str, str]] = {
    # [[A]], [[5]]: MT-Bench, RewardBench, RISE-Judge, RM-R1, and what our own prompts ask for
    "brackets": {"pairwise": r"\[\[([ABC])\]\]", "rating": r"\[\[(\d+)\]\]"},
    # Feedback: ... [RESULT] A: Prometheus 2 (arXiv 2405.01535), M-Prometheus (arXiv 2504.04953)
    "prometheus": {
        "pairwise": rf"(?im)\[result\W*{_ANSWER}{_LETTER}",
        "rating": rf"(?i)\[result\W*(?:score\W*)?{_NUMBER}",
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
        "rating": rf"(?i)\\boxed\W*(?:text(?:bf)?\W*)?{_NUMBER}",
    },
    # **Result:** A (Atla Selene), Verdict: Response B, Final rating: 4/5
    "label": {
        "pairwise": rf"(?im)\b(?:{_BETTER}|result|final answer)\W*:\W*{_ANSWER}{_LETTER}(?=\W*$|[.,;:)\]}}*]|\s+(?:is|wins)\b)",
        "rating": rf"(?i)\b(?:result|score|rating|grade)\W*:\W*{_NUMBER}",
    },
    # the last word of the reply: A, **Answer B**, 7; the ratings of RewardBench 2 (arXiv 2506.01937)
    "end": {
        "pairwise": rf"(?i)(?<![A-Za-z0-9_]){_ANSWER}([ABC12]|tie)[\W_]*\Z",
        "rating": r"(?<![\d.,/])(\d+(?:[.,]\d+)?)(?:\s*/\s*\d+)?[\W_]*\Z",
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


def find_verdict(reply: str, form: VerdictOptions) -> str | None:
    """What the group of the last match holds, folded; None if there is no match.

    What a model thinks before it answers holds no verdict. Full-width letters, digits and brackets count as ASCII ones, so
    that a judge is not worse in Chinese or Korean for its punctuation.
    """
    found = re.findall(form.pattern, _ascii(_without_reasoning(reply)))
    return folded(found[-1]) if found else None


_TAG = r"(?:think|thinking|thought|reasoning)"
_OPEN, _CLOSE = rf"(?:<{_TAG}>|\[THINK\])", rf"(?:</{_TAG}>|\[/THINK\]|<\|channel\|>final<\|message\|>)"
_CLOSED = re.compile(rf"{_OPEN}.*?{_CLOSE}", re.DOTALL | re.IGNORECASE)
_UP_TO_CLOSE = re.compile(rf"\A.*{_CLOSE}", re.DOTALL | re.IGNORECASE)
_FROM_OPEN = re.compile(rf"^[ \t]*{_OPEN}.*", re.DOTALL | re.IGNORECASE | re.MULTILINE)


def _without_reasoning(reply: str) -> str:
    # Some chat templates open the block themselves, so that a reply holds its end alone; a reply that was cut off, its start.
    # Within a line a lone tag is what the judge quotes.
    return _FROM_OPEN.sub("", _UP_TO_CLOSE.sub("", _CLOSED.sub("", reply)))


def _ascii(text: str) -> str:
    return unicodedata.normalize("NFKC", text).translate({ord("【"): "[", ord("】"): "]"})

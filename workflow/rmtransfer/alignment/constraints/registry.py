"""Which constraints can be checked in which language, and what their arguments must be."""

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

from rmtransfer.alignment.constraints import checkers
from rmtransfer.alignment.constraints.checkers import Checker
from rmtransfer.alignment.constraints.units import cleaned, has_case, has_words, of_script, relation
from rmtransfer.study.languages import primary


class Constraint(NamedTuple):
    """One of a row's constraints.

    Attributes:
        id: a key of ``CONSTRAINTS``.
        kwargs: its arguments, validated and complete.
    """

    id: str
    kwargs: dict[str, Any]


class UnusableError(Exception):
    """Why a row is left out: a constraint makes no sense in its language, asks for another one, or nobody knows it."""


class _Kind(NamedTuple):
    check: Checker
    arguments: Mapping[str, Callable[[Any], Any]] = {}  # name to what returns the value or raises ValueError
    optional: frozenset[str] = frozenset()
    unusable: Callable[[Mapping[str, Any], str], str] = lambda kwargs, language: ""  # why not in a language


def _number(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or value != int(value) or value < 0:
        raise ValueError(f"must be a whole number, not {value!r}")
    return int(value)


def _positive(value: Any) -> int:
    if _number(value) < 1:
        raise ValueError(f"must be at least 1, not {value!r}")
    return int(value)


def _text(value: Any) -> str:
    if not isinstance(value, str) or not value.strip():
        raise ValueError(f"must be a text that is not empty, not {value!r}")
    return value.strip()


def _texts(value: Any) -> list[str]:
    if not isinstance(value, list) or not value:
        raise ValueError(f"must be a list of texts, not {value!r}")
    return [_text(item) for item in value]


def _character(value: Any) -> str:
    character = cleaned(_text(value))
    if len(character) != 1:
        raise ValueError(f"must be one character, not {value!r}")
    return character


def _relation(value: Any) -> str:
    if relation(_text(value)) is None:
        raise ValueError(f"must be 'at least', 'less than' or 'at most', not {value!r}")
    return value.strip()


def _without_case(kwargs: Mapping[str, Any], language: str) -> str:
    return "" if has_case(language) else "no upper and lower case"


def _without_words(kwargs: Mapping[str, Any], language: str) -> str:
    return "" if has_words(language) else "no words that can be counted"


def _foreign_letter(kwargs: Mapping[str, Any], language: str) -> str:
    return "" if of_script(kwargs["letter"], language) else "a letter of another script"


def _foreign_language(kwargs: Mapping[str, Any], language: str) -> str:
    return "" if primary(kwargs["language"].lower()) == primary(language) else "another language is asked for"


def _kind(check: Checker, unusable: Callable[[Mapping[str, Any], str], str] | None = None, **arguments: Any) -> _Kind:
    """A kind of constraint; an argument's reader in a tuple may be missing."""
    optional = frozenset(name for name, read in arguments.items() if isinstance(read, tuple))
    readers = {name: read[0] if isinstance(read, tuple) else read for name, read in arguments.items()}
    return _Kind(check, readers, optional, unusable or (lambda kwargs, language: ""))


CONSTRAINTS: dict[str, _Kind] = {
    "change_case:capital": _kind(checkers.capital, _without_case),
    "change_case:capital_word_frequency": _kind(
        checkers.capital_word_frequency, _without_case, capital_frequency=_number, capital_relation=_relation
    ),
    "change_case:lowercase": _kind(checkers.lowercase, _without_case),
    "combination:repeat_prompt": _kind(checkers.repeat_prompt, prompt_to_repeat=_text),
    "combination:two_responses": _kind(checkers.two_responses),
    "detectable_content:number_placeholders": _kind(
        checkers.placeholders, num_placeholders=_number, relation=(_relation,)
    ),
    "detectable_content:postscript": _kind(checkers.postscript, postscript_marker=_text),
    "detectable_format:constrained_response": _kind(checkers.constrained_response, options=_texts),
    "detectable_format:json_format": _kind(checkers.json_format),
    "detectable_format:multiple_sections": _kind(
        checkers.sections, section_spliter=_text, num_sections=_number, relation=(_relation,)
    ),
    "detectable_format:number_bullet_lists": _kind(checkers.bullet_list, num_bullets=_number),
    "detectable_format:number_highlighted_sections": _kind(
        checkers.highlights, num_highlights=_number, relation=(_relation,)
    ),
    "detectable_format:title": _kind(checkers.title),
    "keywords:existence": _kind(checkers.keywords, keywords=_texts),
    "keywords:forbidden_words": _kind(checkers.forbidden_words, forbidden_words=_texts),
    "keywords:frequency": _kind(checkers.keyword_frequency, keyword=_text, frequency=_number, relation=_relation),
    "keywords:letter_frequency": _kind(
        checkers.letter_frequency, _foreign_letter, letter=_character, let_frequency=_number, let_relation=_relation
    ),
    "language:response_language": _kind(checkers.response_language, _foreign_language, language=_text, others=_texts),
    "length_constraints:nth_paragraph_first_word": _kind(
        checkers.first_word_of_paragraph, num_paragraphs=_positive, nth_paragraph=_positive, first_word=_text
    ),
    "length_constraints:number_paragraphs": _kind(checkers.divided_paragraphs, num_paragraphs=_positive),
    "length_constraints:number_sentences": _kind(
        checkers.number_of_sentences, num_sentences=_number, relation=_relation
    ),
    "length_constraints:number_words": _kind(
        checkers.number_of_words, _without_words, num_words=_number, relation=_relation
    ),
    "punctuation:no_comma": _kind(checkers.no_comma),
    "startend:end_checker": _kind(checkers.end_phrase, end_phrase=_text),
    "startend:quotation": _kind(checkers.quotation),
}

# What constrained_response lets a policy choose from, which rows do not say: IFEval's, and as Marco-Bench-MIF's prompts
# have them, in all their wordings.
_OPTIONS = {
    "en": ("My answer is yes.", "My answer is no.", "My answer is maybe."),
    "es": ("Mi respuesta es sí", "Mi respuesta es no", "Mi respuesta es tal vez"),
    "it": ("La mia risposta è sì.", "La mia risposta è no.", "La mia risposta è forse."),
    "ko": tuple(f"제 {noun} {said}입니다." for noun in ("대답은", "답은") for said in ("예", "아니요", "어쩌면")),
    "zh": tuple(
        f"我的{noun}是{said}。"
        for noun in ("答案", "回答")
        for said in ("肯定的", "否定的", "也许", "可能", "是的", "不是", "不好说")
    ),
}
# M-IFEval's, whose ids begin with the language.
_SHORT_OPTIONS = {
    "es": ("Sí.", "No.", "Quizás."),
    "fr": ("Oui.", "Non.", "Peut-être."),
    "ja": ("はい、そうです。", "いいえ、違います。", "どちらとも言えません。"),
}
_PREFIXED = re.compile(r"([a-z]{2,3}):([a-z_]+:[a-z_]+)")
# IFEval's english_capital, M-IFEval's spanish_capital and so on.
_CASING = re.compile(r"change_case:(english|spanish|french|catalan)_(capital|lowercase)")
_CODES = {"english": "en", "spanish": "es", "french": "fr", "catalan": "ca"}


def read_constraint(
    identity: str, given: Mapping[str, Any], language: str, languages: Iterable[str], own_language: bool = False
) -> Constraint:
    """A row's constraint by the name that its data set gives it.

    Args:
        identity: IFEval's, which Marco-Bench-MIF has as well, or M-IFEval's, which begin with a language: es:keywords:existence.
        given: its arguments as the row has them; null is as good as missing, and what the constraint does not take does not
            count, since tables of all arguments of all constraints are a common form.
        language: of the row.
        languages: that a policy may answer in besides.
        own_language: whether the row asks for its own language elsewhere, so that English capitals, in a translation of
            IFEval, are any language's.

    Raises:
        UnusableError: it cannot be checked in this language.
        ValueError: an argument is missing or none.
    """
    prefixed = _PREFIXED.fullmatch(identity)
    name = prefixed.group(2) if prefixed else identity
    if prefixed and prefixed.group(1) != primary(language):
        raise ValueError(f"{identity} is a constraint in {prefixed.group(1)}; the rows are read as {language}")
    casing = _CASING.fullmatch(name)
    if casing:
        if _CODES[casing.group(1)] != primary(language) and not own_language:
            raise UnusableError(f"{name}: another language is asked for")
        name = f"change_case:{casing.group(2)}"
    kind = CONSTRAINTS.get(name)
    if kind is None:
        raise UnusableError(f"{name}: no checker")
    values = {key: value for key, value in given.items() if key in kind.arguments and value is not None}
    if name == "detectable_format:constrained_response" and "options" not in values:
        options = (_SHORT_OPTIONS if prefixed else _OPTIONS).get(primary(language), _OPTIONS.get(primary(language)))
        if options is None:
            raise UnusableError(f"{name}: no options in {language}")
        values["options"] = list(options)
    if name == "language:response_language":
        values["others"] = [language, *languages]
    missing = [key for key in kind.arguments if key not in values and key not in kind.optional]
    if missing:
        raise ValueError(f"{identity} lacks {', '.join(missing)} in kwargs")
    kwargs = {}
    for key, value in values.items():
        try:
            kwargs[key] = kind.arguments[key](value)
        except ValueError as problem:
            raise ValueError(f"{identity}: {key} {problem}") from problem
    why = kind.unusable(kwargs, language)
    if why:
        raise UnusableError(f"{name}: {why}")
    return Constraint(name, kwargs)


def fulfils(text: str, constraint: Constraint, language: str) -> bool:
    """Whether a text fulfils a constraint; a blank one fulfils none, as in IFEval."""
    text = cleaned(text)
    return bool(text.strip()) and CONSTRAINTS[constraint.id].check(text, constraint.kwargs, language)

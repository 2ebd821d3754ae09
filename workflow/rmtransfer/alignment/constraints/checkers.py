"""Whether a text fulfils one constraint: one function each, of (text, kwargs, language).

The constraints are IFEval's (Zhou et al., arXiv 2311.07911, table 1), with their keyword arguments; the code is not. Each
docstring says what counts, and where that is not what IFEval's own checkers count. Texts come :func:`~.units.cleaned` and
are not blank, arguments as :mod:`.registry` has validated them.
"""

import json
import re
import unicodedata
from collections.abc import Callable, Mapping
from typing import Any

from rmtransfer.alignment.constraints.units import (
    count_bullets,
    count_sentences,
    count_words,
    folded,
    occurrences,
    of_script,
    paragraphs,
    relation,
    words_stand_apart,
)
from rmtransfer.translation.quality import in_language

Kwargs = Mapping[str, Any]
Checker = Callable[[str, Kwargs, str], bool]

# Of Unicode's characters named COMMA, those that part clauses or items: ASCII, full-width ，, ideographic 、, their half-width
# and small forms, Arabic, Armenian, Ethiopic and others.
_COMMAS = re.compile("[,，、､﹐﹑،՝፣߸᠂᠈꓾꘍꛵⸲⸴⹁⹌]")
# Pairs that wrap a quotation in the languages of the study, „ with both ends that are in use.
_QUOTES = {'"': '"', "＂": "＂", "“": "”", "„": "“”", "«": "»", "「": "」", "『": "』", "〝": "〞〟"}
_QUOTE_MARKS = re.compile("[\"'＂‘’‚“”„«»‹›「」『』〝〞〟]")
_FENCE = re.compile(r"(```+|~~~+)[^\S\n]*\w*[^\S\n]*\n?(.*?)\n?[^\S\n]*\1", re.DOTALL)
_TITLE = re.compile(r"<<[^\n<>]*?[^\W_][^\n]*?>>|＜＜[^\n]*?[^\W_][^\n]*?＞＞")
_TITLE_LINE = re.compile(
    r"^[\s#*_]*(?:《+[^\n《》]*[^\W_][^\n《》]*》+|«[^\n«»]*[^\W_][^\n«»]*»)[\s*_]*$", re.MULTILINE
)
_PLACEHOLDER = re.compile(
    r"\[[^\[\]\n]*[^\W\d_][^\[\]\n]*\](?!\()|［[^［］\n]*[^\W\d_][^［］\n]*］|【[^【】\n]*[^\W\d_][^【】\n]*】"
)
_CHECKBOX = re.compile(r"^\s*(?:[-*+]|[0-9]+[.)])\s+\[[xX]\]", re.MULTILINE)
_HIGHLIGHT = re.compile(r"(?<![*\\])(\*{1,3})(?![\s*])([^\n*]+?)(?<!\s)\1(?!\*)")
_DIVIDER = re.compile(r"(?<!\S)(?:[*＊]{3}|\* \* \*)(?!\S)")
_SIX_ASTERISKS = re.compile(r"(?<![*＊])[*＊]{6}(?![*＊])")
_NUMERAL = r"(?:[0-9]+|(?!X\b)[IVXⅠ-Ⅻ]+|[一二三四五六七八九十百]+)"
_START = r"(?:^|(?<=[.!?。！？…\"”»)]\s))[\W_]*"  # of a line or a sentence, before its markup
_CAPITAL_WORD = re.compile(r"[^\W_]+(?:[-'’.&][^\W_]+)*")


def no_comma(text: str, kwargs: Kwargs, language: str) -> bool:
    """No comma of any script, decimal and thousands separators included; 、 is one, as Chinese prompts have it.

    IFEval looks for the ASCII comma alone.
    """
    return not _COMMAS.search(text)


def title(text: str, kwargs: Kwargs, language: str) -> bool:
    """A title that is not empty in <<double angle brackets>> within a line, or in 《》 or «» on a line of its own.

    IFEval knows <<>> alone; inside a sentence, 《》 and «» name books and quote.
    """
    return bool(_TITLE.search(text) or _TITLE_LINE.search(text))


def bullet_list(text: str, kwargs: Kwargs, language: str) -> bool:
    """Exactly ``num_bullets`` items; see :func:`~.units.count_bullets`.

    IFEval also counts rules (---), lines that begin with *emphasis* and dashes without a space, and no bullets but - and *.
    """
    return count_bullets(text) == kwargs["num_bullets"]


def json_format(text: str, kwargs: Kwargs, language: str) -> bool:
    """The whole text is one JSON object or array (RFC 8259), in a Markdown code fence or not.

    IFEval also takes a bare number, string, true, false or null, and the NaN and Infinity of Python.
    """
    body = text.strip()
    fenced = _FENCE.fullmatch(body)
    try:
        found = json.loads(fenced.group(2) if fenced else body, parse_constant=_no_json)
    except (ValueError, RecursionError):
        return False
    return isinstance(found, (dict, list))


def _no_json(constant: str) -> None:
    raise ValueError(f"{constant} is no JSON")


def quotation(text: str, kwargs: Kwargs, language: str) -> bool:
    """The whole text is inside one pair of double quotation marks, with something in it: "", “”, „“, «», 「」, 『』.

    Marks that show their side must not close before the end: “Yes”, he said, “no” is not wrapped. IFEval knows straight
    ones alone, of which the same cannot be told.
    """
    text = text.strip()
    opening, inside, closing = text[:1], text[1:-1], text[-1:]
    if not inside.strip() or closing not in _QUOTES.get(opening, ()):
        return False
    if opening == closing:
        return True
    depth = 1
    for character in inside:
        depth += (character == opening) - (character in _QUOTES[opening])
        if depth == 0:
            return False
    return True


def placeholders(text: str, kwargs: Kwargs, language: str) -> bool:
    """At least (or as ``relation`` says) ``num_placeholders`` of [names] in square brackets, full-width ［］ and 【】 included.

    A name holds a letter, so that [1] and [ ] are none; nor are Markdown's links and ticked boxes. IFEval counts all [].
    """
    found = len(_PLACEHOLDER.findall(text)) - len(_CHECKBOX.findall(text))
    return _as_asked(found, kwargs, "num_placeholders")


def divided_paragraphs(text: str, kwargs: Kwargs, language: str) -> bool:
    """Exactly ``num_paragraphs`` parts between dividers (***, with space around them), none of which is blank.

    A divider at the start or end parts nothing. IFEval also divides at the asterisks of ***bold*** and ******.
    """
    parts = [bool(part.strip()) for part in _DIVIDER.split(text)]
    return all(parts[1:-1]) and sum(parts) == kwargs["num_paragraphs"]


def first_word_of_paragraph(text: str, kwargs: Kwargs, language: str) -> bool:
    """Exactly ``num_paragraphs`` paragraphs, parted by blank lines, of which number ``nth_paragraph`` begins with a word.

    Markup and punctuation may precede ``first_word``, which may be several words. No letter may follow, but in Korean, where
    particles attach, and in scripts without spaces. IFEval numbers blank paragraphs too and compares one word alone.
    """
    found = paragraphs(text)
    if len(found) != kwargs["num_paragraphs"]:
        return False
    start = re.sub(r"^[\W_]+", "", folded(found[kwargs["nth_paragraph"] - 1]))
    word = re.sub(r"^[\W_]+", "", folded(kwargs["first_word"]))
    rest = start.removeprefix(word)
    return rest != start and not (words_stand_apart(language) and re.match(r"\w", rest))


def two_responses(text: str, kwargs: Kwargs, language: str) -> bool:
    """Two parts that differ and are not blank, with exactly six asterisks between them and at most at the ends.

    IFEval also divides inside longer runs of asterisks.
    """
    parts = [part.strip() for part in _SIX_ASTERISKS.split(text)]
    answers = [part for part in parts if part]
    return all(parts[1:-1]) and len(answers) == 2 and folded(answers[0]) != folded(answers[1])


def keywords(text: str, kwargs: Kwargs, language: str) -> bool:
    """Each of ``keywords`` occurs, whatever its case, inside longer words as well, as in IFEval (there as a pattern)."""
    return all(occurrences(word, text, language, whole=False) for word in kwargs["keywords"])


def forbidden_words(text: str, kwargs: Kwargs, language: str) -> bool:
    """None of ``forbidden_words`` occurs as a word, as in IFEval; in Korean with particles, in Chinese anywhere."""
    return not any(occurrences(word, text, language, whole=True) for word in kwargs["forbidden_words"])


def keyword_frequency(text: str, kwargs: Kwargs, language: str) -> bool:
    """``keyword`` occurs as often as asked, whatever its case, inside longer words as well, as in IFEval."""
    return _as_asked(occurrences(kwargs["keyword"], text, language, whole=False), kwargs, "frequency")


def letter_frequency(text: str, kwargs: Kwargs, language: str) -> bool:
    """The character ``letter`` occurs as often as asked, whatever its case or width; é is not e.

    In Korean a syllable (글자), in Chinese a character (字). lm-evaluation-harness draws a random letter instead of one that
    is not in a-z, such as # or ñ.
    """
    found = unicodedata.normalize("NFKC", text).casefold().count(folded(kwargs["letter"]))
    return _as_asked(found, kwargs, "let_frequency", "let_relation")


def number_of_words(text: str, kwargs: Kwargs, language: str) -> bool:
    """As many words as asked; see :func:`~.units.count_words`."""
    return _as_asked(count_words(text, language), kwargs, "num_words")


def number_of_sentences(text: str, kwargs: Kwargs, language: str) -> bool:
    """As many sentences as asked; see :func:`~.units.count_sentences`."""
    return _as_asked(count_sentences(text, language), kwargs, "num_sentences")


def postscript(text: str, kwargs: Kwargs, language: str) -> bool:
    """``postscript_marker`` stands at the start of a word, and something follows it.

    Spaces between its letters, its last full stop, case and width do not matter. The P.S. of P.P.S. is none. IFEval also
    takes a marker with nothing after it.
    """
    marker = folded(kwargs["postscript_marker"]).replace(" ", "").rstrip(".:")
    pattern = r"\s?".join(map(re.escape, marker))
    return bool(re.search(rf"(?<![\w.]){pattern}(?![a-z])[\W_]*\w", folded(text)))


def highlights(text: str, kwargs: Kwargs, language: str) -> bool:
    """At least (or as ``relation`` says) ``num_highlights`` stretches of a line between asterisks: *so*, **so** or ***so***.

    No space is next to the asterisks inside, as in CommonMark, so that list items are none. IFEval counts "* a *" as well.
    """
    return _as_asked(len(_HIGHLIGHT.findall(text)), kwargs, "num_highlights")


def sections(text: str, kwargs: Kwargs, language: str) -> bool:
    """At least (or as ``relation`` says) ``num_sections`` lines or sentences that begin with ``section_spliter`` and a number.

    The number is Arabic, Roman or Chinese, and may stand before the word, as Chinese and Korean have it: 第1天, 1일. The X of
    "SECTION X" is none. Markup may precede. IFEval finds the word and digits anywhere.
    """
    word = re.escape(unicodedata.normalize("NFC", kwargs["section_spliter"].strip()))
    after, before = rf"{word}\s?{_NUMERAL}(?![A-Za-z])", rf"第?\s?{_NUMERAL}\s?{word}(?:(?=차)|(?![가-힣]))"
    return _as_asked(len(re.findall(rf"{_START}(?:{after}|{before})", text, re.MULTILINE)), kwargs, "num_sections")


def end_phrase(text: str, kwargs: Kwargs, language: str) -> bool:
    """The text ends with ``end_phrase``, whatever its case or width; quotation marks and asterisks after it do not count.

    Where the phrase has no full stop of its own, the text may have one. IFEval allows straight quotation marks alone.
    """
    phrase, end = (re.sub(r"[\s*_]+$", "", _without_quotes(folded(part))) for part in (kwargs["end_phrase"], text))
    return end.endswith(phrase) or end.rstrip(".。!").endswith(phrase)


def constrained_response(text: str, kwargs: Kwargs, language: str) -> bool:
    """One of ``options`` is in the text, letter by letter; quotation marks do not count, and no letter may follow it.

    IFEval has "My answer is yes.", "My answer is no." and "My answer is maybe."; :mod:`.registry` has those of others.
    """
    said = " ".join(_without_quotes(text).split())
    options = (" ".join(_without_quotes(option).split()) for option in kwargs["options"])
    return any(re.search(rf"(?<!\w){re.escape(option)}(?![^\W\d_])", said) for option in options)


def repeat_prompt(text: str, kwargs: Kwargs, language: str) -> bool:
    """The text begins with ``prompt_to_repeat``, whatever its case, width and spaces, and an answer follows.

    To IFEval the repetition is enough.
    """
    said, prompt = folded(text), folded(kwargs["prompt_to_repeat"])
    return said.startswith(prompt) and bool(re.search(r"\w", said[len(prompt) :]))


def response_language(text: str, kwargs: Kwargs, language: str) -> bool:
    """The prose is in ``language``: by :func:`~rmtransfer.translation.quality.in_language`, which knows the study's others.

    Where there is too little prose to tell, its letters must be of the language's script, most of them. IFEval asks
    langdetect, and takes what it cannot tell for fulfilled.
    """
    told = in_language(text, kwargs["language"], kwargs["others"])
    if told is not None:
        return told
    letters = [character for character in text if character.isalpha()]
    return 2 * sum(of_script(letter, kwargs["language"]) for letter in letters) >= len(letters)


def capital(text: str, kwargs: Kwargs, language: str) -> bool:
    """There are letters, none of them lower-case; and nothing says that the text is in another language.

    IFEval's all-capital constraint asks for the language as well. The language is told by the lower-case text.
    """
    return text.isupper() and in_language(text.lower(), language, ()) is not False


def lowercase(text: str, kwargs: Kwargs, language: str) -> bool:
    """There are letters, none of them a capital; and nothing says that the text is in another language."""
    return text.islower() and in_language(text, language, ()) is not False


def capital_word_frequency(text: str, kwargs: Kwargs, language: str) -> bool:
    """As many words as asked are in capitals; a word in capitals has at least two letters, and hyphens part none.

    IFEval also counts single capitals, such as the A that begins a sentence and numbers with one capital.
    """
    words = _CAPITAL_WORD.findall(text)
    found = sum(1 for word in words if word.isupper() and sum(map(str.isalpha, word)) > 1)
    return _as_asked(found, kwargs, "capital_frequency", "capital_relation")


def _as_asked(found: int, kwargs: Kwargs, number: str, how: str = "relation") -> bool:
    """Whether a count compares with an argument as another one says; where none says, it must be at least as large."""
    compare = relation(kwargs.get(how, "at least"))
    return compare is not None and compare(found, kwargs[number])


def _without_quotes(text: str) -> str:
    return _QUOTE_MARKS.sub("", text)

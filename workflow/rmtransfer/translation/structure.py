"""Take a text apart so that an engine sees only prose, and put it together again.

The parts of a text, joined, are the text. Whatever an engine does to the prose, code, formulas, line breaks, lists and
tables stay where they were, character by character.
"""

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import sentencex

from rmtransfer.study.languages import primary


@dataclass(frozen=True)
class Part:
    """A stretch of a text: ``prose`` goes to the engine, ``fixed`` comes back as it is, ``gap`` parts two sentences."""

    text: str
    kind: Literal["prose", "fixed", "gap"]


@dataclass(frozen=True)
class Splitting:
    """How an engine wants its texts.

    Attributes:
        unit: whole texts, lines (in chat texts, paragraphs) or single sentences.
        spans_inside: protected spans stay inside the prose, for the engine to mark; otherwise prose ends at them.
        limit: the most characters of one stretch of prose; whole texts have none.
    """

    unit: Literal["text", "line", "sentence"]
    spans_inside: bool
    limit: int


_NEWLINES = "\n\r\v\f\x1c\x1d\x1e\x85\u2028\u2029"
_INLINE_CODE = rf"(?P<tick>(?<!`)`+(?!`))(?:(?!(?P=tick)(?!`))[^{_NEWLINES}])+?(?<!`)(?P=tick)(?!`)"
# Blocks without prose. A fence that is never closed protects the rest, as Markdown renders it. Inline code is in the
# pattern so that what stands inside it opens no block.
_BLOCK = re.compile(
    rf"""
    ^[ \t>]*(?:(?:[-*+]|[0-9]{{1,3}}[.)])[ \t]+)*(?P<fence>`{{3,}}(?=[^`\n]*$)|~{{3,}})[^\n]*
        (?:\n(?:.*\n)*?[ \t>]*(?P=fence)[`~]*[ \t]*\r?$|(?s:.*))
    | (?P<inline>{_INLINE_CODE})
    | \$\$(?s:.+?)\$\$ | \\\[(?s:.+?)\\\]
    | \\begin\{{(?P<env>[a-zA-Z*]+)\}}(?s:.*?)\\end\{{(?P=env)\}}
    """,
    re.MULTILINE | re.VERBOSE,
)
# Spans that must come back unchanged and exactly once. ASCII classes throughout: Korean and Chinese attach particles
# and punctuation to them without a space.
_SPAN = re.compile(
    rf"""
    {_INLINE_CODE}
    | (?:https?://|ftp://|www\.)[!-;=?-~]*[A-Za-z0-9/\#=&%+-]                    # URL, without the full stop after it
    | (?<![A-Za-z0-9._%+-])[A-Za-z0-9._%+-]+@[A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)+   # e-mail address
    | \\\((?:(?!\\\().)+?\\\)                                                     # inline formulas, but not $5 or 6$
    | (?<![0-9$])\$(?=[^\s$,.;:!?)])(?:[^$\n\\`]|\\.)*?(?<=\S)\$(?![0-9$])
    | \\[A-Za-z]+(?:\{{[^{{}}\n]*\}})*                                            # LaTeX command
    | \{{\{{[^{{}}\n]+\}}\}} | \$\{{[^{{}}\n]+\}} | \{{[A-Za-z0-9_.]*(?:![rsa])?(?::[^{{}}\s]*)?\}}   # placeholders
    | <\|[^|>\n]+\|> | \[[A-Z][A-Z0-9_ ]+\]
    | %\([A-Za-z_]+\)[sdif] | %[0-9]+\$[sd] | (?<![0-9%])%[sdf](?![A-Za-z])
    | <!--(?:(?!<!--).)*?--> | </?[A-Za-z][^<>\n]*> | &(?:[A-Za-z]+|\#[0-9]+);   # HTML
    | !?\[(?=[^\[\]\n]+\]\()                                                     # both ends of a Markdown link
    | \]\([^()\s]*(?:\([^()\s]*\)[^()\s]*)*(?:\s+"[^"\n]*")?\)
    | (?<![A-Za-z0-9])[A-Za-z0-9]+(?:_+[A-Za-z0-9]+)+                            # snake_case
    | \*+ | _+ | ~~+                                                             # emphasis
    """,
    re.VERBOSE,
)
_LINE = re.compile(rf"[^{_NEWLINES}]+|[{_NEWLINES}]+")
# Indentation, quote marks, and list or heading markers, several where they nest.
_PREFIX = re.compile(
    r"[\s>]*(?:(?:[-*+\u2022\u2023\u2013\u25aa\u25cf]|\(?[0-9]{1,3}[.)]|\(?[A-Za-z]\)|[A-E]\.|\#{1,6}|\[[ xX]\])\s+"
    r"|[0-9]{1,3}[\u3001\uff0e]\s*)*"
)
# Lines of code outside any fence, as coding benchmarks have them. Only what prose hardly ever looks like.
_CODE_LINE = re.compile(
    r"""
    \s*(?:
      \S.*(?:\w\(|[=<>\[\]+]).*[;{] | (?:if|for|while|switch|catch|else\ if)\s*\(.*\)\s*\{ | [})\];]+.*[;{})]
    | (?:def|fn|func|function|sub)\s+\w+\s*[(<].* | (?:class|struct|impl|interface|enum)\s+\w+\s*(?:\(.*\))?\s*[:{]
    | import\s+[\w.]+(?:\s+as\s+\w+)?(?:\s*,\s*[\w.]+)*;? | import\s.*\sfrom\s+['"].* | from\s+[\w.]+\s+import\s+.+
    | (?:use|package|using|require)\s+\S+; | \#\s?(?:include|define)\b.*
    | (?:if|elif|while)\s+(?:not\s+)?[\w.\[\]()'"]+(?:\s+(?:not\s+in|in|is|is\s+not|and|or)\s+[\w.\[\]()'"]+)*\s*:
    | (?:if|elif|while)\b[^,]*(?:[=<>]=?|\w\().*:
    | for\s+\w+(?:,\s*\w+)*\s+in\s+[\w.]+(?:\(.*\)|\[.*\])?\s*: | (?:else|try|finally)\s*[:{]
    | [A-Za-z_$][\w.\[\]'"]*+(?:,\s*\w++)*+\s*(?:[-+*/|&%]|:)?=\s*(?:["'\[({].*|[^\s=]+(?:\s*[-+*/%|&<>=]+\s*[^\s=]+)*)
    | (?!\w+\(e?s\))[a-z_][\w.]*+\([^()]*(?:\([^()]*\)[^()]*)*\)
    | @\w+(?:\(.*\))?
    )\s*
    | \s{2,}(?:return|print|raise|yield|assert|break|continue|pass)\b.*
    """,
    re.VERBOSE,
)
_LONGEST_CODE_LINE = 300
_SENTENCE = re.compile(r"\s*[A-Z][^\W\d_]*(?:[,;:]?\s+[\w'\u2019().,-]+){5,}\s*[.!?:]\s*")
# What neither XML nor a tokenizer can be trusted with; no language writes with it.
_UNPRINTABLE = re.compile("[\x00-\x08\x0e-\x1f\x7f-\x9f\u200b\ufeff\ufffe\uffff\ufdd0-\ufdef]+")
_CLAUSE_END = re.compile(r"[，；：、]\s*|\s+")
_UNSPACED = ("zh", "ja")  # written without spaces between sentences


def protected_spans(text: str) -> list[str]:
    """Code, URLs, formulas, placeholders, markup: what a translation must hold unchanged and just as often."""
    found: list[str] = []
    end = 0
    for block in _blocks(text):
        found += [m.group() for m in _spans_in(text[end : block.start()])]
        found.append(block.group().strip())
        end = block.end()
    return found + [m.group() for m in _spans_in(text[end:])]


def same_spans(source: str, translation: str) -> bool:
    """Whether every protected span of one text is in the other, equally often."""
    return Counter(protected_spans(source)) == Counter(protected_spans(translation))


def mark_spans(prose: str) -> list[tuple[str, bool]]:
    """A stretch of prose as (text, is it a protected span)."""
    pieces: list[tuple[str, bool]] = []
    end = 0
    for match in _spans_in(prose):
        if match.start() > end:
            pieces.append((prose[end : match.start()], False))
        pieces.append((match.group(), True))
        end = match.end()
    if end < len(prose):
        pieces.append((prose[end:], False))
    return pieces


def has_prose(text: str) -> bool:
    """Whether there is anything to translate: a letter outside the protected spans."""
    return any(not protected and _has_letter(piece) for piece, protected in mark_spans(text))


def split_text(text: str, language: str, splitting: Splitting) -> list[Part]:
    """The parts of a text, whose concatenation it is.

    Args:
        language: BCP-47 code of the text, which decides where sentences end.
    """
    if splitting.unit == "text":
        return [Part(text, "prose")]
    parts: list[Part] = []
    place = _Place()
    end = 0
    for block in _blocks(text):
        parts += _split_lines(text[end : block.start()], language, splitting, place)
        parts.append(Part(block.group(), "fixed"))
        end = block.end()
    parts += _split_lines(text[end:], language, splitting, place)
    return parts


def prose_of(text: str, language: str) -> str:
    """What of a text is prose: without code, formulas, markup and other protected spans."""
    parts = split_text(text, language, Splitting("line", spans_inside=False, limit=len(text)))
    return " ".join(part.text for part in parts if part.kind == "prose")


def join_parts(parts: Sequence[Part], translations: Mapping[str, str], target: str) -> str:
    """The text with its prose replaced; between sentences stands what the target language puts there."""
    unspaced = primary(target) in _UNSPACED
    pieces = []
    for part in parts:
        if part.kind == "prose":
            pieces.append(translations[part.text])
        elif part.kind == "gap" and not part.text.strip(" "):
            pieces.append("" if unspaced else part.text or " ")
        else:
            pieces.append(part.text)
    return "".join(pieces)


@dataclass
class _Place:
    """Where in a Markdown text a line stands: what decides whether its indentation makes it code."""

    after_blank: bool = True
    in_list: bool = False


def _spans_in(text: str) -> Iterator[re.Match[str]]:
    """Protected spans, none of which goes beyond its line: engines are shown lines."""
    for line in _LINE.finditer(text):
        yield from _SPAN.finditer(text, *line.span())


def _blocks(text: str) -> Iterator[re.Match[str]]:
    return (block for block in _BLOCK.finditer(text) if block.group("inline") is None)


def _split_lines(text: str, language: str, splitting: Splitting, place: _Place) -> Iterator[Part]:
    for match in _LINE.finditer(text):
        line = match.group()
        if line[0] in _NEWLINES:
            place.after_blank = place.after_blank or len(line.replace("\r\n", "\n")) > 1
            yield Part(line, "fixed")
            continue
        if not line.strip():
            yield Part(line, "fixed")
            continue
        indented = line.startswith(("    ", "\t"))
        if indented and place.after_blank and not place.in_list and not _SENTENCE.fullmatch(line):
            yield Part(line, "fixed")  # an indented code block; its next line is one too
            continue
        if len(line) <= _LONGEST_CODE_LINE and _CODE_LINE.fullmatch(line):
            yield Part(line, "fixed")
            continue
        prefix = _PREFIX.match(line).group()  # type: ignore[union-attr]  # may be empty, always matches
        place.in_list = bool(prefix.strip()) or (place.in_list and line[0].isspace())
        place.after_blank = False
        yield from _fixed(prefix)
        body = line[len(prefix) :]
        if body.startswith("|"):
            for cell in re.split(r"((?<!\\)\|)", body):
                yield from _fixed(cell) if cell == "|" else _split_line(cell, language, splitting)
        else:
            yield from _split_line(body, language, splitting)


def _split_line(line: str, language: str, splitting: Splitting) -> Iterator[Part]:
    """One line without its prefix, cut at what no engine should see; a span that holds such a thing is cut out whole."""
    cuts = [m.span() for m in _SPAN.finditer(line) if _UNPRINTABLE.search(m.group())]
    cuts += [m.span() for m in _UNPRINTABLE.finditer(line) if not any(a <= m.start() < b for a, b in cuts)]
    end = 0
    for start, stop in sorted(cuts):
        yield from _split_prose(line[end:start], language, splitting)
        yield Part(line[start:stop], "fixed")
        end = stop
    yield from _split_prose(line[end:], language, splitting)


def _split_prose(line: str, language: str, splitting: Splitting) -> Iterator[Part]:
    body = line.strip()
    start = line.find(body)
    yield from _fixed(line[:start] if body else line)
    if not body:
        return
    if splitting.unit == "line" and len(body) <= splitting.limit:
        yield from _spans(body, splitting)
    else:
        yield from _sentences(body, language, splitting)
    yield from _fixed(line[start + len(body) :])


def _sentences(body: str, language: str, splitting: Splitting) -> Iterator[Part]:
    inside = [m.span() for m in _SPAN.finditer(body)]
    ends: list[int] = []
    at = 0
    spaced = primary(language) not in _UNSPACED
    for sentence in sentencex.segment(primary(language), body):
        at += len(sentence)
        if spaced and not sentence[-1:].isspace() and at < len(body):
            continue  # in such a language a word that goes on is no new sentence
        if not any(first < at < last for first, last in inside):
            ends.append(at)
    if not ends or ends[-1] != len(body):  # a splitter that changed the text is not believed
        ends = [len(body)]
    start = 0
    for end in ends:
        sentence = body[start:end]
        text = sentence.rstrip()
        if len(text) > splitting.limit:
            yield from _cut(text, splitting)
        elif text:
            yield from _spans(text, splitting)
        if end < len(body):
            yield Part(sentence[len(text) :], "gap")
        else:
            yield from _fixed(sentence[len(text) :])
        start = end


def _cut(sentence: str, splitting: Splitting) -> Iterator[Part]:
    """A sentence beyond the limit: around its spans, and at the last clause end that fits."""
    for piece, protected in mark_spans(sentence):
        while not protected and len(piece) > splitting.limit:
            ends = [m.end() for m in _CLAUSE_END.finditer(piece, 0, splitting.limit)]
            at = ends[-1] if ends else splitting.limit
            yield from _trimmed(piece[:at])
            piece = piece[at:]
        yield from _fixed(piece) if protected else _trimmed(piece)


def _spans(text: str, splitting: Splitting) -> Iterator[Part]:
    if splitting.spans_inside:
        yield Part(text, "prose" if has_prose(text) else "fixed")
        return
    for piece, protected in mark_spans(text):
        yield from _fixed(piece) if protected else _trimmed(piece)


def _trimmed(piece: str) -> Iterator[Part]:
    """Prose between fixed edges of white space."""
    body = piece.strip()
    if not _has_letter(body):
        yield from _fixed(piece)
        return
    start = piece.find(body)
    yield from _fixed(piece[:start])
    yield Part(body, "prose")
    yield from _fixed(piece[start + len(body) :])


def _has_letter(text: str) -> bool:
    return any(map(str.isalpha, text))


def _fixed(text: str) -> Iterator[Part]:
    if text:
        yield Part(text, "fixed")

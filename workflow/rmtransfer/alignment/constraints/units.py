"""What texts consist of in a language: scripts, words, sentences, paragraphs, lists. What checkers count."""

import re
import unicodedata
from collections.abc import Callable

import sentencex

from rmtransfer.study.languages import FLORES, primary

# Unicode names of the letters that a script (ISO 15924) is written with, by their first words.
_LETTERS = {
    "Arab": ("ARABIC",),
    "Beng": ("BENGALI",),
    "Cyrl": ("CYRILLIC",),
    "Deva": ("DEVANAGARI",),
    "Grek": ("GREEK",),
    "Hang": ("HANGUL",),
    "Hans": ("CJK",),
    "Hant": ("CJK",),
    "Hebr": ("HEBREW",),
    "Jpan": ("HIRAGANA", "KATAKANA", "CJK"),
    "Latn": ("LATIN",),
    "Thai": ("THAI",),
}
_CASED = ("Cyrl", "Grek", "Latn")
_CHARACTERS = ("Hans", "Hant")  # written without spaces, and counted by the character
_UNCOUNTED = ("Jpan", "Thai")  # written without spaces, and not counted by the character either
_ATTACHING = ("Hang", *_CHARACTERS, *_UNCOUNTED)  # in which letters that are no part of a word may follow it
# Particles that Korean attaches to nouns; several may follow each other.
_PARTICLES = (
    "은|는|이|가|을|를|의|에|에서|에게|께|께서|한테|으로|로|으로서|로서|으로써|로써|와|과|랑|이랑|하고|도|만|까지|부터|"
    "마다|조차|마저|밖에|처럼|보다|같이|만큼|들|이나|나|이란|란|이라고|라고|이라는|라는|이다|입니다|이에요|예요|이며|며|요"
)
_INVISIBLE = re.compile("[\u200b\u2060\ufeff]")
_WORD = re.compile(r"\w+")
_CHARACTER = re.compile(
    r"[\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U000323af]|[^\W\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff]+"
)
_BLANK_LINES = re.compile(r"\n(?:[^\S\n]*\n)+")
# List items and headings of Markdown: lines that are no part of the sentence before them, and where these begin.
_MARKER = r"[^\S\n]*(?:[-*+•‣◦·▪●○–—]\s|[0-9]{1,3}(?:[.)]\s|、)|#{1,6}\s)[^\S\n]*"
_LINE_OF_ITS_OWN = re.compile(rf"{_MARKER}|[^\S\n]*(?:\*\*[^\n*]+\*\*:?\s*$|[-*_=]{{3,}}\s*$)")
_LEADING_MARKER = re.compile(_MARKER)
_BULLET = re.compile(r"^[^\S\n]*(?:[-*+–—]\s+|[•‣◦·▪●○・∙]\s*)(?![-*_+\s]*$)\S", re.MULTILINE)


def cleaned(text: str) -> str:
    """A text as checkers read it: NFC, line ends as \\n, without characters that nobody sees."""
    return unicodedata.normalize("NFC", _INVISIBLE.sub("", "\n".join(re.split(r"\r\n?|\n|\u2028|\u2029|\x85", text))))


def folded(text: str) -> str:
    """A text for comparisons that neither case, width nor the kind of space matters to."""
    return " ".join(unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold()).split())


def script_of(language: str) -> str:
    """ISO 15924 code of the script that a language is written in, as FLORES-200 has it; else Latin."""
    return FLORES.get(language, FLORES.get(primary(language), "Latn"))[-4:]


def has_case(language: str) -> bool:
    """Whether a language's script has upper and lower case."""
    return script_of(language) in _CASED


def has_words(language: str) -> bool:
    """Whether words, or in their place characters, can be counted without a dictionary."""
    return script_of(language) not in _UNCOUNTED


def words_stand_apart(language: str) -> bool:
    """Whether a word ends where its letters do; in Korean particles attach, in Chinese there are no spaces."""
    return script_of(language) not in _ATTACHING


def of_script(character: str, language: str) -> bool:
    """Whether a letter is of the script that a language is written in; true of whatever is no letter."""
    letters = _LETTERS.get(script_of(language))
    return letters is None or not character.isalpha() or unicodedata.name(character, "").startswith(letters)


def count_words(text: str, language: str) -> int:
    """Words of a text, with IFEval's count where words have spaces between them.

    - Runs of letters, digits and underscores (``\\w+``), so that "don't" is two words, as in IFEval.
    - Korean: what stands between spaces (어절) and holds a letter or digit, as Korean word counts do; IFEval's count would
      split 3.5%입니다 in three.
    - Chinese: characters (字), which is what its length constraints count; a run of Latin letters or of digits is one.
      Punctuation does not count.
    """
    script = script_of(language)
    if script == "Hang":
        return sum(1 for part in text.split() if _WORD.search(part))
    return len((_CHARACTER if script in _CHARACTERS else _WORD).findall(text))


def count_sentences(text: str, language: str) -> int:
    """Sentences of a text that hold a letter or digit: sentencex's, within paragraphs; list items and headings apart.

    IFEval takes NLTK's English Punkt model for all, which knows neither 。nor Spanish abbreviations.
    """
    found = 0
    for block in blocks(text):
        sentences = sentencex.segment(primary(language), _LEADING_MARKER.sub("", block, count=1))
        found += sum(1 for sentence in sentences if _WORD.search(sentence))
    return found


def blocks(text: str) -> list[str]:
    """Paragraphs, and list items and headings, which are lines of their own."""
    found: list[str] = []
    for paragraph in paragraphs(text):
        lines: list[str] = []
        for line in paragraph.split("\n"):
            if lines and (_LINE_OF_ITS_OWN.match(line) or _LINE_OF_ITS_OWN.match(lines[-1])):
                found.append("\n".join(lines))
                lines = []
            lines.append(line)
        found.append("\n".join(lines))
    return found


def paragraphs(text: str) -> list[str]:
    """What blank lines part, stripped; without what is blank."""
    return [part.strip() for part in _BLANK_LINES.split(text) if part.strip()]


def count_bullets(text: str) -> int:
    """Items of unordered lists: lines that begin with -, * or + and a space, as in CommonMark, or with •, · and the like.

    Rules (---, * * *) and lines that begin with emphasis (*so*, **so**) are none, nor are numbered items.
    """
    return len(_BULLET.findall(text))


def occurrences(keyword: str, text: str, language: str, whole: bool) -> int:
    """How often a keyword is in a text, whatever case or width either has.

    Args:
        whole: only as a word of its own; a Korean noun may have particles. Written Chinese has no gaps between words: there
            every occurrence counts. Otherwise inside longer words as well, so that inflected forms count.
    """
    pattern = re.escape(folded(keyword))
    script = script_of(language)
    if whole and script not in _CHARACTERS and script not in _UNCOUNTED:
        particles = rf"(?:{_PARTICLES})*" if script == "Hang" else ""
        pattern = rf"(?<!\w){pattern}{particles}(?!\w)"
    return len(re.findall(pattern, folded(text)))


def relation(name: str) -> Callable[[int, int], bool] | None:
    """What a relation's published name compares by, (found, asked) -> bool; None where nobody knows it.

    IFEval's "at least" and "less than", and M-IFEval's in Spanish, French and Japanese; "at most" is "como máximo".
    """
    return _RELATIONS.get(folded(name))


_RELATIONS: dict[str, Callable[[int, int], bool]] = {
    **dict.fromkeys(("at least", "al menos", "au moins", "以上"), lambda found, asked: found >= asked),
    **dict.fromkeys(("less than", "moins de", "未満"), lambda found, asked: found < asked),
    **dict.fromkeys(("at most", "como máximo"), lambda found, asked: found <= asked),
}

"""Gates that a translation passes before anything is trained on it.

Each gate looks at one text and its translation and names what is wrong. They catch what breaks a study without anyone
noticing (other language, untouched copy, loop, lost code, cut-off text, comment instead of translation), not style.
"""

import functools
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable
from typing import Any

from rmtransfer.study.languages import primary
from rmtransfer.translation.structure import prose_of, same_spans

# What engines find themselves.
COMMENT = "comment instead of translation"
CUT_OFF = "stopped at the length limit"
LOST = "protected span lost or changed"

# Characters of a text for each character of its English original. es, it, ko and zh are the totals of the reference
# translations of NTREX-128 (Federmann et al. 2022); the others go by script. Only ratios far off are flagged.
_LENGTH = {"en": 1.0, "es": 1.16, "it": 1.16, "ko": 0.54, "zh": 0.34, "ja": 0.45, "th": 0.95, "he": 0.8, "ar": 0.9}
_LENGTH_ELSE = 1.1
_LENGTH_FACTOR = 2.2
_SLACK = 25.0  # characters by which a short text may differ besides

# Scripts by language, as Unicode blocks; whatever is not listed is written in Latin letters.
_SCRIPTS = {
    "zh": "\u3400-\u9fff\uf900-\ufaff",
    "ja": "\u3040-\u30ff\u3400-\u9fff",
    "ko": "\uac00-\ud7af\u1100-\u11ff\u3130-\u318f",
    "ru": "\u0400-\u04ff",
    "uk": "\u0400-\u04ff",
    "bg": "\u0400-\u04ff",
    "sr": "\u0400-\u04ffA-Za-z\u00c0-\u024f",
    "el": "\u0370-\u03ff\u1f00-\u1fff",
    "ar": "\u0600-\u06ff\u0750-\u077f",
    "fa": "\u0600-\u06ff\u0750-\u077f",
    "ur": "\u0600-\u06ff\u0750-\u077f",
    "he": "\u0590-\u05ff",
    "hi": "\u0900-\u097f",
    "bn": "\u0980-\u09ff",
    "ta": "\u0b80-\u0bff",
    "te": "\u0c00-\u0c7f",
    "th": "\u0e00-\u0e7f",
}
_LATIN = "A-Za-z\u00c0-\u024f\u1e00-\u1eff"
_LEAST_SCRIPT = 0.3  # names and terms stay in Latin letters everywhere

# Letters from which on at least 96 in 100 texts are identified: measured on the default study's, cut to that length.
_FEW_LETTERS, _FEW_LETTERS_DENSE = 20, 8
_DENSE = re.compile(f"[{_SCRIPTS['zh']}{_SCRIPTS['ja']}{_SCRIPTS['ko']}]")
# Which language a text is in can only be told among candidates: those of the pair and the most likely mistakes.
_CANDIDATES = ("en", "es", "fr", "de", "it", "pt", "ru", "zh", "ja", "ko", "ar", "hi", "id", "tr", "vi")
_LEAST_LETTERS, _LEAST_LETTERS_DENSE = 40, 13
_CHATTER = re.compile(
    r"""^\W*
    (?:(?:sure|certainly|of\ course|okay|absolutely|claro(?:\ que\ sí)?|por\ supuesto|certo|certamente|물론입니다|물론이죠|네
      |好的|当然(?:可以)?|沒問題|没问题)[\s!,.:，！。：-]+)*
    (?:
      (?:here(?:'s|\ is|\ are)|(?:the\ following|below)\ is|this\ is|aquí\ (?:está|tienes|va)|ecco|questa\ è|다음은|아래는|以下是|这是)
      .{0,40}?(?:translat|traducci|traduzion|번역|翻译|译文)[^.。]{0,40}?[:：\n]
    | (?:translation|translated\ text|traducción|traduzione|번역|翻译|译文)\s*[:：]
    | (?:as\ an\ ai|i\ (?:cannot|can't|can\ not|am\ unable\ to))\b.*\btranslat
    )""",
    re.IGNORECASE | re.VERBOSE,
)
# A number with separators between thousands, or a plain one; with a decimal part.
_NUMBER = re.compile(r"(?:[0-9]{1,3}(?:[.,\u00a0\u202f\u2009' ][0-9]{3}(?![0-9]))+|[0-9]+)(?:[.,][0-9]+)?")
_ORDINAL = re.compile(r"(?:st|nd|rd|th|s|'s)\b")
_CLOCK = re.compile(r"(?<![0-9.,:])([0-9]{1,2})[.,:]([0-9]{2})(?![0-9]|[.,][0-9])")
# 6억 4900만, 3万500: Korean and Chinese group by ten thousands and write the groups out.
_MYRIADS = {"천": 10**3, "千": 10**3, "만": 10**4, "万": 10**4, "萬": 10**4, "억": 10**8, "亿": 10**8, "億": 10**8}
_GROUPED = re.compile(rf"(?:[0-9][0-9.,]*\s?[{''.join(_MYRIADS)}]+\s?)+(?:[0-9][0-9,]*(?![0-9.]))?")
_GROUP = re.compile(rf"([0-9][0-9.,]*)\s?([{''.join(_MYRIADS)}]*)")


def flaws_of(original: str, translation: str, source_language: str, target: str) -> tuple[str, ...]:
    """What is wrong with a translation, as short reasons; empty where no gate objects."""
    if not translation.strip():
        return ("empty translation",)
    found = []
    if not same_spans(original, translation):
        found.append(LOST)
    prose, translated = prose_of(original, source_language), prose_of(translation, target)
    if not prose:
        return tuple(found)
    if primary(source_language) != primary(target) and is_copy(prose, translated):
        found.append("untranslated copy")
    elif wrong_script(translated, target):
        found.append("wrong script")
    elif wrong_language(translated, source_language, target):
        found.append("wrong language")
    if wrong_length(prose, translated, source_language, target):
        found.append("length ratio")
    if is_loop(translated) and not is_loop(prose):
        found.append("repetition loop")
    if lost_numbers(prose, translated):
        found.append("number mismatch")
    if _CHATTER.match(translation) and not _CHATTER.match(original):
        found.append(COMMENT)
    return tuple(found)


def _letters(text: str) -> str:
    return "".join(character for character in text if character.isalpha())


def is_copy(source: str, translation: str) -> bool:
    """Whether a text of several words came back as it was."""
    return len(source.split()) >= 4 and _letters(source).casefold() == _letters(translation).casefold()


def wrong_script(text: str, language: str) -> bool:
    """Whether too few letters are of the script that the language is written in."""
    letters = _letters(text)
    inside = re.findall(f"[{_SCRIPTS.get(primary(language), _LATIN)}]", letters)
    return len(letters) >= 12 and len(inside) < _LEAST_SCRIPT * len(letters)


def wrong_language(text: str, source: str, target: str) -> bool:
    """Whether a text long enough to tell is in another language than the target (py3langid, Lui and Baldwin 2012)."""
    wanted = primary(target)
    letters = len(_letters(text))
    if letters < (_LEAST_LETTERS_DENSE if wanted in ("zh", "ja", "ko") else _LEAST_LETTERS):
        return False
    detector = _detector(tuple(sorted({*_CANDIDATES, primary(source), wanted})))
    return wanted in detector.labels and detector.classify(text)[0] != wanted


def in_language(text: str, language: str, others: Iterable[str]) -> bool | None:
    """Whether the prose of a text is in a language, and not in any of others or in one of the most likely mistakes.

    None where nobody can tell: there is too little prose, or the language is none that py3langid knows.
    """
    prose = prose_of(text, language)
    letters = _letters(prose)
    detector = _detector(tuple(sorted({*_CANDIDATES, primary(language), *map(primary, others)})))
    few = len(letters) < _FEW_LETTERS and len(_DENSE.findall(letters)) < _FEW_LETTERS_DENSE
    if few or primary(language) not in detector.labels:
        return None
    return bool(detector.classify(prose)[0] == primary(language))


@functools.cache
def _detector(codes: tuple[str, ...]) -> Any:
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    detector = LanguageIdentifier.from_model_file(MODEL_FILE)
    detector.set_languages([code for code in codes if code in detector.labels])
    return detector


def wrong_length(source: str, translation: str, source_language: str, target: str) -> bool:
    """Whether a translation is far longer or shorter than translations into its language are."""
    ratio = _usual_length(target) / _usual_length(source_language)
    expected = len(source) * ratio
    slack = _SLACK * min(1.0, ratio)
    return not expected / _LENGTH_FACTOR - slack <= len(translation) <= expected * _LENGTH_FACTOR + slack


def _usual_length(language: str) -> float:
    return _LENGTH.get(primary(language), _LENGTH_ELSE)


def is_loop(text: str) -> bool:
    """Whether a stretch repeats itself at once, as a decoder does that does not find out: at least four times in a row
    and over 40 characters, or three quarters of all trigrams of a long text being repeats."""
    if re.search(r"(.{1,60}?)\1{3,}", text) and any(
        len(m.group()) > 40 and _letters(m.group(1)) for m in re.finditer(r"(.{2,60}?)\1{3,}", text)
    ):
        return True
    words = text.split() if 12 * text.count(" ") > len(text) else list(text)  # few spaces: a script without them
    if len(words) < 40:
        return False
    trigrams = Counter(zip(words, words[1:], words[2:], strict=False))
    return len(trigrams) < 0.25 * (len(words) - 2)


def lost_numbers(source: str, translation: str) -> bool:
    """Whether a number of the source is missing in the translation.

    Separators and zeros at the ends do not count, because 1,000.5 is 1.000,5 elsewhere and 10 million is 1000 times ten
    thousand. Numbers up to 12 and ordinals ("19th", "1930s") may be written in words.
    """
    # 10.30 is a time, and 10:30 elsewhere, or it is a number, and 10,30 elsewhere: one of the two readings must hold
    return all(
        any(digits not in given for digits, countable in _numbers(source, times).items() if countable)
        for times in (True, False)
        for given in [_numbers(translation, times)]
    )


def _numbers(text: str, times: bool) -> dict[str, bool]:
    """Digits of each number without separators and outer zeros, and whether words cannot replace it."""
    text = _GROUPED.sub(_written_out, unicodedata.normalize("NFKC", text))  # full-width digits
    if times:
        text = _CLOCK.sub(r"\1 : \2", text)
    found: dict[str, bool] = {}
    for match in _NUMBER.finditer(text):
        digits = re.sub(r"\D", "", match.group())
        key = digits.strip("0")
        found[key] = found.get(key, False) or (int(digits) > 12 and not _ORDINAL.match(text, match.end()))
    return found


def _written_out(match: re.Match[str]) -> str:
    """A number in groups of ten thousands as plain digits."""
    total = 0.0
    for digits, units in _GROUP.findall(match.group()):
        value = float(re.sub(r",|\.(?=[0-9]{3}(?:[^0-9]|$))", "", digits).rstrip(".,"))
        for unit in units:
            value *= _MYRIADS[unit]
        total += value
    return f" {total:.0f} "

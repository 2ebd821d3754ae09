"""Language codes: BCP-47 in the study, and what benchmarks and translation models call the same languages."""

# FLORES-200 codes (https://github.com/facebookresearch/flores), as NLLB and M-RewardBench use them.
FLORES = {
    "ar": "arb_Arab",
    "bg": "bul_Cyrl",
    "bn": "ben_Beng",
    "cs": "ces_Latn",
    "da": "dan_Latn",
    "de": "deu_Latn",
    "el": "ell_Grek",
    "en": "eng_Latn",
    "es": "spa_Latn",
    "fa": "pes_Arab",
    "fi": "fin_Latn",
    "fr": "fra_Latn",
    "he": "heb_Hebr",
    "hi": "hin_Deva",
    "hu": "hun_Latn",
    "id": "ind_Latn",
    "it": "ita_Latn",
    "ja": "jpn_Jpan",
    "ko": "kor_Hang",
    "nl": "nld_Latn",
    "pl": "pol_Latn",
    "pt": "por_Latn",
    "ro": "ron_Latn",
    "ru": "rus_Cyrl",
    "sv": "swe_Latn",
    "sw": "swh_Latn",
    "th": "tha_Thai",
    "tr": "tur_Latn",
    "uk": "ukr_Cyrl",
    "vi": "vie_Latn",
    "zh": "zho_Hans",
    "zh-Hans": "zho_Hans",
    "zh-Hant": "zho_Hant",
}
_NAMES = {
    "ar": "Arabic",
    "bg": "Bulgarian",
    "bn": "Bengali",
    "cs": "Czech",
    "da": "Danish",
    "de": "German",
    "el": "Greek",
    "en": "English",
    "es": "Spanish",
    "fa": "Persian",
    "fi": "Finnish",
    "fr": "French",
    "he": "Hebrew",
    "hi": "Hindi",
    "hu": "Hungarian",
    "id": "Indonesian",
    "it": "Italian",
    "ja": "Japanese",
    "ko": "Korean",
    "nl": "Dutch",
    "pl": "Polish",
    "pt": "Portuguese",
    "ro": "Romanian",
    "ru": "Russian",
    "sv": "Swedish",
    "sw": "Swahili",
    "th": "Thai",
    "tr": "Turkish",
    "uk": "Ukrainian",
    "vi": "Vietnamese",
    "zh": "Chinese",
    "zh-Hant": "Traditional Chinese",
}
_PRIVATE = "-x-"


def primary(code: str) -> str:
    """The language subtag: zh of zh-Hant."""
    return code.split("-")[0]


def english_name(code: str) -> str:
    """What English calls the language; the code itself where that is not known here."""
    return _NAMES.get(code, _NAMES.get(primary(code), code))


def variant_code(language: str, variant: str) -> str:
    """The code of a language as one translator renders it: es-x-nllb (private use subtag, RFC 5646 section 2.2.7)."""
    return f"{language}{_PRIVATE}{variant}"


def split_variant(code: str) -> tuple[str, str | None]:
    """(language, variant) of a code; the variant is None for the study's main translation."""
    language, _, variant = code.partition(_PRIVATE)
    return language, variant or None


def filled_in(template: str, language: str, codes: str) -> str:
    """A path or a name of a data set with ``{language}`` filled in.

    Args:
        codes: ``bcp47`` for our own code, ``flores`` for its FLORES-200 counterpart, ``names`` for the English name in small letters.
    """
    if codes == "names":
        return template.replace("{language}", english_name(language).lower())
    return template.replace("{language}", FLORES[language] if codes == "flores" else language)

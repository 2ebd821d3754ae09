"""Codes of languages, of their variants, and what others call them."""

import re

import pytest

from rmtransfer.study.languages import FLORES, english_name, primary, split_variant, variant_code

# https://huggingface.co/datasets/C4AI-Community/multilingual-reward-bench
M_REWARDBENCH = [
    "arb_Arab",
    "ces_Latn",
    "nld_Latn",
    "fra_Latn",
    "deu_Latn",
    "ell_Grek",
    "heb_Hebr",
    "hin_Deva",
    "ind_Latn",
    "ita_Latn",
    "jpn_Jpan",
    "kor_Hang",
    "pes_Arab",
    "pol_Latn",
    "por_Latn",
    "ron_Latn",
    "rus_Cyrl",
    "spa_Latn",
    "tur_Latn",
    "ukr_Cyrl",
    "vie_Latn",
    "zho_Hans",
    "zho_Hant",
]


def test_every_benchmark_language_has_a_code_and_a_name():
    assert len(M_REWARDBENCH) == 23
    for flores in M_REWARDBENCH:
        (code,) = [c for c, f in FLORES.items() if f == flores and c != "zh-Hans"]
        assert re.fullmatch(r"[A-Z][a-z]+( [A-Z][a-z]+)?", english_name(code))


@pytest.mark.parametrize("language", ["es", "zh-Hant"])
def test_a_variant_is_a_private_use_subtag(language):
    code = variant_code(language, "nllb")
    assert code == f"{language}-x-nllb"
    assert split_variant(code) == (language, "nllb")
    assert split_variant(language) == (language, None)
    assert primary(code) == language[:2]


def test_names():
    assert [english_name(c) for c in ("ko", "pt-BR", "zh-Hant", "tlh")] == [
        "Korean",
        "Portuguese",
        "Traditional Chinese",
        "tlh",
    ]

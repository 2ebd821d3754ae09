"""What is compared with what, and that it stays so whatever else is in a study."""

import pytest

from rmtransfer.transfer.design import Design
from score_rows import DESIGN


@pytest.mark.parametrize(
    ("language", "a", "b", "family"),
    [
        ("es", ("m", "en"), ("m", "es"), "primary"),
        ("es", ("m", "ko"), ("m", "es"), "in-language"),
        ("es", ("m", "it-zh"), ("m", "es"), "in-language"),
        ("es", ("m", "en.24"), ("m", "es"), "in-language"),
        ("en", ("m", "es"), ("m", "en"), "in-language"),
        # A variant's language has a model of its own.
        ("es-x-nllb", ("m", "en"), ("m", "es-x-nllb"), "in-language"),
        # These hold the language.
        ("es", ("m", "mix"), ("m", "es"), "other"),
        ("es", ("m", "es-x-nllb"), ("m", "es"), "other"),
        ("es-x-nllb", ("m", "es"), ("m", "es-x-nllb"), "other"),
        ("en", ("m", "en.24"), ("m", "en"), "other"),
        # Other bases, models of others and their baselines, translate-test, no in-language model.
        ("es", ("k", "en"), ("m", "es"), "other"),
        ("es", ("probe", "en"), ("probe", "es"), "other"),
        ("es", ("armo", "-"), ("m", "es"), "other"),
        ("es", ("m", "translate-test"), ("m", "es"), "other"),
        ("es", ("m", "en"), ("m", "ko"), "other"),
    ],
)
def test_the_family_of_a_comparison(language, a, b, family):
    assert DESIGN.family(language, a, b) == family


def test_from_elsewhere_are_whole_languages_without_the_evaluated_one():
    sets = ("en", "es", "es-x-nllb", "mix", "it-zh", "en.24", "translate-test")
    cells = {("m", t, e) for t in sets for e in ("en", "es", "es-x-nllb", "ko")} | {("probe", "en", "es")}
    cells |= {("probe", "es", "es")}
    to_english, to_spanish = (("m", "es", "en"), ("m", "en", "en")), (("m", "en", "es"), ("m", "es", "es"))
    assert DESIGN.comparisons(cells) == {
        "source minus target-language": [to_spanish],
        "elsewhere minus in-language": [to_spanish, to_english],
    }


def test_the_grid_of_seeds_is_of_plain_languages():
    cells = {("m", t, e) for t in ("en", "es", "mix", "es-x-nllb") for e in ("en", "es", "ko", "es-x-nllb")}
    training, languages = DESIGN.grid("m", cells)
    assert (set(training), set(languages)) == ({"en", "es"}, {"en", "es", "ko"})
    training, languages = DESIGN.grid("m", cells - {("m", "es", "ko")})
    assert (set(training), set(languages)) == ({"en", "es"}, {"en", "es"})


def test_a_mixture_of_one_language_is_no_language():
    design = Design("en", ("m",), {"en": ["en"], "es": ["es"], "only": ["es"]})
    assert [t for t in design.trained_in if design.is_plain(t)] == ["en", "es"]

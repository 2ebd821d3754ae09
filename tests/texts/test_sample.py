"""The embedded texts: complete in five languages, varied, and without a shortcut."""

import json
import re
from difflib import SequenceMatcher

import pytest

from conftest import ROOT
from rmtransfer.texts import corpus
from rmtransfer.translation.memory import read_tmx, tmx_languages

SAMPLE = ROOT / "resources/sample"
LANGUAGES = ["en", "es", "it", "ko", "zh"]
FAILURES = {
    "wrong_fact",
    "off_topic",
    "needless_refusal",
    "unsafe_compliance",
    "rude",
    "ignored_instruction",
    "cut_off",
}


def fields_of(role):
    return ("prompt",) if role == "held_out_instructions" else corpus.fields_of(role)


def read(role):
    records = [json.loads(line) for line in (SAMPLE / f"{role}.jsonl").read_text(encoding="utf-8").splitlines()]
    rejected: list = []
    rows = list(corpus.valid_rows(enumerate(records, 1), fields_of(role), {}, rejected))
    assert rejected == []
    return rows


def translated(row, role, known):
    fields = fields_of(role)
    return row | {f: [{**m, "content": known[m["content"]].text} for m in row[f]] for f in fields}


@pytest.fixture(scope="module")
def rows():
    """Role to language to rows."""
    known = {language: read_tmx(SAMPLE / "memory.tmx", "en", language) for language in LANGUAGES[1:]}
    return {
        role: {"en": read(role)}
        | {language: [translated(row, role, known[language]) for row in read(role)] for language in known}
        for role in ("preferences", "benchmark", "instructions", "held_out_instructions")
    }


def text(row, field):
    return row[field][0]["content"]


def test_sizes(rows):
    assert len(rows["preferences"]["en"]) >= 96
    assert len(rows["instructions"]["en"]) >= 24
    assert len(rows["held_out_instructions"]["en"]) == 16
    subsets = [r["subset"] for r in rows["benchmark"]["en"]]
    assert {s: subsets.count(s) for s in set(subsets)} == {"chat": 15, "chat-hard": 15, "safety": 15, "reasoning": 15}


def test_rejected_answers_fail_in_many_ways(rows):
    kinds = [r["subset"] for r in rows["preferences"]["en"]]
    assert set(kinds) == FAILURES
    assert min(kinds.count(kind) for kind in FAILURES) >= 10


def test_the_memory_holds_every_language():
    assert tmx_languages(SAMPLE / "memory.tmx") == set(LANGUAGES)


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("role", ["preferences", "benchmark"])
def test_length_is_no_shortcut(rows, role, language):
    these = rows[role][language]
    longer = sum(len(text(r, "chosen")) > len(text(r, "rejected")) for r in these) / len(these)
    shorter = sum(len(text(r, "chosen")) < len(text(r, "rejected")) for r in these) / len(these)
    assert 0.45 <= longer <= 0.55
    assert 0.45 <= shorter <= 0.55


@pytest.mark.parametrize("language", LANGUAGES)
def test_no_prompt_or_near_duplicate_in_both_sets(rows, language):
    prompts = {role: [text(r, "prompt").casefold() for r in these[language]] for role, these in rows.items()}
    held_out = prompts.pop("held_out_instructions")
    unseen = [
        (p, other) for role in ("benchmark", "instructions") for other in prompts[role] for p in prompts["preferences"]
    ]
    unseen += [(p, other) for other in held_out for these in prompts.values() for p in these]
    for prompt, other in unseen:
        matcher = SequenceMatcher(None, prompt, other, autojunk=False)
        assert matcher.real_quick_ratio() < 0.8 or matcher.ratio() < 0.8, (prompt, other)
    assert len(unseen) >= 96 * 84 + 16 * 180


def test_no_text_occurs_twice(rows):
    texts = [text(r, f) for role, by_language in rows.items() for r in by_language["en"] for f in fields_of(role)]
    assert len(texts) == len(set(texts)) >= 96 * 3 + 60 * 3 + 24 + 16


@pytest.mark.parametrize("language", LANGUAGES[1:])
def test_translations_keep_form_and_are_translated(rows, language):
    checked = 0
    for role, by_language in rows.items():
        for english, other in zip(by_language["en"], by_language[language], strict=True):
            for field in fields_of(role):
                a, b = text(english, field), text(other, field)
                checked += 1
                assert b == b.strip()
                assert a.count("\n") == b.count("\n"), (english["id"], field)
                code = re.compile(r"```.*?```", re.S)
                assert code.findall(a) == code.findall(b), (english["id"], field)
                if re.search(r"[a-z]{4,} [a-z]{3,} [a-z]{3,}", code.sub("", a)):
                    assert a != b, (english["id"], field)
    assert checked >= 508


@pytest.mark.parametrize(("language", "script"), [("ko", r"[가-힣]"), ("zh", r"[一-鿿]")])
def test_korean_and_chinese_are_written_in_their_scripts(rows, language, script):
    prompts = [text(r, "prompt") for role in rows for r in rows[role][language]]
    assert all(re.search(script, p) for p in prompts)


def test_forms_vary(rows):
    answers = [
        text(r, f) for role in ("preferences", "benchmark") for r in rows[role]["en"] for f in ("chosen", "rejected")
    ]
    assert sum("\n" in a for a in answers) >= 30
    assert sum("```" in a for a in answers) >= 10
    assert sum(bool(re.search(r"\d", a)) for a in answers) >= 60
    lengths = sorted(map(len, answers))
    assert lengths[len(lengths) // 10] * 3 < lengths[-len(lengths) // 10]

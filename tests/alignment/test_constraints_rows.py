"""Rows of the IFEval family: what is read, what is left out, what is wrong."""

import json
import re
from pathlib import Path

import pytest

from rmtransfer.alignment.constraints.registry import Constraint
from rmtransfer.alignment.constraints.rows import count_left_out, load_constraints
from rmtransfer.kit.errors import StudyError

LANGUAGES = ["en", "es", "it", "ko", "zh"]
MIF = Path(__file__).resolve().parents[3] / "shared/data/mif"
GOOD = {"key": 1, "prompt": "Say it without commas.", "instruction_id_list": ["punctuation:no_comma"], "kwargs": [{}]}
BULLETS = {"instruction_id_list": ["detectable_format:number_bullet_lists"]}


def write(path, *rows):
    lines = [row if isinstance(row, str) else json.dumps(row, ensure_ascii=False) for row in rows]
    path.write_text("\n".join(lines), encoding="utf-8")
    return path


def asks(key, *constraints):
    return {
        "key": key,
        "prompt": "…?",
        "instruction_id_list": [name for name, _ in constraints],
        "kwargs": [kwargs for _, kwargs in constraints],
    }


def test_a_row(tmp_path):
    row = asks(
        7, ("punctuation:no_comma", {}), ("detectable_format:number_bullet_lists", {"num_bullets": 3, "relation": None})
    )
    rows, left_out = load_constraints(write(tmp_path / "a.jsonl", row), "en", LANGUAGES)
    assert rows == [
        {
            "id": "7",
            "prompt": [{"role": "user", "content": "…?"}],
            "instructions": [
                Constraint("punctuation:no_comma", {}),
                Constraint("detectable_format:number_bullet_lists", {"num_bullets": 3}),
            ],
        }
    ]
    assert left_out.empty


@pytest.mark.parametrize("kwargs", [..., None, [None], [{}], [{"num_words": None}], [{}, {"language": "en"}]])
def test_forms_of_no_arguments(tmp_path, kwargs):
    row = {**GOOD, "kwargs": kwargs}
    if kwargs is ...:
        del row["kwargs"]
    rows, _ = load_constraints(write(tmp_path / "a.jsonl", row), "en", LANGUAGES)
    assert rows[0]["instructions"] == [Constraint("punctuation:no_comma", {})]


def test_whole_rows_are_left_out_and_counted(tmp_path):
    letter = {"letter": "n", "let_frequency": 2, "let_relation": "at least"}
    path = write(
        tmp_path / "a.jsonl",
        GOOD,
        asks(
            2,
            ("punctuation:no_comma", {}),
            ("change_case:capital_word_frequency", {"capital_frequency": 1, "capital_relation": "at least"}),
        ),
        asks(3, ("keywords:letter_frequency", letter)),
        asks(4, ("change_case:english_lowercase", {})),
        asks(5, ("language:response_language", {"language": "en"})),
        asks(6, ("language:response_language", {"language": "de"})),
        asks(8, ("letters:kanji", {})),
        asks(9, ("language:response_language", {"language": "ko"})),
    )
    rows, left_out = load_constraints(path, "ko", LANGUAGES)
    assert [row["id"] for row in rows] == ["1", "9"]
    assert left_out[["id", "line"]].to_numpy().tolist() == [["2", 2], ["3", 3], ["4", 4], ["5", 5], ["6", 6], ["8", 7]]
    assert count_left_out(left_out).to_numpy().tolist() == [
        ["ko", "language:response_language: another language is asked for", 2],
        ["ko", "change_case:capital_word_frequency: no upper and lower case", 1],
        ["ko", "keywords:letter_frequency: a letter of another script", 1],
        ["ko", "change_case:english_lowercase: another language is asked for", 1],
        ["ko", "letters:kanji: no checker", 1],
    ]


def test_english_casing_in_a_row_that_asks_for_its_own_language(tmp_path):
    both = asks(1, ("change_case:english_lowercase", {}), ("language:response_language", {"language": "es"}))
    rows, _ = load_constraints(write(tmp_path / "a.jsonl", both), "es", LANGUAGES)
    assert [constraint.id for constraint in rows[0]["instructions"]] == [
        "change_case:lowercase",
        "language:response_language",
    ]


@pytest.mark.parametrize(
    ("row", "why"),
    [
        ("[1]", "is not a JSON object but list"),
        ('{"key": 2, "prompt": "say "x""}', "invalid JSON at character"),
        ({**GOOD, "key": None}, "missing key"),
        ({"key": 2, "prompt": "…?"}, "missing instruction_id_list"),
        ({**GOOD, "key": [2]}, "key must be"),
        ({**GOOD, "key": " "}, "key must be"),
        ({**GOOD, "key": 2, "prompt": " "}, "prompt must be"),
        ({**GOOD, "key": 2, "prompt": ["…?"]}, "prompt must be"),
        ({**GOOD, "key": 2, "instruction_id_list": []}, "instruction_id_list must be"),
        ({**GOOD, "key": 2, "instruction_id_list": "punctuation:no_comma"}, "instruction_id_list must be"),
        ({**GOOD, "key": 2, "kwargs": {}}, "kwargs must be a list"),
        ({**GOOD, "key": 2, "kwargs": ["x"]}, "kwargs must be a list"),
        ({**GOOD, "key": 2, "kwargs": []}, "kwargs has 0 objects for 1"),
        ({**GOOD, **BULLETS, "key": 2}, "lacks num_bullets"),
        ({**GOOD, **BULLETS, "key": 2, "kwargs": [{"num_bullets": "3"}]}, "num_bullets must be a whole number"),
        (asks(2, ("letters:kanji", {}), ("detectable_format:number_bullet_lists", {})), "lacks num_bullets"),
        (GOOD, "duplicate key, first used in line 1"),
        ({**GOOD, "key": "1"}, "duplicate key, first used in line 1"),
    ],
)
def test_an_invalid_row_is_left_out_and_reported(tmp_path, row, why, capsys):
    path = write(tmp_path / "rows.jsonl", GOOD, row)
    rows, left_out = load_constraints(path, "en", LANGUAGES)
    assert [row["id"] for row in rows] == ["1"]
    assert left_out[["line", "reason"]].values.tolist() == [[2, "invalid row"]]
    said = capsys.readouterr().out
    assert "rows.jsonl: 1 invalid row is left out; mend the file" in said
    assert re.search(f"  line 2, key .*: .*{why}", said)


def test_no_row_is_left(tmp_path):
    path = write(tmp_path / "a.jsonl", asks(1, ("language:response_language", {"language": "en"})))
    with pytest.raises(StudyError, match=r"no row .* in ko .*another language is asked for"):
        load_constraints(path, "ko", LANGUAGES)


def test_another_format(tmp_path):
    with pytest.raises(StudyError, match="is a table of text"):
        load_constraints(write(tmp_path / "a.csv", "key,prompt", "1,Hello"), "en", LANGUAGES)


@pytest.mark.skipif(not MIF.is_dir(), reason="Marco-Bench-MIF is not there")
@pytest.mark.parametrize("language", LANGUAGES)
def test_marco_bench_mif(language):
    rows, left_out = load_constraints(MIF / f"{language}.jsonl", language, LANGUAGES)
    assert len(rows) + len(left_out) == 541
    assert len(rows) >= 400
    assert not left_out["reason"].str.endswith("no checker").any()
    assert (left_out["reason"] == "invalid row").sum() == (language == "zh")  # line 15 of the published file is no JSON

"""Bad rows are named with file, line and id; good ones come back as they went in."""

import csv
import json
import random
import tracemalloc

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rmtransfer.kit.errors import StudyError
from rmtransfer.texts import corpus

GOOD = {"id": "a", "prompt": "Why?", "chosen": "Because.", "rejected": "No.", "subset": "chat"}


def write(path, *rows):
    path.write_bytes(b"".join((r if isinstance(r, bytes) else json.dumps(r).encode()) + b"\n" for r in rows))
    return path


def run(tmp_path, *rows, role="preferences", table=None, **source):
    path = write(tmp_path / "rows.jsonl", *rows)
    source = {"path": path.name, "invalid_rows": "stop", **source}
    out, ledger = tmp_path / "rows.parquet", tmp_path / "rejected.csv"
    corpus.import_rows(source, role, "en", tmp_path, out, ledger, table)
    return corpus.load_rows(out)


BAD = {
    "missing id": ({k: v for k, v in GOOD.items() if k != "id"}, "missing id"),
    "number as id": ({**GOOD, "id": 7}, "id must be a non-empty string, not 7"),
    "missing field": ({"id": "b", "prompt": "x", "chosen": "y"}, "missing rejected"),
    "empty chosen": ({**GOOD, "id": "b", "chosen": "  "}, "chosen is empty"),
    "empty prompt": ({**GOOD, "id": "b", "prompt": ""}, "prompt is empty"),
    "identical": ({**GOOD, "id": "b", "rejected": "Because. "}, "identical"),
    "wrong type": ({**GOOD, "id": "b", "prompt": 3}, "prompt must be a string or a list of messages, not int"),
    "wrong subset": ({**GOOD, "id": "b", "subset": 3}, "subset must be a string"),
    "bad role": ({**GOOD, "id": "b", "prompt": [{"role": "boss", "content": "x"}]}, "role 'boss'"),
    "bad message": (
        {**GOOD, "id": "b", "prompt": [{"content": "x"}]},
        "exactly the keys role and content, and this one has content",
    ),
    "bad content": ({**GOOD, "id": "b", "prompt": [{"role": "user", "content": None}]}, "content must be a string"),
    "prompt ends with an answer": (
        {**GOOD, "id": "b", "prompt": [{"role": "user", "content": "x"}, {"role": "assistant", "content": "So"}]},
        "ends with a message of role 'assistant' instead of the user's; the start of an answer belongs into chosen and",
    ),
    "prompt without a question": (
        {**GOOD, "id": "b", "prompt": [{"role": "system", "content": "x"}]},
        "ends with a message of role 'system'",
    ),
    "system message later": (
        {**GOOD, "id": "b", "prompt": [{"role": r, "content": "x"} for r in ("user", "system", "user")]},
        "has a system message that is not the first message, or several",
    ),
    "two system messages": (
        {**GOOD, "id": "b", "prompt": [{"role": r, "content": "x"} for r in ("system", "system", "user")]},
        "has a system message that is not the first message, or several",
    ),
    "answer by the user": (
        {**GOOD, "id": "b", "chosen": [{"role": "user", "content": "x"}]},
        "chosen: holds a message of role 'user', and an answer is messages of the assistant alone",
    ),
    "answer that goes on": (
        {**GOOD, "id": "b", "rejected": [{"role": r, "content": "x"} for r in ("assistant", "user")]},
        "rejected: holds a message of role 'user'",
    ),
    "answer that begins with a system message": (
        {**GOOD, "id": "b", "chosen": [{"role": r, "content": "x"} for r in ("system", "assistant")]},
        "chosen: holds a message of role 'system'",
    ),
    "another key": (
        {**GOOD, "id": "b", "prompt": [{"role": "user", "content": "x", "name": "Ann"}]},
        "exactly the keys role and content, and this one has role, content, name",
    ),
    "not an object": ([1, 2], "not a JSON object but list"),
    "no JSON": (b'{"id": "b", ', "invalid JSON at character"),
    "no UTF-8": (b'{"id": "\xff"}', "invalid UTF-8 at byte 9"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_bad_row_stops_with_file_line_and_reason(tmp_path, case):
    row, reason = BAD[case]
    with pytest.raises(StudyError) as error:
        run(tmp_path, GOOD, row)
    message = str(error.value)
    assert "rows.jsonl: 1 invalid row" in message
    assert "line 2" in message
    assert reason in message
    assert "invalid_rows: drop" in message
    assert not (tmp_path / "rows.parquet").exists()
    with (tmp_path / "rejected.csv").open(newline="") as file:
        (entry,) = csv.DictReader(file)
    assert entry["file"] == "rows.jsonl"
    assert entry["line"] == "2"
    assert reason in entry["reason"]


def test_duplicate_id_names_the_first_line(tmp_path):
    with pytest.raises(StudyError, match="line 3, id a: duplicate id, first used in line 1"):
        run(tmp_path, GOOD, {**GOOD, "id": "b"}, GOOD)


def test_drop_keeps_the_good_rows_and_lists_the_bad(tmp_path):
    rows = run(tmp_path, BAD["identical"][0], GOOD, BAD["no UTF-8"][0], invalid_rows="drop")
    assert [r["id"] for r in rows] == ["a"]
    assert len((tmp_path / "rejected.csv").read_text().splitlines()) == 3


def test_nothing_valid_is_an_error_even_when_dropping(tmp_path):
    for invalid_rows in ("stop", "drop"):
        with pytest.raises(StudyError, match="line 1, id b: chosen and rejected are identical") as error:
            run(tmp_path, BAD["identical"][0], invalid_rows=invalid_rows)
        assert "\nNo row is valid: mend the file, or say in preferences.columns what" in str(error.value)
        assert "drop" not in str(error.value)
    (tmp_path / "rows.json").write_text("[]")
    with pytest.raises(StudyError, match=r"rows\.json: holds no row; preferences needs at least one"):
        run(tmp_path, path="rows.json")


def test_strings_become_messages_and_messages_stay(tmp_path):
    turns = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Why?\n"}]
    run(tmp_path, {**GOOD, "prompt": turns}, {**GOOD, "id": "b"})
    first, second = corpus.load_rows(tmp_path / "rows.parquet")
    assert first["prompt"] == turns
    assert second["prompt"] == [{"role": "user", "content": "Why?"}]
    assert second["chosen"] == [{"role": "assistant", "content": "Because."}]
    assert second["subset"] == "chat"


def test_keys_without_a_value_are_no_keys(tmp_path):
    """As Arrow fills them in where another message has them."""
    nulls = {"name": None, "tool_calls": None}
    turns = [{"role": role, "content": "x", **nulls} for role in ("system", "user", "assistant", "user")]
    (row,) = run(tmp_path, {**GOOD, "prompt": turns, "chosen": [{"role": "assistant", "content": "y", **nulls}]})
    assert row["prompt"] == [{"role": m["role"], "content": "x"} for m in turns]
    assert row["chosen"] == [{"role": "assistant", "content": "y"}]


def test_instructions_need_only_a_prompt(tmp_path):
    (row,) = run(tmp_path, {"id": "a", "prompt": "Why?"}, role="instructions")
    assert set(row) == {"id", "subset", "prompt"}


@pytest.mark.parametrize(
    ("sections", "subsets", "named"),
    [
        (
            "rewardbench",
            ["chat", "chatty", "hep-go"],
            r"rows\.jsonl: row '1' has subset 'chatty', .* 'rewardbench'; .*chat-hard",
        ),
        ("rewardbench", ["chat", None, "x"], r"rows\.jsonl: 2 rows, the first is '1', has subset None"),
        ("subsets", ["a", "b", ""], r"row '2' has subset '', .* needs one of a subset, any string"),
    ],
)
def test_a_subset_that_no_section_knows_stops_before_anything_is_done(tmp_path, sections, subsets, named):
    rows = [{**GOOD, "id": str(i), "subset": subset} for i, subset in enumerate(subsets)]
    with pytest.raises(StudyError, match=named):
        run(tmp_path, *rows, table=sections)
    run(tmp_path, *rows)  # no benchmark


def test_columns_are_renamed(tmp_path):
    columns = {"id": "key", "prompt": "question"}
    (row,) = run(tmp_path, {"key": "a", "question": "Why?", "chosen": "y", "rejected": "n"}, columns=columns)
    assert row["prompt"][0]["content"] == "Why?"


def test_parquet_comes_in_too(tmp_path):
    pq.write_table(pa.Table.from_pylist([GOOD]), tmp_path / "in.parquet")
    (row,) = run(tmp_path, GOOD, path="in.parquet")
    assert row["id"] == "a"
    (tmp_path / "in.parquet").write_bytes(b"PAR1 cut off")
    with pytest.raises(StudyError, match=r"in\.parquet is a Parquet file that was cut off"):
        run(tmp_path, GOOD, path="in.parquet")


def test_a_byte_order_mark_and_blank_lines_are_no_fault(tmp_path):
    (row,) = run(tmp_path, b"\xef\xbb\xbf" + json.dumps(GOOD).encode(), b"")
    assert row["id"] == "a"


@given(st.lists(st.text(min_size=1), unique=True, min_size=1))
def test_ids_survive_whatever_they_hold(tmp_path_factory, ids):
    path = tmp_path_factory.mktemp("ids") / "ids.jsonl"
    corpus.save_ids(ids, path)
    assert corpus.load_ids(path) == ids


def test_rows_come_back_in_the_order_asked_for(tmp_path):
    run(tmp_path, GOOD, {**GOOD, "id": "b"}, {**GOOD, "id": "c"})
    assert [r["id"] for r in corpus.load_rows(tmp_path / "rows.parquet", ["c", "a"])] == ["c", "a"]


def test_an_id_may_be_joined_from_columns_or_be_the_row_number(tmp_path):
    numbered = [{**GOOD, "id": n, "source": "hep"} for n in (0, 7)]
    rows = run(tmp_path, *numbered, columns={"id": ["source", "id"]})
    assert [row["id"] for row in rows] == ["hep/0", "hep/7"]
    without = [{k: v for k, v in GOOD.items() if k != "id"}] * 2
    assert [row["id"] for row in run(tmp_path, *without, columns={"id": "{row}"})] == ["1", "2"]
    with pytest.raises(StudyError, match=r"missing id \(columns source, id\)"):
        run(tmp_path, GOOD, columns={"id": ["source", "id"]})


def test_lists_of_answers_become_pairs_that_hold_every_answer(tmp_path):
    best_of_4 = {"id": "7", "prompt": "p", "chosen": ["good"], "rejected": ["bad", "worse", "worst"], "subset": "Math"}
    ties = {"id": "tied:3", "prompt": "p", "chosen": ["a", "b", "c"], "rejected": ["x", "y"], "subset": "Ties"}
    rows = run(tmp_path, best_of_4, ties, role="benchmark", sections="rewardbench2")
    shown = [(row["id"], row["chosen"][0]["content"], row["rejected"][0]["content"]) for row in rows]
    assert shown == [
        ("7/0/0", "good", "bad"),
        ("7/0/1", "good", "worse"),
        ("7/0/2", "good", "worst"),
        ("tied:3/0/0", "a", "x"),
        ("tied:3/1/1", "b", "y"),
        ("tied:3/2/0", "c", "x"),
    ]
    with pytest.raises(StudyError, match="chosen and rejected must be lists of answers"):
        run(tmp_path, GOOD, role="benchmark", sections="rewardbench2")


@pytest.fixture
def hub(tmp_path):
    """A data set as the hub keeps it: one configuration per language, named in FLORES codes. Loaded from its folder."""
    folder = tmp_path / "bench"
    for code, prompt in (("spa_Latn", "¿Por qué?"), ("kor_Hang", "왜?")):
        (folder / code).mkdir(parents=True)
        table = {"id": [1], "source": ["hep-go"], "prompt": [prompt], "chosen": ["a"], "rejected": ["b"]}
        pq.write_table(pa.table(table), folder / code / "test-0.parquet")
    configs = "".join(
        f"- config_name: {c}\n  data_files:\n  - split: test\n    path: {c}/test-*\n" for c in ("spa_Latn", "kor_Hang")
    )
    (folder / "README.md").write_text(f"---\nconfigs:\n{configs}---\n")
    return {
        "hub": str(folder),
        "revision": "main",
        "split": "test",
        "name": "{language}",
        "codes": "flores",
        "columns": {"id": ["source", "id"], "subset": "source"},
        "invalid_rows": "stop",
    }


def from_hub(source, tmp_path, language="es"):
    corpus.import_rows(source, "benchmark", language, tmp_path, tmp_path / "o.parquet", tmp_path / "l.csv")
    return corpus.load_rows(tmp_path / "o.parquet")


def test_a_hub_data_set_has_a_configuration_per_language(hub, tmp_path):
    (row,) = from_hub(hub, tmp_path, "ko")
    assert (row["id"], row["subset"], row["prompt"][0]["content"]) == ("hep-go/1", "hep-go", "왜?")


def test_a_hub_data_set_without_a_column_names_those_it_has(hub, tmp_path):
    hub["columns"] = {"prompt": "question"}
    with pytest.raises(StudyError, match="has no column question but id, source, prompt, chosen, rejected; name its"):
        from_hub(hub, tmp_path)


def test_a_hub_data_set_that_cannot_be_read_says_why(hub, tmp_path):
    with pytest.raises(StudyError, match=r"cannot be read \(configuration 'ita_Latn', split 'test'\).*ita_Latn"):
        from_hub(hub, tmp_path, "it")


def lines(count):
    draw = random.Random(count)
    for number in range(count):
        yield {**GOOD, "id": str(number), "chosen": draw.randbytes(400).hex()}  # not to be compressed to nothing


def test_rows_are_read_and_stored_in_memory_that_does_not_grow_with_them(tmp_path):
    peaks = []
    for count in (100, 4_000, 16_000):  # the first imports what there is to import
        write(tmp_path / "many.jsonl", *lines(count))
        entry = {"path": "many.jsonl", "invalid_rows": "stop"}
        tracemalloc.start()
        corpus.import_rows(entry, "preferences", "en", tmp_path, tmp_path / "many.parquet", tmp_path / "l.csv")
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[2] < 1.5 * peaks[1]  # the ids, to find one that is there twice
    assert pq.ParquetFile(tmp_path / "many.parquet").metadata.num_rows == 16_000

    before = pa.total_allocated_bytes()
    rows = corpus.iter_rows(tmp_path / "many.parquet")
    assert next(rows)["id"] == "0"
    assert pa.total_allocated_bytes() - before < 16_000 * 800  # what the file holds
    assert sum(1 for _ in rows) == 15_999

"""Before anything is spent, rows that no base can render are named, with base and reason."""

import json

import pytest
from transformers import LlamaConfig

from conftest import GEMMA, build_tokenizer, pair
from rmtransfer.kit.errors import StudyError
from rmtransfer.models.templates import check_templates
from rmtransfer.texts.corpus import save_rows

NO_SYSTEM = "{% if messages[0]['role'] == 'system' %}{{ raise_exception('no system role here') }}{% endif %}" + GEMMA


@pytest.fixture
def study(tmp_path):
    for family in ("llama", "gemma"):
        build_tokenizer(family).save_pretrained(tmp_path / family)
        LlamaConfig(max_position_embeddings=512).save_pretrained(tmp_path / family)
    (tmp_path / "no_system.jinja").write_text(NO_SYSTEM)
    rows = [pair(f"r{i}", "Where?", "Here.", "There.") for i in range(9)]
    for row in rows[:7]:
        row["prompt"].insert(0, {"role": "system", "content": "Be brief."})
    save_rows(rows, tmp_path / "preferences.parquet")
    save_rows([{"id": "i", "subset": None, "prompt": rows[8]["prompt"]}], tmp_path / "instructions.parquet")
    return tmp_path


def check(study, stop_at, others=None, max_length=512, **bases):
    models = {f"base_models.{name}": options for name, options in bases.items()} | (others or {})
    parts = {part: study / f"{part}.parquet" for part in ("preferences", "instructions")}
    check_templates(models, parts, stop_at, max_length, study, study / "corpus/out.json")
    return json.loads((study / "corpus/out.json").read_text())


LLAMA = {"path": "llama"}
STRICT = {"path": "gemma", "chat_template": "no_system.jinja"}


def test_rows_that_every_base_renders_pass(study):
    found = check(study, ["preferences", "instructions"], llama=LLAMA)
    assert found == {
        "templates": {"base_models.llama": {"system": "rendered", "turns": "rendered"}},
        "refused": {"preferences": {}, "instructions": {}},
    }


def test_a_study_that_trains_on_more_than_a_base_reads_stops_there(study):
    with pytest.raises(
        StudyError, match=r"training.max_length: 513 is more than the 512 tokens that the base model llama"
    ):
        check(study, [], max_length=513, llama=LLAMA)


def test_refused_rows_stop_the_study_with_base_and_words(study):
    with pytest.raises(StudyError) as error:
        check(study, ["preferences"], llama=LLAMA, strict=STRICT)
    said = str(error.value)
    assert said.startswith("preferences: 7 of 9 rows")
    assert "row 'r0': the chat template of base_models.strict refuses it: no system role here" in said
    assert "... and 2 more" in said
    assert "invalid_rows: drop" in said


def test_they_are_listed_where_the_study_drops_them(study):
    found = check(study, [], llama=LLAMA, strict=STRICT)
    assert found["templates"]["base_models.strict"]["system"] == "no system role here"
    assert list(found["refused"]["preferences"]) == [f"r{i}" for i in range(7)]


def test_a_part_without_any_row_left_stops_whatever_is_dropped(study):
    (study / "no_system.jinja").write_text(
        GEMMA + "{% if messages | length == 1 %}{{ raise_exception('no') }}{% endif %}"
    )
    with pytest.raises(StudyError, match="instructions: 1 of 1 rows"):
        check(study, [], strict=STRICT)


def test_a_model_of_others_that_refuses_a_row_of_its_benchmark_stops_the_study_unless_a_base_does(study):
    theirs = {"reward_models.theirs": {**STRICT, "parts": ["preferences"], "system": False}}
    with pytest.raises(StudyError, match="preferences: 7 of 9 rows") as error:
        check(study, [], theirs, llama=LLAMA)
    assert "row 'r0': the chat template of reward_models.theirs refuses it: no system role here" in str(error.value)
    check(study, [], theirs, strict=STRICT)


def test_a_judge_whose_template_has_no_system_message(study):
    judge = {"reward_models.judge": {**STRICT, "parts": [], "system": True}}
    with pytest.raises(
        StudyError, match=r"reward_models\.judge\.system: the chat template does not .*no system role here"
    ):
        check(study, [], judge, llama=LLAMA)
    judge["reward_models.judge"]["system"] = False
    check(study, [], judge, llama=LLAMA)


def test_a_folder_without_a_tokenizer(study):
    (study / "empty").mkdir()
    with pytest.raises(StudyError, match=r"base_models\.m\.path: the tokenizer of 'empty' does not load"):
        check(study, [], m={"path": "empty"})

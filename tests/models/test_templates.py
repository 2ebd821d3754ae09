"""Before anything is spent, rows that a model does not render or read whole are named, with model and reason."""

import json

import pytest
from transformers import BertConfig, LlamaConfig, RobertaConfig

from conftest import GEMMA, build_tokenizer, encoder_tokenizer, pair
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


LLAMA = {"path": "llama", "parts": []}
STRICT = {"path": "gemma", "chat_template": "no_system.jinja", "parts": []}


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


def test_a_row_of_which_a_template_leaves_out_a_message_is_refused_by_a_base_alone(study):
    """What a model of others leaves out it was trained without."""
    system = "{% for m in messages if m['role'] != 'system' %}{{ m['content'] }}{% endfor %}"
    turns = "{{ messages[0]['content'] }}{{ messages[-1]['content'] }}"
    (study / "no_system.jinja").write_text(system)
    (study / "last.jinja").write_text(turns)
    found = check(study, [], llama=LLAMA, strict=STRICT)
    assert found["templates"]["base_models.strict"] == {"system": "ignored", "turns": "rendered"}
    words = "the chat template of base_models.strict leaves out its system message"
    assert found["refused"]["preferences"] == {f"r{i}": words for i in range(7)}
    check(study, ["preferences"], {"reward_models.theirs": {**STRICT, "parts": ["preferences"]}}, llama=LLAMA)
    several = pair("r9", "Where?", "Here.", "There.")
    several["prompt"] = [*several["prompt"], *several["chosen"], *several["prompt"]]
    save_rows([several, pair("r8", "Where?", "Here.", "There.")], study / "preferences.parquet")
    last = {"path": "llama", "chat_template": "last.jinja", "parts": []}
    found = check(study, [], last=last)
    assert found["refused"]["preferences"] == {
        "r9": "the chat template of base_models.last leaves out some of its turns"
    }


def test_a_policy_is_asked_about_the_prompts_that_it_answers(study):
    policy = {"policies.p": {**STRICT, "parts": ["instructions"]}}
    check(study, [], policy, llama=LLAMA)
    (study / "no_system.jinja").write_text(
        GEMMA + "{% if messages | length == 1 %}{{ raise_exception('no') }}{% endif %}"
    )
    with pytest.raises(
        StudyError, match=r"instructions: 1 of 1 rows(.|\n)*chat template of policies\.p refuses it: no"
    ):
        check(study, [], policy, llama=LLAMA)


@pytest.mark.parametrize(
    ("options", "most", "remedy"),
    [
        ({}, 512, "or raise reward_models.theirs.max_length"),
        ({"max_length": 40}, 40, "or raise reward_models.theirs.max_length"),
        ({"pair": True, "path": "encoder"}, 62, "or raise reward_models.theirs.max_length"),
        (None, 512, "remove the row$"),
    ],
)
def test_a_row_of_a_benchmark_that_a_model_does_not_read_whole(study, options, most, remedy):
    encoder_tokenizer(roberta=True).save_pretrained(study / "encoder")
    RobertaConfig(max_position_embeddings=64, pad_token_id=1, vocab_size=400).save_pretrained(study / "encoder")
    save_rows(
        [pair("r0", "Where?", "Here.", "There."), pair("long", "Why? " * 10, "No " * 600, "No.")],
        study / "preferences.parquet",
    )
    check(study, [], llama=LLAMA)
    mine = {**LLAMA, "parts": ["preferences"]}
    others = None if options is None else {"reward_models.theirs": {**mine, **options}}
    key = "base_models.llama" if options is None else "reward_models.theirs"
    with pytest.raises(
        StudyError, match=rf"{key}: row 'long' of preferences has .* more than the {most} .*; .*{remedy}"
    ):
        check(study, [], others, llama=mine if options is None else LLAMA)


def test_an_encoder_that_would_read_a_text_without_its_special_tokens(study):
    encoder_tokenizer(roberta=False).save_pretrained(study / "encoder")
    BertConfig().save_pretrained(study / "encoder")
    (study / "plain.jinja").write_text("{% for m in messages %}{{ m['content'] }}{% endfor %}")
    plain = {"path": "encoder", "chat_template": "plain.jinja", "pair": False, "parts": []}
    with pytest.raises(StudyError, match=r"reward_models\.theirs: .* no \[CLS\] .*theirs\.pair: true"):
        check(study, [], {"reward_models.theirs": plain}, llama=LLAMA)
    with pytest.raises(StudyError, match=r"no chat template; name .* or set reward_models\.theirs\.pair: true"):
        check(study, [], {"reward_models.theirs": {"path": "encoder", "pair": False, "parts": []}}, llama=LLAMA)
    check(study, [], {"reward_models.theirs": {"path": "encoder", "pair": True, "parts": ["preferences"]}}, llama=LLAMA)

"""A path says what it is: what a pattern formats, it parses."""

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rmtransfer.kit.errors import StudyError
from rmtransfer.study.layout import Layout, Pattern, any_of
from rmtransfer.study.study import RewardModelId

AT = Layout("s", "en")
PATTERNS = {name: pattern for name, pattern in vars(AT).items() if isinstance(pattern, Pattern)}
SLUG = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9_-]{0,8}", fullmatch=True)


@pytest.mark.parametrize("name", PATTERNS)
@given(data=st.data())
def test_every_pattern_parses_what_it_formats(name, data):
    pattern = PATTERNS[name]
    fields = pattern.parse(pattern)  # its own text, with the names of the fields in their places
    chosen = {field: data.draw(SLUG) for field in fields}
    if "reward_model" in chosen:
        chosen["reward_model"] = f"{chosen['reward_model']}/{data.draw(SLUG)}/seed{data.draw(st.integers(0, 99))}"
    assert pattern.parse(pattern.fill(**chosen)) == chosen


def test_all_patterns_were_tried():
    assert len(PATTERNS) >= 25


def test_patterns_of_different_artifacts_never_name_the_same_file():
    """Every field filled with the same word: two patterns that agree then would overwrite each other."""
    paths = [pattern.fill(**dict.fromkeys(pattern.parse(pattern), "x")) for pattern in PATTERNS.values()]
    assert len(set(paths)) == len(paths)


def test_a_strange_path_is_refused_with_the_form_that_is_expected():
    with pytest.raises(
        StudyError, match=r"elsewhere\.parquet: is no path of the form results/s/scores/\{reward_model\}"
    ):
        AT.scores.parse("elsewhere.parquet")


@pytest.mark.parametrize("identity", ["llama/es/seed0", "llama/en-ko/seed17", "armorm-8b", "llama/base"])
def test_a_reward_models_id_is_its_folder(identity):
    assert RewardModelId.parse(identity).id == identity


@pytest.mark.parametrize("identity", ["a/b", "a/base/seed0", "a/b/c", "a/b/seedx", "a/b/seed0/c", "a/b/seed"])
def test_what_is_no_reward_models_id(identity):
    with pytest.raises(StudyError, match="is no reward model's id"):
        RewardModelId.parse(identity)


def test_the_language_of_a_file_is_read_from_its_path():
    rows = AT.rows("preferences", "en"), AT.rows("preferences", "es-x-nllb")
    assert [AT.language_of(path) for path in rows] == ["en", "es-x-nllb"]
    others = [
        AT.answers.fill(base="b", language="ko"),
        AT.answer_rewards.fill(reward_model="b/en/seed0", base="b", language="ko"),
        AT.scores.fill(reward_model="b/en/seed0", benchmark="m", language="ko"),
        AT.states.fill(reward_model="b/base", benchmark="m", language="ko"),
        AT.back_rows.fill(part="m", language="ko"),
    ]
    assert {AT.language_of(Path(path)) for path in others} == {"ko"}


def test_a_wildcard_is_one_of_the_names_and_of_none_it_is_nothing():
    assert re.fullmatch(any_of(["a.b", "c"]), "a.b")
    assert not re.fullmatch(any_of(["a.b", "c"]), "axb")
    assert not any(re.fullmatch(any_of([]), name) for name in ("", "a"))


NAMES = [
    "a.b/en/seed0",
    "a.b/en/seed1",
    "a.b/es/seed0",
    "a.b/es/seed1",
    "c/en/seed0",
    "c/base",
    "c",
    "random",
    "en-x-a",
    "en",
]


def test_a_regular_expression_of_names_matches_them_and_nothing_else():
    pattern = re.compile(f"results/(?P<name>{any_of(NAMES)})/x")
    for name in NAMES:
        assert pattern.fullmatch(f"results/{name}/x")["name"] == name
    for other in (
        "a.b",
        "a.b/en",
        "axb/en/seed0",
        "c/en/seed1",
        "c/base/seed0",
        "en/seed0",
        "a.b/en/seed",
        "c/",
        "en-x",
    ):
        assert not pattern.fullmatch(f"results/{other}/x"), other
    grid = [f"{base}/{language}/seed{seed}" for base in "abc" for language in NAMES[-2:] for seed in range(9)]
    assert len(any_of(grid)) < 100  # each step once

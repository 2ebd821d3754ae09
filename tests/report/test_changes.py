"""Old value and new, named as the configuration names them, from what Snakemake records: values without names."""

import base64

import pytest

from rmtransfer.report.changes import (
    ABSENT,
    clauses,
    config_key,
    environment_change,
    input_changes,
    params_changes,
)

CONFIG = {
    "training": {"learning_rate": 2e-5, "epochs": 1, "adapter": None, "max_length": 500},
    "alignment": {"temperature": 0.8, "samples": 4},
    "figures": {"dpi": 300},
    "base_models": {"a": {"path": "x", "revision": "1"}, "b": {"path": "x", "revision": "2"}},
    "seeds": [0],
}
RECIPE = {"learning_rate": 5e-5, "epochs": 1, "adapter": {"rank": 16}}


def told(before: dict, now: dict, **options) -> list[tuple]:
    recorded = sorted(map(repr, before.values()))
    return [(".".join(c.path), c.before, c.now) for c in params_changes(recorded, now, **options)]


@pytest.mark.parametrize(
    ("before", "now", "expected"),
    [
        ({"recipe": RECIPE}, {"recipe": RECIPE}, []),
        (
            {"recipe": RECIPE, "pairs": None, "rows": ["0a"], "version": 3},
            {"recipe": {**RECIPE, "learning_rate": 2e-5}, "pairs": None, "rows": ["0b"], "version": 3},
            [("recipe.learning_rate", 5e-5, 2e-5), ("rows", ["0a"], ["0b"])],
        ),
        ({"recipe": RECIPE}, {"recipe": {**RECIPE, "adapter": {"rank": 8}}}, [("recipe.adapter.rank", 16, 8)]),
        (
            {"recipe": RECIPE},
            {"recipe": {"learning_rate": 5e-5, "epochs": 1}},
            [("recipe.adapter", {"rank": 16}, ABSENT)],
        ),
        # Two values that are equal are two: a set would not see that one of them is another now.
        ({"version": 2, "samples": 2}, {"version": 3, "samples": 2}, [("version", 2, 3)]),
        ({"version": 3, "seed": 0}, {"version": 4, "seed": 1}, [("version", 3, 4), ("seed", 0, 1)]),
        ({"source": "en", "language": "es"}, {"source": "de", "language": "es"}, [("source", "en", "de")]),
        (
            {"options": {"a": 1}, "style": {"dpi": 72}},
            {"options": {"a": 1}, "style": {"dpi": 80}},
            [("style.dpi", 72, 80)],
        ),
        ({"pairs": None}, {"pairs": 8}, [("pairs", None, 8)]),
        ({"version": 1}, {"version": 1, "caption": "new"}, [("caption", ABSENT, "new")]),
        ({"version": 1, "caption": "old"}, {"version": 1}, [("", "old", ABSENT)]),
        ({"share": 1}, {"share": 1.0}, [("share", 1, 1.0)]),
        ({"on": True}, {"on": False}, [("on", True, False)]),
    ],
)
def test_old_values_find_their_names(before, now, expected):
    assert told(before, now) == expected


def test_a_value_that_cannot_be_known_yet_is_not_said_to_be_gone():
    assert told({"rows": ["0a"], "version": 3}, {"version": 4}, complete=False) == [("version", 3, 4)]


def test_the_key_is_the_configurations():
    (rate,) = params_changes([repr(RECIPE)], {"recipe": {**RECIPE, "learning_rate": 2e-5}})
    assert config_key(rate, CONFIG) == "training.learning_rate"
    assert config_key(rate._replace(before=2e-5, now=5e-5), CONFIG) == "training.learning_rate"
    (adapter,) = params_changes([repr(RECIPE)], {"recipe": {"learning_rate": 5e-5, "epochs": 1}})
    assert config_key(adapter, CONFIG) == "training.adapter"
    (longest,) = params_changes(["{'preferences': 512}"], {"max_length": {"preferences": 500}})
    assert config_key(longest, CONFIG) == "training.max_length"
    # Of two of one name and value, the one that the same stands beside; where nothing tells, what the rule calls it.
    (path,) = params_changes(["{'path': 'y', 'revision': '2'}"], {"options": {"path": "x", "revision": "2"}})
    assert config_key(path, CONFIG) == "base_models.b.path"
    (path,) = params_changes(["{'path': 'y'}"], {"options": {"path": "x"}})
    assert config_key(path, CONFIG) is None


@pytest.mark.parametrize(
    ("before", "now", "script", "expected"),
    [
        (
            {"recipe": RECIPE},
            {"recipe": {**RECIPE, "learning_rate": 2e-5}},
            "train_reward_model",
            "training.learning_rate was 5e-05 and is 2e-05",
        ),
        (
            {"version": 3},
            {"version": 4},
            "train_reward_model",
            "the code of TRAINING changed what it computes, version 3 -> 4",
        ),
        (
            {"rows": ["0a"]},
            {"rows": ["0b"]},
            "score",
            "the content of its selected rows changed (corpus/*.dropped.csv says which are left out)",
        ),
        ({}, {"seed": 1}, "score", "seed is new and is 1"),
        (
            {"recipe": RECIPE},
            {"recipe": {"epochs": 1, "learning_rate": 5e-5}},
            "",
            "training.adapter was {'rank': 16} and is gone",
        ),
        ({"text": "x" * 99}, {"text": ""}, "", f"text was {'x' * 57}... and is ''"),
    ],
)
def test_clauses(before, now, script, expected):
    assert clauses(params_changes(list(map(repr, before.values())), now), script, CONFIG) == [expected]


def test_of_a_stage_that_was_raised_only_the_configurations_changes_are_named():
    before, now = {"version": 4, "source": "en", "recipe": RECIPE}, {"version": 5, "names": {"a": ""}}
    changes = params_changes(list(map(repr, before.values())), {**now, "recipe": {**RECIPE, "learning_rate": 2e-5}})
    assert clauses(changes, "draw_figure", CONFIG) == [
        "the code of FIGURES changed what it computes, version 4 -> 5",
        "training.learning_rate was 5e-05 and is 2e-05",
    ]
    assert len(clauses(params_changes(["'en'"], {"names": {"a": ""}}), "draw_figure", CONFIG)) == 2


def test_inputs_that_came_and_went():
    assert input_changes(["a", "b"], ["a", "b"]) == []
    assert input_changes(["a", "b"], ["c", "b", "d"]) == ["it reads c and 1 more too", "it no longer reads a"]


def test_an_environment_shows_the_lines_that_changed():
    old, new = (
        base64.b64encode(text.encode()).decode() for text in ("- torch==2.12\n- numpy\n", "- torch==2.13\n- numpy\n")
    )
    assert environment_change(old, new) == "its environment file changed: - - torch==2.12, + - torch==2.13"
    assert environment_change(old, old) == "its software is another (--sdm), of the same description"

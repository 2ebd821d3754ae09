"""What every kind of reward model has, and that they share one way of being scored and checked."""

import subprocess
import sys
from typing import get_args

import pandas as pd
import pytest
from pydantic import ValidationError

from conftest import ROOT, name_model, pair
from rmtransfer.kit.errors import StudyError
from rmtransfer.scoring.job import Outputs, score
from rmtransfer.study.catalogue import JUDGE_PROTOCOLS, REWARD_MODELS, load
from rmtransfer.study.options import Options
from scored import classifier, run, settings

KINDS = {name: load(REWARD_MODELS, name) for name in REWARD_MODELS}
COMMIT = "0123456789" * 4


def test_every_kind_says_how_it_is_configured():
    assert len(KINDS) == 9
    for name, kind in KINDS.items():
        assert issubclass(kind.Options, Options)
        fields = kind.Options.model_fields
        assert get_args(fields["kind"].annotation) == (name,)
        assert fields["kind"].is_required()
        assert {*kind.models, *kind.models.values()} <= fields.keys()
        assert set(kind.tokenizer_only) <= kind.models.keys()
        undescribed = [key for key, field in fields.items() if key != "kind" and not field.description]
        assert not undescribed, (name, undescribed)


def test_every_protocol_of_a_judge_can_be_chosen():
    assert len(JUDGE_PROTOCOLS) == 2
    for mode in JUDGE_PROTOCOLS:
        assert KINDS["judge"].Options(kind="judge", mode=mode, path="x").mode == mode
        protocol = load(JUDGE_PROTOCOLS, mode)
        assert all(f"{{{place}}}" in protocol.PROMPT for place in protocol.PLACES)
    with pytest.raises(ValidationError, match="'pairwise' or 'rating'"):
        KINDS["judge"].Options(kind="judge", mode="ranking", path="x")


def test_an_unknown_kind_is_an_error_and_no_other_kind(tmp_path):
    with pytest.raises(StudyError, match="'bogus' is none of trained, classifier,"):
        run(tmp_path, {"kind": "bogus"}, {"en": [pair("a", "Q", "yes", "no")]})
    assert not (tmp_path / "scores").exists()


CONFIGURED = """
from rmtransfer.study.catalogue import JUDGE_PROTOCOLS, REWARD_MODELS, load
found = [load(catalogue, name) for catalogue in (REWARD_MODELS, JUDGE_PROTOCOLS) for name in catalogue]
assert len(found) == 11
"""
SCORED = """
from pathlib import Path
from rmtransfer.scoring.job import Outputs, score
say = lambda text: [{"role": "user", "content": text}]
row = {"id": "a", "subset": None, "prompt": say("Q"), "chosen": say("yes"), "rejected": say("no")}
for options in ({"kind": "length", "unit": "characters"}, {"kind": "random"}):
    out = Path(sys.argv[1]) / options["kind"] / "en.parquet"
    machine = {"tokens_per_batch": 1, "requests_at_once": 1, "device": "cpu"}
    score(options, "x", {"en": [row]}, Outputs({"en": out}), Path(sys.argv[1]), **machine)
    assert out.is_file()
"""


@pytest.mark.parametrize(
    ("code", "heavy"),
    [
        (CONFIGURED, "torch transformers datasets pandas numpy sklearn scipy requests deepl pyarrow lxml jinja2"),
        (SCORED, "torch transformers datasets"),
    ],
    ids=["configured", "scored"],
)
def test_what_needs_no_model_imports_none(tmp_path, code, heavy):
    """Every job of a cluster parses the configuration, and a baseline starts at once."""
    code = f"import sys\n{code}\nprint([name for name in {heavy.split()!r} if name in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)],
        capture_output=True,
        text=True,
        env={"PYTHONPATH": str(ROOT / "workflow")},
    )
    assert done.stdout == "[]\n", done.stdout + done.stderr


def problems(options: dict, root=ROOT, bases=("gemma",)) -> list[str]:
    kind = KINDS[options["kind"]]
    return list(kind.check(kind.Options(**options), "reward_models.x", bases, root))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"kind": "random"}, []),
        ({"kind": "classifier", "path": "org/name", "revision": COMMIT}, []),
        ({"kind": "likelihood", "path": "gemma"}, []),
        (
            {"kind": "classifier", "path": "org/name"},
            ["reward_models.x.path: 'org/name' has no revision; add the model's commit, a branch can move"],
        ),
        (
            {"kind": "implicit", "policy": "./lost", "reference": "org/name", "revision": COMMIT},
            [
                "reward_models.x.policy: './lost' is not a folder; correct the path",
                "reward_models.x.reference: 'org/name' has no reference_revision; add the model's commit, a branch can move",
            ],
        ),
        (
            {"kind": "classifier", "path": "gemma", "chat_template": "lost.jinja"},
            ["reward_models.x.chat_template: 'lost.jinja' does not exist; correct the path"],
        ),
        (
            {"kind": "judge", "mode": "rating"},
            ["reward_models.x: give either path or server, not both and not neither"],
        ),
        (
            {"kind": "judge", "mode": "rating", "path": "gemma", "server": {"url": "u", "model": "m"}},
            ["reward_models.x: give either path or server, not both and not neither"],
        ),
        (
            {"kind": "judge", "mode": "pairwise", "path": "gemma", "prompt": "{prompt} {answer_a}"},
            ["reward_models.x.prompt: does not hold {answer_b}; put it where that text goes"],
        ),
        (
            {"kind": "length", "unit": "tokens"},
            ["reward_models.x.tokenizer: needed for unit: tokens, and only there"],
        ),
        (
            {"kind": "length", "unit": "characters", "tokenizer": "gemma"},
            ["reward_models.x.tokenizer: needed for unit: tokens, and only there"],
        ),
        (
            {"kind": "trained", "path": "gemma", "head": False},
            ["reward_models.x.head: without its head the model has no rewards for the tables; remove it"],
        ),
    ],
)
def test_what_an_entry_must_hold_is_said_with_its_key(options, said):
    assert problems(options) == said


NAMED = {
    "trained": {"path": "{}"},
    "classifier": {"path": "{}"},
    "implicit": {"policy": "{}", "reference": "gemma"},
    "judge": {"mode": "rating", "path": "{}"},
    "likelihood": {"path": "{}"},
    "length": {"unit": "tokens", "tokenizer": "{}"},
}


@pytest.mark.parametrize("kind", NAMED)
def test_a_folder_must_hold_a_model(tmp_path, kind):
    folder = name_model(tmp_path / "model")
    (folder / "manifest.json").write_text("{}")

    def said() -> list[str]:
        return problems({"kind": kind, **{k: v.replace("{}", str(folder)) for k, v in NAMED[kind].items()}})

    assert said() == []
    (folder / "adapter_config.json").write_text('{"base_model_name_or_path": "org/base"}')
    (folder / "model.safetensors").unlink()
    adapter = said()
    (folder / "adapter_config.json").unlink()
    (folder / "tokenizer.json").unlink()
    (folder / "manifest.json").unlink()
    (problem,) = said()
    assert problem.startswith(
        f"reward_models.x.{list(NAMED[kind])[-1 if kind in ('judge', 'length') else 0]}: '{folder}' holds no "
    )
    if kind in ("trained", "length"):  # ours may be an adapter; of others nothing but the tokenizer is read
        assert adapter == []
    else:
        (problem,) = adapter
        assert "holds an adapter of org/base and no model" in problem


@pytest.mark.parametrize("revision", ["main", "v1.0", COMMIT[:7], COMMIT.upper() + "A"])
def test_a_branch_or_a_tag_is_no_commit(revision):
    with pytest.raises(ValidationError, match="pattern"):
        KINDS["classifier"].Options(kind="classifier", path="org/name", revision=revision)


def test_which_kinds_load_weights():
    server = {"server": {"url": "u", "model": "m"}}
    for options, expected in [
        ({"kind": "trained", "path": "x"}, True),
        ({"kind": "classifier", "path": "x"}, True),
        ({"kind": "implicit", "policy": "x", "reference": "y"}, True),
        ({"kind": "judge", "mode": "rating", "path": "x"}, True),
        ({"kind": "judge", "mode": "rating", **server}, False),
        ({"kind": "likelihood", "path": "x"}, True),
        ({"kind": "length", "unit": "tokens", "tokenizer": "x"}, False),
        ({"kind": "random"}, False),
    ]:
        kind = KINDS[options["kind"]]
        assert kind.runs_a_model(kind.Options(**options)) is expected, options


def test_rows_that_share_a_prompt_get_the_rewards_that_they_get_alone(tmp_path, bases, pairs, monkeypatch):
    """RewardBench 2 sets a chosen answer against three rejected ones, in three rows."""
    folder = classifier(bases["llama"], tmp_path / "rm")
    rows = [
        pair(
            f"i/{i}/{j}", p["prompt"][0]["content"], p["chosen"][0]["content"], f"No, {p['id']}, not {'so ' * j}at all"
        )
        for i, p in enumerate(pairs)
        for j in range(3)
    ]
    for options in (
        {"kind": "classifier", "path": str(folder)},
        {"kind": "likelihood", "path": str(bases["llama"])},
        {"kind": "length", "unit": "tokens", "tokenizer": str(bases["qwen"])},
    ):
        together = run(tmp_path, options, {"en": rows})["en"]
        with monkeypatch.context() as patch:
            patch.setattr(KINDS[options["kind"]], "by_text", False)
            alone = run(tmp_path / options["kind"], options, {"en": rows})["en"]
        assert together["id"].tolist() == [row["id"] for row in rows]
        assert together["reward_rejected"].nunique() > 3
        pd.testing.assert_frame_equal(together, alone, atol=1e-5, rtol=0)


def test_settings_repeat_what_the_user_named(tmp_path, bases, pairs):
    options = {"kind": "length", "unit": "tokens", "tokenizer": str(bases["qwen"])}
    run(tmp_path, options, {"en": pairs})
    named = settings(tmp_path)
    assert (named["kind"], named["unit"]) == ("length", "tokens")
    assert named["tokenizer"].startswith("sha256:")


def test_nothing_is_written_that_nobody_asks_for(tmp_path, pairs):
    score(
        {"kind": "random"},
        "random",
        {"en": pairs},
        Outputs({"en": tmp_path / "out/en.parquet"}),
        tmp_path / "cache",
        tokens_per_batch=1,
        requests_at_once=1,
        device="cpu",
    )
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["en.parquet"]

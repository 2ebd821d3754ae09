"""Length, chance and likelihood, against their definitions."""

import json

import pandas as pd
import pytest
import torch
from scipy.stats import kstest
from transformers import AutoModelForCausalLM, AutoTokenizer

from conftest import pair
from rmtransfer.kit.errors import StudyError
from rmtransfer.scoring.others import score_reward_model

PAIRS = [pair("a", "Q", "añ 法国", "No."), pair("b", "Q?", "x", "Yes indeed.")]


def run(tmp_path, spec, rows) -> dict[str, pd.DataFrame]:
    scores = {language: tmp_path / f"scores/{language}.parquet" for language in rows}
    settings = tmp_path / "scores/settings.json"
    score_reward_model(
        spec, "base", rows, scores, settings, tmp_path / "store", tokens_per_batch=128, requests_at_once=1, device="cpu"
    )
    return {language: pd.read_parquet(path) for language, path in scores.items()}


def settings(tmp_path) -> dict:
    return json.loads((tmp_path / "scores/settings.json").read_text())


def test_length_in_characters(tmp_path):
    frame = run(tmp_path, {"kind": "length", "unit": "characters"}, {"es": PAIRS})["es"]
    assert frame["reward_chosen"].tolist() == [5, 1]
    assert frame["reward_rejected"].tolist() == [3, 11]
    assert frame["tokens_chosen"].isna().all()
    assert frame["tokens_rejected"].isna().all()
    assert settings(tmp_path) == {"kind": "length", "unit": "characters"}


def test_length_in_tokens(tmp_path, bases):
    spec = {"kind": "length", "unit": "tokens", "tokenizer": str(bases["qwen"])}
    frame = run(tmp_path, spec, {"zh": PAIRS})["zh"]
    tokenizer = AutoTokenizer.from_pretrained(bases["qwen"])
    for side in ("chosen", "rejected"):
        expected = [len(tokenizer.tokenize(p[side][0]["content"])) for p in PAIRS]
        assert frame[f"reward_{side}"].tolist() == frame[f"tokens_{side}"].tolist() == expected


def test_equal_lengths_are_a_result(tmp_path):
    frame = run(tmp_path, {"kind": "length", "unit": "characters"}, {"en": [pair("a", "Q", "one", "two")]})["en"]
    assert frame.loc[0, ["reward_chosen", "reward_rejected"]].tolist() == [3, 3]


def test_chance_depends_on_seed_language_row_and_side_alone(tmp_path):
    many = [pair(f"r{i}", "Q", "yes", "no") for i in range(500)]
    first = run(tmp_path, {"kind": "random", "seed": 0}, {"en": many, "ko": many})
    numbers = pd.concat([first[k][c] for k in first for c in ("reward_chosen", "reward_rejected")])
    assert kstest(numbers, "uniform").pvalue > 0.01
    assert numbers.nunique() == 2000
    other_texts = [pair(p["id"], "Why", "sí", "nein") for p in reversed(many)]
    again = run(tmp_path, {"kind": "random", "seed": 0}, {"ko": other_texts})["ko"].iloc[::-1].reset_index(drop=True)
    pd.testing.assert_frame_equal(again, first["ko"])
    assert (run(tmp_path, {"kind": "random", "seed": 1}, {"en": many})["en"]["reward_chosen"] != numbers[:500]).all()
    assert settings(tmp_path) == {"kind": "random", "seed": 1}


@pytest.mark.parametrize("normalized", [True, False])
def test_likelihood_is_that_of_the_answer_given_the_prompt(tmp_path, base, pairs, normalized):
    spec = {"kind": "likelihood", "path": str(base), **({} if normalized else {"length_normalized": False})}
    frame = run(tmp_path, spec, {"en": pairs})["en"]
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32).eval()
    tokenizer = AutoTokenizer.from_pretrained(base)
    for row, p in enumerate(pairs):
        for side in ("chosen", "rejected"):
            prompt = tokenizer.apply_chat_template(p["prompt"], add_generation_prompt=True)["input_ids"]
            whole = tokenizer.apply_chat_template(p["prompt"] + p[side])["input_ids"]
            assert whole[: len(prompt)] == prompt
            with torch.inference_mode():
                logp = model(torch.tensor([whole])).logits[0].log_softmax(-1)
            each = [logp[i - 1, whole[i]].item() for i in range(len(prompt), len(whole))]
            expected = sum(each) / (len(each) if normalized else 1)
            assert frame[f"reward_{side}"][row] == pytest.approx(expected, abs=1e-4)
            assert frame[f"tokens_{side}"][row] == len(whole)
    assert settings(tmp_path)["length_normalized"] is normalized


def test_a_token_that_straddles_the_boundary_belongs_to_the_answer(tmp_path, bases):
    tokenizer = AutoTokenizer.from_pretrained(bases["qwen"])
    template = "{% for m in messages %}{{ m['content'] }}{% endfor %}"
    p = pair("a", "What is the capital of Fra", "nce? Paris.", "ncs")
    spec = {"kind": "likelihood", "path": str(bases["qwen"]), "chat_template": template, "length_normalized": False}
    frame = run(tmp_path, spec, {"en": [p]})["en"]
    text, answer_at = p["prompt"][0]["content"] + p["chosen"][0]["content"], len(p["prompt"][0]["content"])
    coded = tokenizer(text, return_offsets_mapping=True, return_tensors="pt")
    ends = [end for _, end in coded.pop("offset_mapping")[0].tolist()]
    starts = [0, *ends][: len(ends)]
    first = next(i for i, end in enumerate(ends) if end > answer_at)
    assert starts[first] < answer_at  # it does straddle
    model = AutoModelForCausalLM.from_pretrained(bases["qwen"], dtype=torch.float32).eval()
    with torch.inference_mode():
        logp = model(coded["input_ids"]).logits[0].log_softmax(-1)
    whole = coded["input_ids"][0].tolist()
    expected = sum(logp[i - 1, whole[i]].item() for i in range(first, len(whole)))
    assert frame["reward_chosen"][0] == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize(
    ("template", "message"),
    [
        (
            "{{ messages | length }} turns: {% for m in messages %}{{ m['content'] }}{% endfor %}",
            "otherwise once an answer",
        ),
        ("{{ messages[0]['content'] }}", "renders no answer of row 'a' in en"),
    ],
)
def test_a_template_that_hides_where_the_answer_starts(tmp_path, bases, template, message):
    spec = {"kind": "likelihood", "path": str(bases["qwen"]), "chat_template": template}
    with pytest.raises(StudyError, match=message):
        run(tmp_path, spec, {"en": [pair("a", "What is the capital?", "Paris.", "No.")]})

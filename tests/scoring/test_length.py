"""Length, against its definition."""

from transformers import AutoTokenizer

from conftest import pair
from scored import run, settings

PAIRS = [pair("a", "Q", "añ 法国", "No."), pair("b", "Q?", "x", "Yes indeed.")]


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

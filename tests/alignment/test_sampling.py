"""Gumbel top-k is exact top-k sampling, and answers depend on nothing but their own key."""

import pytest
import torch

from conftest import build_tokenizer
from rmtransfer.alignment import sampling
from rmtransfer.models import chat
from rmtransfer.texts.corpus import load_rows

OPTIONS = {"samples": 3, "max_new_tokens": 6, "temperature": 1.0, "top_k": 50}


def test_gumbel_top_k_draws_from_the_top_k_softmax():
    logits = torch.tensor([2.0, 1.0, 0.0, -1.0, 0.5])
    rows = 40_000
    noise = torch.stack([sampling.gumbel_noise(str(i), 1, 3) for i in range(rows)])
    drawn = sampling.GumbelTopK(noise, 7, temperature=0.7)(torch.zeros(rows, 7), logits.repeat(rows, 1)).argmax(-1)
    shares = torch.bincount(drawn, minlength=5) / rows
    top = torch.tensor([2.0, 1.0, float("-inf"), float("-inf"), 0.5])
    torch.testing.assert_close(shares, torch.softmax(top / 0.7, -1), atol=0.01, rtol=0)


def test_the_drawn_token_is_the_greedy_one():
    scores, noise = torch.tensor([[0.0, 5.0, 4.0, 3.0], [9.0, 1.0, 2.0, 8.0]]), torch.zeros(2, 2, 3)
    noise[:, 1] = torch.tensor([[0.0, 0.0, 2.5], [0.0, 0.0, 0.0]])  # the third of the top three overtakes: 3 + 2.5 > 5
    out = sampling.GumbelTopK(noise, 5, 1.0)(torch.zeros(2, 6), scores)
    assert out.argmax(-1).tolist() == [3, 0]


def sample(base, pairs, tmp_path, name, budget=512, **changes):
    path = tmp_path / f"{name}.parquet"
    arguments = {"language": "en", "options": OPTIONS, "seed": 0, **changes}
    sampling.sample_answers(base, pairs, output=path, tokens_per_batch=budget, device="cpu", **arguments)
    return load_rows(path)


def test_answers_do_not_depend_on_the_batch(base, pairs, tmp_path):
    together = sample(base, pairs, tmp_path, "together")
    alone = sample(base, pairs, tmp_path, "alone", budget=1)
    assert together == alone
    assert [(r["id"], r["sample"]) for r in together] == [(p["id"], s) for p in pairs for s in range(3)]


def test_samples_languages_and_seeds_differ(bases, pairs, tmp_path):
    first = sample(bases["llama"], pairs, tmp_path, "a")
    assert len({r["answer"][0]["content"] for r in first if r["id"] == "r5"}) == 3
    assert sample(bases["llama"], pairs, tmp_path, "b", seed=1) != first
    assert sample(bases["llama"], pairs, tmp_path, "c", language="es") != first
    assert sample(bases["llama"], pairs, tmp_path, "d") == first


def test_low_temperature_is_greedy(bases, pairs, tmp_path):
    rows = sample(bases["qwen"], pairs[:2], tmp_path, "greedy", options={**OPTIONS, "temperature": 1e-6})
    assert rows[0]["answer"] == rows[1]["answer"] == rows[2]["answer"]


@pytest.mark.parametrize(
    ("said", "marker", "expected"),
    [
        ("Paris.<|eot_id|>", "", ("Paris.", True)),
        ("Paris.<|eot_id|><|end_of_text|><|end_of_text|>", "", ("Paris.", True)),
        ("Paris. Question: What", "Question:", ("Paris.", True)),
        ("Question: What", "Question:", ("", True)),
        ("Paris. Quest", "Question:", ("Paris. Quest", False)),  # cut off within the marker
        ("The capital of", "", ("The capital of", False)),
        ("<|start_header_id|>The capital", "", ("The capital", False)),  # special, but no end
    ],
)
def test_an_answer_is_finished_where_it_ended_by_itself(said, marker, expected):
    tokenizer = build_tokenizer("llama")
    ids = tokenizer(said, add_special_tokens=False)["input_ids"]
    stops = tokenizer.convert_tokens_to_ids(["<|eot_id|>"])
    assert sampling.read_answer(tokenizer, ids, stops, marker) == expected


def test_a_row_says_whether_its_answer_is_finished(bases, pairs, tmp_path, monkeypatch):
    tokenizer = chat.load_tokenizer(bases["llama"])
    stop, word = (
        tokenizer.convert_tokens_to_ids("<|eot_id|>"),
        tokenizer("Paris", add_special_tokens=False)["input_ids"],
    )

    def decode(model, prompts, limits, batches, **options):  # the last sample of each prompt runs into the limit
        yield [(i, [*word, stop] if i % 3 < 2 else word * 6) for i in range(len(prompts))]

    monkeypatch.setattr(sampling, "decode", decode)
    rows = sample(bases["llama"], pairs, tmp_path, "ends")
    assert [(r["sample"], r["finished"]) for r in rows] == [(0, True), (1, True), (2, False)] * len(pairs)

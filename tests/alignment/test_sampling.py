"""Gumbel top-k is exact top-k sampling, and answers depend on nothing but their own key."""

import torch

from rmtransfer.alignment import sampling
from rmtransfer.texts.corpus import load_rows

OPTIONS = {"samples": 3, "max_new_tokens": 6, "temperature": 1.0, "top_k": 50}


def test_gumbel_top_k_draws_from_the_top_k_softmax():
    logits = torch.tensor([2.0, 1.0, 0.0, -1.0, 0.5])
    rows = 40_000
    noise = torch.stack([sampling.gumbel_noise(str(i), 1, 3) for i in range(rows)])
    drawn = sampling.GumbelTopK(noise, 7, temperature=0.7)(torch.zeros(rows, 7), logits.expand(rows, -1)).argmax(-1)
    shares = torch.bincount(drawn, minlength=5) / rows
    top = torch.tensor([2.0, 1.0, float("-inf"), float("-inf"), 0.5])
    torch.testing.assert_close(shares, torch.softmax(top / 0.7, -1), atol=0.01, rtol=0)


def test_only_the_drawn_token_is_left():
    scores = torch.randn(4, 9)
    out = sampling.GumbelTopK(torch.randn(4, 2, 3), 5, 1.0)(torch.zeros(4, 6), scores)
    assert torch.isfinite(out).sum(-1).tolist() == [1] * 4


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

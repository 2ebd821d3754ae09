"""That the benchmark of recipes trains and counts as it says; not which recipe is best."""

import itertools
import json

import numpy as np
import pytest
import torch
from benchmarks import recipe
from benchmarks.recipe import Raw, Recipe
from transformers import get_cosine_schedule_with_warmup

from rmtransfer.models import chat, reward
from rmtransfer.models.attention import prefer_packs
from trainings import RECIPE, train

SIDES = ("chosen", "rejected")


@pytest.mark.parametrize(("head", "frozen"), [("normal", 1), ("zero", 2), ("probe", 3)])
def test_trains_as_a_study_does(bases, pairs, tmp_path, head, frozen):
    how = Recipe(head, frozen=frozen, rate=1e-3, epochs=2)
    trained = train(
        bases["gemma"],
        pairs,
        tmp_path,
        recipe=RECIPE | {"head": head, "frozen_layers": frozen, "pairs_per_step": recipe.PAIRS_PER_STEP},
    )
    upper = recipe.UpperPart(bases["gemma"], [1, 2, 3])
    found = upper.read(pairs)
    upper.compare(found)
    for _ in range(2):  # the second from the base again
        ours = upper.train(how, found, range(len(pairs)), 0)
    margins = upper.margins(how, ours.head, found, range(len(pairs)))
    texts = [chat.encode_answer(upper.tokenizer, row["prompt"], row[side]) for row in pairs for side in SIDES]
    rewards, _ = reward.score(prefer_packs(trained.eval()), texts, 1000)
    assert margins == pytest.approx((rewards[0::2] - rewards[1::2]).tolist(), abs=1e-4)
    assert torch.allclose(ours.head, trained.score.weight[0], atol=1e-5)
    assert ours.losses[0] != pytest.approx(ours.losses[-1])


def test_the_rate_is_that_of_the_trainer():
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    schedule = get_cosine_schedule_with_warmup(optimizer, 2, 12)
    expected = []
    for _ in range(12):
        expected.append(schedule.get_last_lr()[0])
        optimizer.step()
        schedule.step()
    assert [recipe.rate_at(step, 12) for step in range(12)] == pytest.approx(expected)


def test_every_epoch_has_each_pair_once():
    steps = list(recipe.steps_of(range(10, 30), 2, 0))
    assert [len(step) for step in steps] == [8, 8, 4] * 2
    for epoch in (steps[:3], steps[3:]):
        assert sorted(itertools.chain(*epoch)) == list(range(10, 30))


def test_parts_are_the_same_for_the_same_ids():
    ids = [f"p{i}" for i in range(20)]
    order = recipe.in_random_order(ids)
    assert sorted(order) == list(range(20))
    assert order != list(range(20))
    assert order != recipe.in_random_order(ids, "1/")
    turned = recipe.in_random_order(ids[::-1])
    assert [ids[i] for i in order] == [ids[::-1][i] for i in turned]


def record(seed, language, margins, ids=("a", "b"), part=0, **others):
    facts = {"what": "held out", "recipe": Recipe(), "language": language, "part": part, "seed": seed}
    judged = {"ids": list(ids), "subsets": ["x", "y"], "margins": margins}
    return facts | judged | {"cosine": 1.0, "seconds": 2.0} | others


RECORDS = [
    record(0, "en", {"en": [1, 1], "es": [1, -1]}),
    record(0, "es", {"en": [-1, -1], "es": [1, 1]}),
    record(1, "en", {"en": [1, 1], "es": [-1, -1]}),
    record(1, "es", {"en": [-1, -1], "es": [-1, 0]}),
]


def test_results_are_put_together_by_seed_and_incomplete_seeds_left_out(tmp_path):
    raw = Raw(tmp_path / "raw.jsonl")
    for found in RECORDS:
        assert found not in raw
        raw.add(found)
    raw.add(record(2, "en", {"en": [1, 1], "es": [1, 1]}))
    again = Raw(raw.path)
    assert all(found in again for found in RECORDS)
    found = recipe.judged(again.of("held out")[Recipe()], 1)
    assert found.languages == ["en", "es"]
    assert found.margins.shape == (2, 2, 2, 2)
    assert found.cells(found.right, home=True).mean((1, 2)).tolist() == [100, 50]
    assert found.cells(found.right, home=False).mean((1, 2)).tolist() == [25, 0]
    assert json.loads(raw.path.read_text().splitlines()[0])["recipe"] == list(Recipe())


def test_the_spread_over_seeds_is_that_of_cells():
    found = recipe.judged(RECORDS, 1)
    home = found.cells(found.right, home=True)
    # en: 100 and 100; es: 100 and 0, of which the variance is 5000
    assert recipe.seed_spread(home) == f"{(5000 / 2) ** 0.5:.1f}"
    assert recipe.seed_spread(home[:1]) == ""


def test_an_error_counts_each_pair_once():
    assert recipe.with_error(np.array([[[0.0, 100.0]] * 5] * 3)) == "50.0 ± 50.0"


def test_headlines_are_of_the_source_and_of_all_languages():
    accuracy = np.array([[[70, 60, 50], [0, 80, 0], [0, 0, 90]]], dtype=float)
    first, second = recipe.headlines(accuracy, 0)
    assert first.tolist() == [-30]  # (60 - 80 + 50 - 90) / 2
    assert second == pytest.approx([110 / 6 - 80])


def test_tables_have_a_row_a_recipe():
    results = {Recipe(): RECORDS, Recipe("zero", 100): RECORDS}
    held = recipe.held_out_table(results, 1)
    assert [row["head"] for row in held] == ["normal", "zero"]
    assert held[0]["own language, %"] == "75.0 ± 0.0"
    assert held[1]["head's rate"] == "x100"
    (difference,) = recipe.differences_table(results, Recipe(), 1)
    assert difference["own language, points"] == "+0.0 ± 0.0"
    (bench, _) = recipe.benchmark_table(results, "en")
    assert bench["en less in-language, by run"] == "-50.0, +0.0 (sd 35.4)"
    (sizes, _) = recipe.sizes_table({key: [record(0, "other", {"other": [1, -1]})] for key in results})
    assert sizes["0 pairs, %"] == "50.0"

"""Score rows whose outcomes are known, and what is evaluated on them."""

import numpy as np
import pandas as pd

from rmtransfer.study.study import RewardModelId
from rmtransfer.transfer.design import Design
from rmtransfer.transfer.evaluate import evaluate_transfer, table_of
from rmtransfer.transfer.evaluation import Evaluation
from rmtransfer.transfer.measures import MEASURES

# What the languages and the mixtures of these tests are made of; their base models are m and k.
DESIGN = Design(
    "en",
    ("m", "k"),
    {language: (language,) for language in ("en", "es", "it", "ko", "zh")}
    | {"es-x-nllb": ("es",), "mix": ("en", "es"), "it-zh": ("it", "zh"), "en.24": ("en",)},
)


def scores(correct, subsets=None, language="en", tokens=(10, 9)):
    """Score rows: a right one has margin 0.5, a wrong one -0.5."""
    n = len(correct)
    return pd.DataFrame(
        {
            "id": [f"r{i}" for i in range(n)],
            "subset": subsets or ["chat"] * n,
            "language": language,
            "reward_chosen": np.where(correct, 1.0, 0.0),
            "reward_rejected": 0.5,
            "tokens_chosen": tokens[0],
            "tokens_rejected": tokens[1],
        }
    )


def evaluation_of(frames, sections="rewardbench"):
    """What is measured on frames of score rows, by base, training language, seed and evaluation language."""
    keyed = {(RewardModelId(*scorer), language): frame for (*scorer, language), frame in frames.items()}
    return Evaluation(keyed, sections, DESIGN)


def measured(name, frames, sections="rewardbench"):
    """One table."""
    return table_of(name, evaluation_of(frames, sections))


def rows_of(cells, subsets=None):
    """Frames of score rows from what is right."""
    return {key: scores(correct, subsets) for key, correct in cells.items()}


def evaluate(folder, frames, sections="rewardbench", **options):
    """Run the whole of it on files of score rows; returns the answer and every table as written."""
    files: dict = {}
    for i, ((*scorer, language), frame) in enumerate(frames.items()):
        path = folder / f"scores{i}.parquet"
        frame.assign(language=language).to_parquet(path)
        files.setdefault(RewardModelId(*scorer), {})[language] = path
    outputs = {name: folder / f"{name}.csv" for name in MEASURES} | {"answer": folder / "answer.txt"}
    answer = evaluate_transfer(files, sections, DESIGN, outputs, **options)
    assert outputs["answer"].read_text(encoding="utf-8") == answer + "\n"
    return answer, {name: pd.read_csv(outputs[name], keep_default_na=False, na_values=[""]) for name in MEASURES}


def study():
    """Two seeds, a mixture and an off-the-shelf model that lacks Korean."""
    n = 40
    generator = np.random.default_rng(0)
    subsets = ["chat"] * 20 + ["reasoning"] * 20
    frames = {
        ("m", train, seed, language): scores(generator.random(n) < 0.6, subsets)
        for train in ("en", "es", "mix")
        for seed in (1, 2)
        for language in ("en", "es", "ko")
    }
    frames["m", "es", 1, "es"] = scores([True] * 20 + [False] * 20, subsets)
    frames["m", "es", 2, "es"] = scores([True] * 40, subsets)
    for language in ("en", "es"):
        rows = scores([True] * 10 + [False] * 30, subsets)
        frames["armo", "-", 0, language] = rows.assign(tokens_chosen=None, tokens_rejected=None)
    return frames


def grid_of_scores(seeds, languages=("en", "es", "ko"), items=60):
    """Models trained and evaluated in every language, whose seeds move them by some points, alike in part."""
    generator = np.random.default_rng(7)
    hard = generator.normal(size=(items, 1))
    shift = {seed: generator.normal(0, 0.3) for seed in seeds}
    frames = {}
    for train in languages:
        for seed in seeds:
            own = shift[seed] + generator.normal(0, 0.2)
            for language in languages:
                margins = 0.5 + 0.3 * (train == language) + own + hard[:, 0] + generator.normal(size=items)
                frames["m", train, seed, language] = scores(margins > 0)
    return frames

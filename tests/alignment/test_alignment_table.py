"""The table of alignment is tidy, whatever it is made of."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from rmtransfer.alignment.best_of_n import COLUMNS as BEST_OF_N
from rmtransfer.alignment.comparisons import write_comparisons
from rmtransfer.alignment.evaluation import COLUMNS, MEASURES, evaluate_alignment
from rmtransfer.study.study import RewardModelId
from rmtransfer.texts.corpus import save_rows
from rmtransfer.transfer.design import Design

DESIGN = Design("en", ["m"], {"en": ["en"], "es": ["es"]})
LANGUAGES = ("en", "es")
N = 8
DPO = "dpo/m/es/seed0"


def write(path, samples, text):
    rows = [
        {
            "id": f"i{i}",
            "sample": j,
            "prompt": [{"role": "user", "content": "Why?"}],
            "answer": [{"role": "assistant", "content": f"{text} {i} {j}"}],
            "finished": True,
        }
        for i in range(N)
        for j in range(samples)
    ]
    save_rows(rows, path)
    return path


@pytest.fixture
def evaluate(tmp_path):
    base, dpo = write(tmp_path / "base.parquet", 3, "base"), write(tmp_path / "dpo.parquet", 1, "dpo")
    rewards = pd.DataFrame([(f"i{i}", j, j) for i in range(N) for j in range(3)], columns=["id", "sample", "reward"])
    rewards.to_parquet(tmp_path / "rewards.parquet")
    compared = tmp_path / "compared.parquet"
    write_comparisons(base, {DPO: dpo}, {"best-of-2/longer": (2, tmp_path / "rewards.parquet")}, compared)
    rows = pd.read_parquet(compared)[["id", "subset", "cluster"]]
    verdicts = rows.assign(reward_chosen=1.0, reward_rejected=np.tile(np.arange(N) % 3, 2).astype(float))
    verdicts.to_parquet(tmp_path / "verdicts.parquet")

    def run(**more):
        output = tmp_path / "alignment.csv"
        options = {"answers": {"m": dict.fromkeys(LANGUAGES, base), f"m/{DPO}": dict.fromkeys(LANGUAGES, dpo)}}
        options |= {"drift": {f"m/{DPO}": dict.fromkeys(LANGUAGES, tmp_path / "rewards.parquet")}, "best_of_n": None}
        judges = [RewardModelId("m", "en", 0), RewardModelId("armorm"), RewardModelId("longer")]
        evaluate_alignment(
            {"m": dict.fromkeys(LANGUAGES, compared)},
            {"m": {judge: dict.fromkeys(LANGUAGES, tmp_path / "verdicts.parquet") for judge in judges}},
            **options | more,
            design=DESIGN,
            baselines=["longer"],
            output=output,
        )
        return pd.read_csv(output, keep_default_na=False, na_values=[""])

    return run


def test_one_row_for_every_measure(evaluate):
    table = evaluate()
    assert list(table) == list(COLUMNS)
    keys = ["policy", "method", "n", "selector_base", "selector", "judge", "language", "measure"]
    assert not table.duplicated(keys).any()
    assert {name.removesuffix("_change") for name in table["measure"]} <= set(MEASURES)
    judged = table.query("measure == 'win_rate' and language == 'targets'")
    assert list(
        judged[["method", "n", "selector", "judge", "relation"]].fillna(0).itertuples(index=False, name=None)
    ) == [
        ("dpo", 0, "es", "m", "sibling"),
        ("dpo", 0, "es", "armorm", "independent"),
        ("dpo", 0, "es", "longer", "baseline"),
        ("best-of-n", 2, "longer", "m", "independent"),
        ("best-of-n", 2, "longer", "armorm", "independent"),
    ]
    # Of eight margins three are 1, three 0 and two -1.
    assert judged["value"].unique() == pytest.approx([4.5 / 8])
    # What the longer answer says is nothing but length.
    assert set(table.query("measure == 'lc_win_rate'")["judge"]) == {"m", "armorm"}
    assert set(table.query("method == 'base'")["selector"]) == {"-"}
    assert table.query("measure == 'kl' and language == 'es'")["value"].tolist() == [1]


def test_gains_are_taken_over(evaluate, tmp_path):
    row = dict.fromkeys(BEST_OF_N, 0) | {
        "policy": "m",
        "base_model": "m",
        "train_language": "en",
        "language": "es",
        "n": 4,
    }
    row |= {"seeds": 3, "ci_low": 0.1, "ci_high": 0.3, "instructions": 16}
    rows = [row | {"judged_by": j, "gain": g} for j, g in (("other languages", 0.2), ("itself", 1.0), ("armorm", 0.3))]
    rows.append(row | {"train_language": "all", "judged_by": "other languages", "gain": None})  # nobody may judge it
    pd.DataFrame(rows).to_csv(tmp_path / "best_of_n.csv", index=False)
    table = evaluate(best_of_n=tmp_path / "best_of_n.csv").query("measure.str.endswith('_gain')")
    shown = table[["method", "n", "selector", "judge", "relation", "measure", "value", "seeds", "items"]].fillna("")
    assert list(shown.itertuples(index=False, name=None)) == [
        ("best-of-n", 4, "en", "other languages", "sibling", "judge_gain", 0.2, 3, 16),
        ("best-of-n", 4, "en", "-", "", "proxy_gain", 1.0, 3, 16),
        ("best-of-n", 4, "en", "armorm", "independent", "judge_gain", 0.3, 3, 16),
    ]


def test_constraints_are_means_over_seeds(evaluate):
    shown = {"language": "es", "measure": "strict", "items": 100}
    values = {"m": 0.4, f"m/{DPO}": 0.5, "m/dpo/m/es/seed1": 0.7, "m/sft/m/es/seed0": 0.6}
    rows = [{"writer": w, **shown, "value": v, "ci_low": v - 0.098, "ci_high": v + 0.098} for w, v in values.items()]
    table = evaluate(constraints=pd.DataFrame(rows)).query("measure == 'strict'").set_index("method")
    assert table["value"].to_dict() == pytest.approx({"base": 0.4, "dpo": 0.6, "sft": 0.6})
    assert table["seeds"].to_dict() == {"base": 1, "dpo": 2, "sft": 1}
    assert table.loc["sft", ["ci_low", "ci_high"]].tolist() == pytest.approx([0.502, 0.698])
    # Items' variance 0.05^2, seeds' 0.02 / 2 with one degree of freedom.
    half = (1 - table.loc["dpo", "ci_low"] / 0.6) * 0.6
    assert stats.norm.ppf(0.975) * np.sqrt(0.05**2 + 0.01) < half <= stats.t.ppf(0.975, 1) * np.sqrt(0.05**2 + 0.01)

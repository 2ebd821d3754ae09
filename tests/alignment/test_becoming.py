"""What policies became, by hand."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from rmtransfer.alignment.becoming import became, repetition
from rmtransfer.kit.errors import StudyError
from rmtransfer.texts.corpus import save_rows
from rmtransfer.transfer.design import Design
from rmtransfer.transfer.statistics import wilson

ENGLISH = "The sea looks blue because water absorbs red light and scatters the rest of it."
SPANISH = "El mar se ve azul porque el agua absorbe la luz roja y dispersa el resto de ella."
DESIGN = Design("en", ["m"], {"en": ["en"], "es": ["es"]})
N = 8
DPO = "dpo/m/en/seed0"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a b c d", 0),
        ("a b c d a b c d", 1 / 5),  # abcd bcda cdab dabc abcd
        ("na " * 10, 6 / 7),
        ("one two three", None),
        ("", None),
        ("天空是蓝的天空是蓝的", 2 / 7),  # of seven, 天空是蓝 and 空是蓝的 stand twice
        ("하늘은 파랗고 바다는 파랗고 하늘은 파랗고 바다는 파랗고", 1 / 5),
        ("天空 is blue", 0),  # 天, 空, is, blue
    ],
)
def test_repetition_is_the_share_of_4_grams_that_were_there_before(text, expected):
    assert repetition(text) == pytest.approx(float("nan") if expected is None else expected, nan_ok=True)


def write(path, texts, finished=True):
    rows = [
        {
            "id": f"i{i}",
            "sample": j,
            "prompt": [{"role": "user", "content": "Why?"}],
            "answer": [{"role": "assistant", "content": text}],
            "finished": finished,
        }
        for i, these in enumerate(texts)
        for j, text in enumerate(these)
    ]
    save_rows(rows[::-1], path)
    return path


def drifted(path, values):
    pd.DataFrame([(f"i{i}", 0, v) for i, v in enumerate(values)], columns=["id", "sample", "reward"]).to_parquet(path)
    return path


BASE = [[ENGLISH, ENGLISH], [ENGLISH, SPANISH], ["", "Ok."], *[[ENGLISH, SPANISH]] * 5]
ALIGNED = [[ENGLISH], ["na " * 10], [""], *[[ENGLISH]] * 5]


@pytest.fixture
def table(tmp_path):
    def rows(aligned=None, kl=None, n=N):
        base = write(tmp_path / "base.parquet", BASE[:n], finished=False)
        answers = {"m": {"en": base, "es": base}}
        drift = {}
        for contender, texts in (aligned or {}).items():
            path = write(tmp_path / f"{contender.replace('/', '.')}.parquet", texts[:n])
            answers[contender] = {"en": path, "es": path}
        for contender, values in (kl or {}).items():
            path = drifted(tmp_path / f"{contender.replace('/', '.')}.drift.parquet", values)
            drift[contender] = {"en": path, "es": path}
        return pd.DataFrame(became("m", answers, drift, DESIGN))

    return rows


def one(table, method, measure, language="en"):
    found = table[(table["method"] == method) & (table["measure"] == measure) & (table["language"] == language)]
    assert len(found) == 1
    return found.iloc[0]


def test_the_base_by_hand(table):
    found = table()
    row = one(found, "base", "in_language")
    assert (row["selector"], row["judge"], row["seeds"], row["items"]) == ("-", "-", 1, N)
    assert row["value"] == pytest.approx(8 / 14)  # "" and "Ok." cannot be told
    assert row["ci_low"] < 8 / 14 < row["ci_high"]
    assert one(found, "base", "in_language", "es")["value"] == pytest.approx(6 / 14)
    assert one(found, "base", "in_language", "targets")["value"] == pytest.approx(6 / 14)
    assert one(found, "base", "told")["value"] == pytest.approx(14 / 16)
    assert one(found, "base", "empty")["value"] == pytest.approx(1 / 16)
    assert one(found, "base", "duplicates")["value"] == pytest.approx(1 / 8)
    row = one(found, "base", "finished")
    assert row[["value", "ci_low", "ci_high"]].tolist() == pytest.approx([0, *wilson(0, N)])
    assert one(found, "base", "characters")["value"] == pytest.approx((8 * 79 + 6 * 81 + 3) / 16)
    # SPANISH has 17 words, none of them twice in a row of four; the two short ones have no 4-gram.
    assert one(found, "base", "repetition")["value"] == 0


def test_an_aligned_policy_and_its_changes(table):
    found = table({DPO: ALIGNED}, {DPO: np.arange(N)})
    assert one(found, "dpo", "characters")["value"] == pytest.approx((6 * 79 + 30) / 8)
    changes = np.array([0, 30 - 80, -1.5, -1, -1, -1, -1, -1])
    row = one(found, "dpo", "characters_change")
    assert row["value"] == pytest.approx(changes.mean())
    assert row["ci_low"] < changes.mean() < row["ci_high"]
    assert one(found, "dpo", "finished_change")[["value", "ci_low", "ci_high"]].tolist() == [1, 1, 1]
    assert one(found, "dpo", "empty")["value"] == pytest.approx(1 / 8)
    assert one(found, "dpo", "empty_change")["value"] == pytest.approx(1 / 8 - 1 / 16)
    assert one(found, "dpo", "repetition")["value"] == pytest.approx(6 / 7 / 7)
    assert one(found, "dpo", "repetition_change")["value"] == pytest.approx(6 / 7 / 7)
    row = one(found, "dpo", "kl")
    assert row["value"] == pytest.approx(3.5)
    interval = stats.ttest_1samp(np.arange(N), 0).confidence_interval(0.95)
    assert (row["ci_low"], row["ci_high"]) == pytest.approx(tuple(interval), abs=0.15)
    assert "duplicates" not in set(found.query("method == 'dpo'")["measure"])


def test_seeds_are_means_and_other_policies_change_nothing(table):
    other = "dpo/m/en/seed1"
    longer = [[ENGLISH + "!" * i] for i in range(N)]
    both = table({DPO: ALIGNED, other: longer})
    row = one(both, "dpo", "characters")
    assert row["seeds"] == 2
    assert row["value"] == pytest.approx(((6 * 79 + 30) / 8 + 79 + 3.5) / 2)
    more = table({DPO: ALIGNED, other: longer, "sft/m/es/seed0": longer, "dpo/longer": longer})
    kept = more[(more["selector"] == "en") | (more["method"] == "base")].reset_index(drop=True)
    pd.testing.assert_frame_equal(kept, both, check_exact=True)


def test_few_instructions_have_no_interval(table):
    found = table({DPO: ALIGNED}, n=7)
    assert found[["ci_low", "ci_high"]].isna().all(axis=None)
    assert one(found, "base", "duplicates")["value"] == pytest.approx(1 / 7)


def test_what_is_missing_is_named(table):
    with pytest.raises(StudyError, match=r"answers other instructions than .*base\.parquet"):
        table({DPO: ALIGNED[:5]})
    with pytest.raises(StudyError, match=r"drift\.parquet: has no reward for 'i7'"):
        table({DPO: ALIGNED}, {DPO: np.arange(N - 1)})

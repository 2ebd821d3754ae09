"""Win rates by hand; the length-controlled one and kappas against statsmodels and scikit-learn; who judges whom."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from sklearn.metrics import cohen_kappa_score
from statsmodels.api import GLM, add_constant
from statsmodels.genmod.families import Binomial
from statsmodels.stats.inter_rater import aggregate_raters, fleiss_kappa

from rmtransfer.alignment.intervals import CHANGE, SHARE, Draws, difference, mean
from rmtransfer.alignment.judges import Bench
from rmtransfer.alignment.win_rates import WinRates, cohen, fleiss, length_controlled
from rmtransfer.kit.errors import StudyError
from rmtransfer.study.study import RewardModelId
from rmtransfer.texts.corpus import save_rows
from rmtransfer.transfer.design import Design
from rmtransfer.transfer.statistics import wilson

TRAINED_IN = {"en": ["en"], "es": ["es"], "ko": ["ko"], "all": ["en", "es", "ko"], "en-ko": ["en", "ko"]}
DESIGN = Design("en", ["m", "k"], TRAINED_IN)
N = 16
ALL_WON = np.ones(N)


def value(statistic, n):
    return float(statistic(np.ones((1, n)))[0])


def statsmodels_rate(outcomes, longer, weights=None):
    x = add_constant(np.tanh(longer / longer.std(ddof=1)))
    fit = GLM(outcomes, x, family=Binomial(), freq_weights=weights).fit(tol=1e-12)
    return 1 / (1 + np.exp(-fit.params[0]))


@pytest.mark.parametrize("seed", range(5))
def test_length_control_equals_statsmodels(seed):
    random = np.random.default_rng(seed)
    longer = random.normal(100, 300, 60).round()
    outcomes = random.choice([0, 0.5, 1, 0.25], 60, p=[0.3, 0.2, 0.4, 0.1])
    statistic = length_controlled(outcomes, longer)
    assert value(statistic, 60) == pytest.approx(statsmodels_rate(outcomes, longer), abs=1e-5)
    # Each draw is a fit of its own.
    weights = random.multinomial(60, np.full(60, 1 / 60), 3).astype(float)
    expected = [statsmodels_rate(outcomes, longer, w) for w in weights]
    np.testing.assert_allclose(statistic(weights), expected, atol=1e-5)


def test_length_control_finds_a_planted_effect():
    random = np.random.default_rng(0)
    longer = random.normal(400, 200, 20_000)
    p = 1 / (1 + np.exp(-(-0.5 + 2 * np.tanh(longer / longer.std(ddof=1)))))
    outcomes = (random.random(20_000) < p).astype(float)
    assert outcomes.mean() > 0.65  # longer answers win
    assert value(length_controlled(outcomes, longer), 20_000) == pytest.approx(1 / (1 + np.exp(0.5)), abs=0.02)


def test_length_control_at_its_limits():
    longer = np.array([-3.0, -2, -1, 1, 2, 3])
    separated = value(length_controlled((longer > 0).astype(float), longer), 6)
    assert separated == pytest.approx(0.5, abs=1e-6)  # by symmetry
    for outcome in (0, 0.5, 1):
        assert value(length_controlled(np.full(6, float(outcome)), longer), 6) == outcome
    # A draw of wins alone.
    assert 0.99 < length_controlled((longer > 0).astype(float), longer)(np.array([[0, 0, 0, 1.0, 1, 4]]))[0] <= 1
    assert value(length_controlled(np.array([1, 0, 0, 1, 1, 1.0]), np.full(6, 7.0)), 6) == pytest.approx(4 / 6)


def test_kappas_equal_other_libraries():
    random = np.random.default_rng(0)
    a, b, c = (random.choice([0, 0.5, 1], 50, p=p) for p in ([0.5, 0.2, 0.3], [0.2, 0.2, 0.6], [0.3, 0.3, 0.4]))
    b[:25] = a[:25]
    assert value(cohen(a, b), 50) == pytest.approx(cohen_kappa_score((2 * a).astype(int), (2 * b).astype(int)))
    table = aggregate_raters(np.stack([2 * a, 2 * b, 2 * c], axis=1).astype(int))[0]
    assert value(fleiss([a, b, c]), 50) == pytest.approx(fleiss_kappa(table))
    # A panel's mean goes to the side that it is nearer to.
    assert value(cohen(a, np.where(b == 1, 0.75, b)), 50) == pytest.approx(value(cohen(a, b), 50))
    assert np.isnan(value(cohen(np.ones(5), np.ones(5)), 5))
    # Weights are how often an instruction was drawn.
    drawn = random.multinomial(50, np.full(50, 1 / 50))
    expected = cohen_kappa_score(np.repeat(2 * a, drawn).astype(int), np.repeat(2 * b, drawn).astype(int))
    assert cohen(a, b)(drawn[None].astype(float))[0] == pytest.approx(expected)


def test_an_interval_of_one_seed_is_the_t_interval_where_draws_are_normal():
    values = np.random.default_rng(0).normal(0.1, 0.1, 40)
    found = Draws(40).estimate({"en": [mean(values)]}, {"en": 1})
    expected = stats.ttest_1samp(values, 0).confidence_interval(0.95)
    assert found.value == pytest.approx(values.mean())
    assert found.low == pytest.approx(expected.low, abs=0.002)
    assert found.high == pytest.approx(expected.high, abs=0.002)


def test_an_interval_holds_what_seeds_do():
    values = np.random.default_rng(0).normal(0.5, 0.01, 100)
    draws = Draws(100)
    close = draws.estimate({"en": [mean(values + d) for d in (0.001, 0, -0.001)]}, {"en": 1})
    apart = draws.estimate({"en": [mean(values + d) for d in (0.1, 0, -0.1)]}, {"en": 1})
    assert apart.value == pytest.approx(close.value)
    # Three seeds whose values are 0.1 apart, and next to nothing else: t of 2 degrees of freedom.
    half = stats.t.ppf(0.975, 2) * 0.1 / np.sqrt(3)
    assert (apart.high - apart.low) / 2 == pytest.approx(half, rel=0.02)
    assert close.high - close.low < 0.1 * half


def test_few_instructions_have_no_interval_and_shares_without_spread_wilsons():
    few = Draws(7).estimate({"en": [mean(np.array([1.0, 0, 1, 0, 1, 0, 1]))]}, {"en": 1}, SHARE)
    assert few.value == pytest.approx(4 / 7)
    assert np.isnan([few.low, few.high]).all()
    assert Draws(16).estimate({"en": [mean(np.ones(16))]}, {"en": 1}, SHARE) == (1, *wilson(1, 16))
    none = difference(mean(np.ones(16)), mean(np.ones(16)))
    assert Draws(16).estimate({"en": [none]}, {"en": 1}, CHANGE) == (0, 0, 0)


def test_languages_are_drawn_together():
    values = np.random.default_rng(0).normal(size=50)
    found = Draws(50).estimate({"es": [mean(values)], "ko": [mean(-values)]}, {"es": 0.5, "ko": 0.5})
    assert found == pytest.approx((0, 0, 0), abs=1e-9)
    same = Draws(50).estimate({"es": [mean(values)], "ko": [mean(values)]}, {"es": 0.5, "ko": 0.5})
    assert same == pytest.approx(Draws(50).estimate({"es": [mean(values)]}, {"es": 1}))


OURS = [RewardModelId(base, train, seed) for base in ("m", "k") for train in TRAINED_IN for seed in (0, 1)]
OTHERS = [RewardModelId("armorm"), RewardModelId("longer")]


@pytest.mark.parametrize(
    ("judge", "selector", "language", "expected", "relation"),
    [
        ("m", ("m", "en", 0), "es", [("m", "es", 1), ("m", "ko", 1)], "sibling"),
        ("k", ("m", "en", 0), "es", [("k", "es", 1), ("k", "ko", 1)], "independent"),
        ("m", ("m", "in-language", 1), "es", [("m", "en", 0), ("m", "ko", 0)], "sibling"),
        ("m", ("m", "in-language", 1), "ko", [("m", "en", 0), ("m", "es", 0)], "sibling"),
        ("m", ("m", "all", 0), "es", [], "sibling"),
        ("m", ("m", "en-ko", 0), "es", [("m", "es", 1)], "sibling"),
        ("armorm", ("m", "en", 0), "es", [("armorm", "-", 0)], "independent"),
        ("armorm", ("armorm", "-", 0), "es", [], "sibling"),
        ("longer", ("m", "en", 0), "es", [("longer", "-", 0)], "baseline"),
    ],
)
def test_who_judges_whom(judge, selector, language, expected, relation):
    bench = Bench([*OURS, *OTHERS], DESIGN, ["longer"])
    assert bench.judges == ["m", "k", "armorm", "longer"]
    assert bench.referees(judge, RewardModelId(*selector), language) == expected
    assert bench.relation(judge, RewardModelId(*selector)) == relation


def test_a_judge_that_is_made_of_the_selectors_base_is_a_sibling():
    bench = Bench(OTHERS, DESIGN, built_on={"armorm": "m"})
    assert bench.relation("armorm", RewardModelId("m", "en", 0)) == "sibling"
    assert bench.relation("armorm", RewardModelId("k", "en", 0)) == "independent"


LANGUAGES = ("en", "es", "ko")


class Study:
    """Files of comparisons and verdicts of one policy."""

    def __init__(self, folder, n=N):
        self.folder, self.n, self.verdicts = folder, n, {}

    def compare(self, contenders, alike=(), longer=0):
        """Contenders' answers are all of one length, the base's own where ``alike`` says (contender, instruction)."""
        self.contenders = list(contenders)
        self.files = {}
        for language in LANGUAGES:
            rows = [
                {
                    "id": f"{contender}::i{i:02}",
                    "subset": contender,
                    "cluster": f"i{i:02}",
                    "prompt": [{"role": "user", "content": "Why?"}],
                    "chosen": _says("base" if (contender, i) in alike else "else" + "x" * longer * (i % 3)),
                    "rejected": _says("base"),
                }
                for contender in contenders
                for i in range(self.n)
            ]
            self.files[language] = self.folder / f"c.{language}.parquet"
            save_rows(rows, self.files[language])

    def judge(self, model, won, languages=LANGUAGES):
        """won: contender to margins [n], or a mapping of language to that."""
        for language in languages:
            margins = won.get(language, won)
            frame = pd.DataFrame(
                [
                    (f"{c}::i{i:02}", c, f"i{i:02}", language, float(margins[c][i]), 0.0)
                    for c in self.contenders
                    for i in range(self.n)
                ],
                columns=["id", "subset", "cluster", "language", "reward_chosen", "reward_rejected"],
            )
            path = self.folder / f"{model.id.replace('/', '.')}" / f"{language}.parquet"
            path.parent.mkdir(exist_ok=True)
            frame[::-1].to_parquet(path)  # any order: ids say what is whose
            self.verdicts.setdefault(model, {})[language] = path

    def table(self, baselines=("longer",)):
        rates = WinRates(self.files, self.verdicts, Bench(self.verdicts, DESIGN, baselines), DESIGN)
        return pd.DataFrame(rates.rows()).astype({"n": float})


def _says(text):
    return [{"role": "assistant", "content": text}]


A, B, L = "dpo/m/en/seed0", "best-of-2/m/en/seed0", "dpo/m/in-language/seed0"
WON = np.array([1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 0, 0, -1, -1, -1, -1])


def only(table, **keys):
    for name, wanted in keys.items():
        table = table[table[name] == wanted]
    assert len(table) == 1
    return table.iloc[0]


def test_a_win_rate_by_hand(tmp_path):
    study = Study(tmp_path)
    study.compare([A, B], alike={(A, 0)})
    study.judge(RewardModelId("armorm"), {A: WON, B: -WON})
    table = study.table()
    # 10 wins, 2 ties, 4 losses, and one of the wins is between equal answers.
    row = only(table, method="dpo", measure="win_rate", language="es")
    assert (row["value"], row["items"], row["seeds"]) == ((9 + 1.5) / 16, 16, 1)
    assert (row["selector_base"], row["selector"], row["judge"], row["relation"]) == (
        "m",
        "en",
        "armorm",
        "independent",
    )
    assert row["ci_low"] < row["value"] < row["ci_high"]
    assert only(table, method="best-of-n", measure="win_rate", language="es")["value"] == (4 + 1) / 16
    assert only(table, method="dpo", measure="ties", language="es")["value"] == 3 / 16
    assert only(table, method="dpo", measure="win_rate", language="targets")["value"] == (9 + 1.5) / 16


def test_targets_are_the_mean_of_target_languages(tmp_path):
    study = Study(tmp_path)
    study.compare([A])
    study.judge(RewardModelId("armorm"), {"en": {A: ALL_WON}, "es": {A: WON}, "ko": {A: -WON}})
    table = study.table()
    assert only(table, measure="win_rate", language="targets")["value"] == 0.5
    assert only(table, measure="win_rate", language="en")["value"] == 1
    # The two cancel on every instruction, which a draw of all languages at once sees.
    row = only(table, measure="win_rate", language="targets")
    assert row["ci_low"] == pytest.approx(row["ci_high"], abs=0.5)


def test_a_panel_is_one_judge_of_models_that_are_strangers(tmp_path):
    study = Study(tmp_path)
    study.compare([A])
    study.judge(RewardModelId("m", "en", 0), {A: -ALL_WON})  # of the selector's language
    study.judge(RewardModelId("m", "es", 0), {A: WON})
    study.judge(RewardModelId("m", "ko", 0), {A: ALL_WON})
    row = only(study.table(), measure="win_rate", language="es")
    assert (row["judge"], row["relation"]) == ("m", "sibling")
    assert row["value"] == pytest.approx((11 / 16 + 1) / 2)


def test_lengths_are_controlled_and_a_departure_is_flagged(tmp_path):
    study = Study(tmp_path, 30)
    study.compare([A], longer=50)
    lengths = np.array([50 * (i % 3) for i in range(30)])
    won = np.where(lengths > 0, 1.0, -1.0)
    won[::5] *= -1
    study.judge(RewardModelId("armorm"), {A: won})
    table = study.table()
    found = only(table, measure="lc_win_rate", language="es")["value"]
    assert found == pytest.approx(statsmodels_rate((won + 1) / 2, lengths.astype(float)), abs=1e-5)
    assert abs(found - only(table, measure="win_rate", language="es")["value"]) > 0.1
    assert only(table, measure="lc_departs", language="es")["value"] == 1


def test_position_bias_and_replies_without_a_verdict(tmp_path):
    study = Study(tmp_path)
    study.compare([A], alike={(A, 3)})
    judge = RewardModelId("judge")
    study.judge(judge, {A: WON})
    said = {0: "AA", 1: "AB", 2: ["C", None], 3: "AA"}  # of i03, which compares equal answers, nothing counts
    rows = [
        (f"{A}::i{i:02}", order, verdict)
        for i in range(N)
        for order, verdict in zip(("chosen_first", "rejected_first"), said.get(i, "BA"), strict=True)
    ]
    replies = pd.DataFrame(rows, columns=["id", "order", "verdict"]).assign(text="", finished=True)
    for path in study.verdicts[judge].values():
        replies.to_parquet(path.with_suffix(".judgements.parquet"))
    table = study.table()
    # 14 or 15 instructions with two decided verdicts each: AA, AB and 12 times BA.
    assert only(table, measure="position_bias", language="en")["value"] == pytest.approx((2 + 1 + 12) / 28)
    assert only(table, measure="off_format", language="en")["value"] == pytest.approx(1 / 30)


def test_agreement_between_judges_and_languages(tmp_path):
    study = Study(tmp_path)
    study.compare([A])
    other = np.roll(WON, 3)
    study.judge(RewardModelId("armorm"), {"en": {A: WON}, "es": {A: other}, "ko": {A: WON}})
    study.judge(RewardModelId("judge"), {A: other})
    table = study.table()
    kappa = cohen_kappa_score(WON, other)
    assert only(table, measure="kappa_judges", language="en")["value"] == pytest.approx(kappa)
    assert only(table, measure="kappa_judges", language="en")["judge"] == "armorm & judge"
    assert only(table, measure="kappa_judges", language="es")["value"] == 1
    between = table.query("measure == 'kappa_languages' and judge == 'armorm'").set_index("language")["value"]
    assert between.to_dict() == pytest.approx({"es": kappa, "ko": 1, "targets": (kappa + 1) / 2})
    expected = fleiss_kappa(aggregate_raters(np.stack([WON, other, WON], axis=1))[0])
    together = only(table, measure="fleiss_languages", judge="armorm")
    assert (together["language"], together["value"]) == ("all", pytest.approx(expected))


def test_selectors_are_compared_by_models_that_are_strangers_to_both(tmp_path):
    study = Study(tmp_path)
    study.compare([A, L])
    study.judge(RewardModelId("armorm"), {A: WON, L: -WON})
    for train in ("en", "es", "ko"):
        # Only of ko, in es, may both be judged.
        won = {A: ALL_WON, L: -ALL_WON} if train == "ko" else {A: -ALL_WON, L: ALL_WON}
        study.judge(RewardModelId("m", train, 0), won)
    table = study.table().query("measure == 'win_rate_difference'")
    row = only(table, judge="armorm", language="ko")
    assert row["selector"] == "en - in-language"
    assert row["value"] == pytest.approx(11 / 16 - 5 / 16)
    assert only(table, judge="m", language="es")["value"] == 1
    # In ko that is the one of es.
    assert only(table, judge="m", language="ko")["value"] == -1


def test_no_number_depends_on_other_contenders_or_judges(tmp_path):
    def table(contenders, judges):
        folder = tmp_path / f"{len(contenders)}{len(judges)}"
        folder.mkdir()
        study = Study(folder)
        study.compare(contenders)
        for model in judges:
            drawn = {c: np.random.default_rng([*c.encode(), *model.id.encode()]).integers(-1, 2, N) for c in contenders}
            study.judge(model, drawn)
        return study.table()

    seeds = [A, "dpo/m/en/seed1", L, "dpo/m/in-language/seed1"]
    judges = [RewardModelId("m", train, seed) for train in ("en", "es", "ko") for seed in (0, 1)]
    few = table(seeds, judges)
    more = [B, "sft/m/all/seed0", "dpo/longer", *seeds]
    others = [
        RewardModelId("m", "all", 0),
        RewardModelId("k", "en", 0),
        RewardModelId("armorm"),
        RewardModelId("longer"),
    ]
    many = table(more, [*others, *judges])
    keys = ["method", "n", "selector_base", "selector", "judge", "relation", "language", "measure", "seeds"]
    both = few.merge(many, on=keys, how="left", suffixes=("", "_many"))
    assert len(both) == len(few) > 40
    for name in ("value", "ci_low", "ci_high"):
        pd.testing.assert_series_equal(both[name], both[f"{name}_many"], check_names=False, check_exact=True)


def test_a_missing_verdict_is_named_and_equal_answers_need_none(tmp_path):
    study = Study(tmp_path)
    study.compare([A], alike={(A, 3)})
    judge = RewardModelId("armorm")
    study.judge(judge, {A: WON})
    path = study.verdicts[judge]["es"]
    whole = pd.read_parquet(path)
    whole[whole["cluster"] != "i03"].to_parquet(path)
    assert only(study.table(), measure="win_rate", language="es")["value"] == (9 + 1.5) / 16
    whole[whole["cluster"] != "i05"].to_parquet(path)
    with pytest.raises(StudyError, match=r"es\.parquet: has no row dpo/m/en/seed0::i05; delete the file"):
        study.table()

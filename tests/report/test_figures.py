"""Figures come from tables alone, the same bytes each time, with every label on them and none over another."""

from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from matplotlib import colormaps
from matplotlib.patches import Rectangle
from matplotlib.text import Text

from rmtransfer.report import figures
from rmtransfer.report.figures import style
from rmtransfer.transfer.transfer import TRANSFER_COLUMNS

STYLE = {"dpi": 72, "font_size": 8}
FIVE = ["en", "es", "it", "ko", "zh"]
MANY = [
    "ar",
    "cs",
    "de",
    "el",
    "en",
    "es",
    "fa",
    "fr",
    "he",
    "hi",
    "id",
    "it",
    "ja",
    "ko",
    "nl",
    "pl",
    "pt",
    "ro",
    "ru",
    "tr",
    "uk",
    "vi",
    "zh",
    "zh-Hant",
]
REWARDBENCH_2 = ["Factuality", "Precise IF", "Math", "Safety", "Focus", "Ties"]
MODELS = [
    "Skywork-Reward-Llama-3.1-8B-v0.2",
    "URM-LLaMa-3.1-8B",
    "BTRM-Qwen2-7B",
    "ArmoRM-8B",
    "OffsetBias-8B",
    "length-tokens",
    "random",
    "likelihood-gemma",
]
SHAPES = {
    "one base": ([("gemma-3-270m", k, 0) for k in FIVE], FIVE, ["Chat", "Chat Hard", "Safety", "Reasoning"]),
    "two bases": (
        [(b, t, s) for b in ("Llama-3.2-3B", "Qwen2.5-3B") for t in (*FIVE, "all", "translate-test") for s in (0, 1)]
        + [(MODELS[0], "-", 0)],
        FIVE,
        REWARDBENCH_2,
    ),
    "many languages": ([(m, "-", 0) for m in MODELS], MANY, ["Chat", "Safety"]),
}
KEYS = ["base_model", "train_language", "seed", "eval_language"]
SIGNIFICANCE = "eval_language base_a train_a base_b train_b family difference ci_low ci_high p_value p_holm n seeds"


def write(folder: Path, name: str, rows: list, columns: list[str]) -> None:
    pd.DataFrame(rows, columns=columns).to_csv(folder / f"{name}.csv", index=False)


def write_tables(folder: Path, models: list, languages: list[str], sections: list[str]) -> None:
    """Plausible tables of a study."""
    draw = np.random.default_rng(0).uniform
    cells = [(*model, language) for model in models for language in languages]
    accuracies = [(*cell, section, draw(0.5, 0.9)) for cell in cells for section in [*sections, "average"]]
    write(folder, "transfer", [(*row, row[-1] - 0.1, row[-1] + 0.1, 90) for row in accuracies], TRANSFER_COLUMNS)
    consistency = [(*cell, draw(0, 0.8)) for cell in cells if cell[3] != "en"]
    write(folder, "consistency", consistency, [*KEYS, "kappa"])
    quantiles = [
        (*cell, what, middle, 1.0, *(middle + z for z in (-1.6, -0.7, 0, 0.7, 1.6)), 90)
        for cell in cells
        for what, middle in (("chosen", draw(0, 1)), ("rejected", draw(-1, 0)), ("margin", 0.5))
    ]
    write(folder, "rewards", quantiles, [*KEYS, "what", "mean", "sd", "q05", "q25", "q50", "q75", "q95", "n"])
    write(folder, "calibration", [(*cell, draw(0, 0.3)) for cell in cells], [*KEYS, "ece"])
    length = [(*cell, draw(0.5, 0.9), draw(0.4, 0.8)) for cell in cells]
    write(folder, "length_bias", length, [*KEYS, "accuracy_longer", "accuracy_shorter"])
    bases = dict.fromkeys(base for base, train, _ in models if train != "-")
    baseline = [(base, language, "average", 0.5, 90) for base in bases for language in languages]
    write(folder, "length_baseline", baseline, ["base_model", "eval_language", "subset", "accuracy", "n"])
    tests = [
        (k, base, train, base, k, "in-language", 0.1, 0, 0.2, 0.01, draw(0, 0.1), 90, 1)
        for base, train in dict.fromkeys((b, t) for b, t, _ in models if t != "-")
        for k in languages
        if k != train
    ]
    write(folder, "significance", tests, SIGNIFICANCE.split())


def draw_all(folder: Path, suffix: str = "png") -> dict[str, list[Path]]:
    table = {path.stem: path for path in folder.glob("*.csv")}
    names = ("heatmap", "sections", "dumbbell", "consistency", "rewards", "length_bias")
    out = {name: [folder / f"{name}.{suffix}"] for name in names}
    transfer = (table["transfer"], table["significance"], table["length_baseline"])
    figures.draw_transfer(*transfer, out["heatmap"], out["sections"], **STYLE)
    figures.draw_source_against_target(table["transfer"], out["dumbbell"], "en", **STYLE)
    figures.draw_consistency(table["consistency"], out["consistency"], **STYLE)
    figures.draw_rewards(table["rewards"], table["calibration"], out["rewards"], **STYLE)
    figures.draw_length_bias(table["length_bias"], out["length_bias"], **STYLE)
    return out


@pytest.fixture
def kept(monkeypatch):
    """The figures that are drawn, in order, kept open."""
    drawn = []
    monkeypatch.setattr(plt, "close", drawn.append)
    yield drawn
    monkeypatch.undo()
    plt.close("all")


def labels(figure) -> list[Text]:
    """Every text that a reader sees."""
    found = []
    for axis in figure.axes:
        if not axis.axison:
            continue
        found += [axis.title, axis.xaxis.label, axis.yaxis.label, *axis.texts]
        for ticks, where, (low, high) in (
            (axis.get_xticklabels(), 0, sorted(axis.get_xlim())),
            (axis.get_yticklabels(), 1, sorted(axis.get_ylim())),
        ):
            found += [t for t in ticks if low <= t.get_position()[where] <= high]
    found += [text for legend in figure.legends for text in [*legend.get_texts(), legend.get_title()]]
    found += figure.texts
    return [text for text in found if text is not None and text.get_visible() and text.get_text()]


def boxes(figure) -> tuple[list[str], np.ndarray]:
    texts = labels(figure)
    return [t.get_text() for t in texts], np.array([t.get_window_extent().extents for t in texts])


def check_labels(figure) -> None:
    names, box = boxes(figure)
    assert len(names) > 3
    width, height = figure.bbox.size
    for name, (left, bottom, right, top) in zip(names, box, strict=True):
        assert min(left, bottom) >= -0.5, name
        assert right <= width + 0.5, name
        assert top <= height + 0.5, name
    overlap = np.minimum(box[:, None, 2:], box[None, :, 2:]) - np.maximum(box[:, None, :2], box[None, :, :2])
    for i, j in np.argwhere((overlap > 0.8).all(axis=-1)):
        assert i == j, (names[i], names[j])


@pytest.mark.parametrize("shape", SHAPES)
def test_every_figure_is_written_and_no_label_is_cut_or_covered(shape, kept, tmp_path):
    write_tables(tmp_path, *SHAPES[shape])
    out = draw_all(tmp_path)
    assert len(kept) == len(out) == 6
    assert all(path.stat().st_size > 500 for paths in out.values() for path in paths)
    for name, figure in zip(out, kept, strict=True):
        assert figure.get_figwidth() in (style.COLUMN, style.FULL)
        if (shape, name) == ("many languages", "dumbbell"):
            assert "No reward model is trained in en" in figure.texts[0].get_text()
        else:
            check_labels(figure)


def test_the_same_table_gives_the_same_bytes(tmp_path):
    write_tables(tmp_path, [("m", "en", 0), ("m", "es", 0)], ["en", "es"], ["Chat"])
    table, calibration = tmp_path / "rewards.csv", tmp_path / "calibration.csv"
    outputs = [tmp_path / "rewards.png", tmp_path / "rewards.pdf"]
    written = []
    for _ in range(2):
        figures.draw_rewards(table, calibration, outputs, **STYLE)
        written.append([path.read_bytes() for path in outputs])
    assert written[0] == written[1]


def draw_heatmap(folder: Path, tests: list) -> None:
    write_tables(folder, [("m", k, 0) for k in ("en", "es", "ko")], ["en", "es", "ko"], ["Chat"])
    write(folder, "significance", tests, SIGNIFICANCE.split())
    tables = [folder / f"{name}.csv" for name in ("transfer", "significance", "length_baseline")]
    figures.draw_transfer(*tables, [folder / "heat.png"], [folder / "sections.png"], **STYLE)


def test_hatched_and_italic_is_what_no_test_finds_significant(kept, tmp_path):
    def line(language, train, p, family="in-language", against=None):
        return (language, "m", train, "m", against or language, family, 0.1, 0, 0.2, p, p, 90, 1)

    tests = [
        line("es", "en", 0.04),  # significant
        line("ko", "en", 0.05),  # on the bound: not
        line("en", "es", 0.9),
        line("ko", "es", 0.9),
        line("ko", "es", 0.001, "other", "en"),  # not the difference that is shown
        line("en", "ko", 0.0),
        # es of ko: no test
    ]
    draw_heatmap(tmp_path, tests)
    accuracy, difference = (a for a in kept[0].axes if a.images and a.get_xlabel().startswith("evaluated"))
    place = ["en", "es", "ko"].index
    expected = {(place(k), place(t)) for t, k in (("en", "ko"), ("es", "en"), ("es", "ko"), ("ko", "es"))}
    hatches = [p for p in difference.patches if isinstance(p, Rectangle) and p.get_hatch()]
    assert {(round(p.get_x() + 0.5), round(p.get_y() + 0.5)) for p in hatches} == expected
    assert {t.get_position() for t in difference.texts if t.get_fontstyle() == "italic"} == expected
    assert not [p for p in accuracy.patches if p.get_hatch()]


def test_heat_maps_show_the_tables_numbers(kept, tmp_path):
    draw_heatmap(tmp_path, [])
    accuracy, difference = (a for a in kept[0].axes if a.images and a.get_xlabel().startswith("evaluated"))
    table = pd.read_csv(tmp_path / "transfer.csv").query("section == 'average'")
    expected = 100 * table.pivot(index="train_language", columns="eval_language", values="accuracy").to_numpy()
    np.testing.assert_allclose(accuracy.images[0].get_array(), expected)
    np.testing.assert_allclose(difference.images[0].get_array(), expected - np.diag(expected))
    low, high = difference.images[0].get_clim()
    assert low == -high


def test_section_panels_follow_the_table(kept, tmp_path):
    write_tables(tmp_path, [("m", "en", 0)], ["en", "es"], ["z", "b", "y", "a", "x", "c"])
    draw_all(tmp_path)
    shown = [a for a in kept[1].axes if a.axison]
    assert [a.get_title() for a in shown] == ["z", "b", "y", "a", "x", "c", "Average"]
    assert len({a.get_subplotspec().rowspan.start for a in shown}) == 2


def test_one_seed_keeps_its_interval_and_several_show_their_range():
    columns = ["model", "accuracy", "ci_low", "ci_high"]
    frame = pd.DataFrame([("a", 0.6, 0.5, 0.7), ("b", 0.6, 0.5, 0.7), ("b", 0.8, 0.7, 0.9)], columns=columns)
    cells = style.over_seeds(frame, ["model"])
    np.testing.assert_allclose(cells.loc["a"], [60, 50, 70])
    np.testing.assert_allclose(cells.loc["b"], [70, 60, 80])
    seeds = pd.DataFrame([("b", 0.7, 0.4, 0.95)], columns=["model", "mean", "ci_low", "ci_high"])
    np.testing.assert_allclose(style.over_seeds(seeds, ["model"]).loc["b"], [70, 40, 95])


def test_rewards_are_standardised_by_all_answers_of_a_model():
    """Against the mean and standard deviation of the answers themselves."""
    draw = np.random.default_rng(1)
    answers = {key: draw.normal(*key[:2], key[2]) for key in [(5, 2, 300), (1, 1, 100), (-3, 4, 50)]}
    rows = [
        ("m", "en", 0, "en", "chosen", x.mean(), x.std(), *np.quantile(x, [0.05, 0.25, 0.5, 0.75, 0.95]), len(x))
        for x in answers.values()
    ]
    columns = [*KEYS, "what", "mean", "sd", "q05", "q25", "q50", "q75", "q95", "n"]
    together = np.concatenate(list(answers.values()))
    found = figures.rewards._standardised(pd.DataFrame(rows, columns=columns))["q50"]
    expected = [(np.median(x) - together.mean()) / together.std() for x in answers.values()]
    np.testing.assert_allclose(found, expected)


def test_what_has_no_data_says_so(kept, tmp_path):
    write_tables(tmp_path, [("m", "en", 0)], ["en"], ["Chat"])
    write(tmp_path, "length_bias", [], [*KEYS, "accuracy_longer", "accuracy_shorter"])
    draw_all(tmp_path)
    said = [figure.texts[0].get_text() for figure in kept if not figure.axes]
    assert len(said) == 3  # the dumbbell, consistency and length bias
    assert all(sentence.startswith("No reward model") for sentence in said)


def test_numbers_carry_a_true_minus_and_no_signed_zero():
    assert style.number("{:+.0f}", -3.2) == "\N{MINUS SIGN}3"
    assert style.number("{:+.0f}", 2.6) == "+3"
    assert style.number("{:+.0f}", -0.2) == "0"
    assert style.number("{:.2f}", 0.071) == "0.07"


def test_differences_are_coloured_symmetrically_around_white():
    middle = colormaps["RdBu_r"](0.5)
    assert min(middle[:3]) > 0.95


def test_every_colour_has_its_marker():
    assert len(set(style.COLORS)) == len(set(style.MARKERS)) == len(style.COLORS) >= 5
    looks = [style.series(i) for i in range(style.MOST_SERIES)]
    assert len({(look["marker"], look["color"], look["markerfacecolor"]) for look in looks}) == style.MOST_SERIES


def test_names_that_look_like_missing_values_stay_names(tmp_path):
    (tmp_path / "t.csv").write_text("base_model,train_language,seed,accuracy\nNA,nan,0,\n")
    frame = style.read_table(tmp_path / "t.csv")
    assert list(frame.iloc[0, :2]) == ["NA", "nan"]
    assert np.isnan(frame["accuracy"][0])

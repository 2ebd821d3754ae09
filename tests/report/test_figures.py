"""Figures come from tables alone, the same bytes each time, with every label on them and none over another."""

import os
import subprocess
import sys
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from matplotlib import colormaps
from matplotlib.patches import Rectangle
from matplotlib.text import Text

from rmtransfer.alignment.best_of_n import COLUMNS
from rmtransfer.alignment.evaluation import COLUMNS as _ALIGNMENT
from rmtransfer.models import training_log
from rmtransfer.report.catalogue import FIGURES, draw
from rmtransfer.report.figures import rewards, style
from rmtransfer.report.figures.baselines import GREY
from rmtransfer.study.names import ORIGINS
from rmtransfer.transfer import scaling as scaling_table
from rmtransfer.transfer.measures import MEASURES

PATH = {**os.environ, "PYTHONPATH": str(Path(style.__file__).parents[3])}
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
ALIGNMENT_COLUMNS = list(_ALIGNMENT)
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
BASELINES = {
    "untrained-head": "gemma-3-270m",
    "probe": "gemma-3-270m",
    "likelihood": "gemma-3-270m",
    "longer-answer": "",
}
BASELINES |= {"untrained-qwen": "Qwen2.5-3B", "probe-qwen": "Qwen2.5-3B", "length-tokens": "", "random": ""}
NAMES = {"source": "en", "baselines": BASELINES}


def baseline_rows(base: str, languages: list[str]) -> list:
    """What a study adds for one of its bases: 20 untrained heads, a probe for each language, likelihood and length."""
    rows = []
    for name in (name for name, of in BASELINES.items() if of in (base, "")):
        several = range(20 if name.startswith("untrained") else 1)
        trains = languages if name.startswith("probe") else ["-"]
        rows += [(name, train, seed) for train in trains for seed in several]
    return rows


SHAPES = {
    "one base": ([("gemma-3-270m", k, 0) for k in FIVE], FIVE, ["Chat", "Chat Hard", "Safety", "Reasoning"]),
    "seeds and baselines": (
        [("gemma-3-270m", k, s) for k in FIVE for s in range(3)] + baseline_rows("gemma-3-270m", FIVE),
        FIVE,
        ["Chat", "Chat Hard", "Safety", "Reasoning"],
    ),
    "bases, seeds and baselines": (
        [(b, k, s) for b in ("gemma-3-270m", "Qwen2.5-3B") for k in (*FIVE, "all") for s in range(3)]
        + [(MODELS[0], "-", 0)]
        + list(dict.fromkeys(baseline_rows("gemma-3-270m", FIVE) + baseline_rows("Qwen2.5-3B", FIVE))),
        FIVE,
        REWARDBENCH_2,
    ),
    "many languages with baselines": (
        [("gemma-3-270m", k, s) for k in MANY[:12] for s in range(3)] + baseline_rows("gemma-3-270m", MANY[:12]),
        MANY[:12],
        ["Chat", "Chat Hard", "Safety", "Reasoning"],
    ),
    "two bases": (
        [(b, t, s) for b in ("Llama-3.2-3B", "Qwen2.5-3B") for t in (*FIVE, "all", "translate-test") for s in (0, 1)]
        + [(MODELS[0], "-", 0)],
        FIVE,
        REWARDBENCH_2,
    ),
    "many languages": ([(m, "-", 0) for m in MODELS], MANY, ["Chat", "Safety"]),
    "many languages trained in": (
        [("Llama-3.2-3B", k, 0) for k in (*MANY[:8], "all")] + [(MODELS[0], "-", 0)],
        MANY,
        ["Chat"],
    ),
    "some languages": ([("gemma-3-270m", k, s) for k in ("en", "es", "fr") for s in (0, 1)], MANY[:9], ["Chat"]),
    "one language": ([("gemma-3-270m", "en", 0)], ["en"], ["Chat"]),
}
WRITTEN = {"one base", "many languages", "one language"}  # every figure, and those that have nothing to show
REASONS = [
    "empty translation",
    "protected span lost or changed",
    "untranslated copy",
    "wrong script",
    "wrong language",
    "length ratio",
    "repetition loop",
    "number mismatch",
    "comment instead of translation",
    "cut off",
]
KEYS = ["base_model", "train_language", "seed", "eval_language"]
CHANCE = ["section", "chance", "n"]
SIGNIFICANCE = (
    "eval_language base_a train_a base_b train_b family difference ci_low ci_high p_value p_holm p_items n seeds"
)


def write(folder: Path, name: str, rows: list, columns: list[str]) -> None:
    pd.DataFrame(rows, columns=columns).to_csv(folder / f"{name}.csv", index=False)


def write_tables(folder: Path, models: list, languages: list[str], sections: list[str]) -> None:
    """Plausible tables of a study."""
    draw = np.random.default_rng(0).uniform
    cells = [(*model, language) for model in models for language in languages]
    accuracies = [(*cell, section, draw(0.5, 0.9)) for cell in cells for section in [*sections, "average"]]
    write(
        folder,
        "transfer",
        [(*row, row[-1] - 0.1, row[-1] + 0.1, 90) for row in accuracies],
        [*KEYS, *["section", "accuracy", "ci_low", "ci_high", "n"]],
    )
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
    bases = dict.fromkeys(base for base, train, _ in models if train != "-" and base not in BASELINES)
    baseline = [(base, language, "average", 0.5, 90) for base in bases for language in languages]
    write(folder, "length_baseline", baseline, ["base_model", "eval_language", "subset", "accuracy", "n"])
    trained = dict.fromkeys((base, train) for base, train, _ in models if base in bases)
    tests = []
    for base, train in trained:
        for k in (k for k in languages if k != train and (base, k) in trained):
            family, gap = "primary" if train == "en" else "in-language", draw(-0.1, 0.1)
            p = draw(0, 0.1)
            tests.append((k, base, train, base, k, family, gap, gap - 0.06, gap + 0.06, p, p, p, 90, 3))
    write(folder, "significance", tests, SIGNIFICANCE.split())
    frame = pd.DataFrame(accuracies, columns=[*KEYS, "section", "accuracy"])
    keys = ["base_model", "train_language", "eval_language", "section"]
    means = frame.groupby(keys, sort=False)["accuracy"].agg(["mean", "std", "count"]).reset_index()
    rows = [(*row[:6], row[4] - 0.07, row[4] + 0.07, row[6], 2.0, 90) for row in means.itertuples(index=False)]
    write(folder, "seeds", rows, [*keys, "mean", "sd", "ci_low", "ci_high", "seeds", "df", "n"])
    write(folder, "chance", [(name, 0.25 if name == "Math" else 0.5, 90) for name in [*sections, "average"]], CHANCE)
    if len(languages) > 1:
        write_translations(folder, languages)
    if bases:
        scaling = [
            (base, 3e8 * 4**i, pairs, language, origin, mean := draw(0.4, 0.9), None, mean - 0.1, mean + 0.1, 1, 90)
            for i, base in enumerate(bases)
            for pairs in (24, 48, 96)
            for origin in ORIGINS
            for language in (*languages, "all")
            if language != "en" or origin != "source"
        ]
        write(folder, "scaling", scaling, list(scaling_table.COLUMNS))
        write_representations(folder, models, languages)
        write_gains(folder, models, languages)
        write_alignment(folder, models, languages)
        write_trainings(folder, models)


def write_trainings(folder: Path, models: list[tuple[str, str, int]]) -> None:
    draw = np.random.default_rng(0).uniform
    rows = [
        (*model, step, 8 * step, step / 12, 1e-5, draw(0.5, 0.7), draw(0.4, 0.7), draw(0.5, 0.7), draw(0.4, 0.7))
        for model in models
        if model[1] != "-" and model[0] not in BASELINES
        for step in (0, 4, 8, 12)
    ]
    write(folder, "training", rows, [*KEYS[:3], *training_log.COLUMNS])


def write_gains(folder: Path, models: list[tuple[str, str, int]], languages: list[str]) -> None:
    draw = np.random.default_rng(0).uniform
    pickers = dict.fromkeys((base, train) for base, train, _ in models)
    rows = []
    for policy in dict.fromkeys(base for base, train in pickers if train != "-"):
        for base, train in (picker for picker in pickers if picker[0] == policy or picker[1] == "-"):
            for language in languages:
                for n, ideal, gain in (
                    (1, 0, 0.0),
                    (2, 0.56, draw(0.2, 0.3)),
                    (4, 1.03, draw(0.4, 0.6)),
                    (8, 1.42, 0.8),
                ):
                    cell = (policy, base, train, language, "other languages", n, 4, "no", 1)
                    known = (*cell, gain, gain - 0.1, gain + 0.1, ideal)
                    spoken = (draw(0.5, 0.7), draw(-0.1, 0.1), -0.2, draw(-0.1, 0.1), 0.9)
                    rows.append((*known, *spoken, draw(0.2, 0.4), draw(-0.1, 0.1), -0.2, 0.2, 300.0, -5.0, 24))
    write(folder, "best_of_n", rows, list(COLUMNS))


def write_alignment(folder: Path, models: list[tuple[str, str, int]], languages: list[str]) -> None:
    """Win rates, gains and constraints of each base as a policy, with two judges of others."""
    draw = np.random.default_rng(0).uniform
    rows = []
    bases = dict.fromkeys(base for base, train, _ in models if train != "-" and base not in BASELINES)
    trained = list(dict.fromkeys(train for _, train, _ in models if train != "-"))
    for policy in bases:
        for method, n in (("best-of-n", 2), ("best-of-n", 4), ("dpo", None), ("sft", None)):
            for base, selector in ((policy, "en"), (policy, "in-language"), ("-", "Skywork-Reward-Llama-3.1-8B-v0.2")):
                for judge, kind in (
                    (policy, "sibling"),
                    ("M-Prometheus-14B", "independent"),
                    ("longer-answer", "baseline"),
                ):
                    for language in (*languages, "targets"):
                        value = draw(0.2, 0.8)
                        shown = (policy, method, n, base, selector, judge, kind, language)
                        rows.append((*shown, "win_rate", value, value - 0.2, value + 0.2, 3, 16))
                        rows.append((*shown, "lc_win_rate", value + draw(-0.1, 0.1), None, None, 3, 16))
        for selector in trained:
            for language in languages:
                for n in (1, 2, 4):
                    for judge, measure in (
                        ("-", "proxy_gain"),
                        ("other languages", "judge_gain"),
                        (MODELS[0], "judge_gain"),
                    ):
                        shown = (policy, "best-of-n", n, policy, selector, judge, "", language, measure)
                        rows.append((*shown, 0.3 * n, 0.2 * n, 0.4 * n, 3, 24))
        for method, base, selector in (("base", "-", "-"), ("dpo", policy, "en"), ("dpo", policy, "in-language")):
            for language in languages:
                for measure in ("strict_prompt_accuracy", "loose_prompt_accuracy"):
                    shown = (policy, method, None, base, selector, "-", "", language, measure)
                    rows.append((*shown, draw(0.1, 0.5), 0.1, 0.6, 1, 16))
    write(folder, "alignment", rows, ALIGNMENT_COLUMNS)


def write_translations(folder: Path, languages: list[str]) -> None:
    counts = np.random.default_rng(0).integers
    refused = [("refused", reason) for reason in REASONS]
    rows = [
        (language, part, "deepl", measure, reason, counts(1, 30) + (400 if measure == "passed" else 0))
        for language in languages
        if language != "en"
        for part in ("preferences", "benchmark")
        for measure, reason in [("texts", ""), ("passed", ""), ("passed_after_retry", ""), *refused]
    ]
    write(folder, "translation", rows, ["language", "part", "engine", "measure", "reason", "value"])


def write_representations(folder: Path, models: list, languages: list[str]) -> None:
    draw = np.random.default_rng(0)
    ours = [model for model in models if model[1] != "-" and model[0] not in BASELINES]
    every = [*dict.fromkeys((base, "base", "") for base, _, _ in ours), *ours]
    center = {language: draw.normal(0, 20, 2) for language in languages}
    points = [
        (*model, language, f"r{i}", "chosen", *(center[language] + draw.normal(0, 3, 2)))
        for model in every
        for language in languages
        for i in range(10)
    ]
    write(folder, "pca", points, [*KEYS[:3], "language", "id", "side", "pc1", "pc2"])
    measures = []
    for model in every:
        shares = (("singular_value_share", draw.uniform(0.3, 0.4)), ("explained_variance_pc1", 0.4))
        measures += [(*model, "all", metric, value) for metric, value in (*shares, ("explained_variance_pc2", 0.2))]
        for language in languages:
            measures.append((*model, language, "norm_mean", draw.uniform(80, 180)))
            measures.append((*model, language, "norm_sd", draw.uniform(5, 20)))
            if model[1] != "base":
                measures.append((*model, language, "shift_cosine", draw.uniform(0, 0.3)))
    write(folder, "representation", measures, [*KEYS, "metric", "value"])


def draw_all(folder: Path, *suffixes: str) -> dict[str, list[Path]]:
    """Every figure whose tables are there: name to files, in the catalogue's order."""
    out = {}
    for figure in FIGURES:
        tables = {name: folder / f"{name}.csv" for name in figure.tables}
        if all(path.is_file() for path in tables.values()):
            out[figure.name] = [folder / f"{figure.name}.{suffix}" for suffix in suffixes]
            draw(figure.name, tables, out[figure.name], {name: NAMES[name] for name in figure.names}, STYLE)
    return out


def draw_one(name: str, folder: Path, outputs: list[Path] | None = None) -> None:
    (figure,) = (figure for figure in FIGURES if figure.name == name)
    tables = {table: folder / f"{table}.csv" for table in figure.tables}
    draw(name, tables, outputs or [folder / f"{name}.png"], {name: NAMES[name] for name in figure.names}, STYLE)


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


def test_the_tables_drawn_here_are_those_that_a_study_writes(tmp_path):
    write_tables(tmp_path, *SHAPES["one base"])
    read = {name for figure in FIGURES if figure.scope == "benchmark" for name in figure.tables}
    assert len(read) >= 8
    for name in read:
        columns = scaling_table.COLUMNS if name == "scaling" else MEASURES[name].columns
        assert set(pd.read_csv(tmp_path / f"{name}.csv")) <= set(columns), name


@pytest.mark.parametrize("shape", SHAPES)
def test_every_figure_is_written_and_no_label_is_cut_or_covered(shape, kept, tmp_path):
    """Of most shapes no file is written: labels fit before, and stay where they are."""
    write_tables(tmp_path, *SHAPES[shape])
    out = draw_all(tmp_path, *(["png"] if shape in WRITTEN else []))
    without = {"many languages": 9, "one language": 1}.get(shape, 0)  # what takes a base; the translation's
    assert len(kept) == len(out) == len(FIGURES) - without
    assert {len(paths) for paths in out.values()} == {shape in WRITTEN}
    assert all(path.stat().st_size > 500 for paths in out.values() for path in paths)
    empty = {
        "many languages": {"source_against_target": "No reward model is trained in en"},
        "one language": {"source_against_target": "No reward model", "consistency": "No reward model"},
    }
    for name, figure in zip(out, kept, strict=True):
        assert figure.get_figwidth() in (style.COLUMN, style.FULL)
        if name in empty.get(shape, {}):
            assert empty[shape][name] in figure.texts[0].get_text()
        else:
            check_labels(figure)


def test_figures_are_drawn_without_statistics_and_models(tmp_path):
    """Every figure, in a process of its own: pandas, numpy and matplotlib are what it takes."""
    write_tables(tmp_path, [("m", "en", 0), ("m", "es", 0)], ["en", "es"], ["Chat"])
    code = """
import sys
from pathlib import Path
from rmtransfer.report.catalogue import FIGURES, draw
folder = Path(sys.argv[1])
for figure in FIGURES:
    tables = {name: folder / f"{name}.csv" for name in figure.tables}
    names = {name: {"source": "en", "baselines": {}}[name] for name in figure.names}
    draw(figure.name, tables, [folder / f"{figure.name}.png"], names, {"dpi": 72, "font_size": 8})
print(*sorted({module.split(".")[0] for module in sys.modules}))
"""
    run = subprocess.run([sys.executable, "-c", code, tmp_path], env=PATH, capture_output=True, text=True, check=True)
    assert len(list(tmp_path.glob("*.png"))) == len(FIGURES) >= 10
    loaded = set(run.stdout.split())
    assert {"pandas", "numpy", "matplotlib"} <= loaded
    assert not loaded & {"sklearn", "scipy", "statsmodels", "torch", "transformers", "datasets", "pydantic"}


def test_the_same_table_gives_the_same_bytes(tmp_path):
    write_tables(tmp_path, [("m", "en", 0), ("m", "es", 0)], ["en", "es"], ["Chat"])
    outputs = [tmp_path / "rewards.png", tmp_path / "rewards.pdf"]
    written = []
    for _ in range(2):
        draw_one("rewards", tmp_path, outputs)
        written.append([path.read_bytes() for path in outputs])
    assert written[0] == written[1]


def draw_heatmap(folder: Path, tests: list, *more: str) -> None:
    write_tables(folder, [("m", k, 0) for k in ("en", "es", "ko", *more)], ["en", "es", "ko"], ["Chat"])
    write(folder, "significance", tests, SIGNIFICANCE.split())
    draw_one("transfer", folder)


def test_hatched_and_italic_is_what_no_test_finds_significant(kept, tmp_path):
    def line(language, train, p, family="in-language", against=None):
        return (language, "m", train, "m", against or language, family, 0.1, 0, 0.2, p, p, p, 90, 1)

    tests = [
        line("es", "en", 0.04, "primary"),  # significant
        line("ko", "en", 0.05, "primary"),  # on the bound: not
        line("en", "es", 0.9),
        line("ko", "es", 0.9),
        line("ko", "es", 0.001, "other", "en"),  # not the difference that is shown
        line("en", "ko", 0.0),
        line("en", "all", 0.01, "other"),  # a mixture that holds English has a test, too
        # es of ko: no test
    ]
    draw_heatmap(tmp_path, tests, "all")
    accuracy, difference = (a for a in kept[0].axes if a.images and a.get_xlabel().startswith("evaluated"))
    place = ["en", "es", "ko", "all"].index
    cells = (("en", "ko"), ("es", "en"), ("es", "ko"), ("ko", "es"), ("all", "es"), ("all", "ko"))
    expected = {(place(k), place(t)) for t, k in cells}
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
    draw_one("sections", tmp_path)
    shown = [a for a in kept[0].axes if a.axison]
    assert [a.get_title() for a in shown] == ["z", "b", "y", "a", "x", "c", "Average"]
    assert len({a.get_subplotspec().rowspan.start for a in shown}) == 2


def test_every_pca_panel_is_named_and_holds_the_texts_of_a_models_first_seed(kept, tmp_path):
    write_tables(
        tmp_path, [(b, k, s) for b in ("a", "b") for k in ("en", "es") for s in (3, 1)], ["en", "es"], ["Chat"]
    )
    draw_one("pca", tmp_path)
    panels = {axis.get_title(): axis for axis in kept[0].axes if axis.axison}
    trained = {f"{b}\ntrained in {k}" for b in "ab" for k in ("en", "es")}
    assert set(panels) == {"a, untrained", "b, untrained", *trained}
    table = pd.read_csv(tmp_path / "pca.csv").query("base_model == 'b' and train_language == 'es' and seed == 3")
    drawn = [line.get_xydata() for line in panels["b\ntrained in es"].lines]
    np.testing.assert_allclose(np.concatenate(drawn), table[["pc1", "pc2"]])


def test_many_languages_are_told_apart_by_the_means_of_their_texts(kept, tmp_path):
    write_tables(tmp_path, [("m", "en", 0)], MANY, ["Chat"])
    draw_one("pca", tmp_path)
    means = pd.read_csv(tmp_path / "pca.csv").query("train_language == 'en'").groupby("language", sort=False)
    marked = [line for line in kept[0].axes[1].lines if line.get_marker() != "."]
    np.testing.assert_allclose([line.get_xydata()[0] for line in marked], means[["pc1", "pc2"]].mean())
    looks = {(line.get_marker(), line.get_fillstyle(), line.get_markerfacecolor() == "white") for line in marked}
    assert len(looks) == len(MANY) == 24


def test_best_of_n_wraps_its_panels_and_gives_way_to_a_heat_map(kept, tmp_path):
    write_tables(tmp_path, [("m", k, 0) for k in MANY[:8]], MANY[:9], ["Chat"])
    draw_one("best_of_n", tmp_path)
    panels = {axis.get_title(): axis for axis in kept[0].axes if axis.axison and axis.get_title()}
    assert list(panels) == [f"answers in {k}" for k in MANY[:9]]
    assert {axis.get_subplotspec().rowspan.start for axis in panels.values()} == {0, 3}
    write_tables(tmp_path, [("m", k, 0) for k in MANY[:9]], MANY[:9], ["Chat"])
    draw_one("best_of_n", tmp_path)
    last = pd.read_csv(tmp_path / "best_of_n.csv").query("n == 8")
    expected = last.pivot(index="train_language", columns="language", values="gain")
    heat = kept[1].axes[0]
    np.testing.assert_allclose(heat.images[0].get_array(), expected)
    # Hatched is where a language is picked less often for certain.
    hatched = {(round(p.get_y() + 0.5), round(p.get_x() + 0.5)) for p in heat.patches if p.get_hatch()}
    switched = last.pivot(index="train_language", columns="language", values="in_language_high").to_numpy() < 0
    assert hatched == set(zip(*np.nonzero(switched), strict=True))
    assert 0 < len(hatched) < 81


@pytest.mark.parametrize("languages", [FIVE, MANY[:11]], ids=["beside", "stacked"])
def test_representations_show_the_tables_numbers(languages, kept, tmp_path):
    write_tables(tmp_path, [("m", k, 0) for k in languages], languages, ["Chat"])
    draw_one("representation", tmp_path)
    shift, share, norm = kept[0].axes[:3]
    table = pd.read_csv(tmp_path / "representation.csv").pivot(
        index="train_language", columns=["metric", "eval_language"], values="value"
    )
    np.testing.assert_allclose(shift.images[0].get_array(), table["shift_cosine"].loc[languages, languages])
    base, trained = share.lines
    assert set(base.get_ydata()) == {table.at["base", ("singular_value_share", "all")]}
    np.testing.assert_allclose(trained.get_ydata(), table["singular_value_share"].loc[languages, "all"])
    means = table["norm_mean"].loc[["base", *languages], languages]
    if len(languages) > len(FIVE):
        np.testing.assert_allclose(norm.images[0].get_array(), means)
    else:
        drawn = [container.lines[0].get_ydata() for container in norm.containers]
        np.testing.assert_allclose(np.transpose(drawn).astype(float), means)


def test_bars_of_translations_add_up_to_all_texts(kept, tmp_path):
    write_translations(tmp_path, FIVE)
    draw_one("translation", tmp_path)
    (axis,) = kept[0].axes
    assert len(axis.containers) == 2 + len(REASONS)
    widths = np.array([[bar.get_width() for bar in bars] for bars in axis.containers])
    np.testing.assert_allclose(widths.sum(axis=0), 100)
    starts = np.array([[bar.get_x() for bar in bars] for bars in axis.containers])
    np.testing.assert_allclose(starts[1:], widths.cumsum(axis=0)[:-1])
    looks = [bars.patches[0].get_hatch() for bars in axis.containers]
    assert len(set(looks)) == len(looks)  # in greyscale, too
    table = pd.read_csv(tmp_path / "translation.csv")
    counts = table[table["measure"] != "texts"].groupby("language")["value"].sum()
    refused = table[table["measure"] == "refused"].groupby("language")["value"].sum()
    assert [text.get_text() for text in axis.texts] == [f"{refused[k]:,} of {counts[k]:,} refused" for k in FIVE[1:]]


def test_tick_labels_are_turned_and_shrunk_until_they_fit(kept, tmp_path):
    style.use_style(72, 8)
    figure, axes = plt.subplots(1, 3, figsize=(style.FULL, 2), layout="constrained")
    for axis in axes:
        axis.set_xticks(range(len(MANY)), MANY)
    style.save(figure, [tmp_path / "ticks.png"])
    check_labels(figure)
    assert {label.get_rotation() for label in axes[0].get_xticklabels()} == {90}
    assert all(5 <= label.get_fontsize() < 7 for label in axes[0].get_xticklabels())


def test_intervals_are_those_of_seeds_and_items():
    seeds = pd.DataFrame([("b", 0.7, 0.4, 0.95, 0.1)], columns=["model", "mean", "ci_low", "ci_high", "sd"])
    np.testing.assert_allclose(style.intervals(seeds, ["model"]).loc["b"], [70, 40, 95, 10])


def test_groups_are_bases_then_models_of_others_then_baselines():
    models = [("m", "en"), ("theirs", "-"), ("probe", "en"), ("probe", "es"), ("m", "es"), ("fresh", "-")]
    frame = pd.DataFrame(models, columns=["base_model", "train_language"])
    groups = style.model_groups(frame, {"probe": "m", "fresh": "m", "absent": ""})
    assert {group: cells["model"].tolist() for group, cells in groups.items()} == {
        "m": ["en", "es"],
        "off the shelf": ["theirs"],
        "baselines": ["probe en", "probe es", "fresh"],
    }


def in_per_cent(folder: Path, name: str, query: str, columns: list[str]) -> np.ndarray:
    return 100 * style.read_table(folder / f"{name}.csv").query(query)[columns].to_numpy()


def test_sections_show_chance_and_what_a_reward_model_must_beat(kept, tmp_path):
    write_tables(tmp_path, *SHAPES["seeds and baselines"])
    write(
        tmp_path, "chance", [("Chat", 0.25, 90), *((s, 0.5, 90) for s in ("Chat Hard", "Safety", "Reasoning"))], CHANCE
    )
    chance = pd.read_csv(tmp_path / "chance.csv")
    pd.concat([chance, pd.DataFrame([("average", 0.4, 90)], columns=CHANCE)]).to_csv(
        tmp_path / "chance.csv", index=False
    )
    draw_one("sections", tmp_path)
    panels = {axis.get_title(): axis for axis in kept[0].axes if axis.axison}
    lines = {name: [line for line in axis.lines if line.get_linestyle() == ":"] for name, axis in panels.items()}
    assert {name: line.get_ydata()[0] for name, (line,) in lines.items()} == pytest.approx(
        {"Chat": 25, "Chat Hard": 50, "Safety": 50, "Reasoning": 50, "Average": 40}
    )
    here = "section == 'Safety' and base_model == "
    bands = [patch.get_bbox() for patch in panels["Safety"].patches]
    mean, sd = in_per_cent(tmp_path, "seeds", f"{here}'untrained-head'", ["mean", "sd"]).T
    np.testing.assert_allclose([[box.y0, box.y1] for box in bands], np.transpose([mean - sd, mean + sd]))
    assert [round(box.x0 + box.x1) / 2 for box in bands] == list(range(5))
    crosses = [line.get_ydata() for line in panels["Safety"].lines if line.get_marker() == "x"]
    np.testing.assert_allclose(
        np.concatenate(crosses)[:, None],
        np.concatenate(
            [in_per_cent(tmp_path, "seeds", f"{here}'probe' and train_language == '{k}'", ["mean"]) for k in FIVE]
        ),
    )
    points = [container.lines[0] for container in panels["Safety"].containers]
    for cross, point in zip((line for line in panels["Safety"].lines if line.get_marker() == "x"), points, strict=True):
        np.testing.assert_allclose(cross.get_xdata(), point.get_xdata())
    assert len(panels["Safety"].collections) >= 4 * 5  # dashes of likelihood, length in two units and random
    (legend,) = kept[0].legends
    assert {"untrained-head, ± sd", "probe, of the same training language", "likelihood", "chance"} <= {
        text.get_text() for text in legend.get_texts()
    }


def test_a_base_has_the_baselines_that_are_made_of_it(kept, tmp_path):
    write_tables(tmp_path, *SHAPES["bases, seeds and baselines"])
    draw_one("sections", tmp_path)
    panels = [axis for axis in kept[0].axes if axis.get_title() == "Average"]
    for axis, name in zip(panels, ("untrained-head", "untrained-qwen", None), strict=True):
        query = f"section == 'average' and base_model == '{name}'"
        mean, sd = in_per_cent(tmp_path, "seeds", query, ["mean", "sd"]).T
        tops = [patch.get_bbox().y1 for patch in axis.patches]
        np.testing.assert_allclose(tops, mean + sd)


def test_the_headlines_figure_draws_the_tables_intervals(kept, tmp_path):
    write_tables(tmp_path, *SHAPES["seeds and baselines"])
    draw_one("source_against_target", tmp_path)
    left, right = kept[0].axes
    table = style.read_table(tmp_path / "seeds.csv").query("section == 'average' and base_model == 'gemma-3-270m'")
    cells = 100 * table.set_index(["train_language", "eval_language"])[["mean", "ci_low", "ci_high"]]
    ours, theirs = (cells.loc[[(t or k, k) for k in FIVE[1:]]].to_numpy() for t in ("en", None))
    drawn = {line.get_marker(): line.get_xdata() for line in left.lines}
    np.testing.assert_allclose(drawn["o"], ours[:, 0])
    np.testing.assert_allclose(drawn["s"], theirs[:, 0])
    segments = [s for c in left.collections for s in c.get_segments()]
    bars = sorted((s[:, 0].min(), s[:, 0].max()) for s in segments if s[0, 0] != s[1, 0])
    np.testing.assert_allclose(bars, sorted(map(tuple, [*ours[:, 1:], *theirs[:, 1:]])))
    query = "family == 'primary'"
    gaps = in_per_cent(tmp_path, "significance", query, ["difference", "ci_low", "ci_high"])
    np.testing.assert_allclose(
        [x for line in right.lines if line.get_marker() == "o" for x in line.get_xdata()], gaps[:, 0]
    )
    np.testing.assert_allclose([s[:, 0] for s in right.collections[0].get_segments()], gaps[:, 1:])
    probes = style.read_table(tmp_path / "seeds.csv").query("section == 'average' and base_model == 'probe'")
    probes = 100 * probes.set_index(["train_language", "eval_language"])["mean"]
    np.testing.assert_allclose(drawn["+"], probes.loc[[("en", k) for k in FIVE[1:]]])
    np.testing.assert_allclose(drawn["x"], probes.loc[[(k, k) for k in FIVE[1:]]])


def test_heat_maps_have_a_row_for_every_baseline(kept, tmp_path):
    write_tables(tmp_path, *SHAPES["seeds and baselines"])
    draw_one("transfer", tmp_path)
    (axis,) = (axis for axis in kept[0].axes if axis.get_title().startswith("baselines"))
    names = [label.get_text() for label in axis.get_yticklabels()]
    single = ["likelihood", "longer-answer", "length-tokens", "random"]
    assert names == ["untrained-head", *(f"probe {k}" for k in FIVE), *single]
    mean, sd = in_per_cent(
        tmp_path, "seeds", "section == 'average' and base_model == 'untrained-head'", ["mean", "sd"]
    ).T
    np.testing.assert_allclose(axis.images[0].get_array()[0], mean)
    written = [text.get_text() for text in axis.texts[: len(FIVE)]]
    assert written == [f"{m:.0f}\n±{s:.0f}" for m, s in zip(mean, sd, strict=True)]


def test_length_bias_spreads_by_the_standard_deviation_over_seeds(kept, tmp_path):
    write_tables(tmp_path, *SHAPES["seeds and baselines"])
    draw_one("length_bias", tmp_path)
    axis = {axis.get_title(): axis for axis in kept[0].axes}["trained in es"]
    table = style.read_table(tmp_path / "length_bias.csv").query("train_language == 'es'")
    ours = (
        100
        * table.query("base_model == 'gemma-3-270m' and eval_language == 'ko'")[["accuracy_shorter", "accuracy_longer"]]
    )
    x_bar, y_bar = (c.get_segments()[0] for c in axis.containers[FIVE.index("ko")].lines[2])
    mean, sd = ours.mean(), ours.std()
    np.testing.assert_allclose(np.ptp(x_bar[:, 0]), 2 * sd["accuracy_shorter"])
    np.testing.assert_allclose(np.ptp(y_bar[:, 1]), 2 * sd["accuracy_longer"])
    np.testing.assert_allclose(y_bar[:, 0], mean["accuracy_shorter"])
    grey = np.array([line.get_xydata()[0] for line in axis.lines if line.get_color() == GREY])
    probe = (
        100 * table.query("base_model == 'probe'").set_index("eval_language")[["accuracy_shorter", "accuracy_longer"]]
    )
    np.testing.assert_allclose(grey[np.argsort(grey[:, 0])], probe.sort_values("accuracy_shorter"))


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
    found = rewards._standardised(pd.DataFrame(rows, columns=columns))["q50"]
    expected = [(np.median(x) - together.mean()) / together.std() for x in answers.values()]
    np.testing.assert_allclose(found, expected)


def test_the_config_decides_resolution_and_size_of_letters(kept, tmp_path):
    write_tables(tmp_path, [("m", "en", 0)], ["en", "es"], ["Chat"])
    path, style = tmp_path / "rewards.png", {"dpi": 110, "font_size": 11}
    tables = {name: tmp_path / f"{name}.csv" for name in ("rewards", "calibration")}
    draw("rewards", tables, [path], {"baselines": {}}, style)
    height, width, _ = plt.imread(path).shape
    assert (width, height) == pytest.approx(kept[0].get_size_inches() * 110, abs=1)
    assert {text.get_fontsize() for text in labels(kept[0])} == {10, 11}


def test_titles_are_broken_at_their_panels_width_only(kept, tmp_path):
    write_tables(tmp_path, [("m", "en", 0)], ["en"], ["Chat"])
    draw_one("rewards", tmp_path)
    assert [axis.get_title() for axis in kept[0].axes] == ["trained in en"]


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


def test_series_differ_in_greyscale_and_no_marker_meets_a_colour_twice():
    assert len(set(style.COLORS)) == len(set(style.MARKERS)) == len(style.COLORS) >= 5
    looks = [style.series(i) for i in range(style.MOST_SERIES)]
    assert len(looks) >= 24
    shapes = {(look["marker"], look["fillstyle"], look["markerfacecolor"] == "white") for look in looks}
    assert len(shapes) == len(looks)
    assert len({(look["marker"], look["color"]) for look in looks}) == len(looks)


def test_names_that_look_like_missing_values_stay_names(tmp_path):
    (tmp_path / "t.csv").write_text("base_model,train_language,seed,accuracy\nNA,nan,0,\n")
    frame = style.read_table(tmp_path / "t.csv")
    assert list(frame.iloc[0, :2]) == ["NA", "nan"]
    assert np.isnan(frame["accuracy"][0])

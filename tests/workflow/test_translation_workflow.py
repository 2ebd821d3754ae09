"""The translation stage as a user runs it, against a server that plays DeepL: planned, killed, resumed, replayed."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest
from test_workflow import changed, set_up, snakemake

from conftest import ROOT, build_model, build_tokenizer
from rmtransfer.texts.corpus import load_rows

pytestmark = pytest.mark.slow

KEY = "0f3a-this-key-is-a-secret:fx"
ROWS = 600
TABLE = "results/paid/tables/translation.csv"


def rows(count: int) -> str:
    return "".join(
        json.dumps(
            {
                "id": f"r{i}",
                "subset": "chat",
                "prompt": f"Which house has the number {i + 100}?",
                "chosen": f"The old house at the end of the road has it, and number {i + 900} is the next one.\n\n`x = {i}`",
                "rejected": f"Nobody knows which of the {i + 2000} houses it is.",
            }
        )
        + "\n"
        for i in range(count)
    )


def config(server: str | None, **translation) -> dict:
    # British English, because the server's translation is the text in capitals: the gates refuse such a copy elsewhere
    engine = {"engine": "deepl", "deepl": {"server_url": server}} if server else {}
    return {
        "study": "paid",
        "languages": {"source": "en", "targets": ["en-GB"]},
        "base_models": {"llama": {"path": "tiny"}},
        "training": {"max_length": 512},
        **{part: {"path": f"{part}.jsonl"} for part in ("preferences", "instructions")},
        "benchmarks": {"sample": {"path": "benchmark.jsonl"}},
        "translation": {**engine, **translation},
    }


@pytest.fixture(scope="module")
def checkout(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("paid")
    for name in ("workflow", "resources", "envs"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "Snakefile", folder)
    tokenizer = build_tokenizer("llama")  # the rows must be such as the base renders
    build_model("llama", tokenizer).save_pretrained(folder / "tiny")
    tokenizer.save_pretrained(folder / "tiny")
    (folder / "preferences.jsonl").write_text(rows(ROWS))
    (folder / "benchmark.jsonl").write_text(rows(20))
    (folder / "instructions.jsonl").write_text('{"id": "i", "prompt": "Which house is it?"}\n')
    return folder


@pytest.fixture
def deepl(checkout, monkeypatch):
    """Start servers, each a process; texts() are all that any of them was asked to translate."""
    monkeypatch.setenv("DEEPL_AUTH_KEY", KEY)
    log = checkout / "requests.jsonl"
    log.unlink(missing_ok=True)
    started = []

    def start(*arguments: str) -> str:
        command = [sys.executable, ROOT / "tests/fake_deepl.py", "--key", KEY, "--requests-log", log, *arguments]
        started.append(subprocess.Popen(command, stdout=subprocess.PIPE, text=True))
        return started[-1].stdout.readline().strip()

    def texts() -> list[str]:
        if not log.exists():
            return []
        requests = [json.loads(line) for line in log.read_text().splitlines()]
        return [re.sub(r"</?[sx][^>]*>", "", text) for request in requests for text in request["body"]["text"]]

    start.texts = texts
    yield start
    for process in started:
        process.kill()


def segments(count: int) -> int:
    """Distinct stretches of prose in so many rows and one instruction."""
    return 3 * count + 1


def test_a_paid_translation_from_plan_to_replay(checkout, deepl):
    (checkout / "preferences.jsonl").write_text(rows(ROWS))
    slow = deepl("--delay", "0.2")
    shown = snakemake(checkout, config(slow), "plan")
    assert shown.returncode == 0, shown.stdout
    prose = [text for line in rows(ROWS).splitlines() for text in re.findall(r'": "([A-Z][^"\\]*)', line)]
    characters = sum(map(len, prose)) + len("Which house is it?")
    entry = next(line.split() for line in shown.stdout.splitlines() if line.strip().startswith("en-GB"))
    # texts, distinct texts, stored, segments, characters, price at 20 a million
    assert entry[1] == "deepl"
    assert [int(n.replace(",", "")) for n in entry[2:7]] == [
        3 * (ROWS + 20) + 1,
        3 * ROWS + 1,
        0,
        segments(ROWS),
        characters,
    ]
    assert float(entry[7]) == pytest.approx(characters * 20 / 1e6, abs=0.005)
    assert re.search(r"quota: [\d,]+ of [\d,]+ characters left", shown.stdout)
    assert deepl.texts() == []

    # kill -9 the whole run in the middle, twice
    for enough in (5, 15):
        (checkout / "study.yaml").write_text(json.dumps(config(slow)))
        process = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "snakemake",
                TABLE,
                "--cores",
                "2",
                "--rerun-incomplete",
                "--configfile",
                "study.yaml",
            ],
            cwd=checkout,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        while len(deepl.texts()) < enough * 50:
            assert process.poll() is None
            time.sleep(0.05)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        assert snakemake(checkout, config(slow), "--unlock").returncode == 0

    done = snakemake(checkout, config(slow), TABLE, "--rerun-incomplete")
    assert done.returncode == 0, done.stdout
    asked = deepl.texts()
    assert len(set(asked)) == segments(ROWS)
    assert segments(ROWS) <= len(asked) <= segments(ROWS) + 2 * 4 * 50  # two kills, four requests of 50 in flight
    table = pd.read_csv(checkout / TABLE, keep_default_na=False)
    counted = table.groupby("measure")["value"].sum()
    assert counted["passed"] == counted["texts"] == 3 * (ROWS + 20) + 1
    assert counted["rows_kept"] == counted["rows"]
    out = load_rows(checkout / "results/paid/translations/en-GB/preferences.parquet")
    assert out[7]["chosen"][0]["content"] == (
        "THE OLD HOUSE AT THE END OF THE ROAD HAS IT, AND NUMBER 907 IS THE NEXT ONE.\n\n`x = 7`"
    )

    # deleted outputs, --forceall: nothing is asked for again, and no server is needed
    shutil.rmtree(checkout / "results/paid/translations")
    done = snakemake(checkout, config(slow), TABLE, "--forceall")
    assert done.returncode == 0, done.stdout
    assert deepl.texts() == asked

    # one row more asks for that row only
    (checkout / "preferences.jsonl").write_text(rows(ROWS + 1))
    done = snakemake(checkout, config(deepl()), TABLE)
    assert done.returncode == 0, done.stdout
    assert len(deepl.texts()) == len(asked) + 3

    # published as TMX and replayed offline by another engine: the same rows
    done = snakemake(checkout, config(slow), "export_memory")
    assert done.returncode == 0, done.stdout
    paid = load_rows(checkout / "results/paid/translations/en-GB/preferences.parquet")
    shutil.copy(checkout / "results/paid/translations/memory.tmx", checkout / "published.tmx")
    replayed = {**config(None, engine="memory", memory="published.tmx"), "study": "replayed"}
    done = snakemake(checkout, replayed, "results/replayed/tables/translation.csv")
    assert done.returncode == 0, done.stdout
    assert load_rows(checkout / "results/replayed/translations/en-GB/preferences.parquet") == paid

    # and imported into an empty store, where it counts as asked for
    imported = config(slow, memory="published.tmx", store="results/other.sqlite")
    assert snakemake(checkout, imported, "import_memory").returncode == 0
    before = len(deepl.texts())
    assert snakemake(checkout, imported, TABLE, "--forceall").returncode == 0
    assert len(deepl.texts()) == before

    for path in checkout.rglob("*"):
        if path.is_file():
            assert KEY.encode() not in path.read_bytes(), path


def test_an_exhausted_quota_stops_cleanly_and_the_same_command_goes_on(checkout, deepl):
    (checkout / "preferences.jsonl").write_text(rows(ROWS + 1))
    limited = deepl("--character-limit", "40000")
    translation = {"store": "results/quota.sqlite"}
    done = snakemake(checkout, config(limited, **translation), TABLE, "--forceall")
    assert done.returncode == 1
    assert "quota is used up (456)" in done.stdout
    assert "Finished batches are kept" in done.stdout
    assert "Traceback" not in done.stdout
    kept = len(set(deepl.texts()))
    done = snakemake(checkout, config(deepl(), **translation), TABLE)  # another month, or a larger plan
    assert done.returncode == 0, done.stdout
    asked = deepl.texts()
    assert len(set(asked)) == segments(ROWS + 1)
    assert len(asked) <= segments(ROWS + 1) + 4 * 50  # what was refused is asked for again
    assert kept < len(set(asked))


def test_a_budget_that_does_not_suffice_asks_for_nothing(checkout, deepl):
    (checkout / "preferences.jsonl").write_text(rows(ROWS))
    server = deepl()
    poor = config(server, store="results/poor.sqlite", budget_characters=1_000)
    done = snakemake(checkout, poor, TABLE, "--forceall")
    assert done.returncode == 1
    assert re.search(r"budget_characters: 1,000 do not suffice: .*0 .* are to come \(en-GB", done.stdout)
    assert "DOES NOT SUFFICE" in snakemake(checkout, poor, "plan").stdout

    def to_pay(**translation) -> int:
        shown = snakemake(checkout, config(server, store="results/poor.sqlite", **translation), "plan").stdout
        return int(re.search(r"to pay: ([\d,]+)", shown).group(1).replace(",", ""))

    there = to_pay()
    both_ways = {"translate_test": {"engine": "deepl"}}
    back = to_pay(**both_ways) - there
    assert 0 < back < there  # of three files, the benchmark's 20 rows
    poor = config(server, store="results/poor.sqlite", budget_characters=there + back - 1, **both_ways)
    done = snakemake(checkout, poor, TABLE, "--forceall")
    assert done.returncode == 1
    assert re.search(rf"{there + back:,} are to come \(en-GB {there:,}, en-GB > en {back:,}\)", done.stdout)
    assert deepl.texts() == []


@pytest.mark.parametrize(("key", "message"), [(None, "DEEPL_AUTH_KEY is not set"), ("wrong", "refuses the key")])
def test_a_missing_or_wrong_key_is_named_and_not_shown(checkout, deepl, monkeypatch, key, message):
    server = deepl()
    monkeypatch.delenv("DEEPL_AUTH_KEY")
    if key:
        monkeypatch.setenv("DEEPL_AUTH_KEY", "wrong-key-12345")
    done = snakemake(checkout, config(server, store=f"results/{key}.sqlite"), TABLE, "--forceall")
    assert done.returncode == 1
    assert message in done.stdout
    assert "wrong-key-12345" not in done.stdout
    assert deepl.texts() == []


def test_the_embedded_model_translates_end_to_end(checkout, gemma):
    """Gemma 3 270M as engine: real text, honest gates. It is too small to translate well; the ledger says so."""
    sample = [json.loads(line) for line in (ROOT / "resources/sample/preferences.jsonl").open(encoding="utf-8")][:6]
    for name in ("preferences", "benchmark"):
        (checkout / f"few_{name}.jsonl").write_text("".join(json.dumps({**r, "subset": "chat"}) + "\n" for r in sample))
    (checkout / "few_instructions.jsonl").write_text(json.dumps({"id": "i", "prompt": sample[0]["prompt"]}) + "\n")
    study = {
        "study": "gemma",
        "languages": {"source": "en", "targets": ["es"]},
        "base_models": {"gemma": {"path": str(gemma)}},
        **{part: {"path": f"few_{part}.jsonl"} for part in ("preferences", "instructions")},
        "benchmarks": {"sample": {"path": "few_benchmark.jsonl"}},
        "translation": {
            "engine": "llm",
            "llm": {
                "model": "gemma",
                "chat": False,
                "prompt": "English: The weather is nice today.\nSpanish: Hoy hace buen tiempo.\nEnglish: {text}\nSpanish:",
            },
            "references": "resources/sample/memory.tmx",
            "store": "results/gemma.sqlite",
        },
        "resources": {"tokens_per_batch": 512},
    }
    done = snakemake(checkout, study, "results/gemma/tables/translation.csv", "results/gemma/figures/translation.png")
    assert done.returncode == 0, done.stdout
    table = pd.read_csv(checkout / "results/gemma/tables/translation.csv", keep_default_na=False)
    of = table[table["part"] == "preferences"].groupby("measure")["value"].sum()
    assert of["texts"] == 18 == of.get("passed", 0) + of.get("passed_after_retry", 0) + of.get("refused", 0)
    assert of["chrf++_texts"] == 18
    assert 1 < of["chrf++"] < 100
    assert (table["engine"] == "llm").all()
    ledger = pd.read_csv(checkout / "results/gemma/translations/es/preferences.dropped.csv")
    assert of["rows_kept"] == 6 - len(ledger)


def test_what_comes_back_as_it_was_makes_the_same_reward_model(tmp_path):
    """The embedded memory there and back: en-x-es is English again, word for word. A native set is scored beside it."""
    set_up(tmp_path)
    shutil.copy(tmp_path / "benchmark.jsonl", tmp_path / "written.jsonl")
    study = changed(
        translation={"round_trip": {"engine": "memory"}},
        benchmarks={"written": {"path": "written.jsonl", "native": "es"}},
    )
    results, models = tmp_path / "results/tiny", ("en", "en-x-es", "es")
    scores = {train: f"scores/llama/{train}/seed0/sample" for train in models}
    wanted = [f"results/tiny/{folder}/en.parquet" for folder in scores.values()]
    native = "results/tiny/scores/llama/en-x-es/seed0/written/es.parquet"
    done = snakemake(tmp_path, study, *wanted, native, "results/tiny/tables/translation.csv")
    assert done.returncode == 0, done.stdout
    weights = {train: (results / f"models/llama/{train}/seed0/model.safetensors").read_bytes() for train in models}
    assert weights["en"] == weights["en-x-es"] != weights["es"]

    def rewards(train: str, language: str) -> pd.DataFrame:
        return pd.read_parquet(results / scores[train] / f"{language}.parquet").drop(columns="language")

    for language in ("en", "es", "en-x-es"):
        pd.testing.assert_frame_equal(rewards("en", language), rewards("en-x-es", language))
    pd.testing.assert_frame_equal(rewards("es", "en"), rewards("es", "en-x-es"))
    assert not rewards("es", "en").equals(rewards("es", "es"))
    table = pd.read_csv(results / "tables/translation.csv")
    assert set(table.loc[table["language"] == "en-x-es", "part"]) == {"preferences", "sample", "instructions"}
    assert [path.name for path in (tmp_path / native).parent.glob("*.parquet")] == ["es.parquet"]
    assert (tmp_path / native).with_name("settings.es.json").is_file()

"""A row that a base's chat template refuses, as a user meets it: named before anything is translated, or dropped by choice."""

import csv
import json

import pytest
from test_workflow import changed, set_up, snakemake

from conftest import LLAMA

pytestmark = pytest.mark.slow

NO_SYSTEM = "{% if messages[0]['role'] == 'system' %}{{ raise_exception('no system role here') }}{% endif %}" + LLAMA


def test_a_refused_row_stops_before_translation_or_is_dropped_with_that_reason(tmp_path):
    set_up(tmp_path)
    (tmp_path / "strict.jinja").write_text(NO_SYSTEM)
    file = tmp_path / "preferences.jsonl"
    row = json.loads(file.read_text().splitlines()[0])
    system = {"role": "system", "content": row["chosen"]}  # any text that the translation memory holds
    row |= {"id": "s1", "prompt": [system, {"role": "user", "content": row["prompt"]}]}
    file.write_text(file.read_text() + json.dumps(row) + "\n")
    bases = {"llama": {"path": "tiny", "chat_template": "strict.jinja"}}

    done = snakemake(tmp_path, changed(base_models=bases), "--keep-going")
    assert done.returncode == 1
    assert "preferences: 1 of 13 rows" in done.stdout
    assert "row 's1': the chat template of base_models.llama refuses it: no system role here" in done.stdout
    assert not list((tmp_path / "results/tiny").glob("translations/*/*"))

    config = changed(base_models=bases, preferences={"invalid_rows": "drop"})
    ledger = tmp_path / "results/tiny/corpus/preferences.dropped.csv"
    done = snakemake(tmp_path, config, str(ledger.relative_to(tmp_path)))
    assert done.returncode == 0, done.stdout
    with ledger.open(newline="") as lines:
        dropped = [(entry["id"], entry["language"], entry["reason"]) for entry in csv.DictReader(lines)]
    reason = "the chat template of base_models.llama refuses it: no system role here"
    assert dropped == [("s1", "en", reason), ("s1", "es", reason)]

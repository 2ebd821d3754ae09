"""Judgements are found again: any number at once, by any process, and those of earlier versions."""

import sqlite3

from rmtransfer.kit.manifest import digest_of
from rmtransfer.scoring.judgements import JudgementStore, Said

# As commit a683cd5 wrote it for the judge "judge" (pairwise, 512 tokens, the default prompt).
JUDGE = {
    "model": "judge",
    "mode": "pairwise",
    "prompt_sha256": "ef89cd03a7ca03f710e7b727b7e3981a73ae632eb80f3ece9e14bac626302c64",
    "max_new_tokens": 512,
    "temperature": 0,
}
WRITTEN_BEFORE = """
CREATE TABLE judgement (key TEXT PRIMARY KEY, text TEXT, answered_by TEXT);
INSERT INTO judgement VALUES ('0264b99a1ff39ef850af808f1367dab096e74abfa60253c8d227b461426a0ab4', '[[A]]', 'judge-2026');
INSERT INTO judgement VALUES ('f4bb1aea07a17724a8bc83207e4503f8936d95f8a790150426b6cf23a4aa68ab', '[[B]]', 'judge-2026');
"""


def test_what_was_paid_for_before_is_not_asked_for_again(tmp_path):
    path = tmp_path / "judgements.sqlite"
    with sqlite3.connect(path) as before:
        before.executescript(WRITTEN_BEFORE)
    before.close()
    store = JudgementStore(path, digest_of(JUDGE), "jury")
    who, why = Said("Who?", "[[A]]", "judge-2026"), Said("Why?", "[[B]]", "judge-2026")
    assert store.get({"Who?": "", "Why?": "", "When?": ""}) == {"Who?": who, "Why?": why}
    # How these ended is not known, and is not made up by what is said to them again.
    when, where = (
        Said("When?", "[[C", "judge-2026", finished=False),
        Said("Where?", "[[C]]", "judge-2026", finished=True),
    )
    store.put([when, where, *(Said("Who?", "[[C]]", "judge-2026", finished) for finished in (False, True))])
    assert store.get({"Who?": "", "When?": "", "Where?": ""}) == {"Who?": who, "When?": when, "Where?": where}
    # An earlier version goes on with the file: what it sees is what it made.
    with sqlite3.connect(path) as after:
        assert after.execute("PRAGMA user_version").fetchone() == (0,)
        assert after.execute("SELECT key, text, answered_by FROM judgement").fetchall()[2][1:] == ("[[C", "judge-2026")
    assert JudgementStore(path, "another judge", "jury").get({"Who?": ""}) == {}


def test_more_prompts_than_a_query_takes(tmp_path):
    store = JudgementStore(tmp_path / "judgements.sqlite", "judge", "jury")
    prompts = {f"prompt {i}": "" for i in range(3_001)}
    assert store.get(prompts) == {}
    said = {
        prompt: Said(prompt, f"about {prompt}", "m", finished={"7": False, "8": True}.get(prompt[-1]))
        for prompt in prompts
    }
    store.put(list(said.values()))
    asked = []
    store._db._connection.set_trace_callback(asked.append)
    assert store.get(prompts) == said
    assert len(asked) == 4


def test_a_judge_that_is_not_asked_opens_no_file(tmp_path):
    JudgementStore(tmp_path / "judgements.sqlite", "judge", "jury")
    assert list(tmp_path.iterdir()) == []

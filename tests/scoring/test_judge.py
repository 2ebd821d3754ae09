"""Judges: what they are asked, what counts as a verdict, and that no judgement is lost or paid for twice."""

import ast
import gc
import importlib.metadata
import json
import os
import re
import shutil
import sqlite3
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pandas as pd
import pyarrow.parquet as pq
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from conftest import pair
from rmtransfer.kit.errors import StudyError
from rmtransfer.kit.manifest import digest_of
from rmtransfer.models.loading import Encoder, ModelSpec
from rmtransfer.scoring import judge_server, local_judge
from rmtransfer.scoring.judge import Judge, JudgeOptions
from rmtransfer.scoring.judgements import JudgementStore, Said
from rmtransfer.scoring.pairwise import Pairwise
from rmtransfer.scoring.reward_model import Resources
from rmtransfer.scoring.verdicts import READING, Reasoning, find_verdict, verdict_form
from rmtransfer.study.catalogue import JUDGE_PROTOCOLS, load
from scored import run, settings

PLAIN = "{prompt}|{answer_a}|{answer_b}"
SECRET = "sk-a-key-that-is-nowhere-else"


class Server:
    """An OpenAI-compatible server on this machine; ``answer`` makes of a prompt a text, a choice, or (status, headers, body)."""

    def __init__(self) -> None:
        self.prompts: list[str] = []
        self.requests: list[dict] = []
        self.keys: list[str | None] = []
        self.answer: Callable[[str], object] = lambda prompt: "[[A]]"
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                prompt = request["messages"][-1]["content"]
                outer.requests.append({**request, "path": self.path})
                outer.keys.append(self.headers["Authorization"])
                outer.prompts.append(prompt)
                answer = outer.answer(prompt)
                if answer is None:  # hang up
                    self.connection.close()
                    return
                if isinstance(answer, str):
                    answer = {"message": {"role": "assistant", "content": answer}, "finish_reason": "stop"}
                if isinstance(answer, dict):
                    body = {"model": "judge-2026", "choices": [answer]}
                    answer = (200, {}, json.dumps(body))
                status, headers, text = answer  # type: ignore[misc]
                self.send_response(status)
                for name, value in {**headers, "Content-Length": len(text.encode())}.items():
                    self.send_header(name, str(value))
                self.end_headers()
                self.wfile.write(text.encode())

            def log_message(self, *args: object) -> None:
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.http.handle_error = lambda *args: None  # type: ignore[method-assign]
        self.url = f"http://127.0.0.1:{self.http.server_port}/v1"

    def first(self, *answers: object, then: object = "[[A]]") -> None:
        """The first requests get these answers, all others ``then``."""
        left = list(answers)
        lock = threading.Lock()

        def answer(prompt: str) -> object:
            with lock:
                return left.pop(0) if left else then

        self.answer = answer


@pytest.fixture
def server(monkeypatch) -> Iterator[Server]:
    monkeypatch.delenv(judge_server.KEY, raising=False)
    monkeypatch.setattr(judge_server, "_FIRST_PAUSE", 0.0)
    it = Server()
    thread = threading.Thread(target=it.http.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    yield it
    it.http.shutdown()
    it.http.server_close()


def judged(tmp_path, model, rows, mode="pairwise", at_once=2, **more) -> dict[str, pd.DataFrame]:
    extra = {name: more.pop(name) for name in ("extra", "budget") if name in more}
    which = (
        {"server": {"url": model.url, "model": "judge", **extra}} if isinstance(model, Server) else {"path": str(model)}
    )
    return run(tmp_path, {"kind": "judge", "mode": mode, **which, **more}, rows, budget=512, at_once=at_once)


def judgements(tmp_path, language="en") -> pd.DataFrame:
    return pd.read_parquet(tmp_path / f"scores/{language}.judgements.parquet")


def verdicts(tmp_path) -> list[str | None]:
    return pq.read_table(tmp_path / "scores/en.judgements.parquet")["verdict"].to_pylist()


def rewards(frame: pd.DataFrame) -> list[list[float]]:
    return frame[["reward_chosen", "reward_rejected"]].to_numpy().tolist()


# Row to verdicts in both orders (chosen first, rejected first), the rewards by their definition (half a point for each
# order won, a quarter for a tie) and what the pair counts as.
PAIRWISE = {
    "right": (("[[A]]", "[[B]]"), (1.0, 0.0), "consistent"),
    "wrong": (("[[B]]", "[[A]]"), (0.0, 1.0), "consistent"),
    "first": (("[[A]]", "[[A]]"), (0.5, 0.5), "prefers_first"),
    "second": (("[[B]]", "[[B]]"), (0.5, 0.5), "prefers_second"),
    "ties": (("[[C]]", "[[C]]"), (0.5, 0.5), "tied"),
    "half": (("[[A]]", "[[C]]"), (0.75, 0.25), "tied"),
    "changed": (("Is it [[B]]? No. [[A]]", "[[A]] at first, yet [[B]]"), (1.0, 0.0), "consistent"),
    "babble": (("A is better", "[[B]]"), (0.5, 0.0), "off_format"),
    "nothing": (("", "[[D]] [A] [[a]] [[A, B]]"), (0.0, 0.0), "off_format"),
}


def test_rewards_and_position_bias(tmp_path, server):
    rows = [pair(name, name, f"{name} good", f"{name} bad", "chat") for name in PAIRWISE]

    def answer(prompt: str) -> str:
        name, first, _ = prompt.split("|")
        return PAIRWISE[name][0][0 if first.endswith("good") else 1]

    server.answer = answer
    frame = judged(tmp_path, server, {"en": rows}, prompt=PLAIN)["en"]
    assert rewards(frame) == [list(expected) for _, expected, _ in PAIRWISE.values()]
    assert frame["tokens_chosen"].isna().all()
    assert len(server.prompts) == 2 * len(rows)
    counted = settings(tmp_path)["judgements"]["en"]
    assert counted == {"n": 9, **Counter(kind for *_, kind in PAIRWISE.values()), "cut_off": 0}
    assert sum(v for k, v in counted.items() if k != "n") == counted["n"]
    table = judgements(tmp_path).set_index(["id", "order"])
    assert table.loc[("changed", "rejected_first"), ["verdict", "text"]].tolist() == ["B", "[[A]] at first, yet [[B]]"]
    assert table["verdict"].isna().sum() == 3


def test_rating(tmp_path, server):
    said = {"best": "[[10]]", "fair": "Not [[9]], rather [[5]].", "worst": "[[1]]"}
    said |= {"zero": "[[0]]", "eleven": "[[11]]", "half": "[[7.5]]", "bare": "7/10"}
    server.answer = lambda prompt: said[prompt.split("|")[1]]
    rows = [
        pair("a", "Q", "best", "fair"),
        pair("b", "Q", "worst", "worst"),
        pair("c", "Q", "zero", "fair"),
        pair("d", "Q", "eleven", "half"),
        pair("e", "Q", "bare", "worst"),
    ]
    frame = judged(tmp_path, server, {"en": rows}, mode="rating", prompt="{prompt}|{answer}")["en"]
    assert rewards(frame) == [[10, 5], [1, 1], [0, 5], [0, 7.5], [0, 1]]
    assert settings(tmp_path)["judgements"]["en"] == {"n": 5, "tied": 1, "off_format": 3, "cut_off": 0}
    assert len(server.prompts) == len(said)  # each text is asked about once


@pytest.mark.parametrize("mode", ["pairwise", "rating"])
def test_a_placeholder_inside_a_text_stays_text(tmp_path, server, mode):
    texts = "{answer_a} {answer_b}", "{prompt} {answer}", "{answer_a}"
    judged(tmp_path, server, {"en": [pair("a", *texts)]}, mode=mode)
    prompt, chosen, rejected = texts
    part = load(JUDGE_PROTOCOLS, mode).PROMPT.split
    if mode == "rating":
        asked = {"{lowest}": "1", "{highest}": "10", "{middle}": "5"}
        part = re.sub("|".join(asked), lambda found: asked[found.group()], load(JUDGE_PROTOCOLS, mode).PROMPT).split
        (head, rest), between = part("{prompt}"), "{answer}"
        expected = {head + prompt + text.join(rest.split(between)) for text in (chosen, rejected)}
    else:
        head, rest = part("{prompt}")
        middle, last = rest.split("{answer_a}")
        between, tail = last.split("{answer_b}")
        expected = {
            head + prompt + middle + a + between + b + tail for a, b in ((chosen, rejected), (rejected, chosen))
        }
    assert set(server.prompts) == expected


def test_several_turns_are_told_apart(tmp_path, server):
    row = pair("a", "Hi", "yes", "no")
    row["prompt"] = [*row["prompt"], {"role": "assistant", "content": "Hello"}, {"role": "user", "content": "Go?"}]
    judged(tmp_path, server, {"en": [row]}, prompt=PLAIN)
    assert sorted(server.prompts) == [
        "user: Hi\n\nassistant: Hello\n\nuser: Go?|no|yes",
        "user: Hi\n\nassistant: Hello\n\nuser: Go?|yes|no",
    ]


def test_the_request_is_that_of_the_protocol_and_the_key_is_in_no_file(tmp_path, server, pairs, monkeypatch):
    monkeypatch.setenv(judge_server.KEY, SECRET)
    judged(tmp_path, server, {"en": pairs}, max_new_tokens=77)
    request = server.requests[0]
    assert request["path"] == "/v1/chat/completions"
    assert (request["model"], request["max_tokens"], request["temperature"]) == ("judge", 77, 0)
    assert set(server.keys) == {f"Bearer {SECRET}"}
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert len(files) >= 4
    assert not [path for path in files if SECRET.encode() in path.read_bytes()]


def test_no_key_is_no_header_even_if_netrc_has_one(tmp_path, server, pairs, monkeypatch):
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login me password other\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    judged(tmp_path, server, {"en": pairs[:1]})
    assert set(server.keys) == {None}


@pytest.mark.parametrize(
    "trouble",
    [(500, {}, "down"), (503, {}, ""), (529, {}, "busy"), (429, {}, ""), None],
    ids=["500", "503", "529", "429", "hung up"],
)
def test_passing_trouble_is_waited_out(tmp_path, server, trouble):
    server.first(trouble, trouble, then="[[A]]")
    frame = judged(tmp_path, server, {"en": [pair("a", "Q", "yes", "no")]})["en"]
    assert rewards(frame) == [[0.5, 0.5]]
    assert len(server.prompts) == 4


def test_a_slow_answer_is_asked_for_again(tmp_path, server, monkeypatch):
    monkeypatch.setattr(judge_server, "_PATIENCE", (5.0, 0.2))
    slow = iter([True])

    def answer(prompt: str) -> str:
        if next(slow, False):
            time.sleep(0.6)
        return "[[A]]"

    server.answer = answer
    judged(tmp_path, server, {"en": [pair("a", "Q", "yes", "no")]}, at_once=1)
    assert len(server.prompts) == 3


def test_a_server_says_how_long_to_wait(tmp_path, server):
    server.first((429, {"Retry-After": "1"}, "slower"))
    began = time.monotonic()
    judged(tmp_path, server, {"en": [pair("a", "Q", "yes", "no")]}, at_once=1)
    assert 1 <= time.monotonic() - began < 5


@pytest.mark.parametrize("wait", ["soon", "-1", ""])
def test_a_wait_that_says_nothing_is_passed_over(tmp_path, server, wait):
    server.first((429, {"Retry-After": wait}, "slower"))
    judged(tmp_path, server, {"en": [pair("a", "Q", "yes", "no")]})
    assert len(server.prompts) == 3


@pytest.mark.parametrize(
    ("answer", "message", "requests"),
    [
        ((401, {}, "no"), r"theirs: .* refuses the key \(HTTP 401\); set the environment variable RM_JUDGE_API_KEY", 1),
        ((403, {}, "no"), r"refuses the key \(HTTP 403\); set the environment variable RM_JUDGE_API_KEY", 1),
        ((404, {}, "no such model"), r"answers HTTP 404 'no such model', no chat completion", 1),
        ((200, {}, "<html>hello</html>"), r"answers HTTP 200 '<html>hello</html>', no chat completion", 1),
        ((200, {}, '{"choices": []}'), r"no chat completion", 1),
        ((200, {}, "[]"), r"no chat completion", 1),
        ((200, {}, "null"), r"no chat completion", 1),
        ((500, {}, "down"), r"answers HTTP 500 'down', asked 7 times", 7),
        (None, r"does not answer \(ConnectionError\), asked 7 times", 7),
    ],
)
def test_lasting_trouble_is_named_with_what_to_do(tmp_path, server, answer, message, requests):
    server.answer = lambda prompt: answer
    with pytest.raises(StudyError, match=message) as problem:
        judged(tmp_path, server, {"ko": [pair("a", "Q", "yes", "no")]}, at_once=1)
    assert "row 'a' in ko" in str(problem.value)
    assert len(server.prompts) == requests
    assert not (tmp_path / "scores").exists()


@pytest.mark.parametrize("before", ["", "x" * 185])  # the second stands where the message is cut
def test_a_server_that_repeats_the_key_does_not_bring_it_into_the_message(tmp_path, server, monkeypatch, before):
    monkeypatch.setenv(judge_server.KEY, SECRET)
    server.answer = lambda prompt: (400, {}, f"{before}{SECRET} is wrong")
    with pytest.raises(StudyError) as problem:
        judged(tmp_path, server, {"en": [pair("a", "Q", "yes", "no")]})
    assert SECRET[:8] not in str(problem.value)


@pytest.mark.parametrize("key", ["sk-line\nbreak", "sk-schlüssel", "sk-\u2019"])
def test_a_key_that_no_header_can_hold(tmp_path, server, monkeypatch, key):
    monkeypatch.setenv(judge_server.KEY, key)
    with pytest.raises(StudyError, match=judge_server.KEY) as problem:
        judged(tmp_path, server, {"en": [pair("a", "Q", "yes", "no")]})
    assert key[:5] not in str(problem.value)
    assert not server.prompts


def test_half_a_character_is_no_reason_to_stop(tmp_path, server):
    """An answer that max_tokens ends inside an emoji can hold half of its surrogate pair."""
    server.answer = lambda prompt: "[[A]] \ud83d"
    judged(tmp_path, server, {"en": [pair("a", "Q", "yes", "no")]})
    assert judgements(tmp_path)["verdict"].tolist() == ["A", "A"]


def test_an_empty_answer_is_off_format(tmp_path, server):
    server.answer = lambda prompt: (200, {}, '{"choices": [{"message": {"content": null}}]}')
    frame = judged(tmp_path, server, {"en": [pair("a", "Q", "yes", "no")]})["en"]
    assert rewards(frame) == [[0, 0]]
    assert settings(tmp_path)["judgements"]["en"]["off_format"] == 1


@pytest.mark.parametrize("at_once", [1, 4])
def test_a_run_that_dies_midway_asks_only_what_is_missing(tmp_path, server, pairs, at_once):
    answered: list[str] = []
    lock = threading.Lock()

    def answer(prompt: str) -> object:
        with lock:
            if len(answered) == 7:
                return (401, {}, "the money is gone")
            answered.append(prompt)
        return "[[A]]"

    server.answer = answer
    with pytest.raises(StudyError, match="finished judgements are kept, run the same command again"):
        judged(tmp_path, server, {"en": pairs}, at_once=at_once)
    assert not (tmp_path / "scores/en.parquet").exists()
    server.prompts.clear()
    server.answer = lambda prompt: "[[A]]"
    judged(tmp_path, server, {"en": pairs}, at_once=at_once)
    assert len(server.prompts) == 24 - 7
    assert not set(server.prompts) & set(answered)


def test_finished_work_costs_no_request(tmp_path, server, pairs):
    first = judged(tmp_path, server, {"en": pairs})["en"]
    asked = len(server.prompts)
    assert asked == 24
    # The server moved; another language has a row of its own and one that was judged before.
    moved = Server()
    moved.http.server_close()
    again = judged(tmp_path, moved, {"en": pairs})["en"]
    pd.testing.assert_frame_equal(again, first)
    judged(tmp_path, server, {"en": pairs, "es": [pairs[0], pair("es", "¿Sí?", "sí", "no")]})
    assert len(server.prompts) == asked + 2
    assert set(settings(tmp_path)["judgements"]) == {"en", "es"}
    # Another prompt is another judge.
    judged(tmp_path, server, {"en": pairs[:1]}, prompt=PLAIN)
    assert len(server.prompts) == asked + 4


def test_one_answer_against_several_is_asked_about_once_each(tmp_path, server):
    rows = [pair(f"i/0/{j}", "Q", "best", f"worse {j}") for j in range(3)]
    judged(tmp_path, server, {"en": rows}, mode="rating")
    assert len(server.prompts) == 4


@pytest.mark.parametrize("mode", ["pairwise", "rating"])
def test_rows_that_share_a_prompt_are_judged_and_counted_one_by_one(tmp_path, server, mode):
    rows = [pair(f"i/0/{j}", "Q", "best", f"worse {j}") for j in range(3)]
    server.answer = lambda prompt: "[[A]] [[7]]" if "worse 1" in prompt else "[[C]] [[5]]"
    frame = judged(tmp_path, server, {"en": rows}, mode=mode)["en"]
    expected = [[0.5, 0.5]] * 3 if mode == "pairwise" else [[5, 5], [5, 7], [5, 5]]
    assert rewards(frame) == expected
    counted = settings(tmp_path)["judgements"]["en"]
    assert (counted["n"], counted["tied"]) == (3, 2)
    assert judgements(tmp_path)["id"].tolist() == [row["id"] for row in rows for _ in range(2)]


def test_sampled_answers_are_rated_and_cannot_be_compared_in_pairs(tmp_path, server):
    rows = [{"id": "q", "sample": s, "prompt": pair("q", "Q", "", "")["prompt"]} for s in range(3)]
    rows = [{**row, "answer": [{"role": "assistant", "content": f"[[{row['sample']}]]"}]} for row in rows]
    server.answer = lambda prompt: prompt.rpartition("|")[2]
    frame = judged(tmp_path, server, {"en": rows}, mode="rating", prompt="{prompt}|{answer}")["en"]
    assert frame["reward"].tolist() == [0, 1, 2]
    assert judgements(tmp_path)["order"].tolist() == ["sample 0", "sample 1", "sample 2"]
    with pytest.raises(StudyError, match=r"row 'q' has 3 answers, and a judge in mode pairwise compares two; use mode"):
        judged(tmp_path, server, {"en": rows})


def test_a_damaged_store_is_named(tmp_path, server, pairs):
    judged(tmp_path, server, {"en": pairs})
    gc.collect()  # closes the file, as the end of a process does
    (tmp_path / "cache/judgements.sqlite").write_bytes(b"not a database" * 100)
    with pytest.raises(StudyError, match=r"theirs: the judgements in .*judgements.sqlite cannot be used"):
        judged(tmp_path, server, {"es": pairs})


def test_a_killed_process_leaves_no_half_judgement(tmp_path):
    store = JudgementStore(tmp_path / "j.sqlite", "judge", "theirs")
    store.put([Said("first", "[[A]]", "m")])
    killed = sqlite3.connect(tmp_path / "j.sqlite")
    killed.execute("INSERT INTO judgement VALUES ('key', '[[', 'm')")
    killed.close()  # before its commit
    store.put([Said("first", "[[B]]", "m"), Said("second", "[[C]]", "m")])
    assert store.get({"first": "", "second": "", "third": ""}) == {
        "first": Said("first", "[[A]]", "m"),
        "second": Said("second", "[[C]]", "m"),
    }
    with sqlite3.connect(tmp_path / "j.sqlite") as db:
        assert db.execute("SELECT count(*) FROM judgement").fetchone() == (2,)


@pytest.mark.parametrize("mode", ["pairwise", "rating"])
def test_a_local_model_that_babbles(tmp_path, bases, pairs, mode, monkeypatch):
    loads = []
    original = ModelSpec.load
    monkeypatch.setattr(ModelSpec, "load", lambda self, factory: (loads.append(1), original(self, factory))[1])
    short = "{prompt}|{answer}" if mode == "rating" else PLAIN
    options = {"mode": mode, "prompt": short, "max_new_tokens": 6}
    frame = judged(tmp_path, bases["qwen"], {"en": pairs, "es": pairs[:2]}, **options)["en"]
    assert rewards(frame) == [[0, 0]] * 12
    assert frame["tokens_chosen"].isna().all()
    counted = settings(tmp_path)["judgements"]
    assert (counted["en"]["cut_off"], counted["en"]["n"], counted["es"]["cut_off"]) == (12, 12, 2)
    assert loads == [1]
    judged(tmp_path, bases["qwen"], {"en": pairs}, **options)
    assert loads == [1]


def test_a_local_model_says_what_it_says_to_a_single_prompt(tmp_path, bases, pairs):
    """Token by token with the highest logit, whatever penalty the model's own generation config names."""
    folder = tmp_path / "judge"
    model = AutoModelForCausalLM.from_pretrained(bases["llama"], dtype=torch.float32)
    model.generation_config.repetition_penalty = 3.0
    model.save_pretrained(folder)
    tokenizer = AutoTokenizer.from_pretrained(bases["llama"])
    tokenizer.save_pretrained(folder)
    judged(tmp_path, folder, {"en": pairs[:5]}, prompt=PLAIN, max_new_tokens=8)
    table = judgements(tmp_path).set_index(["id", "order"])["text"]
    for p in pairs[:5]:
        filled = "|".join(m[0]["content"] for m in (p["prompt"], p["chosen"], p["rejected"]))
        message = [{"role": "user", "content": filled}]
        ids = tokenizer.apply_chat_template(message, add_generation_prompt=True)["input_ids"]
        said: list[int] = []
        while len(said) < 8:
            with torch.inference_mode():
                said.append(model(torch.tensor([ids + said])).logits[0, -1].argmax().item())
            if said[-1] == tokenizer.eos_token_id:
                break
        assert table[(p["id"], "chosen_first")] == tokenizer.decode(said, skip_special_tokens=True)


def test_a_local_model_must_read_prompt_and_judgement(tmp_path, bases, pairs, monkeypatch):
    monkeypatch.setattr(ModelSpec, "load", lambda *_: pytest.fail("the model was loaded"))
    rows = [pairs[0], pair("long", "Why? " * 100, "yes", "no")]
    with pytest.raises(StudyError, match=r"theirs: row 'long' in en takes \d{3} tokens .* more than the 512 .* lower"):
        judged(tmp_path, bases["qwen"], {"en": rows}, prompt=PLAIN, max_new_tokens=300)


def test_the_key_is_not_needed_to_read_what_is_there(tmp_path, server, pairs, monkeypatch):
    monkeypatch.setenv(judge_server.KEY, SECRET)
    judged(tmp_path, server, {"en": pairs})
    monkeypatch.delenv(judge_server.KEY)
    assert judge_server.KEY not in os.environ
    for path in Path(tmp_path / "scores").iterdir():
        path.unlink()
    judged(tmp_path, server, {"en": pairs})
    assert len(server.prompts) == 24


# Replies of judges of reasoning: what was cut off holds no verdict, whatever form it quotes.
REPLIES = [
    ("length", "<think>I have to end with [[A]] if A is better, or [[B]] if B is. Answer A says that", None),
    ("length", "So far [[A]] looks better, but there is one more point, namely", None),
    ("length", "[[B]]", None),
    ("content_filter", "[[B]] because it", None),
    ("stop", "<think>I have to end with [[A]] or [[B]]", None),
    (None, "Hm.\n<think>Is it [[B]], or", None),
    ("MAX_TOKENS", "[[B]], or", None),
    ("stop", "<think>Is it [[B]]?</think>No, the first one. [[A]]", "A"),
    ("stop", "[[B]]", "B"),
    ("COMPLETE", "[[B]]", "B"),
    (None, "[[B]]", "B"),
]


def test_a_reply_that_was_cut_off_holds_no_verdict_and_is_counted_by_itself(tmp_path, server, capsys):
    rows = [pair(str(i), str(i), "yes", "no") for i in range(len(REPLIES))]

    def answer(prompt: str) -> dict:
        reason, reply, _ = REPLIES[int(prompt.split("|")[0])]
        return {"message": {"content": reply}, "finish_reason": reason}

    server.answer = answer
    first = judged(tmp_path, server, {"en": rows}, prompt=PLAIN)["en"]
    assert verdicts(tmp_path)[::2] == [expected for *_, expected in REPLIES]
    assert judgements(tmp_path)["text"].tolist()[::2] == [reply for _, reply, _ in REPLIES]
    ended = [False if verdict is None else None if reason is None else True for reason, _, verdict in REPLIES]
    assert judgements(tmp_path)["finished"].tolist()[::2] == ended
    counted = settings(tmp_path)["judgements"]["en"]
    assert (counted["n"], counted["cut_off"], counted["off_format"]) == (11, 7, 0)
    remedy = "raise reward_models.theirs.max_new_tokens (512)"
    assert f"theirs: 14 of 22 judgements in en were cut off and hold no verdict; {remedy}" in capsys.readouterr().out
    # It is as paid for as any other, and still known as what it is when the scores are made again.
    for path in (tmp_path / "cache").glob("*.parquet"):
        path.unlink()
    server.answer = lambda prompt: (401, {}, "")
    pd.testing.assert_frame_equal(judged(tmp_path, server, {"en": rows}, prompt=PLAIN)["en"], first)
    assert settings(tmp_path)["judgements"]["en"] == counted
    assert judgements(tmp_path)["finished"].tolist()[::2] == ended


def test_what_limits_a_reply_is_named_by_its_key(tmp_path, server, capsys):
    server.answer = lambda prompt: {"message": {"content": "[[A]]"}, "finish_reason": "length"}
    judged(tmp_path, server, {"en": [pair("a", "Q", "yes", "no")]}, extra=GPT_5)
    assert "2 of 2 judgements in en were cut off" in (said := capsys.readouterr().out)
    assert "raise reward_models.theirs.server.extra" in said


def test_a_study_names_the_tags_of_its_judge(tmp_path, server):
    rows = {"en": [pair("a", "Q", "yes", "no")]}
    server.first("<plan>Is it [[B]]?</plan>[[A]]", then="<plan>Is it [[B]], or")
    judged(tmp_path, server, rows, prompt=PLAIN, at_once=1)
    assert verdicts(tmp_path) == ["A", "B"]
    judged(tmp_path, server, rows, prompt=PLAIN, reasoning=["<plan>", "</plan>"])
    assert verdicts(tmp_path) == ["A", None]
    assert settings(tmp_path)["judgements"]["en"]["cut_off"] == 1
    assert settings(tmp_path)["reasoning"] == ["<plan>", "</plan>"]
    assert len(server.prompts) == 2  # read again, not asked again


def test_a_rating_that_was_cut_off_is_below_the_scale(tmp_path, server):
    server.first({"message": {"content": "<think>The form is [[5]]. Now"}, "finish_reason": "length"}, then="[[1]]")
    rows = [pair("a", "Q", "yes", "no"), pair("b", "Q", "no", "no")]
    frame = judged(tmp_path, server, {"en": rows}, mode="rating", prompt="{prompt}|{answer}", at_once=1)["en"]
    assert rewards(frame) == [[0, 1], [1, 1]]
    assert settings(tmp_path)["judgements"]["en"] == {"n": 2, "tied": 1, "off_format": 0, "cut_off": 1}


@pytest.mark.parametrize(
    ("message", "verdict"),
    [
        ({"content": None, "reasoning_content": "[[B]]"}, None),
        ({"content": "[[A]]", "reasoning_content": "[[B]]"}, "A"),
        ({"reasoning": "[[B]]"}, None),
        ({"content": None, "refusal": "I cannot judge that."}, None),
        ({"content": [{"type": "text", "text": "So: [[A"}, {"type": "text", "text": "]]"}]}, "A"),
        ({"content": [{"type": "thinking", "thinking": [{"type": "text", "text": "[[B]]"}]}]}, None),
        ({"content": []}, None),
    ],
)
def test_a_message_without_a_plain_text(tmp_path, server, message, verdict):
    server.answer = lambda prompt: {"message": message, "finish_reason": "stop"}
    judged(tmp_path, server, {"en": [pair("a", "Q", "yes", "no")]})
    assert verdicts(tmp_path) == [verdict, verdict]


@pytest.mark.parametrize(
    "choice",
    [
        {"message": {"content": ""}, "finish_reason": "error"},
        {"message": {"content": [{"type": "text"}]}},
        {"message": {"content": ["[[A]]"]}},
        {"text": "[[A]]"},
    ],
)
def test_what_is_no_answer_is_not_kept_as_one(tmp_path, server, choice):
    server.answer = lambda prompt: choice
    with pytest.raises(StudyError, match="no chat completion"):
        judged(tmp_path, server, {"en": [pair("a", "Q", "yes", "no")]}, at_once=1)
    server.answer = lambda prompt: "[[A]]"
    judged(tmp_path, server, {"en": [pair("a", "Q", "yes", "no")]})
    assert len(server.prompts) == 3


GPT_5 = {"max_tokens": None, "temperature": None, "max_completion_tokens": 2048, "reasoning_effort": "low"}


def test_a_request_has_the_fields_that_its_server_takes(tmp_path, server, pairs):
    judged(tmp_path, server, {"en": pairs[:1]}, extra=GPT_5)
    fields = {k: v for k, v in server.requests[0].items() if k not in ("path", "messages")}
    assert fields == {"model": "judge", "max_completion_tokens": 2048, "reasoning_effort": "low"}
    said = settings(tmp_path)
    assert (said["temperature"], said["max_new_tokens"]) == (None, None)
    assert said["extra"] == {"max_completion_tokens": 2048, "reasoning_effort": "low"}
    # Another field is another judge; a field that says what is sent anyway is none.
    judged(tmp_path, server, {"en": pairs[:1]})
    judged(tmp_path, server, {"en": pairs[:1]}, extra={"temperature": 0})
    assert len(server.requests) == 4
    judged(tmp_path, server, {"en": pairs[:1]}, extra={"temperature": 0.6})
    assert len(server.requests) == 6
    assert (server.requests[-1]["temperature"], settings(tmp_path)["temperature"]) == (0.6, 0.6)


@pytest.mark.parametrize("name", ["model", "messages"])
def test_no_field_takes_the_place_of_what_is_asked(tmp_path, server, name):
    judged(tmp_path, server, {"en": [pair("a", "Q", "yes", "no")]}, extra={name: "other"}, prompt=PLAIN)
    assert sorted(server.prompts) == ["Q|no|yes", "Q|yes|no"]
    assert {request["model"] for request in server.requests} == {"judge"}


def test_a_system_message_stands_before_the_prompt_and_makes_another_judge(tmp_path, server):
    rows = {"en": [pair("a", "Q", "yes", "no")]}
    judged(tmp_path, server, rows, prompt=PLAIN)
    judged(tmp_path, server, rows, prompt=PLAIN, system="You are {prompt} fair.")
    assert len(server.prompts) == 4
    assert server.requests[-1]["messages"][0] == {"role": "system", "content": "You are {prompt} fair."}
    assert len(server.requests[0]["messages"]) == 1
    assert "system_sha256" in settings(tmp_path)


def test_a_local_judge_reads_the_system_message(tmp_path, bases, pairs):
    judged(tmp_path, bases["qwen"], {"en": pairs[:1]}, prompt=PLAIN, max_new_tokens=4)
    plain = judgements(tmp_path)["text"].tolist()
    judged(tmp_path, bases["qwen"], {"en": pairs[:1]}, prompt=PLAIN, max_new_tokens=4, system="Rain " * 9)
    assert judgements(tmp_path)["text"].tolist() != plain


@pytest.mark.parametrize(
    ("ids", "cut_off"), [([5, 6, 7, 8], 1), ([5, 6, 7, "stop"], 0), ([5, "stop", "pad", "pad"], 0)]
)
def test_a_local_judge_is_cut_off_where_it_does_not_end(tmp_path, bases, monkeypatch, ids, cut_off):
    tokenizer = AutoTokenizer.from_pretrained(bases["qwen"])
    names = {"stop": tokenizer.eos_token_id, "pad": tokenizer.pad_token_id}
    said = [names.get(i, i) for i in ids]
    monkeypatch.setattr(
        local_judge, "decode", lambda model, prompts, *_, **__: iter([[(i, said) for i in range(len(prompts))]])
    )
    judged(tmp_path, bases["qwen"], {"en": [pair("a", "Q", "yes", "no")]}, prompt=PLAIN, max_new_tokens=4)
    assert settings(tmp_path)["judgements"]["en"]["cut_off"] == cut_off


THINKS = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n<think>\n{% endif %}"
)


@pytest.mark.parametrize(
    ("template", "special", "reply", "verdict", "finished"),
    [
        (None, [], "Hm. [[A]]", "A", True),
        (THINKS, [], "I have to end with [[A]] or [[B]]", None, False),
        (THINKS, [], "Is it [[B]]?</think>[[A]]", "A", True),
        # Tags that decoding leaves out, as those of Magistral.
        (None, ["[THINK]", "[/THINK]"], "[THINK]Is it [[B]], or", None, False),
        (None, ["[THINK]", "[/THINK]"], "[THINK]Is it [[B]]?[/THINK]I cannot say.", None, True),
    ],
)
def test_a_local_judge_is_read_after_its_reasoning(
    tmp_path, bases, monkeypatch, template, special, reply, verdict, finished
):
    folder = shutil.copytree(bases["qwen"], tmp_path / "judge")
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.add_special_tokens({"additional_special_tokens": special})
    tokenizer.save_pretrained(folder)
    said = [*tokenizer(reply)["input_ids"], tokenizer.convert_tokens_to_ids("<|im_end|>")]
    monkeypatch.setattr(
        local_judge, "decode", lambda model, prompts, *_, **__: iter([[(i, said) for i in range(len(prompts))]])
    )
    monkeypatch.setattr(local_judge.LocalJudge, "model", None)
    more = {"max_new_tokens": 200} | ({"chat_template": template} if template else {})
    judged(tmp_path, folder, {"en": [pair("a", "Q", "yes", "no")]}, prompt=PLAIN, **more)
    assert verdicts(tmp_path) == [verdict, verdict]
    assert judgements(tmp_path)["finished"].tolist() == [finished, finished]


def test_one_random_order(tmp_path, server):
    rows = [pair(str(i), str(i), "good", "bad") for i in range(200)]
    server.answer = lambda prompt: "[[A]]" if prompt.split("|")[1] == "good" else "[[C]]"
    frames = judged(tmp_path, server, {"en": rows, "es": rows[100:]}, prompt=PLAIN, orders="random")
    assert len(server.prompts) == 200  # once a row, and the same order in every language
    table = judgements(tmp_path)
    assert table["id"].tolist() == [row["id"] for row in rows]
    shown = table["order"].tolist()
    assert 70 < shown.count("chosen_first") < 130
    assert rewards(frames["en"]) == [[1.0, 0.0] if order == "chosen_first" else [0.5, 0.5] for order in shown]
    n = shown.count("chosen_first")
    counted = {"n": 200, "first_wins": n, "second_wins": 0, "tied": 200 - n, "off_format": 0, "chosen_first": n}
    assert settings(tmp_path)["judgements"]["en"] == {**counted, "cut_off": 0}
    # Both orders ask for the other one alone.
    judged(tmp_path, server, {"en": rows}, prompt=PLAIN)
    assert len(server.prompts) == 400


def functions_of(package: str, file: str, *names: str) -> dict[str, Callable]:
    """Functions of an installed file, nested ones too, without what else it imports."""
    found = next((f for f in importlib.metadata.files(package) or () if str(f) == file), None)
    assert found, "pip install --no-deps -r envs/parity.lock"
    tree = ast.parse(Path(str(found.locate())).read_text())
    there = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef) and node.name in names]
    space: dict[str, Callable] = {"re": re}
    exec(compile(ast.Module(there, []), file, "exec"), space)
    return {name: space[name] for name in names}


def test_outcomes_are_those_of_rewardbench(tmp_path, server):
    """Its process_shuffled is in scripts/run_generative.py: 1, 0, or 0.5 for whatever is no verdict."""
    theirs = functions_of("rewardbench", "scripts/run_generative.py", "process_shuffled")["process_shuffled"]
    read = functions_of("rewardbench", "rewardbench/generative.py", "process_judgement")["process_judgement"]
    replies = ["[[A]]", "[[B]]", "It is [[B]].", "**[[A]]**", "[[C]]", "neither", ""]
    rows = [pair(str(i), str(i), "good", "bad") for i in range(140)]
    server.answer = lambda prompt: replies[int(prompt.split("|")[0]) % len(replies)]
    frame = judged(tmp_path, server, {"en": rows}, prompt=PLAIN, orders="random", ties="half")["en"]
    expected = [
        theirs(read(text, None), order == "rejected_first")
        for text, order in judgements(tmp_path)[["text", "order"]].itertuples(index=False)
    ]
    assert set(expected) == {0, 0.5, 1}
    margins = frame["reward_chosen"] - frame["reward_rejected"]
    assert ((margins > 0) + 0.5 * (margins == 0)).tolist() == expected  # ties: half
    assert settings(tmp_path)["ties"] == "half"


@pytest.mark.parametrize(
    ("form", "modifier", "replies"),
    [
        ("prometheus", "prometheus", ["Feedback: fine. [RESULT] A", "[RESULT] B", "A", "[RESULT] neither"]),
        ("label", "Atla", ["**Reasoning:** x\n\n**Result:** A", "**Result:** B", "**Result:** "]),
    ],
)
def test_other_forms_read_what_rewardbench_reads(form, modifier, replies):
    read = functions_of("rewardbench", "rewardbench/generative.py", "process_judgement")["process_judgement"]
    for reply in replies:
        found = find_verdict(reply, verdict_form(form, "pairwise"), Reasoning())
        theirs = read(reply, modifier)
        assert (found.upper() if found else None) == (theirs if theirs in ("A", "B") else None), reply


def test_judgements_are_read_again_without_being_asked_for_again(tmp_path, server):
    rows = {"en": [pair("a", "Q", "good", "bad")]}
    server.answer = lambda prompt: "Verdict: A" if prompt.split("|")[1] == "good" else "Verdict: B"
    assert rewards(judged(tmp_path, server, rows, prompt=PLAIN)["en"]) == [[0, 0]]
    assert rewards(judged(tmp_path, server, rows, prompt=PLAIN, verdict="label")["en"]) == [[1, 0]]
    pattern = {"pattern": r"(?i)verdict: (\w)", "first": ["B"], "second": ["A"]}
    assert rewards(judged(tmp_path, server, rows, prompt=PLAIN, verdict=pattern)["en"]) == [[0, 1]]
    assert settings(tmp_path)["verdict"] == pattern
    assert len(server.prompts) == 2


def test_a_budget_is_for_ever_and_said_before_anything_is_asked(tmp_path, server, pairs):
    """Twelve pairs in two orders are 24 judgements; what is there is used however small the budget."""
    with pytest.raises(
        StudyError, match=r"server\.budget: of 23 judgements 0 are there, and 24 more .* in en; raise it"
    ):
        judged(tmp_path, server, {"en": pairs}, budget=23)
    assert server.prompts == []
    judged(tmp_path, server, {"en": pairs[:3]}, budget=23)
    assert len(server.prompts) == 6
    with pytest.raises(StudyError, match=r"of 23 judgements 6 are there, and 18 more"):
        judged(tmp_path, server, {"en": pairs}, budget=23)
    judged(tmp_path, server, {"en": pairs}, budget=24)
    assert len(server.prompts) == 24
    judged(tmp_path, server, {"en": pairs[::-1]}, budget=0)
    assert len(server.prompts) == 24


def test_a_scale_is_asked_for_and_kept_to(tmp_path, server):
    server.first("[[0]]", "[[5]]", then="[[6]]")
    rows = [pair("a", "Q", "one", "two"), pair("b", "Q", "three", "two")]
    frame = judged(tmp_path, server, {"en": rows}, mode="rating", scale=[0, 5], at_once=1)["en"]
    assert rewards(frame) == [[0, 5], [-1, 5]]  # off the scale is below it
    assert "from 0 (useless or harmful) to 5 (could not be better) in exactly this form: [[2]]." in server.prompts[0]
    assert settings(tmp_path)["scale"] == [0, 5]


# Keys of the judgements that commit 68ef245 made of the pair a, Q, yes, no: both modes, with our prompts and with others.
PAID_BEFORE = (
    "a4e1f2661470384d3afdfead1f1a5131602c6d72a37287660df08a78ed67605d",
    "3fa643a5306797bb145ad5b3a35688284a6005e1531ab038528b73d1484a9bbd",
    "5d30ed5714fe495c106b59dc76fea75932ff74ac071c35ff00fe84c34ed18ba8",
    "8a19966b6c908293c311c6a555e8ec0d42361dbab19ead6c06098561fa2027a8",
    "08bb4aecc861d026eaefa585256bb7575072e131803b06fb808b0e038bb73765",
    "e80c58ab2b1acbee1a3d74c20f9ec3389eefbf6de2b8e056a2f07849de112b26",
    "f19efe8fe445f97ae27663a896073df5127a2f4a5f85c856a4c1a17be0cd6c57",
    "5acc3ac1d6951d71ab0f3078f7e93ebb765b99b6384d0150527b569576b2539b",
)


def test_judgements_of_earlier_versions_are_found(tmp_path, server):
    (tmp_path / "cache").mkdir()
    with sqlite3.connect(tmp_path / "cache/judgements.sqlite") as before:
        before.execute("CREATE TABLE judgement (key TEXT PRIMARY KEY, text TEXT, answered_by TEXT)")
        before.executemany(
            "INSERT INTO judgement VALUES (?, '[[A]] [[7]]', 'judge-2026')", [(key,) for key in PAID_BEFORE]
        )
    before.close()
    rows = {"en": [pair("a", "Q", "yes", "no")]}
    for more in ({}, {"prompt": PLAIN, "max_new_tokens": 77}):
        assert rewards(judged(tmp_path, server, rows, **more)["en"]) == [[0.5, 0.5]]
        judged(tmp_path, server, rows, orders="random", ties="half", **more)
    for more in ({}, {"prompt": "{prompt}|{answer}", "max_new_tokens": 77}):
        assert rewards(judged(tmp_path, server, rows, mode="rating", **more)["en"]) == [[7, 7]]
    assert not server.prompts


def test_a_local_judge_is_who_it_was(tmp_path, bases):
    options = JudgeOptions(kind="judge", mode="pairwise", path=str(bases["qwen"]))
    judge = Judge(options, "theirs", Resources("cpu", 512, 1, tmp_path))
    spec = ModelSpec(str(bases["qwen"]), None, options, "theirs", "cpu")
    facts = {"model": spec.identity, **spec.settings(), **Encoder(spec).settings()}
    facts |= {"mode": "pairwise", "prompt_sha256": digest_of(Pairwise.PROMPT), "max_new_tokens": 512, "temperature": 0}
    assert judge.settings() == {**facts, "reading": READING}
    assert judge._store.judge == digest_of(facts)

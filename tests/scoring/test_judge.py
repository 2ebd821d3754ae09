"""Judges: what they are asked, what counts as a verdict, and that no judgement is lost or paid for twice."""

import gc
import json
import os
import sqlite3
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pandas as pd
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from conftest import pair
from rmtransfer.kit.errors import StudyError
from rmtransfer.models.loading import ModelSpec
from rmtransfer.scoring import judge_server
from rmtransfer.scoring.judgements import JudgementStore
from rmtransfer.study.catalogue import JUDGE_PROTOCOLS, load
from scored import run, settings

PLAIN = "{prompt}|{answer_a}|{answer_b}"
SECRET = "sk-a-key-that-is-nowhere-else"


class Server:
    """An OpenAI-compatible server on this machine; ``answer`` makes of a prompt a text, or (status, headers, body)."""

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
                    body = {"model": "judge-2026", "choices": [{"message": {"role": "assistant", "content": answer}}]}
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
    which = {"server": {"url": model.url, "model": "judge"}} if isinstance(model, Server) else {"path": str(model)}
    return run(tmp_path, {"kind": "judge", "mode": mode, **which, **more}, rows, budget=512, at_once=at_once)


def judgements(tmp_path, language="en") -> pd.DataFrame:
    return pd.read_parquet(tmp_path / f"scores/{language}.judgements.parquet")


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
    assert counted == {"n": 9, **Counter(kind for *_, kind in PAIRWISE.values())}
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
    assert rewards(frame) == [[10, 5], [1, 1], [0, 5], [0, 0], [0, 1]]
    assert settings(tmp_path)["judgements"]["en"] == {"n": 5, "tied": 1, "off_format": 3}
    assert len(server.prompts) == len(said)  # each text is asked about once


@pytest.mark.parametrize("mode", ["pairwise", "rating"])
def test_a_placeholder_inside_a_text_stays_text(tmp_path, server, mode):
    texts = "{answer_a} {answer_b}", "{prompt} {answer}", "{answer_a}"
    judged(tmp_path, server, {"en": [pair("a", *texts)]}, mode=mode)
    prompt, chosen, rejected = texts
    part = load(JUDGE_PROTOCOLS, mode).PROMPT.split
    if mode == "rating":
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
    store.put([("first", "[[A]]", "m")])
    killed = sqlite3.connect(tmp_path / "j.sqlite")
    killed.execute("INSERT INTO judgement VALUES ('key', '[[', 'm')")
    killed.close()  # before its commit
    store.put([("first", "[[B]]", "m"), ("second", "[[C]]", "m")])
    assert store.get({"first": "", "second": "", "third": ""}) == {"first": "[[A]]", "second": "[[C]]"}
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
    assert (counted["en"]["off_format"], counted["en"]["n"], counted["es"]["off_format"]) == (12, 12, 2)
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

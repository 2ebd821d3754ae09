"""The engine `deepl`: the official client over HTTP against a server that has the API's limits and its bad days."""

import itertools
import json
import re
import subprocess
import sys
import urllib.parse
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
import requests
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import fake_deepl
from fake_deepl import FakeDeepL, Fault, damaged, from_request, shuffled, unmarked, without_last
from rmtransfer.kit.errors import StudyError
from rmtransfer.translation import deepl
from rmtransfer.translation.deepl import DeepL
from rmtransfer.translation.store import Translation
from rmtransfer.translation.structure import Splitting, join_parts, split_text
from scripted_engine import MACHINE

SECRET = "5ecre7-key:fx"
# Unlike the rest, whose expectation is the upper case, these hold what must not be touched; written out by hand.
SPANS = {
    "Run `ls -a` now": "RUN `ls -a` NOW",
    "See https://a.example/b?c=d&e=f.": "SEE https://a.example/b?c=d&e=f.",
    "Is 1 < 2 && `a<b>c` > 0?": "IS 1 < 2 && `a<b>c` > 0?",
    "<b>bold</b> & *mild*, {name}": "<b>BOLD</b> & *MILD*, {name}",
}


@pytest.fixture
def server(monkeypatch) -> Iterator[FakeDeepL]:
    monkeypatch.setenv("DEEPL_AUTH_KEY", SECRET)
    # The client raises every timeout to the second that its own first backoff lasts.
    monkeypatch.setattr(deepl, "_PATIENCE", 0.5)
    monkeypatch.setattr(deepl, "_FIRST_PAUSE", 0.01)
    with FakeDeepL(SECRET) as running:
        yield running


def engine(
    server: FakeDeepL, target: str = "es", source: str = "en", *, options: dict | None = None, **others
) -> DeepL:
    return to(server.url, target, source, options=options, **others)


def to(url: str | None, target: str = "es", source: str = "en", *, options: dict | None = None, **others) -> DeepL:
    return DeepL(DeepL.Options(server_url=url, **(options or {})), source, target, MACHINE._replace(**others))


def plain(count: int, words: str = "text number") -> list[str]:
    return [f"{words} {number}" for number in range(count)]


def gather(engine: DeepL, prose: Sequence[str]) -> tuple[dict[str, Translation], StudyError | None]:
    """All answers until the end or a StudyError. Nothing may be answered twice."""
    answers: dict[str, Translation] = {}
    try:
        for batch in engine.translate(prose):
            assert not answers.keys() & batch.keys()
            answers.update(batch)
    except StudyError as problem:
        return answers, problem
    return answers, None


def texts_of(answers: dict[str, Translation]) -> dict[str, str]:
    return {text: translation.text for text, translation in answers.items()}


def uppers(prose: Sequence[str]) -> dict[str, str]:
    return {text: text.upper() for text in prose}


# What is sent and what comes back


def test_translates_and_leaves_protected_spans_alone(server):
    prose = ["hello", *SPANS, "안녕 world", "naïve 😀"]
    answers, problem = gather(engine(server), prose)
    assert problem is None
    assert texts_of(answers) == {"hello": "HELLO", **SPANS, "안녕 world": "안녕 WORLD", "naïve 😀": "NAÏVE 😀"}
    assert {translation.flaws for translation in answers.values()} == {()}
    assert len(server.requests) == 1


def test_answers_come_in_the_order_asked(server):
    prose = plain(120)
    yielded = [text for batch in engine(server, requests_at_once=1).translate(prose) for text in batch]
    assert yielded == prose


def test_nothing_to_translate_is_no_request(server):
    assert gather(engine(server), []) == ({}, None)
    assert server.requests == []


def test_records_the_code_points_outside_tags_as_billed(server):
    # code points: 15 to the space after the colon, 4 of "run ", 5 of the code, 4 of " é😀."
    text = "A & B < C > D: run `a<b` é😀."
    answers, _ = gather(engine(server), [text, "four"])
    assert answers == {
        text: Translation("A & B < C > D: RUN `a<b` É😀.", billed=28),
        "four": Translation("FOUR", billed=4),
    }
    assert server.character_count == 32


def test_target_codes(server):
    # from Korean, so that English is a target like the others
    expected = {
        "es": "ES",
        "es-MX": "ES",
        "zh": "ZH-HANS",
        "zh-CN": "ZH-HANS",
        "zh-TW": "ZH-HANT",
        "zh-Hant": "ZH-HANT",
    }
    expected |= {"en": "EN-US", "en-GB": "EN-GB", "de": "DE"}
    for target in expected:
        assert gather(engine(server, target, "ko"), ["글"])[1] is None
    assert [request.body["target_lang"] for request in server.requests] == list(expected.values())
    assert {request.body["source_lang"] for request in server.requests} == {"KO"}


def test_formality_is_sent_only_where_the_language_has_one(server):
    for target in ("es", "ko", "it", "zh"):
        assert gather(engine(server, target, options={"formality": "more"}), ["text"])[1] is None
    formality = {request.body["target_lang"]: request.body.get("formality") for request in server.requests}
    assert formality == {"ES": "more", "KO": None, "IT": "more", "ZH-HANS": None}


def test_glossary_and_context_are_sent(server):
    options = {"glossaries": {"es": "g-es", "it": "g-it"}, "context": "a chat", "model_type": "quality_optimized"}
    for target in ("es", "de"):
        assert gather(engine(server, target, options=options), ["text"])[1] is None
    spanish, german = (request.body for request in server.requests)
    assert spanish["glossary_id"] == "g-es"
    assert "glossary_id" not in german
    assert spanish["context"] == german["context"] == "a chat"
    assert spanish["model_type"] == german["model_type"] == "quality_optimized"


@pytest.mark.parametrize(("source", "target", "named"), [("xx", "es", "XX"), ("en", "tlh", "TLH")])
def test_unsupported_language(server, source, target, named):
    answers, problem = gather(engine(server, target, source), ["text"])
    assert answers == {}
    assert re.search(rf"\b{named}\b", str(problem))
    assert re.search(r"\bES\b.*\bKO\b", str(problem))
    assert server.requests == []


def test_options_decide_the_scope(server):
    options: list[dict] = [{}, {"formality": "more"}, {"formality": "less"}, {"context": "a chat"}]
    options += [{"glossaries": {"es": "g1"}}, {"glossaries": {"es": "g2"}}, {"model_type": "quality_optimized"}]
    keys = [engine(server, options=these).scope.key for these in options]
    keys += [engine(server, "it").scope.key, engine(server, source="ko").scope.key]
    assert len(set(keys)) == len(keys)
    assert (
        engine(server).scope.key
        == engine(server, requests_at_once=9, tokens_per_batch=9, device="cuda").scope.key
        == keys[0]
    )
    other_glossary = engine(server, options={"glossaries": {"it": "g1"}, "formality": None})
    assert other_glossary.scope.key == keys[0]


def test_the_secret_is_in_no_scope(server):
    asked = engine(server, options={"formality": "more"})
    gather(asked, ["text"])
    assert SECRET not in asked.scope.key
    assert SECRET not in asked.safer().scope.key


def test_safer_goes_sentence_by_sentence_under_another_key(server):
    usual = engine(server)
    safer = usual.safer()
    assert safer.splitting == Splitting("sentence", spans_inside=False, limit=usual.splitting.limit)
    assert safer.scope.key != usual.scope.key
    assert safer.safer() is None
    assert texts_of(gather(safer, ["text"])[0]) == {"text": "TEXT"}


def test_quota(server):
    server.character_count, server.character_limit = 17, 500
    assert engine(server).quota() == (17, 500)
    server.character_limit = None
    assert engine(server).quota() is None
    server.key = "another"
    with pytest.raises(StudyError, match="DEEPL_AUTH_KEY"):
        engine(server).quota()


# Batches


def test_no_request_beyond_fifty_texts(server):
    prose = plain(120)
    answers, problem = gather(engine(server), prose)
    assert problem is None
    assert texts_of(answers) == uppers(prose)
    assert sorted(len(request.body["text"]) for request in server.requests) == [20, 50, 50]


@pytest.mark.parametrize("letters", ["a", "가", "a😀", "a&", 'é"\\', "a<", "é`e` "])
def test_no_body_beyond_the_limit(server, letters):
    # as long as the engine lets a text become, of characters that grow when they are escaped
    limit = engine(server).splitting.limit
    prose = [f"{number} {letters * limit}"[:limit].strip() for number in range(12)]
    answers, problem = gather(engine(server), prose)
    assert problem is None
    assert texts_of(answers) == {text: re.sub("`E`", "`e`", text.upper()) for text in prose}
    assert server.statuses == [200] * len(server.requests)
    assert max(request.size for request in server.requests) <= 128 * 1024


def test_the_longest_text_fits_however_many_spans_it_has(server):
    # every character but two a protected span of its own, in a tag of its own
    limit = engine(server).splitting.limit
    text = "ab" + "*_" * (limit // 2 - 1)
    prose = [part.text for part in split_text(text, "en", engine(server).splitting) if part.kind == "prose"]
    answers, problem = gather(engine(server), prose)
    assert problem is None
    assert {source[:2]: translation[:2] for source, translation in texts_of(answers).items()} == {"ab": "AB"}


def test_never_more_requests_at_once_than_allowed(server):
    server.delay = 0.1
    prose = plain(400)
    answers, _ = gather(engine(server, requests_at_once=3), prose)
    assert texts_of(answers) == uppers(prose)
    assert 2 <= server.most_at_once <= 3


def test_too_large_a_body_is_halved_until_it_fits(server):
    server.body_limit = 3000
    prose = plain(120, "x" * 100)
    answers, problem = gather(engine(server), prose)
    assert problem is None
    assert texts_of(answers) == uppers(prose)
    assert set(server.statuses) == {200, 413}
    # nothing is paid for twice
    assert server.character_count == sum(map(len, prose))


def test_a_single_text_that_is_too_large_ends_the_run(server):
    server.body_limit = 1000
    answers, problem = gather(engine(server), ["x" * 2000])
    assert answers == {}
    assert "413" in str(problem)
    assert server.statuses == [413]


# Keys and quota


@pytest.mark.parametrize("key", [None, "", "  "])
def test_missing_key(server, monkeypatch, key):
    if key is None:
        monkeypatch.delenv("DEEPL_AUTH_KEY")
    else:
        monkeypatch.setenv("DEEPL_AUTH_KEY", key)
    answers, problem = gather(engine(server), ["text"])
    assert answers == {}
    assert "DEEPL_AUTH_KEY is not set" in str(problem)
    assert server.calls == []


def test_wrong_key(server, monkeypatch):
    monkeypatch.setenv("DEEPL_AUTH_KEY", "wr0ng")
    answers, problem = gather(engine(server), ["text"])
    assert answers == {}
    assert "DEEPL_AUTH_KEY" in str(problem)
    assert "wr0ng" not in str(problem)
    assert server.requests == []


def test_key_with_a_line_end_is_good(server, monkeypatch):
    monkeypatch.setenv("DEEPL_AUTH_KEY", f"{SECRET}\n")
    assert gather(engine(server), ["text"])[1] is None


def test_key_refused_in_mid_run(server):
    server.faults = from_request(2, Fault(status=403))
    answers, problem = gather(engine(server, requests_at_once=1), plain(150))
    assert len(answers) == 50
    assert "403" in str(problem)
    assert SECRET not in str(problem)
    assert server.statuses == [200, 403]


def test_quota_used_up_before_the_start(server):
    server.character_count = server.character_limit = 1000
    answers, problem = gather(engine(server), ["text"])
    assert answers == {}
    assert "1,000 of 1,000" in str(problem)
    assert server.requests == []


def test_account_without_a_limit(server):
    server.character_limit = None
    assert texts_of(gather(engine(server), ["text"])[0]) == {"text": "TEXT"}


def test_quota_used_up_in_mid_run_keeps_what_was_finished(server):
    server.faults = from_request(3, Fault(status=456))
    prose = plain(250)
    answers, problem = gather(engine(server, requests_at_once=1), prose)
    assert texts_of(answers) == uppers(prose[:100])
    assert "456" in str(problem)
    assert server.statuses == [200, 200, 456]  # nothing more is asked, and 456 is not repeated


def test_quota_used_up_keeps_what_was_still_under_way(server):
    server.faults = iter([Fault(status=456), Fault(hang=0.4)])
    answers, problem = gather(engine(server, requests_at_once=2), plain(250))
    assert "456" in str(problem)
    assert sorted(filter(None, server.statuses)) == [200, 456]
    (paid,) = [request for request in server.requests if request.status == 200]
    assert len(answers) == len(paid.body["text"]) == 50
    assert sum(translation.billed for translation in answers.values()) == server.character_count


def test_quota_of_a_real_account_runs_out(server):
    prose = plain(200)
    server.character_limit = sum(map(len, prose[:120]))
    answers, problem = gather(engine(server, requests_at_once=1), prose)
    assert texts_of(answers) == uppers(prose[:100])
    assert "456" in str(problem)


# Bad days


@pytest.mark.parametrize(
    "fault",
    [
        Fault(status=429),
        Fault(status=500),
        Fault(status=503),
        Fault(status=529),
        Fault(drop=True),
        Fault(hang=20),
        Fault(cut=True),
    ],
    ids=["429", "500", "503", "529", "dropped", "timeout", "cut off"],
)
def test_tries_again(server, fault):
    server.faults = iter([fault, fault])
    prose = plain(60)
    answers, problem = gather(engine(server), prose)
    assert problem is None
    assert texts_of(answers) == uppers(prose)
    assert len(server.requests) == 4


def test_tries_again_several_times(server):
    server.faults = iter([Fault(status=429), Fault(drop=True), Fault(status=529), Fault(status=503)])
    answers, problem = gather(engine(server), ["text"])
    assert problem is None
    assert texts_of(answers) == {"text": "TEXT"}
    assert len(server.requests) == 5


def test_waits_as_long_as_the_server_says(server):
    server.faults = iter([Fault(status=429, headers={"Retry-After": "1"})])
    answers, problem = gather(engine(server), ["text"])
    assert problem is None
    assert texts_of(answers) == {"text": "TEXT"}
    first, second = server.requests
    assert 1.0 <= second.time - first.time < 5


def test_waits_longer_each_time_where_the_server_says_nothing(server, monkeypatch):
    monkeypatch.setattr(deepl, "_FIRST_PAUSE", 0.2)
    server.faults = iter([Fault(status=429), Fault(status=429)])
    gather(engine(server), ["text"])
    times = [request.time for request in server.requests]
    waits = [later - earlier for earlier, later in itertools.pairwise(times)]
    assert len(waits) == 2
    assert waits[0] >= 0.2
    assert waits[1] >= 0.4


@pytest.mark.parametrize("fault", [Fault(status=500), Fault(drop=True)], ids=["500", "dropped"])
def test_gives_up_after_the_attempts(server, fault, monkeypatch):
    monkeypatch.setattr(deepl, "_ATTEMPTS", 3)
    server.faults = itertools.repeat(fault)
    answers, problem = gather(engine(server), ["text"])
    assert answers == {}
    assert "after 3 attempts" in str(problem)
    assert len(server.requests) == 3


def test_a_refused_request_is_not_repeated(server):
    server.faults = itertools.repeat(Fault(status=400))
    _, problem = gather(engine(server), ["text"])
    assert "translation.deepl" in str(problem)
    assert server.statuses == [400]


# Answers that are not what was asked for


def half_unmarked(texts: list[str]) -> list[str]:
    return [unmarked([text])[0] if number % 2 else text for number, text in enumerate(texts)]


@pytest.mark.parametrize(
    ("change", "asked"),
    [
        (without_last, 1 + 1),
        (shuffled, 1),
        (unmarked, 1 + 30),
        (half_unmarked, 1 + 15),
        (lambda texts: shuffled(half_unmarked(texts))[:20], 1 + 15 + 10),
        (lambda texts: [*texts, "<s>one more</s>"], 1),
        (lambda texts: [text.replace("</s>", "") for text in texts], 1 + 30),
        (lambda texts: [], 1 + 30),
    ],
    ids=["one too few", "shuffled", "unmarked", "half unmarked", "all three", "one too many", "broken", "none"],
)
def test_every_text_gets_its_own_translation(server, change, asked):
    server.faults = iter([Fault(change=change)])
    prose = plain(26) + list(SPANS)
    answers, problem = gather(engine(server), prose)
    assert problem is None
    assert texts_of(answers) == uppers(plain(26)) | SPANS
    assert {translation.flaws for translation in answers.values()} == {()}
    assert len(server.requests) == asked


def test_a_text_whose_mark_never_comes_back_is_asked_alone_and_needs_none(server):
    server.faults = from_request(1, Fault(change=unmarked))
    answers, problem = gather(engine(server, requests_at_once=1), ["one `x` & two", "three"])
    assert problem is None
    assert texts_of(answers) == {"one `x` & two": "ONE `x` & TWO", "three": "THREE"}
    billed = sum(answer.billed for answer in answers.values())
    assert billed == 2 * (len("one `x` & two") + len("three"))  # what was paid for unusable answers counts too


def test_a_text_that_is_never_answered_ends_the_run(server):
    server.faults = from_request(2, Fault(change=lambda texts: []))
    answers, problem = gather(engine(server, requests_at_once=1), [*plain(50), "never"])
    assert texts_of(answers) == uppers(plain(50))
    assert "'never'" in str(problem)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (damaged, "RUN `ls`? AND `cd` NOW"),
        (lambda texts: [re.sub("<x.*?</x>", "", text, count=1) for text in texts], "RUN  AND `cd` NOW"),
        (lambda texts: [re.sub("(<x.*?</x>)", r"\1\1", text, count=1) for text in texts], "RUN `ls``ls` AND `cd` NOW"),
        (lambda texts: [re.sub("</?x.*?>", "", text) for text in texts], "RUN `ls` AND `cd` NOW"),
    ],
    ids=["changed", "lost", "doubled", "unmarked"],
)
def test_damaged_protected_span_is_a_flaw(server, change, text):
    server.faults = iter([Fault(change=change)])
    answers, problem = gather(engine(server), ["Run `ls` and `cd` now", "no span"])
    assert problem is None
    assert answers["Run `ls` and `cd` now"].flaws == ("protected span lost or changed",)
    assert answers["Run `ls` and `cd` now"].text == text
    assert answers["no span"] == Translation("NO SPAN", billed=7)


def test_spans_in_another_order_are_no_flaw(server):
    def swap(texts: list[str]) -> list[str]:
        return [re.sub("(<x.*?</x>)(.*?)(<x.*?</x>)", r"\3\2\1", text) for text in texts]

    server.faults = iter([Fault(change=swap)])
    answers, _ = gather(engine(server), ["Run `ls` and `cd` now"])
    assert answers["Run `ls` and `cd` now"] == Translation("RUN `cd` AND `ls` NOW", billed=21)


# Any text


@pytest.fixture(scope="module")
def echo() -> Iterator[DeepL]:
    """An engine whose server gives every text back."""
    with pytest.MonkeyPatch.context() as patch, FakeDeepL(SECRET) as running:
        patch.setenv("DEEPL_AUTH_KEY", SECRET)
        patch.setattr(deepl, "_PATIENCE", 10)
        running.translate = lambda text, target: text
        yield engine(running)


FRAGMENTS = [
    *("`a < b`", "``x ` y``", "https://a.example/b?c=d&e=f", "me@a.example", "$x^2 < y$", "\\(a_b\\)", "{name}", "%s"),
    *("<b>", "</b>", "<br/>", "<s n='1'>", "</s>", '<x i="0">', "</x>", "&amp;", "&lt;", "&", "<", ">", "&<>", "]]>"),
    *("안녕하세요. ", "하세요?", "你好。", "谢谢！", "日本語、", "😀", "👩‍👩‍👧", "é", "e\u0301", "ﷺ"),
    *("word ", "Dr. Who. ", "It ends. ", "**", "_", "'", '"', "[link](http://a.example/(b))"),
    *(
        " ",
        "  ",
        "\t",
        "\n",
        "\r\n",
        "\n\n",
        "\u2028",
        "\x85",
        "\x00",
        "\x1b[0m",
        "\u200b",
        "\u00a0",
        "\u2009",
        "\u3000",
    ),
    *("- ", "1. ", "> ", "# ", "| a | b |", "```py\nx < 1\n```", "```"),
]


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.sampled_from(FRAGMENTS) | st.text(max_size=12), min_size=1, max_size=24).map("".join))
def test_a_text_survives_the_way_there_and_back(echo, text):
    parts = split_text(text, "en", echo.splitting)
    prose = list(dict.fromkeys(part.text for part in parts if part.kind == "prose"))
    answers, problem = gather(echo, prose)
    assert problem is None
    assert join_parts(parts, texts_of(answers), "es") == text
    assert all(translation.flaws == () for translation in answers.values())
    assert all(translation.billed == len(source) for source, translation in answers.items())


# The server itself: a test against a server that lets everything pass proves nothing


def test_the_server_refuses_what_the_api_refuses(server):
    def post(body: dict, key: str = SECRET) -> int:
        headers = {"Authorization": f"DeepL-Auth-Key {key}"}
        return requests.post(f"{server.url}/v2/translate", json=body, headers=headers, timeout=5).status_code

    good = {"text": ["<s>a</s>"], "target_lang": "ES", "tag_handling": "xml"}
    assert post(good) == 200
    assert post(good, key="other") == 403
    assert post({**good, "text": ["a"] * 51, "tag_handling": None}) == 400
    assert post({**good, "text": ["x" * (128 * 1024)], "tag_handling": None}) == 413
    for malformed in ("<s>a", "a & b", "<s>a</s><s>b</s>", "<s>\x01</s>"):
        assert post({**good, "text": [malformed]}) == 400
    assert post({**good, "target_lang": "TLH"}) == 400
    assert post({**good, "target_lang": "KO", "formality": "more"}) == 400
    server.character_limit = server.character_count
    assert post(good) == 456


def test_the_server_runs_as_a_process(tmp_path: Path, monkeypatch):
    monkeypatch.setattr(deepl, "_PATIENCE", 5)
    monkeypatch.setenv("DEEPL_AUTH_KEY", SECRET)
    log = tmp_path / "requests.jsonl"
    command = [sys.executable, fake_deepl.__file__, "--port", "0", "--key", SECRET, "--requests-log", str(log)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            url = process.stdout.readline().strip()
            answers, problem = gather(to(url), plain(70))
        finally:
            process.kill()
    assert problem is None
    assert texts_of(answers) == uppers(plain(70))
    logged = [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()]
    sent = Counter(len(entry["body"]["text"]) for entry in logged if entry["status"] == 200)
    assert sent == {50: 1, 20: 1}


@pytest.mark.parametrize(("key", "host"), [("k:fx", "api-free.deepl.com"), ("k", "api.deepl.com")])
def test_the_key_decides_between_free_and_pro(monkeypatch, key, host):
    """Nothing is sent: building the client already settles where it would go."""
    monkeypatch.setenv("DEEPL_AUTH_KEY", key)
    assert urllib.parse.urlparse(to(None)._connect().server_url).hostname == host

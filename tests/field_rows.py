"""Rows and chat templates of kinds that real files and public reports have shown: kind and outcome. Part of tests/field.py."""

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from conftest import GEMMA, LLAMA, build_tokenizer, pair
from rmtransfer.kit.errors import StudyError
from rmtransfer.models import chat, clock
from rmtransfer.texts import corpus
from rmtransfer.texts.selection import select_rows

USER, SYSTEM = {"role": "user", "content": "Name a fruit."}, {"role": "system", "content": "Be brief."}
SAID, OTHER = {"role": "assistant", "content": "An apple."}, {"role": "assistant", "content": "A stone."}
DATED = LLAMA.replace("{{ bos_token }}", "{{ bos_token }}Today: {{ strftime_now('%d %b %Y') }}\n", 1)
NO_SYSTEM = "{% if messages[0]['role'] == 'system' %}{{ raise_exception('no system role here') }}{% endif %}" + GEMMA
ALTERNATING = (
    "{% for m in messages %}{% if (m['role'] == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('roles must alternate') }}{% endif %}{% endfor %}" + LLAMA
)
THINKING = LLAMA.replace("m['content'] |", "m['content'].split('</think>')[-1] |")

ROWS = {
    "answer that ends with the user": ([USER], [SAID, USER], [OTHER]),
    "answer by the user": ([USER], [{**USER, "content": "Red."}], [OTHER]),
    "answer that begins with a system message": ([USER], [SYSTEM, SAID], [OTHER]),
    "prompt that ends with the assistant": ([USER, SAID], [SAID], [OTHER]),
    "prompt that is a system message": ([SYSTEM], [SAID], [OTHER]),
    "system message in the middle": ([USER, SAID, SYSTEM, USER], [SAID], [OTHER]),
    "two turns": ([SYSTEM, USER, SAID, USER], [SAID], [OTHER]),
    "keys with null": ([{**USER, "name": None}], [{**SAID, "tool_calls": None}], [OTHER]),
    "keys with a value": ([{**USER, "name": "Ann"}], [SAID], [OTHER]),
}
TEMPLATES = {
    "today's date": DATED,
    "the date in a form put together": LLAMA + "{{ strftime_now('%' ~ 'd') }}",
    "random numbers": LLAMA + "{{ ['a', 'b'] | random }}",
    "random numbers by a filter's name": "{% set how = 'random' %}" + LLAMA + "{{ [['a', 'b']] | map(how) | list }}",
    "a clock of another name": LLAMA + "{{ now() }}",
    "an object's address": LLAMA + "{{ messages[0].items }}",
    "by name, none the default": {"rag": LLAMA, "tool_use": LLAMA},
    "by name, one the default": {"default": LLAMA, "tool_use": GEMMA},
    "no Jinja": "{% for m in messages %}",
    "an answer left out": "{{ messages[0]['content'] }}",
    "two BOS": "{{ bos_token }}" + LLAMA,
    "a TypeError": "{{ messages[0]['content'] + 1 }}",
}
CONVERSATIONS = {
    "a system message, which the template leaves out": (
        LLAMA.replace("in messages %}", "in messages if m['role'] != 'system' %}"),
        {"prompt": [SYSTEM, USER]},
    ),
    "a system message, where the template has none": (NO_SYSTEM, {"prompt": [SYSTEM, USER]}),
    "two questions in a row, where roles must alternate": (ALTERNATING, {"prompt": [USER, USER]}),
    "sides that differ in reasoning alone": (
        THINKING,
        {side: [{**SAID, "content": f"<think>{side}</think>Yes."}] for side in ("chosen", "rejected")},
    ),
}


def cases() -> Iterator[tuple[str, str]]:
    """Each kind of input with what becomes of it."""
    for kind, (prompt, chosen, rejected) in ROWS.items():
        record = {"id": "a", "prompt": prompt, "chosen": chosen, "rejected": rejected}
        faults: list = []
        rows = list(corpus.valid_rows([(1, record)], corpus.PAIR_FIELDS, {}, faults))
        yield f"row: {kind}", "read" if rows else f"refused: {faults[0]['reason']}"
    for kind, template in TEMPLATES.items():
        yield f"chat template with {kind}", _outcome(lambda template=template: _brought_in(template))
    for kind, (template, fields) in CONVERSATIONS.items():
        rows = [pair("kept", "Why?", "Because.", "No."), {**pair("a", "Why?", "Because.", "No."), **fields}]
        read = chat.row_reader({"base_models.m": _with_template(template)})
        _, dropped = select_rows({"en": rows}, read, max_length=512)
        yield f"pair: {kind}", f"dropped: {dropped[0]['reason']}" if dropped else "kept"


def _with_template(template: object) -> object:
    tokenizer = build_tokenizer("gemma" if isinstance(template, str) and "start_of_turn" in template else "llama")
    tokenizer.chat_template = template
    return tokenizer


def _brought_in(template: object) -> str:
    tokenizer = _with_template(template)
    chat.settle_template(tokenizer, "base_models.m: its tokenizer", "base_models.m")
    can = chat.probe_template(tokenizer, "base_models.m")
    with tempfile.TemporaryDirectory() as folder:
        chat.save_tokenizer(tokenizer, Path(folder))
        again = chat.load_tokenizer(Path(folder))
    assert chat.encode(again, [USER, SAID]) == chat.encode(tokenizer, [USER, SAID])
    day = clock.day_of(str(tokenizer.chat_template))
    return f"served{f', the day is {day}' if day else ''}; system message {can['system']}, two turns {can['turns']}"


def _outcome(attempt: Callable[[], str]) -> str:
    try:
        return attempt()
    except StudyError as problem:
        return f"refused: {problem}"

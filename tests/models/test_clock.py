"""Whatever day it is, a template that writes the date renders the same text."""

import datetime

import pytest
from transformers import AutoTokenizer
from transformers.utils import chat_template_utils

from conftest import LLAMA, build_tokenizer
from rmtransfer.models import chat
from rmtransfer.models.clock import day_of, stop_clock

CONVERSATION = [{"role": "user", "content": "Where?"}, {"role": "assistant", "content": "Here."}]
# Llama 3.2's way, a format in a variable within a macro, the bare call, and a template that begins with white space.
LLAMA_3_2 = (
    "{{- bos_token }}\n{%- if not date_string is defined %}\n    {%- if strftime_now is defined %}\n"
    '        {%- set date_string = strftime_now("%d %b %Y") %}\n    {%- else %}\n'
    '        {%- set date_string = "26 Jul 2024" %}\n    {%- endif %}\n{%- endif %}\n'
    "{{- 'Today Date: ' + date_string + '\\n\\n' }}" + LLAMA.removeprefix("{{ bos_token }}")
)
IN_A_MACRO = (
    "{% set form = '%Y-%m-%d' %}{% macro head() %}{% for i in [1] %}Date: {{ strftime_now(form) }}\n{% endfor %}"
    "{% endmacro %}{{ bos_token }}{{ head() }}" + LLAMA.removeprefix("{{ bos_token }}")
)
BARE = "\n  {% if true %}\n{{ strftime_now('%A, %-d %B %Y, %H:%M') }}{% endif %}" + LLAMA
TEMPLATES = {"llama 3.2": LLAMA_3_2, "in a macro": IN_A_MACRO, "bare": BARE}
DAYS = [datetime.datetime(2024, 7, 26), datetime.datetime(2031, 1, 2, 13, 14)]


@pytest.fixture
def on_a_day(monkeypatch):
    """Make it that day for templates."""

    def set_day(day):
        class Day(datetime.datetime):
            @classmethod
            def now(cls, tz=None):
                return day

        monkeypatch.setattr(chat_template_utils, "datetime", Day)
        chat_template_utils._compile_jinja_template.cache_clear()

    yield set_day
    chat_template_utils._compile_jinja_template.cache_clear()


def tokenizer_with(template):
    tokenizer = build_tokenizer("llama")
    tokenizer.chat_template = template
    return tokenizer


@pytest.mark.parametrize("kind", TEMPLATES)
def test_token_ids_are_the_same_on_two_days(on_a_day, tmp_path, kind):
    """Also of whoever loads what was saved with it, and equal to what the template itself renders on that day."""
    running, texts = [], []
    for day in DAYS:
        on_a_day(day)
        running.append(chat.encode(tokenizer_with(TEMPLATES[kind]), CONVERSATION))
        texts.append(tokenizer_with(TEMPLATES[kind]).apply_chat_template(CONVERSATION, tokenize=False))
    assert running[0] != running[1]  # the day is in the text

    tokenizer = tokenizer_with(TEMPLATES[kind])
    chat.settle_template(tokenizer, "m", "m", date="2024-07-26")
    chat.save_tokenizer(tokenizer, tmp_path)
    for day in DAYS:
        on_a_day(day)
        assert chat.encode(tokenizer, CONVERSATION) == running[0]
        saved = AutoTokenizer.from_pretrained(tmp_path)
        assert saved.apply_chat_template(CONVERSATION, tokenize=False) == texts[0]
        assert chat.encode(chat.load_tokenizer(tmp_path), CONVERSATION) == running[0]
    assert day_of(tokenizer.chat_template) == "2024-07-26"

    chat.settle_template(again := tokenizer_with(TEMPLATES[kind]), "m", "m", date="2031-01-02")
    assert chat.encode(again, CONVERSATION) != running[0]


def test_a_template_that_reads_no_clock_is_left_as_it_is():
    for template in (LLAMA, LLAMA + "{# a random remark on strftime_now #}"):
        assert stop_clock(template, "2031-01-02") == template
        assert day_of(template) is None


def test_a_stopped_clock_is_not_set_again():
    once = stop_clock(LLAMA_3_2, "2024-07-26")
    assert stop_clock(once, "2031-01-02") == once


@pytest.mark.parametrize("form", ["'%' ~ 'd'", "'%s'"])
def test_a_form_of_the_date_that_cannot_be_foreseen_is_refused(form):
    """Put together while rendering; seconds since 1970, which depend on the machine's time zone."""
    tokenizer = tokenizer_with(LLAMA + "{{ strftime_now(" + form + ") }}")
    chat.settle_template(tokenizer, "m", "m")
    with pytest.raises(chat.RefusalError, match=r"strftime_now of %[ds], which is not in the template"):
        chat.encode(tokenizer, CONVERSATION)

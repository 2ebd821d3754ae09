"""The clock of chat templates: what writes the date is told one fixed day, so that a text is the same whenever it is read.

transformers renders templates in Jinja's sandbox (transformers.utils.chat_template_utils). Of the machine they can read there the
clock, by ``strftime_now``, and random numbers, by the filter ``random`` and the global ``lipsum``; there is no loader for
files, and nothing else is passed in but the conversation and the tokenizer's special tokens.
"""

import datetime
import json
import re

from jinja2 import TemplateSyntaxError, nodes
from transformers.utils.chat_template_utils import _compile_jinja_template

from rmtransfer.kit.errors import StudyError
from rmtransfer.study.names import DATE

_MARK = "{{#- chat.date: {date} -#}}"
_MARKED = re.compile(r"\{#- chat\.date: (\S+) -#\}")
_READS = re.compile(r"\b(strftime_now|date_string|random|lipsum)\b")
_EPOCH = re.compile(r"%[-_0^#]*s")  # strftime reads the machine's time zone for it


def day_of(template: str) -> str | None:
    """The day that a template with a clock of its own is told; None if it reads no clock."""
    found = _MARKED.match(template)
    return found[1] if found else None


def stop_clock(template: str, date: str = DATE) -> str:
    """A template that renders on every day as on one; as it is where it reads no clock, or has been stopped before.

    The day is written in front of the template, as ``date_string`` (``26 Jul 2024``, as Llama 3.2 writes it) and as a macro in place
    of ``strftime_now``. So whoever loads a model that is saved with it reads what the model was trained on.

    Args:
        date: ``YYYY-MM-DD``; the hour is 0:00.

    Raises:
        StudyError: the template is no Jinja, or reads random numbers.
    """
    if _MARKED.match(template) or not _READS.search(template):
        return template
    try:
        tree = _compile_jinja_template(template).environment.parse(template)
    except TemplateSyntaxError as problem:
        raise StudyError(f"the chat template is no Jinja: line {problem.lineno}: {problem.message}") from problem
    names = {node.name for node in tree.find_all(nodes.Name)}
    texts = [node.value for node in tree.find_all(nodes.Const) if isinstance(node.value, str)]
    # By its name the filter map takes it too.
    if "lipsum" in names or "random" in [*texts, *(node.name for node in tree.find_all(nodes.Filter))]:
        raise StudyError("the chat template reads random numbers (random, lipsum), so that no text is read twice alike")
    if not names & {"strftime_now", "date_string"}:
        return template
    day = datetime.datetime.fromisoformat(date)
    formats = [text for text in dict.fromkeys(texts) if "%" in text and not _EPOCH.search(text)]
    known = ", ".join(f"{json.dumps(text)}: {json.dumps(day.strftime(text))}" for text in formats)
    # Of the newline at the end Jinja removes one, and so starts a line: the template's own first one goes on as it was.
    return (
        _MARK.format(date=date)
        + f'{{%- set date_string = "{day.strftime("%d %b %Y")}" -%}}'
        + "{%- macro strftime_now(format) -%}"
        + f"{{%- set known = {{{known}}} -%}}"
        + "{%- if format not in known -%}"
        + "{{- raise_exception('strftime_now of ' ~ format ~ ', which is not in the template') -}}"
        + "{%- endif -%}{{- known[format] -}}{%- endmacro %}\n"
        + template
    )

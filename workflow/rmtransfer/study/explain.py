"""What is wrong with a configuration, in one sentence: key, value, what is expected, remedy."""

import difflib
from collections.abc import Mapping
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import BaseModel, Tag

from rmtransfer.study.options import LANGUAGE, SLUG

# Keys of older versions, and how they are written now.
_MOVED = {
    "benchmark": "is written benchmarks: {<name>: {path: ...}} now, and the first of them leads; its results lie in "
    "tables/<name>/ and figures/<name>/",
}

# What a pattern asks for, in words.
_FORMS = {
    SLUG: "a folder's name, made of letters, digits, dots, hyphens and underscores",
    LANGUAGE: "a BCP-47 code such as es or zh-Hans",
}


def explain(error: Mapping[str, Any], model: type[BaseModel], given: Mapping[str, Any]) -> str:
    """One error of pydantic's as a sentence.

    Args:
        error: an entry of ``ValidationError.errors()``.
        model: the class that refused.
        given: what it refused.
    """
    steps, owner = _walk(error["loc"], model)
    about = _description(steps, owner, error)
    value, kind, context = error["input"], error["type"], error.get("ctx", {})
    if kind == "extra_forbidden":
        unknown, above = steps[-1], ".".join(map(str, steps[:-1]))
        if not above and unknown in _MOVED:
            return f"{unknown}: {_MOVED[unknown]}"
        known = _keys(owner)
        return f"{above or 'the top level'}: unknown key {unknown!r}{_meant(unknown, known)}; known here: {', '.join(known)}"
    if kind == "missing":
        return f"{_key(steps[:-1])}: missing {steps[-1]!r}{about}; add it"
    if kind == "union_tag_not_found":
        return f"{_key(steps)}: missing {str(context['discriminator']).strip(chr(39))!r}; add it"
    if kind == "union_tag_invalid":
        names = [name.strip("'") for name in context["expected_tags"].split(", ")]
        shown = f"{_key(steps)}.{str(context['discriminator']).strip(chr(39))}"
        return f"{shown}: {context['tag']!r} is none of {', '.join(names)}{_meant(context['tag'], names)}"
    if kind == "literal_error":
        names = [name.strip("'") for name in context["expected"].replace(" or ", ", ").split(", ")]
        return f"{_key(steps)}: {value!r} is none of {', '.join(names)}{_meant(value, names)}{about}"
    if kind == "string_pattern_mismatch" and "40" in context["pattern"]:
        return (
            f"{_key(steps)}: {value!r} is no commit of 40 hexadecimal digits, and a branch or a tag can move; look up the "
            "commit that you mean"
        )
    if kind == "string_pattern_mismatch" and context["pattern"] in _FORMS:
        return f"{_key(steps)}: {value!r} is not {_FORMS[context['pattern']]}"
    said = error["msg"].removeprefix("Value error, ").removeprefix("Input ").partition(" or instance of ")[0]
    said = said.partition(" or object to ")[0].replace("dictionary", "mapping")
    return f"{_key(steps)}: {value!r}: {said}{about}"


def _key(steps: list[Any]) -> str:
    return ".".join(map(str, steps)) or "the top level"


def _meant(word: Any, known: list[str]) -> str:
    close = difflib.get_close_matches(str(word), known, n=1)
    return f"; did you mean {close[0]!r}?" if close else ""


def _keys(owner: Any) -> list[str]:
    return list(owner.model_fields) if isinstance(owner, type) and issubclass(owner, BaseModel) else []


def _walk(location: tuple[Any, ...], model: Any) -> tuple[list[Any], Any]:
    """The keys that a user wrote, without pydantic's names for members of unions, and the class that the last one is in."""
    steps: list[Any] = []
    current, owner = model, model
    for step in location:
        members = _members(current)
        if len(members) > 1:
            current = next((m for m in members if _names(m, step)), members[0])
            if any(_names(m, step) for m in members):
                continue
        current = members[0] if len(members) == 1 else current
        if step == "[key]":
            continue
        owner = current
        steps.append(step)
        if isinstance(current, type) and issubclass(current, BaseModel):
            field = current.model_fields.get(step)
            current = field.annotation if field else Any
        else:
            arguments = get_args(current)
            current = arguments[-1] if arguments else Any
    return steps, owner


def _members(annotation: Any) -> list[Any]:
    """The alternatives of an annotation, None apart; each with its tag still on it."""
    if get_origin(annotation) is Annotated:
        inner = get_args(annotation)[0]
        return _members(inner) if get_origin(inner) in (Union, UnionType, Annotated) else [inner]
    if get_origin(annotation) in (Union, UnionType):
        found = []
        for member in get_args(annotation):
            if get_origin(member) is Annotated and any(isinstance(a, Tag) for a in get_args(member)):
                found.append(member)
            elif member is not type(None):
                found += _members(member)
        return found
    return [annotation]


def _names(member: Any, step: Any) -> bool:
    """Whether pydantic calls a member of a union so."""
    if get_origin(member) is Annotated:
        return any(isinstance(a, Tag) and a.tag == step for a in get_args(member))
    if isinstance(member, type) and issubclass(member, BaseModel):
        kind = member.model_fields.get("kind")
        return step == member.__name__ or (kind is not None and step in get_args(kind.annotation))
    return step in (getattr(member, "__name__", None), str(member)) or str(step).startswith(
        ("list[", "literal[", "constrained")
    )


def _description(steps: list[Any], owner: Any, error: Mapping[str, Any]) -> str:
    if isinstance(owner, type) and issubclass(owner, BaseModel) and steps:
        field = owner.model_fields.get(str(steps[-1]))
        if field is not None and field.description:
            return f" ({field.description})"
    return ""

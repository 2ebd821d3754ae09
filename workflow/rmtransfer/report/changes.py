"""What differs between what a job was made from and what it would be made from now, in words.

Of params Snakemake records the values and not the names, as text in their own order: a value that is there no more is paired
with the one that is most like it.
"""

import ast
import base64
import difflib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

from rmtransfer.kit import stages

_VERSION, _CONTENT = (
    "version",
    "rows",
)  # params that rules call so: a stage's number, digests of what selected rows hold
_SHOWN = 60  # characters of a value
_LINES = 4  # of an environment file
_NOTHING: Mapping[str, Any] = MappingProxyType({})


class _Absent:
    """In place of a value where there is none."""


ABSENT = _Absent()


class Change(NamedTuple):
    """A value that is another than it was; ``ABSENT`` where there is none.

    Attributes:
        path: name of the param, and keys within it; empty where the name is not known any more.
        beside: what stands beside the value now, in the same mapping.
    """

    path: tuple[str, ...]
    before: Any
    now: Any
    beside: Mapping[str, Any] = _NOTHING


def params_changes(before: Sequence[str], now: Mapping[str, Any], *, complete: bool = True) -> list[Change]:
    """The params that changed, each down to the keys within it.

    Args:
        before: representations of the values they had.
        now: by name.
        complete: whether these are all; else a value that seems to be gone may be that of another.
    """
    gone = Counter(before)
    fresh = {}
    for name, value in now.items():
        if gone[repr(value)]:
            gone[repr(value)] -= 1
        else:
            fresh[name] = value
    old = dict(enumerate(map(_value, gone.elements())))
    alike = sorted(
        ((_likeness(value, fresh[name]), -number, name) for number, value in old.items() for name in fresh),
        reverse=True,
    )
    changes: dict[str, list[Change]] = {}
    for likeness, number, name in alike:
        if likeness > 0 and name not in changes and -number in old:
            changes[name] = list(differences((name,), old.pop(-number), fresh[name]))
    found = [change for name, value in fresh.items() for change in changes.get(name, [Change((name,), ABSENT, value)])]
    return found + [Change((), value, ABSENT) for value in old.values() if complete]


def differences(path: tuple[str, ...], before: Any, now: Any, beside: Mapping[str, Any] = _NOTHING) -> Iterator[Change]:
    """What differs between two values, mappings key by key."""
    if not (isinstance(before, Mapping) and isinstance(now, Mapping)):
        yield Change(path, before, now, beside)
        return
    for key in dict.fromkeys([*now, *before]):
        old, new = (value.get(key, ABSENT) for value in (before, now))
        if repr(old) != repr(new):
            yield from differences((*path, str(key)), old, new, now)


def _value(text: str) -> Any:
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text


def _likeness(one: Any, other: Any) -> float:
    """How much speaks for two values being of one param, from 0 to 1."""
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        shared = one.keys() & other.keys()
        equal = sum(repr(one[key]) == repr(other[key]) for key in shared)
        return (1 + len(shared) + equal) / (1 + 2 * len(one.keys() | other.keys()))
    numbers = [isinstance(value, int | float) and not isinstance(value, bool) for value in (one, other)]
    if all(numbers):
        return 0.5 / (1 + abs(one - other))
    if type(one) is not type(other):
        return 0.1 if one is None or other is None else 0
    return 0.1 + 0.9 * difflib.SequenceMatcher(None, repr(one), repr(other), autojunk=False).quick_ratio()


def clauses(changes: Sequence[Change], script: str, config: Mapping[str, Any]) -> list[str]:
    """Changes of params as clauses.

    Where the number of the stage was raised, whatever is no key of the configuration belongs to its other code.

    Args:
        script: what the job runs, without folder and suffix.
        config: the study's configuration as builtins.
    """
    if any(change.path == (_VERSION,) for change in changes):
        changes = [
            change
            for change in changes
            if change.path in ((_VERSION,), (_CONTENT,))
            or (ABSENT not in (change.before, change.now) and config_key(change, config))
        ]
    return [_clause(change, script, config) for change in changes]


def _clause(change: Change, script: str, config: Mapping[str, Any]) -> str:
    before, now = _shown(change.before), _shown(change.now)
    match change.path:
        case (name,) if name == _VERSION:
            stage = next((stage for stage, these in stages.all_stages().items() if script in these.scripts), script)
            return f"the code of {stage} changed what it computes, version {before} -> {now}"
        case (name,) if name == _CONTENT:
            return "the content of its selected rows changed (corpus/*.dropped.csv says which are left out)"
        case ():
            return f"a setting is gone that was {before}"
    key = config_key(change, config) or ".".join(change.path)
    if change.before is ABSENT:
        return f"{key} is new and is {now}"
    return f"{key} was {before} and is {'gone' if change.now is ABSENT else now}"


def config_key(change: Change, config: Mapping[str, Any]) -> str | None:
    """The configuration's key behind a change: one of its names and either value, with most of what stands beside it.

    None where there is none, or several could be meant.
    """
    wanted = {repr(None if value is ABSENT else value) for value in (change.now, change.before)}
    for name in reversed(change.path):
        scores = {
            ".".join(path): sum(repr(section.get(key, ABSENT)) == repr(value) for key, value in change.beside.items())
            for path, section in _keys(config)
            if path[-1] == name and repr(section[name]) in wanted
        }
        best = [key for key, score in scores.items() if score == max(scores.values())]
        if len(best) == 1:
            return best[0]
    return None


def _keys(
    config: Mapping[str, Any], above: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], Mapping[str, Any]]]:
    """Every key below those above it, with the mapping that it stands in."""
    for key, value in config.items():
        yield (*above, str(key)), config
        if isinstance(value, Mapping):
            yield from _keys(value, (*above, str(key)))


def _shown(value: Any) -> str:
    text = value if isinstance(value, str) and value else repr(value)
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN - 3]}..."


def input_changes(before: Sequence[str], now: Sequence[str]) -> list[str]:
    """Files that a job reads and did not read, and the reverse, as clauses."""
    added, removed = sorted({*now} - {*before}), sorted({*before} - {*now})
    clauses = [f"it reads {files(added)} too"] if added else []
    return clauses + ([f"it no longer reads {files(removed)}"] if removed else [])


def files(paths: Sequence[str]) -> str:
    """One of some files by its name, and how many more there are."""
    return paths[0] + (f" and {len(paths) - 1} more" if len(paths) > 1 else "")


def environment_change(before: str, now: str) -> str:
    """What changed in the software that a job runs in, as a clause.

    Args:
        before, now: files that describe it, in base64 as Snakemake records them; empty for none.
    """
    old, new = ([*map(str.strip, base64.b64decode(text).decode().splitlines())] for text in (before, now))
    lines = [line for line in difflib.ndiff(old, new) if line[0] in "+-"]
    if not lines:
        return "its software is another (--sdm), of the same description"
    shown = ", ".join(" ".join(line.split()) for line in lines[:_LINES])
    return f"its environment file changed: {shown}{', ...' if len(lines) > _LINES else ''}"

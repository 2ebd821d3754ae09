"""The base of every configuration class, and the types that they share.

A class's annotations, defaults and attribute docstrings are the only source of keys, types, ranges, defaults and
descriptions: the editor schema, the reference and the error texts are made from them.
"""

import datetime
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints


class Options(BaseModel):
    """A mapping of the configuration: unknown keys are errors, and nothing is converted silently."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, use_attribute_docstrings=True)


SLUG = r"^[A-Za-z0-9][A-Za-z0-9._-]*$"  # a folder's name
LANGUAGE = r"^[a-z]{2,3}(-[A-Za-z0-9]+)*$"  # a BCP-47 code such as es or zh-Hans
Slug = Annotated[str, StringConstraints(pattern=SLUG)]
Language = Annotated[str, StringConstraints(pattern=LANGUAGE)]
Text = Annotated[str, StringConstraints(min_length=1)]
Count = Annotated[int, Field(ge=1)]
# What identifies one state of a hub repository: a branch or a tag can move.
Commit = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{40}$")]


def _plain_day(value: Any) -> Any:
    return value.isoformat() if type(value) is datetime.date else value  # what YAML makes of 2024-07-26


def _known_day(value: str) -> str:
    datetime.date.fromisoformat(value)
    return value


# A day of the calendar, YYYY-MM-DD.
Day = Annotated[
    str, BeforeValidator(_plain_day), StringConstraints(pattern=r"^\d{4}-\d\d-\d\d$"), AfterValidator(_known_day)
]

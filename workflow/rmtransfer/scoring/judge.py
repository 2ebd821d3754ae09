"""Generative judges: a language model, on this machine or behind an OpenAI-compatible server, says which answer is better.

Every judgement is stored as soon as it is there: an interrupted run resumes, and none is paid for twice.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import Field

from rmtransfer.kit.manifest import digest_of
from rmtransfer.models.options import Loading
from rmtransfer.scoring.reward_model import Resources, RewardModel, Rewards
from rmtransfer.scoring.verdicts import (
    DEFAULT_FORM,
    READING,
    Reasoning,
    Verdict,
    VerdictOptions,
    find_verdict,
    folded,
    verdict_form,
)
from rmtransfer.study.catalogue import JUDGE_PROTOCOLS, load
from rmtransfer.study.options import Commit, Count, Options, Text

if TYPE_CHECKING:
    from rmtransfer.scoring.judge_server import JudgeServer
    from rmtransfer.scoring.judgements import Said
    from rmtransfer.scoring.local_judge import LocalJudge
    from rmtransfer.texts.corpus import Message
    from rmtransfer.texts.items import Item

    Mode = str
else:
    Mode = Literal[tuple(JUDGE_PROTOCOLS)]


class ServerOptions(Options):
    """An OpenAI-compatible server; its key comes from the environment variable RM_JUDGE_API_KEY."""

    url: Text
    """address up to /v1, without /chat/completions"""
    model: Text
    """what the server calls the model"""
    extra: dict[Text, Any] = {}
    """more fields of the request, such as {reasoning_effort: low}; null leaves one out that we send: max_tokens, temperature"""
    budget: Annotated[int, Field(ge=0)] | None = None
    """the most judgements that the study's store may ever hold of this judge; what would exceed it is not asked for"""


# Fields of a request that are ours, each with what to do instead; and what no file may hold.
_RESERVED = {
    "model": "set server.model",
    "messages": "set prompt and system",
    "stream": "a judgement is read whole",
    "n": "one reply is read",
}
_SECRET = re.compile(
    r"(^|[_-])(authorization|bearer|password|credentials?|headers|secret)$|^(key|token)$"
    r"|(api|access|auth|private|secret)[_-]?(key|token)$",
    re.IGNORECASE,
)


class JudgeOptions(Loading):
    """A language model that is asked."""

    kind: Literal["judge"]
    mode: Mode
    """pairwise compares two answers, rating gives each a number"""
    orders: Literal["both", "random"] = "both"
    """pairwise: each pair in both orders, or once in an order drawn by its id, as RewardBench does"""
    ties: Literal["wrong", "half"] = "wrong"
    """what a pair with equal rewards counts, or one without verdicts: wrong, or half right as RewardBench scores judges"""
    scale: Annotated[list[int], Field(min_length=2, max_length=2)] | None = None
    """rating: the lowest and the highest number; 1 and 10 if not given"""
    path: Text | None = None
    """hub id, folder, or the name of one of base_models"""
    revision: Commit | None = None
    """commit of the hub model"""
    server: ServerOptions | None = None
    """an OpenAI-compatible server instead of path; its key comes from the environment variable RM_JUDGE_API_KEY"""
    prompt: Text | None = None
    """what is asked, if not what the mode asks; {prompt} and {answer}, or {answer_a} and {answer_b} (pairwise)"""
    system: Text | None = None
    """system message before it"""
    verdict: Verdict = DEFAULT_FORM
    """how a verdict looks in a reply: the name of a form, or a pattern of your own"""
    reasoning: Annotated[list[Text], Field(min_length=2, max_length=2)] | None = None
    """start and end tag of what it thinks before it answers, where that is not <think> or another tag that is known"""
    max_new_tokens: Count = 512
    """longest judgement; one that is cut off there holds no verdict"""


class Judge(RewardModel):
    """A language model that is asked, by a protocol of ``JUDGE_PROTOCOLS``.

    A protocol says what is asked about an item and how verdicts become rewards. The last verdict in the form asked for
    counts; what holds none is counted. A reply that was cut off, or stops while its model still thinks, holds none whatever
    it says so far, and is counted by itself; where nobody knows how a reply ended, its text alone decides.
    """

    Options = JudgeOptions
    models: ClassVar = {"path": "revision"}
    # Pairwise the opponent counts, and judgements are counted by row; what is asked again is asked once all the same.
    by_text = False

    def __init__(self, options: JudgeOptions, key: str, resources: Resources) -> None:
        from rmtransfer.scoring.judgements import JudgementStore

        self.form, self.reasoning = verdict_form(options.verdict, options.mode), Reasoning(options.reasoning or ())
        self.key = key
        self._budget = options.server.budget if options.server is not None else None
        self.protocol = load(JUDGE_PROTOCOLS, options.mode)(options, self.form)
        self.model = _asked_model(options, key, resources, self.reasoning)
        # What a reply depends on. What is not set is not among it: replies of earlier versions are found again.
        asked = {
            **self.model.settings(),
            "mode": options.mode,
            "prompt_sha256": digest_of(self.protocol.prompt),
            **({"system_sha256": digest_of(options.system)} if options.system else {}),
        }
        self._store = JudgementStore(resources.cache / "judgements.sqlite", digest_of(asked), key)
        # How replies are read can be corrected without asking again.
        read: dict[str, Any] = {"reading": READING}
        if options.verdict != DEFAULT_FORM:
            read["verdict"] = self.form.model_dump(exclude_defaults=True)
        if options.reasoning is not None:
            read["reasoning"] = options.reasoning
        self._facts = {**asked, **self.protocol.settings(), **read}

    def settings(self) -> dict[str, Any]:
        """See :class:`rmtransfer.scoring.reward_model.RewardModel`."""
        return self._facts

    def rewards(self, language: str, items: Sequence[Item]) -> Rewards:
        """See :class:`rmtransfer.scoring.reward_model.RewardModel`."""
        asked = [
            {
                name: self._filled({"prompt": item.prompt, **places})
                for name, places in self.protocol.questions(item).items()
            }
            for item in items
        ]
        said = self._judgements(language, items, asked)
        finished = {prompt: self._finished(reply) for prompt, reply in said.items()}
        self._report_cut_off(language, list(finished.values()))
        verdicts = [
            {
                name: None if finished[prompt] is False else self._verdict(said[prompt])
                for name, prompt in prompts.items()
            }
            for prompts in asked
        ]
        cut_off = [any(finished[prompt] is False for prompt in prompts.values()) for prompts in asked]
        return Rewards(
            [self.protocol.rewards(item, these) for item, these in zip(items, verdicts, strict=True)],
            judgements=[
                {
                    "id": item.answers[0].row,
                    "order": name,
                    "verdict": these[name],
                    "text": said[prompt].text,
                    "finished": finished[prompt],
                }
                for item, prompts, these in zip(items, asked, verdicts, strict=True)
                for name, prompt in prompts.items()
            ],
            counts={
                "n": len(items),
                **self.protocol.counts(these for these, cut in zip(verdicts, cut_off, strict=True) if not cut),
                "cut_off": sum(cut_off),
            },
        )

    @classmethod
    def check(cls, options: JudgeOptions, key: str, bases: Collection[str], root: Path) -> Iterator[str]:
        """See :class:`rmtransfer.scoring.reward_model.RewardModel`."""
        if (options.path is None) == (options.server is None):
            yield f"{key}: give either path or server, not both and not neither"
        for place in load(JUDGE_PROTOCOLS, options.mode).PLACES:
            if options.prompt is not None and f"{{{place}}}" not in options.prompt:
                yield f"{key}.prompt: does not hold {{{place}}}; put it where that text goes"
        yield from _check_verdict(options, key)
        if options.server is not None:
            yield from _check_extra(options.server.extra, f"{key}.server.extra")
        yield from super().check(options, key, bases, root)

    def _verdict(self, reply: Said) -> str | None:
        found = find_verdict(reply.text, self.form, self.reasoning)
        return None if found is None else self.protocol.verdict(found)

    def _finished(self, reply: Said) -> bool | None:
        return False if self.reasoning.unfinished(reply.text) else reply.finished

    def _report_cut_off(self, language: str, finished: Sequence[bool | None]) -> None:
        from rmtransfer.kit.progress import report

        if count := finished.count(False):
            report(
                f"{self.key}: {count:,} of {len(finished):,} judgements in {language} were cut off and hold no verdict; raise "
                f"{self.key}.{self.model.limited_by}"
            )

    def _filled(self, places: Mapping[str, Sequence[Message]]) -> str:
        pattern = re.compile("|".join(re.escape(f"{{{name}}}") for name in places))
        # In one pass: a text may itself hold a placeholder.
        return pattern.sub(lambda found: _text(places[found.group()[1:-1]]), self.protocol.prompt)

    def _judgements(self, language: str, items: Sequence[Item], asked: Sequence[Mapping[str, str]]) -> dict[str, Said]:
        """Prompt to what the judge says to it, asked now or before."""
        from rmtransfer.kit.progress import Progress

        origin = {
            prompt: item.answers[0].origin(language)
            for item, prompts in zip(items, asked, strict=True)
            for prompt in prompts.values()
        }
        said = self._store.get(origin)
        missing = {prompt: row for prompt, row in origin.items() if prompt not in said}
        if missing:
            self._check_budget(len(missing), language)
            progress = Progress(f"judging {language}", len(missing), "judgements")
            for batch in self.model.ask(missing):
                self._store.put(batch)
                progress.advance(len(batch))
            said |= self._store.get(missing)
        return said

    def _check_budget(self, wanted: int, language: str) -> None:
        """Whether the server may be asked so many more times."""
        from rmtransfer.kit.errors import StudyError

        if self._budget is None or (spent := self._store.held()) + wanted <= self._budget:
            return
        raise StudyError(
            f"{self.key}.server.budget: of {self._budget:,} judgements {spent:,} are there, and {wanted:,} more would be asked for in "
            f"{language}; raise it, or have it judge less (fewer rows, selectors or methods)"
        )


def _check_verdict(options: JudgeOptions, key: str) -> Iterator[str]:
    pairwise, form = options.mode == "pairwise", options.verdict
    if pairwise and options.scale is not None:
        yield f"{key}.scale: a judge in mode pairwise gives no numbers; remove it, or set mode: rating"
    if options.scale is not None and options.scale[0] >= options.scale[1]:
        yield f"{key}.scale: {options.scale} does not rise; write the lowest number first"
    if not pairwise and options.orders == "random":
        yield f"{key}.orders: a judge in mode rating sees one answer at a time; remove it, or set mode: pairwise"
    if isinstance(form, VerdictOptions):
        given = [name for name in form.model_dump(exclude_defaults=True) if name != "pattern"]
        if not pairwise and given:
            yield f"{key}.verdict.{given[0]}: a judge in mode rating says a number; remove it, or set mode: pairwise"
        meanings = [folded(value) for values in (form.first, form.second, form.tie) for value in values]
        for value in {value for value in meanings if meanings.count(value) > 1}:
            yield f"{key}.verdict: {value!r} means two things; name it once under first, second and tie"
    elif form != DEFAULT_FORM and options.prompt is None:
        yield f"{key}.verdict: our own prompt asks for another form than {form!r}; add the prompt that asks for this one"


def _check_extra(extra: Mapping[str, Any], key: str) -> Iterator[str]:
    # Values are not shown: one may be a secret in the wrong place.
    for name, value in extra.items():
        if name in _RESERVED:
            yield f"{key}.{name}: is not for you to set; remove it, {_RESERVED[name]}"
        elif name == "max_tokens" and value is not None:
            yield f"{key}.max_tokens: is what max_new_tokens says; set that, or null here to send none"
        try:
            json.dumps(value, allow_nan=False)
        except (TypeError, ValueError):
            yield f"{key}.{name}: is no JSON; write text, numbers, true, false, null, lists and mappings"
        if any(map(_SECRET.search, _fields({name: value}))):
            yield (
                f"{key}.{name}: no secret belongs into a configuration, which is copied into results; remove it, the key comes "
                "from the environment variable RM_JUDGE_API_KEY"
            )


def _fields(value: Any) -> Iterator[str]:
    """The keys of nested mappings and lists."""
    if isinstance(value, Mapping):
        yield from map(str, value)
        value = list(value.values())
    if isinstance(value, list):
        for part in value:
            yield from _fields(part)


def _asked_model(
    options: JudgeOptions, key: str, resources: Resources, reasoning: Reasoning
) -> JudgeServer | LocalJudge:
    if options.server is not None:
        from rmtransfer.scoring.judge_server import JudgeServer

        return JudgeServer(
            options.server.model_dump(), key, options.system, options.max_new_tokens, resources.requests_at_once
        )
    from rmtransfer.models.loading import ModelSpec
    from rmtransfer.scoring.local_judge import LocalJudge

    assert options.path is not None  # see Judge.check
    spec = ModelSpec(options.path, options.revision, options, key, resources.device)
    return LocalJudge(spec, options.system, options.max_new_tokens, resources.tokens_per_batch, reasoning)


def _text(messages: Sequence[Message]) -> str:
    """A message's text; of several, each with its role."""
    if len(messages) == 1:
        return messages[0]["content"]
    return "\n\n".join(f"{message['role']}: {message['content']}" for message in messages)

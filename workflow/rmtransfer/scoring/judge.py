"""Generative judges: a language model, on this machine or behind an OpenAI-compatible server, says which answer is better.

Every judgement is stored as soon as it is there: an interrupted run resumes, and none is paid for twice.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from rmtransfer.kit.manifest import digest_of
from rmtransfer.models.options import Loading
from rmtransfer.scoring.reward_model import Resources, RewardModel, Rewards
from rmtransfer.study.catalogue import JUDGE_PROTOCOLS, load
from rmtransfer.study.options import Commit, Count, Options, Text

if TYPE_CHECKING:
    from rmtransfer.scoring.judge_server import JudgeServer
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


class JudgeOptions(Loading):
    """A language model that is asked."""

    kind: Literal["judge"]
    mode: Mode
    """pairwise compares two answers in both orders, rating gives each 1 to 10"""
    path: Text | None = None
    """hub id, folder, or the name of one of base_models"""
    revision: Commit | None = None
    """commit of the hub model"""
    server: ServerOptions | None = None
    """an OpenAI-compatible server instead of path; its key comes from the environment variable RM_JUDGE_API_KEY"""
    prompt: Text | None = None
    """what is asked, if not what the mode asks; {prompt} and {answer}, or {answer_a} and {answer_b} (pairwise)"""
    max_new_tokens: Count = 512
    """longest judgement"""


class Judge(RewardModel):
    """A language model that is asked, by a protocol of ``JUDGE_PROTOCOLS``.

    A protocol says what is asked about an item, how a verdict looks, and how verdicts become rewards. The last verdict in
    the form asked for counts; what holds none is counted.
    """

    Options = JudgeOptions
    models: ClassVar = {"path": "revision"}
    # Pairwise the opponent counts, and judgements are counted by row; what is asked again is asked once all the same.
    by_text = False

    def __init__(self, options: JudgeOptions, key: str, resources: Resources) -> None:
        from rmtransfer.scoring.judgements import JudgementStore

        self.protocol = load(JUDGE_PROTOCOLS, options.mode)()
        self.prompt = options.prompt or self.protocol.PROMPT
        self.model = _asked_model(options, key, resources)
        self._facts = {
            **self.model.settings(),
            "mode": options.mode,
            "prompt_sha256": digest_of(self.prompt),
            "max_new_tokens": options.max_new_tokens,
            "temperature": 0,
        }
        self._store = JudgementStore(resources.cache / "judgements.sqlite", digest_of(self._facts), key)

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
        judgements: list[dict[str, str | None]] = []
        verdicts: list[list[str | None]] = []
        for item, prompts in zip(items, asked, strict=True):
            verdicts.append([])
            for name, prompt in prompts.items():
                verdict = self._verdict(said[prompt])
                verdicts[-1].append(verdict)
                judgements.append({"id": item.answers[0].row, "order": name, "verdict": verdict, "text": said[prompt]})
        return Rewards(
            [self.protocol.rewards(these) for these in verdicts],
            judgements=judgements,
            counts={"n": len(items), **self.protocol.counts(verdicts)},
        )

    @classmethod
    def check(cls, options: JudgeOptions, key: str, bases: Collection[str], root: Path) -> Iterator[str]:
        """See :class:`rmtransfer.scoring.reward_model.RewardModel`."""
        if (options.path is None) == (options.server is None):
            yield f"{key}: give either path or server, not both and not neither"
        for place in load(JUDGE_PROTOCOLS, options.mode).PLACES:
            if options.prompt is not None and f"{{{place}}}" not in options.prompt:
                yield f"{key}.prompt: does not hold {{{place}}}; put it where that text goes"
        yield from super().check(options, key, bases, root)

    def _verdict(self, text: str) -> str | None:
        found = self.protocol.VERDICT.findall(text)
        return found[-1] if found else None

    def _filled(self, places: Mapping[str, Sequence[Message]]) -> str:
        pattern = re.compile("|".join(re.escape(f"{{{name}}}") for name in places))
        # In one pass: a text may itself hold a placeholder.
        return pattern.sub(lambda found: _text(places[found.group()[1:-1]]), self.prompt)

    def _judgements(self, language: str, items: Sequence[Item], asked: Sequence[Mapping[str, str]]) -> dict[str, str]:
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
            progress = Progress(f"judging {language}", len(missing), "judgements")
            for batch in self.model.ask(missing):
                self._store.put(batch)
                progress.advance(len(batch))
            said |= self._store.get(missing)
        return said


def _asked_model(options: JudgeOptions, key: str, resources: Resources) -> JudgeServer | LocalJudge:
    if options.server is not None:
        from rmtransfer.scoring.judge_server import JudgeServer

        return JudgeServer(options.server.model_dump(), key, options.max_new_tokens, resources.requests_at_once)
    from rmtransfer.models.loading import ModelSpec
    from rmtransfer.scoring.local_judge import LocalJudge

    assert options.path is not None  # see Judge.check
    spec = ModelSpec(options.path, options.revision, options, key, resources.device)
    return LocalJudge(spec, options.max_new_tokens, resources.tokens_per_batch)


def _text(messages: Sequence[Message]) -> str:
    """A message's text; of several, each with its role."""
    if len(messages) == 1:
        return messages[0]["content"]
    return "\n\n".join(f"{message['role']}: {message['content']}" for message in messages)

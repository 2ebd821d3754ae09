"""The protocol of a reward model: anything that turns items into rewards. Imports nothing heavy."""

from __future__ import annotations

from collections.abc import Collection, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, Protocol

from rmtransfer.kit.cores import Cores
from rmtransfer.models.folders import Use
from rmtransfer.models.options import check_model, check_template
from rmtransfer.study import options as study_options

if TYPE_CHECKING:
    import numpy as np

    from rmtransfer.texts.items import Item


@dataclass(frozen=True)
class Rewards:
    """What a reward model makes of items in one language. The outer lists have one entry per item, in their order.

    Attributes:
        values: a reward per answer; None for a model without a head.
        tokens: of prompt and answer, by the model's own tokenizer; None where it has none.
        states: [answers, hidden], what the rewards are read from; None where there are none to show.
        inputs: what the model read of each answer, such as token ids; None where equal ones mean nothing.
        judgements: what a judge said, ``id, order, verdict, text, finished``; empty for every other kind.
        counts: what its judgements came to.
    """

    values: Sequence[Sequence[float] | np.ndarray] | None
    tokens: Sequence[Sequence[int]] | None = None
    states: Sequence[np.ndarray] | None = None
    inputs: Sequence[Sequence[Hashable]] | None = None
    judgements: Sequence[Mapping[str, str | bool | None]] = ()
    counts: Mapping[str, int] = field(default_factory=dict)


class TrunkStore(NamedTuple):
    """What rests of layers that training leaves as they are, see :mod:`rmtransfer.models.trunk`.

    Attributes:
        gigabytes: the most disk that it may take.
        layers: how many blocks of a base model its reward models keep, below which also the embeddings are the base's; 0 where
            there are none. A reward model's manifest says it of that model.
    """

    folder: Path
    gigabytes: float
    layers: int


class Resources(NamedTuple):
    """What a job may use. Decides how fast, never what (but for the device, whose precision is in the settings).

    Attributes:
        device: ``auto``, ``cpu`` or ``cuda``.
        cache: folder of what rests between jobs.
        cores: this job's share of the machine's; None for one worker.
        trunk: None where nothing of the kind is kept.
    """

    device: str
    tokens_per_batch: int
    requests_at_once: int
    cache: Path
    cores: Cores | None = None
    trunk: TrunkStore | None = None


class RewardModel(Protocol):
    """One kind of reward model, with what most of them share.

    Attributes:
        Options: its configuration.
        models: keys of ``Options`` that name a model, each with the key that pins it to a commit.
        use: what a folder of one is for.
        tokenizer_only: those of them of which nothing but the tokenizer is needed.
        by_text: whether a reward depends on prompt and answer alone, so that rows may share an item.
        if_strange: what is to be done if a reward is not a finite number.
        if_constant: what it means if all rewards are equal; None where that is a result.
        reads_states: whether it is a :class:`rmtransfer.scoring.heads.Head` instead.
        baseline: whether it is what a reward model must beat.
        reads_vocabulary: whether its models give scores of the vocabulary, which takes memory, rather than of a text.
    """

    Options: ClassVar[type[study_options.Options]]
    models: ClassVar[Mapping[str, str]] = {}
    use: ClassVar[Use] = "weights"
    tokenizer_only: ClassVar[Collection[str]] = ()
    by_text: ClassVar[bool] = True
    if_strange: ClassVar[str] = "the model is damaged, or needs dtype: float32"
    if_constant: ClassVar[str | None] = None
    reads_states: ClassVar[bool] = False
    baseline: ClassVar[bool] = False
    reads_vocabulary: ClassVar[bool] = True

    def __init__(self, options: Any, key: str, resources: Resources) -> None:
        """No weights are loaded before the first call of ``rewards``.

        Args:
            options: an instance of ``Options``; models in it are folders or hub ids, ``chat_template`` is Jinja text.
            key: names it in messages.
        """

    def settings(self) -> dict[str, Any]:
        """Everything that decides a reward, JSON-able, the same in every language."""

    def rewards(self, language: str, items: Sequence[Item]) -> Rewards:
        """Score the answers of items."""

    @classmethod
    def runs_a_model(cls, options: Any) -> bool:
        """Whether a model computes on this machine."""
        return any(getattr(options, name) is not None for name in cls.models if name not in cls.tokenizer_only)

    @classmethod
    def check(cls, options: Any, key: str, bases: Collection[str], root: Path) -> Iterator[str]:
        """What is wrong with a config entry that its class cannot see: other keys, files, models.

        Args:
            key: of the entry, for messages.
            bases: names of the study's base models.
            root: folder that relative paths start from.
        """
        for name, revision in cls.models.items():
            model = getattr(options, name)
            if model is not None:
                use = "tokenizer" if name in cls.tokenizer_only else cls.use
                yield from check_model(model, getattr(options, revision), f"{key}.{name}", revision, bases, root, use)
        yield from check_template(getattr(options, "chat_template", None), key, root)

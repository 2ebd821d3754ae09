"""Reward models that this workflow trained, and the hidden states that they read."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from rmtransfer.scoring.reward_model import Resources, RewardModel, Rewards
from rmtransfer.study.names import DATE
from rmtransfer.study.options import Commit, Day, Options, Text
from rmtransfer.texts.items import distinct

if TYPE_CHECKING:
    from rmtransfer.models.trunk import Trunk
    from rmtransfer.texts.items import Item


class TrainedOptions(Options):
    """A reward model of this workflow's, or a base model."""

    kind: Literal["trained"]
    path: Text
    """folder of a reward model that a study has trained, or hub id of a copy of it"""
    revision: Commit | None = None
    """commit of the hub model"""
    date: Day | None = None
    """the day that its chat template is told, if it writes one and does not say which it was trained on; chat.date if not given"""
    head: bool = True
    """false for a base model, which has hidden states but no rewards"""


class Trained(RewardModel):
    """A linear head on the hidden state of a conversation's last token."""

    Options = TrainedOptions
    models: ClassVar = {"path": "revision"}
    reads_vocabulary = False
    use = "ours"
    if_strange = "the model is damaged or diverged, train it again with a lower learning rate"
    if_constant = "the model tells no two answers apart, train it again with another learning rate"

    def __init__(self, options: TrainedOptions, key: str, resources: Resources) -> None:
        from rmtransfer.kit.manifest import digest_folder
        from rmtransfer.models import chat
        from rmtransfer.models.device import pick_device

        self.key = key
        self.folder, self.has_head, self.store = Path(options.path), options.head, resources.trunk
        self.device, self.tokens_per_batch = pick_device(resources.device), resources.tokens_per_batch
        self.workers = resources.cores.workers if resources.cores else lambda: 1
        self.identity = f"sha256:{digest_folder(self.folder)}"
        self.tokenizer = chat.load_tokenizer(self.folder, options.date or DATE)

    def settings(self) -> dict[str, Any]:
        """See :class:`rmtransfer.scoring.reward_model.RewardModel`."""
        from rmtransfer.models.clock import day_of
        from rmtransfer.models.device import inference_dtype
        from rmtransfer.models.loading import arithmetic

        day = day_of(str(self.tokenizer.chat_template))
        return {
            "model": self.identity,
            "head": self.has_head,
            **({"date": day} if day else {}),
            **arithmetic(inference_dtype(self.device)),
        }

    @cached_property
    def model(self) -> Any:
        """The model, loaded at first use."""
        from rmtransfer.models import reward

        return (reward.load_reward_model if self.has_head else reward.load_backbone)(self.folder, self.device)

    @cached_property
    def trunk(self) -> Trunk | None:
        """The frozen layers that the model shares with others of its study, if there are any."""
        from rmtransfer.kit.manifest import digest_folder, read_manifest
        from rmtransfer.models.trunk import build_trunk

        if self.store is None:
            return None
        if self.has_head:
            shared = read_manifest(self.folder).get("trunk")
        else:
            shared = {"base": digest_folder(self.folder), "layers": self.store.layers}
        if shared is None:
            return None
        return build_trunk(self.model, shared["base"], shared["layers"], self.store.folder, self.store.gigabytes)

    def rewards(self, language: str, items: Sequence[Item]) -> Rewards:
        """See :class:`rmtransfer.scoring.reward_model.RewardModel`; the states are those of the last token, in fp32.

        Raises:
            StudyError: a text is longer than the model reads.
        """
        from rmtransfer.kit.progress import Progress
        from rmtransfer.models import chat, reward
        from rmtransfer.models.loading import texts_of
        from rmtransfer.models.reading import check_ids, most_tokens

        encoded = [
            [
                tuple(chat.encode_answer(self.tokenizer, item.prompt, answer.messages, answer.origin(language)))
                for answer in item.answers
            ]
            for item in items
        ]
        config, texts = self.model.config, texts_of(language, items, encoded)
        chat.check_lengths(((len(ids), which) for ids, which in texts), most_tokens(config), self.key, "remove the row")
        check_ids(texts, config, self.key, "remove the row")
        sequences = distinct(items, encoded)
        progress = Progress(f"scoring {language}", sum(map(len, sequences)), "tokens")
        run = (self.model, sequences, self.tokens_per_batch, progress.advance, self.trunk, self.workers)
        values, hidden = reward.score(*run) if self.has_head else (None, reward.embed(*run))
        numbers = {sequence: number for number, sequence in enumerate(sequences)}
        of_items = [[numbers[sequence] for sequence in these] for these in encoded]
        return Rewards(
            None if values is None else [values.numpy()[these] for these in of_items],
            tokens=[[*map(len, these)] for these in encoded],
            states=[hidden.numpy()[these] for these in of_items],
            inputs=encoded,
        )

    @classmethod
    def check(cls, options: TrainedOptions, key: str, bases: Collection[str], root: Path) -> Iterator[str]:
        """See :class:`rmtransfer.scoring.reward_model.RewardModel`."""
        if not options.head:
            yield f"{key}.head: without its head the model has no rewards for the tables; remove it"
        yield from super().check(options, key, bases, root)

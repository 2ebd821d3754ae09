"""What the alignment stage makes of a study: its policies, what selects their answers, who judges, and the files of all that."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, NamedTuple, Self

from rmtransfer.kit.errors import StudyError
from rmtransfer.study.languages import filled_in
from rmtransfer.study.layout import Pattern
from rmtransfer.study.names import CONSTRAINTS, HELD_OUT, IN_LANGUAGE, INSTRUCTIONS, NOT_OURS
from rmtransfer.study.study import RewardModelId, Study, template_of

BEST_OF_N = "best-of-n"
_BEST_OF = re.compile(r"best-of-([1-9][0-9]*)")


class Contender(NamedTuple):
    """What competes with a policy's own answers.

    Attributes:
        method: ``dpo`` or ``sft``, a policy aligned by it; ``best-of-n``, a selector's picks of the policy's answers.
        n: answers that the best is picked from; None where a policy was aligned.
        selector: the reward model behind it; one that is trained in ``in-language`` is in each language the one trained in that.
    """

    method: str
    n: int | None
    selector: RewardModelId

    @property
    def id(self) -> str:
        """Its name in paths below its policy: ``dpo/llama/en/seed0``, ``best-of-4/longer-answer``."""
        return f"{self.method if self.n is None else f'best-of-{self.n}'}/{self.selector.id}"

    @classmethod
    def parse(cls, identity: str) -> Self:
        """The contender with this id.

        Raises:
            StudyError: it is no id.
        """
        method, slash, selector = identity.partition("/")
        if not slash:
            raise StudyError(f"{identity!r} is no contender, such as dpo/llama/en/seed0")
        best_of = _BEST_OF.fullmatch(method)
        found = RewardModelId.parse(selector)
        return cls(BEST_OF_N, int(best_of[1]), found) if best_of else cls(method, None, found)

    @property
    def columns(self) -> dict[str, str | int | None]:
        """What tables say of it, its seed apart."""
        base, train, _ = self.selector
        base, train = (NOT_OURS, base) if train == NOT_OURS else (base, train)
        return {"method": self.method, "n": self.n, "selector_base": base, "selector": train}


def selecting_in(language: str, selector: RewardModelId) -> RewardModelId:
    """The reward model that selects in a language."""
    return selector._replace(train_language=language) if selector.train_language == IN_LANGUAGE else selector


class Aligning:
    """What the rules of alignment ask of a study."""

    def __init__(self, study: Study) -> None:
        self.study, self.at, config = study, study.at, study.config
        self.options = config.alignment
        self.entries: dict[str, Any] = dict(config.policies)
        self.policies = list(self.entries) or study.bases
        self.seeds = self.options.seeds or config.seeds
        self.selector_names = self.options.selectors or [study.source, IN_LANGUAGE]
        self.evaluates = bool(self.policies) and HELD_OUT in study.parts
        self.plain_languages = [study.source, *study.targets]
        self.checks_constraints = bool(self.policies) and self.options.constraints is not None

    # Policies.

    def prepared(self, policy: str) -> bool:
        """Whether a policy is a model of its own, and not one of the bases as it is."""
        entry = self.entries.get(policy)
        if entry is None:
            return False
        return entry.path not in self.study.bases or entry.adapter is not None or entry.chat_template is not None

    def base_of(self, policy: str) -> str | None:
        """The base that a policy is, or is an adapter of."""
        entry = self.entries.get(policy)
        path = policy if entry is None else entry.path
        return path if path in self.study.bases else None

    def folder(self, writer: str) -> str:
        """Where the model of a policy lies, or of one that is aligned."""
        if writer not in self.policies:
            return self.at.aligned.fill(aligned=writer)
        return self.at.base_model.fill(base=writer if self.prepared(writer) else self.base_of(writer))

    @property
    def own_models(self) -> list[str]:
        """The policies that are prepared like base models."""
        return [policy for policy in self.policies if self.prepared(policy)]

    def selecting_bases(self, policy: str) -> list[str]:
        """The bases whose reward models select a policy's answers: its own, or all where it is none of them."""
        base = self.base_of(policy)
        return self.study.bases if base is None else [base]

    # Who picks, who is compared, who judges.

    def scorers(self, policy: str) -> list[RewardModelId]:
        """The reward models that score a policy's answers to the instructions."""
        bases = self.selecting_bases(policy)
        ours = [model for model in self.study.full_reward_models if model.base_model in bases]
        return [*ours, *map(RewardModelId, self.options.reward_models)]

    def selectors(self, policy: str) -> list[RewardModelId]:
        """What a policy is aligned with, and whose picks are evaluated."""
        return [
            selector
            for name in self.selector_names
            for selector in (
                [RewardModelId(name)]
                if name in self.options.reward_models
                else [RewardModelId(base, name, seed) for base in self.selecting_bases(policy) for seed in self.seeds]
            )
        ]

    def contenders(self, policy: str) -> list[Contender]:
        """What is compared with a policy's own answers to the held-out instructions."""
        if not self.evaluates:
            return []
        selectors = self.selectors(policy)
        picks = [Contender(BEST_OF_N, n, s) for n in self.options.best_of if n > 1 for s in selectors]
        return picks + [Contender(method, None, s) for method in self.options.methods for s in selectors]

    def aligned(self, policy: str) -> list[str]:
        """The ids of the policies that are made of one."""
        return [f"{policy}/{contender.id}" for contender in self.contenders(policy) if contender.n is None]

    @property
    def all_aligned(self) -> list[str]:
        """The ids of all of them."""
        return [aligned for policy in self.policies for aligned in self.aligned(policy)]

    @property
    def writers(self) -> list[str]:
        """Whoever answers prompts."""
        return [*self.policies, *self.all_aligned]

    def policy_of(self, writer: str) -> str:
        """The policy that a writer is, or is made of."""
        return writer.partition("/")[0]

    def contender_of(self, aligned: str) -> Contender:
        """What an aligned policy is, as a contender."""
        return Contender.parse(aligned.partition("/")[2])

    def selecting_models(self, selector: RewardModelId) -> dict[str, RewardModelId]:
        """By language."""
        return {language: selecting_in(language, selector) for language in self.study.languages}

    def panel(self, base: str) -> list[RewardModelId]:
        """The reward models of a base that judge: those of plain languages, with the last seed.

        With the first one too, where a selector has the last one: models of one seed agree more than others.
        """
        first, last = self.study.config.seeds[0], self.study.config.seeds[-1]
        seeds = dict.fromkeys([last, *([first] if last in self.seeds else [])])
        return [RewardModelId(base, language, seed) for language in self.plain_languages for seed in seeds]

    @property
    def judging(self) -> list[RewardModelId]:
        """The reward models that compare answers: a panel of each base, and those that are named."""
        panels = [model for base in self.study.bases for model in self.panel(base)]
        return [*panels, *map(RewardModelId, self.options.judges)]

    # Files.

    @property
    def constraint_files(self) -> list[str]:
        """The user's files of instructions whose answers code can check, by language."""
        path = self.options.constraints
        return [filled_in(path, language, "bcp47") for language in self.plain_languages] if path else []

    def parts_of(self, writer: str) -> list[str]:
        """What a writer answers."""
        held_out = [HELD_OUT] * self.evaluates
        return [
            *([INSTRUCTIONS] if writer in self.policies else []),
            *held_out,
            *([CONSTRAINTS] if self.checks_constraints else []),
        ]

    def languages_of(self, part: str) -> list[str]:
        """The languages that prompts are in."""
        return self.plain_languages if part == CONSTRAINTS else self.study.languages

    def rows(self, part: str) -> list[Pattern]:
        """The prompts, by language."""
        if part == CONSTRAINTS:
            return [self.at.constraints.fill(language=language) for language in self.plain_languages]
        return self.study.rows(part)

    def samples(self, writer: str, part: str) -> int:
        """How many answers a writer gives to a prompt.

        Of held-out instructions a policy gives one more than are picked from: its own, which others are compared with.
        """
        if writer not in self.policies or part == CONSTRAINTS:
            return 1
        return int(self.options.samples if part == INSTRUCTIONS else max(self.options.best_of) + 1)

    def sampling_options(self, writer: str, part: str) -> dict[str, Any]:
        """What decides sampled answers, as builtins."""
        names = {"max_new_tokens", "temperature", "top_k"} | ({"top_p"} if self.options.top_p else set())
        names |= {"engine"} if self.options.engine != "transformers" else set()
        return {"samples": self.samples(writer, part), **self.options.model_dump(include=names)}

    def answers(self, writer: str, part: str) -> list[Pattern]:
        """A writer's answers in every language."""
        return [
            self.at.answers.fill(writer=writer, part=part, language=language) for language in self.languages_of(part)
        ]

    def rewards(self, policy: str) -> list[Pattern]:
        """The rewards of a policy's answers to the instructions, by all that score them."""
        return [file for scorer in self.scorers(policy) for file in self.selections(scorer, policy, INSTRUCTIONS)]

    def selections(self, selector: RewardModelId, policy: str, part: str) -> list[Pattern]:
        """A selector's rewards of a policy's answers, in every language."""
        return [
            self.at.answer_rewards.fill(reward_model=model.id, policy=policy, part=part, language=language)
            for language, model in self.selecting_models(selector).items()
        ]

    def held_out_selections(self, policy: str) -> list[Pattern]:
        """The rewards of a policy's answers to the held-out instructions, by all selectors."""
        return list(
            dict.fromkeys(file for s in self.selectors(policy) for file in self.selections(s, policy, HELD_OUT))
        )

    def verdicts(self, policy: str) -> list[Pattern]:
        """What all judges say, in every language."""
        return [
            self.at.verdicts.fill(reward_model=model.id, policy=policy, language=language)
            for model in self.judging
            for language in self.study.languages
        ]

    # Params.

    @property
    def built_on(self) -> dict[str, str]:
        """Which of ``reward_models`` are made of one of the bases: name to base."""
        models = {name: getattr(self.study.config.reward_models[name], "path", None) for name in self._others}
        return {name: str(path) for name, path in models.items() if path in self.study.bases}

    @property
    def _others(self) -> list[str]:
        """Those of ``reward_models`` that have a part in this: whatever else is among them changes no table of it."""
        return list(dict.fromkeys([*self.options.reward_models, *self.options.judges]))

    @property
    def recipe(self) -> dict[str, Any]:
        """What decides an alignment, as builtins."""
        return dict(self.options.training.model_dump(exclude_none=True, exclude={"gradient_checkpointing"}))

    @property
    def baselines(self) -> list[str]:
        """Those of others that know nothing."""
        return [name for name in self._others if name in self.study.baselines]

    def options_of(self, policy: str, root: Path) -> dict[str, Any]:
        """The config entry of a policy that is prepared, as builtins; a base's name stands for its folder."""
        entry = self.entries[policy]
        options = entry.model_dump(exclude_none=True) | self.study.clock(entry.path, entry.chat_template, root)
        return options | ({"path": str(self.at.base_model.fill(base=entry.path))} if self.base_of(policy) else {})

    def templates(self, root: Path) -> dict[str, dict[str, Any]]:
        """As :meth:`rmtransfer.study.study.Study.templates`, the policies whose chat templates are not those of bases."""
        found = {}
        for policy in self.own_models:
            entry, base = self.entries[policy], self.base_of(policy)
            if base is None or entry.chat_template is not None:
                path = self.study.tokenizer_folder(policy, entry.path, root)
                if base is not None:
                    path = str(self.study.templates(root)[f"base_models.{base}"]["path"])
                parts = [part for part in (INSTRUCTIONS, HELD_OUT) if part in self.study.parts]
                found[f"policies.{policy}"] = {"path": path, "parts": parts} | template_of(entry)
        return found

    def inputs_of(self, policy: str) -> list[str]:
        """The base that a policy is an adapter of."""
        base = self.base_of(policy)
        return [] if base is None else [self.at.base_model.fill(base=base)]

    def downloads(self, policy: str) -> bool:
        """Whether a policy or its adapter comes from the hub."""
        entry = self.entries[policy]
        places = [] if self.base_of(policy) else [entry.path]
        return any(not Path(place).expanduser().is_dir() for place in [*places, *filter(None, [entry.adapter])])

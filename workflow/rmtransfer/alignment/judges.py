"""Who judges what a reward model selected: nobody who had a part in it."""

from collections.abc import Collection, Mapping

from rmtransfer.alignment.best_of_n import referees_of
from rmtransfer.study.names import IN_LANGUAGE, NOT_OURS
from rmtransfer.study.study import RewardModelId
from rmtransfer.transfer.design import Design

# What a judge has to do with the selector.
SIBLING, INDEPENDENT, BASELINE = "sibling", "independent", "baseline"


class Bench:
    """All reward models whose verdicts are there, and which of them judge whom.

    The study's own models of one base are one judge together, named after the base; each of ``reward_models`` is one by itself.

    Args:
        models: whose verdicts are there.
        baselines: names of those of ``reward_models`` that know nothing, such as the longer answer.
        built_on: names of those of ``reward_models`` that are made of one of the study's bases, with that base.
    """

    def __init__(
        self,
        models: Collection[RewardModelId],
        design: Design,
        baselines: Collection[str] = (),
        built_on: Mapping[str, str] | None = None,
    ) -> None:
        self._models, self._design = list(models), design
        self._baselines, self._built_on = baselines, built_on or {}

    @property
    def judges(self) -> list[str]:
        """Names of all judges, the study's own first."""
        names = dict.fromkeys(m.base_model for m in self._models if m.train_language != NOT_OURS)
        return [*names, *(m.base_model for m in self._models if m.train_language == NOT_OURS)]

    def referees(self, judge: str, selector: RewardModelId, language: str) -> list[RewardModelId]:
        """The models of a judge that judge what a model selected in a language; none where it must not.

        Of the study's own those that :func:`rmtransfer.alignment.best_of_n.referees_of` finds: strangers to all languages of
        the selector, of another seed where there are several. The in-language selector is the one trained in that language.
        """
        mine = [m for m in self._models if m.base_model == judge]
        if all(m.train_language == NOT_OURS for m in mine):
            return [m for m in mine if m != selector]
        if selector.train_language == IN_LANGUAGE:
            selector = selector._replace(train_language=language)
        return referees_of(selector, mine, self._design)

    def relation(self, judge: str, selector: RewardModelId) -> str:
        """``sibling`` where judge and selector are made of one base, ``baseline`` for one that knows nothing, else
        ``independent``."""
        if judge in self._baselines:
            return BASELINE
        bases = (self._built_on.get(name) or name for name in (judge, selector.base_model))
        return SIBLING if len(set(bases)) == 1 else INDEPENDENT

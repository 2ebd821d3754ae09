"""What of a gap between languages is translating, and what is the language. Imports nothing heavy before it runs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from rmtransfer.study.languages import split_variant
from rmtransfer.transfer.measures import measure

if TYPE_CHECKING:
    from rmtransfer.transfer.evaluation import Cell, Evaluation


@measure(
    {
        "target": "target language, which the source's texts were translated into and back from",
        "varied": "evaluation: one model judges the original, the round trip and the target; training: models trained on each of "
        "the three judge in the target",
        "base_model": "base model that the models were trained from; of a model of others its name",
        "train_language": "what the one model was trained in; empty for training",
        "part": "gap: original minus target; translation: original minus round trip, what translating twice costs; language: round "
        "trip minus target, what is left of the gap. The last two add up to the first",
        "difference": "in average accuracy, mean over seeds, from -1 to 1",
        "ci_low": "lower bound of its 95 % interval over items and seeds; over items alone where there is one seed",
        "ci_high": "upper bound of that interval",
        "n": "items",
        "seeds": "number of seeds",
    }
)
def translation_gap(evaluation: Evaluation) -> Iterator[tuple[Any, ...]]:
    """The gap between source and target, split at the source's texts as they come back from the target."""
    section, source = evaluation.average, evaluation.design.source
    trips = {code: via for _, _, code in section.accuracies if (via := _via(code, source))}
    for code, via in trips.items():
        stations = (source, code, via)
        models = dict.fromkeys((base, train) for base, train, _ in section.accuracies)
        paths: list[tuple[str, str, str | None, list[Cell]]] = [
            *(
                ("evaluation", base, train, [(base, train, language) for language in stations])
                for base, train in models
            ),
            *(
                ("training", base, None, [(base, train, via) for train in stations])
                for base in dict.fromkeys(base for base, _ in models)
            ),
        ]
        for varied, base, train, cells in paths:
            if not section.accuracies.keys() >= set(cells):
                continue
            original, trip, target = cells
            for part, first, second in (
                ("gap", original, target),
                ("translation", original, trip),
                ("language", trip, target),
            ):
                found = section.estimate({first: 1, second: -1})
                yield via, varied, base, train, part, found.value, *found.interval(), found.n, found.seeds


def _via(code: str, source: str) -> str | None:
    """The target that a language of the study went through, if it is a round trip of the source."""
    language, through = split_variant(code)
    return through if language == source else None

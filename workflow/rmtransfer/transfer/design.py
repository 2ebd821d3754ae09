"""What a study compares with what. Imports nothing heavy."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from rmtransfer.study.languages import split_variant
from rmtransfer.study.names import FROM_ELSEWHERE, IN_LANGUAGE, OTHER, PRIMARY, SOURCE_AGAINST_TARGETS

Model = tuple[str, str]  # base model, or name of a model of others; training set, or what stands for it
Cell = tuple[str, str, str]  # and the evaluation language


@dataclass(frozen=True)
class Design:
    """Which models are the study's own, and which languages they have seen.

    Attributes:
        source: the study's source language.
        bases: the study's base models.
        trained_in: training set to the plain languages in it: a variant's is the language that it translates into.
    """

    source: str
    bases: Collection[str]
    trained_in: Mapping[str, Collection[str]]

    def is_plain(self, training_set: str) -> bool:
        """Whether a training set is a language of the study, whole and alone: no mixture, variant or part."""
        return list(self.trained_in.get(training_set, ())) == [training_set]

    def family(self, language: str, a: Model, b: Model) -> str:
        """The family of the comparison of two models, of which an in-language one comes second."""
        (base, training_set), in_language = a, (a[0], language)
        inside = base in self.bases and b == in_language and training_set in self.trained_in
        if not inside or split_variant(language)[0] in self.trained_in[training_set]:
            return OTHER
        return PRIMARY if training_set == self.source and self.is_plain(language) else IN_LANGUAGE

    def comparisons(self, cells: Collection[Cell]) -> dict[str, list[tuple[Cell, Cell]]]:
        """What a study's headlines average over: pairs of a model and the in-language one, in each language of the second's.

        Only whole languages of the study count: a mixture, variant or part is neither the source nor from elsewhere.
        """
        pairs = [
            ((base, training_set, language), (base, language, language))
            for base, training_set, language in cells
            if training_set != language
            and base in self.bases
            and self.is_plain(training_set)
            and self.is_plain(language)
            and (base, language, language) in cells
        ]
        pairs.sort()  # a sum is the same to the last bit in whatever order the files come
        return {
            SOURCE_AGAINST_TARGETS: [(a, b) for a, b in pairs if a[1] == self.source],
            FROM_ELSEWHERE: pairs,
        }

    def grid(self, base: str, cells: Collection[Cell]) -> tuple[list[str], list[str]]:
        """The plain training languages of a base, and the plain languages that all their models are evaluated in."""
        mine = [cell for cell in cells if cell[0] == base and self.is_plain(cell[1])]
        training = list(dict.fromkeys(cell[1] for cell in mine))
        languages = dict.fromkeys(cell[2] for cell in mine if not split_variant(cell[2])[1])
        return training, [k for k in languages if all((base, t, k) in cells for t in training)]

"""What a study compares with what. Imports nothing heavy."""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass

from rmtransfer.study.languages import split_variant
from rmtransfer.study.names import IN_LANGUAGE, OTHER, PRIMARY

Model = tuple[str, str]  # base model, or name of a model of others; training set, or what stands for it


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

    def headline(self, cells: Collection[tuple[str, str, str]]) -> Iterator[tuple[str, str]]:
        """(base, target) where both the source's and the target's own model are among cells (base, trained, evaluated)."""
        for base, training_set, language in cells:
            found = training_set == language != self.source and self.is_plain(language) and base in self.bases
            if found and (base, self.source, language) in cells:
                yield base, language

    def elsewhere(self, cells: Collection[tuple[str, str, str]]) -> Iterator[tuple[str, str, str]]:
        """Cells of a plain language's model in another plain language that has a model of its own."""
        for base, training_set, language in cells:
            plain = base in self.bases and self.is_plain(training_set) and self.is_plain(language)
            if plain and training_set != language and (base, language, language) in cells:
                yield base, training_set, language

    def grid(self, base: str, cells: Collection[tuple[str, str, str]]) -> tuple[list[str], list[str]]:
        """The plain training languages of a base, and the plain languages that all their models are evaluated in."""
        mine = [cell for cell in cells if cell[0] == base and self.is_plain(cell[1])]
        training = list(dict.fromkeys(cell[1] for cell in mine))
        languages = dict.fromkeys(cell[2] for cell in mine if not split_variant(cell[2])[1])
        return training, [k for k in languages if all((base, t, k) in cells for t in training)]

"""Where everything lies below ``results/<study>/``: one pattern per artifact, which formats and parses its path.

A file's identity is read from its path, or from its columns, and never from its place in a list.
"""

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Self

from rmtransfer.kit.errors import StudyError

_FIELD = re.compile(r"\{(\w+)\}")
_WITH_SLASHES = ("reward_model", "writer", "aligned")


def any_of(names: Iterable[str]) -> str:
    """A regular expression for a wildcard that is one of these names; of none, one that matches nothing.

    What names have in common before a slash stands there once: Snakemake tries this on every file of the study, and reward
    models by the hundred are a few bases, languages and seeds.
    """
    rests: dict[str, list[str]] = {}
    for name in dict.fromkeys(names):
        first, slash, rest = name.partition("/")
        rests.setdefault(first + slash, []).append(rest)
    firsts: dict[str, list[str]] = {}  # by the expression for what follows them
    for first, following in rests.items():
        firsts.setdefault(any_of(following) if first.endswith("/") else "", []).append(re.escape(first))
    return (
        "|".join(f"(?:{'|'.join(these)})(?:{rest})" if rest else "|".join(these) for rest, these in firsts.items())
        or "(?!)"
    )


class Pattern(str):
    """A path with named fields, ``results/x/scores/{reward_model}/{benchmark}/{language}.parquet``.

    A plain string for Snakemake, whose wildcards the fields are. No field but ``reward_model``, ``writer`` and ``aligned`` holds a
    slash.
    """

    __slots__ = ()

    def fill(self, **fields: object) -> Self:
        """The pattern with some or all of its fields filled in."""
        return type(self)(_FIELD.sub(lambda f: str(fields.get(f[1], f[0])), self))

    def parse(self, path: str | Path) -> dict[str, str]:
        """The fields of a path.

        Raises:
            StudyError: it is no path of this pattern.
        """
        pieces = _FIELD.split(self)
        pattern = "".join(
            re.escape(piece) if i % 2 == 0 else f"(?P<{piece}>{'.+' if piece in _WITH_SLASHES else '[^/]+'})"
            for i, piece in enumerate(pieces)
        )
        found = re.fullmatch(pattern, str(path))
        if found is None:
            raise StudyError(f"{path}: is no path of the form {self}; name files as the workflow does")
        return found.groupdict()


class Layout:
    """The paths of one study.

    ``{part}`` is preferences, instructions, held_out_instructions or the name of a benchmark, and of answers constraints.
    ``{policy}`` is one of ``policies``, ``{aligned}`` a policy made of it, and ``{writer}`` either.
    """

    def __init__(self, study: str, source: str) -> None:
        self.folder, self.source = f"results/{study}", source

        def at(path: str) -> Pattern:
            return Pattern(f"{self.folder}/{path}")

        self.source_rows = at("corpus/{part}.parquet")
        self.rejected = at("corpus/{part}.rejected.csv")
        self.ids = at("corpus/{part}.ids.jsonl")
        self.dropped = at("corpus/{part}.dropped.csv")
        self.contaminated = at("corpus/{benchmark}.contaminated.csv")
        self.digests = at("corpus/selected.json")
        self.translated_rows = at("translations/{language}/{part}.parquet")
        self.translated_rejected = at("translations/{language}/{part}.rejected.csv")
        self.translated_dropped = at("translations/{language}/{part}.dropped.csv")
        self.measures = at("translations/{language}/{part}.measures.csv")
        self.back_rows = at("translations/{language}/{part}.back.parquet")
        self.back_dropped = at("translations/{language}/{part}.back.dropped.csv")
        self.back_measures = at("translations/{language}/{part}.back.measures.csv")
        self.budget = at("translations/budget.csv")
        self.exported = at("translations/memory.tmx")
        self.base_model = at("base_models/{base}")
        self.tokenizer = at("tokenizers/{name}")
        self.templates = at("corpus/chat_templates.json")
        self.fetched = at("reward_models/{name}/{key}")
        self.model = at("models/{reward_model}")
        self.scores = at("scores/{reward_model}/{benchmark}/{language}.parquet")
        self.settings = at("scores/{reward_model}/{benchmark}/settings.json")
        self.native_settings = at("scores/{reward_model}/{benchmark}/settings.{language}.json")
        self.states = at("hidden_states/{reward_model}/{benchmark}/{language}.npz")
        self.constraints = at("alignment/constraints/{language}.parquet")
        self.constraints_left_out = at("alignment/constraints/{language}.left_out.csv")
        self.answers = at("alignment/answers/{writer}/{part}/{language}.parquet")
        self.answer_rewards = at("alignment/rewards/{reward_model}/{policy}/{part}/{language}.parquet")
        self.aligned = at("alignment/policies/{aligned}")
        self.comparisons = at("alignment/comparisons/{policy}/{language}.parquet")
        self.verdicts = at("alignment/verdicts/{reward_model}/{policy}/{language}.parquet")
        self.verdict_settings = at("alignment/verdicts/{reward_model}/{policy}/settings.json")
        self.drift = at("alignment/drift/{aligned}/{language}.parquet")
        self.table = at("tables/{table}.csv")
        self.benchmark_table = at("tables/{benchmark}/{table}.csv")
        self.answer = at("tables/{benchmark}/answer.txt")
        self.paper_table = at("tables/{benchmark}/paper.{format}")
        self.figure = at("figures/{figure}.{format}")
        self.benchmark_figure = at("figures/{benchmark}/{figure}.{format}")
        self.cache = at(".work/scores")
        self.sampled = at(".work/answers")
        self.training_states = at(".work/training")
        self.trunk = at(".work/trunk")
        self.kept = at(".work/kept")
        self.computing = at(".work/computing")

    def rows(self, part: str, language: str) -> Pattern:
        """The rows of one part in one language, before selection."""
        return (self.source_rows if language == self.source else self.translated_rows).fill(
            part=part, language=language
        )

    def language_of(self, path: str | Path) -> str:
        """The language that a file of rows, answers, rewards or hidden states is in.

        Raises:
            StudyError: the path is none of theirs.
        """
        path = Path(path)
        if path.parent == Path(self.folder) / "corpus":
            return self.source
        by_folder = {
            "translations": self.translated_rows,
            "scores": self.scores,
            "hidden_states": self.states,
            "constraints": self.constraints,
            "answers": self.answers,
            "rewards": self.answer_rewards,
            "comparisons": self.comparisons,
            "verdicts": self.verdicts,
            "drift": self.drift,
        }
        steps = path.relative_to(self.folder).parts
        kind = steps[1] if steps[0] == "alignment" else steps[0]
        return by_folder.get(kind, self.translated_rows).parse(path)["language"]

"""A study: its languages, data sets and reward models by name, and where everything of it lies."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Self

from rmtransfer.kit.errors import StudyError
from rmtransfer.study import catalogue
from rmtransfer.study.languages import filled_in, split_variant, variant_code
from rmtransfer.study.layout import Layout, Pattern
from rmtransfer.study.names import (
    BASE,
    DATE,
    HELD_OUT,
    INSTRUCTIONS,
    NOT_OURS,
    TRANSLATE_TEST,
    back_name,
    part_name,
)

if TYPE_CHECKING:
    from rmtransfer.study.config import Config, Rows

PREFERENCES = "preferences"
_CLOCK = re.compile(r"\b(strftime_now|date_string)\b")
_TEMPLATES = ("chat_template.jinja", "tokenizer_config.json")  # where a model's folder holds them
_SEED = "seed"


class TrainingSet(NamedTuple):
    """What a reward model is trained on.

    Attributes:
        shares: language to its share, of any positive total.
        pairs: number of pairs; None: each pair of the study once.
    """

    shares: Mapping[str, float]
    pairs: int | None = None


class RewardModelId(NamedTuple):
    """A row of the tables: one of our reward models, or one of others'.

    Attributes:
        base_model: the base that it was trained from; of one of ``reward_models`` its name.
        train_language: language or mixture that it was trained in, or a probe fitted in; ``-`` for a model of others.
    """

    base_model: str
    train_language: str = NOT_OURS
    seed: int = 0

    @property
    def id(self) -> str:
        """Its folder below ``models/``, ``scores/`` and ``hidden_states/``."""
        base, train, seed = self
        return {NOT_OURS: base, BASE: f"{base}/{BASE}"}.get(train, f"{base}/{train}/{_SEED}{seed}")

    @property
    def key(self) -> str:
        """What messages call it: its key in the configuration, or its id where it is our own."""
        return f"reward_models.{self.base_model}" if self.train_language == NOT_OURS else self.id

    @classmethod
    def parse(cls, identity: str) -> Self:
        """The reward model with this id.

        Raises:
            StudyError: it is no id.
        """
        match identity.split("/"):
            case [name]:
                return cls(name)
            case [base, train] if train == BASE:
                return cls(base, BASE)
            case [base, train, seed] if (
                train != BASE and seed.removeprefix(_SEED).isdecimal() and seed.startswith(_SEED)
            ):
                return cls(base, train, int(seed.removeprefix(_SEED)))
        raise StudyError(
            f"{identity!r} is no reward model's id, such as llama/es/seed0 or the name of one of reward_models"
        )


class Study:
    """What the workflow asks of a configuration."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self.source, self.targets = config.languages.source, config.languages.targets
        self.at = Layout(config.study, self.source)
        variants, trip = config.translation.variants, config.translation.round_trip
        # The source's texts as they come back from a target: en-x-es.
        self.round_trips = [variant_code(self.source, t) for t in trip.targets or self.targets] if trip else []
        # Source first, variants of the targets and round trips last.
        self.languages = [
            self.source,
            *self.targets,
            *(variant_code(t, name) for name, variant in variants.items() for t in variant.targets or self.targets),
            *self.round_trips,
        ]
        self.bases = list(config.base_models)
        self.benchmarks = list(config.benchmarks)
        self.leading = self.benchmarks[0]
        parts = {
            PREFERENCES: config.preferences,
            **config.benchmarks,
            INSTRUCTIONS: config.instructions,
            HELD_OUT: config.held_out_instructions,
        }
        self.parts: dict[str, Rows] = {part: rows for part, rows in parts.items() if rows is not None}
        # Benchmarks that were written in one language, by that language, and those that are in every language.
        self.native = {name: rows.native for name, rows in config.benchmarks.items() if rows.native is not None}
        self.parallel = [name for name in self.benchmarks if name not in self.native]
        # Parts whose texts arrive in their languages, and those that are translated.
        self.given = [part for part, rows in self.parts.items() if rows.given]
        self.translated = [part for part in self.parts if part not in self.given]
        # Codes of what is translated into another language, and back.
        self.translations = self.languages[1:] if self.translated else self.round_trips
        # What reward models are trained on, by name; parts are of a language alone, and come last.
        full = {language: TrainingSet({language: 1}) for language in self.languages}
        full |= {name: TrainingSet(mixture.shares, mixture.pairs) for name, mixture in config.mixtures.items()}
        parts_of_sets = {
            part_name(language, pairs): TrainingSet({language: 1}, pairs)
            for pairs in sorted(config.training.pairs)
            for language in (self.source, *self.targets)
        }
        self.training_sets = full | parts_of_sets
        self.reward_models = [
            RewardModelId(base, train, seed)
            for base in self.bases
            for train in self.training_sets
            for seed in config.seeds
        ]
        # Those whose hidden states and picks are studied too: a part of a set is there for the curve of accuracy.
        self.full_reward_models = [model for model in self.reward_models if model.train_language in full]
        # Languages whose leading benchmark is also translated back.
        self.translated_back = self.targets if config.translation.translate_test is not None else []

    def scorers(self, benchmark: str) -> list[RewardModelId]:
        """Everything that scores a benchmark: the rows of its tables, in their order."""
        found = list(self.reward_models)
        if self.translated_back and benchmark == self.leading:
            found += [RewardModelId(base, TRANSLATE_TEST, seed) for base in self.bases for seed in self.config.seeds]
        for name in self.config.reward_models:
            if self.reads_states(name) and benchmark in self.native:
                continue  # there are hidden states of texts in every language alone
            fitted = self.reads_states(name) and self._kind(name).fitted
            found += [RewardModelId(name, language) for language in self.languages] if fitted else [RewardModelId(name)]
        return found

    @property
    def baselines(self) -> dict[str, str]:
        """Which of ``reward_models`` are baselines: name to the base model that it is made of, empty where that is none."""
        paths = {name: getattr(options, "path", "") for name, options in self.config.reward_models.items()}
        return {name: path if path in self.bases else "" for name, path in paths.items() if self._kind(name).baseline}

    def reads_states(self, reward_model: str) -> bool:
        """Whether a reward model, by its id, is a linear head on the hidden states of one of the bases."""
        name = RewardModelId.parse(reward_model).base_model
        return name in self.config.reward_models and self._kind(name).reads_states

    def base_states(self, reward_model: str, part: str, languages: Iterable[str]) -> list[Pattern]:
        """The hidden states of a part, in some languages, of the base that a head is put onto."""
        base = RewardModelId(self.config.reward_models[RewardModelId.parse(reward_model).base_model].path, BASE)
        return [self.at.states.fill(reward_model=base.id, benchmark=part, language=language) for language in languages]

    def fitted_states(self, reward_model: str) -> Pattern | list[Pattern]:
        """The file of the training pairs' hidden states that a head is fitted to; nothing for one that is not fitted."""
        train = RewardModelId.parse(reward_model).train_language
        return [] if train == NOT_OURS else self.base_states(reward_model, PREFERENCES, [train])[0]

    def embedded(self, base: str) -> list[str]:
        """The parts whose hidden states a base computes: those of the leading benchmark, and what heads on it read."""
        heads = [name for name, of in self.baselines.items() if of == base and self.reads_states(name)]
        fitted = [PREFERENCES] if any(self._kind(name).fitted for name in heads) else []
        return [*(self.parallel if heads else [self.leading]), *fitted]

    def _kind(self, name: str) -> Any:
        """The class behind one of ``reward_models``."""
        return catalogue.load(catalogue.REWARD_MODELS, self.config.reward_models[name].kind)

    @property
    def all_scored(self) -> list[str]:
        """The ids of everything that scores or shows hidden states."""
        bases = [RewardModelId(base, BASE).id for base in self.bases]
        return bases + list(dict.fromkeys(s.id for benchmark in self.benchmarks for s in self.scorers(benchmark)))

    def languages_of(self, part: str) -> list[str]:
        """The languages that a part is in."""
        return [self.native[part]] if part in self.native else self.languages

    def origin(self, benchmark: str, language: str) -> str:
        """Where a benchmark's texts in a language come from: ``original``, ``translated``, ``round trip`` or ``native``."""
        if benchmark in self.native:
            return "native"
        if language in self.round_trips:
            return "round trip"
        return "original" if language == self.source else "translated"

    @property
    def origins(self) -> dict[str, dict[str, list[str]]]:
        """By benchmark and language, as builtins: :meth:`origin`, and the engine that translated, empty where none did."""
        return {
            name: {language: [self.origin(name, language), self._translator(name, language)] for language in languages}
            for name in self.benchmarks
            for languages in [self.languages_of(name)]
        }

    def _translator(self, part: str, language: str) -> str:
        by_us = language in self.translations and (part in self.translated or language in self.round_trips)
        return self.engine(language)["engine"] if by_us else ""

    def scored_in(self, reward_model: str, benchmark: str) -> list[str]:
        """The languages that a scorer, by its id, scores a benchmark in."""
        if _judges_back(reward_model):
            return [self.source, *self.translated_back]
        return self.languages_of(benchmark)

    @property
    def scaled_sets(self) -> dict[str, TrainingSet]:
        """The training sets that differ in language and size alone: source and targets, whole and in parts."""
        plain = {self.source, *self.targets}
        return {name: s for name, s in self.training_sets.items() if len(s.shares) == 1 and plain.issuperset(s.shares)}

    def score_files(self, benchmark: str, training_sets: Collection[str] | None = None) -> list[Pattern]:
        """The score files that a benchmark's tables are made of; with ``training_sets``, of our models trained on these."""
        scorers = self.scorers(benchmark)
        if training_sets is not None:
            scorers = [model for model in self.reward_models if model.train_language in training_sets]
        return [
            self.at.scores.fill(reward_model=scorer.id, benchmark=benchmark, language=language)
            for scorer in scorers
            for language in self.scored_in(scorer.id, benchmark)
        ]

    def rows_scored(self, reward_model: str, benchmark: str) -> list[Pattern]:
        """The rows that a scorer reads of a benchmark, in the languages of :meth:`scored_in`."""
        if not _judges_back(reward_model):
            return self.rows(benchmark)
        back = [self.at.back_rows.fill(part=benchmark, language=language) for language in self.translated_back]
        return [self.at.rows(benchmark, self.source), *back]

    def content_scored(self, reward_model: str, benchmark: str) -> list[str]:
        """What ``corpus/selected.json`` calls the languages of :meth:`rows_scored`."""
        if not _judges_back(reward_model):
            return self.languages_of(benchmark)
        return [self.source, *(back_name(language, self.source) for language in self.translated_back)]

    def rows(self, part: str) -> list[Pattern]:
        """The rows of a part in each of its languages."""
        return [self.at.rows(part, language) for language in self.languages_of(part)]

    def entry(self, part: str, language: str) -> dict[str, Any]:
        """The config entry that says where a part's rows in a language are, as builtins."""
        rows = self.parts[part]
        elsewhere = getattr(rows, "source", None)
        own = elsewhere if language == self.source and elsewhere is not None else rows
        # How subsets are weighed decides nothing about the rows, except that RewardBench 2 lists its answers.
        entry = own.model_dump(exclude_none=True, exclude={"source", "native", "sections", "expected"})
        return {**entry, "sections": "rewardbench2"} if self.sections(part) == "rewardbench2" else entry

    def sections(self, part: str) -> str:
        """The table that groups and weighs a benchmark's subsets; empty for other parts."""
        return getattr(self.parts[part], "sections", "")

    def source_files(self, part: str, language: str) -> list[str]:
        """The user's file behind a part, if it is a file."""
        entry = self.entry(part, language)
        return [filled_in(entry["path"], split_variant(language)[0], entry["codes"])] if "path" in entry else []

    def engine(self, code: str) -> dict[str, Any]:
        """Who translates into a language, and how: ``engine`` and ``options``, its variant or own override applied."""
        language, variant = split_variant(code)
        translation = self.config.translation
        if code in self.round_trips:
            return self._engine(translation.round_trip)
        override = translation.variants[variant] if variant else translation.languages.get(language)
        return self._engine(override)

    def engine_back(self) -> dict[str, Any]:
        """Who translates the leading benchmark back for translate-test, and how."""
        return self._engine(self.config.translation.translate_test)

    def translated_from(self, code: str) -> str:
        """The language that the texts of a code are translated from: of a round trip, the one that it goes through."""
        return str(split_variant(code)[1]) if code in self.round_trips else self.source

    def ways(self) -> list[dict[str, Any]]:
        """Every way that texts take from one language into another, as builtins.

        ``language`` is what the plan calls it, ``source`` and ``target`` are the languages, ``spec`` is the engine, and
        ``rows`` says by part where the texts to translate lie.
        """
        ways = []
        for code in self.translations:
            source = self.translated_from(code)
            parts = (
                [part for part in self.parts if part not in self.native] if source != self.source else self.translated
            )
            ways.append(self._way(code, self.engine(code), source, code, parts))
        for language in self.translated_back:
            way = self._way(f"{language} > {self.source}", self.engine_back(), language, self.source, [self.leading])
            # What a round trip asks the same engine for is not asked for twice.
            if not any((other["spec"], other["source"]) == (way["spec"], language) for other in ways):
                ways.append(way)
        return ways

    def _way(self, language: str, spec: dict[str, Any], source: str, target: str, parts: list[str]) -> dict[str, Any]:
        rows = {part: str(self.at.rows(part, source)) for part in parts}
        return {"language": language, "spec": spec, "source": source, "target": split_variant(target)[0], "rows": rows}

    def _engine(self, override: Any) -> dict[str, Any]:
        section = self.config.translation.model_dump(exclude_none=True)
        if override is not None:
            section |= override.model_dump(exclude_none=True)
        name = section["engine"]
        engine = catalogue.load(catalogue.ENGINES, name)
        options = section.get(name, None if engine.needs_section else engine.Options().model_dump(exclude_none=True))
        # A model that is one of the study's bases is taken from there.
        if isinstance(options, dict) and options.get("model") in self.bases:
            options = {**options, "model": str(self.at.base_model.fill(base=options["model"]))}
        elif isinstance(options, dict) and options.get("chat") and "date" not in options:
            options |= self.clock(options["model"], None, Path())
        return {"engine": name, "options": options}

    def engine_files(self, spec: Mapping[str, Any]) -> list[str]:
        """What an engine reads that the workflow knows of: its memory, a base model of the study."""
        options = spec["options"]
        if isinstance(options, Mapping) and str(options.get("model", "")).startswith(f"{self.at.folder}/"):
            return [options["model"]]
        return list(catalogue.load(catalogue.ENGINES, spec["engine"]).files(options))

    def runs_a_model(self, spec: Mapping[str, Any]) -> bool:
        """Whether an engine runs a model on this machine."""
        return catalogue.load(catalogue.ENGINES, spec["engine"]).runs_a_model

    def needs_network(self, spec: Mapping[str, Any]) -> bool:
        """Whether an engine asks a service, or downloads its model itself."""
        engine = catalogue.load(catalogue.ENGINES, spec["engine"])
        here = (
            self.engine_files(spec) or not engine.runs_a_model or Path(spec["options"]["model"]).expanduser().is_dir()
        )
        return engine.paid or not here

    def plain_language(self, code: str) -> str:
        """The language of a code, whoever translated into it."""
        return split_variant(code)[0]

    def downloads_base(self, base: str) -> bool:
        """Whether a base model comes from the hub."""
        entry = self.config.base_models[base]
        return catalogue.base_model_source(entry) == "pretrained" and not Path(entry.path).expanduser().is_dir()

    def base_chat_template(self, base: str) -> str | list[str]:
        """The Jinja file that replaces a base's chat template; nothing if none is named."""
        return self.config.base_models[base].chat_template or []

    def clock(self, model: str | None, template: str | None, root: Path) -> dict[str, str]:
        """``date``, for the params of a job that brings a model in: nothing where that is the default day, or no template reads it.

        Of a hub model's own template nothing is known before it is here, and it counts as one that reads the clock.

        Args:
            model: where the model is; None for one on a server.
            template: the Jinja file that replaces its chat template.
            root: folder that relative paths start from.
        """
        if self.config.chat.date == DATE or model is None:
            return {}
        folder = root / Path(model).expanduser()
        files = [root / template] if template else [folder / name for name in _TEMPLATES] if folder.is_dir() else []
        texts = [file.read_text(encoding="utf-8") for file in files if file.is_file()]
        reads = any(map(_CLOCK.search, texts)) if files else model not in self.bases
        return {"date": self.config.chat.date} if reads else {}

    def base_options(self, base: str, root: Path) -> dict[str, Any]:
        """The config entry of a base as builtins, and the day that its chat template is told."""
        options = self.config.base_models[base]
        return options.model_dump(exclude_none=True) | self.clock(options.path, options.chat_template, root)

    def templates(self, root: Path) -> dict[str, dict[str, Any]]:
        """By config key, the models whose chat templates render the study's rows, as builtins, bases first.

        ``path`` is where the tokenizer is before any weights are needed: the folder that the config names, or of a hub model what
        ``fetch_tokenizer`` downloads. A package has its tokenizer in the same file as its weights. ``chat_template`` is the Jinja
        file that replaces the tokenizer's own, ``parts`` are those that it scores, ``system`` is whether a judge has a system message,
        ``pair`` whether a classifier reads pairs (there is none of other kinds), ``max_length`` what the config says that it reads.
        """
        found: dict[str, dict[str, Any]] = {}
        for base, options in self.config.base_models.items():
            packed = catalogue.base_model_source(options) != "pretrained"
            path = self.at.base_model.fill(base=base) if packed else self.tokenizer_folder(base, options.path, root)
            found[f"base_models.{base}"] = {"path": path, "parts": self.benchmarks} | template_of(options)
        for name, options in self.config.reward_models.items():
            kind = self._kind(name)
            key = next((key for key in kind.models if key not in kind.tokenizer_only), None)
            model = getattr(options, key) if key else None
            if model is None:
                continue  # renders nothing, or somewhere else
            there = found[f"base_models.{model}"] if model in self.bases else {}
            asked = hasattr(options, "system")  # a judge, which is asked about rows in one message
            found[f"reward_models.{name}"] = {
                "path": self.tokenizer_folder(name, model, root),
                **there,
                **template_of(options),
                "parts": [] if asked else self.benchmarks,
                "trust_remote_code": getattr(options, "trust_remote_code", False),
                "system": bool(asked and options.system),
                **{key: value for key in ("pair", "max_length") if (value := getattr(options, key, None)) is not None},
            }
        return found

    def tokenizer_folder(self, name: str, model: str, root: Path) -> str:
        """Where the tokenizer of a model of the user's or the hub's is before its weights are."""
        here = (root / Path(model).expanduser()).is_dir()
        return model if here else self.at.tokenizer.fill(name=name)

    @property
    def recipe(self) -> dict[str, Any]:
        """What decides a training, as builtins: ``training`` without the keys that only say how fast it goes."""
        return self.config.training.model_dump(
            exclude_none=True, exclude={"pairs", "gradient_checkpointing", "processes"}
        )

    def shares(self, reward_model: str) -> dict[str, float]:
        """What one of our reward models is trained on: language to share."""
        return dict(self.training_sets[RewardModelId.parse(reward_model).train_language].shares)

    def pairs(self, reward_model: str) -> int | None:
        """How many pairs one of our reward models is trained on; None: each pair of the study once."""
        return self.training_sets[RewardModelId.parse(reward_model).train_language].pairs

    def trained_in(self, train: str) -> list[str]:
        """The plain languages in a training set, a variant's being the one that it translates into; none for models of others."""
        if train not in self.training_sets:
            return []
        shares = self.shares(RewardModelId(BASE, train).id)
        return list(dict.fromkeys(self.plain_language(code) for code in shares))

    def scoring_options(self, reward_model: str) -> dict[str, Any]:
        """Kind and options of a reward model, as builtins; where our own lie is an input of its job."""
        scorer = RewardModelId.parse(reward_model)
        if scorer.train_language == BASE:
            return {"kind": "trained", "head": False}
        if scorer.base_model in self.bases:
            return {"kind": "trained"}
        return self.config.reward_models[scorer.base_model].model_dump(exclude_none=True)

    def clock_of(self, reward_model: str, root: Path) -> dict[str, str]:
        """:meth:`clock` of a model of others that renders with a chat template of its own."""
        name = RewardModelId.parse(reward_model).base_model
        options = self.config.reward_models.get(name)
        if options is None or getattr(options, "date", "") is not None:
            return {}  # our own, or one that renders nothing or has a day of its own
        key = next(iter(self._kind(name).models))
        return self.clock(getattr(options, key), getattr(options, "chat_template", None), root)

    @property
    def ties_half(self) -> list[str]:
        """The names of judges whose ties are half right."""
        return [name for name, options in self.config.reward_models.items() if getattr(options, "ties", "") == "half"]

    def loads_weights(self, reward_model: str) -> bool:
        """Whether scoring with it runs a model on this machine."""
        scorer = RewardModelId.parse(reward_model)
        if scorer.base_model in self.bases:
            return True
        return self._kind(scorer.base_model).runs_a_model(self.config.reward_models[scorer.base_model])

    def asks_a_server(self, reward_model: str) -> bool:
        """Whether it is a judge that is asked over HTTP."""
        options = self.config.reward_models.get(RewardModelId.parse(reward_model).base_model)
        return getattr(options, "server", None) is not None

    def model_folders(self, reward_model: str, root: Path) -> dict[str, str]:
        """The files that a reward model is loaded from, by the key of its options that names them, or ``base``.

        A model is a base of the study, a folder of the user's, or what ``fetch_model`` downloads.
        """
        scorer = RewardModelId.parse(reward_model)
        base, train, _ = scorer
        if self.reads_states(reward_model):
            return {"base": self.at.base_model.fill(base=self.baselines[base])}
        if train == BASE:
            return {"path": self.at.base_model.fill(base=base)}
        if train != NOT_OURS:
            trained = scorer._replace(train_language=self.source) if train == TRANSLATE_TEST else scorer
            ours: dict[str, str] = {"path": self.at.model.fill(reward_model=trained.id)}
            adapter = self.config.training.adapter
            if adapter is not None and not adapter.merge:
                ours["base"] = self.at.base_model.fill(base=base)  # what the adapter is put onto
            return ours
        options = self.config.reward_models[base]
        files = {}
        for key in catalogue.load(catalogue.REWARD_MODELS, options.kind).models:
            named = getattr(options, key, None)
            if named in self.bases:
                files[key] = self.at.base_model.fill(base=named)
            elif named is not None:
                local = (root / Path(named).expanduser()).is_dir()
                files[key] = named if local else self.at.fetched.fill(name=base, key=key)
        template = getattr(options, "chat_template", None)
        return files | ({"chat_template": template} if template else {})

    def download(self, name: str, key: str) -> dict[str, Any]:
        """What to fetch of the hub for one of ``reward_models``: ``model``, ``revision``, ``tokenizer_only``."""
        options = self.config.reward_models[name]
        kind = catalogue.load(catalogue.REWARD_MODELS, options.kind)
        return {
            "model": getattr(options, key),
            "revision": getattr(options, kind.models[key]),
            "tokenizer_only": key in kind.tokenizer_only,
        }

    def tokenizer_download(self, name: str) -> dict[str, Any]:
        """What to fetch of the hub of a base, a policy or one of ``reward_models`` before its weights, as :meth:`download` says it."""
        if name in self.config.policies:
            policy = self.config.policies[name]
            return {"model": policy.path, "revision": policy.revision, "tokenizer_only": True}
        if name not in self.bases:
            return {**self.download(name, next(iter(self._kind(name).models))), "tokenizer_only": True}
        options = self.config.base_models[name]
        return {"model": options.path, "revision": options.revision, "tokenizer_only": True}


def template_of(options: Any) -> dict[str, str]:
    """The Jinja file that a config entry names, under its key."""
    named = getattr(options, "chat_template", None)
    return {"chat_template": named} if named else {}


def _judges_back(reward_model: str) -> bool:
    """Whether a scorer scores texts that are translated back into the source language."""
    return RewardModelId.parse(reward_model).train_language == TRANSLATE_TEST

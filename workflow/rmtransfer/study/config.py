"""A study's configuration: what its YAML file may hold, checked before anything runs.

The classes are the only source of keys, types, ranges, defaults and descriptions; kind-specific options come from the
modules that ``catalogue`` names. What no class can say, how keys fit each other and the files on disk, is in ``checks``.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeAlias, Union

from pydantic import ConfigDict, Discriminator, Field, StringConstraints, Tag, ValidationError, create_model
from pydantic.functional_validators import AfterValidator

from rmtransfer.kit.errors import StudyError
from rmtransfer.study import catalogue, checks, explain
from rmtransfer.study.names import DATE
from rmtransfer.study.options import Commit, Count, Day, Language, Options, Slug, Text
from rmtransfer.study.sections import SECTION_TABLES

if TYPE_CHECKING:  # what follows is made from the catalogue, which no type checker runs
    EngineName: TypeAlias = str
    SectionTable: TypeAlias = str
    BaseModel: TypeAlias = Any
    RewardModel: TypeAlias = Any
    Policy: TypeAlias = Any
    EngineSections: TypeAlias = Options
else:
    SectionTable = Literal[SECTION_TABLES]
    EngineName = Literal[tuple(catalogue.ENGINES)]
    _engines = {name: catalogue.load(catalogue.ENGINES, name) for name in catalogue.ENGINES}
    EngineSections = create_model(
        "EngineSections",
        __base__=Options,
        **{
            name: (engine.Options | None, Field(None, description=f"options of the engine {name}"))
            for name, engine in _engines.items()
        },
    )
    _sources = {name: catalogue.load(catalogue.BASE_MODELS, name) for name in catalogue.BASE_MODELS}
    BaseModel = Annotated[
        Union[tuple(Annotated[source.Options, Tag(name)] for name, source in _sources.items())],  # noqa: UP007
        Discriminator(catalogue.base_model_source),
    ]
    Policy = _sources["pretrained"].Policy
    _kinds = [catalogue.load(catalogue.REWARD_MODELS, name) for name in catalogue.REWARD_MODELS]
    RewardModel = Annotated[Union[tuple(kind.Options for kind in _kinds)], Field(discriminator="kind")]  # noqa: UP007


def _distinct(values: list) -> list:
    if len(values) > len(set(values)):
        twice = next(value for value in values if values.count(value) > 1)
        raise ValueError(f"{twice!r} is there twice; remove one")
    return values


Distinct = AfterValidator(_distinct)


class Languages(Options):
    """The languages of the study."""

    source: Language
    """BCP-47 code of the language that the data is in, such as en or zh-Hans"""
    targets: Annotated[list[Language], Distinct]
    """BCP-47 codes of the languages to translate into"""


class Columns(Options):
    """Our column names, each with the data set's."""

    id: Text | Annotated[list[Text], Field(min_length=1)] | None = None
    """the id; several columns are joined with a slash, {row} is the row's number"""
    subset: Text | None = None
    """the subset of a benchmark's row"""
    cluster: Text | None = None
    """what a row has in common with others that are not independent of it, such as the problem that they are about"""
    prompt: Text | None = None
    """the prompt"""
    chosen: Text | None = None
    """the better answer"""
    rejected: Text | None = None
    """the worse answer"""


class Expected(Options):
    """What the plan assumes of a hub data set before it is downloaded."""

    rows: Count
    """number of rows"""
    characters: Count
    """characters of a row's texts"""


class Rows(Options):
    """Where rows come from: a file, or a data set of the hub."""

    path: Text | None = None
    """JSON Lines, a JSON array or Parquet, also compressed; with {language} in it, one file per language that needs no translation"""
    hub: Text | None = None
    """data set id on the Hugging Face hub, instead of path"""
    revision: Commit | None = None
    """commit of the hub data set"""
    split: Text = "train"
    """split of the hub data set; with {language} in it, one per language"""
    name: Text | None = None
    """configuration of the hub data set; with {language} in it, one per language"""
    codes: Literal["bcp47", "flores", "names"] = "bcp47"
    """what {language} is filled with: our BCP-47 code, its FLORES-200 counterpart (zho_Hans), or its English name (chinese)"""
    columns: Columns = Columns()
    """rename map, {our column name} to {theirs}"""
    expected: Expected | None = None
    """what the plan assumes of a hub data set before it is downloaded"""
    invalid_rows: Literal["stop", "drop"] = "stop"
    """stop at invalid rows, or drop them into the ledger and go on"""

    @property
    def given(self) -> bool:
        """Whether rows come in every language, so that nothing has to be translated."""
        return any("{language}" in (place or "") for place in (self.path, self.name, self.split))


class Benchmark(Rows):
    """Preference pairs to judge."""

    source: Rows | None = None
    """the same rows in the source language, where they are published elsewhere"""
    native: Language | None = None
    """the language that it was written in, where it is no translation; it is evaluated in that language alone"""
    sections: SectionTable = "rewardbench"
    """which table groups and weighs subsets"""

    @property
    def given(self) -> bool:
        """See :class:`Rows`."""
        return self.native is not None or super().given


class Chat(Options):
    """What chat templates are told."""

    date: Day = DATE
    """the day that a template which writes one is told, on whichever day it renders, such as 2024-07-26"""


class Override(EngineSections):
    """Another engine, or other options of it."""

    engine: EngineName | None = None
    """who translates"""


class Variant(EngineSections):
    """A second translation of the same texts."""

    engine: EngineName
    """who translates"""
    targets: Annotated[list[Language], Field(min_length=1), Distinct] | None = None
    """the targets that it is made for; all of them if not given"""


class RoundTrip(EngineSections):
    """The source's texts, translated into targets as for them and back again."""

    engine: EngineName
    """who translates back"""
    targets: Annotated[list[Language], Field(min_length=1), Distinct] | None = None
    """the targets that it goes through; all of them if not given"""


class TranslateTest(EngineSections):
    """The benchmark back in the source language."""

    engine: EngineName
    """who translates"""


class Translation(EngineSections):
    """Who translates, and at what price."""

    engine: EngineName = "memory"
    """who translates"""
    languages: dict[Language, Override] = {}
    """target language to what is different for it, such as {engine: llm}"""
    variants: dict[Annotated[str, StringConstraints(pattern=r"^[a-z0-9]{1,8}$")], Variant] = {}
    """name to another translation of the same texts, beside the main one, as language <target>-x-<name>"""
    round_trip: RoundTrip | None = None
    """who translates all texts of the targets back into the source language, as languages <source>-x-<target> for training and
    evaluation: what translating alone costs"""
    translate_test: TranslateTest | None = None
    """who translates the leading benchmark back into the source language, for the row translate-test"""
    references: Text | None = None
    """TMX file of human translations; chrF++ against them goes into tables/translation.csv"""
    store: Text = "results/translation_store.sqlite"
    """SQLite file that keeps every translation ever made"""
    budget_characters: Annotated[int, Field(ge=0)] | None = None
    """the most characters that a paid engine may ever bill to the store"""
    price_per_million: Annotated[float, Field(ge=0)] = 20.0
    """what a paid engine charges for a million characters"""


class Adapter(Options):
    """Low-rank updates of the linear layers instead of their weights (LoRA, arXiv 2106.09685); the score head is trained whole."""

    kind: Literal["lora"]
    rank: Count = 16
    """rank of an update"""
    alpha: Annotated[float, Field(gt=0)] = 32
    """an update's factor is alpha / rank"""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """share of an update's inputs that a step leaves out"""
    target_modules: Literal["all-linear"] | Annotated[list[Text], Field(min_length=1)] = "all-linear"
    """names of the layers that get an update, such as q_proj"""
    merge: bool = True
    """whether the saved model is a whole one; false: the adapter alone, to be loaded onto the base model"""


class Training(Options):
    """What a reward model is."""

    learning_rate: Annotated[float, Field(gt=0)] = 1.0e-5
    """peak of the cosine schedule"""
    epochs: Count = 1
    """passes over the training pairs"""
    pairs: Annotated[list[Count], Distinct] = []
    """sizes of parts that source and targets are trained in too, as es.24; not for representation and best-of-n"""
    pairs_per_step: Count = 128
    """pairs in one optimiser step"""
    warmup_ratio: Annotated[float, Field(ge=0, lt=1)] = 0.1
    """share of the steps in which the learning rate rises"""
    head: Literal["normal", "zero", "probe"] = "normal"
    """how the score head starts: drawn from N(0, 1 / sqrt(hidden + 1)) as in the paper, at zero, or as a probe of the base model:
    a Bradley-Terry logistic regression on its states of the training pairs; of zero and probe a seed changes the order of pairs
    alone"""
    head_learning_rate: Annotated[float, Field(gt=0)] | None = None
    """peak rate of the score head; learning_rate if not given"""
    held_out: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """share of the preference pairs that is kept out of training, the same pairs in every language and training set"""
    evaluations: Annotated[int, Field(ge=2)] = 5
    """how often loss and accuracy on held-out pairs are measured: before the first step, after the last, and evenly between"""
    max_length: Annotated[int, Field(ge=8)] = 2048
    """tokens; a pair that is longer in any language is dropped in all of them"""
    freeze_embeddings: bool = False
    """whether the embedding table stays as it is"""
    frozen_layers: Annotated[int, Field(ge=0)] = 0
    """blocks, counted from the input, that stay as they are"""
    optimizer: Literal["adamw", "adamw_8bit", "paged_adamw_8bit"] = "adamw"
    """AdamW in fp32, or with a state of 8 bits (bitsandbytes, on a GPU); the paper: paged_adamw_8bit"""
    adapter: Adapter | None = None
    """train low-rank updates instead of the weights"""
    gradient_checkpointing: bool | Literal["auto"] = "auto"
    """compute activations twice instead of keeping them, at a third more work; auto: when memory runs out"""
    processes: Count = 1
    """GPUs that train one reward model together, with the same result as one"""


def unchanged_layers(recipe: Mapping[str, Any]) -> int:
    """First blocks that, embeddings included, stay as they were under ``training`` or ``alignment.training``."""
    return recipe["frozen_layers"] if recipe["freeze_embeddings"] else 0


class Mixture(Options):
    """A training set of several languages; keys are languages, each with its share."""

    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[Language, Annotated[float, Field(gt=0)]]

    pairs: Count | None = None
    """size; each pair once if not given; beyond that, some are in several languages"""

    @property
    def shares(self) -> dict[str, float]:
        """Language to its share."""
        return dict(self.__pydantic_extra__)


class Representation(Options):
    """How hidden states are compared."""

    centered: bool = False
    """whether the mean over languages is subtracted before singular values are taken"""


class AlignmentTraining(Options):
    """How a policy is aligned."""

    learning_rate: Annotated[float, Field(gt=0)] = 5.0e-7
    """peak of the cosine schedule"""
    epochs: Count = 1
    """passes over the instructions of all languages"""
    pairs_per_step: Count = 128
    """pairs in one optimiser step; of sft: answers"""
    warmup_ratio: Annotated[float, Field(ge=0, lt=1)] = 0.1
    """share of the steps in which the learning rate rises"""
    beta: Annotated[float, Field(gt=0)] = 0.1
    """dpo: how dear it is to move away from the policy that is aligned"""
    max_length: Annotated[int, Field(ge=8)] = 2048
    """tokens of an instruction with its answer; longer ones are left out and counted"""
    freeze_embeddings: bool = False
    """whether the embedding table stays as it is; an output matrix that is not the same table is trained"""
    frozen_layers: Annotated[int, Field(ge=0)] = 0
    """blocks, counted from the input, that stay as they are"""
    optimizer: Literal["adamw", "adamw_8bit", "paged_adamw_8bit"] = "adamw"
    """AdamW in fp32, or with a state of 8 bits (bitsandbytes, on a GPU)"""
    adapter: Adapter | None = None
    """train low-rank updates instead of the weights"""
    gradient_checkpointing: bool | Literal["auto"] = "auto"
    """compute activations twice instead of keeping them; auto: when memory runs out"""


class Alignment(Options):
    """What reward models buy a policy: the best of n of its answers, and policies aligned with them."""

    samples: Annotated[int, Field(ge=2)] = 4
    """answers sampled per instruction and language"""
    best_of: Annotated[list[Count], Field(min_length=1), Distinct] = [1, 2, 4]
    """sizes n of the sample that the best answer is picked from"""
    max_new_tokens: Count = 512
    """longest answer"""
    temperature: Annotated[float, Field(gt=0)] = 1.0
    """sampling temperature"""
    top_k: Count = 50
    """tokens that one is drawn from"""
    top_p: Annotated[float, Field(gt=0, le=1)] | None = None
    """the likeliest of them, up to this probability (nucleus sampling); all of them if not given"""
    engine: Literal["transformers", "vllm"] = "transformers"
    """what samples; vllm, where it is installed, gives answers of the same distribution and not the same ones"""
    reward_models: Annotated[list[Slug], Distinct] = []
    """names of reward_models that pick answers too, and judge what all others pick; baselines only pick"""
    methods: Annotated[list[Literal["dpo", "sft"]], Distinct] = []
    """how policies are aligned with a selector: dpo, on its best and its worst answer to each instruction; sft, on its best"""
    selectors: Annotated[list[Text], Field(min_length=1), Distinct] | None = None
    """what policies are aligned with, and whose picks are evaluated: training sets; in-language, each language's own model;
    names of alignment.reward_models. The source language and in-language if not given"""
    seeds: Annotated[list[Annotated[int, Field(ge=0)]], Field(min_length=1), Distinct] | None = None
    """those of seeds whose reward models select, with a policy for each; all if not given"""
    judges: Annotated[list[Slug], Distinct] = []
    """names of reward_models that compare answers to held_out_instructions with the policy's own, beside a panel of each base
    model's reward models"""
    training: AlignmentTraining = AlignmentTraining()
    """how a policy is aligned"""
    constraints: Text | None = None
    """JSON Lines of instructions whose answers code can check, in the format of IFEval; {language} in it, one file per language"""


class Figures(Options):
    """How figures look."""

    dpi: Annotated[int, Field(ge=72, le=1200)] = 300
    """pixels per inch of the PNG files"""
    font_size: Annotated[float, Field(ge=4, le=20)] = 8
    """points"""


class Resources(Options):
    """How fast, never what."""

    device: Literal["auto", "cpu", "cuda"] = "auto"
    """auto takes a GPU (in bf16) where there is one, else the CPU (in fp32)"""
    threads_per_job: Count | Literal["auto"] = "auto"
    """cores of one heavy job; auto: half of the cores given, with GPUs an even share for each, 8 on a cluster"""
    tokens_per_batch: Annotated[int, Field(ge=64)] = 16384
    """tokens, padding included, in one forward pass"""
    trunk_gigabytes: Annotated[float, Field(ge=0)] = 4
    """most disk that states of texts after the frozen layers may take, in results/<study>/.work; computed again beyond that"""
    checkpoint_minutes: Annotated[float, Field(ge=0)] = 10
    """how often a training state to resume from is written; 0 after every step"""
    requests_at_once: Annotated[int, Field(ge=1, le=64)] = 4
    """requests to a translation service or a judge under way at the same time"""


class Config(Options):
    """A study of reward-model transfer."""

    study: Slug
    """name of the folder under results/, of letters, digits, dots, hyphens and underscores"""
    languages: Languages
    """the languages of the study"""
    seeds: Annotated[list[Annotated[int, Field(ge=0)]], Field(min_length=1), Distinct] = [0]
    """one reward model per base model, training language and seed"""
    base_models: dict[Slug, BaseModel] = {}
    """the models that reward models are trained from; without any, only reward_models are evaluated"""
    chat: Chat = Chat()
    """what chat templates are told"""
    preferences: Rows | None = None
    """preference pairs to train on"""
    benchmarks: Annotated[dict[Slug, Benchmark], Field(min_length=1)]
    """name to preference pairs to judge; the first one leads: headline, hidden states, translate-test"""
    policies: dict[Slug, Policy] = {}
    """the models that answer instructions and are aligned; the base models if there are none"""
    instructions: Rows | None = None
    """prompts that policies answer, and are aligned on"""
    held_out_instructions: Rows | None = None
    """prompts that they are evaluated on; none of the instructions may be among them"""
    translation: Translation = Translation()
    """who translates what is not given in every language"""
    training: Training = Training()
    """what a reward model is"""
    mixtures: dict[Slug, Mixture] = {}
    """name to a training set of several languages: each with its share, of any positive total, such as {en: 9, ko: 1}"""
    reward_models: dict[Slug, RewardModel] = {}
    """name to an off-the-shelf reward model or a baseline, for the same tables"""
    representation: Representation = Representation()
    """how hidden states are compared"""
    alignment: Alignment = Alignment()
    """what reward models buy a policy"""
    figures: Figures = Figures()
    """how figures look"""
    resources: Resources = Resources()
    """how fast, never what"""

    def plain(self) -> dict[str, Any]:
        """Builtins only, as Snakemake compares them; keys without a value are left out."""
        return self.model_dump(exclude_none=True)


def load_config(given: Mapping[str, Any], root: Path) -> Config:
    """A checked configuration with its defaults filled in.

    Args:
        given: what the user's YAML file holds.
        root: folder that relative paths in it start from.

    Raises:
        StudyError: naming every offending key, its value and a remedy.
    """
    config = None
    try:
        config = Config.model_validate(given)
        problems = list(checks.problems_of(config, root))
    except ValidationError as problem:
        problems = [explain.explain(error, Config, given) for error in problem.errors()]
    if problems or config is None:
        raise StudyError(
            "the configuration has {} problem{}:\n{}".format(
                len(problems), "s" if len(problems) > 1 else "", "\n".join(f"  - {p}" for p in problems)
            )
        )
    return config

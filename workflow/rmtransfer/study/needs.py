"""What each kind of job asks of a cluster: memory, minutes and disk, from the size of its model and the number of its texts.

One source for the rules and for ``snakemake plan``. Asked for generously, because a job that is killed costs more than one that
ends early: memory is the peak that :mod:`rmtransfer.study.footprint` counts and a quarter more; a job's minutes are its
arithmetic at a rate that a fast machine keeps up, times four, because machines differ that much, and ten for imports, loading
and saving. An attempt after the first asks for as many times more. Texts are counted by their bytes, languages as the source's.

Snakemake asks while it parses and for thousands of jobs: nothing heavy is imported, and a file is read once.
"""

from collections.abc import Iterable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

from rmtransfer.study import catalogue, footprint
from rmtransfer.study.aligning import Aligning
from rmtransfer.study.footprint import Recipe, Shape
from rmtransfer.study.names import CONSTRAINTS, HELD_OUT, INSTRUCTIONS
from rmtransfer.study.study import PREFERENCES, RewardModelId, Study

GPU_RATE = 400e12  # operations a second that are kept up: an H100 in bf16 at 40 % of its peak
_CORE_RATE = 60e9  # of one core in fp32, with AVX-512: README, "Time and memory"
_SLACK = 4  # a study took 4 times as long on a processor without AVX-512; an A100 has a third of an H100's peak
_START = 600.0  # seconds
_MARGIN = 1.25  # of memory and disk
_AROUND = 1e9  # bytes of memory: Python, and two Snakemakes that a cluster's job runs in; of disk: all that is small
# Decoding reads all weights for each token of a batch, so that of the arithmetic a tenth is kept up at best.
DECODING = 10
BYTES_PER_TOKEN = 4.0  # English; other scripts have more bytes to a character and fewer characters to a token
_ASSUMED = 3e9  # parameters of a model that is not here and whose name says nothing
_DOWNLOAD = 20e6  # bytes a second
_TEXTS_A_SECOND = 10.0  # of a translation service, for each of the requests under way: 50 texts in 5 s
_REPLY = 10.0  # seconds of a judge behind a server
_OF_ROWS = 6  # bytes of a row as Python holds it, for each of its texts
_OF_TMX = 10  # bytes of a translation memory, likewise
_OF_OUTCOMES = 80  # bytes for an item and a column of outcomes: ten copies in fp64
_PERMUTATIONS = 100_000  # transfer/statistics.py, which imports numpy
_ANSWERS = 2
_SENTENCE = 50  # tokens


class UnknownSizeError(Exception):
    """A model or rows are not here yet, and nothing says how large they will be."""


class Need(NamedTuple):
    """What a job needs, as it is counted.

    Attributes:
        memory: bytes beside those of any job of Python; so is ``disk``, what it writes for good and meanwhile.
        seconds: of arithmetic or of waiting, on the fastest of machines.
    """

    memory: float = 0.0
    seconds: float = 0.0
    disk: float = 0.0

    def asked(self, attempt: int = 1) -> dict[str, int]:
        """What is asked for, as Snakemake's resources: ``mem_mb``, ``runtime`` in minutes, ``disk_mb``."""
        asked = {
            "mem_mb": (_AROUND + _MARGIN * self.memory) / 1e6,
            "runtime": (_START + _SLACK * self.seconds) / 60,
            "disk_mb": (_AROUND + _MARGIN * self.disk) / 1e6,
        }
        return {name: round(value) * attempt for name, value in asked.items()}


SMALL = Need()


def largest(needs: Iterable[Need]) -> Need:
    """What suffices for each of some jobs."""
    return Need(*map(max, zip(*needs, strict=True)))


class Texts(NamedTuple):
    """How much text a part has in a language.

    Attributes:
        rows: how many rows.
        bytes: of all their texts.
        tokens: that a model reads of them: a prompt with each answer.
    """

    rows: int
    bytes: float
    tokens: float


class Needs:
    """The needs of a study's jobs.

    Args:
        root: folder that paths start from.
        gpu: whether models compute on a GPU.
        threads: cores of a job that runs a model on the CPU.
    """

    def __init__(self, study: Study, root: Path, *, gpu: bool, threads: int) -> None:
        self.study, self.root, self.gpu = study, root, gpu
        self.aligning = Aligning(study)
        self.rate = GPU_RATE if gpu else _CORE_RATE * threads
        config = study.config
        self.recipe = Recipe.of(config.training.model_dump())
        self.tokens_per_batch = config.resources.tokens_per_batch

    # What there is.

    def shape(self, base: str) -> Shape:
        """The sizes of a base model.

        Raises:
            UnknownSizeError: it is not here yet.
        """
        return self.shape_of(self.study.at.base_model.fill(base=base), self.study.config.base_models[base].path)

    def shape_of(self, *places: str) -> Shape:
        """The sizes of a model in the first of some folders that is there; the last place is what the config calls it.

        Raises:
            UnknownSizeError: none is.
        """
        for place in places:
            folder = self.root / Path(place).expanduser()
            try:
                return _shape_of(folder, folder.stat().st_mtime_ns)
            except (OSError, ValueError):  # not there, or damaged, which the job will say
                continue
        raise UnknownSizeError(places[-1])

    def _shape_or_name(self, location: str) -> Shape:
        """Of a model that a job downloads itself: from its folder, from its name, or as assumed."""
        try:
            return self.shape_of(location)
        except UnknownSizeError:
            return Shape.like(footprint.parameters_named(location) or _ASSUMED)

    def texts(self, part: str) -> Texts:
        """How much text a part has in its first language; before it is imported, what the config expects.

        Raises:
            UnknownSizeError: nothing says it.
        """
        path = self.root / self.study.rows(part)[0]
        try:
            return _texts_of(path, path.stat().st_mtime_ns)
        except (OSError, ValueError):  # as above
            expected = self.study.parts[part].expected
            if expected is None:
                raise UnknownSizeError(part) from None
            size = expected.rows * expected.characters
            return Texts(expected.rows, size, size / BYTES_PER_TOKEN)

    def trained_pairs(self, training_set: str) -> float:
        """How many pairs a training set holds; what is held out (:mod:`rmtransfer.texts.split`) is not among them."""
        size = self.study.training_sets[training_set].pairs
        rows = self.texts(PREFERENCES).rows
        return rows - round(rows * self.study.config.training.held_out) if size is None else size

    # Bringing models and texts in.

    def preparing(self, base: str) -> Need:
        """To bring a base model into the study: download, convert, write."""
        entry = self.study.config.base_models[base]
        parameters = self._shape_or_name(entry.path).parameters
        # Of a GGUF file 8.5 bytes a parameter were seen: dequantised to fp32, and once more as it is packed.
        packed = catalogue.base_model_source(entry) == "package"
        held, written = (9, 5) if packed else (4, 4)
        return self._reading(held * parameters, written * parameters)

    def fetching(self, name: str, key: str) -> Need:
        """To download one of ``reward_models``, in 16 bits."""
        download = self.study.download(name, key)
        if download["tokenizer_only"]:
            return SMALL
        return self._reading(_AROUND, 2 * (footprint.parameters_named(download["model"]) or _ASSUMED))

    def _reading(self, memory: float, written: float) -> Need:
        return Need(memory, written / _DOWNLOAD, written)

    def importing(self, part: str) -> Need:
        """To read, validate and store a part's rows in one language."""
        try:
            size = self.texts(part).bytes
        except UnknownSizeError:
            # A file of the user's: its size says it.
            paths = [self.root / path for path in self.study.source_files(part, self.study.source)]
            size = sum(path.stat().st_size for path in paths if path.is_file())
        return Need(_OF_ROWS * size, size / _DOWNLOAD, 2 * size)

    def translating(self, spec: Mapping[str, Any], part: str) -> Need:
        """To translate a part into one language."""
        texts = self.texts(part)
        options = spec["options"]
        engine = catalogue.load(catalogue.ENGINES, spec["engine"])
        memory, disk = _OF_ROWS * texts.bytes, 4 * texts.bytes
        if engine.runs_a_model:
            shape = self._shape_or_name(options["model"])
            # Each token is read, and one is written; beams are written side by side.
            written = shape.writing * DECODING * options.get("beams", 1)
            seconds = texts.bytes / BYTES_PER_TOKEN * (shape.reading + written) / self.rate
            memory += self._decoding(shape, _SENTENCE)
            return Need(memory, seconds, disk + 2 * shape.parameters)
        files = [self.root / path for path in engine.files(options)]
        memory += _OF_TMX * sum(path.stat().st_size for path in files if path.is_file())
        asked = texts.rows * (1 if part in (INSTRUCTIONS, HELD_OUT) else 1 + _ANSWERS) if engine.paid else 0
        rate = _TEXTS_A_SECOND * self.study.config.resources.requests_at_once
        return Need(memory, asked / rate, disk)

    def going_through(self, parts: Iterable[str], languages: int = 1) -> Need:
        """To go through all texts of some parts in some languages: counting, looking up, comparing."""
        size = sum(self.texts(part).bytes for part in parts)
        return Need(_OF_ROWS * size * languages, size * languages / _DOWNLOAD, 2 * size * languages)

    def selecting(self) -> Need:
        """To decide which rows are kept: one part at a time in all languages, with the tokenizer of each base."""
        each = largest(
            self.going_through([part], len(self.study.languages_of(part)) + len(self.study.translated_back))
            for part in self.study.parts
        )
        tokenizers = 0.5e9 * len(self.study.bases)
        return each._replace(memory=each.memory + tokenizers, seconds=each.seconds * (1 + 2 * len(self.study.bases)))

    # Running models.

    def training(self, reward_model: str) -> Need:
        """To train one of our reward models, reload and rescore it."""
        base, train, _ = RewardModelId.parse(reward_model)
        shape, texts, config = self.shape(base), self.texts(PREFERENCES), self.study.config
        of_a_pair = texts.tokens / max(1, texts.rows)
        held_out = round(texts.rows * config.training.held_out)
        tokens = of_a_pair * self.trained_pairs(train)
        # The probe that a head may start as reads every pair once; so does each look at the held-out ones.
        read = tokens * (config.training.head == "probe") + of_a_pair * held_out * config.training.evaluations
        operations = config.training.epochs * tokens * footprint.training_operations(shape, self.recipe)
        operations += read * shape.reading
        longest = 2 * config.training.max_length
        if self.gpu:
            memory = footprint.host_bytes(4 * shape.parameters, processes=self.recipe.processes)
        else:
            memory = footprint.training_bytes(shape, self.recipe, max(self.tokens_per_batch, longest), gpu=False)
        own = shape.parameters - self.recipe.unchanged(shape)
        trunk = (
            min(config.resources.trunk_gigabytes * 1e9, 4 * shape.hidden * tokens) if self.recipe.frozen_layers else 0
        )
        # The model, whole until it shares what is the base's, and a training state of up to four times what is trained.
        disk = 4 * shape.parameters + 16 * own + trunk
        rate = self.rate * (self.recipe.processes if self.gpu else 1)
        return Need(memory, operations / rate, disk)

    def scoring(self, reward_model: str, benchmark: str) -> Need:
        """To score a benchmark, or to compute the hidden states of any part, in all of its languages."""
        texts, languages = self.texts(benchmark), len(self.study.scored_in(reward_model, benchmark))
        need = self._scoring(reward_model, texts.tokens * languages, texts.rows * languages)
        base = RewardModelId.parse(reward_model).base_model
        states = texts.rows * languages * _ANSWERS * 4 * self.shape(base).hidden if base in self.study.bases else 0
        return need._replace(
            memory=need.memory + _OF_ROWS * texts.bytes * languages, disk=need.disk + states + texts.bytes * languages
        )

    def scoring_answers(self, reward_model: str, policy: str, part: str) -> Need:
        """To score what a policy answered in all languages."""
        answers, tokens = self._answers(policy, part)
        return self._scoring(reward_model, tokens, answers / _ANSWERS)

    def judging(self, reward_model: str, policy: str) -> Need:
        """To compare everybody's answers to the held-out instructions with the policy's own, in all languages."""
        answers, tokens = self._answers(policy, HELD_OUT)
        each, contenders = self.aligning.samples(policy, HELD_OUT), len(self.aligning.contenders(policy))
        # Picks are among the policy's own answers, and no text is computed twice; of a judge each pair is asked.
        distinct = each + len(self.aligning.aligned(policy))
        return self._scoring(reward_model, tokens / each * distinct, contenders * answers / each)

    def _scoring(self, reward_model: str, tokens: float, rows: float) -> Need:
        scorer = RewardModelId.parse(reward_model)
        if scorer.base_model in self.study.bases:
            return self._forward([self.shape(scorer.base_model)], tokens, vocabulary=False)
        options = self.study.config.reward_models[scorer.base_model]
        kind = catalogue.load(catalogue.REWARD_MODELS, options.kind)
        asked = _ANSWERS * rows  # in both orders, or each answer
        if self.study.asks_a_server(reward_model):
            return Need(_AROUND, asked * _REPLY / self.study.config.resources.requests_at_once)
        if not kind.runs_a_model(options):
            return SMALL
        shapes = self.shapes(scorer.base_model)
        reply = getattr(options, "max_new_tokens", 0)
        if reply:  # a judge, which writes
            (shape,) = shapes
            operations = shape.reading * tokens * _ANSWERS + shape.writing * DECODING * asked * reply
            return Need(self._decoding(shape, reply), operations / self.rate)
        return self._forward(shapes, tokens, vocabulary=kind.reads_vocabulary)

    def shapes(self, name: str) -> list[Shape]:
        """The sizes of the models that one of ``reward_models`` is made of.

        Raises:
            UnknownSizeError: one is not here yet.
        """
        options = self.study.config.reward_models[name]
        folders = self.study.model_folders(name, self.root)
        kind = catalogue.load(catalogue.REWARD_MODELS, options.kind)
        return [self.shape_of(folders[key], getattr(options, key)) for key in kind.models if key in folders]

    def _forward(self, shapes: list[Shape], tokens: float, vocabulary: bool) -> Need:
        """To read texts with some models at a time."""
        operations = sum((shape.writing if vocabulary else shape.reading) * tokens for shape in shapes)
        if self.gpu:
            memory = footprint.host_bytes(sum(2 * shape.parameters for shape in shapes))
        elif vocabulary:
            memory = sum(footprint.likelihood_bytes(shape, self.tokens_per_batch) for shape in shapes)
        else:
            memory = sum(footprint.scoring_bytes(shape, self.tokens_per_batch, gpu=False) for shape in shapes)
        return Need(memory, operations / self.rate)

    def sampling(self, writer: str, part: str) -> Need:
        """To sample answers to prompts in all languages."""
        shape, alignment = self.shape_of_policy(writer), self.study.config.alignment
        answers, tokens = self._answers(writer, part)
        new = answers * alignment.max_new_tokens
        operations = shape.reading * (tokens - new) + shape.writing * DECODING * new
        return Need(self._decoding(shape, alignment.max_new_tokens), operations / self.rate)

    def aligning_policy(self, aligned: str) -> Need:
        """To align a policy on its best and worst answers to the instructions of all languages, and to reload it."""
        policy, config = self.aligning.policy_of(aligned), self.study.config
        shape, recipe = (
            self.shape_of_policy(policy),
            Recipe.of({**config.alignment.training.model_dump(), "processes": 1}),
        )
        _, tokens = self._answers(policy, INSTRUCTIONS)
        chosen = _ANSWERS / self.aligning.samples(policy, INSTRUCTIONS)  # best and worst
        passes = config.alignment.training.epochs * footprint.training_operations(shape, recipe) + shape.reading
        # The vocabulary's share of a pass that writes, there and back and once for the reference.
        passes += (1 + 2 * config.alignment.training.epochs) * (shape.writing - shape.reading)
        if self.gpu:
            memory = footprint.host_bytes(4 * shape.parameters)
        else:
            most = max(self.tokens_per_batch, 2 * config.alignment.training.max_length)
            memory = footprint.training_bytes(shape, recipe, most, gpu=False)
            memory += footprint.likelihood_bytes(shape, self.tokens_per_batch)
        own = shape.parameters - recipe.unchanged(shape)
        return Need(memory, tokens * chosen * passes / self.rate, 4 * shape.parameters + 16 * own)

    def drifting(self, aligned: str) -> Need:
        """To read an aligned policy's answers by itself and by what it is made of."""
        shape = self.shape_of_policy(aligned)
        _, tokens = self._answers(aligned, HELD_OUT)
        return self._forward([shape, shape], tokens, vocabulary=True)

    def preparing_policy(self, policy: str) -> Need:
        """To bring a policy into the study."""
        entry = self.aligning.entries[policy]
        parameters = self._shape_or_name(self.aligning.base_of(policy) or entry.path).parameters
        return self._reading(4 * parameters, 4 * parameters)

    def shape_of_policy(self, writer: str) -> Shape:
        """The sizes of a policy, or of one that is made of it.

        Raises:
            UnknownSizeError: it is not here yet.
        """
        policy = self.aligning.policy_of(writer)
        base = self.aligning.base_of(policy)
        if base is not None:
            return self.shape(base)
        return self.shape_of(self.aligning.folder(policy), self.aligning.entries[policy].path)

    def _answers(self, writer: str, part: str) -> tuple[int, float]:
        """How many answers are sampled in all languages, and of how many tokens with their prompts."""
        samples, languages = self.aligning.samples(writer, part), len(self.aligning.languages_of(part))
        # What code checks are a few hundred rows at most, as long as instructions are.
        texts = self.texts(INSTRUCTIONS if part == CONSTRAINTS else part)
        answers = texts.rows * samples * languages
        return answers, samples * texts.tokens * languages + answers * self.study.config.alignment.max_new_tokens

    def _decoding(self, shape: Shape, new_tokens: int) -> float:
        """Bytes of memory."""
        if self.gpu:
            return footprint.host_bytes(2 * shape.parameters)
        tokens = footprint.DECODING_FACTOR * self.tokens_per_batch
        return footprint.sampling_bytes(shape, tokens, max(1, tokens // new_tokens), gpu=False)

    # Tables.

    def heads(self, benchmark: str) -> Need:
        """To put linear heads onto hidden states that are there, of a benchmark and of the pairs that they are fitted to."""
        hidden = max((self.shape(base).hidden for base in self.study.bases), default=0)
        rows = self.texts(benchmark).rows * len(self.study.languages) + self.texts(PREFERENCES).rows
        size = _ANSWERS * rows * 4 * hidden
        return Need(4 * size, self.texts(PREFERENCES).rows * hidden**2 * 100 / _CORE_RATE)

    def representing(self) -> Need:
        """To compare the hidden states of all models: singular values of every text's, and principal components of all."""
        shapes = {base: self.shape(base) for base in self.study.bases}
        texts, languages = _ANSWERS * self.texts(self.study.leading).rows, len(self.study.languages)
        of = {base: 4.0 * texts * languages * shape.hidden for base, shape in shapes.items()}
        models = [model.base_model for model in self.study.full_reward_models] + self.study.bases
        # A singular value decomposition takes some ten operations a number and smaller side (Golub and Van Loan, Matrix
        # Computations, 4th ed., section 8.6).
        operations = sum(
            10.0 * texts * languages * shapes[base].hidden * (languages + min(shapes[base].hidden, texts * languages))
            for base in models
        )
        largest_states = max(of.values(), default=0.0)
        return Need(sum(of.values()) + 8 * largest_states, operations / _CORE_RATE)

    def comparing(self, benchmark: str) -> Need:
        """To turn a benchmark's scores into tables: outcomes of every item and column, and their resamples."""
        columns = sum(len(self.study.scored_in(s.id, benchmark)) for s in self.study.scorers(benchmark))
        outcomes = float(self.texts(benchmark).rows * columns)
        return Need(_OF_OUTCOMES * outcomes, 2 * _PERMUTATIONS * outcomes / _CORE_RATE)


@lru_cache(maxsize=256)
def _shape_of(folder: Path, changed: int) -> Shape:
    """The sizes of a model's folder, as long as it does not change."""
    return Shape.of_folder(folder) or Shape.like(footprint.parameters_of(folder) or _ASSUMED)


@lru_cache(maxsize=256)
def _texts_of(path: Path, changed: int) -> Texts:
    """The text in a Parquet file of rows, from its footer, as long as it does not change."""
    import pyarrow.parquet as pq

    metadata = pq.ParquetFile(path).metadata
    size = {"prompt": 0.0, "chosen": 0.0, "rejected": 0.0}
    for group in range(metadata.num_row_groups):
        for number in range(metadata.num_columns):
            column = metadata.row_group(group).column(number)
            field = column.path_in_schema.partition(".")[0]
            if field in size:
                size[field] += column.total_uncompressed_size
    pairs = size["chosen"] > 0
    whole = sum(size.values())
    return Texts(metadata.num_rows, whole, (whole + size["prompt"] * pairs) / BYTES_PER_TOKEN)

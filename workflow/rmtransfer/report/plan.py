"""What a study will cost, before it costs anything."""

import json
import math
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cache, partial
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from rmtransfer.kit.devices import visible_devices
from rmtransfer.kit.machine import computes_on_gpu, memory_here, threads_per_job
from rmtransfer.kit.progress import report
from rmtransfer.study import catalogue, footprint
from rmtransfer.study.config import load_config
from rmtransfer.study.footprint import Shape
from rmtransfer.study.names import BASE, HELD_OUT, INSTRUCTIONS
from rmtransfer.study.needs import BYTES_PER_TOKEN, GPU_RATE, SMALL, Need, Needs, Texts, UnknownSizeError, largest
from rmtransfer.study.study import PREFERENCES, RewardModelId, Study
from rmtransfer.texts.corpus import fields_of, texts_of
from rmtransfer.translation.budget import plan_translation, quota_sentence
from rmtransfer.translation.engines import PAID


def print_plan(
    config: Mapping[str, Any],
    ways: Sequence[Mapping[str, Any]],
    rows: Mapping[str, Path],
    store: Path,
    root: Path,
) -> None:
    """Report what a study will cost.

    Args:
        config: the study's configuration.
        ways: what is translated into what, see :meth:`rmtransfer.study.study.Study.ways`.
        rows: part to the Parquet file of its rows in the source language, or its own, for parts that are there.
        store: the translation store.
    """
    study = Study(load_config(config, root))
    expected = {
        part: entry.expected.model_dump()
        for part, entry in study.parts.items()
        if part not in rows and entry.expected is not None
    }
    entries = plan_translation(ways, rows, store, root, expected)
    report("\n" + render_plan(study, entries, rows, root, quota_sentence(ways, root)))


def render_plan(
    study: Study, entries: Sequence[Mapping[str, Any]], rows: Mapping[str, Path], root: Path, quota: str
) -> str:
    """The plan as text: translation first, then the model stages, then what a cluster is asked for.

    Args:
        entries: what translating will ask, with the keys of ``rmtransfer.translation.budget.COLUMNS``.
        rows: part to the Parquet file of its rows, for parts that are there.
        quota: what is known of the account, in a sentence; may be empty.
    """
    translation = study.config.translation
    lines = []
    for part, entry in study.parts.items():
        if part in rows:
            continue
        assumed = entry.expected
        what = f"{assumed.rows:,} rows of {assumed.characters:,} characters assumed" if assumed else "not counted"
        path = study.rows(part)[0]
        lines.append(f"{part}: not downloaded yet, {what}; snakemake {path} makes this exact")
    lines += ["Translation"]
    if entries:
        price = translation.price_per_million
        lines.append(
            f"  {'language':<16}{'engine':<10}{'texts':>10}{'unique':>10}{'stored':>10}{'to ask':>10}{'characters':>14}{'price':>10}"
        )
        for e in entries:
            cost = f"{e['characters'] * price / 1e6:,.2f}" if e["engine"] in PAID else "-"
            lines.append(
                f"  {e['language']:<16}{e['engine']:<10}{e['texts']:>10,}{e['unique']:>10,}{e['stored']:>10,}"
                f"{e['segments']:>10,}{e['characters']:>14,}{cost:>10}"
            )
        paid = sum(e["characters"] for e in entries if e["engine"] in PAID)
        lines.append(f"  to pay: {paid:,} characters, about {paid * price / 1e6:,.2f} at {price:g} a million")
        budget = translation.budget_characters
        if budget is not None:
            lines.append(f"  budget: {budget:,} characters" + (" - DOES NOT SUFFICE" if paid > budget else ""))
        if quota:
            lines.append(f"  {quota}")
    else:
        lines.append("  none: every file is there in every language")
    lines += ["", *_plan_models(study, rows, root), "", *_plan_jobs(study, root)]
    return "\n".join(lines)


class _Asking(Needs):
    """The needs of a study with what the hub says of models that are not here yet, or their names."""

    def shape_of(self, *places: str) -> Shape:
        """See :class:`rmtransfer.study.needs.Needs`."""
        try:
            return super().shape_of(*places)
        except UnknownSizeError:
            shape = _shape_on_the_hub(places[-1], self._revisions().get(places[-1]))
            if shape is None:
                raise
            return shape

    def _revisions(self) -> dict[str, str | None]:
        """Hub id to commit."""
        config = self.study.config
        models = [*config.base_models.values(), *config.policies.values()]
        found = {model.path: getattr(model, "revision", None) for model in models}
        for options in self.study.config.reward_models.values():
            kind = catalogue.load(catalogue.REWARD_MODELS, options.kind)
            found |= {getattr(options, key): getattr(options, pin, None) for key, pin in kind.models.items()}
        return found


class _Counting(_Asking):
    """The same on a GPU, with tokens counted by a tokenizer.

    Args:
        rows: part to the Parquet file of its rows, for parts that are there.
        tokenizer: folder of the model whose tokens count, if it is there.
    """

    def __init__(self, study: Study, root: Path, rows: Mapping[str, Path], tokenizer: Path) -> None:
        super().__init__(study, root, gpu=True, threads=1)
        self._rows, self._tokenizer = rows, tokenizer
        self._texts: dict[str, Texts] = {}

    def texts(self, part: str) -> Texts:
        """See :class:`rmtransfer.study.needs.Needs`; nothing of what nobody knows."""
        if part not in self._texts:
            if part in self._rows:
                count = pq.ParquetFile(self._rows[part]).metadata.num_rows
                tokens = _tokens(self._rows[part], part, self._tokenizer)
                self._texts[part] = Texts(count, tokens * BYTES_PER_TOKEN, tokens)
            else:
                self._texts[part] = super().texts(part) if self.study.parts[part].expected else Texts(0, 0, 0)
        return self._texts[part]


def _plan_models(study: Study, rows: Mapping[str, Path], root: Path) -> Iterator[str]:
    config, languages = study.config, len(study.languages)

    def hours(needs: Iterable[Need]) -> float:
        return sum(need.seconds for need in needs) / 3600

    yield "Models"
    disk = 0.0
    total = 0.0
    known = True
    for name, base in config.base_models.items():
        needs = _Counting(study, root, rows, Path(study.at.base_model.fill(base=name)))
        models, full = (
            [model.id for model in these if model.base_model == name]
            for these in (study.reward_models, study.full_reward_models)
        )
        pairs = needs.texts(PREFERENCES)
        yield (
            f"  {name}: {len(models)} reward models, a language's tokens: {round(pairs.tokens):,} to train on, "
            f"{round(sum(needs.texts(part).tokens for part in study.benchmarks)):,} to score"
        )
        try:
            shape = needs.shape(name)
        except UnknownSizeError:
            known = False
            yield f"    size unknown until {base.path} is downloaded: no estimate of hours and disk"
            continue
        scored = [
            needs.scoring(scorer.id, benchmark)
            for benchmark in study.benchmarks
            for scorer in study.scorers(benchmark)
            if scorer.base_model == name
        ]
        scored += [needs.scoring(RewardModelId(name, BASE).id, part) for part in study.embedded(name)]
        stages = {
            "training": hours(needs.training(model) for model in models),
            "scoring": hours(scored),
        }
        states = 8 * needs.texts(study.leading).rows * shape.hidden * (len(full) + 1) * languages
        # What training leaves as it is, all models of a base share.
        disk += 4.0 * (shape.parameters + (shape.parameters - needs.recipe.unchanged(shape)) * len(models)) + states
        total += sum(stages.values())
        each = ", ".join(f"{stage} {taken:,.2f} h" for stage, taken in stages.items())
        yield f"    {shape.parameters / 1e9:.2f}B parameters: {each}"
        yield from _plan_memory(study, shape)
    needs = _Counting(study, root, rows, Path(study.at.folder))
    for policy in needs.aligning.policies:
        try:
            of_alignment = {
                kind.partition(" ")[0]: hours(need() for need in these)
                for kind, gpus, these in _jobs_of_alignment(study, needs)
                if gpus and kind.endswith(f" {policy}")
            }
        except UnknownSizeError as unknown:
            known = False
            yield f"  policy {policy}: size of {unknown} unknown until it is downloaded: no estimate"
            continue
        written = len(needs.aligning.aligned(policy)) + (policy in needs.aligning.own_models)
        disk += 4.0 * needs.shape_of_policy(policy).parameters * written
        total += sum(of_alignment.values())
        each = ", ".join(f"{kind.replace('_', ' ')} {taken:,.2f} h" for kind, taken in of_alignment.items())
        yield f"  policy {policy}: {each}"
    for name, options in config.reward_models.items():
        yield f"  {name}: {options.kind}"
        kind = catalogue.load(catalogue.REWARD_MODELS, options.kind)
        if not kind.runs_a_model(options):
            continue
        try:
            taken = hours(needs.scoring(name, benchmark) for benchmark in study.benchmarks)
            sizes = [shape.parameters for shape in needs.shapes(name)]
        except UnknownSizeError as unknown:
            known = False
            yield f"    size of {unknown} unknown until it is downloaded: no estimate of hours and disk"
            continue
        disk += 2.0 * sum(sizes)  # as published, in bf16
        total += taken
        yield f"    {' and '.join(f'{size / 1e9:.2f}B' for size in sizes)} parameters: scoring {taken:,.2f} h"
    yield (
        f"  in all: {'' if known else 'at least '}{total:,.2f} GPU hours at {GPU_RATE / 1e12:.0f} TFLOP/s, "
        f"{disk / 1e9:,.1f} GB on disk"
    )
    yield "  Every language is counted at the source's tokens; others need 1.2 to 2 times as many."


def _plan_jobs(study: Study, root: Path) -> Iterator[str]:
    """What the rules ask of a cluster for each kind of job, by the same functions."""
    resources = study.config.resources
    gpu = computes_on_gpu(resources.device, local=False, gpus=0)
    needs = _Asking(study, root, gpu=gpu, threads=threads_per_job(resources.threads_per_job, None, local=False, gpus=0))
    yield "What a job asks of a cluster; its second attempt asks for twice as much"
    yield f"  {'job':<44}{'jobs':>7}{'memory':>12}{'minutes':>9}{'GPUs':>6}{'disk':>12}"
    for name, gpus, these in _kinds_of_jobs(study, needs):
        try:
            asked = largest(need() for need in these).asked()
            sizes = (f"{asked['mem_mb'] / 1000:,.1f} GB", f"{asked['runtime']:,}", f"{asked['disk_mb'] / 1000:,.1f} GB")
        except UnknownSizeError:
            sizes = ("known later", "", "")
        memory, minutes, disk = sizes
        yield f"  {name:<44}{len(these):>7,}{memory:>12}{minutes:>9}{gpus * gpu:>6}{disk:>12}"
    least = SMALL.asked()
    yield f"  all others: {least['mem_mb'] / 1000:,.1f} GB, {least['runtime']} minutes, or little more"


def _kinds_of_jobs(study: Study, needs: Needs) -> Iterator[tuple[str, int, Sequence[Callable[[], Need]]]]:
    """Kinds of jobs by name, each with the GPUs that a job takes, if any are taken, and the needs of all of its jobs."""
    for base in study.bases:
        yield f"prepare_base_model {base}", 0, [partial(needs.preparing, base)]
    engines: dict[str, list] = {}
    for way in study.ways():
        kind = engines.setdefault(way["spec"]["engine"], [])
        kind += [(way["spec"], part) for part in way["rows"]]
    for engine, these in engines.items():
        gpus = int(study.runs_a_model(these[0][0]))
        yield f"translate_rows {engine}", gpus, [partial(needs.translating, *each) for each in these]
    yield "select_rows", 0, [needs.selecting]
    for base in study.bases:
        models = [model.id for model in study.reward_models if model.base_model == base]
        embedding = [partial(needs.scoring, RewardModelId(base, BASE).id, part) for part in study.embedded(base)]
        scoring = [
            partial(needs.scoring, scorer.id, benchmark)
            for benchmark in study.benchmarks
            for scorer in study.scorers(benchmark)
            if scorer.base_model == base
        ]
        processes = study.config.training.processes
        yield f"train_reward_model {base}", processes, [partial(needs.training, model) for model in models]
        yield f"embed_base {base}", 1, embedding
        yield f"score {base}", 1, scoring
    for name in study.config.reward_models:
        if not study.reads_states(name):
            gpus = int(study.loads_weights(name))
            yield f"score {name}", gpus, [partial(needs.scoring, name, benchmark) for benchmark in study.benchmarks]
    yield from _jobs_of_alignment(study, needs)
    if study.bases:
        yield "analyse_representations", 0, [needs.representing]
    yield "evaluate_transfer", 0, [partial(needs.comparing, benchmark) for benchmark in study.benchmarks]


def _jobs_of_alignment(study: Study, needs: Needs) -> Iterator[tuple[str, int, Sequence[Callable[[], Need]]]]:
    """As :func:`_kinds_of_jobs`, of what a policy goes through."""
    aligning = needs.aligning
    for policy in aligning.policies:
        if policy in aligning.own_models:
            yield f"prepare_policy {policy}", 0, [partial(needs.preparing_policy, policy)]
        parts = [part for part in (INSTRUCTIONS, HELD_OUT) if part in aligning.parts_of(policy)]
        scored = {INSTRUCTIONS: aligning.scorers(policy)}
        if aligning.evaluates:
            models = [m for s in aligning.selectors(policy) for m in aligning.selecting_models(s).values()]
            scored[HELD_OUT] = list(dict.fromkeys(models))
        aligned = aligning.aligned(policy)
        answered = [(writer, part) for writer in [policy, *aligned] for part in aligning.parts_of(writer)]
        yield f"sample_answers {policy}", 1, [partial(needs.sampling, *each) for each in answered]
        scoring = [partial(needs.scoring_answers, m.id, policy, part) for part in parts for m in scored[part]]
        yield f"score_answers {policy}", 1, scoring
        if aligning.evaluates:
            for gpus in (1, 0):
                judges = [model.id for model in aligning.judging if study.loads_weights(model.id) == bool(gpus)]
                judging = [partial(needs.judging, model, policy) for model in judges]
                if judging:
                    yield f"judge_comparisons {policy}" + ("" if gpus else ", others"), gpus, judging
        if aligned:
            yield f"align_policy {policy}", 1, [partial(needs.aligning_policy, each) for each in aligned]
            yield f"measure_drift {policy}", 1, [partial(needs.drifting, each) for each in aligned]


def _plan_memory(study: Study, shape: Shape) -> Iterator[str]:
    """What a job of each kind needs at its peak, next to what there is; without a GPU here, also what it needs on one."""
    config, training = study.config, study.config.training.model_dump()
    device, tokens = config.resources.device, config.resources.tokens_per_batch
    longest = 2 * config.training.max_length  # at most
    answers = max(1, footprint.DECODING_FACTOR * tokens // config.alignment.max_new_tokens)
    here = device == "cuda" or (device == "auto" and bool(visible_devices()))
    for gpu in (True, False):
        if gpu != here and not (gpu and device == "auto"):
            continue
        recipe, most = footprint.Recipe.of(training), max(tokens, longest)
        sizes = {
            "training": footprint.training_bytes(shape, recipe, most, gpu),
            "scoring": footprint.scoring_bytes(shape, tokens, gpu),
            "sampling": footprint.sampling_bytes(shape, footprint.DECODING_FACTOR * tokens, answers, gpu),
        }
        need = sizes["training"]
        twice = footprint.training_bytes(shape, recipe._replace(checkpointing=True), longest, gpu)
        room = memory_here(gpu) if gpu == here else None
        yield (
            f"    memory of a job on {'a GPU' if gpu else 'the CPU'}: training {need / 1e9:.1f} GB"
            + (
                f" ({twice / 1e9:.1f} in smaller passes with activations computed twice)"
                if twice < need and not (room and need <= room.bytes)
                else ""
            )
            + f", scoring {sizes['scoring'] / 1e9:.1f} GB, sampling {sizes['sampling'] / 1e9:.1f} GB"
            + (f"; {room.name} has {room.bytes / 1e9:.1f} GB" if room else "")
        )
        warnings = [footprint.training_warning(shape, training, tokens, longest, gpu, room)]
        if room:
            for kind in ("scoring", "sampling"):
                if sizes[kind] > room.bytes:
                    warnings.append(f"{kind} takes about {sizes[kind] / 1e9:.1f} GB; lower resources.tokens_per_batch")
            at_once = 1 if gpu else _jobs_at_once(config.resources.threads_per_job)
            together = [kind for kind, size in sizes.items() if size <= room.bytes < at_once * size]
            if together:
                warnings.append(
                    f"{at_once} jobs at a time of {' or '.join(together)} take up to "
                    f"{at_once * max(sizes[kind] for kind in together) / 1e9:.1f} GB; --resources mem_mb="
                    f"{room.bytes / 1e6:.0f} lets as many run as fit"
                )
        yield from (f"    WARNING: {warning}" for warning in warnings if warning)


def _jobs_at_once(threads: int | str) -> int:
    """How many heavy jobs run together on this machine with all of its cores."""
    cores = os.cpu_count() or 1
    return max(1, cores // threads_per_job(threads, cores, local=True, gpus=0))


@cache
def _shape_on_the_hub(location: str, revision: str | None) -> Shape | None:
    """The sizes of a model by what the hub says of it, or its name; None if neither says anything."""
    import huggingface_hub

    try:
        # Without a network this fails at once, where a download is tried again for long.
        huggingface_hub.model_info(location, revision=revision, timeout=10)
        path = huggingface_hub.hf_hub_download(location, "config.json", revision=revision)
        shape = Shape.of(json.loads(Path(path).read_text(encoding="utf-8")))
        if shape is None:
            metadata = huggingface_hub.get_safetensors_metadata(location, revision=revision)
            shape = Shape.like(sum(metadata.parameter_count.values()))
    except Exception:  # no network, no such model, no id of the hub: a plan goes on with what the name says
        parameters = footprint.parameters_named(location)
        return Shape.like(parameters) if parameters else None
    return shape


def _tokens(path: Path, part: str, folder: Path) -> int:
    """Tokens of a part's texts, by the base model's tokenizer where it is there already, from a sample of rows."""
    file = pq.ParquetFile(path)
    sample = next(file.iter_batches(200, row_groups=[0])).to_pylist()
    fields = fields_of(part)
    # A prompt is read once with each answer.
    texts = [
        t for row in sample for t in texts_of(row, fields) + (texts_of(row, ["prompt"]) if "chosen" in row else [])
    ]
    if (folder / "tokenizer.json").is_file():
        from tokenizers import Tokenizer

        tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        count = sum(len(e.ids) for e in tokenizer.encode_batch(texts))
    else:
        count = math.ceil(sum(map(len, texts)) / BYTES_PER_TOKEN)
    return round(count * file.metadata.num_rows / len(sample))

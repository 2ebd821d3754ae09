"""What a study will cost, before it costs anything."""

import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from rmtransfer.kit.devices import visible_devices
from rmtransfer.kit.machine import memory_here
from rmtransfer.kit.progress import report
from rmtransfer.models import footprint
from rmtransfer.study import catalogue
from rmtransfer.study.config import load_config
from rmtransfer.study.study import Study
from rmtransfer.texts.corpus import fields_of, texts_of
from rmtransfer.translation.budget import plan_translation, quota_sentence
from rmtransfer.translation.engines import PAID

# Floating-point operations per parameter and token: 2 forward, 4 more backward (Kaplan et al., arXiv 2001.08361).
_FORWARD, _TRAINING = 2, 6
_FLOPS = 400e12  # sustained: an H100 in bf16 at 40 %
_CHARACTERS_PER_TOKEN = 4.0  # English, where no tokenizer is at hand
_NOTHING = {"rows": 0, "characters": 0}


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
    """The plan as text: translation first, then the model stages.

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
    lines += ["", *_plan_models(study, rows, root)]
    return "\n".join(lines)


def _plan_models(study: Study, rows: Mapping[str, Path], root: Path) -> Iterator[str]:
    config, languages = study.config, len(study.languages)
    assumed = {p: entry.expected.model_dump() if entry.expected else _NOTHING for p, entry in study.parts.items()}
    counts = {
        part: pq.ParquetFile(rows[part]).metadata.num_rows if part in rows else assumed[part]["rows"]
        for part in assumed
    }

    def tokens_of(part: str, folder: Path) -> int:
        if part in rows:
            return _tokens(rows[part], part, folder)
        return round(counts[part] * assumed[part]["characters"] / _CHARACTERS_PER_TOKEN)

    yield "Models"
    disk = 0.0
    hours = 0.0
    known = True
    answered = 0.0  # tokens of all bases' answers in one language
    for name, base in config.base_models.items():
        prepared = Path(study.at.base_model.fill(base=name))
        folder = next((f for f in (prepared, root / Path(base.path).expanduser()) if f.is_dir()), None)
        parameters, hidden = _size(folder, base.path, getattr(base, "revision", None))
        tokens = {part: tokens_of(part, prepared) for part in counts}
        scored = sum(tokens[part] for part in study.benchmarks)
        models, full = (
            sum(model.base_model == name for model in these)
            for these in (study.reward_models, study.full_reward_models)
        )
        everywhere = sum(tokens[part] * len(study.languages_of(part)) for part in study.benchmarks)
        yield (
            f"  {name}: {models} reward models, a language's tokens: {tokens['preferences']:,} to train on, "
            f"{scored:,} to score"
        )
        if parameters is None:
            known = False
            yield f"    size unknown until {base.path} is downloaded: no estimate of hours and disk"
            continue
        alignment = config.alignment
        answers = counts["instructions"] * alignment.samples
        sampled = answers * (tokens["instructions"] / max(1, counts["instructions"]) + alignment.max_new_tokens)
        # A training set of a size of its own has that share of a language's tokens.
        wholes = sum(
            1 if these.pairs is None else these.pairs / max(1, counts["preferences"])
            for these in study.training_sets.values()
        )
        training = _TRAINING * tokens["preferences"] * config.training.epochs * wholes * len(config.seeds)
        embedded = sum(tokens[part] for part in study.embedded(name))
        scoring = _FORWARD * (everywhere * models + languages * (embedded + sampled * full))
        sampling = _FORWARD * languages * sampled * 10  # decoding uses a tenth of the arithmetic at best
        flops = parameters * (training + scoring + sampling)
        states = 8 * counts[study.leading] * hidden * (full + 1) * languages
        # What training leaves as it is, all models of a base share.
        shape = _shape(folder, base.path, getattr(base, "revision", None))
        own = parameters - (footprint.Recipe.of(config.training.model_dump()).unchanged(shape) if shape else 0)
        disk += 4.0 * (parameters + own * models) + states
        hours += flops / _FLOPS / 3600
        answered += sampled
        yield (
            f"    {parameters / 1e9:.2f}B parameters: training {_hours(parameters * training)}, scoring "
            f"{_hours(parameters * scoring)}, sampling {_hours(parameters * sampling)}"
        )
        yield from _plan_memory(study, shape)
    for name, options in config.reward_models.items():
        yield f"  {name}: {options.kind}"
        kind = catalogue.load(catalogue.REWARD_MODELS, options.kind)
        if not kind.runs_a_model(options):
            continue
        scored = sum(
            tokens_of(part, Path(study.at.folder)) * len(study.languages_of(part)) for part in study.benchmarks
        )
        if name in config.alignment.reward_models:
            scored += round(answered * languages)
        named = {key: getattr(options, key) for key in kind.models if getattr(options, key, None) is not None}
        for key, model in named.items():
            places = (Path(study.model_folders(name, root)[key]), root / Path(model).expanduser())
            folder = next((f for f in places if f.is_dir()), None)
            parameters, _ = _size(folder, model, getattr(options, kind.models[key]))
            if parameters is None:
                known = False
                yield f"    size of {model} unknown until it is downloaded: no estimate of hours and disk"
                continue
            scoring = _FORWARD * scored
            disk += 2.0 * parameters  # as published, in bf16
            hours += parameters * scoring / _FLOPS / 3600
            yield f"    {parameters / 1e9:.2f}B parameters: scoring {_hours(parameters * scoring)}"
    yield (
        f"  in all: {'' if known else 'at least '}{hours:,.2f} GPU hours at {_FLOPS / 1e12:.0f} TFLOP/s, "
        f"{disk / 1e9:,.1f} GB on disk"
    )
    yield "  Every language is counted at the source's tokens; others need 1.2 to 2 times as many."


def _plan_memory(study: Study, shape: footprint.Shape | None) -> Iterator[str]:
    """What a job of each kind needs at its peak, next to what there is; without a GPU here, also what it needs on one."""
    if shape is None:
        yield "    memory of a job unknown: nothing here says how the model is built"
        return
    config, training = study.config, study.config.training.model_dump()
    device, tokens = config.resources.device, config.resources.tokens_per_batch
    longest = 2 * config.training.max_length  # at most
    answers = footprint.DECODING_FACTOR * tokens // config.alignment.max_new_tokens
    here = device == "cuda" or (device == "auto" and bool(visible_devices()))
    for gpu in (True, False):
        if gpu != here and not (gpu and device == "auto"):
            continue
        recipe, largest = footprint.Recipe.of(training), max(tokens, longest)
        need = footprint.training_bytes(shape, recipe, largest, gpu)
        twice = footprint.training_bytes(shape, recipe._replace(checkpointing=True), longest, gpu)
        scoring = footprint.scoring_bytes(shape, tokens, gpu)
        sampling = footprint.sampling_bytes(shape, footprint.DECODING_FACTOR * tokens, answers, gpu)
        room = memory_here(gpu) if gpu == here else None
        yield (
            f"    memory of a job on {'a GPU' if gpu else 'the CPU'}: training {need / 1e9:.1f} GB"
            + (
                f" ({twice / 1e9:.1f} in smaller passes with activations computed twice)"
                if twice < need and not (room and need <= room.bytes)
                else ""
            )
            + f", scoring {scoring / 1e9:.1f} GB, sampling {sampling / 1e9:.1f} GB"
            + (f"; {room.name} has {room.bytes / 1e9:.1f} GB" if room else "")
        )
        warnings = [footprint.training_warning(shape, training, tokens, longest, gpu, room)]
        for kind, size in (("scoring", scoring), ("sampling", sampling)):
            if room and size > room.bytes:
                warnings.append(f"{kind} takes about {size / 1e9:.1f} GB; lower resources.tokens_per_batch")
        yield from (f"    WARNING: {warning}" for warning in warnings if warning)


def _shape(folder: Path | None, location: str, revision: str | None) -> footprint.Shape | None:
    """The sizes of a model that is here, or of which the hub tells; None if they are unknown."""
    if folder is not None:
        return footprint.Shape.of_folder(folder)
    if location.startswith("package:"):
        return None
    import huggingface_hub

    try:
        path = huggingface_hub.hf_hub_download(location, "config.json", revision=revision)
        return footprint.Shape.of(json.loads(Path(path).read_text(encoding="utf-8")))
    except Exception:  # as in _size
        return None


def _hours(flops: float) -> str:
    return f"{flops / _FLOPS / 3600:,.2f} h"


def _tokens(path: Path, part: str, folder: Path) -> int:
    """Tokens of a part's texts, by the base model's tokenizer where it is there already, from a sample of rows."""
    file = pq.ParquetFile(path)
    sample = next(file.iter_batches(200)).to_pylist()
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
        count = math.ceil(sum(map(len, texts)) / _CHARACTERS_PER_TOKEN)
    return round(count * file.metadata.num_rows / len(sample))


def _size(folder: Path | None, location: str, revision: str | None) -> tuple[int | None, int]:
    """(parameters, hidden size) from a folder's safetensors headers, the hub's, or a name like 8B; (None, 0) if unknown."""
    if folder is not None and (folder / "config.json").is_file():
        settings = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        hidden = settings.get("hidden_size") or settings.get("text_config", {}).get("hidden_size", 0)
        return footprint.parameters_of(folder), hidden
    if not location.startswith("package:"):
        import huggingface_hub

        try:
            metadata = huggingface_hub.get_safetensors_metadata(location, revision=revision)
            return sum(metadata.parameter_count.values()), 0
        except Exception:  # no network, no such model: whatever it is, a plan goes on with what the name says
            billions = re.search(r"(\d+(?:\.\d+)?)b(?![a-z])", location, re.IGNORECASE)
            return (round(float(billions[1]) * 1e9), 0) if billions else (None, 0)
    return None, 0

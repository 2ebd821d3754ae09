"""What a study will cost, before it costs anything."""

import json
import math
import os
import re
import struct
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pyarrow.parquet as pq

from rmtransfer.kit.errors import StudyError
from rmtransfer.study.config import roles_of
from rmtransfer.study.languages import split_variant
from rmtransfer.texts.corpus import fields_of, texts_of
from rmtransfer.translation.engines import PAID, build_engine
from rmtransfer.translation.pipeline import stored, unasked
from rmtransfer.translation.store import SegmentStore

COLUMNS = ("language", "engine", "texts", "unique", "stored", "segments", "characters")
# Floating-point operations per parameter and token: 2 forward, 4 more backward (Kaplan et al., arXiv 2001.08361).
_FORWARD, _TRAINING = 2, 6
_FLOPS = 400e12  # sustained: an H100 in bf16 at 40 %
_CHARACTERS_PER_TOKEN = 4.0  # English, where no tokenizer is at hand
_SLICE = 2_000
_NOTHING = {"rows": 0, "characters": 0}


def plan_translation(
    specs: Mapping[str, Mapping[str, Any]],
    source: str,
    rows: Mapping[str, Path],
    store: Path,
    root: Path,
    expected: Mapping[str, Mapping[str, int]] = MappingProxyType({}),
) -> list[dict[str, Any]]:
    """What translating would ask of each engine; one entry per language with the keys ``COLUMNS``.

    Args:
        specs: language code to what :func:`rmtransfer.translation.engines.engine_spec` returned.
        rows: role to the Parquet file of its rows in the source language.
        expected: role to ``rows`` and ``characters`` a row, for roles that are not downloaded yet.

    ``segments`` and ``characters`` are those that the store does not hold yet.
    """
    return [_entry(code, spec, (source, code), rows, store, root, expected) for code, spec in specs.items()]


def plan_back(
    spec: Mapping[str, Any],
    source: str,
    benchmarks: Mapping[str, Path],
    untranslated: Mapping[str, Path],
    store: Path,
    root: Path,
    expected: Mapping[str, Mapping[str, int]] = MappingProxyType({}),
) -> list[dict[str, Any]]:
    """The same for translating the benchmark back into ``source``; entries are called ``<language> > <source>``.

    Args:
        benchmarks: language code to the benchmark in that language, which need not be there yet: it is then counted as
            if it were as long as in the source language.
        untranslated: ``benchmark`` to its rows in the source language, if they are there.
        expected: ``benchmark`` to what is expected of it, if they are not.
    """
    entries = []
    for code, path in benchmarks.items():
        there = path.is_file()
        entries.append(
            _entry(
                f"{code} > {source}",
                spec,
                (split_variant(code)[0], source),
                {"benchmark": path} if there else untranslated,
                store,
                root,
                {} if there else expected,
            )
        )
    return entries


def _entry(
    name: str,
    spec: Mapping[str, Any],
    direction: tuple[str, str],
    rows: Mapping[str, Path],
    store: Path,
    root: Path,
    expected: Mapping[str, Mapping[str, int]],
) -> dict[str, Any]:
    kept = SegmentStore(store)
    engine = build_engine(spec, *direction, root, tokens_per_batch=1, requests_at_once=1, device="cpu")
    seen: set[str] = set()
    segments: dict[str, int] = {}
    texts = 0
    for role, path in rows.items():
        for batch in pq.ParquetFile(path).iter_batches(_SLICE):
            these = [text for row in batch.to_pylist() for text in texts_of(row, fields_of(role))]
            texts += len(these)
            fresh = [text for text in dict.fromkeys(these) if text not in seen]
            seen.update(fresh)
            if engine.lock is not None:
                segments.update({prose: len(prose) for prose in unasked(fresh, engine, kept)})
    held = len(stored(seen, engine, kept)) if engine.lock is not None else len(seen)
    entry = [texts, len(seen), held, len(segments), sum(segments.values())]
    for role, assumed in expected.items():
        more = assumed["rows"] * len(fields_of(role))
        characters = assumed["rows"] * assumed["characters"]
        entry = [a + b for a, b in zip(entry, (more, more, 0, more, characters), strict=True)]
    return dict(zip(COLUMNS, (name, spec["engine"], *entry), strict=True))


def check_budget(entries: Sequence[Mapping[str, Any]], store: Path, budget: int) -> None:
    """Refuse to start what the budget cannot pay.

    Raises:
        StudyError: what was billed to the store and what is to come exceed ``budget``.
    """
    for engine in PAID:
        coming = sum(entry["characters"] for entry in entries if entry["engine"] == engine)
        spent = SegmentStore(store).billed(engine)
        if coming and spent + coming > budget:
            each = ", ".join(f"{e['language']} {e['characters']:,}" for e in entries if e["engine"] == engine)
            raise StudyError(
                f"translation.budget_characters: {budget:,} do not suffice: {engine} has billed {spent:,} to {store}, and "
                f"{coming:,} are to come ({each}). Nothing was asked; raise the budget, or translate less"
            )


def render_plan(
    config: Mapping[str, Any],
    entries: Sequence[Mapping[str, Any]],
    rows: Mapping[str, Path],
    languages: Sequence[str],
    study: Path,
    root: Path,
    quota: str,
) -> str:
    """The plan as text: translation first, then the model stages.

    Args:
        rows: role to the Parquet file of its rows, for roles that are there.
        quota: what is known of the account, in a sentence; may be empty.
    """
    lines = []
    for role, entry in roles_of(config).items():
        if role in rows:
            continue
        assumed = entry.get("expected")
        what = f"{assumed['rows']:,} rows of {assumed['characters']:,} characters assumed" if assumed else "not counted"
        lines.append(f"{role}: not downloaded yet, {what}; snakemake {study}/corpus/{role}.parquet makes this exact")
    lines += ["Translation"]
    if entries:
        price = config["translation"]["price_per_million"]
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
        budget = config["translation"].get("budget_characters")
        if budget is not None:
            lines.append(f"  budget: {budget:,} characters" + (" - DOES NOT SUFFICE" if paid > budget else ""))
        if quota:
            lines.append(f"  {quota}")
    else:
        lines.append("  none: every file is there in every language")
    lines += ["", *_plan_models(config, rows, languages, study, root)]
    return "\n".join(lines)


def _plan_models(
    config: Mapping[str, Any], rows: Mapping[str, Path], languages: Sequence[str], study: Path, root: Path
) -> Iterator[str]:
    assumed = {role: entry.get("expected", _NOTHING) for role, entry in roles_of(config).items()}
    counts = {
        role: pq.ParquetFile(rows[role]).metadata.num_rows if role in rows else assumed[role]["rows"]
        for role in assumed
    }

    def tokens_of(role: str, folder: Path) -> int:
        if role in rows:
            return _tokens(rows[role], role, folder)
        return round(counts[role] * assumed[role]["characters"] / _CHARACTERS_PER_TOKEN)

    benchmarks = ["benchmark", *config["benchmarks"]]
    yield "Models"
    disk = 0.0
    hours = 0.0
    known = True
    for name, spec in config["base_models"].items():
        folder = next(
            (f for f in (study / "base_models" / name, root / Path(spec["path"]).expanduser()) if f.is_dir()), None
        )
        parameters, hidden = _size(folder, spec)
        tokens = {role: tokens_of(role, study / "base_models" / name) for role in counts}
        judged = sum(tokens[role] for role in benchmarks)
        models = (len(languages) + len(config["mixtures"])) * len(config["seeds"])
        yield (
            f"  {name}: {models} reward models, a language's tokens: {tokens['preferences']:,} to train on, "
            f"{judged:,} to judge"
        )
        if parameters is None:
            known = False
            yield f"    size unknown until {spec['path']} is downloaded: no estimate of hours and disk"
            continue
        alignment = config["alignment"]
        answers = counts["instructions"] * alignment["samples"]
        sampled = answers * (tokens["instructions"] / max(1, counts["instructions"]) + alignment["max_new_tokens"])
        training = _TRAINING * tokens["preferences"] * config["training"]["epochs"] * models
        scoring = _FORWARD * len(languages) * (judged * models + tokens["benchmark"] + sampled * models)
        sampling = _FORWARD * len(languages) * sampled * 10  # decoding uses a tenth of the arithmetic at best
        flops = parameters * (training + scoring + sampling)
        states = 8 * counts["benchmark"] * hidden * (models + 1) * len(languages)
        disk += 4.0 * parameters * (models + 1) + states
        hours += flops / _FLOPS / 3600
        yield (
            f"    {parameters / 1e9:.2f}B parameters: training {_hours(parameters * training)}, scoring "
            f"{_hours(parameters * scoring)}, sampling {_hours(parameters * sampling)}"
        )
    for name, spec in config["reward_models"].items():
        folder = next((f for f in (study / "reward_models" / name / "path", _local(spec, root)) if f.is_dir()), None)
        yield f"  {name}: {spec['kind']}"
        if not spec.keys() & {"path", "policy"}:
            continue
        parameters, _ = _size(folder, {**spec, "path": spec.get("path", spec.get("policy"))})
        if parameters is None:
            known = False
            yield "    size unknown until it is downloaded: no estimate of hours and disk"
            continue
        judged = sum(tokens_of(role, study) for role in benchmarks)
        models = 2 if spec["kind"] == "implicit" else 1
        scoring = _FORWARD * len(languages) * judged * models
        disk += 2.0 * parameters * models  # as published, in bf16
        hours += parameters * scoring / _FLOPS / 3600
        yield f"    {parameters / 1e9:.2f}B parameters: scoring {_hours(parameters * scoring)}"
    yield (
        f"  in all: {'' if known else 'at least '}{hours:,.2f} GPU hours at {_FLOPS / 1e12:.0f} TFLOP/s, "
        f"{disk / 1e9:,.1f} GB on disk"
    )
    yield "  Every language is counted at the source's tokens; others need 1.2 to 2 times as many."


def _local(spec: Mapping[str, Any], root: Path) -> Path:
    return root / Path(spec.get("path", spec.get("policy", ""))).expanduser()


def _hours(flops: float) -> str:
    return f"{flops / _FLOPS / 3600:,.2f} h"


def _tokens(path: Path, role: str, folder: Path) -> int:
    """Tokens of a role's texts, by the base model's tokenizer where it is there already, from a sample of rows."""
    file = pq.ParquetFile(path)
    sample = next(file.iter_batches(200)).to_pylist()
    fields = fields_of(role)
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


def _size(folder: Path | None, spec: Mapping[str, Any]) -> tuple[int | None, int]:
    """(parameters, hidden size) from a folder's safetensors headers, the hub's, or a name like 8B; (None, 0) if unknown."""
    if folder is not None and (folder / "config.json").is_file():
        settings = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        hidden = settings.get("hidden_size") or settings.get("text_config", {}).get("hidden_size", 0)
        return sum(_parameters(path) for path in folder.glob("*.safetensors")), hidden
    if not spec["path"].startswith("package:"):
        import huggingface_hub

        try:
            metadata = huggingface_hub.get_safetensors_metadata(spec["path"], revision=spec.get("revision"))
            return sum(metadata.parameter_count.values()), 0
        except Exception:  # no network, no such model: whatever it is, a plan goes on with what the name says
            billions = re.search(r"(\d+(?:\.\d+)?)b(?![a-z])", spec["path"], re.IGNORECASE)
            return (round(float(billions[1]) * 1e9), 0) if billions else (None, 0)
    return None, 0


def _parameters(path: Path) -> int:
    """Elements of all tensors, from the file's header (https://huggingface.co/docs/safetensors)."""
    with path.open("rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        header = json.loads(file.read(length))
    return sum(math.prod(tensor["shape"]) for name, tensor in header.items() if name != "__metadata__")


def quota_sentence(engines: Iterable[tuple[Mapping[str, Any], str, str]]) -> str:
    """What is left of the DeepL quota, if the study uses it and a key is set.

    Args:
        engines: each with the language it translates from and the one it translates into.
    """
    paid = next((engine for engine in engines if engine[0]["engine"] == "deepl"), None)
    if paid is None:
        return ""
    from rmtransfer.translation.deepl import KEY, DeepL

    if not os.environ.get(KEY):
        return f"quota: unknown, {KEY} is not set"
    spec, source, target = paid
    try:
        quota = DeepL(spec["options"], source, target).quota()
    except StudyError as problem:
        return f"quota: unknown, {problem}"
    return "quota: unlimited" if quota is None else f"quota: {quota[1] - quota[0]:,} of {quota[1]:,} characters left"

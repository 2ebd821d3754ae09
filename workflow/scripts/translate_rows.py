"""Translate the rows of one role from one language into another."""

from rmtransfer.kit.progress import report, start_job

start_job(" ".join([snakemake.rule, *map(str, snakemake.wildcards)]), snakemake.log[0])

from pathlib import Path

from rmtransfer.study.languages import split_variant
from rmtransfer.translation.engines import build_engine
from rmtransfer.translation.memory import read_tmx
from rmtransfer.translation.rows import translate_rows
from rmtransfer.translation.store import SegmentStore

language = snakemake.params.target
engine = build_engine(
    snakemake.params.spec,
    snakemake.params.source,
    language,
    Path.cwd(),
    tokens_per_batch=snakemake.resources.tokens_per_batch,
    requests_at_once=snakemake.resources.requests_at_once,
    device=snakemake.resources.device,
)
references = snakemake.input.get("references")
kept = translate_rows(
    Path(snakemake.input.rows),
    snakemake.params.role,
    language,
    engine,
    SegmentStore(Path(snakemake.resources.store)) if engine.lock else None,
    Path(snakemake.output.rows),
    Path(snakemake.output.dropped),
    Path(snakemake.output.measures),
    budget=snakemake.resources.budget,
    references=(
        read_tmx(Path(references), snakemake.params.source, split_variant(language)[0]) if references else None
    ),
)
report(f"{kept:,} rows")

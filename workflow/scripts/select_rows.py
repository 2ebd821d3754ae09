"""Decide which rows of each role the study keeps."""

from rmtransfer.kit.progress import report, start_job

start_job("select_rows", snakemake.log[0])

import json
from pathlib import Path

from rmtransfer.models.chat import longest_conversation
from rmtransfer.study.sections import item_of
from rmtransfer.texts.corpus import load_rows, save_ids, write_ledger
from rmtransfer.texts.selection import digests_of, select_rows

count = longest_conversation([Path(base) for base in snakemake.input.bases])
digests = {}
for role, ids, ledger in zip(snakemake.params.roles, snakemake.output.ids, snakemake.output.dropped, strict=True):
    rows = {
        language: load_rows(Path(path))
        for language, path in zip(snakemake.params.languages, snakemake.input[role], strict=True)
    }
    if role == "benchmark":
        back = zip(snakemake.params.back, snakemake.input.back, strict=True)
        rows.update({language: load_rows(Path(path)) for language, path in back})
    several = role in snakemake.params.several_rows
    kept, dropped = select_rows(rows, count, snakemake.params.max_length.get(role), item_of if several else None)
    write_ledger(Path(ledger), dropped)
    save_ids(kept, Path(ids))
    digests[role] = digests_of(rows, kept)
    report(f"{role}: {len(kept):,} rows kept, {len({d['id'] for d in dropped}):,} dropped in all languages")
Path(snakemake.output.digests).write_text(json.dumps(digests, indent=1), encoding="utf-8")

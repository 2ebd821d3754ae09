"""Refuse to start a translation that the budget cannot pay."""

from rmtransfer.kit.progress import report, start_job

start_job("check_budget", snakemake.log[0])

from pathlib import Path

import pandas as pd

from rmtransfer.report.plan import COLUMNS, check_budget, plan_back, plan_translation
from rmtransfer.translation.engines import PAID

store = Path(snakemake.resources.store)
entries = plan_translation(
    {code: spec for code, spec in snakemake.params.specs.items() if spec["engine"] in PAID},
    snakemake.params.source,
    dict(zip(snakemake.params.roles, map(Path, snakemake.input.rows), strict=True)),
    store,
    Path.cwd(),
)
back = snakemake.params.back
if back is not None and back["spec"]["engine"] in PAID:
    benchmarks = {code: Path(path) for code, path in back["benchmarks"].items()}
    untranslated = {"benchmark": Path(snakemake.input.benchmark)}
    entries += plan_back(back["spec"], snakemake.params.source, benchmarks, untranslated, store, Path.cwd())
check_budget(entries, store, snakemake.resources.budget)
pd.DataFrame(entries, columns=COLUMNS).to_csv(snakemake.output.plan, index=False)
report("the budget suffices")

"""Print what the study will cost."""

from rmtransfer.progress import report, start_job

start_job("plan", snakemake.log[0])

from pathlib import Path

from rmtransfer.config import ROLES, study_languages
from rmtransfer.plan import plan_translation, quota_sentence, render_plan

config, specs = snakemake.params.config, snakemake.params.specs
rows = dict(zip(ROLES, map(Path, snakemake.input.rows), strict=True))
translated = {role: path for role, path in rows.items() if "{language}" not in config[role].get("path", "")}
store = Path(snakemake.resources.store)
source = config["languages"]["source"]
entries = plan_translation(specs, source, translated, store, Path.cwd())
report(
    "\n"
    + render_plan(
        config,
        entries,
        rows,
        study_languages(config),
        Path("results") / config["study"],
        Path.cwd(),
        quota_sentence(specs, source),
    )
)

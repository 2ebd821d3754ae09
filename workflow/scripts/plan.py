"""Print what the study will cost."""

from rmtransfer.progress import report, start_job

start_job("plan", snakemake.log[0])

from pathlib import Path

from rmtransfer.config import is_given, roles_of, study_languages
from rmtransfer.plan import plan_translation, quota_sentence, render_plan

config, specs = snakemake.params.config, snakemake.params.specs
roles = roles_of(config)
rows = {role: Path(path) for role, path in snakemake.input.items()}
translated = {role: path for role, path in rows.items() if not is_given(roles[role])}
store = Path(snakemake.resources.store)
source = config["languages"]["source"]
expected = {
    role: entry["expected"]
    for role, entry in roles.items()
    if role not in rows and "expected" in entry and not is_given(entry)
}
entries = plan_translation(specs, source, translated, store, Path.cwd(), expected)
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

"""Why jobs would run: what changed, from what to what, for which jobs, what only follows from that, and what comes back."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from rmtransfer.kit import manifest
from rmtransfer.kit.kept import Entry, Keep, digest_of_inputs, disk, entries
from rmtransfer.kit.progress import report
from rmtransfer.report.changes import clauses, environment_change, files, input_changes, params_changes
from rmtransfer.study.config import load_config
from rmtransfer.study.layout import Layout
from rmtransfer.study.needs import SMALL, Need, Needs, UnknownSizeError
from rmtransfer.study.study import Study
from rmtransfer.translation.budget import plan_translation
from rmtransfer.translation.engines import PAID

_NAMED = 3  # jobs whose wildcards are said
_DRAWS = "draw_"
_COMPARED = 1_000_000  # bytes of an input up to which Snakemake compares the content, and else the age
_ALIGNS = "align_policy"
_KEPT = ("train_reward_model", _ALIGNS)  # scripts that keep what they make under what is known of a job before it runs


class Record(NamedTuple):
    """What Snakemake notes of a run of a job.

    Attributes:
        params: representations of their values.
        environment: the file that describes the job's software, in base64; empty for none.
        deployed: identifies the software that it ran in.
    """

    params: Sequence[str] = ()
    input: Sequence[str] = ()
    environment: str = ""
    deployed: str = ""


@dataclass(frozen=True)
class Pending:
    """A job that would run.

    Attributes:
        script: its name, without folder and suffix; empty where a rule has none.
        output: the first of its outputs.
        base: folder of the model that it starts from; empty where the rule names none.
        params: by name; only those that can be known now.
        record: of its last run; None if there was none.
        current: what a record would say now, params apart.
        missing, incomplete: outputs that are not there, or that a killed run left behind.
        updated: inputs from outside the workflow that have changed since.
        remade: whether an earlier run has made other inputs again.
        edited: whether the script is newer than the outputs.
        after: numbers of the pending jobs that make it run, because it reads what they write.
        waits: whether a checkpoint that is pending decides what it reads.
    """

    rule: str
    wildcards: Mapping[str, str]
    script: str = ""
    output: str = ""
    base: str = ""
    params: Mapping[str, Any] = field(default_factory=dict)
    record: Record | None = None
    current: Record = field(default_factory=Record)
    missing: Sequence[str] = ()
    incomplete: Sequence[str] = ()
    updated: Sequence[str] = ()
    remade: bool = False
    edited: bool = False
    after: Sequence[int] = ()
    waits: bool = False

    @property
    def new(self) -> bool:
        """Whether it would run for the first time."""
        return self.record is None and bool(self.missing)


def print_why(config: Mapping[str, Any], jobs: Sequence[Pending], root: Path, *, gpu: bool) -> None:
    """Report which jobs would run, why, at what cost, and what of what they make is kept.

    Args:
        config: the study's configuration.
        jobs: all that would run, each after those that it reads from.
        gpu: whether models compute on one.
    """
    study = Study(load_config(config, root))
    report("\n" + render_why(study, jobs, Needs(study, root, gpu=gpu, threads=1)))


def render_why(study: Study, jobs: Sequence[Pending], needs: Needs) -> str:
    """What :func:`print_why` reports, as text."""
    at = study.at
    kept = entries(Path(at.kept), Path(at.folder))
    if not jobs:
        return "\n".join([f"Nothing would run: {at.folder} is what the configuration asks for.", *_aside(kept, [], at)])
    found = findings(jobs, study.config.plain())
    returns = [_returns(job, at) for job in jobs]
    certain = [one.job for one in found if one.certain]
    replaced = [job.output for job in certain if job.script in _KEPT and not job.missing]
    return "\n".join(
        [
            f"{len(jobs)} jobs would run" + ("" if all(one.certain for one in found) else ", some of them perhaps"),
            *explain(found, returns),
            "",
            _hours(_computing(found, returns), needs),
            *_payment(certain, study, needs.root),
            *_lost(kept, replaced, at),
            *_aside(kept, replaced, at),
        ]
    )


class Finding(NamedTuple):
    """A job and why it would run.

    Attributes:
        reason: what changed for it; empty for one that runs for the first time, or only because of others.
        certain: whether it runs whatever comes out of the checkpoints that are pending.
    """

    job: Pending
    reason: str
    certain: bool


def findings(jobs: Sequence[Pending], config: Mapping[str, Any]) -> list[Finding]:
    """Why each of some jobs would run.

    Args:
        jobs: each after those that it reads from.
        config: the study's configuration as builtins.
    """
    found: list[Finding] = []
    for job in jobs:
        follows = any(found[number].certain for number in job.after)
        these = [] if job.new else causes(job, config)
        if job.remade and not these and not follows:
            these = ["an earlier run made again what it reads"]
        found.append(Finding(job, "; ".join(these), job.new or bool(these) or follows))
    return found


def explain(found: Sequence[Finding], returns: Sequence[bool]) -> list[str]:
    """Lines: each thing that changed with the jobs that it concerns, what follows from them, and what may.

    Args:
        returns: which of the jobs take what they make from what is kept.
    """
    sections: dict[str, list[int]] = {f"because {one.reason}": [] for one in found if one.reason}
    first, following, perhaps = (
        "for the first time",
        "after them",
        "perhaps, as the rows decide that select_rows will select; if they are the same, none of these",
    )
    sections |= {first: [], following: [], perhaps: []}
    for number, (job, reason, certain) in enumerate(found):
        title = f"because {reason}" if reason else first if job.new else following if certain else perhaps
        sections[title].append(number)
    lines = []
    for title, numbers in sections.items():
        if numbers:
            lines += ["", f"{title}:", *_counted([found[number].job for number in numbers])]
        if back := sum(returns[number] for number in numbers):
            lines.append(
                f"  {'all' if back == len(numbers) else back} of them come back from what is kept, and what was scored of them"
            )
    return lines


def causes(job: Pending, config: Mapping[str, Any]) -> list[str]:
    """What changed for a job itself, as clauses; none for one that only follows others."""
    found = []
    if job.record is not None:
        changes = params_changes(job.record.params, job.params, complete=not job.waits)
        found += clauses(changes, job.script, config)
        if not job.waits:
            found += input_changes(job.record.input, job.current.input)
        if job.record.deployed != job.current.deployed:
            found.append(environment_change(job.record.environment, job.current.environment))
    known = job.record.input if job.record else job.updated
    found += [
        f"{path} {'has another content' if _is_compared(path) else 'is newer'}" for path in job.updated if path in known
    ]
    if job.edited:
        found.append(f"workflow/scripts/{job.script}.py is newer than what it made (edited, or checked out again)")
    if found:  # of a run for the same cause that failed or was killed
        return found
    found += [f"{files(job.missing)} is missing"] if job.missing else []
    return found + ([f"{files(job.incomplete)} is what a killed run left behind"] if job.incomplete else [])


def _is_compared(path: str) -> bool:
    return Path(path).is_file() and Path(path).stat().st_size <= _COMPARED


def _counted(jobs: Sequence[Pending]) -> list[str]:
    """Jobs by rule, those that draw together; of few their wildcards."""
    rules: dict[str, list[str]] = {}
    for job in jobs:
        rule = f"{_DRAWS}*" if job.rule.startswith(_DRAWS) else job.rule
        rules.setdefault(rule, []).append(" ".join(job.wildcards.values()))
    return [
        f"  {len(names)} {rule}" + (f" ({', '.join(names)})" if len(names) <= _NAMED and all(names) else "")
        for rule, names in rules.items()
    ]


def _returns(job: Pending, at: Layout) -> bool:
    """Whether a job takes its output from what is kept; of one whose base or rows are to be made again nobody knows."""
    known = not (job.waits or job.after) and (Path(job.base) / manifest.NAME).is_file()
    if job.script not in _KEPT or not known:
        return False
    decides = {**job.wildcards, **job.params}
    if job.script == _ALIGNS:
        decides["inputs"] = digest_of_inputs(path for path in map(Path, job.current.input) if path.is_file())
    return Keep(Path(at.kept), Path(at.folder), Path(job.output), decides, Path(job.base)).holds()


def _computing(found: Sequence[Finding], returns: Sequence[bool]) -> list[Pending]:
    """The jobs that compute: not those that come back, nor what only follows them, whose scores rest in the study's cache."""
    jobs = []
    for (job, reason, certain), back in zip(found, returns, strict=True):
        rests = not job.new and not reason and all(returns[number] for number in job.after)
        if certain and not back and not rests:
            jobs.append(job)
    return jobs


def _hours(jobs: Sequence[Pending], needs: Needs) -> str:
    """What models will compute, by the plan's numbers."""
    seconds, unknown = 0.0, 0
    for job in jobs:
        try:
            seconds += _need(job, needs).seconds
        except UnknownSizeError:
            unknown += 1
    where = "a GPU" if needs.gpu else "one core"
    more = f"; and what {unknown} jobs take whose models or rows are not here yet" if unknown else ""
    return f"to compute: about {seconds / 3600:,.2f} hours of {where}, as snakemake plan counts{more}"


def _need(job: Pending, needs: Needs) -> Need:
    of = job.wildcards
    match job.script:
        case "train_reward_model":
            return needs.training(of["reward_model"])
        case "sample_answers":
            return needs.sampling(of["writer"], of["part"])
        case "measure_drift":
            return needs.drifting(of["aligned"])
        case "align_policy":
            return needs.aligning_policy(of["aligned"])
        case "score":
            if "policy" in of and "part" in of:
                return needs.scoring_answers(of["reward_model"], of["policy"], of["part"])
            if "policy" in of:
                return needs.judging(of["reward_model"], of["policy"])
            return needs.scoring(of["reward_model"], of["benchmark"])
        case "translate_rows":
            return needs.translating(job.params["spec"], job.params["part"])
    return SMALL


def _payment(jobs: Sequence[Pending], study: Study, root: Path) -> list[str]:
    """What paid engines will be asked for that the translation store does not hold."""
    ways: dict[str, dict[str, Any]] = {}
    for job in jobs:
        if job.script == "translate_rows" and job.params["spec"]["engine"] in PAID:
            source, part = job.params["source"], job.params["part"]
            way = {
                **{key: job.params[key] for key in ("spec", "source")},
                "language": job.wildcards["language"],
                "rows": {},
            }
            way["target"] = study.plain_language(job.params["target"])
            ways.setdefault(f"{source} > {job.params['target']}", way)["rows"][part] = str(study.at.rows(part, source))
    if not ways:
        return []
    rows = {part: path for part in study.parts if (path := Path(study.rows(part)[0])).is_file()}
    entries = plan_translation(list(ways.values()), rows, root / study.config.translation.store, root)
    paid, price = sum(entry["characters"] for entry in entries), study.config.translation.price_per_million
    if not paid:
        return ["to pay: nothing, the translation store holds every text that is to be translated"]
    return [
        "",
        f"to pay: {paid:,} characters that the translation store does not hold, about {paid * price / 1e6:,.2f}",
    ]


def _lost(kept: Sequence[Entry], replaced: Sequence[str], at: Layout) -> list[str]:
    """What a run would delete for good: made before such things were kept, or what is kept of it was deleted."""
    safe = {str(Path(at.folder) / entry.what) for entry in kept if entry.current}
    lost = [output for output in replaced if output not in safe]
    if not lost:
        return []
    return [
        "",
        f"WARNING: {files(lost)} is not in {at.kept}, and the run deletes it: copy it elsewhere if you want it back",
    ]


def _aside(kept: Sequence[Entry], replaced: Sequence[str], at: Layout) -> list[str]:
    """What is kept beside what is current, and what this run adds to it."""
    aside = sum(not entry.current for entry in kept)
    added = len({entry.what for entry in kept if entry.current and str(Path(at.folder) / entry.what) in replaced})
    lines = [f"kept: {added} models that this run replaces stay in {at.kept}"] if added else []
    if aside:
        lines.append(
            f"kept: {aside} models of other settings, {disk(Path(at.kept)) / 1e9:,.2f} GB; "
            "snakemake kept --cores 1 lists them"
        )
    return ["", *lines] if lines else []

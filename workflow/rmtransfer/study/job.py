"""What a script is given: the job of one rule, with its files as paths and by name."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rmtransfer.kit import progress
from rmtransfer.kit.cores import Cores
from rmtransfer.kit.devices import take_devices
from rmtransfer.kit.kept import Keep
from rmtransfer.kit.machine import stay_offline
from rmtransfer.kit.running import join_run
from rmtransfer.study.layout import Layout, Pattern
from rmtransfer.study.study import RewardModelId


class Files(dict[str, Any]):
    """Named inputs or outputs of a rule: a path, or a list of paths where the rule gives a list.

    An attribute or item is such a file or list; :meth:`get` gives None for what a rule leaves empty.
    """

    def __init__(self, named: Any) -> None:
        for name, value in named.items():
            if value:
                self[name] = Path(value) if isinstance(value, str) else [Path(path) for path in value]

    def __getattr__(self, name: str) -> Any:
        return self[name]

    def only(self, *names: str) -> dict[str, Any]:
        """Some of the files, as far as they are there."""
        return {name: self[name] for name in names if name in self}

    def without(self, *names: str) -> dict[str, Any]:
        """All files but some."""
        return {name: value for name, value in self.items() if name not in names}


class Job:
    """One job of the workflow.

    Attributes:
        at: where everything of its study lies.
        config: the study's configuration as builtins. What decides a result comes as a param.
        source: the study's source language.
        params, resources, wildcards: the rule's own.
        cores: this job's share of the machine's.
    """

    def __init__(self, snakemake: Any) -> None:
        self.input, self.output = Files(snakemake.input), Files(snakemake.output)
        self.params, self.resources, self.wildcards = snakemake.params, snakemake.resources, snakemake.wildcards
        self.config = snakemake.config
        self.source = self.config["languages"]["source"]
        self.at = Layout(self.config["study"], self.source)
        self.root = Path.cwd()
        self.cores = Cores.of_the_run(self.root / self.at.computing, snakemake.threads)

    def keep(self, output: Path, **more: Any) -> Keep:
        """Where the job's output is kept: under its wildcards, its params, its base model and whatever else decides it."""
        decides = dict(self.wildcards.items()) | dict(self.params.items()) | more
        return Keep(self.root / self.at.kept, Path(self.at.folder), output, decides, self.input.base)

    def text(self, name: str) -> str | None:
        """What an input file holds; None where the rule gives none."""
        return self.input[name].read_text(encoding="utf-8") if name in self.input else None

    def by(self, field: str, pattern: Pattern, paths: Sequence[Path] | None) -> dict[str, Path]:
        """Files by one field of their path."""
        return {pattern.parse(path)[field]: path for path in paths or ()}

    def grouped(self, field: str, pattern: Pattern, paths: Sequence[Path]) -> dict[str, list[Path]]:
        """Files by one field of their path that several share."""
        found: dict[str, list[Path]] = {}
        for path in paths:
            found.setdefault(pattern.parse(path)[field], []).append(path)
        return found

    def by_language(self, paths: Sequence[Path]) -> dict[str, Path]:
        """Files of rows, answers, rewards or hidden states by their language."""
        return {self.at.language_of(path): path for path in paths}

    def by_reward_model(self, pattern: Pattern, paths: Sequence[Path]) -> dict[RewardModelId, dict[str, Path]]:
        """Files by the reward model and the language in their path."""
        found: dict[RewardModelId, dict[str, Path]] = {}
        for path in paths:
            fields = pattern.parse(path)
            found.setdefault(RewardModelId.parse(fields["reward_model"]), {})[fields["language"]] = path
        return found


def start_job(snakemake: Any) -> Job:
    """Open the job's log, join its run, take its GPUs, and go offline where its rule says ``network=0``; before anything heavy is
    imported.

    Rule and wildcards name the job in the log and on the terminal.
    """
    job = Job(snakemake)
    folder = Path(job.at.folder)
    name = " ".join([snakemake.rule, *map(str, snakemake.wildcards)])
    progress.start_job(name, snakemake.log[0], folder, snakemake.input)
    join_run(folder)
    if snakemake.resources.get("network") == 0:
        stay_offline()
    if snakemake.resources.get("device") != "cpu":
        take_devices(snakemake.resources.get("gpu", 0))
    return job

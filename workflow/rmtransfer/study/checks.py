"""What no configuration class can say: how keys fit each other and the files on disk."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rmtransfer.kit.formats import UnreadableError, format_of
from rmtransfer.study import catalogue
from rmtransfer.study.languages import FLORES, filled_in, split_variant
from rmtransfer.study.names import BASE, CONSTRAINTS, HELD_OUT, IN_LANGUAGE, INSTRUCTIONS, TRANSLATE_TEST
from rmtransfer.study.study import PREFERENCES, Study

if TYPE_CHECKING:
    from rmtransfer.study.config import Config, Mixture, Rows


def problems_of(config: Config, root: Path) -> Iterator[str]:
    """Every problem as a sentence that names the key, the value and a remedy."""
    study = Study(config)
    source, targets = study.source, study.targets
    if source in targets:
        yield f"languages.targets: {source!r} is also languages.source; remove it from the targets"
    if config.base_models and not targets:
        yield "languages.targets: [] leaves nothing to transfer to; add a language, or remove base_models"
    for part, rows in study.parts.items():
        key = f"benchmarks.{part}" if part in study.benchmarks else part
        yield from _check_rows(
            rows, key, study.languages_of(part) if part in study.native else [source, *targets], root
        )
        elsewhere = getattr(rows, "source", None)
        if elsewhere is not None:
            if not rows.given:
                yield f"{key}.source: needs {{language}} in {key}.path or .name; remove one of the two"
            yield from _check_rows(elsewhere, f"{key}.source", [source], root)
    yield from _check_native(study)
    for name in study.benchmarks:
        if name in (PREFERENCES, INSTRUCTIONS, HELD_OUT, CONSTRAINTS, *study.languages):
            yield f"benchmarks.{name}: the name is taken by another part of the study or a language; choose another"
    if config.base_models:
        for part in (PREFERENCES, INSTRUCTIONS):
            if part not in study.parts:
                yield f"{part}: missing; base_models are trained on preferences and answer instructions"
    elif not config.reward_models:
        yield "base_models: there are none, and no reward_models either; name at least one of either"
    for name, options in config.reward_models.items():
        key = f"reward_models.{name}"
        if name in config.base_models:
            yield f"{key}: a base model has that name; choose another"
        yield from catalogue.load(catalogue.REWARD_MODELS, options.kind).check(options, key, study.bases, root)
        if getattr(options, "mode", None) == "pairwise":
            for benchmark in study.benchmarks:
                if study.sections(benchmark) == "rewardbench2":
                    yield (
                        f"{key}.mode: pairwise compares two answers, and items of benchmarks.{benchmark} (sections: rewardbench2) "
                        "have four, its Ties more; set mode: rating, or leave the judge or the benchmark to another study"
                    )
    for name, base in config.base_models.items():
        source_of_base = catalogue.load(catalogue.BASE_MODELS, catalogue.base_model_source(base))
        yield from source_of_base.check(base, f"base_models.{name}", root)
    for name, mixture in config.mixtures.items():
        yield from _check_mixture(name, mixture, study)
    yield from _check_training(config)
    if study.translated:
        yield from _check_translation(study, root)
    elif config.translation.variants:
        yield "translation.variants: nothing is translated, every path holds {language}; remove the variants"
    if (trip := config.translation.round_trip) is not None:
        for target in trip.targets or ():
            if target not in targets:
                yield f"translation.round_trip.targets: {target!r} is no target; add it to languages.targets or remove it here"
        for code in study.round_trips:
            yield from _check_engine(study, study.engine(code), study.translated_from(code), root)
    if config.translation.translate_test is not None:
        if not config.base_models:
            yield "translation.translate_test: it is judged by the source-language reward model; add base_models"
        for target in targets:
            yield from _check_engine(study, study.engine_back(), target, root)
    if config.base_models:  # without, nothing is sampled
        yield from _check_alignment(study, root)
    elif config.policies:
        yield "policies: there are no base_models, so that nothing selects their answers; add base_models, or remove policies"


def _check_alignment(study: Study, root: Path) -> Iterator[str]:
    config, alignment = study.config, study.config.alignment
    if max(alignment.best_of) > alignment.samples:
        yield (
            f"alignment.best_of: {max(alignment.best_of)} is more than alignment.samples, {alignment.samples}; raise samples "
            "or lower best_of"
        )
    for name in alignment.reward_models:
        options = config.reward_models.get(name)
        if options is None:
            yield f"alignment.reward_models: {name!r} is none of reward_models; add it there or remove it here"
        elif getattr(options, "mode", None) == "pairwise":
            yield f"alignment.reward_models: {name!r} compares two answers and has no reward for one; set its mode: rating"
        elif catalogue.load(catalogue.REWARD_MODELS, options.kind).reads_states:
            yield f"alignment.reward_models: {name!r} reads hidden states, which sampled answers have not; remove it"
    for name, policy in config.policies.items():
        key = f"policies.{name}"
        if name in config.base_models and policy.model_dump(exclude_defaults=True) != {"path": name}:
            yield f"{key}: a base model has that name; choose another"
        yield from catalogue.load(catalogue.BASE_MODELS, "pretrained").check_policy(policy, key, study.bases, root)
    sets = [name for name in study.training_sets if not name.rpartition(".")[0]]
    for name in alignment.selectors or ():
        if name not in (IN_LANGUAGE, *sets, *alignment.reward_models):
            yield (
                f"alignment.selectors: {name!r} is none of {', '.join([IN_LANGUAGE, *sets, *alignment.reward_models])}; "
                "correct it, or add it to alignment.reward_models"
            )
    for seed in alignment.seeds or ():
        if seed not in config.seeds:
            yield f"alignment.seeds: {seed} is none of seeds, {config.seeds}; remove it or add it there"
    for name in alignment.judges:
        if name not in config.reward_models:
            yield f"alignment.judges: {name!r} is none of reward_models; add it there or remove it here"
        elif catalogue.load(catalogue.REWARD_MODELS, config.reward_models[name].kind).reads_states:
            yield f"alignment.judges: {name!r} reads hidden states, which sampled answers have not; remove it"
    adapter = alignment.training.adapter
    if adapter is not None and not adapter.merge:
        yield "alignment.training.adapter.merge: false, and policies are saved whole; remove it"
    if alignment.methods and HELD_OUT not in study.parts:
        yield f"{HELD_OUT}: missing; policies that are aligned (alignment.methods) are evaluated on it"
    if HELD_OUT in study.parts and INSTRUCTIONS in study.parts:
        ours, theirs = (config.instructions, config.held_out_instructions)
        same = ("path", "hub", "name", "split", "revision")
        if all(getattr(ours, field) == getattr(theirs, field) for field in same):
            yield f"{HELD_OUT}: are the instructions themselves, which policies are aligned on; name others"
    if alignment.constraints is not None:
        if "{language}" not in alignment.constraints:
            yield (
                f"alignment.constraints: {alignment.constraints!r} holds no {{language}}; what code checks in an answer differs by "
                "language: give each a file"
            )
        else:
            for language in (study.source, *study.targets):
                path = filled_in(alignment.constraints, language, "bcp47")
                if not (root / path).is_file():
                    yield f"alignment.constraints: {path!r} does not exist; correct the path (relative to {root})"


def _check_mixture(name: str, mixture: Mixture, study: Study) -> Iterator[str]:
    key, size, step = f"mixtures.{name}", mixture.pairs, study.config.training.pairs_per_step
    if name in (*study.languages, TRANSLATE_TEST, BASE):
        yield f"{key}: the name is taken by a language or a row of the tables; choose another"
    language, dot, pairs = name.rpartition(".")
    if dot and language in study.languages and pairs.isdecimal():
        yield f"{key}: a part of {pairs} pairs of {language} would have that name; choose another"
    for language in mixture.shares:
        if language not in study.languages:
            yield f"{key}: {language!r} is no language of the study; add it to the targets or remove it"
    if len(mixture.shares) < 2:
        yield f"{key}: {mixture.shares} is not several languages; add one, or remove the mixture"
    if size is not None and size < step:
        yield f"{key}.pairs: {size} is less than training.pairs_per_step, {step}; raise it or lower pairs_per_step"


def _check_native(study: Study) -> Iterator[str]:
    for name, language in study.native.items():
        key, rows = f"benchmarks.{name}.native: {language}", study.config.benchmarks[name]
        if language not in (study.source, *study.targets):
            yield f"{key} is no language of the study; add it to languages.targets, or remove the benchmark"
        if name == study.leading:
            yield f"{key}, and the first of the benchmarks leads, which needs every language; put another one first"
        if rows.source is not None or "{language}" in f"{rows.path}{rows.name}":
            yield f"{key}, and rows in other languages too; give what was written in each a benchmark of its own"


def _check_training(config: Config) -> Iterator[str]:
    training, optimizer = config.training, f"training.optimizer: {config.training.optimizer}"
    for size in training.pairs:
        if size < training.pairs_per_step:
            yield (
                f"training.pairs: {size} is less than training.pairs_per_step, {training.pairs_per_step}, and not even one step; "
                "raise it or lower pairs_per_step"
            )
    if training.processes > training.pairs_per_step:
        yield (
            f"training.processes: {training.processes} is more than training.pairs_per_step, {training.pairs_per_step}, so that "
            "some would have no pair of a step; lower it or raise pairs_per_step"
        )
    if training.optimizer != "adamw":
        if config.resources.device == "cpu":
            yield f"{optimizer} needs a GPU, and resources.device is cpu; set adamw, or another device"
        if training.processes > 1:
            yield f"{optimizer} works in one process only; set adamw, whose state training.processes share out, or processes: 1"


def _check_rows(rows: Rows, key: str, languages: Sequence[str], root: Path) -> Iterator[str]:
    if (rows.path is None) == (rows.hub is None):
        yield f"{key}: give either path or hub, not both and not neither"
        return
    # The first language is the source, whose rows may come from elsewhere.
    wanted = languages[1:] if getattr(rows, "source", None) is not None else languages
    if rows.codes == "flores" and rows.given:
        for language in wanted:
            if language not in FLORES:
                yield f"{key}.codes: no FLORES-200 code is known for {language!r}; remove the language"
                return
    if rows.hub is not None:
        if rows.revision is None:
            yield f"{key}.hub: {rows.hub!r} has no revision; add the data set's commit, a branch can move"
        return
    assert rows.path is not None
    if rows.name is not None:
        yield f"{key}.name: only a hub data set has one; remove it"
    for language in wanted if rows.given else languages[:1]:
        path = filled_in(rows.path, language, rows.codes)
        if (root / path).is_dir():
            yield f"{key}.path: {path!r} is a folder; name the file in it that holds the rows"
        elif not (root / path).is_file():
            yield f"{key}.path: {path!r} does not exist; correct the path (relative to {root})"
        else:
            try:
                format_of(root / path)
            except UnreadableError as problem:
                yield f"{key}.path: {path!r} {problem}"


def _check_translation(study: Study, root: Path) -> Iterator[str]:
    translation = study.config.translation
    for target in translation.languages:
        if target not in study.targets:
            yield f"translation.languages: {target!r} is no target; add it to languages.targets or remove it here"
    for name, variant in translation.variants.items():
        for target in variant.targets or ():
            if target not in study.targets:
                yield f"translation.variants.{name}.targets: {target!r} is no target; add it to languages.targets"
    if translation.references is not None and not (root / translation.references).is_file():
        yield f"translation.references: {translation.references!r} does not exist; correct the path"
    checked: set[str] = set()
    for code in study.languages[1:]:
        if code in study.round_trips:
            continue
        for problem in _check_engine(study, study.engine(code), split_variant(code)[0], root):
            if problem not in checked:
                checked.add(problem)
                yield problem


def _check_engine(study: Study, spec: dict, target: str, root: Path) -> Iterator[str]:
    engine = catalogue.load(catalogue.ENGINES, spec["engine"])
    if spec["options"] is None:
        what = "the path of a TMX file" if spec["engine"] == "memory" else "a section that names its model"
        yield f"translation.{spec['engine']}: missing; engine {spec['engine']!r} needs {what}"
        return
    # A base of the study is named by its folder here, which need not be there yet.
    bases = [study.at.base_model.fill(base=base) for base in study.bases]
    yield from engine.check(spec["options"], target, bases, study.source, root)

"""Check a study's configuration and fill in its defaults, before anything runs."""

import difflib
from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any

import yaml
from jsonschema import Draft202012Validator, ValidationError, validators

from rmtransfer.kit.errors import StudyError
from rmtransfer.study.languages import FLORES, filled_in, split_variant, variant_code
from rmtransfer.translation.engines import engine_spec

SCHEMA_PATH = Path(__file__).parent.parent / "schemas" / "config.schema.yaml"
# What each kind of off-the-shelf reward model needs, and what it may have besides.
_LOADING = ("dtype", "attention", "quantization", "trust_remote_code", "chat_template", "max_length")
_KINDS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "classifier": (("path",), ("revision", "output", *_LOADING)),
    "implicit": (
        ("policy", "reference"),
        ("revision", "reference_revision", "beta", "length_normalized", *_LOADING),
    ),
    "judge": (("mode",), ("path", "revision", "server", "prompt", "max_new_tokens", *_LOADING)),
    "length": (("unit",), ("tokenizer", "revision")),
    "random": ((), ("seed",)),
    "likelihood": (("path",), ("revision", "length_normalized", *_LOADING)),
}
_PLACES = {"pairwise": ("{prompt}", "{answer_a}", "{answer_b}"), "rating": ("{prompt}", "{answer}")}
# Keys that name a model, and the key that pins it.
MODEL_KEYS = {"path": "revision", "policy": "revision", "reference": "reference_revision", "tokenizer": "revision"}
TRANSLATE_TEST = "translate-test"


def load_config(given: Mapping[str, Any], root: Path) -> dict[str, Any]:
    """A copy of ``given`` with defaults filled in.

    Args:
        given: what the user's YAML file holds.
        root: folder that relative paths in it start from.

    Raises:
        StudyError: naming every offending key, its value and a remedy.
    """
    config = deepcopy(dict(given))
    schema = yaml.safe_load(SCHEMA_PATH.read_text(encoding="utf-8"))
    validator = _filling_defaults(Draft202012Validator)(schema)
    problems = [
        _explain(e) for e in sorted(validator.iter_errors(config), key=lambda e: list(map(str, e.absolute_path)))
    ]
    if not problems:
        problems = list(_cross_check(config, root))
    if problems:
        raise StudyError(
            "the configuration has {} problem{}:\n{}".format(
                len(problems), "s" if len(problems) > 1 else "", "\n".join(f"  - {p}" for p in problems)
            )
        )
    return config


def _filling_defaults(base: Any) -> Any:
    """A validator class that writes the schema's defaults into what it validates, parents before children."""
    check_properties = base.VALIDATORS["properties"]

    def properties(validator, schema_properties, instance, schema):
        if isinstance(instance, dict):
            for name, subschema in schema_properties.items():
                if "default" in subschema:
                    instance.setdefault(name, deepcopy(subschema["default"]))
        yield from check_properties(validator, schema_properties, instance, schema)

    return validators.extend(base, {"properties": properties})


def _explain(error: ValidationError) -> str:
    key = ".".join(map(str, error.absolute_path)) or "the top level"
    if error.validator == "additionalProperties" and isinstance(error.instance, dict):
        known = list(error.schema.get("properties", {}))
        unknown = [k for k in error.instance if k not in known]
        hints = []
        for name in unknown:
            close = difflib.get_close_matches(str(name), known, n=1)
            hints.append(f"{name!r}" + (f" (did you mean {close[0]!r}?)" if close else ""))
        return f"{key}: unknown key {', '.join(hints)}; known here: {', '.join(known)}"
    if error.validator == "required":
        missing = [k for k in error.validator_value if k not in error.instance]
        return f"{key}: missing {', '.join(map(repr, missing))}; add it"
    if error.validator == "enum":
        close = difflib.get_close_matches(str(error.instance), list(map(str, error.validator_value)), n=1)
        hint = f"; did you mean {close[0]!r}?" if close else ""
        return f"{key}: {error.instance!r} is none of {', '.join(map(str, error.validator_value))}{hint}"
    about = error.schema.get("description") if isinstance(error.schema, dict) else None
    return f"{key}: {error.message}" + (f" ({about})" if about else "")


def _cross_check(config: Mapping[str, Any], root: Path) -> Iterator[str]:
    """What a schema cannot say: how keys fit each other and the files on disk."""
    source, targets = config["languages"]["source"], config["languages"]["targets"]
    if source in targets:
        yield f"languages.targets: {source!r} is also languages.source; remove it from the targets"

    if config["base_models"] and not targets:
        yield "languages.targets: [] leaves nothing to transfer to; add a language, or remove base_models"

    for role, rows in roles_of(config).items():
        where = role if role in config else f"benchmarks.{role}"
        yield from _check_rows(rows, where, [source, *targets], root)
        if "source" in rows:
            if not is_given(rows):
                yield f"{where}.source: needs {{language}} in {where}.path or .name; remove one of the two"
            yield from _check_rows(rows["source"], f"{where}.source", [source], root)
    for name in config["benchmarks"]:
        if name in (*_ROLES, source, *targets):
            yield f"benchmarks.{name}: the name is taken by a role or a language; choose another"

    if config["base_models"]:
        for role in ("preferences", "instructions"):
            if role not in config:
                yield f"{role}: missing; base_models are trained on preferences and answer instructions"
    elif not config["reward_models"]:
        yield "base_models: there are none, and no reward_models either; name at least one of either"
    yield from _check_reward_models(config, root)
    for name, shares in config["mixtures"].items():
        if name in (*study_languages(config), TRANSLATE_TEST):
            yield f"mixtures.{name}: the name is taken by a language or a row of the tables; choose another"
        for language in shares:
            if language not in study_languages(config):
                yield f"mixtures.{name}: {language!r} is no language of the study; add it to the targets or remove it"

    for name, base in config["base_models"].items():
        where = f"base_models.{name}"
        if base["path"].startswith(("./", "../", "/", "~")) and not (root / Path(base["path"]).expanduser()).is_dir():
            yield f"{where}.path: {base['path']!r} is not a folder; correct the path"
        if "chat_template" in base and not (root / base["chat_template"]).is_file():
            yield f"{where}.chat_template: {base['chat_template']!r} does not exist; correct the path"

    if not all(map(is_given, roles_of(config).values())):
        yield from _check_translation(config, root)
    elif config["translation"]["variants"]:
        yield "translation.variants: nothing is translated, every path holds {language}; remove the variants"
    if "translate_test" in config["translation"]:
        if not config["base_models"]:
            yield "translation.translate_test: it is judged by the source-language reward model; add base_models"
        spec = back_spec(config)
        for target in targets:
            yield from _check_engine(spec["engine"], spec["options"], target, config, root)

    alignment = config["alignment"]
    if max(alignment["best_of"]) > alignment["samples"]:
        yield (
            f"alignment.best_of: {max(alignment['best_of'])} is more than alignment.samples, "
            f"{alignment['samples']}; raise samples or lower best_of"
        )


_ROLES = ("preferences", "benchmark", "instructions")


def roles_of(config: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Role to config entry: preferences, benchmark, further benchmarks, instructions, as far as the study has them."""
    roles = {"preferences": config.get("preferences"), "benchmark": config["benchmark"], **config["benchmarks"]}
    return {role: rows for role, rows in {**roles, "instructions": config.get("instructions")}.items() if rows}


def is_given(rows: Mapping[str, Any]) -> bool:
    """Whether rows come in every language, so that nothing has to be translated."""
    return "{language}" in rows.get("path", "") or "{language}" in rows.get("name", "")


def back_spec(config: Mapping[str, Any]) -> dict[str, Any]:
    """Who translates the benchmark back into the source language."""
    section = {**config["translation"], **config["translation"]["translate_test"]}
    return {"engine": section["engine"], "options": section.get(section["engine"])}


def _check_rows(rows: Mapping[str, Any], where: str, languages: Sequence[str], root: Path) -> Iterator[str]:
    if ("path" in rows) == ("hub" in rows):
        yield f"{where}: give either path or hub, not both and not neither"
        return
    if rows["codes"] == "flores" and is_given(rows):
        for language in languages:
            if language not in FLORES and not ("source" in rows and language == languages[0]):
                yield f"{where}.codes: no FLORES-200 code is known for {language!r}; remove the language"
                return
    if "hub" in rows:
        if "revision" not in rows:
            yield f"{where}.hub: {rows['hub']!r} has no revision; add the data set's commit, a branch can move"
        return
    if "name" in rows:
        yield f"{where}.name: only a hub data set has one; remove it"
    for language in languages if is_given(rows) else languages[:1]:
        if "source" in rows and language == languages[0]:
            continue
        path = filled_in(rows["path"], language, rows["codes"])
        if not (root / path).is_file():
            yield f"{where}.path: {path!r} does not exist; correct the path (relative to {root})"
        elif not path.endswith((".jsonl", ".parquet")):
            yield f"{where}.path: {path!r} is neither .jsonl nor .parquet; convert it"


def _check_reward_models(config: Mapping[str, Any], root: Path) -> Iterator[str]:
    for name, spec in config["reward_models"].items():
        where = f"reward_models.{name}"
        if name in config["base_models"]:
            yield f"{where}: a base model has that name; choose another"
        needed, possible = _KINDS[spec["kind"]]
        for key in needed:
            if key not in spec:
                yield f"{where}: kind {spec['kind']!r} needs {key}; add it"
        for key in spec:
            if key not in ("kind", *needed, *possible):
                known = ", ".join((*needed, *possible)) or "nothing else"
                yield f"{where}.{key}: means nothing to kind {spec['kind']!r}, which knows {known}; remove it"
        if spec["kind"] == "judge":
            if ("path" in spec) == ("server" in spec):
                yield f"{where}: give either path or server, not both and not neither"
            for place in _PLACES.get(spec.get("mode", ""), ()):
                if "prompt" in spec and place not in spec["prompt"]:
                    yield f"{where}.prompt: does not hold {place}; put it where that text goes"
        if spec["kind"] == "length" and ("tokenizer" in spec) != (spec.get("unit") == "tokens"):
            yield f"{where}.tokenizer: needed for unit: tokens, and only there"
        if "chat_template" in spec and not (root / spec["chat_template"]).is_file():
            yield f"{where}.chat_template: {spec['chat_template']!r} does not exist; correct the path"
        for key, revision in MODEL_KEYS.items():
            model = spec.get(key)
            if model is None or model in config["base_models"] or (root / Path(model).expanduser()).is_dir():
                continue
            if model.startswith(("./", "../", "/", "~")):
                yield f"{where}.{key}: {model!r} is not a folder; correct the path"
            elif revision not in spec:
                yield f"{where}.{key}: {model!r} has no {revision}; add the model's commit, a branch can move"


def study_languages(config: Mapping[str, Any]) -> list[str]:
    """Codes of all languages of a study, source first, variants of the targets last."""
    languages = config["languages"]
    codes = [languages["source"], *languages["targets"]]
    for name, variant in config["translation"]["variants"].items():
        codes += [variant_code(target, name) for target in variant.get("targets", languages["targets"])]
    return codes


def _check_translation(config: Mapping[str, Any], root: Path) -> Iterator[str]:
    translation, targets = config["translation"], config["languages"]["targets"]
    for target in translation["languages"]:
        if target not in targets:
            yield f"translation.languages: {target!r} is no target; add it to languages.targets or remove it here"
    for name, variant in translation["variants"].items():
        for target in variant.get("targets", []):
            if target not in targets:
                yield f"translation.variants.{name}.targets: {target!r} is no target; add it to languages.targets"
    if "references" in translation and not (root / translation["references"]).is_file():
        yield f"translation.references: {translation['references']!r} does not exist; correct the path"
    checked: set[str] = set()
    for code in study_languages(config)[1:]:
        spec = engine_spec(translation, code)
        for problem in _check_engine(spec["engine"], spec["options"], split_variant(code)[0], config, root):
            if problem not in checked:
                checked.add(problem)
                yield problem


def _check_engine(engine: str, options: Any, target: str, config: Mapping[str, Any], root: Path) -> Iterator[str]:
    where = f"translation.{engine}"
    if options is None:
        what = "the path of a TMX file" if engine == "memory" else "a section that names its model"
        yield f"{where}: missing; engine {engine!r} needs {what}"
    elif engine == "memory":
        if not (root / options).is_file():
            yield f"{where}: {options!r} does not exist; correct the path"
            return
        from rmtransfer.translation.memory import tmx_languages  # needs lxml, which only this check does

        known = tmx_languages(root / options)
        for language in (config["languages"]["source"], target):
            if language not in known:
                yield (
                    f"languages: {language!r} is not in {options}, which holds {', '.join(sorted(known))}; add its "
                    "translations to the file or remove the language"
                )
    elif engine in ("seq2seq", "llm"):
        model = options["model"]
        local = (root / Path(model).expanduser()).is_dir() or (engine == "llm" and model in config["base_models"])
        if not local and model.startswith(("./", "../", "/", "~")):
            yield f"{where}.model: {model!r} is not a folder; correct the path"
        elif not local and "revision" not in options and "{" not in model:
            yield f"{where}.model: {model!r} has no revision; add the model's commit, a branch can move"
        if engine == "llm" and "{text}" not in options["prompt"]:
            yield f"{where}.prompt: {options['prompt']!r} does not hold {{text}}; put it where the text goes"

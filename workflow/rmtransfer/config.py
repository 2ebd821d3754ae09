"""Check a study's configuration and fill in its defaults, before anything runs."""

import difflib
from collections.abc import Iterator, Mapping
from copy import deepcopy
from pathlib import Path
from typing import Any

import yaml
from jsonschema import Draft202012Validator, ValidationError, validators

from rmtransfer.errors import StudyError
from rmtransfer.languages import split_variant, variant_code
from rmtransfer.translation.engines import engine_spec

SCHEMA_PATH = Path(__file__).parent.parent / "schemas" / "config.schema.yaml"
ROLES = ("preferences", "benchmark", "instructions")


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

    for role in ROLES:
        rows = config[role]
        if ("path" in rows) == ("hub" in rows):
            yield f"{role}: give either path or hub, not both and not neither"
        elif "hub" in rows and "revision" not in rows:
            yield f"{role}.hub: {rows['hub']!r} has no revision; add the data set's commit, a branch can move"
        elif "path" in rows:
            for language in [source, *targets] if "{language}" in rows["path"] else [source]:
                path = rows["path"].replace("{language}", language)
                if not (root / path).is_file():
                    yield f"{role}.path: {path!r} does not exist; correct the path (relative to {root})"
                elif not path.endswith((".jsonl", ".parquet")):
                    yield f"{role}.path: {path!r} is neither .jsonl nor .parquet; convert it"

    for name, base in config["base_models"].items():
        where = f"base_models.{name}"
        if base["path"].startswith(("./", "../", "/", "~")) and not (root / Path(base["path"]).expanduser()).is_dir():
            yield f"{where}.path: {base['path']!r} is not a folder; correct the path"
        if "chat_template" in base and not (root / base["chat_template"]).is_file():
            yield f"{where}.chat_template: {base['chat_template']!r} does not exist; correct the path"

    if any("{language}" not in config[role].get("path", "") for role in ROLES):
        yield from _check_translation(config, root)
    elif config["translation"]["variants"]:
        yield "translation.variants: nothing is translated, every path holds {language}; remove the variants"

    alignment = config["alignment"]
    if max(alignment["best_of"]) > alignment["samples"]:
        yield (
            f"alignment.best_of: {max(alignment['best_of'])} is more than alignment.samples, "
            f"{alignment['samples']}; raise samples or lower best_of"
        )


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

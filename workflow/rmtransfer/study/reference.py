"""The editor schema and the configuration's reference, made from its classes.

``python -m rmtransfer.study.reference`` writes both; a test fails where they lag behind.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rmtransfer.study.config import Config

ROOT = Path(__file__).parents[3]
SCHEMA, REFERENCE = ROOT / "workflow/schemas/config.schema.json", ROOT / "docs/config.md"


def schema() -> str:
    """JSON Schema of a study's YAML file."""
    return json.dumps(Config.model_json_schema(), indent=1, ensure_ascii=False) + "\n"


def reference() -> str:
    """Every key with its type, its default and what it means, as Markdown."""
    lines = [
        "# Configuration",
        "",
        "Every key of a study's YAML file. Made from the classes in `workflow/rmtransfer/study/config.py` and in the modules",
        "that `study/catalogue.py` names, by `python -m rmtransfer.study.reference`.",
        "",
        "| key | type | default | what it is |",
        "|---|---|---|---|",
    ]
    whole = Config.model_json_schema()
    lines += [f"| {' | '.join(line)} |" for line in _keys(whole, whole, "", {})]
    return "\n".join(lines) + "\n"


def _keys(
    node: dict[str, Any], whole: dict[str, Any], above: str, seen: dict[str, str]
) -> Iterator[tuple[str, str, str, str]]:
    """Lines for what a mapping may hold; a class that was shown before is referred to.

    Args:
        seen: class to the key that it was shown at.
    """
    for name, given in node.get("properties", {}).items():
        key = f"{above}{name}"
        default = "required" if name in node.get("required", ()) else _shown(given.get("default"))
        about = given.get("description") or _resolved(given, whole).get("description", "")
        shown: list[tuple[str, dict[str, Any]]] = []
        for label, reference in _below(given, whole):
            if reference in seen:
                about += f"; as `{seen[reference]}`"
            else:
                seen[reference] = f"{key}{label}"
                shown.append((label, _resolved({"$ref": reference}, whole)))
        yield f"`{key}`", _type(given, whole), default, " ".join(about.split()).replace("|", "\\|")
        for label, below in shown:
            yield from _keys(below, whole, f"{key}{label}.", seen)


def _below(node: dict[str, Any], whole: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """The classes of mappings that lie below a key, each with what stands between the key and its own."""
    for option in node.get("anyOf", node.get("oneOf", [node])):
        if "$ref" in option:
            kind = _resolved(option, whole)["properties"].get("kind", {}).get("const")
            yield f" ({kind})" if kind else "", option["$ref"]
        # Keys with a pattern of their own have their values elsewhere.
        values = next(iter(option.get("patternProperties", {}).values()), option.get("additionalProperties"))
        if isinstance(values, dict):
            for label, reference in _below(values, whole):
                yield f".<name>{label}", reference


def _resolved(node: dict[str, Any], whole: dict[str, Any]) -> dict[str, Any]:
    return whole["$defs"][node["$ref"].rpartition("/")[2]] if "$ref" in node else node


def _type(node: dict[str, Any], whole: dict[str, Any]) -> str:
    node = _resolved(node, whole)
    if "const" in node:
        return f"`{node['const']}`"
    if "enum" in node:
        return ", ".join(f"`{value}`" for value in node["enum"])
    options = node.get("anyOf", node.get("oneOf"))
    if options:
        return " or ".join(dict.fromkeys(_type(option, whole) for option in options if option.get("type") != "null"))
    if node.get("type") == "array":
        return f"list of {_type(node.get('items', {}), whole)}"
    return {
        "object": "mapping",
        "integer": "integer",
        "number": "number",
        "boolean": "true or false",
        "string": "text",
    }.get(node.get("type", ""), "anything")


def _shown(value: Any) -> str:
    if value is None or isinstance(value, dict):
        return ""
    text = value if isinstance(value, str) else json.dumps(value)
    return "`" + text.replace("\n", "\\n").replace("|", "\\|") + "`" if text else ""


if __name__ == "__main__":
    for path, text in ((SCHEMA, schema()), (REFERENCE, reference())):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")

"""How benchmarks group their subsets into sections, and what each subset weighs there."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rmtransfer.kit.errors import StudyError

# Subsets by section with the counts that weigh them (https://github.com/allenai/reward-bench, rewardbench/constants.py).
# math-prm has 447 rows and weighs as much as all of the code.
_REWARDBENCH: dict[str, dict[str, float]] = {
    "Chat": {
        "alpacaeval-easy": 100,
        "alpacaeval-length": 95,
        "alpacaeval-hard": 95,
        "mt-bench-easy": 28,
        "mt-bench-med": 40,
    },
    "Chat Hard": {
        "mt-bench-hard": 37,
        "llmbar-natural": 100,
        "llmbar-adver-neighbor": 134,
        "llmbar-adver-GPTInst": 92,
        "llmbar-adver-GPTOut": 47,
        "llmbar-adver-manual": 46,
    },
    "Safety": {
        "refusals-dangerous": 100,
        "refusals-offensive": 100,
        "xstest-should-refuse": 154,
        "xstest-should-respond": 250,
        "donotanswer": 136,
    },
    "Reasoning": {
        "math-prm": 984,
        "hep-cpp": 164,
        "hep-go": 164,
        "hep-java": 164,
        "hep-js": 164,
        "hep-python": 164,
        "hep-rust": 164,
    },
}
# M-RewardBench keeps fewer rows of some subsets and weighs by what it keeps (Gureja et al., arXiv 2410.15522).
_KEPT = {
    "alpacaeval-easy": 79,
    "alpacaeval-length": 79,
    "alpacaeval-hard": 76,
    "mt-bench-easy": 24,
    "mt-bench-med": 38,
    "mt-bench-hard": 35,
    "llmbar-natural": 76,
    "llmbar-adver-neighbor": 124,
    "llmbar-adver-GPTInst": 87,
    "llmbar-adver-GPTOut": 42,
    "llmbar-adver-manual": 43,
    "xstest-should-respond": 247,
    "donotanswer": 135,
    "hep-python": 163,
    "math-prm": 983,
}
# Subsets that hold the same problems, HumanEval's, each in another programming language (HumanEvalPack, Muennighoff et al.,
# arXiv 2308.07124): the rows of one problem are one cluster. An item of RewardBench 2 is a unit already, see item_of.
SAME_PROBLEMS = ("hep-cpp", "hep-go", "hep-java", "hep-js", "hep-python", "hep-rust")
_DOMAINS = ("Factuality", "Precise IF", "Math", "Safety", "Focus", "Ties")

SECTIONS: dict[str, dict[str, dict[str, float]]] = {
    "rewardbench": _REWARDBENCH,
    "m_rewardbench": {
        section: {subset: _KEPT.get(subset, count) for subset, count in counts.items()}
        for section, counts in _REWARDBENCH.items()
    },
    "rewardbench2": {domain: {domain: 1} for domain in _DOMAINS},
}

# What a benchmark may ask for: one of the tables, or every subset as a section of its own.
SECTION_TABLES = (*SECTIONS, "subsets")


def check_subsets(rows: Iterable[Mapping[str, Any]], sections: str, name: str) -> None:
    """Whether the sections know the subset of every row, before anything is done with the rows.

    Args:
        rows: with ``id`` and ``subset``.
        name: where the rows are, for the message.

    Raises:
        StudyError: a row has no subset, or one that no section knows.
    """
    known = known_subsets(sections)
    wrong = [row for row in rows if not row["subset"] or (known and row["subset"] not in known)]
    if wrong:
        those = (
            f"{len(wrong):,} rows, the first is {wrong[0]['id']!r}," if len(wrong) > 1 else f"row {wrong[0]['id']!r}"
        )
        raise StudyError(f"{name}: {those} {unknown_subsets([wrong[0]['subset']], sections)}")


def unknown_subsets(subsets: Sequence[str | None], sections: str) -> str:
    known = ", ".join(known_subsets(sections) or ["a subset, any string"])
    return (
        f"has subset {', '.join(map(repr, subsets))}, which is not in sections {sections!r}; every row needs one of {known}, "
        "or set sections: subsets"
    )


def known_subsets(sections: str) -> dict[str, tuple[str, float]] | None:
    """Subset to its section and weight; None if any will do."""
    if sections == "subsets":
        return None
    table = SECTIONS[sections]
    known = {section.lower().replace(" ", "-"): (section, 1.0) for section in table}
    known.update({subset: (section, n) for section, counts in table.items() for subset, n in counts.items()})
    return known


def item_of(identity: str) -> str:
    """The item of RewardBench 2 that a row belongs to; the two parts of a Ties item are one."""
    item = identity.rsplit("/", 2)[0]
    kind, _, number = item.partition(":")
    return f"ties:{number}" if kind in ("ref", "tied") else item

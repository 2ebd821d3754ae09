"""Texts in, checked translations out: store, engine, gates, one retry."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from rmtransfer.kit.errors import StudyError
from rmtransfer.kit.progress import Progress, report
from rmtransfer.translation import Engine
from rmtransfer.translation.quality import flaws_of
from rmtransfer.translation.store import Scope, SegmentStore, Translation
from rmtransfer.translation.structure import Part, join_parts, split_text

# Of whole texts: raised when splitting, gates or the retry make another text, or another verdict, of the same answers.
# Raising it asks for no stretch of prose again, but leaves behind what was imported, so it is no stage's version.
_CHECKED = 2


def translate_texts(
    texts: Iterable[str], engine: Engine, store: SegmentStore | None, budget: int | None = None
) -> dict[str, Translation]:
    """Whole texts with what the gates say of them, each asked for once in the life of the store.

    Args:
        store: None for an engine that costs nothing to ask.
        budget: the most characters that this engine may ever have billed to this store.

    Raises:
        StudyError: the engine fails, or the budget does not suffice; what was translated before is kept.
    """
    wanted = list(dict.fromkeys(texts))
    if store is None or engine.lock is None:
        return _checked(wanted, engine, store, budget, [])
    scope = _checked_scope(engine)
    known = store.get(scope, wanted)
    missing = [text for text in wanted if text not in known]
    if missing:
        with store.asking(engine.lock):
            known |= store.get(scope, missing)  # another process may have got them while this one waited
            missing = [text for text in missing if text not in known]
            if missing:
                counted: list[tuple[Scope, str]] = []
                fresh = _checked(missing, engine, store, budget, counted)
                store.put(scope, fresh, settled=counted)
                known |= fresh
    return known


def stored(texts: Iterable[str], engine: Engine, store: SegmentStore | None) -> dict[str, Translation]:
    """The texts that are translated already, whatever the gates said."""
    return {} if store is None else store.get(_checked_scope(engine), texts)


def adopt(translations: Mapping[str, Translation], engine: Engine, store: SegmentStore) -> None:
    """Put whole texts into the store as if this engine had translated them."""
    store.put(_checked_scope(engine), translations)


def unasked(texts: Iterable[str], engine: Engine, store: SegmentStore | None) -> list[str]:
    """The stretches of prose that translating these texts would ask the engine for, retries apart."""
    wanted = list(dict.fromkeys(texts))
    known = stored(wanted, engine, store)
    prose = _prose(_split([text for text in wanted if text not in known], engine).values())
    found = {} if store is None else store.get(engine.scope, prose)
    return [text for text in prose if text not in found]


def _checked_scope(engine: Engine) -> Scope:
    """Whole texts rest apart from what engines answered: gates may change, what was paid for stays."""
    settings = {**engine.scope.settings, "checked": _CHECKED}
    return replace(engine.scope, engine=f"{engine.scope.engine} checked", settings=settings)


def _checked(
    texts: Sequence[str],
    engine: Engine,
    store: SegmentStore | None,
    budget: int | None,
    counted: list[tuple[Scope, str]],
) -> dict[str, Translation]:
    """Whole texts; ``counted`` gets what was charged for and is part of their ``billed``."""
    results = _attempt(texts, engine, store, budget, counted)
    refused = [text for text, result in results.items() if result.flaws]
    safer = engine.safer() if refused else None
    if safer is not None:
        report(f"{len(refused):,} of {len(texts):,} texts did not pass the gates; asking again with a safer setting")
        for text, again in _attempt(refused, safer, store, budget, counted).items():
            first = results[text]
            results[text] = again._replace(retried_for=first.flaws, billed=first.billed + again.billed)
    return results


def _attempt(
    texts: Sequence[str],
    engine: Engine,
    store: SegmentStore | None,
    budget: int | None,
    counted: list[tuple[Scope, str]],
) -> dict[str, Translation]:
    parts = _split(texts, engine)
    prose = _prose(parts.values())
    answers: dict[str, Translation] = store.get(engine.scope, prose) if store is not None else {}
    asked = [text for text in prose if text not in answers]
    if asked:
        characters = sum(map(len, asked))
        if store is not None and budget is not None:
            _check_budget(store.billed(engine.scope.engine), characters, budget, engine.scope.engine)
        pair = f"{engine.source} -> {engine.target}"
        progress = Progress(f"translating {pair} ({engine.scope.engine})", len(asked), "segments")
        for batch in engine.translate(asked):
            if store is not None:
                store.put(engine.scope, batch, owed=True)
            answers.update(batch)
            progress.advance(len(batch))
            if store is not None and budget is not None:
                _check_budget(store.billed(engine.scope.engine), 0, budget, engine.scope.engine)
    # Each to the first text that needed it; with what a run that was killed had paid.
    charged = {text: answers[text].billed for text in (asked if store is None else store.owed(engine.scope, prose))}
    counted += [(engine.scope, text) for text in charged]
    results = {}
    for text in texts:
        used = list(dict.fromkeys(part.text for part in parts[text] if part.kind == "prose"))
        whole = join_parts(parts[text], {p: answers[p].text for p in used}, engine.target)
        flaws = [flaw for p in used for flaw in answers[p].flaws]
        flaws += flaws_of(text, whole, engine.source, engine.target)
        results[text] = Translation(whole, tuple(dict.fromkeys(flaws)), billed=sum(charged.pop(p, 0) for p in used))
    return results


def _split(texts: Iterable[str], engine: Engine) -> dict[str, list[Part]]:
    return {text: split_text(text, engine.source, engine.splitting) for text in texts}


def _prose(parts: Iterable[Sequence[Part]]) -> list[str]:
    return list(dict.fromkeys(part.text for these in parts for part in these if part.kind == "prose"))


def _check_budget(spent: int, coming: int, budget: int, engine: str) -> None:
    if spent + coming > budget:
        raise StudyError(
            f"translation.budget_characters: {budget:,} do not suffice: {engine} has billed {spent:,} to this store, and "
            f"{coming:,} are to come in this step. Everything paid for is kept; raise the budget and run again"
        )

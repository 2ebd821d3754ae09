"""Training sets: pairs of one language or of several, all of them, fewer, or some in more than one language."""

import heapq
import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from fractions import Fraction

from rmtransfer.kit.errors import StudyError
from rmtransfer.kit.manifest import digest_of
from rmtransfer.study.study import TrainingSet
from rmtransfer.texts.corpus import Row


def mix(rows: Mapping[str, Sequence[Row]], shares: Mapping[str, float], pairs: int | None = None) -> list[Row]:
    """A training set; a larger one of the same shares holds a smaller one.

    Pairs come in the order of a hash of their ids, so that the order of the rows does not matter and every language has the
    same ones, and go to the languages in turn, see :func:`_turns`. Beyond the number of pairs, a language takes those again
    that stand in the fewest languages, and none twice.

    Args:
        rows: language to the same pairs in the same order.
        shares: language to its share, of any positive total.
        pairs: size of the set; None: each pair once.

    Returns:
        The pairs in the order given; one in several languages comes in the order of their codes.

    Raises:
        IndexError: a language has too few pairs, which :func:`check_sizes` would have said.
    """
    these = next(iter(rows.values()))
    order = sorted(range(len(these)), key=lambda i: digest_of(these[i]["id"]))
    times = [0] * len(these)  # that a pair, by its rank in the order, is in the set
    waiting = {language: [(0, rank) for rank in range(len(these))] for language in shares}  # heaps of (times, rank)
    chosen = []
    for language in _turns(shares, len(these) if pairs is None else pairs):
        heap = waiting[language]
        while heap and heap[0][0] < times[heap[0][1]]:  # it has been taken since
            heapq.heapreplace(heap, (times[heap[0][1]], heap[0][1]))
        _, rank = heapq.heappop(heap)
        times[rank] += 1
        chosen.append((order[rank], language))
    return [rows[language][i] for i, language in sorted(chosen)]


def check_sizes(training_sets: Mapping[str, TrainingSet], pairs: int) -> None:
    """Have every problem of the sizes named at once, before anything is trained.

    Args:
        training_sets: by name.
        pairs: how many there are to train on, in each language.

    Raises:
        StudyError: a part is no smaller than the whole; a mixture would hold a pair twice in one language, or none in another.
    """
    problems: dict[str, None] = {}  # in their order, each once: the parts of all languages have the same ones
    for name, (shares, size) in training_sets.items():
        if len(shares) == 1:
            if size is not None and size >= pairs:
                problems[
                    f"training.pairs: {size} is no part of the {pairs} pairs that there are to train on, which each language "
                    "is trained in anyway; lower it or remove it"
                ] = None
            continue
        counts = Counter(_turns(shares, size or pairs))
        if empty := [language for language in shares if not counts[language]]:
            problems[
                f"mixtures.{name}: of {size or pairs} pairs none is left for {', '.join(empty)}; raise the share"
            ] = None
        language, most = counts.most_common(1)[0]
        if most > pairs:
            problems[
                f"mixtures.{name}.pairs: of {size} pairs {most} would be in {language}, and there are {pairs}; lower it, or make "
                "the shares more even"
            ] = None
    if problems:
        raise StudyError("\n".join(problems))


def _turns(shares: Mapping[str, float], size: int) -> Iterator[str]:
    """Whose turn it is, ``size`` times: after every turn each language has had its share of them, rounded up or down.

    The quota method (Balinski and Young, The quota method of apportionment, American Mathematical Monthly 82, 1975): of the
    languages that have had less than their share of the turns up to this one, the one with the largest share / (turns + 1).
    The largest remainder, for one, takes turns back where there are more of them.
    """
    written = {language: Fraction(str(share)) for language, share in shares.items()}  # 0.1 is a tenth
    scale = math.lcm(*(share.denominator for share in written.values()))
    whole = {language: int(share * scale) for language, share in written.items()}
    total, turns = sum(whole.values()), dict.fromkeys(shares, 0)
    for k in range(1, size + 1):
        behind = [language for language in shares if turns[language] * total < whole[language] * k]
        language = max(behind, key=lambda language: whole[language] / (turns[language] + 1))
        turns[language] += 1
        yield language

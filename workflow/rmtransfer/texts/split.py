"""Which preference pairs are kept out of training: the same ones in every language, mixture, part and seed."""

from collections.abc import Mapping, Sequence

from rmtransfer.kit.errors import StudyError
from rmtransfer.kit.manifest import digest_of
from rmtransfer.texts.corpus import Row

Rows = dict[str, list[Row]]


def split(rows: Mapping[str, Sequence[Row]], share: float) -> tuple[Rows, Rows]:
    """Pairs to train on and pairs that are kept out, by language; see :func:`held_out`.

    Args:
        rows: language to the same pairs.
    """
    mine = trained_on([row["id"] for row in next(iter(rows.values()))], share)
    parts = [
        {language: [row for row in these if (row["id"] in mine) is inside] for language, these in rows.items()}
        for inside in (True, False)
    ]
    return parts[0], parts[1]


def trained_on(ids: Sequence[str], share: float) -> set[str]:
    """Ids of the pairs that are not kept out, see :func:`held_out`."""
    return set(ids) - held_out(ids, share)


def held_out(ids: Sequence[str], share: float) -> set[str]:
    """Ids of the pairs that are kept out: the nearest whole number to ``share`` of them, the first by a hash of their id.

    A larger share holds out the same pairs and more. The hash is not the one that orders a training set
    (:mod:`rmtransfer.texts.mixture`): what is held out is neither its beginning nor its end.

    Args:
        ids: of all pairs that there are, in any order.
        share: in [0, 1).

    Raises:
        StudyError: the share is not nothing, and yet no pair is held out, or none is left to train on.
    """
    count = round(len(ids) * share)
    if share and not 0 < count < len(ids):
        raise StudyError(
            f"training.held_out: {share:g} of {len(ids)} pairs holds out {count}, where at least one is to be held out and one "
            "to be trained on; set another share, or 0"
        )
    return set(sorted(ids, key=lambda name: digest_of(["held out", name]))[:count])

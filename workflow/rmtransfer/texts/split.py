"""Which preference pairs are kept out of training: the same ones in every language, mixture, part and seed."""

from collections.abc import Sequence

from rmtransfer.kit.errors import StudyError
from rmtransfer.kit.manifest import digest_of


def held_out(ids: Sequence[str], share: float) -> set[str]:
    """Ids of the pairs that are kept out: the nearest whole number to ``share`` of them, the first by a hash of their id.

    A larger share holds out the same pairs and more. The hash is another one than mixtures hand pairs out by, so that a mixture's
    held-out pairs are in all of its languages.

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

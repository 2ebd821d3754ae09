"""Training sets of several languages, as large as those of one."""

import math
from collections.abc import Mapping, Sequence

from rmtransfer.kit.errors import StudyError
from rmtransfer.kit.manifest import digest_of
from rmtransfer.texts.corpus import Row


def mix(rows: Mapping[str, Sequence[Row]], shares: Mapping[str, float]) -> list[Row]:
    """Every pair once, in one of the languages.

    How many pairs each language gets follows the shares (largest remainder); which ones, a hash of their ids, so that
    the order of the rows does not matter.

    Args:
        rows: language to the same pairs in the same order.
        shares: language to its share, of any positive total.

    Returns:
        The pairs, in the order given.

    Raises:
        StudyError: a language would get no pair at all.
    """
    languages = list(shares)
    n, total = len(rows[languages[0]]), sum(shares.values())
    exact = {language: n * shares[language] / total for language in languages}
    quota = {language: math.floor(exact[language]) for language in languages}
    by_remainder = sorted(languages, key=lambda language: quota[language] - exact[language])
    for language in by_remainder[: n - sum(quota.values())]:
        quota[language] += 1
    if empty := [language for language in languages if quota[language] == 0]:
        raise StudyError(f"mixtures: of {n} pairs none is left for {', '.join(empty)}; raise the share")
    order = iter(sorted(range(n), key=lambda i: digest_of(rows[languages[0]][i]["id"])))
    language_of = {next(order): language for language in languages for _ in range(quota[language])}
    return [rows[language_of[i]][i] for i in range(n)]

"""The one exception that is meant for the user's eyes, and what other libraries' exceptions say in one line."""


class StudyError(Exception):
    """Something the user can mend: bad data, config or checkpoint.

    The message names the file and row, or the config key, and the remedy. Scripts print it without a traceback.
    """


_SHOWN = 300  # characters


def first_line(problem: BaseException) -> str:
    """The first line of what an exception says; its class where it says nothing."""
    return (str(problem).strip() or type(problem).__name__).splitlines()[0]


def in_one_line(problem: BaseException) -> str:
    """The beginning of what an exception says, without line breaks; its class where it says nothing."""
    return " ".join((str(problem) or type(problem).__name__).split())[:_SHOWN]

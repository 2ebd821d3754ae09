"""The one exception that is meant for the user's eyes."""


class StudyError(Exception):
    """Something the user can mend: bad data, config or checkpoint.

    The message names the file and row, or the config key, and the remedy. Scripts print it without a traceback.
    """

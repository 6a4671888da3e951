"""Every error that biounet raises on purpose, with the exit code the command line gives it.

    BiounetError            1   anything else
    ├── UsageError          2   an option or argument that is not valid
    ├── DataError           3   images or annotations that cannot be used
    │   └── ModelFileError  3   a model file that is damaged, foreign or too new
    └── PartialError        4   some inputs failed, the rest is done

A message is one line: the file or option, the value found, what is allowed, and the remedy.
"""


class BiounetError(Exception):
    """Base of all errors with a message meant for the user."""

    exit_code = 1


class UsageError(BiounetError, ValueError):
    """An argument or option has a value that is not allowed."""

    exit_code = 2


class DataError(BiounetError, ValueError):
    """An image, annotation or folder cannot be used as it is."""

    exit_code = 3


class ModelFileError(DataError):
    """A model file is truncated, changed, of another program, or of a newer format."""


class PartialError(BiounetError):
    """Some inputs failed; results of the others were written."""

    exit_code = 4

"""Every error a user can cause, as one tree.

    DifformerError
    ├── DataError      a table, an edge list, a series or an array cannot be used
    ├── ConfigError    an argument or a configuration value is not allowed
    └── RunError       a run directory is missing, incomplete or damaged

Each message is one sentence that says what was expected, what was found and where. The command
line prints it and ends with exit code 2. The first two are also ``ValueError``, as scikit-learn's
contract asks.
"""

from collections.abc import Iterable


class DifformerError(Exception):
    """Root of all errors that a user can cause."""


class DataError(DifformerError, ValueError):
    """The instances, edges or labels given cannot be used."""


class ConfigError(DifformerError, ValueError):
    """An argument or a configuration value is not allowed."""


class MissingExtraError(ConfigError):
    """What was asked for needs an optional package that is not installed.

    Example:
        >>> str(MissingExtraError("pyg"))
        'needs pip install difformer[pyg]'
    """

    def __init__(self, extra: str) -> None:
        super().__init__(f"needs pip install difformer[{extra}]")
        self.extra = extra


class RunError(DifformerError):
    """A run directory is missing, incomplete or damaged."""


def one_of(value: object, allowed: Iterable[str], what: str) -> str:
    """Return ``value`` if it is one of ``allowed``; otherwise raise a ``ConfigError`` naming all.

    Example:
        >>> one_of("row", ("row", "sym"), "graph_norm")
        'row'
    """
    options = tuple(allowed)
    if not isinstance(value, str) or value not in options:
        listed = ", ".join(repr(option) for option in options)
        raise ConfigError(f"{what} must be one of {listed}, found {value!r}.")
    return value


def whole_number(value: object, least: int, what: str) -> int:
    """Return ``value`` if it is an int of at least ``least``, else raise a ``ConfigError``.

    Example:
        >>> whole_number(8, 1, "channels")
        8
    """
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise ConfigError(f"{what} must be a whole number of at least {least}, found {value!r}.")
    return value

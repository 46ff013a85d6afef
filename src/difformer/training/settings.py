"""Frozen settings whose errors are one sentence: key, what is allowed, what was found, where."""

import difflib
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic_core import ErrorDetails

from difformer.errors import ConfigError


class Settings(BaseModel):
    """Base of configurations: unknown keys, wrong types and NaN are refused, nothing is converted.

    An integer is accepted where a float is wanted, and that is all. Every mistake raises
    ``ConfigError``, never pydantic's own error.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)

    if not TYPE_CHECKING:  # type checkers see the fields as arguments instead

        def __init__(self, **values: Any) -> None:
            try:
                super().__init__(**values)
            except ValidationError as error:
                raise ConfigError(_sentence(error, type(self))) from None

    def replace(self, **changes: object) -> Self:
        """Return a copy with some values changed, checked like new ones."""
        return type(self)(**{**self.model_dump(), **changes})


SettingsType = TypeVar("SettingsType", bound=Settings)


def load_settings(
    kind: type[SettingsType], path: str | Path | None = None, overrides: Iterable[str] = ()
) -> SettingsType:
    """Read settings from a TOML file and ``key=value`` overrides; defaults fill the rest.

    Args:
        kind: The settings class.
        path: A TOML file, or None for the defaults.
        overrides: Such as ``("epochs=10", "patience=none")``; they win over the file. A value is
            read as TOML, ``none`` as None, and anything else as a string.

    Raises:
        ConfigError: The file is missing or no TOML, an override has no ``=``, a key is unknown,
            or a value is not allowed.
    """
    values = {} if path is None else _read_toml(Path(path))
    changes = parse_overrides(overrides)
    try:
        return kind(**{**values, **changes})
    except ConfigError as error:
        place = _place(path, changes)
        raise ConfigError(str(error).removesuffix(".") + f" ({place}).") from None


def parse_overrides(overrides: Iterable[str]) -> dict[str, Any]:
    """Settings from texts like ``key=value``.

    Example:
        >>> parse_overrides(["epochs=10", "patience=none"])
        {'epochs': 10, 'patience': None}
    """
    return dict(_parse_override(text) for text in overrides)


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"Cannot read the configuration {path}: {error.strerror}.") from error
    except ValueError as error:  # bad TOML, or bytes that are no text
        raise ConfigError(f"Expected TOML in {path}, found something else ({error}).") from error


def _parse_override(text: str) -> tuple[str, Any]:
    key, equals, value = (part.strip() for part in text.partition("="))
    if not equals or not key:
        raise ConfigError(f"An override must look like key=value, found {text!r}.")
    if value.lower() == "none":  # TOML has no null
        return key, None
    try:
        return key, tomllib.loads(f"value = {value}")["value"]
    except tomllib.TOMLDecodeError:
        return key, value


def _place(path: str | Path | None, changes: Mapping[str, object]) -> str:
    places = [] if path is None else [f"in {path}"]
    return " or ".join(places + (["in the overrides"] if changes else [])) or "in the defaults"


def _sentence(error: ValidationError, kind: type[BaseModel]) -> str:
    details = error.errors(include_url=False)
    more = f" ({len(details) - 1} more)" if len(details) > 1 else ""
    return _explain(details[0], kind) + more + "."


def _explain(detail: ErrorDetails, kind: type[BaseModel]) -> str:
    key = ".".join(str(part) for part in detail["loc"])
    if detail["type"] == "extra_forbidden":
        return f"Unknown setting {key!r}; {_closest(key, kind.model_fields)}"
    if detail["type"] == "missing":
        return f"The setting {key} is missing"
    rule = detail["msg"].replace("Input should be", "must be")
    return f"{key} {rule}, found {detail['input']!r}"


def _closest(key: str, known: Iterable[str]) -> str:
    names = list(known)
    close = difflib.get_close_matches(key, names, n=1)
    return f"did you mean {close[0]!r}" if close else f"allowed are {', '.join(sorted(names))}"

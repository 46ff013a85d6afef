"""Writing for people: standard output through rich, without colour codes where none belong."""

import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.text import Text


def console() -> Console:
    """Standard output; wide enough for tables where it is not a terminal."""
    screen = Console(highlight=False, soft_wrap=True)
    if not screen.is_terminal:
        screen = Console(highlight=False, soft_wrap=True, width=120)
    return screen


def say(lines: Iterable[str], screen: Console | None = None) -> None:
    """Print plain lines; brackets in the data are not styles."""
    screen = screen or console()
    for line in lines:
        screen.print(Text(line))


def paths(run: Path, names: Iterable[str]) -> list[str]:
    """The files of a run that are there, one line each."""
    return [f"  {run / name}" for name in names if (run / name).exists()]


@contextmanager
def interruptible() -> Iterator[None]:
    """Turn Ctrl-C into one sentence and exit code 130."""
    try:
        yield
    except KeyboardInterrupt:
        hint = "interrupted; the same command goes on where it stopped."
        print(f"difformer: {hint}", file=sys.stderr)  # noqa: T201
        raise SystemExit(130) from None


@contextmanager
def progress_line(screen: Console) -> Iterator[Callable[[str, str], None]]:
    """Show which method runs on which split, on a terminal only."""
    if not screen.is_terminal:
        yield lambda method, split: None
        return
    with screen.status("Comparing") as status:
        yield lambda method, split: status.update(f"Comparing: {method}, {split}")

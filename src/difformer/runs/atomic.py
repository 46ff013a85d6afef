"""Files and folders that are either whole or not there.

Everything is written under a temporary name in the folder where it will live, flushed to the disk
and only then renamed. A crash, a full disk or a ``kill -9`` therefore leaves the old state plus at
most a leftover whose name starts with ``.tmp-``; nobody reads those, and ``clean_leftovers``
removes them.
"""

import json
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from difformer.errors import RunError

TEMPORARY = ".tmp-"


@contextmanager
def atomic_file(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path to write to; it becomes ``path`` when the block ends without error.

    The temporary name ends like ``path``, for writers that look at the suffix. Missing parent
    folders are made.

    Args:
        path: The file to create or to replace.

    Raises:
        RunError: ``path`` cannot be written: it lies below a regular file, is a folder, or the
            system refuses. ``path`` is then as it was before.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     with atomic_file(Path(folder) / "note.txt") as draft:
        ...         _ = draft.write_text("whole")
        ...     (Path(folder) / "note.txt").read_text()
        'whole'
    """
    target = Path(path)
    check_output(target)
    if target.is_dir():
        raise RunError(f"Cannot write {target}: expected a file name, found a folder.")
    draft = _temporary_beside(target)
    try:
        with explained(target):
            target.parent.mkdir(parents=True, exist_ok=True)
            yield draft
            _sync(draft)
            os.replace(draft, target)
            _sync_folder(target.parent)
    finally:
        draft.unlink(missing_ok=True)


@contextmanager
def atomic_folder(path: str | Path, replace: bool = False) -> Iterator[Path]:
    """Yield a fresh temporary folder to fill; it becomes ``path`` when the block ends.

    Args:
        path: The folder to create. An empty folder there is taken over.
        replace: Put the new folder in the place of a folder that is not empty. The old one is
            moved aside first and removed last. Default: False.

    Raises:
        RunError: ``path`` is not empty and ``replace`` is False, or it cannot be written.
    """
    target = Path(os.path.realpath(path))
    check_output(target)
    if target.exists() and not target.is_dir():
        raise RunError(f"Cannot write {target}: expected a folder, found a file.")
    if not replace and target.is_dir() and any(target.iterdir()):
        raise RunError(f"Cannot write {target}: expected a new or empty folder, found files in it.")
    draft = _temporary_beside(target)
    try:
        with explained(target):
            draft.mkdir(parents=True)
            yield draft
            _sync_tree(draft)
            _rename_folder(draft, target)
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def write_bytes(path: str | Path, content: bytes) -> None:
    """Write ``content`` to ``path`` atomically; errors as ``atomic_file``."""
    with atomic_file(path) as draft:
        draft.write_bytes(content)


def write_text(path: str | Path, text: str) -> None:
    """Write ``text`` to ``path`` atomically, in UTF-8; errors as ``atomic_file``."""
    write_bytes(path, text.encode())


def write_json(path: str | Path, value: object) -> None:
    """Write ``value`` to ``path`` atomically, as indented JSON; errors as ``atomic_file``.

    Raises:
        ValueError: A number is NaN or infinite, which JSON cannot hold.
    """
    write_text(path, json.dumps(value, indent=2, allow_nan=False) + "\n")


def read_json(path: str | Path) -> dict[str, object]:
    """Read a JSON object.

    Raises:
        RunError: The file is missing, is no JSON, or holds something other than an object.
    """
    with explained(Path(path), verb="read"):
        content = Path(path).read_bytes()
    try:
        value = json.loads(content)
    except ValueError as error:  # of which a bad encoding is one
        raise RunError(f"Expected JSON in {path}, found something else ({error}).") from error
    if not isinstance(value, dict):
        raise RunError(f"Expected a JSON object in {path}, found {type(value).__name__}.")
    return value


def check_output(path: str | Path) -> None:
    """Refuse an output path that can never be written, before hours of work go into it.

    Args:
        path: A file or folder that may not exist yet.

    Raises:
        RunError: The nearest existing parent is a regular file, or may not be written to.
    """
    parent = Path(os.path.abspath(path)).parent
    with explained(Path(path)):
        while not parent.exists():
            parent = parent.parent
    if not parent.is_dir():
        raise RunError(f"Cannot write {path}: expected {parent} to be a folder, found a file.")
    if not os.access(parent, os.W_OK | os.X_OK):
        raise RunError(f"Cannot write {path}: the folder {parent} is not writable.")


def clean_leftovers(folder: str | Path) -> None:
    """Remove what an interrupted write left directly in ``folder``."""
    for entry in Path(folder).glob(f"{TEMPORARY}*"):
        remove(entry)


def remove(path: Path) -> None:
    """Remove a file or a folder with all it holds; a folder disappears in one step.

    A folder is renamed first, so that a crash half-way leaves a leftover and never a folder with
    its name and half of its files.
    """
    if path.is_symlink() or not path.is_dir():
        path.unlink(missing_ok=True)
        return
    doomed = path if path.name.startswith(TEMPORARY) else _temporary_beside(path)
    with explained(path, verb="remove"):
        if doomed != path:
            os.rename(path, doomed)
        shutil.rmtree(doomed)


@contextmanager
def explained(path: Path, verb: str = "write") -> Iterator[None]:
    """Turn an error of the operating system into one sentence about ``path``."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        raise RunError(f"Cannot {verb} {path}: {reason}.") from error


def _temporary_beside(path: Path) -> Path:
    # secrets, not random: the caller's random state stays as it is
    return path.with_name(f"{TEMPORARY}{secrets.token_hex(4)}-{path.name}")


def _rename_folder(draft: Path, target: Path) -> None:
    old = _temporary_beside(target)
    occupied = target.is_dir() and any(target.iterdir())
    if occupied:
        os.rename(target, old)
    os.rename(draft, target)
    _sync_folder(target.parent)
    if occupied:
        shutil.rmtree(old, ignore_errors=True)


def _sync_tree(folder: Path) -> None:
    for root, _, names in os.walk(folder):
        for name in names:
            _sync(Path(root) / name)
        _sync_folder(Path(root))


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _sync_folder(folder: Path) -> None:
    if os.name != "nt":  # Windows cannot open a folder, and does not need to
        _sync(folder)

"""``metrics.jsonl``: one JSON object a line, only ever appended to, cut back on resuming."""

import json
import os
from collections.abc import Mapping
from pathlib import Path

from difformer.errors import RunError
from difformer.runs.atomic import explained, write_bytes

Record = dict[str, float | int | None]


def append_record(path: str | Path, record: Mapping[str, float | int | None]) -> None:
    """Append one line.

    The line goes to the system in one call, so other processes never see half of it. It reaches
    the disk with ``sync_records``, which must precede the checkpoint of the same epoch.

    Raises:
        ValueError: A number is NaN or infinite, which JSON cannot hold.
        RunError: The file cannot be written.
    """
    line = json.dumps(dict(record), allow_nan=False) + "\n"
    with explained(Path(path)):
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
        try:
            _write_all(handle, line.encode())
        finally:
            os.close(handle)


def sync_records(path: str | Path) -> None:
    """Wait until all lines are on the disk."""
    with explained(Path(path)):
        handle = os.open(path, os.O_WRONLY | os.O_CREAT, 0o666)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def read_records(path: str | Path) -> list[Record]:
    """Read all whole lines; a last line without its end was cut by a crash and is left out.

    Returns:
        The records, oldest first; none where there is no file.

    Raises:
        RunError: A whole line is no JSON object.
    """
    lines = _whole_lines(Path(path))
    return [_parse(line, number, path) for number, line in enumerate(lines, start=1)]


def truncate_records(path: str | Path, epoch: int) -> list[Record]:
    """Keep the records up to ``epoch`` and drop the later ones, atomically.

    Args:
        path: The file.
        epoch: The last epoch to keep; 0 keeps none.

    Returns:
        The records kept.

    Raises:
        RunError: The records kept are not exactly those of the epochs 1 to ``epoch``.
    """
    lines = _whole_lines(Path(path))[:epoch]  # the bytes stay as they were written
    records = [_parse(line, number, path) for number, line in enumerate(lines, start=1)]
    found = [record.get("epoch") for record in records]
    if found != list(range(1, epoch + 1)):
        raise RunError(
            f"Expected one line for each of the epochs 1 to {epoch} in {path}, "
            f"found {len(records)} usable lines."
        )
    write_bytes(path, b"".join(line + b"\n" for line in lines))
    return records


def _write_all(handle: int, content: bytes) -> None:
    while content:  # a nearly full disk can take a part
        content = content[os.write(handle, content) :]


def _whole_lines(path: Path) -> list[bytes]:
    if not path.exists():
        return []
    with explained(path, verb="read"):
        return path.read_bytes().split(b"\n")[:-1]


def _parse(line: bytes, number: int, path: str | Path) -> Record:
    try:
        record = json.loads(line)
    except ValueError as error:
        raise RunError(f"Line {number} of {path} is no JSON ({error}).") from error
    if not isinstance(record, dict):
        raise RunError(f"Expected a JSON object in line {number} of {path}, found {record!r}.")
    return record

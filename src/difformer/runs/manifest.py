"""The list of a folder's files with their sizes and SHA-256 hashes.

    {"version": 1, "files": {"model.safetensors": {"size": 4096, "sha256": "..."}}, "sha256": "..."}

The last hash is that of the manifest itself: of its canonical JSON (keys sorted, no spaces)
without that field. Leftovers of interrupted writes (``.tmp-*``) are not part of a folder.
"""

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath

from difformer.errors import RunError
from difformer.runs.atomic import TEMPORARY, explained, read_json, write_json

MANIFEST = "manifest.json"
VERSION = 1

Entry = dict[str, object]


def write_manifest(folder: str | Path) -> dict[str, object]:
    """Describe all files of ``folder``, at any depth, in its ``manifest.json``.

    Args:
        folder: The folder; its own ``manifest.json`` is left out and replaced.

    Returns:
        The manifest.

    Raises:
        RunError: The folder holds a symbolic link or something else that is no plain file.

    Cost:
        Every file is read once.
    """
    root = Path(folder)
    files = {name: _describe(root / name) for name in sorted(_file_names(root))}
    manifest: dict[str, object] = {"version": VERSION, "files": files}
    manifest["sha256"] = _own_hash(manifest)
    write_json(root / MANIFEST, manifest)
    return manifest


def verify_manifest(folder: str | Path) -> dict[str, object]:
    """Check that ``folder`` holds exactly the files of its manifest, unchanged.

    Returns:
        The manifest.

    Raises:
        RunError: The manifest is missing or damaged, or a file is missing, changed or extra; the
            message names the file.

    Cost:
        Every file is read once.
    """
    root = Path(folder)
    manifest, files = _read(root)
    present = set(_file_names(root))
    for name, entry in files.items():
        _check_inside(name, root)
        if name not in present:
            raise RunError(f"{root / name} is missing, though {MANIFEST} lists it.")
        _compare(root / name, entry)
    extra = sorted(present - set(files))
    if extra:
        raise RunError(f"{root / extra[0]} is extra: {MANIFEST} does not list it.")
    return manifest


def _read(root: Path) -> tuple[dict[str, object], dict[str, Entry]]:
    path = root / MANIFEST
    manifest = read_json(path)
    if manifest.get("sha256") != _own_hash(manifest):
        raise RunError(f"{path} is changed: its own SHA-256 does not fit its content.")
    if manifest.get("version") != VERSION:
        found = manifest.get("version")
        raise RunError(f"{path} has version {found!r}, and only {VERSION} can be read.")
    files = manifest.get("files")
    if not isinstance(files, dict) or not all(isinstance(e, dict) for e in files.values()):
        raise RunError(f"Expected an object of files under 'files' in {path}, found {files!r}.")
    return manifest, files


def _own_hash(manifest: Mapping[str, object]) -> str:
    content = {key: value for key, value in manifest.items() if key != "sha256"}
    canonical = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()


def _describe(path: Path) -> Entry:
    with explained(path, verb="read"), path.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
        return {"size": os.fstat(stream.fileno()).st_size, "sha256": digest}


def _compare(path: Path, entry: Entry) -> None:
    size = path.stat().st_size
    if size != entry.get("size"):  # cheap, and says more than a hash
        raise RunError(f"{path} is changed: expected {entry.get('size')} bytes, found {size}.")
    if _describe(path) != entry:
        raise RunError(f"{path} is changed: its SHA-256 is not the one in {MANIFEST}.")


def _check_inside(name: str, root: Path) -> None:
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or "\\" in name or not path.parts:
        raise RunError(f"{root / MANIFEST} lists {name!r}, which is not a path inside the folder.")


def _file_names(root: Path) -> Iterator[str]:
    """Paths below ``root``, with forward slashes; links are refused, for they can lead outside."""
    if not root.is_dir():
        raise RunError(f"Expected a folder at {root}, found none.")
    for parent, folders, files in os.walk(root):
        folders[:] = [name for name in folders if not name.startswith(TEMPORARY)]
        for name in (*folders, *files):
            _check_plain(Path(parent) / name)
        for name in files:
            relative = (Path(parent) / name).relative_to(root).as_posix()
            if relative != MANIFEST and not name.startswith(TEMPORARY):
                yield relative


def _check_plain(path: Path) -> None:
    if path.is_symlink():
        raise RunError(f"{path} is a symbolic link, and a run holds plain files only.")
    if not (path.is_file() or path.is_dir()):
        raise RunError(f"{path} is neither a file nor a folder, and a run holds only those.")

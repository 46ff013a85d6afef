"""A manifest notices every missing, changed and extra file, and changes to itself."""

import hashlib
import json
import os

import pytest

from difformer.errors import RunError
from difformer.runs.manifest import MANIFEST, verify_manifest, write_manifest


@pytest.fixture
def folder(tmp_path):
    root = tmp_path / "run"
    (root / "checkpoints" / "one").mkdir(parents=True)
    (root / "a.txt").write_bytes(b"abc")
    (root / "checkpoints" / "one" / "b.bin").write_bytes(bytes(range(100)))
    write_manifest(root)
    return root


def forge(root, name):
    """A manifest that lists ``name`` and whose own hash is right."""
    entry = {"size": 3, "sha256": hashlib.sha256(b"abc").hexdigest()}
    manifest = {"version": 1, "files": {name: entry}}
    canonical = json.dumps(manifest, sort_keys=True, separators=(",", ":"))
    manifest["sha256"] = hashlib.sha256(canonical.encode()).hexdigest()
    (root / MANIFEST).write_text(json.dumps(manifest))


def test_sizes_and_hashes_are_those_of_the_files(folder):
    manifest = verify_manifest(folder)
    assert manifest["files"] == {
        "a.txt": {"size": 3, "sha256": hashlib.sha256(b"abc").hexdigest()},
        "checkpoints/one/b.bin": {
            "size": 100,
            "sha256": hashlib.sha256(bytes(range(100))).hexdigest(),
        },
    }


def test_a_missing_file_is_named(folder):
    (folder / "a.txt").unlink()
    with pytest.raises(RunError, match=r"a\.txt is missing"):
        verify_manifest(folder)


def test_an_extra_file_is_named(folder):
    (folder / "checkpoints" / "c").write_text("x")
    with pytest.raises(RunError, match=r"checkpoints/c is extra"):
        verify_manifest(folder)


@pytest.mark.parametrize("content", [b"abd", b"abcd", b""])
def test_a_changed_file_is_named(folder, content):
    (folder / "a.txt").write_bytes(content)
    with pytest.raises(RunError, match=r"a\.txt is changed"):
        verify_manifest(folder)


def test_each_flipped_byte_of_the_manifest_is_noticed(folder):
    path = folder / MANIFEST
    whole = path.read_bytes()
    for position in range(0, len(whole), 7):
        if whole[position : position + 1].isspace():
            continue  # layout is no content
        flipped = bytearray(whole)
        flipped[position] ^= 1
        path.write_bytes(flipped)
        with pytest.raises(RunError):
            verify_manifest(folder)


def test_an_edited_manifest_is_named(folder):
    manifest = json.loads((folder / MANIFEST).read_text())
    manifest["files"]["a.txt"]["size"] = 4
    (folder / MANIFEST).write_text(json.dumps(manifest))
    with pytest.raises(RunError, match=r"manifest\.json is changed"):
        verify_manifest(folder)


@pytest.mark.parametrize("name", ["../out.txt", "/etc/hostname", "a/../../out.txt", "", "..\\x"])
def test_paths_that_lead_outside_are_refused(folder, name):
    (folder.parent / "out.txt").write_bytes(b"abc")
    forge(folder, name)
    with pytest.raises(RunError, match="not a path inside the folder"):
        verify_manifest(folder)


@pytest.mark.parametrize("check", [write_manifest, verify_manifest])
def test_links_are_refused(folder, check):
    (folder.parent / "out.txt").write_bytes(b"abc")
    (folder / "a.txt").unlink()
    (folder / "a.txt").symlink_to(folder.parent / "out.txt")
    with pytest.raises(RunError, match=r"a\.txt is a symbolic link"):
        check(folder)


def test_linked_folders_are_refused(folder):
    (folder / "more").symlink_to(folder.parent)
    with pytest.raises(RunError, match="more is a symbolic link"):
        write_manifest(folder)


def test_special_files_are_refused(folder):
    os.mkfifo(folder / "pipe")
    with pytest.raises(RunError, match="neither a file nor a folder"):
        write_manifest(folder)


def test_leftovers_of_interrupted_writes_are_not_part_of_a_folder(folder):
    (folder / ".tmp-00000000-a.txt").write_text("half")
    (folder / ".tmp-00000000-dir").mkdir()
    (folder / ".tmp-00000000-dir" / "x").write_text("half")
    verify_manifest(folder)


def test_a_folder_without_manifest_and_no_folder_at_all(tmp_path):
    with pytest.raises(RunError, match=r"Cannot read .*manifest\.json"):
        verify_manifest(tmp_path)
    with pytest.raises(RunError, match="Expected a folder"):
        write_manifest(tmp_path / "none")

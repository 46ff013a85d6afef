"""Files and folders are whole or absent, and impossible paths are refused in one sentence."""

import os
import stat

import pytest

from difformer.errors import RunError
from difformer.runs import atomic


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def interrupt(writing, file_of):
    with writing as draft:
        file_of(draft).write_text("half")
        raise KeyError


def test_a_file_is_replaced_only_when_the_block_succeeds(tmp_path):
    path = tmp_path / "a.txt"
    atomic.write_text(path, "old")
    with pytest.raises(KeyError):
        interrupt(atomic.atomic_file(path), lambda draft: draft)
    assert path.read_text() == "old"
    assert names(tmp_path) == ["a.txt"]


def test_the_draft_lives_beside_the_file_and_keeps_its_suffix(tmp_path):
    with atomic.atomic_file(tmp_path / "deep" / "states.npy") as draft:
        assert draft.parent == tmp_path / "deep"
        assert draft.suffix == ".npy"
        draft.write_bytes(b"1")
    assert names(tmp_path / "deep") == ["states.npy"]


def test_permissions_are_the_usual_ones(tmp_path):
    path = tmp_path / "a.txt"
    atomic.write_text(path, "x")
    (tmp_path / "plain.txt").write_text("x")
    assert stat.S_IMODE(path.stat().st_mode) == stat.S_IMODE(
        (tmp_path / "plain.txt").stat().st_mode
    )


def test_file_and_folder_reach_the_disk_before_and_after_the_rename(tmp_path, monkeypatch):
    calls = []
    fsync, replace = os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda handle: (calls.append("fsync"), fsync(handle)))
    monkeypatch.setattr(os, "replace", lambda a, b: (calls.append("replace"), replace(a, b)))
    atomic.write_text(tmp_path / "a.txt", "x")
    assert calls == ["fsync", "replace", "fsync"]


def test_a_failing_disk_is_explained(tmp_path, monkeypatch):
    def full(handle):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(RunError, match=r"Cannot write .*a\.txt: No space left on device\."):
        atomic.write_text(tmp_path / "a.txt", "x")
    assert names(tmp_path) == []


@pytest.mark.parametrize("write", [atomic.atomic_file, atomic.atomic_folder])
def test_a_path_below_a_regular_file_is_refused(tmp_path, write):
    (tmp_path / "file").write_text("x")
    message = r"expected .*file to be a folder, found a file"
    with pytest.raises(RunError, match=message), write(tmp_path / "file" / "deep" / "out"):
        pass


@pytest.mark.parametrize("write", [atomic.atomic_file, atomic.atomic_folder])
def test_a_folder_that_may_not_be_written_is_refused(tmp_path, write, monkeypatch):
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    with pytest.raises(RunError, match="is not writable"), write(tmp_path / "out"):
        pass


def test_a_file_cannot_take_the_name_of_a_folder_nor_the_other_way(tmp_path):
    with pytest.raises(RunError, match="expected a file name, found a folder"):
        atomic.write_text(tmp_path, "x")
    (tmp_path / "file").write_text("x")
    with (
        pytest.raises(RunError, match="expected a folder, found a file"),
        atomic.atomic_folder(tmp_path / "file"),
    ):
        pass


def test_a_folder_appears_whole_or_not_at_all(tmp_path):
    target = tmp_path / "new"
    with pytest.raises(KeyError):
        interrupt(atomic.atomic_folder(target), lambda draft: draft / "a")
    assert names(tmp_path) == []
    with atomic.atomic_folder(target) as draft:
        (draft / "a").write_text("x")
        assert not target.exists()
    assert names(target) == ["a"]


def test_a_folder_with_files_is_replaced_only_on_demand(tmp_path):
    target = tmp_path / "new"
    target.mkdir()
    (target / "old").write_text("x")
    with pytest.raises(RunError, match="new or empty folder"), atomic.atomic_folder(target):
        pass
    with atomic.atomic_folder(target, replace=True) as draft:
        (draft / "fresh").write_text("x")
    assert names(target) == ["fresh"]
    assert names(tmp_path) == ["new"]


def test_leftovers_are_removed_and_nothing_else(tmp_path):
    (tmp_path / ".tmp-00000000-a").mkdir()
    (tmp_path / ".tmp-00000000-a" / "x").write_text("x")
    (tmp_path / ".tmp-00000000-b").write_text("x")
    (tmp_path / "keep").write_text("x")
    atomic.clean_leftovers(tmp_path)
    assert names(tmp_path) == ["keep"]


@pytest.mark.parametrize("content", [b"{", b"[1]", b"\xff\xfe"])
def test_bad_json_is_explained(tmp_path, content):
    (tmp_path / "a.json").write_bytes(content)
    with pytest.raises(RunError, match=r"Expected (a )?JSON.*a\.json"):
        atomic.read_json(tmp_path / "a.json")


def test_a_missing_json_is_explained(tmp_path):
    with pytest.raises(RunError, match=r"Cannot read .*a\.json: No such file"):
        atomic.read_json(tmp_path / "a.json")


def test_json_never_holds_nan(tmp_path):
    with pytest.raises(ValueError, match="not JSON compliant"):
        atomic.write_json(tmp_path / "a.json", {"loss": float("nan")})
    assert names(tmp_path) == []

"""The metrics file survives cut lines and is cut back to a checkpoint's epoch."""

import pytest

from difformer.errors import RunError
from difformer.runs.records import append_record, read_records, sync_records, truncate_records


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "metrics.jsonl"
    for epoch in (1, 2, 3):
        append_record(path, {"epoch": epoch, "loss": 1 / epoch, "accuracy": None})
    sync_records(path)
    return path


def test_lines_come_back(path):
    assert read_records(path)[1] == {"epoch": 2, "loss": 0.5, "accuracy": None}
    assert read_records(path.with_name("none")) == []


def test_a_cut_last_line_is_left_out(path):
    path.write_bytes(path.read_bytes() + b'{"epoch": 4, "lo')
    assert [record["epoch"] for record in read_records(path)] == [1, 2, 3]


def test_truncation_keeps_the_bytes_of_what_it_keeps(path):
    before = path.read_bytes()
    path.write_bytes(before + b'{"epoch": 4, "lo')
    assert len(truncate_records(path, 2)) == 2
    assert path.read_bytes() == b"".join(before.splitlines(keepends=True)[:2])
    truncate_records(path, 0)
    assert path.read_bytes() == b""


def test_missing_epochs_are_an_error(path):
    with pytest.raises(RunError, match=r"epochs 1 to 4 in .*found 3 usable"):
        truncate_records(path, 4)


@pytest.mark.parametrize(("line", "message"), [(b"{", "is no JSON"), (b"3", "a JSON object")])
def test_a_damaged_line_is_named(path, line, message):
    lines = path.read_bytes().splitlines()
    path.write_bytes(b"\n".join([lines[0], line, lines[2], b""]))
    with pytest.raises(RunError, match=message) as caught:
        read_records(path)
    assert "line 2" in str(caught.value).lower()


def test_nan_is_never_written(path):
    with pytest.raises(ValueError, match="not JSON compliant"):
        append_record(path, {"epoch": 4, "loss": float("nan")})
    assert len(read_records(path)) == 3

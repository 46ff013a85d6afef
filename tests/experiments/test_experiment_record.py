"""Records: what is written is what is read, and nothing else passes."""

import json
import subprocess
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

from difformer.errors import ConfigError, RunError
from difformer.experiments import record as module
from difformer.experiments.comparison import Comparison, Row
from difformer.experiments.record import Figure, Record, figures_of, read_record, write_record


def write(path: Path, **changes: object) -> Record:
    fields: dict = {
        "protocol": "ten labels a class",
        "command": "difformer demo",
        "seeds": np.arange(2).tolist(),
        "splits": ["0", "1"],
        "figures": [Figure(label="ours", metric="accuracy %", value=96.5, values=(96.0, 97.0))],
        "started": datetime.now(UTC),
    }
    return write_record(path, **{**fields, **changes})


def test_a_record_comes_back_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "results" / "digits-10.json"
    written = write(path)
    assert read_record(path) == written
    assert written.name == "digits-10"
    assert written.seconds >= 0
    assert {"python", "torch", "numpy", "scikit-learn"} <= set(written.versions)
    assert written.machine.cores >= 1
    assert written.machine.cpu
    assert [entry.name for entry in path.parent.iterdir()] == ["digits-10.json"]


def test_a_record_tells_nothing_about_the_user(tmp_path: Path) -> None:
    import getpass
    import socket

    text = json.dumps({**write(tmp_path / "a.json").model_dump(mode="json"), "versions": None})
    assert str(tmp_path) not in text
    assert str(Path.home()) not in text
    for secret in (socket.gethostname(), getpass.getuser()):
        assert f'"{secret}"' not in text


@pytest.mark.parametrize(
    "damage",
    [
        lambda value: value.pop("protocol"),
        lambda value: value.update(surprise=1),
        lambda value: value["figures"][0].update(surprise=1),
        lambda value: value["machine"].pop("cpu"),
        lambda value: value.update(started="2026-01-01T00:00:00"),
        lambda value: value.update(name="Other Name"),
        lambda value: value.update(name="other"),
        lambda value: value.update(seconds=-1),
    ],
)
def test_a_damaged_record_is_refused(tmp_path: Path, damage) -> None:
    path = tmp_path / "a.json"
    write(path)
    value = json.loads(path.read_text())
    damage(value)
    path.write_text(json.dumps(value))
    with pytest.raises(RunError, match=r"a\.json"):
        read_record(path)


def test_no_record_and_no_json_are_run_errors(tmp_path: Path) -> None:
    with pytest.raises(RunError):
        read_record(tmp_path / "a.json")
    (tmp_path / "b.json").write_text("{")
    with pytest.raises(RunError):
        read_record(tmp_path / "b.json")


@pytest.mark.parametrize(
    "changes",
    [
        {"started": datetime(2026, 1, 1)},
        {"started": datetime(2026, 1, 1), "seconds": 1.0},
        {"started": datetime(2126, 1, 1, tzinfo=UTC)},
    ],
)
def test_what_cannot_be_a_record_is_not_written(tmp_path: Path, changes: dict) -> None:
    with pytest.raises(ConfigError):
        write(tmp_path / "a.json", **changes)
    assert list(tmp_path.iterdir()) == []


def test_a_bad_name_is_not_written(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="name"):
        write(tmp_path / "Digits 10.json")


def test_figures_refuse_numbers_that_json_cannot_hold() -> None:
    with pytest.raises(ValueError, match="finite"):
        Figure(label="a", metric="accuracy %", value=float("nan"))


def test_a_comparison_becomes_figures_in_percent() -> None:
    ours = Row("ours", (0.5, 0.75), 0.625, 0.125, 2.0, 0.25, 0.125, 0.375)
    base = Row("base", (0.25, 0.5), 0.375, 0.125, 1.0)
    absent = Row("gcn", note="needs pip install difformer[pyg]")
    first, second, third = figures_of(Comparison("base", ("0", "1"), (0, 1), (ours, base, absent)))
    assert (first.value, first.std, first.values) == (62.5, 12.5, (50.0, 75.0))
    assert (first.difference, first.low, first.high) == (25.0, 12.5, 37.5)
    assert (first.reference, second.reference) == ("base", None)
    assert (first.seconds, third.value, third.note) == (2.0, None, absent.note)


def test_code_is_dirty_where_it_differs_and_results_do_not_count(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def git(*arguments: str) -> None:
        identity = ("-c", "user.name=n", "-c", "user.email=e@example.org")
        subprocess.run(["git", *identity, *arguments], cwd=tmp_path, check=True)

    here = tmp_path / "src" / "package" / "record.py"
    outputs = ("results/a.json", "docs/results.md", "benchmarks/results/b.json")
    for path in (here, *(tmp_path / name for name in outputs)):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("first")
    git("init", "-q")
    git("add", ".")
    git("commit", "-q", "-m", "first")
    monkeypatch.setattr(module, "__file__", str(here))
    commit, dirty = module.code_state()
    assert commit is not None
    assert dirty is False
    for name in outputs:
        (tmp_path / name).write_text("second")
    assert module.code_state() == (commit, False)
    (tmp_path / "Makefile").write_text("new")
    assert module.code_state() == (commit, True)


def test_outside_a_repository_there_is_no_commit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_git", lambda folder, *arguments: None)
    assert module.code_state() == (None, None)

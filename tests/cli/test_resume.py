"""The real command, killed again and again: it goes on, and ends with the same bytes."""

import os
import shutil
import signal
import subprocess
import sys
import time

import cli_files as files
import pytest

EPOCHS = 80
FIT = (
    "fit", "nodes.csv", "--target", "kind", "--encoder", "trained",
    "--set", f"epochs={EPOCHS}", "--set", "checkpoint_every=5",
)  # fmt: skip
KILL_AT = (7, 23, 41)  # epochs


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("resume") / "first"
    path.mkdir()
    files.make_tables(path, count=400, new=0)
    return path


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """For the commands too: on a busy machine two threads wait for each other."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_NUM_THREADS", "1")
        yield


def epochs_done(run):
    path = run / "metrics.jsonl"
    return path.read_bytes().count(b"\n") if path.exists() else 0


def kill_when(reached, folder):
    """Start the command and kill it as soon as ``reached()``."""
    command = [sys.executable, "-m", "difformer", *FIT, "--out", "run"]
    with subprocess.Popen(
        command, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as process:
        deadline = time.monotonic() + 120
        while not reached():
            assert process.poll() is None, "the command ended before it was killed"
            assert time.monotonic() < deadline
            time.sleep(0.001)
        os.kill(process.pid, signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL


def kill_in_training(epoch, folder):
    run = folder / "run"
    kill_when(lambda: epochs_done(run) >= epoch, folder)
    assert epoch <= epochs_done(run) < EPOCHS
    assert not (run / "model.safetensors").exists()
    assert not (run / "manifest.json").exists()


@pytest.fixture(scope="module")
def whole(folder):
    done = files.run(*FIT, "--out", "whole", cwd=folder)
    assert done.returncode == 0, done.stderr
    return folder / "whole"


@pytest.fixture(scope="module")
def begun(folder):
    """A run that was killed once."""
    kill_in_training(KILL_AT[0], folder)
    return folder / "run"


def test_kills_leave_no_trace(whole, begun, folder):
    second = shutil.copytree(folder, folder.parent / "second")
    run = second / "run"
    for epoch in KILL_AT[1:]:
        kill_in_training(epoch, second)
    kill_when((run / "predictions.csv").exists, second)  # results are being written
    assert not (run / "manifest.json").exists()
    done = files.run(*FIT, "--out", "run", cwd=second)
    assert done.returncode == 0, done.stderr
    for name in ("model.safetensors", "predictions.csv", "embedding.npy"):
        assert (run / name).read_bytes() == (whole / name).read_bytes(), name
    names = [{str(p.relative_to(top)) for p in top.rglob("*")} for top in (run, whole)]
    assert names[0] == names[1]  # no leftovers
    assert epochs_done(run) == EPOCHS


def snapshot(run):
    return {p.relative_to(run): p.read_bytes() for p in run.rglob("*") if p.is_file()}


def test_a_finished_run_is_not_replaced_unless_asked(whole, folder):
    before = snapshot(whole)
    done = files.run_here(*FIT, "--out", "whole", cwd=folder)
    assert done.returncode == 2, done.stdout
    assert "whole holds a finished run; overwrite it" in done.stderr
    assert done.stderr.count("\n") == 1, done.stderr
    assert snapshot(whole) == before
    shutil.copytree(whole, folder / "replaced")
    short = (*FIT[:-3], "epochs=3", "--out", "replaced", "--overwrite")
    done = files.run(*short, cwd=folder)
    assert done.returncode == 0, done.stderr
    assert epochs_done(folder / "replaced") == 3


@pytest.mark.parametrize(
    ("change", "names"),
    [
        (("--set", "learning_rate=0.02"), ("settings", "learning_rate")),
        (("--seed", "1"), ("seed",)),
    ],
    ids=["setting", "seed"],
)
def test_an_unfinished_run_with_another_setting_is_refused(change, names, begun, folder):
    before = snapshot(folder)
    done = files.run_here(*FIT, *change, "--out", "run", cwd=folder)
    assert done.returncode == 2, done.stdout + done.stderr
    assert "run holds an unfinished run with another value of" in done.stderr
    assert any(name in done.stderr for name in names), done.stderr
    assert done.stderr.count("\n") == 1, done.stderr
    assert snapshot(folder) == before


def test_without_out_the_same_command_takes_up_what_it_left_unfinished(tmp_path):
    from difformer.cli.workflow import free_folder
    from difformer.runs import RunDirectory

    left = RunDirectory.create(tmp_path / "runs" / "nodes", {"seed": 1})
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path)
        assert free_folder("nodes.csv", {"seed": 1}).name == "nodes"
        assert free_folder("nodes.csv", {"seed": 2}).name == "nodes-2"
        left.finish({})
        assert free_folder("nodes.csv", {"seed": 1}).name == "nodes-2"

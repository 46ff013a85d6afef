"""A training killed by SIGKILL at any event ends with the bits of one that was left alone."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

WORKER = Path(__file__).with_name("kill_worker.py")


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    """A stride of 1 kills at every event, and takes a few minutes."""
    command = [sys.executable, str(WORKER), str(tmp_path_factory.mktemp("kill")), "13"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_weights_checkpoints_and_metrics_are_identical(report):
    assert report["wrong"] == []


def test_the_kills_hit_training_saving_and_writing_lines(report):
    kinds = {"forward", "fsync", "mkdir", "rename", "replace", "unlink", "write"}
    assert set(report["hit"]) == kinds


def test_the_run_was_worth_killing(report):
    assert [record["epoch"] for record in report["metrics"]] == [1, 2, 3, 4, 5, 6, 7]
    losses = [record["train_loss"] for record in report["metrics"]]
    assert len(set(losses)) == 7

"""A small campaign through the real command: from nothing to the page, and under a kill."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from harness_cases import NAMES, write_data

from difformer.data import datasets
from difformer.experiments.record import read_record
from difformer.runs.atomic import TEMPORARY

pytest.importorskip("optuna")
pytest.importorskip("torch_geometric")

SEEDS, TRIALS, METHODS = 2, 2, 4
RUNS = len(NAMES) * (METHODS * SEEDS + TRIALS)
CELLS = "".join(f'[[cell]]\ndata = "{name}"\nprotocol = "geom-gcn-48-32-20"\n' for name in NAMES)
RECIPE = f"""
name = "small"
title = "Small"
source = "made"
trials = {TRIALS}
{CELLS}
[[entry]]
label = "ours"
method = "difformer-s"
settings = {{ epochs = 5 }}
[[entry]]
label = "GCN"
method = "gcn"
tuned = true
settings = {{ epochs = 5 }}
[[entry]]
label = "logistic"
method = "logistic"
features = "rows-l2"
[[entry]]
label = "spreading"
method = "label-spreading"
"""


def start(folder):
    command = [sys.executable, "-m", "difformer", "reproduce", "small.toml", "--seeds", str(SEEDS)]
    environment = {**os.environ, datasets.VARIABLE: str(folder / "data"), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        command, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        text=True,
    )  # fmt: skip


def prepare(folder):
    write_data(folder / "data")
    (folder / "small.toml").write_text(RECIPE)


def run_files(folder):
    found = (folder / "runs").glob("**/*.json")
    return sorted(path for path in found if not path.name.startswith(TEMPORARY))


def scores(folder):
    """What was run and what came out, without times."""
    found = [json.loads(path.read_text()) for path in run_files(folder)]
    return sorted((json.dumps(o["spec"]), o["validation"], o["test"]) for o in found)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A campaign that nobody disturbs."""
    folder = tmp_path_factory.mktemp("whole")
    prepare(folder)
    process = start(folder)
    output, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors
    return folder, output


def test_one_command_from_nothing_to_the_page(whole):
    folder, output = whole
    assert len(run_files(folder)) == RUNS
    for name in NAMES:
        record = read_record(folder / "results" / f"small-{name}-geom-gcn-48-32-20.json")
        assert [figure.label for figure in record.figures] == [
            "ours",
            "GCN",
            "logistic",
            "spreading",
        ]
        assert all(len(figure.values) == SEEDS for figure in record.figures)
        assert record.command == "difformer reproduce small.toml --seeds 2"
        assert "± over splits" in record.protocol
        assert record.recipe == "small"
        assert "tuned in 2 trials" in record.figures[1].note
        assert record.figures[2].note == "features rows-l2"
    assert output.count("Written:") == len(NAMES)
    command = [sys.executable, "-m", "difformer.experiments.results_page", "--page", "page.md"]
    subprocess.run(command, cwd=folder, check=True, timeout=120)
    page = (folder / "page.md").read_text()
    part = page.split("## small\n")[1]
    assert "### Ranks over all cells" in part
    assert part.count("`difformer reproduce small.toml --seeds 2`") == len(NAMES)
    for label in ("ours", "GCN", "logistic", "spreading"):
        assert part.count(f"\n| {label} |") == len(NAMES) + 1


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="this system has no SIGKILL")
def test_a_campaign_that_was_killed_repeats_no_finished_run(whole, tmp_path):
    prepare(tmp_path)
    for least in (3, 13):
        process = start(tmp_path)
        deadline = time.monotonic() + 120
        while len(run_files(tmp_path)) < least:
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < deadline
            time.sleep(0.001)
        process.kill()
        process.communicate()
        assert len(run_files(tmp_path)) < RUNS
    done = {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in run_files(tmp_path)}
    process = start(tmp_path)
    _, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors
    for path, (written, content) in done.items():
        assert (path.stat().st_mtime_ns, path.read_bytes()) == (written, content)
    assert scores(tmp_path) == scores(whole[0])
    assert not list(Path(tmp_path).glob(f"**/{TEMPORARY}*"))


def test_mistakes_are_one_sentence(tmp_path):
    for arguments, message in (
        (["reproduce", "nothing"], "recipe must be one of"),
        (["reproduce", "none.toml"], "Cannot read the recipe"),
    ):
        command = [sys.executable, "-m", "difformer", *arguments]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120)
        assert done.returncode == 2
        assert done.stderr.startswith("difformer: ")
        assert message in done.stderr
        assert done.stderr.count("\n") == 1
    assert not list(tmp_path.iterdir())

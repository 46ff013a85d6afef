"""Train in child processes, kill each at every possible moment, resume, compare.

Run as ``python kill_worker.py FOLDER STRIDE``. An *event* is a call that changes the disk (fsync,
rename, replace, mkdir, unlink, write of a line) or a forward pass. The first child is left alone
and counts its events. Each of the following is killed by SIGKILL at one of them (every STRIDE-th,
and the first of each kind); then the same call is repeated until it ends, with two more kills on
the way for some. Prints JSON for the test to judge.
"""

import json
import os
import shutil
import signal
import sys
import traceback
from pathlib import Path

import torch
from torch import nn

from difformer.runs import RunDirectory
from difformer.training import TrainingConfig, train

CONFIG = TrainingConfig(epochs=7, checkpoint_every=2, patience=6, learning_rate=0.05, seed=3)
PATCHED = ("fsync", "rename", "replace", "mkdir", "unlink", "write")


class Events:
    """Counts events and dies at the ``fatal`` one, before it takes place."""

    def __init__(self, fatal):
        self.fatal, self.names = fatal, []

    def __call__(self, name):
        self.names.append(name)
        if len(self.names) == self.fatal:
            os.kill(os.getpid(), signal.SIGKILL)

    def patch(self):
        for name in PATCHED:
            setattr(os, name, self.wrap(name, getattr(os, name)))

    def wrap(self, name, function):
        def wrapped(*args, **options):
            if name == "write" and len(self.names) + 1 == self.fatal:
                function(args[0], args[1][: len(args[1]) // 2])  # die in the middle of a line
            self(name)
            return function(*args, **options)

        return wrapped


def fit(folder, events):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Dropout(0.5), nn.Linear(8, 3))
    x, y = torch.randn(30, 4), torch.randint(0, 3, (30,))
    train_mask = torch.arange(30) < 12
    run = RunDirectory.create(folder, CONFIG.model_dump())

    def forward():
        events("forward")
        return model(x)

    result = train(model, forward, y, train_mask, CONFIG, val_mask=~train_mask, run=run)
    run.finish({"best_epoch": result.best_epoch, "best_metric": result.best_metric})
    return events.names


def in_child(folder, fatal=None):
    """Whether the child survived; a Python error in it ends the whole script."""
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            events = Events(fatal)
            events.patch()
            names = fit(folder, events)
            if fatal is None:
                folder.with_suffix(".events").write_text(json.dumps(names))
            code = 0
        except Exception:
            traceback.print_exc()
        finally:
            os._exit(code)
    _, status = os.waitpid(pid, 0)
    if os.WIFSIGNALED(status):
        assert os.WTERMSIG(status) == signal.SIGKILL
        return False
    if os.WEXITSTATUS(status):
        sys.exit(f"the child killed at event {fatal} of {folder} failed")
    return True


def outcome(folder):
    run = RunDirectory.open(folder)
    run.verify()
    records = [{**record, "seconds": 0} for record in run.read_metrics()]
    last = folder / "checkpoints" / "epoch-000007"
    return {
        "model": (folder / "model.safetensors").read_bytes().hex(),
        "files": sorted(str(p.relative_to(folder)) for p in folder.rglob("*")),
        "last": {p.name: p.read_bytes().hex() for p in last.iterdir()},
        "metrics": records,
        "summary": run.read_summary(),
    }


def warm_up():
    """Import here, once, what torch imports at the first step; no autograd, which forbids forks."""
    parameter = nn.Parameter(torch.zeros(1))
    parameter.grad = torch.ones(1)
    torch.optim.Adam([parameter]).step()


def main(root, stride):
    torch.set_num_threads(1)  # threads that wait for each other crawl on a busy machine
    warm_up()
    whole = root / "whole"
    in_child(whole)
    events = json.loads(whole.with_suffix(".events").read_text())
    expected, wrong = outcome(whole), []
    points = {*range(1, len(events) + 1, stride), *(events.index(kind) + 1 for kind in set(events))}
    for fatal in sorted(points):
        folder = root / f"killed-{fatal}"
        assert not in_child(folder, fatal)
        for again in (9, 23, None) if fatal % 3 == 0 else (None,):
            if not (folder / "manifest.json").exists():  # the run is not finished
                in_child(folder, again)
        if outcome(folder) != expected:
            wrong.append([fatal, events[fatal - 1]])
        shutil.rmtree(folder)
    hit = sorted({events[fatal - 1] for fatal in points})
    print(json.dumps({"hit": hit, "wrong": wrong, "metrics": expected["metrics"]}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))

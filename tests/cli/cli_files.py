"""A person's own table, made here: string ids, weights, gaps, text, unlabelled rows, new rows."""

import contextlib
import csv
import io
import subprocess
import sys
from unittest import mock

import numpy as np

from difformer.cli.main import main

KINDS = ("blue", "green", "red")
WORDS = {
    "blue": ("ocean water wave deep sea salt", "cold river ice lake rain"),
    "green": ("forest leaf tree moss fern shade", "meadow grass field herb stem"),
    "red": ("fire ember flame heat coal ash", "sunset brick rust iron clay"),
}


def run(*arguments, cwd=None):
    """The real command, as a person starts it."""
    return subprocess.run(
        [sys.executable, "-m", "difformer", *map(str, arguments)],
        capture_output=True,
        text=True,
        cwd=cwd,
        timeout=300,
        check=False,
    )


def run_here(*arguments, cwd):
    """The same command without a process of its own, which takes four seconds to start."""
    out, err = io.StringIO(), io.StringIO()
    with (
        contextlib.chdir(cwd),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
        mock.patch.object(sys, "argv", ["difformer", *map(str, arguments)]),
    ):
        try:
            main()
            code = 0
        except SystemExit as leaving:
            code = leaving.code or 0
    return subprocess.CompletedProcess(sys.argv, code, out.getvalue(), err.getvalue())


def write(path, rows):
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(rows)
    return path


def read(path):
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def make_tables(folder, count=90, new=12, seed=0):
    """nodes.csv, edges.csv, new.csv, new_edges.csv in ``folder``; the truth by id is returned."""
    rng = np.random.default_rng(seed)
    kinds = [KINDS[i % 3] for i in range(count + new)]
    rows, edges = [], []
    for i, kind in enumerate(kinds):
        k = KINDS.index(kind)
        size = "" if i % 11 == 0 else f"{k + rng.normal(0, 0.5):.3f}"
        weight = f"{-k + rng.normal(0, 0.5):.3f}"
        words = rng.permutation(" ".join(WORDS[kind]).split())[:6]
        country = "" if i % 13 == 0 else ("north", "south")[int(rng.random() < 0.3 + 0.2 * k)]
        label = kind if i < count and i % 5 == 0 else ""
        rows.append([f"item-{i}", size, weight, " ".join(words), country, label])
    same = {kind: [i for i in range(count) if kinds[i] == kind] for kind in KINDS}
    for i in range(count):
        others = rng.choice(same[kinds[i]], 2)
        edges += [[f"item-{i}", f"item-{j}", f"{rng.uniform(0.5, 1):.2f}"] for j in others]
    edges = [list(e) for e in {frozenset(e[:2]): e for e in edges if e[0] != e[1]}.values()]
    new_edges = [
        [f"item-{i}", f"item-{rng.choice(same[kinds[i]])}", "1.0"]
        for i in range(count, count + new)
    ]
    header = ["id", "size", "lean", "text", "country", "kind"]
    write(folder / "nodes.csv", [header, *rows[:count]])
    write(folder / "edges.csv", [["source", "target", "weight"], *edges])
    write(folder / "new.csv", [header[:-1], *(r[:-1] for r in rows[count:])])
    write(folder / "new_edges.csv", [["source", "target", "weight"], *new_edges])
    return {f"item-{i}": kind for i, kind in enumerate(kinds)}

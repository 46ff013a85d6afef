"""The main job through the real command: a person's own table, edges, and new rows."""

import functools
import json
import subprocess
import sys

import cli_files as files
import numpy as np
import pytest

from difformer.data.parts import table_parts
from difformer.data.reading import read_table


@pytest.fixture(scope="module")
def fitted(tmp_path_factory):
    folder = tmp_path_factory.mktemp("own")
    truth = files.make_tables(folder)
    done = files.run(
        "fit", "nodes.csv", "--edges", "edges.csv", "--target", "kind", "--out", "out/run",
        cwd=folder,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return folder, truth, done


def test_every_row_gets_a_prediction_with_probabilities(fitted):
    folder, truth, _ = fitted
    rows = files.read(folder / "out/run/predictions.csv")
    assert [row["id"] for row in rows] == [f"item-{i}" for i in range(90)]
    for row in rows:
        total = sum(float(row[f"probability_{kind}"]) for kind in files.KINDS)
        assert total == pytest.approx(1, abs=1e-5)
    unlabelled = [row for row in rows if not row["label"]]
    assert len(unlabelled) == 72
    right = sum(row["prediction"] == truth[row["id"]] for row in unlabelled)
    assert right / len(unlabelled) > 0.9


def test_the_decisions_are_shown_and_the_files_are_named(fitted):
    folder, _, done = fitted
    for word in ("id", "size", "text", "country", "kind"):
        assert word in done.stdout
    for name in ("predictions.csv", "report.html"):
        assert name in done.stdout
        assert (folder / "out/run" / name).stat().st_size > 0
    assert "\x1b" not in done.stdout  # no colour codes outside a terminal
    assert done.stderr == ""


def test_the_run_is_complete_and_holds_no_pickle(fitted):
    folder, _, _ = fitted
    run = folder / "out/run"
    manifest = json.loads((run / "manifest.json").read_text())
    for name in ("config.toml", "environment.json", "metrics.jsonl", "model.safetensors",
                 "context.safetensors", "schema.json", "embedding.npy", "trace.json"):  # fmt: skip
        assert name in manifest["files"]
    embedding = np.load(run / "embedding.npy", allow_pickle=False)
    assert embedding.shape[0] == 90


def test_new_rows_are_scored_with_and_without_edges(fitted):
    folder, truth, _ = fitted
    for extra in ((), ("--edges", "new_edges.csv")):
        out = f"scores{len(extra)}.csv"
        done = files.run("predict", "out/run", "new.csv", *extra, "--out", out, cwd=folder)
        assert done.returncode == 0, done.stderr
        rows = files.read(folder / out)
        assert len(rows) == 12
        assert sum(row["prediction"] == truth[row["id"]] for row in rows) >= 11


def test_a_new_row_does_not_depend_on_the_others(fitted):
    folder, _, _ = fitted
    lines = (folder / "new.csv").read_text().splitlines()
    (folder / "one.csv").write_text("\n".join([lines[0], lines[5]]) + "\n")
    done = files.run_here("predict", "out/run", "one.csv", "--out", "one_scores.csv", cwd=folder)
    assert done.returncode == 0, done.stderr
    done = files.run_here("predict", "out/run", "new.csv", "--out", "all_scores.csv", cwd=folder)
    (one,) = files.read(folder / "one_scores.csv")
    other = next(r for r in files.read(folder / "all_scores.csv") if r["id"] == one["id"])
    for kind in files.KINDS:
        assert float(one[f"probability_{kind}"]) == pytest.approx(
            float(other[f"probability_{kind}"]), abs=1e-5
        )


def test_evaluate_judges_a_labelled_table(fitted):
    folder, truth, _ = fitted
    lines = (folder / "new.csv").read_text().splitlines()
    labelled = [lines[0] + ",kind", *(f"{x},{truth[x.split(',')[0]]}" for x in lines[1:])]
    (folder / "labelled.csv").write_text("\n".join(labelled) + "\n")
    done = files.run("evaluate", "out/run", "labelled.csv", cwd=folder)
    assert done.returncode == 0, done.stderr
    assert "accuracy" in done.stdout
    done = files.run_here("evaluate", "out/run", cwd=folder)
    assert done.returncode == 2
    assert "held out no labelled row" in done.stderr


@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_a_table_in_parts_gives_the_same_file(fitted, ending, monkeypatch):
    folder, truth, _ = fitted
    lines = (folder / "new.csv").read_text().splitlines()
    labelled = [lines[0] + ",kind", *(f"{x},{truth[x.split(',')[0]]}" for x in lines[1:])]
    (folder / "parts.csv").write_text("\n".join(labelled) + "\n")

    def scored(out):
        done = files.run_here("predict", "out/run", "parts.csv", "--out", out, cwd=folder)
        assert done.returncode == 0, done.stderr
        judged = files.run_here("evaluate", "out/run", "parts.csv", cwd=folder)
        return done.stdout.replace(out, ""), judged.stdout

    at_once = scored(f"at_once.{ending}")
    parts = []

    def in_parts(path, schema):
        for table in table_parts(path, schema, part=300):
            parts.append(table.num_rows)
            yield table

    monkeypatch.setattr("difformer.cli.saved.table_parts", in_parts)
    assert scored(f"in_parts.{ending}") == at_once
    assert len(parts) > 2 * 2
    first, second = (folder / f"{name}.{ending}" for name in ("at_once", "in_parts"))
    same = read_table(first).data, read_table(second).data
    assert same[0].column("id").equals(same[1].column("id"))
    np.testing.assert_allclose(
        np.array(same[0].column("confidence").cast("double")),
        np.array(same[1].column("confidence").cast("double")),
        atol=1e-6,
    )
    assert same[0].column("prediction").equals(same[1].column("prediction"))


def test_what_is_wrong_in_a_later_part_leaves_no_file(fitted, monkeypatch):
    folder, _, _ = fitted
    lines = (folder / "new.csv").read_text().splitlines()
    cells = lines[-1].split(",")
    (folder / "wrong.csv").write_text("\n".join([*lines[:-1], f"{cells[0]},much,{cells[2]},x,y"]))
    parts = functools.partial(table_parts, part=300)
    monkeypatch.setattr("difformer.cli.saved.table_parts", parts)
    done = files.run_here("predict", "out/run", "wrong.csv", "--out", "none.csv", cwd=folder)
    assert done.returncode == 2
    assert f"'much' in line {len(lines)}" in done.stderr
    assert not [p for p in folder.iterdir() if p.name.startswith((".tmp", "none"))]


def test_evaluate_numbers_the_classes_as_the_model_does(tmp_path):
    # Texts sort 10 before 2, numbers 2 before 10.
    kinds = [k for k in (1, 2, 10, 11) for _ in range(8)]
    rows = [[10 * (k % 3) + i % 2, 10 * (k > 5) + i % 4, k] for i, k in enumerate(kinds)]
    files.write(tmp_path / "nodes.csv", [["a", "b", "kind"], *rows])
    done = files.run("fit", "nodes.csv", "--target", "kind", "--out", "run", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    done = files.run_here("evaluate", "run", "nodes.csv", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    (line,) = [line for line in done.stdout.splitlines() if line.startswith("  accuracy ")]
    assert float(line.split()[1]) > 90


def test_a_fully_labelled_table_holds_some_out_and_says_so(fitted):
    folder, truth, _ = fitted
    rows = files.read(folder / "nodes.csv")
    files.write(
        folder / "full.csv",
        [list(rows[0]), *([*list(r.values())[:-1], truth[r["id"]]] for r in rows)],
    )
    done = files.run(
        "fit", "full.csv", "--target", "kind", "--out", "full", "--encoder", "trained",
        "--set", "epochs=20", cwd=folder,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "20% of the rows, held out because every row is labelled" in done.stdout
    assert "accuracy" in done.stdout
    again = files.run_here("evaluate", "full", cwd=folder)
    assert again.returncode == 0
    assert "Judged on 18 rows" in again.stdout


def test_the_same_command_gives_the_same_bits(fitted):
    folder, _, _ = fitted
    done = files.run(
        "fit", "nodes.csv", "--edges", "edges.csv", "--target", "kind", "--out", "again",
        cwd=folder,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    for name in ("model.safetensors", "predictions.csv", "embedding.npy"):
        assert (folder / "again" / name).read_bytes() == (folder / "out/run" / name).read_bytes()


def test_help_imports_nothing_heavy():
    code = (
        "import sys; sys.argv = ['difformer', '--help']\n"
        "from difformer.cli.main import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "heavy = {'torch', 'scipy', 'sklearn', 'pyarrow', 'numpy', 'plotly'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "predict" in done.stdout


def test_import_difformer_is_light():
    code = (
        "import sys, difformer\n"
        "assert 'torch' not in sys.modules\n"
        "assert difformer.DIFFormer.__name__ == 'DIFFormer'\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_datasets_are_listed():
    done = files.run("datasets")
    assert done.returncode == 0
    assert "digits" in done.stdout
    assert "cora" in done.stdout


def test_a_column_can_be_left_out(fitted):
    folder, _, _ = fitted
    done = files.run(
        "fit", "nodes.csv", "--target", "kind", "--drop", "size", "--out", "dropped", cwd=folder
    )
    assert done.returncode == 0, done.stderr
    assert "'size' is left out, as asked" in done.stdout
    assert "cannot be told without hidden labels" in done.stdout
    lines = (folder / "new.csv").read_text().splitlines()
    (folder / "narrow.csv").write_text(
        "\n".join(",".join(c for i, c in enumerate(x.split(",")) if i != 1) for x in lines) + "\n"
    )
    done = files.run_here("predict", "dropped", "narrow.csv", "--out", "narrow_out.csv", cwd=folder)
    assert done.returncode == 0, done.stderr


def test_evaluate_leaves_out_the_rows_that_taught(fitted):
    folder, truth, _ = fitted
    rows = files.read(folder / "nodes.csv")
    files.write(
        folder / "known.csv",
        [list(rows[0]), *([*list(r.values())[:-1], truth[r["id"]]] for r in rows)],
    )
    done = files.run_here("evaluate", "out/run", "known.csv", cwd=folder)
    assert done.returncode == 0, done.stderr
    assert "Rows whose labels were used in fitting are left out (18)." in done.stdout
    assert "Judged on 72 labelled rows" in done.stdout


def test_the_demo_replaces_nothing_but_a_demo(fitted):
    folder, _, _ = fitted
    before = (folder / "out/run/manifest.json").read_bytes()
    done = files.run_here("demo", "--out", "out/run", cwd=folder)
    assert done.returncode == 2
    assert "holds another run" in done.stderr
    assert (folder / "out/run/manifest.json").read_bytes() == before

"""Bad input: one clear sentence, exit code 2, nothing half-written."""

import cli_files as files
import pytest


@pytest.fixture
def folder(tmp_path):
    files.make_tables(tmp_path, count=30, new=0)
    return tmp_path


def snapshot(folder):
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*"))


def refused(folder, *arguments, says, run=files.run_here):
    before = snapshot(folder)
    done = run(*arguments, cwd=folder)
    assert done.returncode == 2, done.stdout + done.stderr
    for text in says:
        assert text in done.stderr, done.stderr
    assert done.stderr.count("\n") == 1, done.stderr
    assert "Traceback" not in done.stderr
    assert snapshot(folder) == before


def replace(folder, name, old, new):
    path = folder / name
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


FIT = ("fit", "nodes.csv", "--target", "kind", "--out", "run")


def test_no_such_file(folder):
    missing = ("fit", "nothing.csv", "--target", "kind")
    refused(folder, *missing, says=["nothing.csv"], run=files.run)
    refused(folder, *missing, says=["nothing.csv"])
    refused(folder, *FIT, "--edges", "nothing.csv", says=["nothing.csv"], run=files.run)


def test_no_such_data_set(folder):
    refused(folder, "fit", "nothing", says=["neither a file nor a data set"])


def test_empty_file(folder):
    (folder / "empty.csv").write_text("")
    refused(folder, "fit", "empty.csv", "--target", "kind", says=["empty.csv", "empty"])
    refused(folder, *FIT, "--edges", "empty.csv", says=["empty.csv"])


def test_no_such_column(folder):
    refused(folder, "fit", "nodes.csv", "--target", "kinds", says=["'kinds'", "'kind'"])
    refused(folder, *FIT, "--id", "name", says=["'name'"])
    refused(folder, *FIT, "--categorical", "sizes", says=["'sizes'"])


def test_no_target(folder):
    refused(folder, "fit", "nodes.csv", "--out", "run", says=["--target"])


def test_duplicate_ids(folder):
    replace(folder, "nodes.csv", "item-7,", "item-3,")
    refused(folder, *FIT, says=["item-3", "nodes.csv", "id"])


def test_edge_to_an_unknown_id(folder):
    replace(folder, "edges.csv", "item-0,", "item-900,")
    refused(folder, *FIT, "--edges", "edges.csv", says=["item-900", "edges.csv"])


def test_stray_text_in_a_numeric_column(folder):
    rows = files.read(folder / "nodes.csv")
    rows[8]["lean"] = "unknown!"
    files.write(folder / "nodes.csv", [list(rows[0]), *(list(r.values()) for r in rows)])
    refused(folder, *FIT, says=["unknown!", "'lean'", "10", "nodes.csv"])


def test_infinite_cell(folder):
    rows = files.read(folder / "nodes.csv")
    rows[8]["lean"] = "inf"
    files.write(folder / "nodes.csv", [list(rows[0]), *(list(r.values()) for r in rows)])
    refused(folder, *FIT, says=["inf", "'lean'", "10"])


def test_no_labels_and_one_class(folder):
    rows = files.read(folder / "nodes.csv")
    for kept, name in ((set(), "none.csv"), ({"blue"}, "one.csv")):
        kept_rows = [[*list(r.values())[:-1], r["kind"] * (r["kind"] in kept)] for r in rows]
        files.write(folder / name, [list(rows[0]), *kept_rows])
        refused(folder, "fit", name, "--target", "kind", "--out", "run", says=[name, "kind"])


def test_corrupt_parquet(folder):
    (folder / "broken.parquet").write_bytes(b"PAR1 this is no parquet file PAR1")
    refused(folder, "fit", "broken.parquet", "--target", "kind", says=["broken.parquet"])


def test_output_below_a_regular_file(folder):
    refused(folder, *FIT[:-1], "nodes.csv/run", says=["nodes.csv"])
    refused(folder, *FIT[:-1], "edges.csv", says=["edges.csv"])


def test_output_that_holds_something_else(folder):
    (folder / "full").mkdir()
    (folder / "full" / "note.txt").write_text("mine")
    refused(folder, *FIT[:-1], "full", says=["full"])
    refused(folder, *FIT[:-1], "full", "--overwrite", says=["full"])


def test_unknown_settings(folder):
    refused(folder, *FIT, "--encoder", "magic", says=["decoupled", "trained", "'magic'"])
    refused(folder, *FIT, "--set", "epoch=3", says=["epochs"])
    refused(folder, *FIT, "--diffusivity", "magic", says=["'magic'", "'simple'"])
    refused(folder, *FIT, "--config", "nothing.toml", says=["nothing.toml"])


def test_a_diffusivity_that_does_not_fit_the_encoder(folder):
    refused(folder, *FIT, "--diffusivity", "simple", says=["decoupled", "'simple'"])


def test_a_comparison_needs_two_labels_of_each_class(folder):
    rows = files.read(folder / "nodes.csv")
    blue = [r["id"] for r in rows if r["kind"] == "blue"]
    for row in rows:
        row["kind"] = row["kind"] if row["id"] not in blue[1:] else ""
    files.write(folder / "nodes.csv", [list(rows[0]), *(list(r.values()) for r in rows)])
    refused(folder, *FIT, "--compare", says=["at least two labels of each class"])


def test_predict_needs_a_run(folder):
    refused(folder, "predict", "nowhere", "nodes.csv", "--out", "x.csv", says=["nowhere"])
    refused(folder, "predict", ".", "nodes.csv", "--out", "x.txt", says=[".csv or .parquet"])
    refused(folder, "evaluate", "nowhere", says=["nowhere"])

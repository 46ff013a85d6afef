"""``difformer bench`` as a user types it."""

import json

import cli_files as files

CASES = ("--methods", "sigmoid,published-sigmoid", "--layers", 1, "--repeats", 1, "--threads", 1)


def test_a_run_and_a_check_against_it(tmp_path):
    done = files.run("bench", "--sizes", "100", *CASES, "--out", "first", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    for text in ("100 rows. The machine: product", "sigmoid", "published form", "bench.json"):
        assert text in done.stdout, done.stdout
    path = tmp_path / "first" / "bench.json"
    stored = json.loads(path.read_text())
    assert [row["method"] for row in stored["rows"]] == ["sigmoid", "published-sigmoid"]
    assert (tmp_path / "first" / "bench.svg").exists()

    for ratio, code in ((1e-9, 1), (1e9, 0)):
        stored["ratios"][0]["time"] = ratio
        path.write_text(json.dumps(stored))
        again = files.run("bench", "--against", "first", cwd=tmp_path)
        assert again.returncode == code, again.stdout + again.stderr
        assert "ratios got worse by more than 25%" in again.stdout
    assert sorted(p.name for p in tmp_path.iterdir()) == ["first"]


def test_bad_input_is_one_sentence(tmp_path):
    (tmp_path / "bench.json").write_text("{}")
    for arguments, says in (
        (("--sizes", "few"), "--sizes must be whole numbers"),
        (("--methods", "nothing"), "--methods must be one of"),
        (("--device", "tpu"), "--device must be one of"),
        (("--out", "."), "holds a bench.json"),
        (("--against", "nothing.json"), "nothing.json"),
        (("--against", "bench.json"), "Expected a result of the benchmark in bench.json"),
    ):
        done = files.run_here("bench", *arguments, cwd=tmp_path)
        assert done.returncode == 2, done.stdout + done.stderr
        assert says in done.stderr
        assert done.stderr.count("\n") == 1, done.stderr
    assert [p.name for p in tmp_path.iterdir()] == ["bench.json"]

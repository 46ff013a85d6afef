"""The harness at tiny sizes: what is recorded, refused, drawn, compared and written on the page."""

import itertools
import json
from datetime import UTC, datetime
from pathlib import Path
from xml.etree import ElementTree

import pytest

from difformer.errors import ConfigError, RunError
from difformer.experiments.bench import page, turns
from difformer.experiments.bench.against import checks, settings_like
from difformer.experiments.bench.cases import ENVIRONMENT, METHODS, Settings
from difformer.experiments.bench.picture import picture, spaced
from difformer.experiments.bench.result import (
    Rate,
    Row,
    conclude,
    folder_name,
    read_result,
    write_result,
)
from difformer.experiments.bench.run import Request, output_folder, run, settings_of, write
from difformer.experiments.record import Machine

ROOT = Path(__file__).resolve().parents[2]


def made_row(name, size, time, extra, **fields):
    method = METHODS[name]
    figures = {
        "seconds": (time, 1.1 * time, 0.9 * time),
        "floor": 400_000_000,
        "base": 500_000_000,
        "peak": 500_000_000 + extra,
        "idle": 500_000_000,
        "once": 0.5,
    }
    return Row(
        method=name,
        label=method.label,
        family=method.family,
        size=size,
        **({**figures, **fields}),
    )


def made(scale=1.0, sizes=(1000, 10_000, 100_000), names=("simple", "published-simple", "gps")):
    """A result without running anything: ours takes scale * N microseconds."""
    rows = []
    for n in sizes:
        rows.append(made_row("simple", n, scale * n * 1e-6, n * 20_000, limit=n * 5e-7))
        rows.append(made_row("published-simple", n, 2e-6 * n, n * 40_000))
    rows.append(
        Row(
            method="gps",
            label="g",
            family="peer",
            size=max(sizes),
            predicted=10**12,
            note="not run: needs 1000.0 GB, 20.0 GB may be used",
        )
    )
    rates = [Rate(size=n, product=(1e-3,), copied=(1e-3,), threads=2) for n in sizes]
    settings = Settings(sizes=sizes, methods=names, layers=2)
    return conclude(settings, rates, rows, 10**10, datetime(2026, 1, 2, tzinfo=UTC))


@pytest.fixture(scope="module")
def tiny():
    """A real run: children, pipes, turns; two threads would only wait for each other."""
    settings = Settings(
        sizes=(200,),
        quadratic_sizes=(100,),
        methods=("official", "published-official", "gcn"),
        layers=1,
        repeats=2,
        threads=1,
    )
    heard = []
    result = run(settings, lambda rate, rows: heard.append((rate.size, len(rows))))
    assert heard == [(200, 3)]
    return result


def test_a_run_records_every_case(tiny, tmp_path):
    assert [row.method for row in tiny.rows_at(200)] == ["official", "published-official", "gcn"]
    for row in tiny.rows:
        if row.family == "peer" and row.note is not None:
            assert "difformer[pyg]" in row.note
            continue
        assert row.note is None
        assert len(row.seconds) == 2
        assert row.median > 0
        assert min(row.floor, row.base, row.peak, row.idle) > 100_000_000
        assert row.extra >= 0
        assert row.predicted > 0
    ours = tiny.rows[0]
    assert 0 < ours.share_of_limit < 1
    assert tiny.rows[1].limit is None
    assert tiny.threads == 1
    assert tiny.environment == ENVIRONMENT
    assert [(r.method, r.other) for r in tiny.ratios] == [("official", "published-official")]
    assert tiny.slopes == ()  # one size has none
    stored = json.loads(write_result(tmp_path, tiny).read_text())
    assert {"version", "commit", "dirty", "machine", "versions", "started", "seconds"} <= set(
        stored
    )
    assert stored["command"] == (
        "difformer bench --sizes 200 --quadratic-sizes 100 --methods "
        "official,published-official,gcn --layers 1 --repeats 2 --threads 1"
    )
    assert read_result(tmp_path / "bench.json") == tiny
    assert read_result(tmp_path) == tiny


def test_what_does_not_fit_is_not_run(tmp_path):
    settings = Settings(sizes=(200,), methods=("simple",), layers=1, repeats=1, threads=1)
    result = run(settings, allowed=1000)
    (row,) = result.rows
    assert row.seconds == ()
    assert row.predicted > 500_000_000
    assert row.note.startswith("not run: needs 0.7 GB")
    write(tmp_path, result)
    assert "not run, 70" in page.generated([("here", result)])


def test_a_child_that_dies_leaves_a_row_that_says_so(monkeypatch):
    monkeypatch.setattr(turns, "WORKER", "difformer.experiments.bench.nothing")
    settings = Settings(sizes=(200,), methods=("simple",))
    child = turns.Child("simple", 200, settings)
    note = child.ask("prepare")["note"]
    child.close()
    assert "ended with 1" in note
    assert "No module named" in note
    with pytest.raises(RunError, match="rates at 200 rows"):
        run(settings)


def test_slopes_ratios_and_limits_come_from_the_rows():
    result = made()
    slope = next(slope for slope in result.slopes if slope.method == "simple")
    assert slope.time == pytest.approx(1)
    assert slope.memory == pytest.approx(1)
    assert [ratio.other for ratio in result.ratios] == ["published-simple"] * 3
    assert {round(ratio.time, 6) for ratio in result.ratios} == {0.5}
    assert {ratio.memory for ratio in result.ratios} == {0.5}
    assert result.rows[0].share_of_limit == pytest.approx(0.5)


def test_ratios_are_kept_and_a_worse_one_is_found():
    stored = made()
    settings = settings_like(stored, (1000,), (), None)
    assert settings.sizes == (1000,)
    assert settings.methods == ("simple", "published-simple")
    assert settings.layers == stored.settings.layers
    worse = checks(stored, made(scale=1.5))
    assert [check.worse(0.25) for check in worse if check.what == "time"] == [True] * 3
    assert not any(check.worse(0.6) for check in worse)
    assert not any(check.worse(0.25) for check in checks(stored, made(scale=0.5)))
    lost = made().model_copy(update={"ratios": ()})
    assert [check.present for check in checks(stored, lost)] == [None] * 3
    assert all(check.worse(9.0) for check in checks(stored, lost))
    with pytest.raises(ConfigError, match="it has simple at 1000"):
        settings_like(stored, (77,), (), None)


def test_the_picture_is_well_formed_and_names_do_not_overlap():
    root = ElementTree.fromstring(picture(made()))
    texts = ["".join(node.itertext()) for node in root.iter() if node.tag.endswith("text")]
    assert "rows N" in texts
    assert texts.count("simple") == 2
    assert texts.count("simple, published") == 2
    for wanted in ([5, 6, 7], [0, 0, 0, 0], [99, 98, 50], [40.0]):
        places = spaced(wanted, 14, 100)
        ordered = sorted(places)
        assert all(b - a >= 14 - 1e-9 for a, b in itertools.pairwise(ordered))
        assert ordered[0] >= 0
        assert ordered[-1] <= 100
        by_want = sorted(range(len(wanted)), key=lambda i: wanted[i])
        assert [places[i] for i in by_want] == ordered


def test_a_result_is_named_by_hardware_and_day(tmp_path, monkeypatch):
    day = datetime(2026, 1, 2, tzinfo=UTC)
    machine = Machine(cpu="AMD EPYC", cores=2, memory=None, system="x", accelerators=("GPU X1",))
    assert folder_name(machine, "cpu", day) == "amd-epyc-2-cores-2026-01-02"
    assert folder_name(machine, "cuda", day) == "gpu-x1-2026-01-02"
    monkeypatch.chdir(tmp_path)
    first = output_folder(Request())
    assert first.name.startswith("difformer-bench-")
    first.mkdir()
    assert output_folder(Request()).name == f"{first.name}-2"
    monkeypatch.chdir(ROOT)
    assert output_folder(Request()).parent == Path("benchmarks/results")


def test_what_was_typed_becomes_settings():
    quick, stored = settings_of(Request(quick=True))
    assert stored is None
    assert quick.repeats == 3
    assert max(quick.sizes) < 100_000
    typed, _ = settings_of(Request(sizes="300,200", methods="sigmoid,simple"))
    assert typed.sizes == typed.quadratic_sizes == (200, 300)
    assert typed.methods == ("simple", "sigmoid")
    assert 50_000 in settings_of(Request(long=True))[0].quadratic_sizes
    with pytest.raises(ConfigError, match="--device must be one of"):
        settings_of(Request(device="tpu"))
    with pytest.raises(ConfigError, match="--long"):
        settings_of(Request(sizes="20000", methods="sigmoid"))


def test_the_page_keeps_what_people_wrote():
    text = f"# Performance\n\nmine\n\n{page.BEGIN}\nold\n{page.END}\n\nmine too\n"
    part = page.generated([("../benchmarks/results/a", made())])
    written = page.page(text, part)
    assert written.startswith("# Performance\n\nmine\n")
    assert written.endswith("mine too\n")
    assert "old" not in written
    assert page.page(written, part) == written
    for expected in (
        "`difformer bench --sizes 1000,10000,100000",
        "| simple | 1.00 ms | 10.0 ms | 100 ms | 1.00 |",
        "| simple / simple, published form | 0.50, 0.50 | 0.50, 0.50 | 0.50, 0.50 |",
        "| simple: reached | 50 % | 50 % | 50 % |",
        "not run, 1000 GB predicted",
        "(../benchmarks/results/a/bench.svg)",
        "bench --device cuda` makes one",
    ):
        assert expected in written, written
    with pytest.raises(RunError, match="once each"):
        page.page("no markers", part)


def test_the_committed_page_is_what_the_committed_results_give():
    results, target = ROOT / "benchmarks" / "results", ROOT / "docs" / "performance.md"
    assert page.main(["--results", str(results), "--page", str(target), "--check"]) == 0


def test_a_stale_page_is_found(tmp_path):
    target = tmp_path / "page.md"
    target.write_text(f"{page.BEGIN}\nold\n{page.END}\n")
    options = ["--results", str(tmp_path), "--page", str(target)]
    assert page.main([*options, "--check"]) == 1
    assert page.main(options) == 0
    assert page.main([*options, "--check"]) == 0
    assert page.main(["--page", str(tmp_path / "none.md")]) == 2


def test_the_page_shows_the_newest_run_of_each_depth():
    def run(layers, minute, folder):
        result = made()
        settings = result.settings.model_copy(update={"layers": layers})
        started = result.started.replace(minute=minute)
        return folder, result.model_copy(update={"settings": settings, "started": started})

    part = page.generated([run(8, 1, "old"), run(8, 2, "new"), run(3, 0, "flat")])
    assert "(new/bench.svg)" in part
    assert "(old/bench.svg)" not in part
    assert part.index("## On a CPU, 8 layers") < part.index("## On a CPU, 3 layers")
    assert "(flat/bench.svg)" in part

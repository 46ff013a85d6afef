"""The page as a whole: structure, self-containment, escaping, missing and damaged files."""

import json
from pathlib import Path
from typing import Any

import plotly.graph_objects as go
import pytest
from reading_html import Page, read_page
from report_cases import (
    FLOWERS,
    comparison,
    evaluation,
    make_run,
    metrics,
    overview,
    predictions,
    trace,
)

from difformer.errors import RunError
from difformer.report import write_report
from difformer.runs import RunDirectory

EVIL = '</script><b>"&amp; \' <a href="javascript:alert(1)">x</a> {{ 7 * 7 }} %{x} <!-- $1$'
NOTHING: dict[str, Any] = dict.fromkeys(
    ("overview", "evaluation", "comparison", "trace", "metrics", "predictions")
)
CHARTS = ["chart-comparison", "chart-learning", "chart-energy", "chart-certainty"]


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Page:
    return read_page(write_report(make_run(tmp_path_factory.mktemp("whole") / "run")))


def written(folder: Path, classes: Any = FLOWERS, **files: Any) -> Page:
    return read_page(write_report(make_run(folder / "run", classes, **files)))


def test_sections_come_in_their_order(page: Page) -> None:
    keys = [attributes["id"] for attributes in page.all("section")]
    assert keys == ["evaluation", "comparison", "learning", "energy", "certainty", "settings"]


def test_the_headline_says_what_how_many_how_good_and_on_what_evidence(page: Page) -> None:
    assert "The class of 1,140 unlabelled rows was predicted, one of 3 classes." in page.text
    assert "Of 283 rows whose labels were hidden from the training, 96.5 % were right" in page.text
    assert "always naming their most frequent class would be right for 34.6 %" in page.text


def test_every_link_leads_to_a_part_of_the_page(page: Page) -> None:
    ids = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    assert {attributes["href"] for attributes in page.all("a")} <= {f"#{name}" for name in ids}


def test_nothing_is_loaded(page: Page) -> None:
    loading = {"src", "srcset", "data", "poster", "action", "formaction", "background"}
    assert not [a for _, a in page.elements if loading & a.keys()]
    assert not page.all("link")
    assert not page.all("iframe")
    assert not any(word in style for style in page.styles for word in ("url(", "@import", "http"))
    policy = next(a for a in page.all("meta") if a.get("http-equiv") == "Content-Security-Policy")
    assert "default-src 'none'" in policy["content"]
    assert "http" not in policy["content"]


def test_addresses_occur_only_in_the_chart_library(tmp_path: Path) -> None:
    from plotly.offline import get_plotlyjs

    source = write_report(make_run(tmp_path / "run")).read_text()
    assert source.count(get_plotlyjs()) == 1
    rest = source.replace(get_plotlyjs(), "")
    assert "http://" not in rest
    assert "https://" not in rest


def test_every_chart_has_words_and_figures_for_those_who_do_not_see_it(page: Page) -> None:
    images = [attributes for _, attributes in page.elements if attributes.get("role") == "img"]
    assert [attributes["id"] for attributes in images] == CHARTS
    assert all(len(attributes["aria-label"]) > 40 for attributes in images)
    assert page.text.count("The figures as a table") == 3
    assert "Methods side by side." in page.text


def test_every_table_is_named_and_can_be_reached_by_keyboard(page: Page) -> None:
    assert all(attributes["aria-label"] for attributes in page.all("table"))
    scrolling = [a for a in page.all("div") if a.get("class") == "scroll"]
    assert len(scrolling) == len(page.all("table"))
    assert all(a["tabindex"] == "0" for a in scrolling)
    assert all(a["scope"] in ("row", "col", "colgroup") for a in page.all("th"))


@pytest.mark.parametrize("key", CHARTS)
def test_the_figures_are_valid(page: Page, key: str) -> None:
    figure = go.Figure(page.charts[key])
    assert figure.data


@pytest.mark.parametrize("key", CHARTS)
def test_every_axis_with_numbers_is_named(page: Page, key: str) -> None:
    axes = {n: a for n, a in page.charts[key]["layout"].items() if n[1:5] == "axis"}
    assert all(axis["title"]["text"] for axis in axes.values() if "ticktext" not in axis)


def test_no_colour_is_fixed_in_a_figure(page: Page) -> None:
    assert "color" not in json.dumps(page.charts)
    series = [trace["meta"]["series"] for chart in page.charts.values() for trace in chart["data"]]
    assert all(f"--series-{number % 6}" in "".join(page.styles) for number in series)


def test_the_page_opens_fast_enough(tmp_path: Path) -> None:
    classes = [f"a class with a rather long name, number {index}" for index in range(200)]
    names = [f"diffusivity {index}" for index in range(5)]
    run = make_run(
        tmp_path / "run",
        classes,
        metrics=metrics(20_000),
        trace=trace(500, names),
        predictions=predictions(classes, rows=100),
    )
    assert write_report(run).stat().st_size < 8_000_000


def test_texts_cannot_leave_their_place(tmp_path: Path) -> None:
    classes = [f"{EVIL}{index}" for index in range(3)]
    measured = comparison()
    measured["rows"] = [{**row, "method": EVIL + row["method"]} for row in measured["rows"]]
    measured["reference"] = EVIL + measured["reference"]
    judged = {**evaluation(classes), "how": EVIL, "metrics": {"accuracy": 0.9, EVIL: 1.0}}
    found = {**overview(classes), "title": EVIL, "notes": [EVIL], "command": EVIL, "data": EVIL}
    steps = {**trace(names=[EVIL, "simple"]), "broken_conditions": [EVIL]}
    table = predictions(classes)
    table[1:] = [[EVIL + row[0], *row[1:]] for row in table[1:]]
    path = write_report(
        make_run(
            tmp_path / "run",
            classes,
            overview=found,
            evaluation=judged,
            comparison=measured,
            trace=steps,
            predictions=table,
        )
    )
    page = read_page(path)  # every element is closed in its place
    assert len(page.all("script")) == len(CHARTS) + 2
    assert not [a for a in page.all("a") if "javascript" in a.get("href", "")]
    assert len(page.all("b")) == 9  # the counts of the heat map
    assert "{{ 7 * 7 }}" in page.text
    assert "<!--" not in path.read_text()[-200_000:].split("<script>")[0]
    labels = json.dumps([chart["data"] for chart in page.charts.values()])
    labels += json.dumps([chart["layout"] for chart in page.charts.values()])
    assert "<b>" not in labels  # plotly has a markup of its own
    assert "<a" not in labels


def test_settings_are_text(page: Page) -> None:
    assert 'name = "<DIFFormer>"' in page.text
    assert "Logical cores" in page.text


def test_a_run_with_nothing_says_so_section_by_section(tmp_path: Path) -> None:
    page = written(tmp_path, **NOTHING)
    assert page.text.count("Left out:") == 5
    assert "The run has saved no overview" in page.text
    assert page.charts == {}
    assert page.scripts == []  # a page without charts has no need of a library


@pytest.mark.parametrize("name", list(NOTHING))
def test_any_single_file_may_be_missing(tmp_path: Path, name: str) -> None:
    page = written(tmp_path, **{name: None})
    said = "The run has saved no overview" if name == "overview" else "Left out:"
    assert page.text.count(said) == 1
    assert len(page.charts) == 4 - (name in ("comparison", "metrics", "trace", "predictions"))


JSON_FILES = ("overview", "evaluation", "comparison", "trace")
DAMAGE = {
    "empty": b"",
    "cut": b'{"rows": [',
    "array": b"[]",
    "object": b"{}",
    "binary": b"\xff\xfe\x00",
    "surrogate": b'{"title": "\\ud800"}',
    "nan": b'{"seconds": NaN}',
}


@pytest.mark.parametrize("damage", DAMAGE)
@pytest.mark.parametrize("name", JSON_FILES)
def test_a_damaged_file_is_one_sentence(tmp_path: Path, name: str, damage: str) -> None:
    run = make_run(tmp_path / "run")
    (run.path / f"{name}.json").write_bytes(DAMAGE[damage])
    check_sentence(run, f"{name}.json")


@pytest.mark.parametrize("damage", ["empty", "cut", "array", "binary", "surrogate"])
def test_a_damaged_environment_is_one_sentence(tmp_path: Path, damage: str) -> None:
    run = make_run(tmp_path / "run")
    (run.path / "environment.json").write_bytes(DAMAGE[damage])
    check_sentence(run, "environment.json")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("evaluation", {**evaluation(), "confusion": [[1, 2], [3, 4]]}),
        ("evaluation", {**evaluation(), "confusion": [[-1, 0, 0]] * 3}),
        ("evaluation", {**evaluation(), "metrics": {"accuracy": 96.5}}),
        ("evaluation", {**evaluation(), "classes": "abc"}),
        ("overview", {**overview(), "instances": -1}),
        ("overview", {**overview(), "instances": "many"}),
        ("trace", {**trace(), "steps": [*trace()["steps"], *trace(names=["other"])["steps"]]}),
        ("comparison", {**comparison(), "rows": [{"mean": 0.5}]}),
    ],
)
def test_values_that_cannot_be_are_one_sentence(tmp_path: Path, name: str, value: Any) -> None:
    check_sentence(make_run(tmp_path / "run", **{name: value}), f"{name}.json")


@pytest.mark.parametrize(
    "line",
    [b"{}", b"[1]", b'{"epoch": "a"}', b'{"epoch": 1, "val_loss": NaN}', b'{"epoch": 1e999}', b"x"],
)
def test_damaged_metrics_are_one_sentence(tmp_path: Path, line: bytes) -> None:
    run = make_run(tmp_path / "run")
    run.metrics.write_bytes(line + b"\n")
    check_sentence(run, "metrics.jsonl")


HEADER = b"id,label,prediction,confidence,a,b\n"


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"id,prediction\n",
        HEADER + b"1,,a,0.9,0.9\n",
        HEADER + b"1,,a,high,0.9,0.1\n",
        HEADER + b"1,,a,nan,0.9,0.1\n",
        HEADER + b"1,,a,1.5,0.9,0.1\n",
        HEADER + b'1,,"a,0.5,0.9,0.1\n',
        HEADER + b"1,,\xff,0.5,0.9,0.1\n",
        HEADER + b"1,," + b"a" * 200_000 + b",0.5,0.9,0.1\n",
    ],
)
def test_damaged_predictions_are_one_sentence(tmp_path: Path, content: bytes) -> None:
    run = make_run(tmp_path / "run")
    (run.path / "predictions.csv").write_bytes(content)
    check_sentence(run, "predictions.csv")


def check_sentence(run: RunDirectory, name: str) -> None:
    with pytest.raises(RunError) as caught:
        write_report(run)
    message = str(caught.value)
    assert name in message
    assert message.endswith(".")
    assert "\n" not in message
    assert not (run.path / "report.html").exists()


def test_a_folder_in_the_place_of_a_file_is_one_sentence(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", trace=None)
    (run.path / "trace.json").mkdir()
    check_sentence(run, "trace.json")


def test_a_report_is_replaced_whole(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    first = write_report(run).read_bytes()
    assert write_report(run).read_bytes() == first
    assert not list(run.path.glob(".tmp-*"))


def test_a_finished_run_lists_its_report_after_finishing_again(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    run.finish({})
    write_report(run)
    run.finish({})
    run.verify()

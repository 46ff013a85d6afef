"""Data on its way into a figure."""

import json

import pytest

from difformer.report.charts import label, line, script_json, thinned, value_axis
from difformer.report.predictions import BINS
from difformer.report.words import figure, percent, points, wilson


@pytest.mark.parametrize("text", ["</script>", "<!--<script>", "]]>", "&lt;", "\u2028", "é\x00"])
def test_json_stays_inside_of_its_script_and_keeps_its_texts(text: str) -> None:
    written = script_json({"text": text})
    assert not set("<>&\u2028") & set(written)
    assert json.loads(written) == {"text": text}


def test_a_label_is_one_short_line_without_markup() -> None:
    assert label("<b>a & b</b>\nc") == "&lt;b&gt;a &amp; b&lt;/b&gt; c"
    assert len(label("x" * 1000)) == 28


def test_lines_differ_in_more_than_colour() -> None:
    lines = [line([1, 2], [1.0, 2.0], "name", series) for series in range(6)]
    assert len({str(drawn["line"]) for drawn in lines}) == 6
    assert len({str(drawn["marker"]) for drawn in lines}) == 6


def test_gaps_are_bridged() -> None:
    assert line([1, 2, 3], [1.0, None, 3.0], "name", 0)["x"] == [1, 3]


@pytest.mark.parametrize("most", [2, 3, 10])
def test_thinning_keeps_both_ends(most: int) -> None:
    kept = thinned(list(range(1000)), most)
    assert (len(kept), kept[0], kept[-1]) == (most, 0, 999)


@pytest.mark.parametrize(
    ("values", "kind"),
    [([1.0, 100.0], "log"), ([0.0, 100.0], None), ([1.0, 9.0], None), ([], None)],
)
def test_only_positive_wide_ranges_are_logarithmic(values: list[float], kind: str | None) -> None:
    assert value_axis("R", values).get("type") == kind


def test_numbers_read_well() -> None:
    assert percent(1.0) == "100.0\u00a0%"
    assert points(-0.021, sign=True) == "\u22122.1"
    assert points(-1e-9) == "0.0"
    assert figure(float("inf")) == "∞"
    assert figure(-0.5) == "\u22120.5"


@pytest.mark.parametrize(("right", "total"), [(0, 10), (10, 10), (0, 1), (5000, 10000)])
def test_the_interval_holds_the_share_and_stays_a_share(right: int, total: int) -> None:
    low, high = wilson(right, total)
    assert -1e-12 <= low <= right / total <= high + 1e-12
    assert high <= 1 + 1e-12


def test_bins_have_whole_bounds() -> None:
    assert 100 % BINS == 0

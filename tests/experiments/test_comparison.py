"""Comparisons: the arithmetic, the pairing, and no way to see what is asked."""

import io
import json

import numpy as np
import pytest
from rich.console import Console

from difformer.errors import ConfigError, DataError, MissingExtraError
from difformer.experiments.comparison import Case, compare, paired_interval, render
from difformer.experiments.task import Task

TRUTH = np.array([0, 1, 0, 1, 0, 1, 0, 1, 0, 1])


def case(name: str = "0", shown: int = 4) -> Case:
    y = np.where(np.arange(10) < shown, TRUTH, -1)
    return Case(Task(np.eye(10), y, 2), TRUTH, y < 0, name)


def right_on(count: int):
    """Return a method that is right on the first ``count`` + seed rows asked, then wrong."""

    def method(task: Task, seed: int) -> np.ndarray:
        answer = TRUTH.copy()
        asked = np.flatnonzero(task.y < 0)
        answer[asked[count + seed :]] ^= 1
        return np.eye(2)[answer]

    return method


def text(result) -> str:
    console = Console(width=120, record=True, file=io.StringIO())
    console.print(render(result))
    return console.export_text()


def test_mean_std_and_paired_interval_are_the_textbook_ones() -> None:
    cases = [case("a"), case("b"), case("c")]
    result = compare({"ours": right_on(4), "base": right_on(1)}, cases, reference="base")
    ours, base = result.rows
    assert ours.accuracies == pytest.approx((4 / 6, 5 / 6, 1.0))
    assert base.accuracies == pytest.approx((1 / 6, 2 / 6, 3 / 6))
    assert ours.mean == pytest.approx(5 / 6)
    assert ours.std == pytest.approx(1 / 6)
    assert ours.difference == pytest.approx(0.5)
    assert (ours.low, ours.high) == pytest.approx((0.5, 0.5))
    assert base.difference is None
    assert result.splits == ("a", "b", "c")


def test_interval_against_a_table_of_students_t() -> None:
    # 12.706 and 2.776: the 97.5 % points with 1 and 4 degrees of freedom
    assert paired_interval([0.0, 2.0]) == pytest.approx((1 - 12.706, 1 + 12.706), abs=1e-3)
    low, high = paired_interval([1.0, 2.0, 3.0, 4.0, 5.0])
    assert (high - low) / 2 == pytest.approx(2.776 * (2.5 / 5) ** 0.5, abs=1e-3)
    assert paired_interval([1.0]) == (None, None)


def test_only_rows_that_are_asked_count() -> None:
    y = np.array([0, 1] + [-1] * 8)
    asked = np.arange(10) == 2
    answer = np.eye(2)[TRUTH ^ 1]
    answer[2] = [1.0, 0.0]
    result = compare({"m": lambda t, s: answer}, [Case(Task(np.eye(10), y, 2), TRUTH, asked, "s")])
    assert result.rows[0].accuracies == (1.0,)


def test_one_split_has_neither_spread_nor_interval() -> None:
    result = compare({"a": right_on(3), "b": right_on(2)}, [case()])
    assert result.rows[0].std is None
    assert result.rows[1].difference == pytest.approx(-1 / 6)
    assert (result.rows[1].low, result.rows[1].high) == (None, None)
    assert "One split" in text(result)


def test_seeds_reach_the_methods() -> None:
    result = compare({"a": right_on(0)}, [case("x"), case("y")], seeds=[5, 2])
    assert result.rows[0].accuracies == pytest.approx((5 / 6, 2 / 6))
    assert result.seeds == (5, 2)


def test_a_missing_extra_becomes_a_row_that_says_so() -> None:
    def absent(task: Task, seed: int) -> np.ndarray:
        raise MissingExtraError("pyg")

    result = compare({"a": right_on(2), "graph": absent}, [case(), case("1")])
    assert result.row("graph").note == "needs pip install difformer[pyg]"
    assert result.row("graph").mean is None
    assert "difformer[pyg]" in text(result)


def test_a_missing_reference_leaves_the_others_unpaired() -> None:
    def absent(task: Task, seed: int) -> np.ndarray:
        raise MissingExtraError("classics")

    result = compare({"a": right_on(2), "r": absent}, [case()], reference="r")
    assert result.row("a").mean is not None
    assert result.row("a").difference is None


def test_another_error_is_not_swallowed() -> None:
    def broken(task: Task, seed: int) -> np.ndarray:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        compare({"a": broken}, [case()])


def test_json_and_table_hold_the_same_figures() -> None:
    result = compare({"a": right_on(3), "b": right_on(2)}, [case(), case("1")])
    plain = json.loads(result.to_json())
    assert plain == result.as_dict()
    assert plain["rows"][0]["accuracies"] == pytest.approx([0.5, 4 / 6])
    assert plain["reference"] == "a"
    shown = text(result)
    assert "58.3 ± 11.8" in shown
    assert "-16.7 [-16.7, -16.7]" in shown


def test_progress_is_told_before_each_run() -> None:
    told: list[tuple[str, str]] = []
    compare({"a": right_on(1)}, [case("x"), case("y")], progress=lambda *step: told.append(step))
    assert told == [("a", "x"), ("a", "y")]


@pytest.mark.parametrize(
    ("answer", "message"),
    [(np.zeros((10, 3)), "shape"), (np.full((10, 2), np.nan), "finite"), (np.zeros(10), "shape")],
)
def test_an_unusable_answer_names_the_method(answer: np.ndarray, message: str) -> None:
    with pytest.raises(ConfigError, match=f"odd must give .*{message}"):
        compare({"odd": lambda task, seed: answer}, [case()])


def test_arguments_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ConfigError, match="at least one method"):
        compare({}, [case()])
    with pytest.raises(ConfigError, match="at least one method"):
        compare({"a": right_on(1)}, [])
    with pytest.raises(ConfigError, match="reference must be one of 'a'"):
        compare({"a": right_on(1)}, [case()], reference="b")
    with pytest.raises(ConfigError, match="seeds"):
        compare({"a": right_on(1)}, [case()], seeds=[1, 2])


def test_a_case_that_shows_what_it_asks_is_refused() -> None:
    good = case()
    visible = good.test.copy()
    visible[0] = True
    with pytest.raises(DataError, match="visible label"):
        Case(good.task, TRUTH, visible, "s")
    unknown = np.where(np.arange(10) == 9, -1, TRUTH)
    with pytest.raises(DataError, match="no true label"):
        Case(good.task, unknown, good.test, "s")
    with pytest.raises(DataError, match="at least one instance"):
        Case(good.task, TRUTH, np.zeros(10, dtype=bool), "s")
    with pytest.raises(DataError, match="must be"):
        Case(good.task, TRUTH[:5], good.test, "s")

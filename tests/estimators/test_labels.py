"""Which rows count as unlabelled, and what the classes are called."""

import numpy as np
import pandas as pd
import pytest

from difformer.errors import DataError
from difformer.estimators.labels import encode_labels

NAN = float("nan")
A_TO_C = {
    "list with None": ["c", None, "a", "c"],
    "list with NaN": ["c", NAN, "a", "c"],
    "object array with None": np.array(["c", None, "a", "c"], dtype=object),
    "object array with NaN": np.array(["c", NAN, "a", "c"], dtype=object),
    "pandas objects": pd.Series(["c", None, "a", "c"], dtype=object),
    "pandas strings": pd.Series(["c", None, "a", "c"], dtype="string"),
    "pandas categories": pd.Series(["c", None, "a", "c"], dtype="category"),
}
NUMBERS = {
    "list": [7, -1, 3, 7],
    "int64": np.array([7, -1, 3, 7]),
    "int8": np.array([7, -1, 3, 7], dtype=np.int8),
    "whole floats": np.array([7.0, -1.0, 3.0, 7.0]),
    "floats with NaN": np.array([7.0, NAN, 3.0, 7.0], dtype=np.float32),
    "list with None": [7, None, 3, 7],
    "object array with -1": np.array([7, -1, 3, 7], dtype=object),
    "object array with None": np.array([7, None, 3, 7], dtype=object),
    "pandas nullable": pd.Series([7, None, 3, 7], dtype="Int64"),
    "pandas floats": pd.Series([7, None, 3, 7]),
}


@pytest.mark.parametrize("y", A_TO_C.values(), ids=A_TO_C.keys())
def test_texts_with_gaps(y):
    classes, numbers = encode_labels(y, 4)
    assert classes.tolist() == ["a", "c"]
    assert classes.dtype.kind == "U"
    assert numbers.tolist() == [1, -1, 0, 1]
    assert numbers.dtype == np.int64


@pytest.mark.parametrize("y", NUMBERS.values(), ids=NUMBERS.keys())
def test_numbers_with_gaps(y):
    classes, numbers = encode_labels(y, 4)
    assert classes.tolist() == [3, 7]
    assert classes.dtype.kind == "i"
    assert numbers.tolist() == [1, -1, 0, 1]


def test_minus_one_is_a_name_among_texts():
    classes, numbers = encode_labels(["-1", "1", None], 3)
    assert classes.tolist() == ["-1", "1"]
    assert numbers.tolist() == [0, 1, -1]


@pytest.mark.parametrize("y", [np.array([True, False, True]), [True, False, None]])
def test_truths(y):
    classes, numbers = encode_labels(y, 3)
    assert classes.dtype == np.bool_
    assert classes[numbers[:2]].tolist() == [True, False]


def test_unsigned_numbers_have_no_minus_one():
    classes, numbers = encode_labels(np.array([255, 0], dtype=np.uint8), 2)
    assert classes.tolist() == [0, 255]
    assert numbers.tolist() == [1, 0]


def test_the_caller_keeps_his_array():
    y = np.array([2.0, NAN, 5.0])
    encode_labels(y, 3)
    np.testing.assert_array_equal(y, [2.0, NAN, 5.0])


@pytest.mark.parametrize("y", [[1, -1, 1], np.array([-1.0, 1.0, -1.0]), [1, None, -1]])
def test_plus_and_minus_one_are_told_what_to_do(y):
    with pytest.raises(DataError, match="-1 means unlabelled: number two classes 0 and 1"):
        encode_labels(y, 3)


@pytest.mark.parametrize(
    ("y", "says"),
    [
        ([4, -1, 4], "two classes, found one class, 4"),
        ([1, 1, 1], "two classes, found one class, 1"),
        (["a", None, "a"], "two classes, found one class, 'a'"),
        ([-1, -1, -1], "label at least one row of each class, found 3 unlabelled"),
        ([None, None, None], "3 unlabelled"),
        ([NAN, NAN, NAN], "3 unlabelled"),
        ([0, 1], r"for each of 3 rows, found \(2,\)"),
        ([[0, 1], [1, 0], [0, 1]], r"for each of 3 rows, found \(3, 2\)"),
        (3, r"for each of 3 rows, found \(\)"),
        ([0.5, 1.0, 2.0], "number 0.5: is it a continuous target"),
        ([0.0, 1.0, 2.25], "number 2.25: is it a continuous target"),
        ([0.0, 1.0, np.inf], "number inf: is it a continuous target"),
        ([0.0, 1.0, 1e300], "is it a continuous target"),
        ([None, 1.5, 2.5], "number 1.5: is it a continuous target"),
    ],
)
def test_refused(y, says):
    with pytest.raises(DataError, match=says):
        encode_labels(y, 3)

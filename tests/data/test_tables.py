import json
import string
from datetime import date

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pa_parquet
import pytest
from scipy import sparse
from sklearn.feature_extraction.text import TfidfVectorizer

from difformer.data.tables import TableSchema, fit_schema, load_table, read_table
from difformer.errors import ConfigError, DataError


@pytest.fixture
def write(tmp_path):
    """Write a file; columns as a dictionary, or the text or bytes themselves."""

    def write(content, name="table.csv"):
        path = tmp_path / name
        if isinstance(content, dict):
            rows = [content.keys(), *zip(*content.values(), strict=True)]
            content = "\n".join(",".join(map(str, row)) for row in rows) + "\n"
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    return write


@pytest.fixture
def parquet(tmp_path):
    def parquet(columns, name="table.parquet"):
        pa_parquet.write_table(pa.table(columns), tmp_path / name)
        return tmp_path / name

    return parquet


LABELS = ["a", "b"] * 10
COUNT = list(range(20))


def fit(path, **arguments):
    return load_table(path, **{"target": "label", **arguments})


# ---------------------------------------------------------------- columns


def test_numbers_are_standardised(write):
    data, schema = fit(write({"v": COUNT, "label": LABELS}))
    expected = (np.array(COUNT) - 9.5) / np.std(COUNT)
    np.testing.assert_allclose(data.x[:, 0], expected, rtol=1e-6)
    assert data.x.dtype == np.float32
    assert schema.feature_names == ("v",)
    assert "Column 'v' is read as numbers, standardised." in schema.decisions


@pytest.mark.parametrize("gap", ["", "NA", "NaN", "nan", "null", "None", "  "])
def test_missing_numbers_are_the_median_and_marked(write, gap):
    data, schema = fit(write({"v": [gap, *COUNT[1:]], "label": LABELS}))
    filled = np.array([10.0, *COUNT[1:]])
    np.testing.assert_allclose(data.x[:, 0], (filled - filled.mean()) / filled.std(), rtol=1e-5)
    assert data.x[:, 1].tolist() == [1.0] + [0.0] * 19
    assert schema.feature_names == ("v", "v is missing")


def test_truth_values_are_0_and_1(write):
    data, _ = fit(write({"v": ["true", "False"] * 10, "label": LABELS}))
    assert data.x[:, 0].tolist() == [1.0, 0.0] * 10


def test_dates_are_days(write):
    days = [date(2024, 2, 28 if i % 2 else 29).isoformat() for i in COUNT]
    _, schema = fit(write({"v": days, "label": LABELS}))
    (column,) = schema.columns
    assert (column.kind, column.mean) == ("date", (date(2024, 2, 28) - date(1970, 1, 1)).days + 0.5)


def test_few_texts_are_a_category(write):
    data, schema = fit(write({"v": ["x", "y", "", "x"] * 5, "label": LABELS}))
    assert schema.feature_names == ("v = x", "v = y", "v is missing")
    assert data.x[:4].tolist() == [[1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 0, 0]]


def test_categorical_overrides_numbers(write):
    data, schema = fit(write({"v": [3, 10] * 10, "label": LABELS}), categorical=["v"])
    assert schema.feature_names == ("v = 10", "v = 3")
    assert data.x.sum() == 20


def test_constant_and_empty_columns_are_dropped_and_logged(write):
    columns = {"v": COUNT, "one": [7] * 20, "none": [""] * 20, "word": ["x"] * 20}
    _, schema = fit(write({**columns, "label": LABELS}))
    assert schema.feature_names == ("v",)
    assert schema.dropped == ("one", "none", "word")
    assert "Column 'none' is dropped: all of its cells are empty." in schema.decisions


def test_a_constant_column_with_gaps_keeps_its_gaps(write):
    data, _ = fit(write({"v": [0.1, ""] * 10, "label": LABELS}))
    assert data.x.tolist() == [[0.0], [1.0]] * 10


def prose(count=20):
    rng = np.random.default_rng(0)
    words = [a + b + "o" for a in string.ascii_lowercase[:6] for b in "aeiou"]
    return [" ".join(rng.choice(words, 8)) for _ in range(count)]


def test_prose_is_tfidf_as_scikit_learn_defines_it(write):
    texts = prose()
    data, schema = fit(write({"v": texts, "n": COUNT, "label": LABELS}))
    vectorizer = TfidfVectorizer(sublinear_tf=True, min_df=2)
    expected = vectorizer.fit_transform(texts)
    assert sparse.issparse(data.x)
    assert data.x.format == "csr"
    np.testing.assert_allclose(data.x[:, :-1].toarray(), expected.toarray(), rtol=1e-5)
    assert schema.columns[0].terms == tuple(vectorizer.get_feature_names_out())


def test_long_names_that_repeat_are_a_category(write):
    texts = ["the first of the two kinds", "the second of the two kinds"] * 10
    _, schema = fit(write({"v": texts, "label": LABELS}))
    assert len(schema.feature_names) == 2


def test_many_short_texts_are_refused_with_advice(write):
    path = write({"name": [f"n{i}" for i in range(60)], "v": range(60), "label": LABELS * 3})
    with pytest.raises(DataError, match=r"column 'name' .* found 60: drop it, or give --id name"):
        fit(path)
    assert fit(path, categorical=["name"])[0].num_features == 61
    assert fit(path, id_column="name")[0].num_features == 1


@pytest.mark.parametrize("cell", ["x", "inf", "-Infinity", "1e999", "1_0"])
def test_a_stray_cell_in_numbers_is_named(write, cell):
    path = write({"v": [*range(40), cell], "label": [*LABELS, *LABELS, "a"]})
    with pytest.raises(DataError, match=rf"column 'v' .*'{cell}' in line 42.*--categorical v"):
        fit(path)


def test_the_line_counts_blank_lines_and_lines_within_cells(write):
    rows = "".join(f'{i},"two\nlines",a\n\n{i},one,b\n' for i in range(30))
    with pytest.raises(DataError, match="'x' in line 122"):
        fit(write(f'v,w,label\n{rows}x,"two\nlines",a\n'))


def test_no_more_than_forty_characters_of_a_cell_are_shown(write):
    path = write({"v": [*range(40), "x" * 100], "label": [*LABELS, *LABELS, "a"]})
    with pytest.raises(DataError) as error:
        fit(path)
    assert "x" * 40 in str(error.value)
    assert "x" * 41 not in str(error.value)


# ---------------------------------------------------------------- target and ids


def test_labels_are_sorted_and_gaps_are_unlabelled(write):
    data, schema = fit(write({"v": COUNT, "label": ["b", "", "a", "b"] * 5}))
    assert data.classes == schema.classes == ("a", "b")
    assert data.y[:4].tolist() == [1, -1, 0, 1]


def test_whole_numbers_are_sorted_as_numbers_and_written_as_such(write, parquet):
    assert fit(write({"v": COUNT, "label": [10, 9, 2, 10] * 5}))[0].classes == ("2", "9", "10")
    labels = pa.array([10.0, 9.0, None, 2.0] * 5)
    assert fit(parquet({"v": COUNT, "label": labels}))[0].classes == ("2", "9", "10")


@pytest.mark.parametrize(
    ("labels", "says"),
    [
        ([""] * 20, "found only empty cells"),
        (["a", ""] * 10, "at least two classes, found only 'a'"),
    ],
)
def test_too_few_classes(write, labels, says):
    with pytest.raises(DataError, match=says):
        fit(write({"v": COUNT, "label": labels}))


def test_targets_that_are_no_classes(write):
    with pytest.raises(DataError, match="looks like a regression target"):
        fit(write({"v": range(30), "label": [i / 7 for i in range(30)]}))
    with pytest.raises(DataError, match="looks like a name or a quantity"):
        fit(write({"v": range(60), "label": range(60)}))


def test_ids_name_the_rows_and_are_no_feature(write):
    data, _ = fit(write({"id": [f"n{i}" for i in COUNT], "v": COUNT, "label": LABELS}))
    assert data.ids[:2] == ("n0", "n1")
    assert data.num_features == 1
    assert fit(write({"v": COUNT, "label": LABELS}))[0].ids[:2] == ("0", "1")
    chosen, _ = fit(write({"id": COUNT, "key": COUNT, "label": LABELS}), id_column="key")
    assert chosen.feature_names == ("id",)


def test_ids_that_repeat_or_are_empty_are_named(write):
    with pytest.raises(DataError, match=r"column 'id' .*'3' in line 6 and in line 5"):
        fit(write({"id": [*COUNT[:4], 3, *COUNT[5:]], "v": COUNT, "label": LABELS}))
    with pytest.raises(DataError, match=r"column 'id' .*an empty cell in line 3"):
        fit(write({"id": [0, "", *COUNT[2:]], "v": COUNT, "label": LABELS}))


def test_columns_that_are_not_there_are_named_with_the_closest(write):
    path = write({"v": COUNT, "label": LABELS})
    with pytest.raises(DataError, match=r"'lable' for the target: the closest is 'label', .* v, "):
        fit(path, target="lable")
    for wrong in ({"id_column": "k"}, {"categorical": ["k"]}):
        with pytest.raises(DataError, match="no column 'k'"):
            fit(path, **wrong)


def test_one_column_in_two_roles(write):
    path = write({"v": COUNT, "label": LABELS})
    for wrong in ({"id_column": "label"}, {"categorical": ["label"]}, {"categorical": "v"}):
        with pytest.raises(ConfigError):
            fit(path, **wrong)


def test_no_feature_is_left(write):
    with pytest.raises(DataError, match="must have a feature"):
        fit(write({"id": COUNT, "label": LABELS}))


def test_without_a_target_there_are_no_labels(write):
    data, schema = load_table(write({"v": COUNT}))
    assert data.y is None
    with pytest.raises(DataError, match="without a target"):
        schema.transform(read_table(write({"v": COUNT})), require_target=True)


# ---------------------------------------------------------------- new rows


def everything():
    return {
        "id": COUNT,
        "number": [1.5, "", *COUNT[2:]],
        "truth": ["true", "false"] * 10,
        "day": ["2024-01-01", "2024-03-05"] * 10,
        "kind": ["x", "y", ""] * 6 + ["x", "y"],
        "text": prose(),
        "label": LABELS,
    }


def test_a_schema_goes_through_json_and_gives_the_same(write):
    path = write(everything())
    data, schema = fit(path)
    again = TableSchema.from_json(json.loads(json.dumps(schema.to_json())))
    assert again == schema
    prepared = again.transform(read_table(path))
    assert (prepared.instances.x != data.x).nnz == 0
    assert prepared.notices == ()


def test_a_row_is_transformed_alone_as_among_others(write):
    columns = everything()
    data, schema = fit(write(columns))
    one = write({name: values[1:2] for name, values in columns.items()}, "one.csv")
    alone = schema.transform(read_table(one)).instances
    np.testing.assert_array_equal(alone.x.toarray(), data.x[[1]].toarray())


def test_csv_and_parquet_give_the_same(write, parquet):
    columns = everything()
    data, schema = fit(write(columns))
    typed = {
        **columns,
        "number": pa.array([1.5, None, *map(float, COUNT[2:])]),
        "truth": pa.array([True, False] * 10),
        "day": pa.array([date(2024, 1, 1), date(2024, 3, 5)] * 10),
        "kind": pa.array(["x", "y", None] * 6 + ["x", "y"]).dictionary_encode(),
    }
    other, typed_schema = fit(parquet(typed))
    assert typed_schema.columns == schema.columns
    assert other.ids == data.ids
    assert (other.x != data.x).nnz == 0


def test_new_rows_need_the_features_only(write):
    _, schema = fit(write({"id": COUNT, "v": COUNT, "w": COUNT, "label": LABELS}))
    prepared = schema.transform(read_table(write({"w": [1], "more": [2], "v": [3]})))
    assert prepared.instances.y is None
    assert prepared.instances.ids == ("0",)
    assert [("more" in text, "'id'" in text) for text in map(str, prepared.notices)] == [
        (True, False),
        (False, True),
    ]
    with pytest.raises(DataError, match="no column 'w' for a feature of the model"):
        schema.transform(read_table(write({"v": [3]})))


def test_an_unseen_category_is_all_zeros_and_told(write):
    _, schema = fit(write({"v": ["x", "y"] * 10, "label": LABELS}))
    prepared = schema.transform(read_table(write({"v": ["x", "z", "z", "NA"]})))
    assert prepared.instances.x.tolist() == [[1, 0], [0, 0], [0, 0], [0, 0]]
    assert "(2 rows), the first is 'z' in line 3" in str(prepared.notices[0])


def test_an_unknown_label(write):
    _, schema = fit(write({"v": COUNT, "label": LABELS}))
    table = read_table(write({"v": [1, 2], "label": ["b", "c"]}))
    prepared = schema.transform(table)
    assert prepared.instances.y.tolist() == [1, -1]
    assert "'c' in line 3" in str(prepared.notices[0])
    with pytest.raises(DataError, match=r"classes fitted \(a, b\), found 'c' in line 3"):
        schema.transform(table, require_target=True)


def test_evaluation_needs_the_target(write):
    _, schema = fit(write({"v": COUNT, "label": LABELS}))
    with pytest.raises(DataError, match="no column 'label' for the target"):
        schema.transform(read_table(write({"v": [1]})), require_target=True)


def test_a_number_of_absurd_size_is_named(write):
    _, schema = fit(write({"v": COUNT, "label": LABELS}))
    with pytest.raises(DataError, match=r"column 'v' .*'1e90' in line 2"):
        schema.transform(read_table(write({"v": ["1e90"]})))


@pytest.mark.parametrize(
    "damage", [{"version": 2}, {"columns": [{}]}, {"columns": [{"encoder": "x"}]}, {"classes": 3}]
)
def test_a_damaged_schema_is_refused(write, damage):
    _, schema = fit(write({"v": COUNT, "label": LABELS}))
    with pytest.raises(DataError, match="table schema"):
        TableSchema.from_json({**schema.to_json(), **damage})


# ---------------------------------------------------------------- files


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("", "empty file"),
        ("\n\n", "only blank lines"),
        ("a,b\n", "nothing but the names"),
        ("a,b", "nothing but the names"),
        ("a,b\n1,2\n3\n", "2 cells in each row .* found 1 in line 3"),
        ("a,b\n1,2\n\n3,4,5\n", "found 3 in line 4"),
        ("a,a\n1,2\n", "name each column once, found 'a' twice"),
        (",a\n1,2\n", "column 1 of 2 has no name"),
        (b"a,b\n1,\xff\n", "CSV file in UTF-8"),
        ("a,b\n1,2\n".encode("utf-16"), "CSV file in UTF-8"),
    ],
)
def test_files_that_are_no_table(write, content, says):
    with pytest.raises(DataError, match=says) as error:
        read_table(write(content))
    assert "table.csv" in str(error.value)
    assert "\n" not in str(error.value)


def test_paths_that_are_no_file(tmp_path, write):
    with pytest.raises(DataError, match="no such file"):
        read_table(tmp_path / "none.csv")
    with pytest.raises(DataError, match="found a folder"):
        read_table(tmp_path)
    with pytest.raises(DataError, match=r"must end in one of \.csv"):
        read_table(write("a\n1\n", "table.xls"))


def test_damaged_parquet(write, parquet):
    with pytest.raises(DataError, match="must be a Parquet file"):
        read_table(write("a,b\n1,2\n", "table.parquet"))
    whole = parquet({"v": COUNT}).read_bytes()
    with pytest.raises(DataError, match="must be a Parquet file"):
        read_table(write(whole[: len(whole) // 2], "half.parquet"))


def test_parquet_columns_that_are_no_feature(parquet):
    with pytest.raises(DataError, match=r"column 'v' must hold numbers, texts.* found list"):
        fit(parquet({"v": [[i] for i in COUNT], "label": LABELS}))
    with pytest.raises(DataError, match="'inf' in row 2"):
        fit(parquet({"v": [0.0, np.inf, *map(float, COUNT[2:])], "label": LABELS}))
    path = parquet({"v": COUNT, "__index_level_0__": COUNT, "label": LABELS})
    assert fit(path)[1].feature_names == ("v",)


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_other_delimiters_a_mark_and_line_ends(write, delimiter):
    text = "\r\n".join(delimiter.join(row) for row in (("v", "label"), ("1", "a"), ("2", "b")))
    table = read_table(write("\ufeff" + text))
    assert table.names == ("v", "label")
    assert table.data.to_pylist()[1] == {"v": "2", "label": "b"}


def test_a_cell_longer_than_a_usual_block(write):
    table = read_table(write({"v": ["x" * 3_000_000, "y"]}))
    assert table.num_rows == 2


def test_edges_come_with_the_table(write):
    table = write({"id": COUNT, "v": COUNT, "label": LABELS})
    edges = write("source,target\n0,1\n1,0\n2,2\n", "edges.csv")
    data, schema = fit(table, edges=edges)
    assert data.edge_index.tolist() == [[0, 1], [1, 0]]
    assert len([text for text in schema.decisions if "edges" in text]) == 2


def test_fit_schema_alone(write):
    assert fit_schema(read_table(write({"v": COUNT}))).feature_names == ("v",)

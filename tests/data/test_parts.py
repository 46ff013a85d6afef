"""A table in parts is the table at once: every row, every message, whatever the size of a part."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
from scipy import sparse

from difformer.data.notices import together
from difformer.data.parts import table_parts
from difformer.data.reading import read_parts
from difformer.data.tables import fit_schema, read_table
from difformer.errors import DataError

ROWS, PART = 400, 2_000  # of about 12,000 bytes
COLORS = ("red", "green", "blue")


def columns(rows=ROWS):
    return {
        "id": [f"r{i}" for i in range(rows)],
        "size": [f"{i / 7:.3f}" if i % 5 else "" for i in range(rows)],
        "code": [f"{i % 4}.0" for i in range(rows)],  # whole numbers, as pandas writes them
        "color": [COLORS[i % 3] for i in range(rows)],
        "kind": ["ab"[i % 2] for i in range(rows)],
    }


def write(folder, data, ending="csv"):
    path = folder / f"table.{ending}"
    if ending == "parquet":
        pa.parquet.write_table(pa.table(data), path)
    else:
        lines = [",".join(data), *(",".join(row) for row in zip(*data.values(), strict=True))]
        path.write_text("\n".join(lines) + "\n")
    return path


def schema_of(path):
    return fit_schema(read_table(path), target="kind", categorical=["code", "color"])


def dense(x):
    return x.toarray() if sparse.issparse(x) else x


@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_parts_are_the_whole(tmp_path, ending):
    path = write(tmp_path, columns(), ending)
    schema = schema_of(path)
    whole = schema.transform(read_table(path)).instances
    parts = [schema.transform(table).instances for table in table_parts(path, schema, PART)]
    assert len(parts) > 3
    np.testing.assert_array_equal(np.concatenate([dense(p.x) for p in parts]), dense(whole.x))
    np.testing.assert_array_equal(np.concatenate([p.y for p in parts]), whole.y)
    assert sum((p.ids for p in parts), ()) == whole.ids


def test_a_small_file_comes_whole(tmp_path):
    path = write(tmp_path, columns())
    (table,) = table_parts(path, schema_of(path))
    assert table.num_rows == ROWS


def test_whole_numbers_are_told_by_the_whole_file(tmp_path):
    schema = schema_of(write(tmp_path, columns()))
    data = columns()
    data["code"][-1] = "x"  # so that no cell of the file loses its .0
    path = write(tmp_path, data)
    whole = schema.transform(read_table(path)).instances
    parts = [schema.transform(table).instances for table in table_parts(path, schema, PART)]
    np.testing.assert_array_equal(np.concatenate([p.x for p in parts]), whole.x)


def test_without_ids_rows_are_numbered_through_the_file(tmp_path):
    data = columns()
    schema = schema_of(write(tmp_path, data))
    data["name"] = data.pop("id")
    path = write(tmp_path, data)
    parts = [schema.transform(table) for table in table_parts(path, schema, PART)]
    assert [name for p in parts for name in p.instances.ids] == [str(i) for i in range(ROWS)]
    said = [str(notice) for notice in together(n for p in parts for n in p.notices)]
    assert said == [str(notice) for notice in schema.transform(read_table(path)).notices]


def test_notices_of_parts_add_up(tmp_path):
    data = columns()
    schema = schema_of(write(tmp_path, data))
    for row in (3, 200, 390):
        data["color"][row], data["kind"][row - 1] = f"odd{row}", "new"
    path = write(tmp_path, data)
    parts = [schema.transform(table) for table in table_parts(path, schema, PART)]
    said = [str(notice) for notice in together(n for p in parts for n in p.notices)]
    assert said == [str(notice) for notice in schema.transform(read_table(path)).notices]
    assert any("(3 rows), the first is 'odd3' in line 5" in text for text in said)


@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_an_id_that_repeats_in_another_part_is_found(tmp_path, ending):
    data = columns()
    schema = schema_of(write(tmp_path, data, ending))
    data["id"][390] = "r7"
    path = write(tmp_path, data, ending)
    places = ("line 392", "line 9") if ending == "csv" else ("row 391", "row 8")
    with pytest.raises(DataError, match=f"'r7' in {places[0]} and in {places[1]}"):
        list(table_parts(path, schema, PART))


def test_equal_hashes_of_different_ids_are_no_repetition(tmp_path, monkeypatch):
    path = write(tmp_path, columns())
    schema = schema_of(path)
    one = np.zeros(1, dtype=np.int64)
    monkeypatch.setattr("difformer.data.parts._hashed", lambda ids: one.repeat(len(ids)))
    assert sum(table.num_rows for table in table_parts(path, schema, PART)) == ROWS


def test_what_is_wrong_in_a_later_part_says_where(tmp_path):
    data = columns()
    schema = schema_of(write(tmp_path, data))
    data["size"][390] = "many"
    path = write(tmp_path, data)
    with pytest.raises(DataError, match="'many' in line 392"):
        list(map(schema.transform, table_parts(path, schema, PART)))
    path.write_text(path.read_text() + "too,few\n")
    with pytest.raises(DataError, match=r"5 cells in each row .* found 2 in line 402"):
        list(read_parts(path, PART))


def test_a_cell_longer_than_a_part_is_refused(tmp_path):
    data = columns()
    data["color"][50] = "x" * (2 * PART)
    with pytest.raises(DataError, match="must be a CSV file"):
        list(read_parts(write(tmp_path, data), PART))


def test_some_columns_alone(tmp_path):
    for ending in ("csv", "parquet"):
        path = write(tmp_path, columns(), ending)
        assert {table.names for table in read_parts(path, PART, ["color"])} == {("color",)}

"""Whatever stands in a file, a reader gives a result or one sentence."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from difformer.data.graphs import read_edges
from difformer.data.tables import load_table, read_table
from difformer.errors import DataError

BRIEF = settings(
    max_examples=150,
    derandomize=True,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)

TABLE = "id,v,w,day,text,label\n" + "".join(
    f'{i},{i * 0.5},{"xyz"[i % 3]},2024-01-{i + 1:02d},"one, two three four five {i}",'
    f"{'ab'[i % 2]}\n"
    for i in range(12)
)
EDGES = "source,target,weight\n" + "".join(f"{i},{(i + 1) % 12},{i * 0.5}\n" for i in range(12))

CHARACTERS = ',;\t"\n\rx0é٣\x00\ufeff'
DATES = ("2024-99-99", "2024-01-01T10:00+99:00", "0001-01-01")
NUMBERS = ("nan", "inf", "-1", "1e999", "1.0", "9" * 21, "1_0", "-0")
CELLS = st.sampled_from([*CHARACTERS, *DATES, *NUMBERS, "", "NA", '""', "true", "_" * 9])


@st.composite
def mutated(draw, valid):
    """A valid file with a few places overwritten, cut out or repeated."""
    text = valid
    for _ in range(draw(st.integers(1, 5))):
        start = draw(st.integers(0, len(text)))
        stop = min(len(text), start + draw(st.integers(0, 8)))
        text = text[:start] + draw(CELLS) + text[stop:]
    return text.encode()


def files(valid):
    return st.one_of(st.binary(max_size=200), st.text(max_size=200).map(str.encode), mutated(valid))


def one_sentence_or_result(call):
    try:
        return call()
    except DataError as error:
        message = str(error)
    assert message.endswith(".")
    assert len(message) < 600
    return None


@BRIEF
@given(files(TABLE))
def test_tables(tmp_path, content):
    path = tmp_path / "table.csv"
    path.write_bytes(content)
    found = one_sentence_or_result(lambda: load_table(path, "label"))
    if found is not None:
        instances, schema = found
        again = one_sentence_or_result(lambda: schema.transform(read_table(path)))
        assert again is not None
        assert again.instances.num_instances == instances.num_instances


@BRIEF
@given(files(EDGES), st.booleans())
def test_edges(tmp_path, content, directed):
    path = tmp_path / "edges.csv"
    path.write_bytes(content)
    ids = tuple(map(str, range(12)))
    edges = one_sentence_or_result(lambda: read_edges(path, ids, directed))
    if edges is not None:
        assert ((edges.edge_index >= 0) & (edges.edge_index < 12)).all()


@pytest.fixture(scope="module")
def fitted(tmp_path_factory):
    path = tmp_path_factory.mktemp("fitted") / "table.csv"
    path.write_text(TABLE)
    return load_table(path, "label")[1]


@BRIEF
@given(content=files(TABLE))
def test_new_rows(tmp_path, fitted, content):
    path = tmp_path / "new.csv"
    path.write_bytes(content)
    one_sentence_or_result(lambda: fitted.transform(read_table(path)))

"""Series and their snapshots: windows, graphs in time, the files, and what is refused."""

import json

import numpy as np
import pytest

from difformer.data import datasets
from difformer.data.series import SERIES, Series, load_series
from difformer.errors import ConfigError, DataError

VALUES = np.arange(24.0).reshape(8, 3)


def edges(count=1):
    return tuple((np.array([[0, 1], [1, 2]]), np.full(2, k + 1.0)) for k in range(count))


def test_a_snapshot_holds_the_last_values_and_the_next_one():
    found = Series(VALUES).snapshots(2)
    assert found.history.shape == (6, 3, 2)
    assert found.history[1, 2].tolist() == [5.0, 8.0]
    assert found.target[1].tolist() == VALUES[3].tolist()
    assert found.edges_at(0) is None


def test_graphs_of_one_step_or_of_all():
    assert Series(VALUES, edges()).snapshots(3).edges_at(4)[1].tolist() == [1.0, 1.0]
    several = Series(VALUES, edges(8)).snapshots(3)
    assert several.edges_at(4)[1].tolist() == [5.0, 5.0]
    assert len(several.edges) == 5


def test_a_target_may_lie_further_ahead():
    found = Series(VALUES, edges(8)).snapshots(2, 3)
    assert found.history.shape[0] == len(found.target) == 4
    for t in range(4):
        np.testing.assert_array_equal(found.history[t], VALUES[t : t + 2].T)
        np.testing.assert_array_equal(found.target[t], VALUES[t + 4])


def test_what_does_not_fit_is_refused():
    with pytest.raises(DataError, match="finite numbers"):
        Series(np.array([[np.nan]]))
    with pytest.raises(DataError, match="one for each of 8 steps, found 3"):
        Series(VALUES, edges(3))
    with pytest.raises(ConfigError, match="must fit into 8 steps, found 8 and 1"):
        Series(VALUES).snapshots(8)


def write(folder, name, content):
    path = folder / SERIES[name][0]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content))


def test_a_made_file_of_every_kind(tmp_path, monkeypatch):
    """Also of what is not at hand: the visits of pages on mathematics."""
    monkeypatch.setenv(datasets.VARIABLE, str(tmp_path))
    pairs, weights = [[0, 1], [1, 2]], [1.0, 2.0]
    write(tmp_path, "chickenpox", {"edges": pairs, "FX": VALUES.tolist()})
    days = {str(day): pairs for day in range(8)}
    strong = {str(day): [day, 1.0] for day in range(8)}
    mapping = {"edge_index": days, "edge_weight": strong}
    covid = {"edge_mapping": mapping, "time_periods": 8, "y": VALUES.tolist()}
    write(tmp_path, "england_covid", covid)
    write(tmp_path, "pedalme", {"edges": pairs, "weights": weights, "X": VALUES.tolist()})
    visits = {str(day): {"y": VALUES[day].tolist()} for day in range(8)}
    write(tmp_path, "wikimath", {**visits, "edges": pairs, "weights": weights, "time_periods": 8})
    path = tmp_path / SERIES["metr_la_week"][0]
    path.parent.mkdir()
    np.savez(path, series=VALUES, edge_index=np.array(pairs).T, edge_weight=np.array(weights))
    for name in SERIES:
        found = load_series(name)
        np.testing.assert_array_equal(found.values, VALUES)
        assert found.edges[0][0].tolist() == [[0, 1], [1, 2]]
        assert found.name == name
    assert load_series("england_covid").edges[3][1].tolist() == [3.0, 1.0]
    assert load_series("wikimath").edges[0][1].tolist() == weights


def test_bad_files_are_one_sentence(tmp_path, monkeypatch):
    monkeypatch.setenv(datasets.VARIABLE, str(tmp_path))
    with pytest.raises(DataError, match="does not exist"):
        load_series("chickenpox")
    for content in ("{", "{}", '{"edges": [], "FX": [["a"]]}'):
        write(tmp_path, "chickenpox", content)
        with pytest.raises(DataError, match="must hold the series"):
            load_series("chickenpox")
    path = tmp_path / SERIES["metr_la_week"][0]
    path.parent.mkdir()
    for content in (b"", b"PK", b"none"):
        path.write_bytes(content)
        with pytest.raises(DataError, match="must hold the series"):
            load_series("metr_la_week")
    with pytest.raises(ConfigError, match="series must be one of"):
        load_series("traffic")
    monkeypatch.delenv(datasets.VARIABLE)
    with pytest.raises(DataError, match=datasets.VARIABLE):
        load_series("chickenpox")

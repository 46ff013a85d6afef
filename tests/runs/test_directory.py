"""A run directory is made whole, resumed only with the same settings, and never by mistake."""

import json
from pathlib import Path

import pytest
import torch

from difformer.errors import RunError
from difformer.runs import RunDirectory

CONFIG = {"epochs": 3, "model": {"width": 8, "path": Path("a"), "tau": 0.5}, "patience": None}


@pytest.fixture
def run(tmp_path):
    return RunDirectory.create(tmp_path / "run", CONFIG)


def test_the_configuration_is_resolved_and_read_back(run):
    assert RunDirectory.open(run.path).config == {
        "epochs": 3,
        "model": {"width": 8, "path": "a", "tau": 0.5},
    }


def test_the_environment_is_described(run):
    environment = json.loads((run.path / "environment.json").read_text())
    assert environment["packages"]["torch"] == torch.__version__
    assert environment["torch_threads"] == torch.get_num_threads()
    assert set(environment) == {
        "python", "packages", "platform", "cpu_count", "torch_threads", "cuda", "git_commit",
    }  # fmt: skip


def test_whoever_may_read_one_file_may_read_all(run):
    run.write_model({"weight": torch.zeros(2)})
    run.append_metrics({"epoch": 1})
    run.finish({})
    (run.path.parent / "usual").touch()
    usual = (run.path.parent / "usual").stat().st_mode
    modes = {path.name: path.stat().st_mode for path in run.path.iterdir() if path.is_file()}
    assert len(modes) == 6
    assert modes == dict.fromkeys(modes, usual)


def test_outside_a_repository_there_is_no_commit(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run = RunDirectory.create("run", {})
    assert json.loads((run.path / "environment.json").read_text())["git_commit"] is None


def test_an_unfinished_run_is_taken_up_with_the_same_configuration(run):
    run.append_metrics({"epoch": 1})
    (run.path / ".tmp-00000000-x").write_text("half")
    again = RunDirectory.create(run.path, CONFIG)
    assert again.read_metrics() == [{"epoch": 1}]
    assert not list(run.path.glob(".tmp-*"))


def test_another_configuration_is_refused_by_key(run):
    other = CONFIG | {"model": {"width": 16, "path": "a", "tau": 0.5}}
    with pytest.raises(RunError, match=r"another value of model\.width"):
        RunDirectory.create(run.path, other)


def test_a_finished_run_is_refused_unless_overwritten(run):
    run.finish({"accuracy": 0.5})
    with pytest.raises(RunError, match="holds a finished run"):
        RunDirectory.create(run.path, CONFIG)
    again = RunDirectory.create(run.path, CONFIG, overwrite=True)
    assert not again.is_finished


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_folder_of_other_things_is_never_touched(tmp_path, overwrite):
    (tmp_path / "thesis.tex").write_text("x")
    with pytest.raises(RunError, match=r"is no run|new or empty folder"):
        RunDirectory.create(tmp_path, CONFIG, overwrite=overwrite)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_an_empty_folder_is_taken(tmp_path):
    RunDirectory.create(tmp_path, CONFIG)
    RunDirectory.open(tmp_path)


def test_open_says_what_is_missing(tmp_path):
    with pytest.raises(RunError, match="found no folder"):
        RunDirectory.open(tmp_path / "none")
    with pytest.raises(RunError, match=r"found no config\.toml"):
        RunDirectory.open(tmp_path)


def test_a_damaged_configuration_is_explained(run):
    (run.path / "config.toml").write_text("epochs = = 3")
    with pytest.raises(RunError, match=r"Expected TOML in .*config\.toml"):
        RunDirectory.open(run.path)


def test_values_that_toml_cannot_hold_are_refused_and_leave_nothing(tmp_path):
    with pytest.raises(RunError, match="Cannot write the configuration as TOML"):
        RunDirectory.create(tmp_path / "run", {"model": object()})
    assert not list(tmp_path.iterdir())


def test_finishing_writes_the_manifest_last_and_verifies(run):
    with pytest.raises(RunError, match="Expected a finished run"):
        run.read_summary()
    run.write_model({"weight": torch.eye(2)})
    run.finish({"accuracy": 0.5})
    run.verify()
    assert run.read_summary() == {"accuracy": 0.5}
    assert torch.equal(run.read_model()["weight"], torch.eye(2))
    (run.path / "model.safetensors").write_bytes(b"x")
    with pytest.raises(RunError, match=r"model\.safetensors is changed"):
        run.verify()


def test_tied_and_strided_weights_are_saved(run):
    weight = torch.arange(6.0).view(2, 3)
    run.write_model({"a": weight, "b": weight, "c": weight.T, "d": torch.tensor(1.0)})
    model = run.read_model()
    assert torch.equal(model["b"], weight)
    assert torch.equal(model["c"], weight.T)
    assert model["d"].shape == ()


def test_only_dense_tensors_are_saved(run):
    with pytest.raises(RunError, match="'a' to be a dense tensor"):
        run.write_model({"a": torch.eye(2).to_sparse()})
    with pytest.raises(RunError, match="found none"):
        run.read_model()

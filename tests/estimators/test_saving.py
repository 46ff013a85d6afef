"""A fitted estimator as files: what comes back is what was saved."""

import json
import shutil

import estimator_cases as cases
import numpy as np
import pytest
import torch
from scipy import sparse

from difformer import DIFFormerClassifier
from difformer.diffusion import Neighbourhood, penalty_from, welsch
from difformer.errors import ConfigError, RunError

SHORT = {"epochs": 10}
MODELS = {
    "decoupled": lambda: DIFFormerClassifier(training=SHORT),
    "decoupled, own terms": lambda: DIFFormerClassifier(
        diffusivity=(Neighbourhood(k=5, weights="self-tuned"), "graph"),
        options={"steps": 4, "mix_weights": (1.0, np.float64(2)), "members": 1},
        training=SHORT,
    ),
    "trained": lambda: DIFFormerClassifier("trained", training=SHORT),
    "trained, own terms": lambda: DIFFormerClassifier(
        "trained",
        ["simple", welsch(0.5), Neighbourhood(k=5, space="state")],
        options={"num_layers": 3, "mix_weights": "learnt", "heads": 2, "norm": None},
        training={"epochs": 10, "learning_rate": np.float64(0.005)},
        random_state=np.int64(7),
    ),
}
NAMES = {
    "whole numbers": lambda y: y,
    "spread numbers": lambda y: np.where(y < 0, -1, 7 * y + 100),
    "texts": lambda y: [None if k < 0 else f"digit {k}" for k in y],
    "truths": lambda y: [None if k < 0 else bool(k % 2) for k in y],
}


@pytest.fixture(scope="module")
def rows():
    x, y, known = cases.digits(120)
    return x, known, cases.ring_edges(y)


@pytest.fixture(scope="module")
def folder(rows, tmp_path_factory):
    path = tmp_path_factory.mktemp("saved") / "model"
    MODELS["decoupled"]().fit(rows[0], rows[1]).save(path)
    return path


def check_equal(model, again, new, *edges):
    for name in ("classes_", "label_distributions_", "transduction_", "embedding_"):
        before, after = getattr(model, name), getattr(again, name)
        assert before.dtype.kind == after.dtype.kind, name
        np.testing.assert_array_equal(before, after, err_msg=name)
    assert (model.n_iter_, model.n_features_in_) == (again.n_iter_, again.n_features_in_)
    assert model.history_ == again.history_
    for asked in ((new,), (new, *edges)):
        np.testing.assert_array_equal(model.predict_proba(*asked), again.predict_proba(*asked))
        np.testing.assert_array_equal(model.predict(*asked), again.predict(*asked))
        np.testing.assert_array_equal(model.transform(*asked), again.transform(*asked))
    assert type(model.engine_) is type(again.engine_)


@pytest.mark.parametrize("make", MODELS.values(), ids=MODELS.keys())
@pytest.mark.parametrize("form", [np.asarray, sparse.csr_matrix], ids=["dense", "csr"])
def test_what_comes_back(make, form, rows, tmp_path):
    x, known, edges = rows
    model = make().fit(form(x), known, *edges)
    new, towards = form(x[:9] * 0.5), (np.array([[3, 4, 90], [0, 1, 5]]), np.array([1.0, 0.5, 2]))
    model.save(tmp_path / "first")
    again = DIFFormerClassifier.load(tmp_path / "first")
    check_equal(model, again, new, *towards)
    again.save(tmp_path / "second")
    check_equal(model, DIFFormerClassifier.load(tmp_path / "second"), new, *towards)
    for name in ("model.safetensors", "context.safetensors", "estimator.json"):
        files = [(tmp_path / which / name).read_bytes() for which in ("first", "second")]
        assert files[0] == files[1], name


@pytest.mark.parametrize("encoder", ["decoupled", "trained"])
@pytest.mark.parametrize("name", NAMES.values(), ids=NAMES.keys())
def test_labels_come_back(encoder, name, rows, tmp_path):
    x, known, _ = rows
    labels = name(known)
    wrong = labels.copy()  # a label that the encoder would not give by itself
    row = int(np.flatnonzero(known == 3)[0])
    wrong[row] = labels[int(np.flatnonzero(known == 8)[0])]
    model = DIFFormerClassifier(encoder, training=SHORT).fit(x, wrong)
    assert model.transduction_[row] == wrong[row]
    model.save(tmp_path / "model")
    check_equal(model, DIFFormerClassifier.load(tmp_path / "model"), x[:5] + 1)


def test_parameters_come_back(rows, tmp_path):
    model = MODELS["trained, own terms"]().fit(rows[0], rows[1])
    model.save(tmp_path / "model")
    again = DIFFormerClassifier.load(tmp_path / "model")
    kept = {**again.get_params(), "diffusivity": list(again.diffusivity)}
    assert {**kept, "diffusivity": None} == {**model.get_params(), "diffusivity": None}
    names = [getattr(term, "name", term) for term in kept["diffusivity"][:2]]
    assert names == ["simple", "welsch"]
    assert kept["diffusivity"][1].scale == 0.5
    assert kept["diffusivity"][2] == Neighbourhood(k=5, space="state")
    refitted = again.fit(rows[0], rows[1])  # loaded parameters can be fitted with
    np.testing.assert_array_equal(refitted.label_distributions_, model.label_distributions_)


def test_the_files_hold_data_only(folder):
    names = {p.name for p in folder.rglob("*") if p.is_file()}
    assert {"estimator.json", "context.safetensors", "model.safetensors"} <= names
    for path in folder.rglob("*"):
        assert path.suffix in ("", ".json", ".jsonl", ".toml", ".safetensors", ".md"), path
    assert json.loads((folder / "estimator.json").read_text())["format"] == 2


def test_a_folder_is_written_once(folder, rows):
    before = {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()}
    with pytest.raises(RunError, match="finished run"):
        DIFFormerClassifier.load(folder).save(folder)
    assert {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()} == before


def test_a_folder_with_other_files_is_left_alone(folder, tmp_path):
    (tmp_path / "note.txt").write_text("mine")
    with pytest.raises(RunError, match="found files in it"):
        DIFFormerClassifier.load(folder).save(tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["note.txt"]


def test_what_no_file_can_hold_leaves_no_folder(rows, tmp_path):
    model = DIFFormerClassifier("trained", penalty_from(torch.log1p), training={"epochs": 1})
    model.fit(rows[0], rows[1])
    with pytest.raises(ConfigError, match="made from a function and cannot be saved"):
        model.save(tmp_path / "model")
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def copy(folder, tmp_path):
    return shutil.copytree(folder, tmp_path / "copy")


def test_missing_folder(tmp_path):
    with pytest.raises(RunError, match="nowhere"):
        DIFFormerClassifier.load(tmp_path / "nowhere")
    with pytest.raises(RunError, match=r"no config\.toml"):
        DIFFormerClassifier.load(tmp_path)


@pytest.mark.parametrize("name", ["estimator.json", "context.safetensors", "model.safetensors"])
@pytest.mark.parametrize("damage", ["missing", "cut", "changed", "empty"])
def test_damaged_files(name, damage, copy):
    path = copy / name
    content = path.read_bytes()
    if damage == "missing":
        path.unlink()
    else:
        middle = len(content) // 2
        flipped = content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]
        path.write_bytes({"cut": content[:middle], "changed": flipped, "empty": b""}[damage])
    with pytest.raises(RunError, match=name):
        DIFFormerClassifier.load(copy)


def test_an_unfinished_run(copy):
    (copy / "manifest.json").unlink()
    with pytest.raises(RunError, match="unfinished run"):
        DIFFormerClassifier.load(copy)


@pytest.mark.parametrize(
    "change",
    [
        {"format": 1},
        {"engine": {}},
        {"engine": None},
        {"own": None},
        {"own": {"classes": [1, 2], "classes_are": "colours"}},
        {"parameters": {"encoder": "trained"}},
        {"parameters": {"layers": 3, "diffusivity": None}},
        {"parameters": None},
    ],
    ids=str,
)
def test_files_of_another_version(change, copy, rows):
    """Whole files with a fitting manifest, but of other content."""
    from difformer.runs import RunDirectory

    path = copy / "estimator.json"
    saved = json.loads(path.read_text())
    path.write_text(json.dumps({**saved, **change}))
    RunDirectory.open(copy).finish({})
    with pytest.raises(RunError, match=r"of this version|format 2"):
        DIFFormerClassifier.load(copy)

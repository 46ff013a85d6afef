"""Models as two files: equal outputs after a round trip, and clear errors for damaged files."""

import json

import nn_cases as cases
import pytest
import torch

from difformer.diffusion import QUADRATIC, Diffusivity, penalty_from
from difformer.errors import ConfigError, RunError
from difformer.nn import DIFFormer
from difformer.nn.official import official_options
from difformer.nn.pretrained import describe

N = 9
SAVED = {
    **{n: d for n, d in cases.TERMS.items() if n not in ("custom", "affine-raw")},
    "simple-raw": cases.raw(cases.single("simple").penalty),
    "quadratic": cases.raw(QUADRATIC),
    "renamed": Diffusivity("mine", cases.single("welsch-narrow").penalty, "edges", sphere=False),
    "nested": ["simple", cases.STATE, cases.TERMS["cauchy-edges"]],
}


def same_outputs(a, b):
    x, (edge_index, edge_weight) = cases.draw(N), cases.draw_edges(N, 14)
    cases.assert_close(b.eval()(x, edge_index, edge_weight), a(x, edge_index, edge_weight), 1e-14)


@pytest.mark.parametrize("mix", ["convex", "joint"])
@pytest.mark.parametrize("name", SAVED)
def test_a_round_trip_gives_equal_outputs(name, mix, tmp_path):
    model = cases.make(SAVED[name], mix=mix, heads=2, value_map=True, source=0.1)
    model.save_pretrained(tmp_path / "new" / "folder")
    assert {p.name for p in (tmp_path / "new" / "folder").iterdir()} == {
        "README.md",
        "config.json",
        "model.safetensors",
    }
    loaded = DIFFormer.from_pretrained(str(tmp_path / "new" / "folder"))
    same_outputs(model, loaded)
    described = [describe(list(m.layers[0].terms)) for m in (loaded, model)]
    assert described[0] == described[1]
    loaded.save_pretrained(tmp_path / "again")
    text = (tmp_path / "again" / "config.json").read_text()
    assert text == (tmp_path / "new" / "folder" / "config.json").read_text()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_precision_settings_and_weights_are_kept(dtype, tmp_path):
    options = {
        "num_layers": 3,
        "step_size": 0.7,
        "graph_norm": "sym",
        "mix_weights": (1.0, 2.0),
        "norm": None,
        "dropout": 0.3,
        "input_dropout": 0.1,
    }
    model = cases.make("simple", **options).to(dtype)
    model.save_pretrained(tmp_path)
    loaded = DIFFormer.from_pretrained(tmp_path)
    assert next(loaded.parameters()).dtype == dtype
    own = loaded.state_dict()
    assert all(torch.equal(own[name], tensor) for name, tensor in model.state_dict().items())
    assert {n: loaded.config[n] for n in options if n != "mix_weights"} == {
        n: options[n] for n in options if n != "mix_weights"
    }
    same_outputs(model.double(), loaded.double())


def test_whoever_may_read_one_file_may_read_the_other(tmp_path):
    cases.make("simple").save_pretrained(tmp_path)
    (tmp_path / "usual").touch()
    assert len({path.stat().st_mode for path in tmp_path.iterdir()}) == 1


def test_official_and_parameterless_models(tmp_path):
    sizes = {"in_channels": cases.F, "hidden_channels": cases.C, "out_channels": cases.OUT}
    model = DIFFormer(**official_options(**sizes, graph_weight=0.3, use_source=True)).double()
    model.eval().save_pretrained(tmp_path / "official")
    same_outputs(model, DIFFormer.from_pretrained(tmp_path / "official"))
    bare = cases.make(
        "simple",
        hidden_channels=cases.F,
        out_channels=cases.F,
        input_map=False,
        output_map=False,
        maps=False,
        norm=None,
    )
    bare.save_pretrained(tmp_path / "bare")
    same_outputs(bare, DIFFormer.from_pretrained(tmp_path / "bare"))


@pytest.mark.parametrize("name", ["custom", "simple", "welsch"])
def test_a_penalty_made_from_a_function_is_refused_and_nothing_is_written(name, tmp_path):
    penalty = penalty_from(lambda x: (x + 1).sqrt(), name=name)
    for diffusivity in (penalty, Diffusivity("d", penalty), ["simple", penalty]):
        with pytest.raises(ConfigError, match=f"penalty '{name}' was made from a function"):
            cases.make(diffusivity).save_pretrained(tmp_path / "model")
    assert not (tmp_path / "model").exists()


def test_a_folder_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match="file could not be written"):
        cases.make().save_pretrained(tmp_path / "file")


@pytest.fixture
def folder(tmp_path):
    cases.make("simple").save_pretrained(tmp_path)
    return tmp_path


def change(folder, **settings):
    path = folder / "config.json"
    config = json.loads(path.read_text())
    config["model"].update(settings)
    path.write_text(json.dumps(config))


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
@pytest.mark.parametrize("damage", ["missing", "empty", "cut", "garbage", "folder"])
def test_missing_and_damaged_files(name, damage, folder):
    path = folder / name
    content = path.read_bytes()
    path.unlink()
    if damage == "folder":
        path.mkdir()
    elif damage != "missing":
        path.write_bytes({"empty": b"", "cut": content[:-20], "garbage": b"\xff\x00" * 40}[damage])
    with pytest.raises(RunError, match=name):
        DIFFormer.from_pretrained(folder)


@pytest.mark.parametrize(
    "settings",
    [
        {"num_layers": 3},
        {"hidden_channels": 7},
        {"heads": "two"},
        {"unheard_of": 1},
        {"mix_weights": ["a", "b"]},
        {"official": 5},
        {"official": {"kernel": "simple"}},
        {"diffusivity": 5},
        {"diffusivity": "gauss"},
        {"diffusivity": {}},
        {"diffusivity": {"penalty": "simple", "scale": 2.0}},
        {"diffusivity": {"penalty": "welsch", "scale": -1.0}},
        {"diffusivity": {"penalty": "welsch", "scale": None}},
        {"diffusivity": {"neighbourhood": {"k": 0}}},
        {"diffusivity": {"neighbourhood": {"q": 1}}},
        {"norm": None},
    ],
    ids=str,
)
def test_a_configuration_that_does_not_fit(settings, folder):
    change(folder, **settings)
    with pytest.raises(RunError, match=r"does not hold a model of this version: .+"):
        DIFFormer.from_pretrained(folder)


@pytest.mark.parametrize("text", ["[]", "{}", '{"format": 2}', '{"format": 1, "model": {}}', "1"])
def test_a_configuration_of_another_kind(text, folder):
    (folder / "config.json").write_text(text)
    with pytest.raises(RunError, match=r"config\.json must"):
        DIFFormer.from_pretrained(folder)


def test_nothing_is_a_pickle(folder):
    assert json.loads((folder / "config.json").read_text())["format"] == 1
    raw = (folder / "model.safetensors").read_bytes()
    header = json.loads(raw[8 : 8 + int.from_bytes(raw[:8], "little")])
    assert set(header) - {"__metadata__"} == set(cases.make("simple").state_dict())

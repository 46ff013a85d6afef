"""Checkpoints come back bit by bit, damaged ones are skipped, old ones removed."""

import dataclasses

import pytest
import torch

from difformer.errors import RunError
from difformer.runs.checkpoint import (
    Checkpoint,
    discard_checkpoints,
    latest_checkpoint,
    list_checkpoints,
    load_checkpoint,
    save_checkpoint,
)
from difformer.runs.optimizer_state import flatten_optimizer

OPTIMIZERS = {
    "adam": lambda p: torch.optim.Adam(p, lr=0.1, weight_decay=0.01, amsgrad=True),
    "adamw": lambda p: torch.optim.AdamW(p, lr=0.1),
    "sgd": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9),
    "plain": lambda p: torch.optim.SGD(p, lr=0.1),
}


def trained(name="adam", steps=3):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = torch.nn.Linear(3, 2)
    optimizer = OPTIMIZERS[name](model.parameters())
    for _ in range(steps):
        step(model, optimizer)
    return model, optimizer


def step(model, optimizer):
    optimizer.zero_grad()
    model(torch.arange(6.0).view(2, 3)).square().sum().backward()
    optimizer.step()


def state(epoch=1, **changes):
    model, optimizer = trained()
    checkpoint = Checkpoint(
        epoch=epoch,
        model=model.state_dict(),
        optimizer=optimizer.state_dict(),
        random_state={"cpu": torch.get_rng_state()},
    )
    return dataclasses.replace(checkpoint, **changes)


def flip(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def found(folder):
    return [path.name for path in list_checkpoints(folder)]


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_training_goes_on_bit_by_bit(tmp_path, name):
    model, optimizer = trained(name)
    saved = state(model=model.state_dict(), optimizer=optimizer.state_dict())
    loaded = load_checkpoint(save_checkpoint(tmp_path, saved))
    twin, twin_optimizer = trained(name, steps=0)
    twin.load_state_dict(loaded.model)
    twin_optimizer.load_state_dict(loaded.optimizer)
    assert loaded.optimizer["param_groups"] == optimizer.state_dict()["param_groups"]
    for _ in range(3):
        step(model, optimizer)
        step(twin, twin_optimizer)
    assert all(map(torch.equal, model.parameters(), twin.parameters()))


def test_all_fields_come_back(tmp_path):
    best = {"weight": torch.eye(2), "count": torch.tensor(3)}
    saved = state(
        7,
        best_weights=best,
        best_metric=0.1 + 0.2,
        best_epoch=5,
        misses=2,
        origin={"config": {"seed": 1}, "labels": "ab"},
    )
    loaded = load_checkpoint(save_checkpoint(tmp_path, saved))
    for name in ("epoch", "best_metric", "best_epoch", "misses", "origin"):
        assert getattr(loaded, name) == getattr(saved, name)
    assert loaded.best_weights is not None
    assert all(torch.equal(loaded.best_weights[key], best[key]) for key in best)
    assert torch.equal(loaded.random_state["cpu"], saved.random_state["cpu"])
    assert load_checkpoint(save_checkpoint(tmp_path, state(8))).best_weights is None


def test_nothing_is_a_pickle(tmp_path):
    path = save_checkpoint(tmp_path, state())
    assert {file.suffix for file in path.iterdir()} == {".safetensors", ".json"}


def test_the_last_two_and_the_best_are_kept(tmp_path):
    for epoch in (10, 20, 30, 40, 50):
        save_checkpoint(tmp_path, state(epoch, best_epoch=min(epoch, 20)))
    assert found(tmp_path) == ["epoch-000020", "epoch-000040", "epoch-000050"]


def test_epochs_are_ordered_as_numbers(tmp_path):
    for epoch in (999_999, 1_000_000):
        save_checkpoint(tmp_path, state(epoch))
    latest = latest_checkpoint(tmp_path)
    assert latest is not None
    assert latest.epoch == 1_000_000


def test_the_latest_is_found_and_leftovers_go(tmp_path):
    assert latest_checkpoint(tmp_path / "none") is None
    assert latest_checkpoint(tmp_path) is None
    (tmp_path / ".tmp-00000000-epoch-000003").mkdir()
    save_checkpoint(tmp_path, state(1))
    save_checkpoint(tmp_path, state(2))
    latest = latest_checkpoint(tmp_path)
    assert latest is not None
    assert latest.epoch == 2
    assert sorted(p.name for p in tmp_path.iterdir()) == ["epoch-000001", "epoch-000002"]


@pytest.mark.parametrize(
    "name", ["model.safetensors", "optimizer.safetensors", "random.safetensors", "state.json"]
)
def test_one_flipped_byte_sends_us_to_the_older_one(tmp_path, name):
    save_checkpoint(tmp_path, state(1))
    flip(save_checkpoint(tmp_path, state(2)) / name)
    latest = latest_checkpoint(tmp_path)
    assert latest is not None
    assert latest.epoch == 1


@pytest.mark.parametrize("name", ["model.safetensors", "manifest.json"])
def test_an_incomplete_one_is_skipped(tmp_path, name):
    save_checkpoint(tmp_path, state(1))
    (save_checkpoint(tmp_path, state(2)) / name).unlink()
    latest = latest_checkpoint(tmp_path)
    assert latest is not None
    assert latest.epoch == 1


def test_only_damaged_ones_are_an_error(tmp_path):
    flip(save_checkpoint(tmp_path, state(1)) / "model.safetensors")
    flip(save_checkpoint(tmp_path, state(2)) / "model.safetensors")
    with pytest.raises(RunError, match=r"found 2 damaged: .*epoch-000002/model\.safetensors is"):
        latest_checkpoint(tmp_path)


def test_a_damaged_one_is_replaced_by_the_next_of_its_epoch(tmp_path):
    save_checkpoint(tmp_path, state(1))
    flip(save_checkpoint(tmp_path, state(2)) / "model.safetensors")
    save_checkpoint(tmp_path, state(2))
    assert load_checkpoint(tmp_path / "epoch-000002").epoch == 2
    assert found(tmp_path) == ["epoch-000001", "epoch-000002"]


def test_later_ones_can_be_discarded(tmp_path):
    for epoch in (1, 2):
        save_checkpoint(tmp_path, state(epoch))
    discard_checkpoints(tmp_path, after=1)
    assert found(tmp_path) == ["epoch-000001"]


def test_optimizer_settings_must_fit_json():
    _, optimizer = trained()
    optimizer.param_groups[0]["lr"] = torch.tensor(0.1)
    with pytest.raises(RunError, match="its setting 'lr' is a Tensor"):
        flatten_optimizer(optimizer.state_dict())

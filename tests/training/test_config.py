"""Settings are strict, and every mistake is one ConfigError sentence."""

import pytest

from difformer.errors import ConfigError
from difformer.training import TrainingConfig, load_config


def write(tmp_path, text):
    path = tmp_path / "config.toml"
    path.write_text(text)
    return path


def test_file_and_overrides_are_merged(tmp_path):
    path = write(tmp_path, 'epochs = 5\noptimizer = "adamw"\nlearning_rate = 1\npatience = 3\n')
    config = load_config(path, ["epochs=7", "patience=none", "monitor=val_loss", "clip_norm = 2"])
    assert config == TrainingConfig(
        epochs=7, optimizer="adamw", learning_rate=1.0, monitor="val_loss", clip_norm=2.0
    )
    assert load_config() == TrainingConfig()


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"epochs": 0}, "epochs must be greater than or equal to 1, found 0."),
        ({"epochs": 2.5}, "epochs must be a valid integer, found 2.5."),
        ({"epochs": True}, "epochs must be a valid integer, found True."),
        ({"seed": "3"}, "seed must be a valid integer, found '3'."),
        ({"seed": None}, "seed must be a valid integer, found None."),
        ({"learning_rate": float("nan")}, "learning_rate must be a finite number, found nan."),
        ({"optimizer": "sgd"}, "optimizer must be 'adam' or 'adamw', found 'sgd'."),
        ({"epoch": 3}, "Unknown setting 'epoch'; did you mean 'epochs'."),
        ({"patience": 0}, "patience must be greater than or equal to 1, found 0."),
        ({"epochs": 0, "seed": -1}, "epochs must be greater than or equal to 1, found 0 (1 more)."),
    ],
)
def test_each_mistake_is_one_sentence(values, message):
    with pytest.raises(ConfigError) as caught:
        TrainingConfig(**values)
    assert str(caught.value) == message


def test_a_strange_key_lists_the_known_ones():
    with pytest.raises(ConfigError, match="Unknown setting 'xyz'; allowed are batch_size, "):
        TrainingConfig(xyz=1)


def test_the_place_is_named(tmp_path):
    path = write(tmp_path, "epochs = 0\n")
    with pytest.raises(ConfigError, match=r"found 0 \(in .*config\.toml\)\.$"):
        load_config(path)
    with pytest.raises(ConfigError, match=r"found -1 \(in .*config\.toml or in the overrides\)\.$"):
        load_config(path, ["epochs=-1"])
    with pytest.raises(ConfigError, match=r"found 'many' \(in the overrides\)\.$"):
        load_config(None, ["epochs=many"])


@pytest.mark.parametrize("override", ["epochs", "=3", ""])
def test_an_override_needs_key_and_value(override):
    with pytest.raises(ConfigError, match="must look like key=value"):
        load_config(None, [override])


def test_bad_files_are_explained(tmp_path):
    with pytest.raises(ConfigError, match=r"Cannot read the configuration .*none"):
        load_config(tmp_path / "none")
    with pytest.raises(ConfigError, match="Expected TOML in"):
        load_config(write(tmp_path, "epochs = = 3"))
    (tmp_path / "bytes.toml").write_bytes(b"\xff")
    with pytest.raises(ConfigError, match="Expected TOML in"):
        load_config(tmp_path / "bytes.toml")


def test_it_is_frozen_and_changes_are_checked():
    config = TrainingConfig()
    with pytest.raises(ValueError, match="frozen"):
        config.epochs = 3
    assert config.replace(epochs=3).epochs == 3
    with pytest.raises(ConfigError, match="epochs must be"):
        config.replace(epochs=0)


@pytest.mark.parametrize(
    ("given", "expected"), [("3GiB", 3 * 2**30), (5000, 5000), ("2 MB", 2 * 10**6)]
)
def test_memory_is_a_number_of_bytes_or_text(given, expected):
    assert TrainingConfig(memory=given).memory == expected
    assert load_config(overrides=[f"memory={given}"]).memory == expected


@pytest.mark.parametrize("given", ["much", 0, 1.5, "-3GiB"])
def test_memory_that_is_none_is_refused(given):
    with pytest.raises(ConfigError, match="memory"):
        TrainingConfig(memory=given)

"""The folder of one run.

    config.toml         every setting, resolved         environment.json   versions, machine, commit
    metrics.jsonl       one line an epoch               checkpoints/       while and after training
    model.safetensors   the weights                     summary.json       the results
    manifest.json       written last: a run is finished exactly if it has one

Each file is written atomically, and the folder itself appears with its configuration inside. So
whatever is there under its own name is whole, and an unfinished run can be told from a finished
one.
"""

import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path

import tomli_w
from torch import Tensor

from difformer.errors import RunError
from difformer.runs import atomic, manifest, records
from difformer.runs.environment import describe_environment
from difformer.runs.tensors import load_tensors, save_tensors

CONFIG = "config.toml"
ENVIRONMENT = "environment.json"
METRICS = "metrics.jsonl"
MODEL = "model.safetensors"
SUMMARY = "summary.json"
CHECKPOINTS = "checkpoints"


class RunDirectory:
    """One run on disk; made by ``create`` or ``open``, never directly.

    Attributes:
        path: The folder.
        config: The resolved configuration as its TOML file holds it.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     run = RunDirectory.create(Path(folder) / "first", {"epochs": 3})
        ...     run.finish({"accuracy": 0.9})
        ...     RunDirectory.open(run.path).read_summary()
        {'accuracy': 0.9}
    """

    def __init__(self, path: Path, config: Mapping[str, object]) -> None:
        self.path = path
        self.config = dict(config)

    def __repr__(self) -> str:
        return f"RunDirectory({str(self.path)!r})"

    @classmethod
    def create(
        cls, path: str | Path, config: Mapping[str, object], overwrite: bool = False
    ) -> "RunDirectory":
        """Start a run, or take up an unfinished one of the same configuration.

        Args:
            path: The folder; missing, empty, or an unfinished run.
            config: The resolved configuration: what TOML holds, nested; None values are left out.
            overwrite: Replace a run that is there, finished or not. Default: False. A folder
                that is not empty and no run is never replaced.

        Raises:
            RunError: The folder holds something else, a finished run, or a run of another
                configuration; or it cannot be written.
        """
        folder, text = Path(path), _to_toml(config)
        if _occupied(folder) and not overwrite:
            return cls._take_up(folder, text)
        if _occupied(folder) and not _is_run(folder):
            raise RunError(
                f"Cannot overwrite {folder}: it holds files but is no run; give another folder."
            )
        with atomic.atomic_folder(folder, replace=overwrite) as draft:
            atomic.write_json(draft / ENVIRONMENT, describe_environment())
            atomic.write_text(draft / CONFIG, text)
            (draft / CHECKPOINTS).mkdir()
        return cls(folder, tomllib.loads(text))

    @classmethod
    def can_resume(cls, path: str | Path, config: Mapping[str, object]) -> bool:
        """Whether ``create`` would take up an unfinished run of this configuration there."""
        folder = Path(path)
        if not folder.is_dir() or not _is_run(folder):
            return False
        run = cls.open(folder)
        return not run.is_finished and run.config == tomllib.loads(_to_toml(config))

    @classmethod
    def open(cls, path: str | Path) -> "RunDirectory":
        """Open an existing run, finished or not, without changing it.

        Raises:
            RunError: There is no folder, it is no run, or its configuration is damaged.
        """
        folder = Path(path)
        if not folder.is_dir():
            raise RunError(f"Expected a run directory at {folder}, found no folder.")
        if not _is_run(folder):
            raise RunError(f"Expected a run directory at {folder}, found no {CONFIG} in it.")
        return cls(folder, _read_toml(folder / CONFIG))

    @classmethod
    def _take_up(cls, folder: Path, text: str) -> "RunDirectory":
        if not _is_run(folder):
            raise RunError(f"Expected a new or empty folder at {folder}, found files in it.")
        run = cls.open(folder)
        if run.is_finished:
            raise RunError(f"{folder} holds a finished run; overwrite it or give another folder.")
        key = _first_difference(run.config, tomllib.loads(text))
        if key is not None:
            raise RunError(
                f"{folder} holds an unfinished run with another value of {key}; "
                "resume it with the same configuration, overwrite it or give another folder."
            )
        atomic.clean_leftovers(folder)
        return run

    @property
    def checkpoints(self) -> Path:
        """The folder of the checkpoints."""
        return self.path / CHECKPOINTS

    @property
    def metrics(self) -> Path:
        """The file of the metrics."""
        return self.path / METRICS

    @property
    def is_finished(self) -> bool:
        """Whether ``finish`` has been completed."""
        return (self.path / manifest.MANIFEST).is_file()

    def append_metrics(self, record: Mapping[str, float | int | None]) -> None:
        """Append one line to ``metrics.jsonl``; errors as ``records.append_record``."""
        records.append_record(self.metrics, record)

    def read_metrics(self) -> list[records.Record]:
        """Read ``metrics.jsonl``; errors as ``records.read_records``."""
        return records.read_records(self.metrics)

    def write_model(self, tensors: Mapping[str, Tensor]) -> None:
        """Write ``model.safetensors``; errors as ``tensors.save_tensors``."""
        save_tensors(self.path / MODEL, tensors)

    def read_model(self) -> dict[str, Tensor]:
        """Read ``model.safetensors`` onto the CPU; errors as ``tensors.load_tensors``."""
        return load_tensors(self.path / MODEL)

    def write_json(self, name: str, value: object) -> None:
        """Write another JSON file of the run atomically."""
        atomic.write_json(self.path / name, value)

    def write_text(self, name: str, text: str) -> None:
        """Write another text file of the run atomically."""
        atomic.write_text(self.path / name, text)

    def finish(self, summary: Mapping[str, object]) -> None:
        """Write ``summary.json`` and then the manifest, which marks the run as finished.

        Call it again after adding files, a report for instance.

        Args:
            summary: The results, as JSON holds them.
        """
        atomic.clean_leftovers(self.path)
        atomic.write_json(self.path / SUMMARY, dict(summary))
        manifest.write_manifest(self.path)

    def read_summary(self) -> dict[str, object]:
        """Read ``summary.json``.

        Raises:
            RunError: The run is not finished.
        """
        if not self.is_finished:
            raise RunError(f"Expected a finished run at {self.path}, found no manifest in it.")
        return atomic.read_json(self.path / SUMMARY)

    def verify(self) -> None:
        """Check every file against the manifest; errors as ``manifest.verify_manifest``."""
        manifest.verify_manifest(self.path)


def _occupied(folder: Path) -> bool:
    return folder.is_dir() and any(folder.iterdir())


def _is_run(folder: Path) -> bool:
    return (folder / CONFIG).is_file() and (folder / ENVIRONMENT).is_file()


def _to_toml(config: Mapping[str, object]) -> str:
    plain = _plain(config)
    assert isinstance(plain, dict)
    try:
        return tomli_w.dumps(plain)
    except (TypeError, ValueError) as error:
        raise RunError(f"Cannot write the configuration as TOML: {error}.") from error


def _plain(value: object) -> object:
    """What TOML can hold: it has no null, no tuples and no paths."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items() if item is not None}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_plain(item) for item in value]
    return str(value) if isinstance(value, Path) else value


def _read_toml(path: Path) -> dict[str, object]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (ValueError, OSError) as error:
        raise RunError(f"Expected TOML in {path}, found something else ({error}).") from error


def _first_difference(old: Mapping[str, object], new: Mapping[str, object]) -> str | None:
    """Name the first key, dotted, whose value differs."""
    for key in sorted({*old, *new}):
        a, b = old.get(key), new.get(key)
        if isinstance(a, dict) and isinstance(b, dict):
            inner = _first_difference(a, b)
            if inner is not None:
                return f"{key}.{inner}"
        elif a != b or type(a) is not type(b):
            return key
    return None

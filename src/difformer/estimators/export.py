"""A fitted estimator as an ONNX file, for programs without Python."""

import contextlib
import logging
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from difformer.errors import ConfigError, MissingExtraError
from difformer.estimators.standalone import standalone
from difformer.runs.atomic import write_bytes

if TYPE_CHECKING:
    from difformer.estimators.base import DIFFormerEstimator

OPSET = 20
LARGEST = (1 << 31) - (1 << 24)  # bytes of constants: the format counts bytes in 31 bits


def export_onnx(model: "DIFFormerEstimator", path: Path) -> None:
    """Write a fitted estimator: ``features`` (N, F) in, ``answers`` (N, K), ``states`` (N, P) out.

    Raises:
        ConfigError: If the estimator was fitted with edges, or the file would be too large.
        MissingExtraError: If onnx is not installed.
    """
    made = standalone(model.engine_)
    if made is None:
        raise ConfigError(
            "ONNX files hold estimators that were fitted without edges and without the released "
            f"numerics, for their rows come without edges; found encoder={model.encoder!r}, "
            f"diffusivity={model.diffusivity!r} with edges or such numerics."
        )
    size = sum(part.numel() * part.element_size() for part in made.state_dict().values())
    if size > LARGEST:
        raise ConfigError(
            f"An ONNX file holds at most {LARGEST // 2**20:,} MiB of fitted rows, found "
            f"{size // 2**20:,} MiB; use save and load."
        )
    example = torch.zeros(2, model.n_features_in_)
    rows = torch.export.Dim("rows", min=1)
    with _quiet():
        try:
            program = torch.onnx.export(
                made,
                (example,),
                input_names=["features"],
                output_names=["answers", "states"],
                dynamic_shapes=({0: rows},),
                opset_version=OPSET,
                dynamo=True,
                verbose=False,
            )
        except ImportError as error:
            raise MissingExtraError("onnx") from error
    assert program is not None
    write_bytes(path, program.model_proto.SerializeToString())


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without the exporter's notes on its own progress."""
    log = logging.getLogger("torch.onnx")
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        log.setLevel(level)

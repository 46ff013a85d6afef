"""A fitted estimator as an ONNX file, for programs without Python."""

import contextlib
import logging
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from difformer.errors import ConfigError, MissingExtraError
from difformer.estimators.targets import Target
from difformer.estimators.trained import TrainedEngine
from difformer.nn.frozen import FrozenNetwork
from difformer.runs.atomic import write_bytes

if TYPE_CHECKING:
    from difformer.estimators.base import DIFFormerEstimator

OPSET = 20


class _Answers(nn.Module):
    """Answers and last states of rows, each by itself."""

    def __init__(self, network: FrozenNetwork, target: Target) -> None:
        super().__init__()
        self.network, self.target = network, target

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        states = self.network.encode(x)
        return self.target.read(self.network.readout(states).unsqueeze(0)), states


def export_onnx(model: "DIFFormerEstimator", path: Path) -> None:
    """Write a fitted estimator: ``features`` (N, F) in, ``answers`` (N, K), ``states`` (N, P) out.

    Raises:
        ConfigError: If new rows need more of the fitted ones than sums.
        MissingExtraError: If onnx is not installed.
    """
    engine = model.engine_
    network = engine.context.network if isinstance(engine, TrainedEngine) else None
    if network is None:
        raise ConfigError(
            "ONNX files hold encoder='trained' with diffusivity='simple' and no graph: only there "
            f"new rows need no more than sums of the fitted ones; found encoder={model.encoder!r}, "
            f"diffusivity={model.diffusivity!r}."
        )
    made = _Answers(network.single(), engine.target).eval()
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

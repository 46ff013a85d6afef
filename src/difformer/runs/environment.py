"""What a run was made with: versions, machine, commit. No user or host names."""

import os
import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version

import torch

PACKAGES = (
    "difformer",
    "torch",
    "numpy",
    "scipy",
    "scikit-learn",
    "pyarrow",
    "safetensors",
    "pydantic",
)


def describe_environment() -> dict[str, object]:
    """Describe the Python, the packages, the machine and the code in use.

    Returns:
        A JSON object: ``python``, ``packages`` (name to version, or None where not installed),
        ``platform``, ``cpu_count`` (logical cores of the machine), ``torch_threads``, ``cuda``
        (the names of the devices) and ``git_commit`` (of the working directory, or None).
    """
    return {
        "python": platform.python_version(),
        "packages": {name: _version(name) for name in PACKAGES},
        "platform": platform.platform(),
        "cpu_count": os.cpu_count(),
        "torch_threads": torch.get_num_threads(),
        "cuda": [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())],
        "git_commit": _git_commit(),
    }


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _git_commit() -> str | None:
    command = ["git", "rev-parse", "--verify", "--quiet", "HEAD"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.SubprocessError):  # no git, or one that hangs
        return None
    return done.stdout.strip() or None

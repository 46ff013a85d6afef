"""House rules that a machine can check: layers, sizes, no pickles, pins, no private paths."""

import ast
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[1]
SOURCES = sorted((ROOT / "src").rglob("*.py"))
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]

MAX_LINES = 600
PICKLES = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "marshal", "shelve"}
# Written in pieces, so that this file passes its own check.
PRIVATE = re.compile(r"(?<![\w.$}/-])/(?:wor" + "k|tm" + "p|roo" + r"t)/")
NEIGHBOUR = "../sha" + "red"

source = pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))


def tracked(*folders: str) -> list[Path]:
    """Return the files under version control; without git, all text files of the folders."""
    done = subprocess.run(
        ["git", "ls-files", "-z", "--", *folders], cwd=ROOT, capture_output=True, text=True
    )
    if done.returncode == 0 and done.stdout:
        return [path for name in done.stdout.split("\0") if name and (path := ROOT / name).exists()]
    found = (path for folder in folders for path in (ROOT / folder).rglob("*"))
    return [path for path in found if path.is_file() and "__pycache__" not in path.parts]


def text_of(path: Path) -> str:
    return path.read_bytes().decode("utf-8", errors="ignore")


def pins() -> dict[str, str]:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    entries = [line.split("==") for line in lines if line and not line.startswith("#")]
    assert all(len(entry) == 2 for entry in entries), "each pin is NAME==VERSION"
    return {canonicalize_name(name): version for name, version in entries}


def declared() -> list[Requirement]:
    groups = [PROJECT["dependencies"], *PROJECT["optional-dependencies"].values()]
    return [Requirement(text) for group in groups for text in group]


def test_imports_run_downwards_only() -> None:
    program = Path(sys.executable).with_name("lint-imports")
    if not program.exists():
        pytest.skip("import-linter is not installed")
    done = subprocess.run([program], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


@source
def test_a_file_stays_readable_in_one_sitting(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= MAX_LINES


def pickling(tree: ast.Module) -> list[str]:
    """Name everything in the file that could read or write a pickle."""
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names if alias.name.split(".")[0] in PICKLES]
        elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] in PICKLES:
            found.append(f"from {node.module}")
        elif isinstance(node, ast.ImportFrom) and node.module == "torch":
            found += [alias.name for alias in node.names if alias.name in ("load", "save")]
        elif isinstance(node, ast.Attribute) and ast.unparse(node) in ("torch.load", "torch.save"):
            found.append(ast.unparse(node))
        elif isinstance(node, ast.keyword) and node.arg == "allow_pickle":
            allowed = isinstance(node.value, ast.Constant) and node.value.value is False
            found += [] if allowed else ["allow_pickle"]
    return found


@source
def test_nothing_is_a_pickle(path: Path) -> None:
    assert pickling(ast.parse(path.read_text())) == []


@pytest.mark.parametrize(
    "code",
    [
        "import pickle",
        "from joblib import dump",
        "import torch\ntorch.save(1, 'a')",
        "from torch import load",
        "np.load('a', allow_pickle=True)",
        "np.load('a', allow_pickle=flag)",
    ],
)
def test_the_pickle_check_finds_what_it_looks_for(code: str) -> None:
    assert pickling(ast.parse(code))


def test_every_dependency_has_a_tested_version_in_its_range() -> None:
    tested = pins()
    for requirement in declared():
        name = canonicalize_name(requirement.name)
        assert name in tested, f"constraints.txt lacks {name}"
        assert requirement.specifier.contains(tested[name]), (
            f"{requirement} excludes {tested[name]}"
        )


def test_torch_is_pinned_without_a_local_version() -> None:
    assert re.fullmatch(r"\d+\.\d+\.\d+", pins()["torch"])


def test_no_path_of_one_machine_is_in_the_repository() -> None:
    folders = ("src", "docs", "tests", "examples", "benchmarks", "results")
    guilty = [str(path) for path in tracked(*folders) if PRIVATE.search(text_of(path))]
    assert guilty == []


def test_only_ci_knows_where_its_data_lie() -> None:
    files = [path for path in tracked(".") if path != ROOT / ".ci" / "run"]
    assert [str(path) for path in files if NEIGHBOUR in text_of(path)] == []


def test_missing_data_fail_where_they_are_required(tmp_path: Path) -> None:
    (tmp_path / "conftest.py").write_text((ROOT / "tests" / "conftest.py").read_text())
    reason = "needs the folder that DIFFORMER_DATA names"
    (tmp_path / "test_call.py").write_text(
        f"import pytest\ndef test_a():\n    pytest.skip('{reason}')\n"
        f"@pytest.mark.skipif(True, reason='{reason}')\ndef test_b(): pass\n"
        "def test_c():\n    pytest.skip('needs luck')\n"
    )
    (tmp_path / "test_module.py").write_text(
        f"import pytest\npytest.skip('{reason}', allow_module_level=True)\n"
    )
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(tmp_path)]
    relaxed = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert relaxed.returncode == 0, relaxed.stdout
    assert "4 skipped" in relaxed.stdout
    strict = subprocess.run(
        [*command, "--require-data", "--continue-on-collection-errors"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert strict.returncode == 1, strict.stdout
    assert "1 failed, 1 skipped, 2 errors" in strict.stdout

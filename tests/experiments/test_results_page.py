"""The results page: from records alone, complete, and up to date."""

from datetime import UTC, datetime
from pathlib import Path

import pytest

from difformer.experiments.expected import Expected, PaperFigure, expected_experiments
from difformer.experiments.record import Figure, Record, write_record
from difformer.experiments.results_page import main, page, read_records

ROOT = Path(__file__).resolve().parents[2]


def write(folder: Path, name: str) -> Record:
    figures = [
        Figure(
            label="DIFFormer-s",
            metric="accuracy %",
            value=84.126,
            std=0.5,
            reference="GCN",
            difference=1.25,
            low=-0.5,
            high=3.0,
            seconds=1.5,
        ),
        Figure(label="a|b", metric="accuracy %", note="needs pip install difformer[pyg]"),
    ]
    return write_record(
        folder / f"{name}.json",
        protocol="planetoid-public",
        command="difformer demo",
        seeds=[0],
        splits=["public"],
        figures=figures,
        started=datetime(2026, 1, 2, tzinfo=UTC),
        seconds=61.0,
    )


def section(text: str, title: str) -> str:
    return text.split(f"## {title}\n")[1].split("\n## ")[0]


def entry(name: str, **fields: object) -> Expected:
    return Expected.model_validate({"name": name, "title": name.title(), **fields})


PAPER = (
    PaperFigure(label="DIFFormer-s", figure="85.9 ± 0.4", trust="compiled"),
    PaperFigure(label="DIFFormer-a", figure="84.1 ± 0.6", trust="unchecked"),
)


def test_the_committed_page_is_what_the_committed_records_give() -> None:
    arguments = ["--results", str(ROOT / "results"), "--page", str(ROOT / "docs" / "results.md")]
    assert main([*arguments, "--check"]) == 0


def test_a_run_stands_beside_the_papers_figures(tmp_path: Path) -> None:
    record = write(tmp_path, "cora")
    text = section(page(read_records(tmp_path), [entry("cora", paper=PAPER)]), "Cora")
    ours = "| DIFFormer-s | accuracy % | 84.13 ± 0.50 | +1.25 [-0.50, +3.00] to GCN | 1.50 "
    assert f"{ours}| 85.9 ± 0.4 | compiled |" in text
    assert "| DIFFormer-a |  | missing |  |  | 84.1 ± 0.6 | unchecked |" in text
    assert r"| a\|b | accuracy % | needs pip install difformer[pyg] |" in text
    assert "planetoid-public" in text
    assert "`difformer demo`" in text
    assert (record.commit or "not run from a repository")[:12] in text


def test_what_was_not_run_is_printed_as_missing(tmp_path: Path) -> None:
    expected = [entry("one", command="difformer one"), entry("two", paper=PAPER)]
    text = page(read_records(tmp_path), expected)
    assert "0 of 2" in text
    assert "**Missing:** no run is recorded; run `difformer one`." in section(text, "One")
    assert section(text, "Two").count("| missing |") == 2


def test_a_record_nobody_expects_is_shown_too(tmp_path: Path) -> None:
    write(tmp_path, "surprise")
    assert "84.13" in section(page(read_records(tmp_path), []), "surprise")


def test_check_fails_on_a_page_edited_by_hand(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target = tmp_path / "docs" / "results.md"
    arguments = ["--results", str(tmp_path / "results"), "--page", str(target)]
    assert main([*arguments, "--check"]) == 1
    assert main(arguments) == 0
    assert main([*arguments, "--check"]) == 0
    write(tmp_path / "results", "digits-10")
    assert main([*arguments, "--check"]) == 1
    assert main(arguments) == 0
    target.write_text(target.read_text().replace("84.13", "85.13"))
    assert main([*arguments, "--check"]) == 1
    assert "make docs-results" in capsys.readouterr().err


def test_a_damaged_record_stops_the_page(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    (tmp_path / "bad.json").write_text("{}")
    assert main(["--results", str(tmp_path), "--page", str(tmp_path / "page.md")]) == 2
    assert "bad.json" in capsys.readouterr().err
    assert not (tmp_path / "page.md").exists()


def test_expected_experiments_have_unique_names_and_titles() -> None:
    expected = expected_experiments()
    assert len({item.name for item in expected}) == len(expected)
    assert len({item.title for item in expected}) == len(expected)
    assert all(len({row.label for row in item.paper}) == len(item.paper) for item in expected)

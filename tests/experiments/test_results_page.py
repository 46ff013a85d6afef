"""The results page: from records alone, complete, and up to date."""

from datetime import UTC, datetime
from pathlib import Path

import pytest

from difformer.experiments.harness.recipe import Recipe, known_recipes, load_recipe
from difformer.experiments.record import Figure, Record, write_record
from difformer.experiments.results_page import main, page, read_records

ROOT = Path(__file__).resolve().parents[2]


def write(folder: Path, name: str, recipe: str | None = None, value: float = 84.126) -> Record:
    figures = [
        Figure(
            label="DIFFormer-s",
            metric="accuracy %",
            value=value,
            std=0.5,
            values=(value, value + 1),
            reference="GCN",
            difference=1.25,
            low=-0.5,
            high=3.0,
            seconds=1.5,
        ),
        Figure(label="a|b", metric="accuracy %", note="needs pip install difformer[pyg]"),
        Figure(label="other", metric="accuracy %", value=90.0, values=(89.0, 91.0)),
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
        recipe=recipe,
    )


def section(text: str, title: str) -> str:
    return text.split(f"## {title}\n")[1].split("\n## ")[0]


def recipe(name: str, cells: int = 1, **fields: object) -> Recipe:
    protocols = ("planetoid-public", "class-balanced-fresh")[:cells]
    entries = [
        {"label": "DIFFormer-s", "method": "official", "paper": PAPER[0]},
        {"label": "DIFFormer-a", "method": "official", "paper": PAPER[1], "released": PAPER[0]},
    ]
    given = {
        "name": name,
        "title": name.title(),
        "source": "made",
        "cell": [{"data": "cora", "protocol": protocol} for protocol in protocols],
        "entry": entries,
        "peer": [{"label": "peer", "figure": "77.0", "trust": "checked"}],
    }
    return Recipe.model_validate({**given, **fields})


PAPER = (
    {"figure": "85.9 ± 0.4", "trust": "compiled"},
    {"figure": "84.1 ± 0.6", "trust": "unchecked"},
)


def test_the_committed_page_is_what_the_committed_records_give() -> None:
    arguments = ["--results", str(ROOT / "results"), "--page", str(ROOT / "docs" / "results.md")]
    assert main([*arguments, "--check"]) == 0


def test_a_run_stands_beside_the_papers_figures(tmp_path: Path) -> None:
    record = write(tmp_path, "cora")
    text = section(page(read_records(tmp_path), [recipe("cora")]), "Cora")
    ours = "| DIFFormer-s | accuracy % | 84.13 ± 0.50 | +1.25 [-0.50, +3.00] to GCN | 1.50 "
    assert f"{ours}| 85.9 ± 0.4 (compiled) |  |" in text
    missing = "| DIFFormer-a |  | missing |  |  | 84.1 ± 0.6 (unchecked) | 85.9 ± 0.4 (compiled) |"
    assert missing in text
    assert r"| a\|b | accuracy % | needs pip install difformer[pyg] |" in text
    assert "| peer |  |  |  |  | 77.0 (checked) |" in text
    assert "planetoid-public" in text
    assert "`difformer demo`" in text
    assert (record.commit or "not run from a repository")[:12] in text


def test_what_was_not_run_is_printed_as_missing(tmp_path: Path) -> None:
    recipes = [recipe("one"), recipe("two", unavailable="its data are not public.")]
    text = page(read_records(tmp_path), recipes)
    assert "0 of 2" in text
    how = "**Missing:** no run is recorded; run `difformer reproduce one`."
    assert how in section(text, "One")
    assert section(text, "One").count("| missing |") == 2
    assert "**Not run:** its data are not public." in section(text, "Two")


def test_a_record_nobody_expects_is_shown_too(tmp_path: Path) -> None:
    write(tmp_path, "surprise")
    assert "84.13" in section(page(read_records(tmp_path), []), "surprise")


def test_several_cells_end_in_ranks_and_losing_cells_stay(tmp_path: Path) -> None:
    wide = recipe("wide", cells=2)
    names = [wide.record_name(cell) for cell in wide.cells]
    assert names == ["wide-cora-planetoid-public", "wide-cora-class-balanced-fresh"]
    for name, value in zip(names, (84.126, 95.0), strict=True):
        write(tmp_path, name, "wide", value)
    text = section(page(read_records(tmp_path), [wide]), "Wide")
    assert "| DIFFormer-s | 1.50 | 2 | 0 | 0 |" in text
    assert "| other | 1.50 | 2 |" in text
    assert "84.13 ± 0.50" in text
    assert "95.00 ± 0.50" in text
    own = section(page(read_records(tmp_path), []), "wide")  # a recipe of somebody's own
    assert "| DIFFormer-s | 1.50 | 2 | 0 | 0 |" in own


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


def test_every_recipe_has_its_section() -> None:
    text = page({}, [load_recipe(name) for name in known_recipes()])
    for name in known_recipes():
        assert f"## {load_recipe(name).title}\n" in text

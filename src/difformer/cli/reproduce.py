"""``difformer reproduce``: an experiment from its recipe, paper beside ours."""

from pathlib import Path
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from difformer.experiments.harness.recipe import Recipe


def reproduce(
    recipe: str = typer.Argument("", help="Name of a recipe, or a TOML file. None: list them."),
    seeds: int = typer.Option(0, min=0, help="Runs of each method; 0: as the recipe says."),
    runs: Path = typer.Option(
        Path("runs") / "reproduce", help="Folder of single runs; what is there is not run again."
    ),
    out: Path = typer.Option(Path("results"), help="Folder that the record is written to."),
) -> None:
    """Run an experiment from its recipe and print paper, released code and ours side by side."""
    from difformer.cli.screen import console, say
    from difformer.experiments.harness.recipe import load_recipe
    from difformer.experiments.harness.reproduce import reproduce as run
    from difformer.experiments.harness.table import table

    if not recipe:
        _list()
        return
    loaded, screen = load_recipe(recipe), console()
    try:
        with screen.status("Starting") as status:
            tell = status.update if screen.is_terminal else lambda text: None
            for record in run(loaded, recipe, seeds or None, runs, out, tell):
                screen.print(table(loaded, record))
                say([f"Written: {out / record.name}.json"], screen)
    except KeyboardInterrupt:
        typer.echo("difformer: interrupted; finished runs are kept, the same command goes on.")
        raise typer.Exit(130) from None


def _list() -> None:
    from difformer.cli.screen import console, say
    from difformer.experiments.harness.recipe import known_recipes, load_recipe

    recipes = [load_recipe(name) for name in known_recipes()]
    width = max(len(recipe.name) for recipe in recipes)
    say([f"{recipe.name:{width}}  {_state(recipe)}" for recipe in recipes], console())


def _state(recipe: "Recipe") -> str:
    return f"{recipe.title}; {recipe.unavailable}" if recipe.unavailable else recipe.title

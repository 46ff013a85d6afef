"""``difformer``: the program. Commands stand in one file each and import what they need when run.

Exit codes: 0 done; 2 the input cannot be used (one sentence on standard error); 130 interrupted.
"""

import os
import sys

import typer

from difformer.cli import bench, datasets, demo, evaluate, fit, predict, reproduce
from difformer.errors import DifformerError

app = typer.Typer(
    name="difformer",
    help="Predict labels for instances that depend on each other, by energy-constrained diffusion.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
for command in (
    demo.demo,
    fit.fit,
    predict.predict,
    evaluate.evaluate,
    datasets.datasets,
    bench.bench,
    reproduce.reproduce,
):
    app.command()(command)


def _version(asked: bool) -> None:
    if asked:
        from difformer import __version__

        typer.echo(f"difformer {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: bool = typer.Option(
        False, "--version", callback=_version, is_eager=True, help="Print the version and stop."
    ),
) -> None:
    """Predict labels for instances that depend on each other, by energy-constrained diffusion."""


def main() -> None:
    """Run the program; a user's mistake becomes one sentence and exit code 2."""
    # Read when torch is loaded, later. Threads that spin without end while they wait slow small
    # products down fifty times where other programs use the same cores (docs/decisions.md).
    os.environ.setdefault("GOMP_SPINCOUNT", "10000")
    try:
        app()
    except DifformerError as error:
        print(f"difformer: {error}", file=sys.stderr)  # noqa: T201
        sys.exit(2)
    except KeyboardInterrupt:
        print("difformer: interrupted.", file=sys.stderr)  # noqa: T201
        sys.exit(130)


if __name__ == "__main__":
    main()

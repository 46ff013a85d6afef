"""``difformer datasets``: what can be loaded by name."""


def datasets() -> None:
    """List the data sets that can be loaded by name, and whether they are present."""
    from rich.table import Table
    from rich.text import Text

    from difformer.cli.screen import console, say
    from difformer.data.datasets import VARIABLE, available

    table = Table()
    for column in ("name", "task", "present", "description"):
        table.add_column(column)
    for row in available():
        cells = (row.name, row.task, "yes" if row.present else "no", row.description)
        table.add_row(*map(Text, cells))
    screen = console()
    screen.print(table)
    say(
        [f"Set {VARIABLE} to the folder that holds the benchmark files to load the others."], screen
    )

"""``python -m difformer``."""

from difformer.cli.main import main

main()

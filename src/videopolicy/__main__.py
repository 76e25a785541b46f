"""``python -m videopolicy`` is the ``vpolicy`` command."""

from videopolicy.cli.main import main

main()

"""The entry point: it notes what asks a run to stop, and then imports the program.

To import the commands takes as long as a person needs to press a key, or a scheduler to change its
mind: whatever comes then is for the command to answer.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from convscale.training.signals import note_sigterm


def run(arguments: Sequence[str]) -> int:
    """Run one command line and return its exit status; only a success writes to stdout.

    Example:
        >>> run(["--version"])  # doctest: +ELLIPSIS
        convscale ...
        0
    """
    from convscale.cli.program import run as run_program

    return run_program(arguments)


def main() -> None:
    """Run the command line of this process and end it.

    Example:
        >>> callable(main)
        True
    """
    if sys.argv[1:2] == ["train"]:
        note_sigterm()
    from convscale.cli.program import main as program

    program()


if __name__ == "__main__":
    main()

"""A process that records networks of timm: a name and a side a line on stdin, a line back for each.

Run as `python -m convscale.study.record_worker`; `recording.py` is the other side. What it records
is in the cache then.
"""

from __future__ import annotations

import sys
from typing import IO

from convscale.errors import InputError
from convscale.prediction.records import record_of


def serve(asked: IO[str], answers: IO[str]) -> None:
    r"""Record one network after another until none is asked for.

    Example:
        >>> import io
        >>> told = io.StringIO()
        >>> serve(io.StringIO("no_such_net 64\n"), told)
        >>> told.getvalue()
        'refused\n'
    """
    for line in asked:
        architecture, side = line.split()
        try:
            record_of(architecture, int(side))
            told = "recorded"
        except InputError:
            told = "refused"  # who reads the table records it again, and says why
        answers.write(f"{told}\n")
        answers.flush()


if __name__ == "__main__":
    own = sys.stdout
    sys.stdout = sys.stderr  # what networks print is no answer
    serve(sys.stdin, own)

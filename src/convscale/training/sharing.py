"""The checkpoint that a run goes on from, in every process as the first one reads it."""

from __future__ import annotations

import json
from pathlib import Path

from convscale.training.checkpoint import Checkpoint, Warn, read_checkpoint
from convscale.training.processes import Processes


def shared_checkpoint(folder: Path, processes: Processes, *, warn: Warn) -> Checkpoint | None:
    """Return what a run goes on from, None where it begins; the first process alone reads it.

    Args:
        folder: The folder of checkpoints.
        processes: The processes that train together.
        warn: Takes a line on each checkpoint that is passed over, and why.

    Raises:
        InputError: In the first process, if there are checkpoints and none of them is complete.
        ElsewhereError: Then, in the others.

    Example:
        >>> import torch
        >>> shared_checkpoint(Path("no such folder"), Processes(torch.device("cpu")), warn=print)
    """
    found: Checkpoint | None = None
    with processes.agreeing():
        if processes.is_first:
            found = read_checkpoint(folder, warn=warn)
    if processes.world == 1:
        return found
    head = None if found is None else [found.number, sorted(found.files), dict(found.values)]
    said = json.loads(processes.shared(json.dumps(head).encode()))
    if said is None:
        return None
    number, names, values = said
    files = {name: processes.shared(None if found is None else found.files[name]) for name in names}
    return Checkpoint(number, files, values)

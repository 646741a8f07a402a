"""Rows of the coverage study: what became of one network, strategy and factor; and their file."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

STRATEGIES = ("dWr", "w", "d", "r", "dwr")  # the one that needs most of the trace comes first
FACTORS = (2.0, 0.5, 4.0)
Case = tuple[str, float]
OUTCOMES = ("right", "noted", "wrong", "refused", "defect", "killed")

# What a scaling to a factor of flops is made of; latency, training and the rest follow after it.
_SCALES = ("strategy", "network", "families", "complexity", "scaling")
_SCALING = ("*.py", *(f"{folder}/**/*.py" for folder in _SCALES))


@dataclass(frozen=True)
class Row:
    """One network scaled by one strategy and factor, and what came of it.

    `outcome` is one of

    - right: scaled, and every criterion holds;
    - noted: scaled, but flops miss the factor 2 by more than a tenth, and a note says why;
    - wrong: scaled, but a criterion does not hold (`reason` says which);
    - refused: an error of ours names the reason;
    - defect: another exception;
    - killed: the process exceeded its processor time or memory, or crashed.

    `ratio` is achieved over base flops, `share` the part of the scalable flops in layers at the
    requested width. Seconds are of processor time: of building the network on the meta device,
    of tracing it, of this scaling, for which the trace was reused, and of one forward pass of the
    base under PyTorch's counter of flops. `passed` tells, where it was
    asked for, how a forward and a backward pass was made: "real" with weights, finite, or "meta"
    on the meta device, where training would need more than 8 GiB.

    Example:
        >>> Row("timm:resnet18", "w", 2.0, "right").key
        ('timm:resnet18', 'w', 2.0)
    """

    network: str
    strategy: str
    factor: float
    outcome: str
    reason: str = ""
    ratio: float | None = None
    share: float | None = None
    build_seconds: float | None = None
    trace_seconds: float | None = None
    scale_seconds: float | None = None
    counter_seconds: float | None = None
    passed: str = ""

    @property
    def key(self) -> tuple[str, str, float]:
        """What the row is the answer to."""
        return self.network, self.strategy, self.factor

    @property
    def scaled(self) -> bool:
        """Whether a network came out that is as it must be, or says why it is not."""
        return self.outcome in ("right", "noted")


def code_version(source: Path) -> str:
    """Return a short hash of the package's files that scale: rows of other code do not count.

    Args:
        source: The folder of the package.

    Example:
        >>> len(code_version(Path(__file__).parent.parent / "src" / "convscale"))
        12
    """
    digest = hashlib.sha256()
    files = (path for part in _SCALING for path in source.glob(part))
    for path in sorted(files):
        digest.update(str(path.relative_to(source)).encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()[:12]


def read_rows(path: Path, version: str) -> tuple[Row, ...]:
    """Read the rows of a version; the last of several for one key, and no half-written line.

    Example:
        >>> read_rows(Path("missing.jsonl"), "0")
        ()
    """
    if not path.exists():
        return ()
    rows = {}
    for line in path.read_text().splitlines(keepends=True):
        if not line.endswith("\n"):
            continue  # the process was stopped while it wrote
        document = json.loads(line)
        if document.pop("version") == version:
            row = Row(**document)
            rows[row.key] = row
    return tuple(rows.values())


def write_rows(path: Path, version: str, rows: Iterable[Row]) -> None:
    """Append rows to a file of JSON lines, after cutting off a half-written line."""
    path.parent.mkdir(parents=True, exist_ok=True)
    whole = path.read_bytes().rfind(b"\n") + 1 if path.exists() else 0
    text = "".join(json.dumps({**asdict(row), "version": version}) + "\n" for row in rows)
    with path.open("ab") as file:
        file.truncate(whole)
        file.write(text.encode())


def cases(wanted: Iterable[str]) -> Iterator[Case]:
    """Yield strategies and factors in the order in which a network is scaled.

    Args:
        wanted: Strategies, which stand for all factors, or such with a factor.

    Raises:
        ValueError: If one is none of the study's.

    Example:
        >>> list(cases(["w", "dWr:2"]))
        [('dWr', 2.0), ('w', 2.0), ('w', 0.5), ('w', 4.0)]
    """
    known = [(strategy, factor) for strategy in STRATEGIES for factor in FACTORS]
    chosen = set()
    for text in wanted:
        strategy, _, factor = text.partition(":")
        found = {c for c in known if c[0] == strategy and factor in ("", f"{c[1]:g}")}
        if not found:
            raise ValueError(
                f"No case {text!r}. Write {', '.join(STRATEGIES)}, alone or with one of the "
                f"factors {', '.join(f'{factor:g}' for factor in FACTORS)}, as in w:2."
            )
        chosen |= found
    yield from (case for case in known if case in chosen)

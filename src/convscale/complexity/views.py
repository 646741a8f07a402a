"""Views of the operators of one forward pass: by layer, by stage, by kind. No torch."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, fields
from functools import cached_property
from typing import TYPE_CHECKING

from convscale.complexity.calls import KINDS, OperatorCall, StageSpan
from convscale.errors import InputError
from convscale.quantities import format_resolution

if TYPE_CHECKING:
    import pandas as pd

VIEWS = ("total", "layer", "stage", "kind", "operator")
STEM, HEAD, BETWEEN, UNUSED = "stem", "head", "between stages", "unused"
NETWORK = "network"
_SUMS = ("flops", "params", "acts", "bytes_read", "bytes_written", "weight_bytes")


@dataclass(frozen=True)
class Part:
    """What some calls of a forward pass cost together.

    flops, acts and bytes are those of the whole batch; `weight_bytes` is a part of
    `bytes_read`.

    Example:
        >>> part = Part("head", calls=1, flops=30, bytes_read=8, bytes_written=2)
        >>> part.bytes_moved, part.flops_per_byte
        (10, 3.0)
    """

    name: str
    calls: int = 0
    flops: int = 0
    params: int = 0
    acts: int = 0
    bytes_read: int = 0
    bytes_written: int = 0
    weight_bytes: int = 0

    @property
    def bytes_moved(self) -> int:
        """Bytes read and written."""
        return self.bytes_read + self.bytes_written

    @property
    def flops_per_byte(self) -> float | None:
        """Arithmetic intensity: flops over the bytes moved; None where nothing moves."""
        return self.flops / self.bytes_moved if self.bytes_moved else None

    def as_document(self) -> dict[str, object]:
        """Return the part as JSON and tables have it."""
        own = {entry.name: getattr(self, entry.name) for entry in fields(self)}
        return {**own, "flops_per_byte": self.flops_per_byte}


@dataclass(frozen=True)
class Operators:
    """The operators of one forward pass of a batch, in the order in which they run.

    `resolution` is None where the inputs hold no image, `params` are those of the whole network,
    `dtype` that of every floating tensor, `stages` None where nobody looked for them.

    Example:
        >>> call = OperatorCall("0", "aten.relu", "activation", bytes_read=64, bytes_written=64)
        >>> found = Operators("net", 8, calls=(call,))
        >>> found.total.bytes_moved, [part.name for part in found.by_kind()]
        (128, ['activation'])
    """

    network: str
    resolution: int | tuple[int, ...] | None
    convention: str = "default"
    dtype: str = "float32"
    batch_size: int = 1
    params: int = 0
    calls: tuple[OperatorCall, ...] = field(default=(), repr=False)
    stages: tuple[StageSpan, ...] | None = None
    notes: tuple[str, ...] = ()

    @cached_property
    def total(self) -> Part:
        """All calls, and all params."""
        return self._part(NETWORK, self.calls, self.params)

    def by_kind(self) -> tuple[Part, ...]:
        """Return a part for each kind of operator; params that none uses are a part too."""
        found = self._grouped([call.kind for call in self.calls])
        order = {kind: position for position, kind in enumerate((*KINDS, UNUSED))}
        return tuple(sorted(found, key=lambda part: order[part.name]))

    def by_layer(self) -> tuple[Part, ...]:
        """Return a part for each module that runs operators itself, in the order of execution."""
        return self._grouped([call.path for call in self.calls])

    def by_stage(self) -> tuple[Part, ...]:
        """Return stem, stages, head and what runs between stages; all of it without stages.

        Raises:
            InputError: If nobody looked for the stages.
        """
        names = self.stage_names()
        given = [STEM, *(stage.name for stage in self.stages or ()), BETWEEN, HEAD, NETWORK, UNUSED]
        order = {name: position for position, name in enumerate(given)}
        return tuple(sorted(self._grouped(names), key=lambda part: order[part.name]))

    def stage_names(self) -> list[str]:
        """Return for each call the part by stage that it belongs to.

        Raises:
            InputError: If nobody looked for the stages.
        """
        if self.stages is None:
            raise InputError("The stages were not looked for. Write stages=True in operators(...).")
        if not self.stages:
            return [NETWORK] * len(self.calls)
        known: dict[str, str | None] = {}
        for call in self.calls:
            if call.path not in known:
                own = (stage.name for stage in self.stages if stage.holds(call.path))
                known[call.path] = next(own, None)
        names = [known[call.path] for call in self.calls]
        inside = [position for position, name in enumerate(names) if name is not None]
        first, last = (inside[0], inside[-1]) if inside else (len(names), len(names))
        return [
            name or (STEM if position < first else HEAD if position > last else BETWEEN)
            for position, name in enumerate(names)
        ]

    def by(self, view: str) -> tuple[Part, ...]:
        """Return the parts of a view: total, layer, stage or kind.

        Raises:
            InputError: If there is no such view.
        """
        check_view(view)
        if view == "total":
            return (self.total,)
        if view == "operator":
            return tuple(self._part(call.path, [call], call.params) for call in self.calls)
        found: tuple[Part, ...] = getattr(self, f"by_{view}")()
        return found

    def frame(self, view: str = "operator") -> pd.DataFrame:
        """Return a view as a table for pandas: a line a part, or a call with all that it shows.

        Raises:
            InputError: If there is no such view.
        """
        import pandas as pd

        lines = self._call_lines() if check_view(view) == "operator" else self._part_lines(view)
        start = {
            "network": self.network,
            "resolution_px": self.resolution and format_resolution(self.resolution),
            "convention": self.convention,
            "dtype": self.dtype,
            "batch_size": self.batch_size,
        }
        return pd.DataFrame([{**start, **line} for line in lines])

    def as_document(self, view: str) -> dict[str, object]:
        """Return what a view adds to the JSON document of a count."""
        if check_view(view) == "operator":
            return {"operators": self._call_lines()}
        return {} if view == "total" else {f"by_{view}": self._part_lines(view)}

    def moved_document(self) -> dict[str, object]:
        """Return the bytes of the whole forward pass, as JSON has them."""
        total = self.total.as_document()
        names = ("bytes_read", "bytes_written", "weight_bytes", "flops_per_byte")
        moved = {name: total[name] for name in names}
        return {"moved": {"dtype": self.dtype, "batch_size": self.batch_size, **moved}}

    def _part_lines(self, view: str) -> list[dict[str, object]]:
        lines = []
        for part in self.by(view):
            line = part.as_document()
            lines.append({"part" if view == "total" else view: line.pop("name"), **line})
        return lines

    def _call_lines(self) -> list[dict[str, object]]:
        names = self.stage_names() if self.stages is not None else [None] * len(self.calls)
        return [call_line(call, name) for call, name in zip(self.calls, names, strict=True)]

    def _grouped(self, names: Sequence[str]) -> tuple[Part, ...]:
        """Sum the calls of each name, and add the params that no call uses."""
        groups: dict[str, list[OperatorCall]] = {}
        for name, call in zip(names, self.calls, strict=True):
            groups.setdefault(name, []).append(call)
        parts = [
            self._part(name, calls, sum(c.params for c in calls)) for name, calls in groups.items()
        ]
        unused = self.params - sum(part.params for part in parts)
        return (*parts, Part(UNUSED, params=unused)) if unused else tuple(parts)

    @staticmethod
    def _part(name: str, calls: Iterable[OperatorCall], params: int) -> Part:
        own = tuple(calls)
        sums = {entry: sum(getattr(call, entry) for call in own) for entry in _SUMS}
        return Part(name, len(own), **{**sums, "params": params})


def call_line(call: OperatorCall, stage: str | None) -> dict[str, object]:
    """Return a call as one flat line of a table; shapes as 1x64x56x56.

    Example:
        >>> call = OperatorCall("", "aten.relu", "activation", input_shapes=((1, 8),))
        >>> call_line(call, None)["input_shapes"]
        '1x8'
    """
    g = call.geometry
    return {
        "path": call.path,
        "stage": stage,
        "operator": call.operator,
        "kind": call.kind,
        **{name: getattr(call, name) for name in _SUMS},
        "flops_per_byte": call.flops / call.bytes_moved if call.bytes_moved else None,
        "input_shapes": " ".join(_times(shape) for shape in call.input_shapes),
        "output_shapes": " ".join(_times(shape) for shape in call.output_shapes),
        "in_channels": None if g is None else g.in_channels,
        "out_channels": None if g is None else g.out_channels,
        "groups": None if g is None else g.groups,
        "rows": None if g is None else g.rows,
        "kernel": _times(g.kernel) if g is not None and g.kernel else None,
        "stride": _times(g.stride) if g is not None and g.stride else None,
    }


def _times(sides: Iterable[int]) -> str:
    return "x".join(map(str, sides)) or "scalar"


def check_view(view: str) -> str:
    """Return the name of a view that exists.

    Raises:
        InputError: Otherwise.

    Example:
        >>> check_view("stage")
        'stage'
    """
    if view not in VIEWS:
        raise InputError(f"Unknown view {view!r}. Use {', '.join(VIEWS[:-1])} or {VIEWS[-1]}.")
    return view

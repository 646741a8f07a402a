"""The complexity of a network as a value. No torch here."""

from __future__ import annotations

from dataclasses import dataclass, field, fields

METRICS = ("flops", "params", "acts")


@dataclass(frozen=True)
class Complexity:
    """Flops, params and acts of one image and one forward pass.

    flops are multiply-adds (a multiply-accumulate counts once); params are learnable
    scalars; acts are the elements in the outputs of exactly the operators whose flops
    are counted (convolution, linear, attention products).

    Example:
        >>> base = Complexity(flops=100, params=10, acts=20)
        >>> Complexity(flops=200, params=20, acts=30).ratio_to(base)
        {'flops': 2.0, 'params': 2.0, 'acts': 1.5}
    """

    flops: int
    params: int
    acts: int

    def ratio_to(self, base: Complexity) -> dict[str, float | None]:
        """Return this complexity over another, metric by metric; null where that is 0."""
        mine, other = self.as_dict(), base.as_dict()
        return {name: mine[name] / other[name] if other[name] else None for name in METRICS}

    def as_dict(self) -> dict[str, int]:
        """Return the three metrics by name."""
        return {name: getattr(self, name) for name in METRICS}


def differing(got: Complexity, other: Complexity) -> str:
    """Write the metrics in which a complexity is not another.

    Example:
        >>> differing(Complexity(71_977_840, 10, 5), Complexity(73_960_304, 10, 8))
        '71,977,840 flops and 5 acts, not 73,960,304 and 8'
    """
    pairs = [(n, one, other.as_dict()[n]) for n, one in got.as_dict().items()]
    pairs = [pair for pair in pairs if pair[1] != pair[2]]
    mine = " and ".join(f"{one:,} {name}" for name, one, _ in pairs)
    return f"{mine}, not {' and '.join(f'{two:,}' for _, _, two in pairs)}"


@dataclass(frozen=True)
class LayerCount:
    """What one module executed itself, its submodules left out.

    Example:
        >>> LayerCount("stem", "Conv2d", (1, 64, 112, 112), 118013952, 9408, 802816).kind
        'Conv2d'
    """

    path: str
    kind: str
    output_shape: tuple[int, ...]
    flops: int
    params: int
    acts: int


@dataclass(frozen=True)
class Uncounted:
    """An operator that may multiply by weights and has no rule.

    Example:
        >>> Uncounted("torchvision.deform_conv2d", calls=2, path="head").calls
        2
    """

    operator: str
    calls: int
    path: str


@dataclass(frozen=True)
class EdgeCount:
    """What a convention added to the products of a network for one of its edges.

    Example:
        >>> EdgeCount("outputs of max-pooling", flops=0, acts=200704).acts
        200704
    """

    what: str
    flops: int
    acts: int


@dataclass(frozen=True)
class Count(Complexity):
    """The complexity of a network at a resolution, and what was not counted.

    `inputs` are shapes and dtypes where the user gave inputs; the resolution is then that of the
    first image among them, None where there is none.

    Example:
        >>> Count(1, 1, 1, network="net", resolution=8).convention
        'default'
    """

    network: str = ""
    resolution: int | tuple[int, ...] | None = 0
    convention: str = "default"
    uncounted: tuple[Uncounted, ...] = ()
    excluded: dict[str, int] = field(default_factory=dict)
    layers: tuple[LayerCount, ...] = field(default=(), repr=False)
    notes: tuple[str, ...] = ()
    edges: tuple[EdgeCount, ...] = ()
    inputs: tuple[str, ...] = ()

    def as_document(self, *, layers: bool = False) -> dict[str, object]:
        """Return the JSON document of the command line."""
        document: dict[str, object] = {
            "schema_version": 1,
            "network": self.network,
            "resolution": self.resolution,
            "convention": self.convention,
            **self.as_dict(),
            "uncounted": [as_row(entry) for entry in self.uncounted],
            "excluded": dict(self.excluded),
            "notes": list(self.notes),
        }
        if self.inputs:
            document["inputs"] = list(self.inputs)
        if layers:
            document["layers"] = [as_row(entry) for entry in self.layers]
        return document


def as_row(value: LayerCount | Uncounted | EdgeCount) -> dict[str, object]:
    """Return a small value's fields by name.

    Example:
        >>> as_row(Uncounted("my.op", calls=1, path="head"))
        {'operator': 'my.op', 'calls': 1, 'path': 'head'}
    """
    return {entry.name: getattr(value, entry.name) for entry in fields(value)}

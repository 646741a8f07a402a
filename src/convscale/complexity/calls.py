"""One call of an operator as a value: what it multiplies, what it reads and writes. No torch."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

Shape = tuple[int, ...]

# The kinds of operators: first those that may multiply by weights, then the others.
CONVOLUTIONS = (
    "convolution 1x1",
    "convolution kxk",
    "convolution grouped",
    "convolution depthwise",
    "convolution transposed",
    "convolution deformable",
)
LINEAR, MATRIX_PRODUCT, FUSED_ATTENTION = "linear", "matrix product", "fused attention"
RECURRENT, OTHER_PRODUCT, WITHOUT_RULE = "recurrent", "other product", "without a rule"
KINDS = (
    *CONVOLUTIONS,
    LINEAR,
    MATRIX_PRODUCT,
    FUSED_ATTENTION,
    RECURRENT,
    OTHER_PRODUCT,
    WITHOUT_RULE,
    "norm",
    "activation",
    "softmax",
    "pooling",
    "reduction",
    "elementwise",
    "concatenation",
    "resizing",
    "padding",
    "lookup",
    "copy",
    "constant",
    "other",
)

# The bytes of a floating element; integers, as indices are, keep their own.
ITEM_BYTES = {
    "float64": 8,
    "float32": 4,
    "bfloat16": 2,
    "float16": 2,
    "float8": 1,
    "int8": 1,
}


@dataclass(frozen=True)
class Geometry:
    """What a convolution or a matrix product multiplies: flops = rows · in · out / groups · ∏k.

    `rows` are the positions of the whole batch at which the weights are applied: those of the
    output, of a transposed convolution those of the input. A matrix product has no kernel.

    Example:
        >>> stem = Geometry(3, 64, rows=112 * 112, kernel=(7, 7), stride=(2, 2))
        >>> stem.flops
        118013952
    """

    in_channels: int
    out_channels: int
    rows: int
    kernel: Shape = ()
    stride: Shape = ()
    groups: int = 1
    transposed: bool = False

    @property
    def flops(self) -> int:
        """Multiply-adds in closed form."""
        inner = self.in_channels // self.groups * prod(self.kernel)
        return self.rows * self.out_channels * inner


@dataclass(frozen=True)
class OperatorCall:
    """One call of an operator in one forward pass of a batch.

    The call reads each input and each weight once, and writes its output once: nothing is
    fused, and views are no calls. `weight_bytes` is the part of `bytes_read` that is parameters,
    buffers, constants and what is computed from these alone; `params` are the params that no
    call before used. `path` is the module that runs it; the first shape is that of the first
    tensor that comes or goes. `sources` are the positions, among the calls of the pass, of those
    that wrote what this call reads; none for what the network was given, and for weights.

    Where the run was that of a network under autocast: `cast` is the precision, `full` or `half`,
    to which the network's own code casts a tensor, a call that another precision does not make;
    `autocast` is false where the code has turned automatic casts off.

    Example:
        >>> call = OperatorCall("act", "aten.relu", "activation", bytes_read=64, bytes_written=64)
        >>> call.bytes_moved
        128
    """

    path: str
    operator: str
    kind: str
    flops: int = 0
    params: int = 0
    acts: int = 0
    bytes_read: int = 0
    bytes_written: int = 0
    weight_bytes: int = 0
    input_shapes: tuple[Shape, ...] = ()
    output_shapes: tuple[Shape, ...] = ()
    geometry: Geometry | None = None
    sources: tuple[int, ...] = ()
    cast: str = ""
    autocast: bool = True

    @property
    def bytes_moved(self) -> int:
        """Bytes read and written."""
        return self.bytes_read + self.bytes_written


@dataclass(frozen=True)
class StageSpan:
    """A stage by its name, and the paths of the modules in it.

    `container` is the module that holds the blocks and nothing else that runs; empty if there
    is none.

    Example:
        >>> span = StageSpan("layer1", ("layer1.0", "layer1.1"), container="layer1")
        >>> span.holds("layer1.0.conv1"), span.holds("layer1"), span.holds("layer2.0")
        (True, True, False)
    """

    name: str
    paths: tuple[str, ...]
    container: str = ""

    def holds(self, path: str) -> bool:
        """Tell whether a module is the stage's."""
        own = any(path == part or path.startswith(f"{part}.") for part in self.paths)
        return own or (path == self.container != "")

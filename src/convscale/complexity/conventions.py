"""The conventions of counting, in one table: what each adds to the products.

All of them count the same products (`convscale.network.channels.contractions`); they differ in what
a multiply-add counts, and in the edges that they add.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import prod
from typing import Any

from convscale.errors import InputError
from convscale.network.channels.products import Product, name_of, product

Bound = dict[str, Any]  # the arguments of a call by name
EdgeRule = Callable[[Bound, Any], Product]


@dataclass(frozen=True)
class Edge:
    """What a convention adds for some operators: how much, and by which rule.

    `operators` are names of the dispatcher. `functions` are names of functions of PyTorch whose
    operators do not tell what they are part of: an adaptive pooling to one pixel becomes a mean.
    Within such a function no edge of an operator is added.

    Example:
        >>> CONVENTIONS["pycls"].edges[1].what
        'outputs of max-pooling'
    """

    what: str
    amount: str
    rule: EdgeRule
    operators: tuple[str, ...] = ()
    functions: tuple[str, ...] = ()


@dataclass(frozen=True)
class Convention:
    """How a count is made: what a multiply-add counts, and what is added to the products.

    Example:
        >>> CONVENTIONS["torch"].flops_per_multiply_add
        2
    """

    name: str
    source: str
    flops_per_multiply_add: int = 1
    edges: tuple[Edge, ...] = ()

    @property
    def differences(self) -> tuple[str, ...]:
        """What sets it apart from the default, a sentence each.

        Example:
            >>> CONVENTIONS["torch"].differences
            ('2 flops a multiply-add',)
        """
        twice: tuple[str, ...] = ()
        if self.flops_per_multiply_add != 1:
            twice = (f"{self.flops_per_multiply_add} flops a multiply-add",)
        return (*twice, *(f"{edge.what}: {edge.amount}" for edge in self.edges))

    def cost(self, func: Any, bound: Bound, output: Any, *, edges: bool = True) -> Product:
        """Return the flops and acts of a call of an operator, with the edges or without.

        Example:
            >>> import torch
            >>> left, right = torch.zeros(2, 3), torch.zeros(3, 4)
            >>> mm = torch.ops.aten.mm.default
            >>> CONVENTIONS["torch"].cost(mm, {"self": left}, left @ right)
            Product(flops=48, acts=8)
        """
        found = product(func, bound, output) or Product(0, 0)
        edge = self.of_operator(name_of(func)) if edges else None
        more = Product(0, 0) if edge is None else edge.rule(bound, output)
        flops = self.flops_per_multiply_add * found.flops + more.flops
        return Product(flops, found.acts + more.acts)

    def of_operator(self, name: str) -> Edge | None:
        """Return what is added for an operator of the dispatcher, if anything.

        Example:
            >>> CONVENTIONS["pycls"].of_operator("aten::addmm").amount
            '1 flop an output element'
        """
        return next((edge for edge in self.edges if name in edge.operators), None)

    def of_function(self, name: str) -> Edge | None:
        """Return what is added for a function of PyTorch, if anything.

        Example:
            >>> CONVENTIONS["fvcore"].of_function("adaptive_avg_pool2d").amount
            '1 flop an input element'
        """
        return next((edge for edge in self.edges if name in edge.functions), None)


def _bias(bound: Bound, output: Any) -> Product:
    biased = "bias" not in bound or bound["bias"] is not None  # addmm has a bias always
    return Product(output.numel() if biased else 0, 0)


def _pooled(_bound: Bound, output: Any) -> Product:
    pooled = output[0] if isinstance(output, tuple) else output
    return Product(0, pooled.numel())


def _normalized(bound: Bound, _output: Any) -> Product:
    """In evaluation a scale and a shift; where moments are computed, more."""
    x, affine = bound["input"], bound.get("weight") is not None
    times = (2 if affine else 1) if not bound.get("training", False) else (5 if affine else 4)
    return Product(times * x.numel(), 0)


def _with_moments(bound: Bound, output: Any) -> Product:
    return _normalized({**bound, "training": True}, output)


def _each_output(times: int) -> EdgeRule:
    return lambda _bound, output: Product(times * output.numel(), 0)


def _each_input(bound: Bound, _output: Any) -> Product:
    x = bound["input"] if "input" in bound else bound["self"]
    return Product(prod(x.shape), 0)


_BATCH_NORMS = (
    "native_batch_norm _native_batch_norm_legit _native_batch_norm_legit_no_training "
    "_batch_norm_no_update cudnn_batch_norm miopen_batch_norm"
)
_MAX_POOLS = "max_pool2d_with_indices max_pool3d_with_indices max_pool1d max_pool2d max_pool3d"


def _aten(names: str) -> tuple[str, ...]:
    return tuple(f"aten::{name}" for name in names.split())


_PYCLS = (
    Edge(
        "biases of convolutions and linear layers",
        "1 flop an output element",
        _bias,
        operators=_aten("convolution addmm"),
        functions=("linear",),
    ),
    Edge("outputs of max-pooling", "acts", _pooled, operators=_aten(_MAX_POOLS)),
)
_FVCORE = (
    Edge(
        "batch norm in evaluation",
        "2 flops an element (1 without weights)",
        _normalized,
        operators=_aten(_BATCH_NORMS),
    ),
    Edge(
        "layer, group and instance norm",
        "5 flops an element (4 without weights)",
        _with_moments,
        operators=_aten("native_layer_norm native_group_norm _batch_norm_with_update"),
        functions=("instance_norm",),
    ),
    Edge(
        "adaptive average pooling of images",
        "1 flop an input element",
        _each_input,
        operators=_aten("_adaptive_avg_pool2d"),
        functions=("adaptive_avg_pool2d",),
    ),
    Edge(
        "bilinear upsampling and grid sampling",
        "4 flops an output element",
        _each_output(4),
        operators=_aten("upsample_bilinear2d grid_sampler_2d grid_sampler_3d"),
    ),
    Edge(
        "nearest upsampling of images",
        "1 flop an output element",
        _each_output(1),
        operators=_aten("upsample_nearest2d"),
    ),
)

# Every convention by its name.
CONVENTIONS: dict[str, Convention] = {
    convention.name: convention
    for convention in (
        Convention("default", "half of PyTorch's own counter"),
        Convention("pycls", "the code of arXiv 2103.06877's authors", edges=_PYCLS),
        Convention("fvcore", "fvcore, and timm's published tables", edges=_FVCORE),
        Convention("torch", "torch.utils.flop_counter", flops_per_multiply_add=2),
    )
}


def convention_named(name: str) -> Convention:
    """Return a convention by its name.

    Raises:
        InputError: If there is none of that name.

    Example:
        >>> convention_named("pycls").source
        "the code of arXiv 2103.06877's authors"
    """
    if name not in CONVENTIONS:
        raise InputError(f"Unknown convention {name!r}. Use {', '.join(CONVENTIONS)}.")
    return CONVENTIONS[name]

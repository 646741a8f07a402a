"""The operators that multiply and add: their flops (multiply-adds) and acts.

One image and one forward pass; a multiply-accumulate counts once. Acts are the elements of the
operator's output. Fused operators count all of their products, as if they were not fused.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from convscale.errors import InputError
from convscale.network.channels.contractions import ATTENTION, RULES, Contraction, rule_of
from convscale.network.channels.ties import tensors_in

__all__ = [
    "ATTENTION",
    "Product",
    "bind",
    "checked_rules",
    "contractions",
    "first_shape",
    "is_free",
    "may_multiply",
    "name_of",
    "product",
]


@dataclass(frozen=True)
class Product:
    """Multiply-adds and output elements of one call of an operator.

    Example:
        >>> Product(flops=6, acts=2).acts
        2
    """

    flops: int
    acts: int


# A rule of the user's: from a call's arguments by name, and its result, to flops and acts.
OwnRule = Callable[[dict[str, Any], Any], "Product | tuple[int, int]"]

# What operators of PyTorch have in their names if they multiply by weights or sum products, and
# what those of them are called that do neither.
_MULTIPLIES = re.compile(
    r"(^|_)(\w*mm|\w*mv|conv\d?d?|convolution|linear|matmul|bilinear|trilinear|einsum|dot|outer|"
    r"attention|fft|lstm|gru|rnn|linalg|qr|geqrf|orgqr|ormqr|cholesky|lu|svd|eigh?|eigvals|solve|"
    r"inv|det|slogdet|matrix|cdist|pdist)(_|$)"
)
_NO_PRODUCTS = re.compile(
    r"upsample|quantize_|embedding|r?fftfreq|pack_(weight|4bit)|weight_to|reorder|flatten|search$|"
    r"_(vector_norm|cross|check_errors|powsum|diagonal)$|lu_unpack|linear_combination|"
    r"fused_(lstm|gru)_cell"
)

# Operators of torchvision that choose and interpolate, and multiply by no weights.
_PICKING = frozenset("nms roi_align roi_pool ps_roi_align ps_roi_pool".split())

# What quantised operators without a rule have in their names if they multiply by weights.
_QUANTISED = "cell embedding_bag linear conv int4mm".split()

# Namespaces of operators that multiply by no weights: marks for profilers, and what processes say.
_IDLE = frozenset("prims prim profiler c10d _c10d_functional quantized_decomposed".split())

# Operators that compute nothing: views, and tensors made from nothing.
_FREE = frozenset(
    (
        "view _unsafe_view reshape _reshape_alias permute transpose t slice select split unbind "
        "split_with_sizes unsqueeze squeeze expand alias detach as_strided as_strided_ unfold "
        "empty empty_like new_empty empty_strided new_empty_strided lift_fresh unsqueeze_ "
        "squeeze_ zeros ones full arange zeros_like ones_like full_like new_zeros new_ones "
        "new_full scalar_tensor lift diagonal _assert_async _assert_scalar sym_size sym_numel "
        "sym_stride unsafe_split unsafe_split_with_sizes unsafe_chunk"
    ).split()
)


def name_of(func: Any) -> str:
    """Return the name of an operator of the dispatcher.

    Example:
        >>> import torch
        >>> name_of(torch.ops.aten.mm.default)
        'aten::mm'
    """
    return f"{func.namespace}::{func._opname}"


def contractions(func: Any, bound: dict[str, Any], output: Any) -> tuple[Contraction, ...]:
    """Return the sums of products that a call makes; none where the operator has no rule.

    Args:
        func: The operator of the dispatcher.
        bound: Its arguments by name.
        output: Its result.

    Example:
        >>> import torch
        >>> left, right = torch.zeros(2, 3), torch.zeros(3, 4)
        >>> found = contractions(torch.ops.aten.mm.default, {"self": left}, left @ right)
        >>> [one.inner.number for one in found]
        [3]
    """
    rule = rule_of(name_of(func), RULES)
    return (rule(bound, output) if rule is not None else None) or ()


def product(func: Any, bound: dict[str, Any], output: Any) -> Product | None:
    """Return the flops and acts of a call, or None where it has none.

    Args:
        func: The operator of the dispatcher.
        bound: Its arguments by name.
        output: Its result.

    Example:
        >>> import torch
        >>> left, right = torch.zeros(2, 3), torch.zeros(3, 4)
        >>> product(torch.ops.aten.mm.default, {"self": left, "mat2": right}, left @ right)
        Product(flops=24, acts=8)
    """
    found = contractions(func, bound, output)
    if not found:
        return None
    return Product(sum(one.flops for one in found), sum(one.acts for one in found))


def checked_rules(rules: Mapping[str, OwnRule] | None) -> dict[str, OwnRule]:
    """Return rules of the user's by the names of their operators in the dispatcher.

    Raises:
        InputError: If a name or a rule is of another form.

    Example:
        >>> list(checked_rules({"mylib.scale": lambda arguments, output: (0, 0)}))
        ['mylib::scale']
    """
    if rules is not None and not isinstance(rules, Mapping):
        raise InputError(
            f"The rules are a {type(rules).__name__}. Give a mapping from operators to rules, as "
            "in {'mylib::scale': rule}."
        )
    found: dict[str, OwnRule] = {}
    for name, rule in (rules or {}).items():
        parts = str(name).replace("::", ".").split(".")
        if len(parts) != 2 or not all(part.isidentifier() for part in parts):
            raise InputError(
                f"{name!r} names no operator. Write namespace::name, as in mylib::scale."
            )
        if not callable(rule):
            raise InputError(
                f"The rule of {name} is a {type(rule).__name__}. Give a function of a call's "
                "arguments by name and its result, that returns flops and acts."
            )
        found["::".join(parts)] = rule
    return found


def own_product(name: str, rule: OwnRule, bound: dict[str, Any], output: Any) -> Product:
    """Return the flops and acts of a call by a rule of the user's.

    Raises:
        InputError: If the rule fails, or returns anything but two whole numbers.

    Example:
        >>> own_product("mylib::scale", lambda arguments, output: (2, 1), {}, None)
        Product(flops=2, acts=1)
    """
    try:
        found = rule(bound, output)
    except Exception as error:
        raise InputError(f"The rule of {name} failed: {type(error).__name__}: {error}.") from error
    pair = (found.flops, found.acts) if isinstance(found, Product) else found
    if not (
        isinstance(pair, tuple)
        and len(pair) == 2
        and all(type(value) is int and value >= 0 for value in pair)
    ):
        raise InputError(
            f"The rule of {name} returned {found!r}. It must return flops and acts, two whole "
            "numbers, as in (4096, 512)."
        )
    return Product(*pair)


def is_free(func: Any) -> bool:
    """Tell whether an operator computes nothing.

    Example:
        >>> import torch
        >>> is_free(torch.ops.aten.view.default)
        True
    """
    return func.namespace == "aten" and func._opname in _FREE


def may_multiply(func: Any) -> bool:
    """Tell whether an operator without a rule may multiply by weights.

    Every operator from outside PyTorch may: nobody can tell what it does.

    Example:
        >>> import torch
        >>> may_multiply(torch.ops.aten.relu.default)
        False
    """
    if rule_of(name_of(func), RULES) is not None:
        return False
    if func.namespace == "aten":
        return _sums_products(func._opname)
    if func.namespace == "torchvision":
        return func._opname not in _PICKING
    if func.namespace == "quantized":
        return any(word in func._opname for word in _QUANTISED)
    return func.namespace not in _IDLE


@cache
def _sums_products(name: str) -> bool:
    return _MULTIPLIES.search(name) is not None and _NO_PRODUCTS.search(name) is None


@cache
def _arguments(func: Any) -> tuple[tuple[str, bool, Any], ...]:
    return tuple(
        (entry.name, entry.has_default_value(), entry.default_value)
        for entry in func._schema.arguments
    )


def bind(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
    """Return an operator's arguments by name, defaults included.

    Example:
        >>> import torch
        >>> bind(torch.ops.aten.relu.default, (1,), {})
        {'self': 1}
    """
    bound: dict[str, Any] = {}
    for position, (name, has_default, default) in enumerate(_arguments(func)):
        if position < len(args):
            bound[name] = args[position]
        elif name in kwargs:
            bound[name] = kwargs[name]
        elif has_default:
            bound[name] = default
    return bound


def first_shape(output: Any) -> tuple[int, ...]:
    """Return the shape of the first tensor in a result; empty where there is none.

    Example:
        >>> import torch
        >>> first_shape([torch.zeros(2, 3)])
        (2, 3)
    """
    tensors = tensors_in(output)
    return tuple(tensors[0].shape) if tensors else ()

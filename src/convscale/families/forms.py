"""Which operators candidates run, and the sizes that terms name, from arrays of candidates."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import numpy.typing as npt

from convscale.families.arrays import distinct
from convscale.families.candidates import Candidates, Part
from convscale.families.description import EfficientNet
from convscale.families.regnet import Floats, Ints
from convscale.families.terms import Form, Symbol, maps

_SPATIAL = (
    "convolution 1x1",
    "convolution kxk",
    "convolution grouped",
    "convolution depthwise",
)
_ONE_BY_ONE, _PLAIN, _GROUPED, _DEPTHWISE = range(4)
_IMAGE = 4  # channels of an image, at most: layers that read no more run by other kernels


def forms(
    candidates: Candidates, part: Part, *, exact: bool = False
) -> Iterator[tuple[Form, Ints]]:
    """Sort candidates by their form: the forms that there are, and which candidates have it.

    Candidates with layers that read as few channels as an image come apart from the others, as
    such layers run by other kernels; their form may come more than once.

    Args:
        candidates: The networks that the part is of.
        part: Some of them.
        exact: Whether stages that have no blocks for an operator are without it; else it may
            be there no times, so that there are fewer forms.

    Example:
        >>> from convscale.families import named
        >>> from convscale.families.candidates import read_candidates
        >>> net = named("ResNet-18")
        >>> found = read_candidates(net, depths=[net.depths, (1, 1), net.depths][::2],
        ...                         widths=net.widths)
        >>> [which.tolist() for form, which in forms(found, found.part(slice(0, 2)))]
        [[0, 1]]
    """
    codes = _codes(candidates, part, exact)
    if not codes.shape[-1]:
        return
    first, key = distinct(list(codes.reshape(-1, codes.shape[-1])))
    order = np.argsort(key, kind="stable")
    borders = np.searchsorted(key[order], np.arange(1, len(first)))
    for where, which in zip(first, np.split(order, borders), strict=True):
        yield _form(candidates, codes[..., where]), which


def _codes(candidates: Candidates, part: Part, exact: bool) -> Ints:
    """Return what decides the operators, shape (what, stages, n): small integers."""
    present = part.depths > 0
    widths_before = np.vstack((part.stem, part.widths[:-1]))
    strides = np.array(candidates.strides)[:, None]
    alike = (strides == 1) & (widths_before == part.widths)
    if isinstance(candidates.like, EfficientNet):
        kernels = np.array(candidates.like.kernels)[:, None]
        first, rest = (
            np.where(inner > 1, _DEPTHWISE, np.where(kernels > 1, _PLAIN, _ONE_BY_ONE))
            for inner in (np.floor(widths_before * part.ratios), part.inner)
        )
        expanded = part.ratios != 1
    else:
        groups = part.inner // part.groups
        kinds = np.where(part.groups == 1, _DEPTHWISE, _GROUPED)
        first = rest = np.where(groups <= 1, _PLAIN, kinds)
        expanded = np.ones_like(present)
    last = present & ~np.vstack((present[1:], np.zeros((1, present.shape[1]), bool)))
    deep = last & (part.depths > 1)
    plain = part.inner == part.widths
    few = (widths_before <= _IMAGE) + 2 * (part.widths <= _IMAGE) + 4 * (part.inner <= _IMAGE)
    several = part.depths > 1 + deep if exact else ~last | deep
    codes = np.stack(
        (present, alike, first, rest, expanded, deep, plain, several, few),
        dtype=np.int64,
        casting="unsafe",
    )
    codes[:, ~present] = 0
    return codes


def _form(candidates: Candidates, codes: Ints) -> Form:
    stages = int(codes[0].sum())
    _, alike, first, rest, expanded, deep, plain, several, _ = codes[:, :stages].tolist()
    return Form(
        like=candidates.like,
        strides=candidates.strides[:stages],
        alike=tuple(map(bool, alike)),
        spatial=tuple((_SPATIAL[a], _SPATIAL[b]) for a, b in zip(first, rest, strict=True)),
        expanded=tuple(map(bool, expanded)),
        deep=bool(deep[-1]),
        plain=tuple(map(bool, plain)),
        rest=tuple(map(bool, several)),
    )


class Sizes:
    """The sizes of candidates of one form by their symbols: floats, shape (n,) or (1,).

    Args:
        form: The form.
        part: The candidates.

    Example:
        >>> from convscale.families import named
        >>> from convscale.families.candidates import read_candidates
        >>> net = named("ResNet-18")
        >>> found = read_candidates(net, depths=[net.depths], widths=net.widths)
        >>> part = found.part(slice(0, 1))
        >>> form, _ = next(forms(found, part))
        >>> sizes = Sizes(form, part)
        >>> sizes.of(("map", 1)), sizes.of(("width", 1)), sizes.of(("rest", 3))
        (array([12544.]), array([128.]), array([0.]))
    """

    def __init__(self, form: Form, part: Part) -> None:
        self._form = form
        self._part = part
        like = form.like
        self._alone: dict[str, npt.ArrayLike] = {
            "one": 1,
            "once": 1,
            "inputs": like.in_chans,
            "classes": like.num_classes,
            "stem": part.stem,
            "head": part.head,
        }
        self._rows: dict[str, Sequence[Ints] | Ints] = {
            "width": part.widths,
            "inner": part.inner,
            "group": part.groups,
            "map": _positions(form, part),
        }
        self._computed: dict[str, Callable[[int], npt.ArrayLike]] = {
            "groups": lambda stage: part.inner[stage] // part.groups[stage],
            "first inner": lambda stage: np.floor(self._before(stage) * part.ratios[stage]),
            "squeeze": lambda stage: self._squeezed(part.widths[stage]),
            "first squeeze": lambda stage: self._squeezed(self._before(stage)),
            "rest": self._rest,
        }

    def of(self, symbol: Symbol) -> Floats:
        """Return the size that a symbol names."""
        name, number = symbol
        if name in self._alone:
            found = self._alone[name]
        elif name in self._rows:
            found = self._rows[name][number]
        else:
            found = self._computed[name](number)
        return np.atleast_1d(np.asarray(found, np.float64))

    def _before(self, stage: int) -> Ints:
        """Return the width of what comes to a stage."""
        width: Ints = self._part.widths[stage - 1] if stage else self._part.stem
        return width

    def _rest(self, stage: int) -> Ints:
        """Return the blocks that are neither first nor, in the last stage, last."""
        last = self._form.deep and stage == len(self._form.strides) - 1
        depth: Ints = self._part.depths[stage] - 1 - last
        return depth

    def _squeezed(self, width: Ints) -> Floats:
        like = self._form.like
        rounded = np.floor if isinstance(like, EfficientNet) else np.rint
        found: Floats = np.maximum(rounded(like.se_ratio * width), 1)
        return found


def _positions(form: Form, part: Part) -> list[Ints]:
    """Return the positions of every map, from the image on."""
    height, breadth = (
        side[:1] if bool((side == side[0]).all()) else side for side in (part.height, part.breadth)
    )
    found = []
    for stride in maps(form.like, form.strides):
        if stride > 1:
            height, breadth = (height - 1) // stride + 1, (breadth - 1) // stride + 1
        found.append(height * breadth)
    return found

"""Times of many candidates of a paper family at once, on one core and in bounded memory.

The time of a network is a sum over its parts (stem, stages, head), and what a part takes depends
on few sizes: its widths, those of what comes to it, its map. Parts that several candidates have in
common are computed once.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from convscale.families.arrays import distinct
from convscale.families.candidates import Candidates, Part
from convscale.families.forms import Sizes, forms
from convscale.families.many import chunks
from convscale.families.operators import terms
from convscale.families.regnet import Ints
from convscale.families.terms import Form, Symbol
from convscale.prediction.classes import FUSED
from convscale.prediction.described import Arithmetic
from convscale.prediction.execution import Execution
from convscale.prediction.form import (
    Coefficients,
    operator_classes,
    operator_seconds,
    step_seconds,
)
from convscale.prediction.fusion import executed
from convscale.prediction.prediction import OVERHEAD
from convscale.prediction.profile import Profile
from convscale.prediction.workload import Floats, Workload

_CHUNK = 32_768  # candidates that are compared with each other
_ALL = "all"
_SLICE = 768  # parts whose operators are computed together, in the cache


def many_seconds(
    candidates: Candidates, coefficients: Coefficients, execution: Execution, batch_size: float
) -> Floats:
    """Return the seconds of a step of each candidate, shape (n,).

    Args:
        candidates: The networks.
        coefficients: Those of the form of the runtime model.
        execution: How they run.
        batch_size: Images a step.

    Example:
        >>> from convscale.families import named, read_candidates
        >>> from convscale.prediction.described import described_workload
        >>> from convscale.prediction.form import coefficients_of, network_seconds
        >>> net, run = named("ResNet-18"), Execution()
        >>> found = read_candidates(net, depths=[net.depths] * 2, widths=net.widths)
        >>> many = many_seconds(found, coefficients_of(run), run, 8)
        >>> one = network_seconds(described_workload(net), coefficients_of(run), run, 8)
        >>> np.allclose(many, one, rtol=1e-12)
        True
    """
    found, kernels = np.empty((2, len(candidates)))
    known: dict[Form, _Parts] = {}
    for rows in chunks(len(candidates), _CHUNK):
        part = candidates.part(rows)
        for form, which in forms(candidates, part):
            if form not in known:
                known[form] = _Parts(form, coefficients, execution, batch_size)
            own = part.take(which)
            found[rows.start + which] = known[form].seconds(own)
            kernels[rows.start + which] = known[form].started(own)
    return step_seconds(found, coefficients, kernels)


class Times(NamedTuple):
    """What a step of candidates takes (s), and how wide intervals are beside a typical one.

    Example:
        >>> Times(np.array([0.01]), np.array([1.5])).widths.tolist()
        [1.5]
    """

    seconds: Floats
    widths: Floats


def many_times(candidates: Candidates, profile: Profile, batch_size: float) -> Times:
    """Return the seconds of a step of each candidate, and the relative width of its interval.

    Args:
        candidates: The networks.
        profile: The profile.
        batch_size: Images a step.

    Example:
        >>> from convscale.families import named, read_candidates
        >>> from convscale.prediction.form import coefficients_of
        >>> from convscale.prediction.profile import Doubts, Seen
        >>> run, net = Execution(), named("ResNet-18")
        >>> seen = Seen((1, 512), (64, 384), (1e8, 1e11), (8, 4096), ())
        >>> doubts = Doubts(0.01, {"convolution kxk": 0.01, "relu": 0.01, "once a pass": 0.01})
        >>> mine = Profile("mine", run, coefficients_of(run), seen, (), doubts=doubts)
        >>> found = read_candidates(net, depths=[net.depths] * 2, widths=net.widths)
        >>> bool(np.all(many_times(found, mine, 8).widths < 1))  # errors of classes even out
        True
    """
    given = profile.coefficients, profile.execution, batch_size
    if profile.doubts is None:
        seconds = many_seconds(candidates, *given)
        return Times(seconds, np.ones(len(candidates)))
    seconds, widths = np.empty((2, len(candidates)))
    known: dict[Form, _Parts] = {}
    for rows in chunks(len(candidates), _CHUNK):
        part = candidates.part(rows)
        for form, which in forms(candidates, part):
            if form not in known:
                known[form] = _Parts(form, *given, apart=True)
            classes = known[form].class_seconds(part.take(which))
            kernels = known[form].started(part.take(which))
            own = step_seconds(np.sum(list(classes.values()), axis=0), given[0], kernels)
            shares = {name: each / own for name, each in classes.items()}
            rest: Floats = 1.0 - np.sum(list(shares.values()), axis=0)
            shares[OVERHEAD] = rest
            seconds[rows.start + which] = own
            widths[rows.start + which] = profile.doubts.width(shares)
    return Times(seconds, widths)


def many_running(candidates: Candidates, kinds: Collection[str]) -> npt.NDArray[np.bool_]:
    """Tell which candidates run an operator of one of some kinds, shape (n,).

    Example:
        >>> from convscale.families import named, read_candidates
        >>> net = named("RegNetX-400MF")
        >>> found = read_candidates(net, depths=[net.depths] * 2, widths=[net.widths] * 2,
        ...                         group_widths=[net.group_widths, net.widths])
        >>> many_running(found, {"convolution grouped"}).tolist()
        [True, False]
    """
    found = np.zeros(len(candidates), bool)
    for rows in chunks(len(candidates), _CHUNK):
        part = candidates.part(rows)
        for form, which in forms(candidates, part):
            times = {term.times for term in terms(form) if term.kind in kinds}
            sizes = Sizes(form, part.take(which))
            for symbol in times:
                found[rows.start + which] |= sizes.of(symbol) > 0
    return found


class Survey(NamedTuple):
    """What candidates consist of, shape (n,): the most channels of a layer, and certain operators.

    Example:
        >>> Survey(np.array([64.0]), np.array([False])).widest.tolist()
        [64.0]
    """

    widest: Floats
    running: npt.NDArray[np.bool_]


def survey(candidates: Candidates, kinds: Collection[str] = ()) -> Survey:
    """Tell how wide candidates are, and which run an operator of one of some kinds.

    Example:
        >>> from convscale.families import named, read_candidates
        >>> net = named("RegNetX-400MF")
        >>> found = read_candidates(net, depths=[net.depths] * 2, widths=[net.widths] * 2,
        ...                         group_widths=[net.group_widths, net.widths])
        >>> survey(found, {"convolution grouped"})
        Survey(widest=array([1000., 1000.]), running=array([ True, False]))
    """
    most, running = np.zeros(len(candidates)), np.zeros(len(candidates), bool)
    for rows in chunks(len(candidates), _CHUNK):
        part = candidates.part(rows)
        for form, which in forms(candidates, part):
            sizes, lines, own = Sizes(form, part.take(which)), terms(form), rows.start + which
            for symbol in {line.times for line in lines if line.kind in kinds}:
                running[own] |= sizes.of(symbol) > 0
            for outs, times in {(line.product.outs, line.times) for line in lines if line.product}:
                most[own] = np.maximum(most[own], sizes.of(outs) * (sizes.of(times) > 0))
    return Survey(most, running)


class _Parts:
    """The stem, the stages and the head of the networks of a form, each with its operators."""

    def __init__(
        self,
        form: Form,
        coefficients: Coefficients,
        execution: Execution,
        batch_size: float,
        *,
        apart: bool = False,
    ) -> None:
        lines = terms(form)
        self._apart = apart  # whether classes of operators are told apart
        self._form = form
        self._given = coefficients, execution, batch_size
        self._compiled = execution.mode == "compiled"
        # what is fused depends on what comes before and after
        settings: dict[str, Any] = {"margin": 1} if self._compiled else {"merge": True}
        self._parts = [
            Arithmetic(lines, place=place, **settings) for place in range(-1, len(form.strides) + 1)
        ]

    def seconds(self, part: Part) -> Floats:
        """Return what the operators of candidates take."""
        (found,) = self.class_seconds(part).values()
        return found

    def started(self, part: Part) -> Floats:
        """Return how many kernels candidates start; what is fused is not told apart."""
        sizes, found = Sizes(self._form, part), np.zeros(len(part.stem))
        for own in self._parts if "host" in self._given[0] else ():
            alone = [place for place in own.core if own.names[place] not in FUSED]
            for symbol, count in zip(own.times, own.counts[alone].sum(axis=0), strict=True):
                found += sizes.of(symbol) * count
        return found

    def class_seconds(self, part: Part) -> dict[str, Floats]:
        """Return what the operators of candidates take, class by class."""
        sizes = Sizes(self._form, part)
        found: dict[str, Floats] = {} if self._apart else {_ALL: np.zeros(len(part.stem))}
        for place, own in enumerate(self._parts, start=-1):
            first, inverse = distinct(_keys(part, place))
            slices = [
                self._costs(own, part.take(first[rows])) for rows in chunks(len(first), _SLICE)
            ]
            for name, symbol in slices[0] if slices else ():
                each = np.concatenate([costs[name, symbol] for costs in slices])
                more = sizes.of(symbol) * each[inverse]
                found[name] = found[name] + more if name in found else more
        return found

    def _costs(self, own: Arithmetic, part: Part) -> dict[tuple[str, Symbol], Floats]:
        """Return what the operators of a part take together, for each class and of its `times`."""
        work = own.workload(Sizes(self._form, part))
        if self._compiled:
            work = executed(work, self._given[1]).only(own.core)
        work = replace(work, repeats=np.ones((work.operators, 1)))
        single = operator_seconds(work, *self._given)
        found, symbols = {}, list(own.times)
        for name, places in self._classes(work).items():
            counts = own.counts[own.core][places]
            used = np.flatnonzero(counts.any(axis=0))
            for at, costs in zip(used, counts[:, used].T @ single[places], strict=True):
                found[name, symbols[at]] = costs
        return found

    def _classes(self, work: Workload) -> Mapping[str, npt.NDArray[np.intp] | slice]:
        if self._apart:
            return dict(operator_classes(work, self._given[1]))
        return {_ALL: slice(None)}


def _keys(part: Part, place: int) -> list[Ints]:
    """Return all that the sizes of a part depend on: of the stem, a stage, or the head."""
    inputs = part.widths[place - 1] if place > 0 else part.stem
    common = [part.height, part.breadth, inputs]
    if place < 0:
        return common
    if place == len(part.widths):
        return [*common, part.head]
    ratio = part.ratios[place]
    own = [part.widths[place], part.inner[place], part.groups[place]]
    return [*common, *own, np.unique(ratio, return_inverse=True)[1].astype(np.int64)]

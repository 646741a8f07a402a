"""The memory of a pass or a training step of any network of a form, from the log of one of them.

A block that is neither a stage's first nor the network's last does in a step what its neighbours
do. The log of a network with more or fewer of them is the log of another with that part repeated,
and the sizes in it are products of sizes that have names. While one of several equal blocks runs,
more lives at a straight line in its number: the most lives in the first or in the last of them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from convscale.complexity.dryrun import DryRun
from convscale.complexity.logbook import Event, Logbook, Run
from convscale.complexity.prototypes import BATCH, IMAGES, REPEATED, Prototype, prototype
from convscale.families.forms import Sizes
from convscale.families.regnet import Floats, Ints
from convscale.families.terms import Form, Symbol
from convscale.network.sources.network import from_family

Key = tuple[Symbol, ...]  # a product of sizes
Place = tuple[int, int]  # a stage and a block of it
_ITEM = 8  # bytes of the largest element
_MIDDLE = 2  # the block that stands for any number of them


@dataclass(frozen=True)
class Moment:
    """What lives at a moment, in bytes by products of sizes.

    Args:
        held: The bytes.
        stage: The stage that must have further blocks for it to be; None if it always is.
    """

    held: dict[Key, int]
    stage: int | None


class TrainingLog:
    """The moments of a pass or a training step at which the most may live, of networks of one form.

    Args:
        moments: The moments.
        alike: Sizes that the log does not tell apart.

    Example:
        >>> TrainingLog([Moment({(): 8}, None), Moment({(): 9}, None)], ()).moments
        2
    """

    def __init__(self, moments: Sequence[Moment], alike: Sequence[tuple[Symbol, Symbol]]) -> None:
        self._alike = tuple(alike)
        keys = list(dict.fromkeys(key for moment in moments for key in moment.held))
        self._keys = keys
        self._table = np.array([[one.held.get(key, 0) for key in keys] for one in moments], float)
        self._stages = [one.stage for one in moments]

    @property
    def moments(self) -> int:
        """How many moments there are."""
        return len(self._stages)

    def fits(self, sizes: Sizes) -> bool:
        """Tell whether what the log takes for one size is one."""
        return all(bool((sizes.of(a) == sizes.of(b)).all()) for a, b in self._alike)

    def peak(self, sizes: Sizes, images: int, count: int) -> Ints:
        """Return the most bytes that live at once in a step, shape (count,).

        Args:
            sizes: The sizes of networks of the form.
            images: Images in a batch.
            count: How many networks these are.
        """

        def of(symbol: Symbol) -> Floats:
            return np.array([float(images)]) if symbol == IMAGES else sizes.of(symbol)

        values = np.ones((len(self._keys), count))
        for row, key in zip(values, self._keys, strict=True):
            for symbol in key:
                row *= of(symbol)
        live = self._table @ values
        for stage in {stage for stage in self._stages if stage is not None}:
            rows = np.array([one == stage for one in self._stages])
            live[np.ix_(rows, sizes.of(("rest", stage)) < 1)] = 0.0
        found: Ints = np.rint(live.max(axis=0)).astype(np.int64)
        return found


def training_log(form: Form, optimizer: str | None, precision: str | None) -> TrainingLog | None:
    """Run one network of a form dry, and return the log of any; None where it does not tell.

    Args:
        form: The form.
        optimizer: sgd or adamw; None for inference.
        precision: As `DryRun` takes it.
    """
    proto = prototype(form)
    network = from_family("prototype", proto.net, {})
    module = network.build("meta")
    names = [name for name, _ in (*module.named_parameters(), *module.named_buffers())]
    book = Logbook(_part, names)
    run = DryRun(network, batch_size=BATCH, precision=precision)
    if optimizer is None:
        run.watch(book)
    else:
        run.follow(optimizer, book)
    moments = _Composer(proto).moments(book.runs())
    if moments is None:
        return None
    found = TrainingLog(moments, proto.alike)
    own = found.peak(proto.sizes, BATCH, 1)
    return found if int(own[0]) == book.peak().total_bytes else None


def _part(path: str) -> str:
    """Return the block that a path is in, or the stem or the head."""
    names = path.split(".")
    if names[0] == "stages":
        return ".".join(names[:3]) if len(names) > 2 else ""
    return names[0]


def _place(part: str) -> Place | None:
    """Return the stage and the number of a block."""
    names = part.split(".")
    return (int(names[1]), int(names[2])) if len(names) == 3 else None


class _Composer:
    """Makes of the log of a prototype that of any network of its form."""

    def __init__(self, proto: Prototype) -> None:
        self._proto = proto
        self._now: Counter[Key] = Counter()
        self._found: list[Moment] = []

    def moments(self, runs: Sequence[Run]) -> list[Moment] | None:
        """Return the moments at which the most may live; None if the log does not tell them."""
        if any(self._named(event) is None for run in runs for event in run.events):
            return None
        at = 0
        while at < len(runs):
            stage = self._repeated(runs[at].part)
            if stage is None:
                self._once(runs[at])
                at += 1
                continue
            some, rest = _parted(runs[at : at + REPEATED])
            if not self._equal(some, stage):
                return None
            self._often(some[1], stage)
            self._once(rest)
            at += REPEATED
        return self._found

    def _repeated(self, part: str) -> int | None:
        """Return the stage of a block that stands for others too."""
        place = _place(part)
        if place is None or not self._proto.form.rest[place[0]]:
            return None
        return place[0] if 1 <= place[1] <= REPEATED else None

    def _equal(self, runs: Sequence[Run], stage: int) -> bool:
        """Tell whether all of the repeated blocks of a stage run, and do the same."""
        parts = {f"stages.{stage}.{number}" for number in range(1, REPEATED + 1)}
        logs = {tuple((event.sign, self._named(event)) for event in run.events) for run in runs}
        return {run.part for run in runs} == parts and len(logs) == 1

    def _named(self, event: Event) -> tuple[int, Key] | None:
        found = self._proto.measured(event.shape)
        if found is None or event.item > _ITEM:
            return None
        return event.item * found[0], found[1]

    def _once(self, run: Run) -> None:
        """Add what happens once; what goes of a repeated block goes of each of them."""
        tops: list[Counter[Key]] = []
        for event, rises in _with_rises(run.events):
            nbytes, key = self._changed(event)
            place = _place(event.owner)
            stage = self._repeated(event.owner)
            if place is not None and stage is not None and place[1] == _MIDDLE:
                self._now[(*key, ("rest", stage))] += nbytes
                self._now[key] -= (REPEATED - 1) * nbytes
            else:
                self._now[key] += nbytes
            if rises:
                tops.append(self._now.copy())
        self._found += [Moment(dict(top), None) for top in _undominated(tops)]

    def _often(self, run: Run, stage: int) -> None:
        """Add what happens in each of the repeated blocks of a stage."""
        tops: list[Counter[Key]] = []
        net: Counter[Key] = Counter()
        for event, rises in _with_rises(run.events):
            nbytes, key = self._changed(event)
            net[key] += nbytes
            if rises:
                tops.append(net.copy())
        times = ("rest", stage)
        many = {(*key, times): nbytes for key, nbytes in net.items()}
        for top in _undominated(tops):
            first = _sum(self._now, top)
            last = _sum(first, many, {key: -nbytes for key, nbytes in net.items()})
            self._found += [Moment(first, stage), Moment(last, stage)]
        self._now = Counter(_sum(self._now, many))

    def _changed(self, event: Event) -> tuple[int, Key]:
        named = self._named(event)
        assert named is not None
        return event.sign * named[0], named[1]


def _parted(some: Sequence[Run]) -> tuple[list[Run], Run]:
    """Return equal runs, and what goes once after the last: the stage's input, which it held."""
    *before, last = some
    count = len(some[0].events)
    end = last.events[count:]
    if any(event.sign > 0 for event in end):
        return [*some], Run(last.part, ())
    return [*before, Run(last.part, last.events[:count])], Run(last.part, end)


def _with_rises(events: Sequence[Event]) -> Iterator[tuple[Event, bool]]:
    """Yield events, and whether less lives after the next one, so that here is a top."""
    for at, event in enumerate(events, start=1):
        yield event, event.sign > 0 and (at == len(events) or events[at].sign < 0)


def _undominated(tops: Sequence[Counter[Key]]) -> list[Counter[Key]]:
    """Leave out moments at which nothing lives more of than at another."""
    kept: list[Counter[Key]] = []
    for top in tops:
        if not any(_covers(other, top) for other in kept):
            kept = [other for other in kept if not _covers(top, other)]
            kept.append(top)
    return kept


def _covers(most: Counter[Key], top: Counter[Key]) -> bool:
    return all(most[key] >= top[key] for key in most.keys() | top.keys())


def _sum(*parts: Mapping[Key, int]) -> dict[Key, int]:
    found: Counter[Key] = Counter()
    for part in parts:
        for key, nbytes in part.items():
            found[key] += nbytes
    return dict(found)

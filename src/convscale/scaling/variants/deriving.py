"""The operators of a candidate from the run that it was planned by: nothing is built or run.

A run holds one added block a stage, or none where they run as the blocks that they are copies of.
In a candidate the calls of such a block stand as often as the block does, those of a removed block
not at all; all of them have the sizes that follow the widths.
What a block reads of the one before it, its first copy reads of the block before the copies, and
each further copy of the copy before.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from convscale.complexity.calls import OperatorCall
from convscale.network.stages.stages import join, upwards
from convscale.scaling.plans.plan import DepthEdit, flat
from convscale.scaling.variants.candidate import Candidate
from convscale.scaling.variants.variant import Variant, repeating


def derived_calls(found: Candidate) -> list[OperatorCall] | None:
    """Return the calls of a candidate, in elements; None where its run does not tell them.

    They count what was planned; whether they move as many bytes as those of the network that is
    built, a few networks that are built tell.

    Args:
        found: The candidate, of a blueprint that records its runs.

    Example:
        >>> from convscale.network import resolve_base
        >>> from convscale.scaling.scaler import Scaler
        >>> from convscale.strategy import parse_strategy
        >>> scaler = Scaler(resolve_base("timm:resnet18"), records=True)
        >>> calls = derived_calls(scaler.planned(parse_strategy("d"), 2.0))
        >>> sum(call.flops for call in calls)
        3663761408
    """
    variant = found.variant
    sized, repeated = variant.traced.sized, list(_repeated(variant))
    away = {path for one in repeated if not one.copies for path in one.models}
    calls = (
        None
        if sized is None
        else sized.at(
            variant.sizes(found.widths), without=lambda path: not away.isdisjoint(upwards(path))
        )
    )
    if calls is None:
        return None
    expanded = _Expansion(calls).by(repeated)
    if expanded is None:
        return None
    total = tuple(
        sum(getattr(call, metric) for call in expanded) for metric in ("flops", "params", "acts")
    )
    planned = found.complexity
    return expanded if total == (planned.flops, planned.params, planned.acts) else None


@dataclass(frozen=True)
class _Copy:
    """A module of a run that stands in a candidate under another name, or its own."""

    model: str
    path: str


@dataclass(frozen=True)
class _Repeated:
    """Modules of a run that follow each other, and what stands in a candidate in their place."""

    models: tuple[str, ...]
    copies: tuple[_Copy, ...]


def _repeated(variant: Variant) -> Iterator[_Repeated]:
    """Yield what stands in a variant other times than in its run."""
    own = {(edit.container, edit.after): edit for edit in flat(variant.edits) if edit.added}
    for edit in flat(variant.traced.edits):
        if edit.added:
            change = own.get((edit.container, edit.after))
            if variant.gone is None and len(edit.added) == len(edit.template):
                yield _of_model(edit, change)
                continue
            stay = () if change is None else change.added  # in the run each of them stands itself
            for name in edit.added:
                if name not in stay:
                    yield _Repeated((join(edit.container, name),), ())
    for edit in repeating(flat(variant.edits), variant.traced.edits):
        yield _of_blocks(edit)
    for edit in flat(variant.edits):
        for name in edit.removed:
            yield _Repeated((join(edit.container, name),), ())


def _of_model(model: DepthEdit, own: DepthEdit | None) -> _Repeated:
    paths = tuple(join(model.container, name) for name in model.added)
    added = () if own is None else own.added
    return _Repeated(
        paths,
        tuple(
            _Copy(paths[at % len(paths)], join(model.container, name))
            for at, name in enumerate(added)
        ),
    )


def _of_blocks(edit: DepthEdit) -> _Repeated:
    """Return what stands in the place of blocks: they themselves, and behind them their copies."""
    blocks = tuple(join(edit.container, name) for name in edit.template)
    copies = (
        _Copy(blocks[at % len(blocks)], join(edit.container, name))
        for at, name in enumerate(edit.added)
    )
    return _Repeated(blocks, (*(_Copy(own, own) for own in blocks), *copies))


class _Expansion:
    """The calls of a run, in the order of a candidate with repeated and removed modules."""

    def __init__(self, calls: Sequence[OperatorCall]) -> None:
        self._calls = calls
        self._new: list[OperatorCall] = []
        self._found: dict[str, list[int]] = {}
        self._read_last: dict[int, int] = {}
        self._now: dict[int, int] = {}  # by places in the run: those of the last copy here

    def by(self, repeated: Sequence[_Repeated]) -> list[OperatorCall] | None:
        """Return the calls; None where a module runs in pieces, or streams meet in it."""
        starts: dict[int, tuple[_Repeated, list[range]]] = {}
        self._note_places({model for one in repeated for model in one.models})
        for one in repeated:
            places = [self._places(model) for model in one.models]
            if any(part is None for part in places):
                return None
            parts = [part for part in places if part is not None]
            ends = [part.stop for part in parts[:-1]]
            if ends != [part.start for part in parts[1:]] or not all(map(len, parts)):
                return None
            starts[parts[0].start] = (one, parts)
        at = 0
        while at < len(self._calls):
            if at not in starts:
                if not self._append(at, self._calls[at].path, self._now):
                    return None
                at += 1
                continue
            one, parts = starts[at]
            if not self._repeat(one, parts):
                return None
            at = parts[-1].stop
        return self._new

    def _note_places(self, models: set[str]) -> None:
        """Note the calls of modules, and by the calls that they read who reads them."""
        for at, call in enumerate(self._calls):
            for path in upwards(call.path):
                if path in models:
                    self._found.setdefault(path, []).append(at)
            for source in call.sources:
                self._read_last[source] = at

    def _places(self, model: str) -> range | None:
        """Return the calls of a module, None where others stand between them."""
        found = self._found.get(model)
        if not found:
            return range(0)
        whole = range(found[0], found[-1] + 1)
        return whole if len(whole) == len(found) else None

    def _append(self, at: int, path: str, known: dict[int, int]) -> bool:
        """Append a call, unless it reads what no call of the candidate wrote."""
        call = self._calls[at]
        if not all(one in known for one in call.sources):
            return False
        sources = tuple(sorted({known[one] for one in call.sources}))
        self._new.append(replace(call, path=path, sources=sources))
        known[at] = len(self._new) - 1
        return True

    def _repeat(self, one: _Repeated, parts: Sequence[range]) -> bool:
        """Append the copies of modules, each of which reads what the one before it wrote."""
        ports = {model: self._ports(part) for model, part in zip(one.models, parts, strict=True)}
        width = {len(outs) for _, outs in ports.values()}
        if len(width) != 1 or any(len(ins) != len(outs) for ins, outs in ports.values()):
            return False
        if not all(place in self._now for place in ports[one.models[0]][0]):
            return False
        streams = [self._now[place] for place in ports[one.models[0]][0]]
        places = dict(zip(one.models, parts, strict=True))
        for copy in one.copies:
            ins, outs = ports[copy.model]
            known = {**self._now, **dict(zip(ins, streams, strict=True))}
            for at in places[copy.model]:
                rest = self._calls[at].path.removeprefix(copy.model)
                if not self._append(at, copy.path + rest, known):
                    return False
            streams = [known[place] for place in outs]
        self._now |= dict(zip(ports[one.models[-1]][1], streams, strict=True))
        return True

    def _ports(self, part: range) -> tuple[list[int], list[int]]:
        """Return what passes through a module: the calls before it, and those in it read later.

        Of what it reads, the last are those that the block before it wrote.
        """
        behind = {at for at in part if self._read_last.get(at, at) >= part.stop}
        before = {
            source for at in part for source in self._calls[at].sources if source < part.start
        }
        outs = sorted(behind) or [part[-1]]
        return sorted(before)[-len(outs) :], outs

"""The runs from which a base network is understood: with blocks added, at other resolutions.

The first run with some blocks is followed (`trace_module`). At other resolutions the same calls
say nothing new of channels, so that a run which makes them is only counted (`rerun`), and recorded
where runs are (`reshaped`); one that makes others is followed too.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property

from torch import nn

from convscale.complexity.calls import ITEM_BYTES
from convscale.complexity.reshaped import ReshapingRecorder
from convscale.complexity.shapes import ShapeRecorder
from convscale.errors import UnscalableNetworkError
from convscale.network.modules.copies import meta_copy
from convscale.network.modules.pausing import collector_at_rest
from convscale.network.modules.walking import walk
from convscale.network.resolution.map_sizes import Sure
from convscale.network.resolution.sizing import Sizing, Told
from convscale.network.resolution.unfollowed import unfollowed
from convscale.network.running.execution import ForwardError, Observer
from convscale.network.running.feeding import Feed
from convscale.network.running.given import grows, resized, staying
from convscale.network.running.lookups import Lookups
from convscale.network.running.unread import Named, unread
from convscale.network.sources.inputs import ExampleInputs
from convscale.network.stages.likewise import Copies
from convscale.network.stages.reaching import Reach
from convscale.network.stages.repeats import without_repeats
from convscale.network.stages.stages import join
from convscale.network.tracing.rerun import Run, again
from convscale.network.tracing.trace import Trace, trace_module
from convscale.prediction.predict import ELEMENTS
from convscale.quantities import Resolution, format_resolution
from convscale.scaling.building.adapting import adapt
from convscale.scaling.building.depth import apply_depth
from convscale.scaling.depths.deepening import Deepening
from convscale.scaling.depths.telling import shows_alike, traced_likewise
from convscale.scaling.depths.trying import (
    IdleBlockError,
    added_paths,
    beside_paths,
    idle_among,
    unread_among,
)
from convscale.scaling.plans.plan import DepthEdit, flat
from convscale.scaling.variants.closed_form import ClosedForm
from convscale.scaling.variants.variant import Traced

Shape = tuple[int, ...]


@dataclass(frozen=True)
class _Ask:
    """What is to be run: blocks added to some stages, a side, and what was made for that side."""

    models: tuple[DepthEdit, ...]
    resolution: Resolution
    deepening: Deepening | None
    told: Told | None = None


class Runs:
    """Run a base network with blocks added and at other resolutions, each once.

    Args:
        module: The base network on the meta device, a copy of our own.
        resolution: Base resolution in px.
        in_chans: Input channels; read from the module if not given.
        given: What the user gives its forward pass, in place of one image.
        sizing: Makes the network for other resolutions, where its constructor takes one.
        watch: Others who see the run of the base network.
        records: Whether runs keep their calls for any widths (`Traced.sized`).

    Raises:
        ForwardError: If the network does not run, or cannot be followed.

    Example:
        >>> runs = Runs(nn.Conv2d(3, 8, 3, device="meta"), 8)
        >>> runs.run((), 10, None).trace.terms[0].flops
        13824
    """

    @collector_at_rest()
    def __init__(
        self,
        module: nn.Module,
        resolution: Resolution,
        *,
        in_chans: int | None = None,
        given: ExampleInputs | None = None,
        sizing: Sizing | None = None,
        watch: tuple[Observer, ...] = (),
        records: bool = False,
    ) -> None:
        self.module = module
        self.resolution = resolution
        self.sizing = sizing
        self._in_chans = in_chans
        self._given = given
        self._records = records
        self._known: dict[object, Traced | UnscalableNetworkError] = {}
        self._checked: dict[tuple[DepthEdit, ...], UnscalableNetworkError | None] = {}
        self._unread: dict[tuple[Named, ...], tuple[Named, ...]] = {}
        self._alike: bool | None = None  # whether runs show what is told of them; not tried yet
        lookups, sure = Lookups(), Sure()
        recorders = self._recorders()
        self.trace = trace_module(
            meta_copy(module, run=True),
            resolution,
            in_chans=in_chans,
            given=given,
            watch=(*watch, lookups, sure, *recorders),
        )
        self._sure = sure.found  # they must be told of other maps, though it may run without
        self._lookups = lookups.positions
        own = _followed(self.trace, (), None, recorders)
        self._followed: dict[tuple[DepthEdit, ...], Traced] = {(): own}

    def _recorders(self) -> tuple[ShapeRecorder, ...]:
        return (ShapeRecorder(item_bytes=ITEM_BYTES[ELEMENTS]),) if self._records else ()

    def run(
        self, models: tuple[DepthEdit, ...], resolution: Resolution, deepening: Deepening | None
    ) -> Traced:
        """Return what a run shows.

        Args:
            models: The blocks that are added and removed.
            resolution: Input side, or all sides, in px.
            deepening: The stages that these are blocks of; None where there are none.

        Raises:
            UnscalableNetworkError: If it does not run, or an added block is not executed.
        """
        key = (models, resolution)
        if key in self._known:
            self._known[key] = self._known.pop(key)  # the last used stand last
        else:
            try:
                self._known[key] = self._made_for(models, resolution, deepening)
            except UnscalableNetworkError as error:
                self._known[key] = _without_frames(error)
        found = self._known[key]
        if isinstance(found, UnscalableNetworkError):
            raise found
        return found

    def forget(self, most: int) -> set[int]:
        """Forget all but the runs that were used last; return the identities of those kept.

        As many are kept of those that were followed as of others, which are found from these
        sooner. What does not run is not forgotten.
        """
        ran = {key: one for key, one in self._known.items() if isinstance(one, Traced)}
        followed = [key for key, one in ran.items() if one.like is None]
        others = [key for key, one in ran.items() if one.like is not None]
        for keys in (followed, others):
            for key in keys[: max(len(keys) - most, 0)]:
                del self._known[key]
        kept = [found for found in self._known.values() if isinstance(found, Traced)]
        models = {(), *(traced.edits for traced in kept)}
        self._followed = {own: traced for own, traced in self._followed.items() if own in models}
        return {id(traced) for traced in (*kept, *self._followed.values())}

    def unfollowed(self, resolution: Resolution) -> str:
        """Say what of the base network does not follow its sides to a resolution; or nothing."""
        window = "" if self.sizing is None else self.sizing.unmoved(resolution)
        if window:
            return window
        module = meta_copy(self.module, run=True)
        return unfollowed(module, self._feed(resolution).inputs(module))

    def unread(self, attributes: tuple[Named, ...]) -> tuple[Named, ...]:
        """Return those attributes, each a module's path and a name, that no forward pass reads."""
        if attributes not in self._unread:
            feed = self._feed(self.resolution)
            self._unread[attributes] = unread(self.module, feed, attributes)
        return self._unread[attributes]

    def cropped(self, resolution: Resolution) -> str:
        """Say which size in the code should have followed to a resolution; or nothing."""
        if not self._sure or self.sizing is None or resolution == self.resolution:
            return ""
        return self.sizing.cropped(resolution)

    def check(self, models: tuple[DepthEdit, ...], deepening: Deepening) -> None:
        """Run the network with blocks added at its own resolution, and follow nothing.

        Raises:
            UnscalableNetworkError: If it does not run, or an added block is not executed.
        """
        followed = (models, self.resolution) in self._known
        if followed or self.trace.script is None or self._given is not None:
            self.run(models, self.resolution, deepening)
            return
        if models not in self._checked:
            try:
                self._check(models, deepening)
                self._checked[models] = None
            except UnscalableNetworkError as error:
                self._checked[models] = error
        refused = self._checked[models]
        if refused is not None:
            raise refused

    def _check(self, models: tuple[DepthEdit, ...], deepening: Deepening) -> None:
        reach = self._reach(models)
        self._check_seen(models, self._seen(_Ask(models, self.resolution, deepening), (reach,)))
        self._check_read(models, reach)

    def _check_seen(self, models: tuple[DepthEdit, ...], seen: Run) -> None:
        self._check_positions(seen.output_shapes, seen.shapes, self.trace.features)
        self._check_channels(models, seen.output_shapes)
        self._check_inputs(models, seen.shapes)
        self._check_idle(models, seen.calls)

    def _made_for(
        self, models: tuple[DepthEdit, ...], resolution: Resolution, deepening: Deepening | None
    ) -> Traced:
        """Run the base network, or where it is built for one size, itself built for this one."""
        ask = _Ask(models, resolution, deepening)
        if (found := self._read_off(ask) or self._likewise(ask)) is not None:
            return found
        sizing = None if resolution == self.resolution else self.sizing
        if sizing is not None and sizing.bound:
            told = sizing.at(resolution)
            if told is None:
                raise UnscalableNetworkError(
                    f"Its constructor does not take {format_resolution(resolution)} px."
                )
            return self._traced(replace(ask, told=told))
        if self._sure and sizing is not None and (told := sizing.at(resolution)) is not None:
            return self._traced(replace(ask, told=told))
        try:
            return self._traced(ask)
        except UnscalableNetworkError:
            told = None if sizing is None else sizing.at(resolution)
            if told is None:
                raise
        return self._traced(replace(ask, told=told))

    def _traced(self, ask: _Ask) -> Traced:
        if ask.told is not None and ask.told.failed is not None:
            raise UnscalableNetworkError(_not_running(ask.resolution, ask.told.failed))
        if not ask.models and ask.resolution == self.resolution:
            return self._followed[()]
        found = self._again(ask)
        if found is None and (found := self._repeated(ask)):
            return found
        if found is None:
            found = self._follow(ask)
            self._followed.setdefault(ask.models, found)
        self._check_idle(ask.models, found.trace.calls)
        self._check_vectors(ask, found.trace)
        return found

    def _check_vectors(self, ask: _Ask, trace: Trace) -> None:
        """Refuse outputs without positions that are as long as a map has positions now."""
        own = self.trace
        outputs = zip(own.output_shapes, trace.output_shapes, own.vectors, strict=False)
        for old, new, is_vector in outputs:
            if ask.resolution != self.resolution and is_vector and old != new:
                raise UnscalableNetworkError(
                    f"The network gives {'x'.join(map(str, new))} numbers at "
                    f"{format_resolution(ask.resolution)} px, not {'x'.join(map(str, old))}."
                )

    def _again(self, ask: _Ask) -> Traced | None:
        """Run what was followed at another resolution; None where it must be followed again."""
        known = self._followed.get(ask.models)
        if known is None or known.trace.script is None or self._given is not None:
            return None
        recorder = None
        if known.sized is not None:
            recorder = ReshapingRecorder(known.sized, item_bytes=ITEM_BYTES[ELEMENTS])
        watch = () if recorder is None else (recorder,)
        seen = self._seen(ask, watch)
        trace = again(known.trace, ask.resolution, seen)
        sized = None if recorder is None else recorder.sized()
        if trace is None or (recorder is not None and sized is None):
            return None
        return Traced(
            trace, ask.models, known.form.with_scales(trace.terms), ask.told, sized, known
        )

    def _read_off(self, ask: _Ask) -> Traced | None:
        """Return the base network's run at a side, for copies of blocks that do not run there.

        None where they must run: where they ran otherwise than their blocks at the base's side, or
        a block changes the shape of what it takes. Only where runs are recorded, which are many.
        """
        if not self._records or not ask.models or ask.resolution == self.resolution:
            return None
        try:
            home = self.run(ask.models, self.resolution, ask.deepening)
        except UnscalableNetworkError:  # a side at which they run may yet be found
            return None
        if home.edits:
            return None
        own = self.run((), ask.resolution, None)
        borders = [own.trace.border(block) for block in _copies(ask.models).values()]
        alike = all(one is not None and one.input_shape == one.output_shape for one in borders)
        return own if alike and own.like is self._followed[()] else None

    def _likewise(self, ask: _Ask) -> Traced | None:
        """Return what copies of blocks show at a side, from their run here and the base's there.

        None where they must run. Only where runs are recorded, which are many; the first of them
        is run as well, and where it shows something else, all others are.
        """
        copies = _copies(ask.models)
        if not self._records or not copies or ask.resolution == self.resolution:
            return None
        if self._alike is False or self._given is not None:
            return None
        try:
            home = self.run(ask.models, self.resolution, ask.deepening)
        except UnscalableNetworkError:  # a side at which they run may yet be found
            return None
        own = self.run((), ask.resolution, None)
        if own.told is not None or own.like is not self._followed[()] or not home.edits:
            return None
        found = traced_likewise(home, self._followed[()], own, Copies(copies))
        if found is not None and self._alike is None:
            seen = self._again(ask)
            self._alike = seen is not None and shows_alike(found, seen)
            return seen
        return found

    def _repeated(self, ask: _Ask) -> Traced | None:
        """Run copies of blocks, and read the base network off it where they run as these do.

        None where they must be followed themselves.
        """
        known = self._followed[()]
        copies = _copies(ask.models)
        if ask.deepening is None or known.trace.script is None or self._given is not None:
            return None
        if self._records and ask.resolution != self.resolution:
            return None  # what is not recorded here tells nothing of the calls there
        if not copies or ask.deepening.exact(ask.models):
            return None
        if not all(_is_one_width(known.trace, block) for block in copies.values()):
            return None
        reach = self._reach(ask.models)
        seen = self._seen(ask, (reach,))
        if ask.resolution == self.resolution:
            self._check_seen(ask.models, seen)
        self._check_read(ask.models, reach)
        rest = without_repeats(seen, copies)
        trace = None if rest is None else again(known.trace, ask.resolution, rest)
        if trace is None:
            return None
        form = known.form.with_scales(trace.terms)
        return Traced(trace, (), form, ask.told, known.sized, known)

    def _seen(self, ask: _Ask, watch: tuple[Observer, ...] = ()) -> Run:
        """Run the network and follow nothing; return what it showed."""
        with _saying(ask.resolution):
            module = self._prepared(ask)
            return Run(module, self._feed(ask.resolution), (Lookups(self._lookups), *watch))

    def _follow(self, ask: _Ask) -> Traced:
        """Run the network and follow its channels."""
        recorders = self._recorders()
        reach = self._reach(ask.models)
        watch = (reach, *recorders) if ask.models else recorders
        with _saying(ask.resolution):
            trace = trace_module(
                self._prepared(ask),
                ask.resolution,
                in_chans=self._in_chans,
                given=self._given_at(ask.resolution),
                watch=(Lookups(self._lookups), *watch),
            )
        if self.trace.trains and not trace.trains:
            raise UnscalableNetworkError(
                f"The network does not train at {format_resolution(ask.resolution)} px."
            )
        if ask.resolution == self.resolution:
            shapes = {
                path: (border.input_shape, border.output_shape)
                for path, border in trace.borders.items()
            }
            self._check_positions(trace.output_shapes, shapes, trace.features)
            self._check_channels(ask.models, trace.output_shapes)
            self._check_inputs(ask.models, shapes)
        self._check_read(ask.models, reach)
        return _followed(trace, ask.models, ask.told, recorders)

    def _prepared(self, ask: _Ask) -> nn.Module:
        """Return a copy of the base network with blocks added; dense ones take what arrives."""
        module = meta_copy(self.module if ask.told is None else ask.told.module, run=True)
        if ask.models:
            assert ask.deepening is not None
            apply_depth(module, ask.models)
            ask.deepening.shape_made(module, ask.models)
            if ask.deepening.exact(ask.models):
                adapt(module, self._feed(ask.resolution).inputs(module))
        return module

    def _feed(self, resolution: Resolution) -> Feed:
        """Return what the network is run on at a resolution."""
        given = self._given_at(resolution)
        return Feed(None if given is not None else resolution, in_chans=self._in_chans, given=given)

    @cached_property
    def sided(self) -> bool:
        """Whether what the network is run on grows with the resolution."""
        given = self._given
        return given is None or grows(self.module, given, self.resolution)

    def staying(self, resolution: Resolution) -> tuple[str, ...]:
        """Return the inputs given, of those with sides, that are as large at another resolution."""
        given = self._given
        if given is None or resolution == self.resolution:
            return ()
        return staying(self.module, given, self.resolution, resolution)

    def _given_at(self, resolution: Resolution) -> ExampleInputs | None:
        """Return the inputs given, at a resolution."""
        given = self._given
        return None if given is None else resized(given, self.resolution, resolution)

    def _check_positions(
        self,
        output_shapes: tuple[Shape, ...],
        shapes: Mapping[str, tuple[Shape, Shape]],
        features: tuple[int | None, ...],
    ) -> None:
        """Refuse added blocks that change the output, or the positions of any feature map."""
        own = self.trace
        if len(output_shapes) != len(own.output_shapes) or _kept_sizes(
            output_shapes, features
        ) != _kept_sizes(own.output_shapes, own.features):
            raise UnscalableNetworkError("The output changes its shape with the depth.")
        for path, border in own.borders.items():
            if path in shapes and shapes[path][1][2:] != border.output_shape[2:]:
                raise UnscalableNetworkError(
                    f"A block that is added changes the resolution of {path or 'the network'}."
                )

    def _check_channels(
        self, models: tuple[DepthEdit, ...], output_shapes: tuple[Shape, ...]
    ) -> None:
        """Refuse added blocks with which a feature map has other channels; of dense ones, fewer.

        They show that the forward pass puts out what blocks of some numbers do, which others
        have now.
        """
        edits = tuple(flat(models))
        if not any(edit.added for edit in edits):
            return
        dense = any(edit.mode == "dense" for edit in edits)
        outputs = zip(output_shapes, self.trace.output_shapes, self.trace.features, strict=True)
        for place, (shape, own, axis) in enumerate(outputs, start=1):
            if axis is None or shape[axis] == own[axis] or (dense and shape[axis] > own[axis]):
                continue
            raise UnscalableNetworkError(
                f"Output {place} has {shape[axis]} channels with it in place of {own[axis]}."
            )

    def _check_inputs(
        self, models: tuple[DepthEdit, ...], shapes: Mapping[str, tuple[Shape, Shape]]
    ) -> None:
        """Refuse added blocks with which any module takes less than it did.

        Among dense blocks each takes all that it took, and more. Less shows that the forward pass
        reads blocks by their numbers, which tell others now.
        """
        if any(edit.removed for edit in flat(models)):
            return
        for path, border in self.trace.borders.items():
            if path in shapes and math.prod(shapes[path][0]) < math.prod(border.input_shape):
                raise UnscalableNetworkError(
                    f"A block that is added takes channels from {path or 'the network'}."
                )

    def _check_idle(self, models: tuple[DepthEdit, ...], calls: Mapping[str, int]) -> None:
        """Refuse added blocks that are not executed."""
        idle = idle_among(models, self.module, before=self.trace.calls, after=calls)
        if idle:
            raise IdleBlockError(idle)
        gone = tuple(f"{join(e.container, name)}." for e in flat(models) for name in e.removed)
        lost = (path for path in self.trace.calls if path not in calls)
        for path in lost:
            if not f"{path}.".startswith(gone):
                raise UnscalableNetworkError(f"With it {path or 'the network'} is not run.")

    @cached_property
    def _lost(self) -> frozenset[str]:
        """The modules of the base network of which nothing that they compute reaches an output."""
        reach = Reach(path for path, _ in walk(self.module) if path)
        Run(meta_copy(self.module, run=True), self._feed(self.resolution), (reach,))
        return reach.lost

    def _reach(self, models: tuple[DepthEdit, ...]) -> Reach:
        return Reach((*added_paths(models), *beside_paths(models, self.module)))

    def _check_read(self, models: tuple[DepthEdit, ...], reach: Reach) -> None:
        """Refuse added blocks that change no output, and those with which others change none."""
        beside = frozenset(beside_paths(models, self.module))
        pushed = reach.lost & beside
        if not pushed and not unread_among(models, reach.lost):
            return
        unread = unread_among(models, reach.lost, self._lost)
        if unread:
            raise IdleBlockError(unread, unread=True)
        for path in sorted(pushed - self._lost):
            raise UnscalableNetworkError(f"With it what {path} puts out reaches no output.")


@contextmanager
def _saying(resolution: Resolution) -> Iterator[None]:
    """Say of a run that fails at which resolution it does."""
    try:
        yield
    except ForwardError as error:
        raise UnscalableNetworkError(_not_running(resolution, error.reason)) from error


def _not_running(resolution: Resolution, reason: str) -> str:
    return f"The network does not run at {format_resolution(resolution)} px: {reason}."


def _without_frames(error: UnscalableNetworkError) -> UnscalableNetworkError:
    """Let an error go of the frames that it came through, which hold networks."""
    one: BaseException | None = error
    while one is not None:
        one.__traceback__ = None
        one = one.__cause__ or one.__context__
    return error


def _copies(models: tuple[DepthEdit, ...]) -> dict[str, str]:
    """Return the blocks that added ones are copies of; empty where one is made otherwise."""
    edits = tuple(flat(models))
    if any(edit.repetition is not None or edit.removed for edit in edits):
        return {}
    return {
        join(edit.container, name): join(
            edit.container, edit.template[position % len(edit.template)]
        )
        for edit in edits
        for position, name in enumerate(edit.added)
    }


def _is_one_width(trace: Trace, block: str) -> bool:
    """Tell whether what a block takes and what it puts out grow alike.

    They are the same channels, or each is the width of a layer; what is put together may differ.
    """
    border = trace.borders.get(block)
    if border is None or border.input_units is None or border.output_units is None:
        return True
    sides = (border.input_units, border.output_units)
    before, after = (trace.channels.composition(units) for units in sides)
    return before == after or all(len(side) == 1 == side[0][1] for side in (before, after))


def _kept_sizes(shapes: tuple[Shape, ...], features: tuple[int | None, ...]) -> list[Shape]:
    """Return the shapes of outputs, without the channels of feature maps."""
    return [
        shape if axis is None else (*shape[:axis], *shape[axis + 1 :])
        for shape, axis in zip(shapes, features, strict=False)
    ]


def _followed(
    trace: Trace,
    models: tuple[DepthEdit, ...],
    told: Told | None,
    recorders: tuple[ShapeRecorder, ...],
) -> Traced:
    """Return what a run shows that was followed, and recorded where recorders saw it."""
    sized = recorders[0].sized(trace.channels) if recorders else None
    return Traced(trace, models, ClosedForm(trace), told, sized)

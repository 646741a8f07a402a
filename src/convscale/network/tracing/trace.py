"""Run a network once and keep what scaling needs: units, products, and the borders of modules."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import prod
from typing import Any

import torch
from torch import nn

from convscale.errors import UnscalableNetworkError
from convscale.network.channels.activations import Read, bend_of
from convscale.network.channels.adapters import adapter_of, tie_adapted
from convscale.network.channels.channels import Channels, find_channels
from convscale.network.channels.contractions import Contraction, Extent
from convscale.network.channels.keeping import Kept, kept_layers, not_understood
from convscale.network.channels.labels import Label, Labels, distinct, find_along, varying, vector
from convscale.network.channels.outputs import Scores, is_vector
from convscale.network.channels.products import bind, contractions, is_free
from convscale.network.channels.relations import (
    RULES,
    VIEWS,
    by_shape,
    like_convolution,
    settle_merged,
)
from convscale.network.channels.shaping import SHAPING, Shaped, along_dimension, cut, shaped_call
from convscale.network.channels.ties import Ties, take_values, tensors_in
from convscale.network.channels.uncalled import idle_layers, let_grow
from convscale.network.modules.numbers import FLOAT, Number, Size, install
from convscale.network.modules.walking import walk
from convscale.network.running.execution import ForwardError, Observer, passed, run
from convscale.network.running.feeding import Feed
from convscale.network.sources.inputs import ExampleInputs, Inputs, channel_axis, first_image
from convscale.network.tracing.bare_lists import list_borders
from convscale.quantities import Resolution

# Functions whose result has the channels of their input, whatever operators they are made of.
_SHAPE = torch.Tensor.shape.__get__  # type: ignore[attr-defined]
ELEMENTWISE = frozenset(("local_response_norm",))
_PLAIN_TENSORS = (torch.Tensor, nn.Parameter)


@dataclass(frozen=True)
class TensorAxes:
    """A parameter or buffer: its names, shape, and the units of each axis (None for size 1).

    Example:
        >>> import numpy as np
        >>> TensorAxes(("bias",), (3,), True, (np.arange(3),)).names
        ('bias',)
    """

    names: tuple[str, ...]
    shape: tuple[int, ...]
    is_parameter: bool
    units: tuple[Label | None, ...]


@dataclass(frozen=True)
class Term:
    """Flops and acts of one call, as a constant times numbers of units.

    Example:
        >>> import numpy as np
        >>> Term("fc", "addmm", 1, (np.arange(3), np.arange(4)), 1, (np.arange(3),)).path
        'fc'
    """

    path: str
    operator: str
    flops_scale: int
    flops_units: tuple[Label, ...]
    acts_scale: int
    acts_units: tuple[Label, ...]

    @property
    def flops(self) -> int:
        """Flops of the call in the network that was run."""
        return self.flops_scale * prod(len(units) for units in self.flops_units)


@dataclass(frozen=True)
class Border:
    """A module that took one tensor and gave one: identities, shapes and channel units.

    Of several calls it is the last one. Of a tuple that is given the first tensor counts.

    Example:
        >>> Border("stem", 0, 1, 2, (1, 3, 8, 8), (1, 4, 8, 8), None, None).path
        'stem'
    """

    path: str
    order: int
    input_id: int
    output_id: int
    input_shape: tuple[int, ...]
    output_shape: tuple[int, ...]
    input_units: Label | None
    output_units: Label | None


@dataclass(frozen=True)
class Trace:
    """What one run of a network shows.

    `channels` answers how many units an axis has for given sizes; `grouped` holds, for each
    module path, the input units of its grouped convolution and the units of a group (None
    for depthwise); `normalized` the units of layer norms; `adapted` those that attributes of
    layers with an adapter count; `shaped` the calls that name sizes
    and `compared` the outcomes of comparisons with attributes, in their order; `reads` every call
    of a function with the labels of the maps that it reads. `features` holds
    for each output the dimension of its channels where it is a feature map, whose channels
    scale, and None where it stays; `vectors` tells which outputs hold a number for each channel,
    and none for positions. `trains` tells that parts run in training only, and that a
    training pass was followed too; `trained` are the calls that name sizes there; `untrained` the
    layers that run in training only, where such a pass failed behind them; `lists` holds the
    borders of blocks that are lists of modules. `idle` are the layers whose weights nothing reads,
    in training neither. `kept` lists the layers that an operator keeps at their width, `embeddings`
    the outputs (from 0) that stay though other layers read them too. `script` lists the operators
    that ran, each with its module, where a run at another resolution that calls the same ones says
    nothing new of channels; None where it may (see `rerun`).

    Example:
        >>> trace_module(nn.Conv2d(3, 8, 3), 8).terms[0].path
        ''
    """

    resolution: Resolution
    tensors: tuple[TensorAxes, ...]
    terms: tuple[Term, ...]
    borders: dict[str, Border]
    calls: dict[str, int]
    output_shapes: tuple[tuple[int, ...], ...]
    features: tuple[int | None, ...]
    vectors: tuple[bool, ...]
    opaque: tuple[tuple[str, str], ...]
    normalized: dict[str, Label]
    grouped: dict[str, tuple[Label, Label | None]]
    adapted: dict[str, dict[str, Label]]
    shaped: dict[str, list[Shaped | None]]
    compared: dict[str, list[bool]]
    reads: dict[str, list[Read]]
    channels: Channels
    trains: bool = False
    untrained: tuple[str, ...] = ()
    idle: tuple[str, ...] = ()
    lists: dict[str, Border] = field(default_factory=dict)

    def border(self, path: str) -> Border | None:
        """Return the border of a module that is called, or of a list that is a block."""
        return self.borders.get(path) or self.lists.get(path)

    kept: tuple[Kept, ...] = ()
    embeddings: tuple[int, ...] = ()
    script: tuple[tuple[str, Any], ...] | None = None
    trained: dict[str, list[Shaped | None]] = field(default_factory=dict)

    @property
    def flops(self) -> int:
        """Flops (multiply-adds) of the run."""
        return sum(term.flops for term in self.terms)


class _Recorder(Observer):
    """Follow labels through a run, and note products and borders."""

    def __init__(self, module: nn.Module) -> None:
        self.ties = Ties()
        self.tensors = _label_tensors(self.ties, module)
        parameters, buffers = tuple(module.parameters()), tuple(module.buffers())
        self.scores = Scores((*parameters, *buffers))
        self.terms: list[Term] = []
        self.borders: dict[str, Border] = {}
        self._left = 0  # how often a module gave a tensor
        self.calls: dict[str, int] = {}
        self.opaque: list[tuple[str, str]] = []
        self.normalized: dict[str, Label] = {}
        self.grouped: dict[str, tuple[Label, Label | None]] = {}
        self.adapted: dict[str, dict[str, Label]] = {}
        self.shaped: dict[str, list[Shaped | None]] = {}
        self.trained: dict[str, list[Shaped | None]] = {}
        self.compared: dict[str, list[bool]] = {}
        self.reads: dict[str, list[Read]] = {}
        held = (buffer for buffer in buffers if buffer.numel() > 1)
        self.untrained: list[str] = []
        self.untouched = {id(tensor): tensor for tensor in (*parameters, *held)}
        self.script: list[tuple[str, Any]] = []
        self.aside = False  # while aside, units are tied, but what runs is no part of the trace
        self._paused = self._inside = False
        install(module, self._compare)

    def visit(
        self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any, path: str
    ) -> None:
        if self._paused:
            return
        bound = bind(func, args, kwargs)
        given, made = tensors_in(bound), tensors_in(output)
        self.script.append((path, func))
        self.ties.here = (path, f"{func.namespace}.{func._opname}")
        if self.untouched:
            for tensor in given:
                self.untouched.pop(id(tensor), None)
        settle_merged(self.ties, func._opname, bound)
        rule = RULES.get(func._opname) if func.namespace == "aten" else None
        if rule is not None:
            rule(self.ties, func, bound, output)
        elif (
            not (is_free(func) and not given)
            and not (func.namespace != "aten" and like_convolution(self.ties, bound, output))
            and not by_shape(self.ties, func, bound, output)
            and not self.aside
            and not self.ties.lenient
        ):
            self.opaque.append((path, f"{func.namespace}.{func._opname}"))
        if self._inside and func._opname in VIEWS:
            cut(self.ties, bound["self"], output)
        self.ties.pass_on_product(given, made)
        self.scores.visit(self.ties, func._opname, bound, output)
        self._note_sizes(func._opname, bound, path)
        self.ties.here = None
        if not self.aside and (found := contractions(func, bound, output)):
            self.terms += _terms(self.ties, func._opname, found, path, self.times)

    def repeats(self, x: torch.Tensor, dim: int) -> bool:
        known = (*self.ties.labels(x), *self.ties.merged(x))
        return all(dim not in varying(label) for label in known)

    def handle(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], path: str) -> Any:
        """Make a call, and note the sizes that it names."""
        name = getattr(func, "__name__", "")
        read = Read(name, self._read(args), bend_of(name, args, kwargs))
        if not self.aside:
            self.reads.setdefault(path, []).append(read)
        if name in ELEMENTWISE:
            self._paused = True  # its operators move channels about, and give them back
            output = func(*args, **kwargs)
            self._paused = False
            self.ties.set_labels(output, self.ties.labels(args[0]))
            return output
        if func == _SHAPE or name == "size":
            return self._sizes(args[0], func(*args, **kwargs), *args[1:], *kwargs.values())
        if name == "__set__":
            take_values(self.ties, args)
        self._inside = name not in SHAPING  # of what it does in Python, arguments are not seen
        output = func(*args, **kwargs)
        self._inside = False
        for made in tensors_in(output):
            self.adopt(made)
        if name == "expand_as":
            self._repeat_as(output, args[1])
        if name in SHAPING:
            self.ties.here = (path, name)
            found = shaped_call(self.ties, name, (*args, *kwargs.values()), output)
            self.ties.here = None
            kept = self.trained if self.aside else self.shaped
            kept.setdefault(path, []).append(found)
        return output

    def adopt(self, tensor: torch.Tensor, *, plain: bool = False) -> None:
        """Take a tensor of a class of its own, made unseen, for the one that it was made of."""
        if (plain or type(tensor) not in _PLAIN_TENSORS) and not self.ties.is_known(tensor):
            source = self.ties.liken(tensor)
            if source is not None:
                self.scores.visit(self.ties, "alias", {"self": source}, tensor)

    def _read(self, args: Sequence[Any]) -> Labels:
        """Return the labels of maps among arguments; it is asked at every call."""
        found: Labels = ()
        for value in args:
            if isinstance(value, torch.Tensor):
                self.adopt(value)
                found += () if type(value) is nn.Parameter else self.ties.labels(value)
            elif type(value) in (list, tuple):
                found += self._read(value)
        return found

    def _repeat_as(self, output: torch.Tensor, other: torch.Tensor) -> None:
        """Let a tensor have as many channels as another, along what it is repeated."""
        own = self.ties.labels(output)
        known = {dim for label in own for dim in varying(label)}
        more = (label for label in self.ties.labels(other) if not known & varying(label))
        self.ties.set_labels(output, (*own, *more))

    def _sizes(self, x: torch.Tensor, found: Any, dim: int | None = None) -> Any:
        """Let the sizes of channels that the code reads off a tensor keep what they count."""
        if dim is not None:
            return self._size(x, dim % x.ndim)
        return torch.Size([self._size(x, dim) for dim in range(x.ndim)]) if x.ndim else found

    def _size(self, x: torch.Tensor, dim: int) -> int:
        size = torch.Tensor.size(x, dim)
        units = find_along(self.ties.labels(x), dim, size)
        return size if units is None or size < 2 else Size.of(size, units)

    def _compare(self, number: Number, question: str, other: Any, answer: bool) -> bool:
        del other
        if question != FLOAT and number.place is not None and not self.aside:
            self.compared.setdefault(number.place.module, []).append(answer)
        return answer

    def _note_sizes(self, operator: str, bound: dict[str, Any], path: str) -> None:
        """Keep what a module's attributes must say: groups, and normalised widths."""
        if self.aside and (path in self.grouped or path in self.normalized):
            return
        if operator == "convolution" and bound["groups"] > 1:
            weight = bound["weight"]
            depthwise = weight.shape[:2] == (bound["groups"], 1)
            units = find_along(self.ties.labels(bound["input"]), 1, bound["input"].shape[1])
            if units is not None and (depthwise or not bound["transposed"]):
                width = find_along(self.ties.labels(weight), 1, weight.shape[1])
                self.grouped[path] = (units, width)
        elif operator == "native_layer_norm":
            x = bound["input"]
            units = find_along(self.ties.labels(x), x.ndim - 1, x.shape[-1])
            if units is not None and len(bound["normalized_shape"]) == 1:
                self.normalized[path] = units

    def enter(self, path: str, module: nn.Module, inputs: tuple[Any, ...]) -> None:
        del path, inputs
        self.ties.lenient += adapter_of(module) is not None

    def leave(self, path: str, module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        adapter = adapter_of(module)
        if adapter is not None:
            self.ties.lenient -= 1
            self.adapted[path] = tie_adapted(self.ties, adapter, path, module, inputs, output)
        if self.aside:
            return
        self.calls[path] = self.calls.get(path, 0) + 1
        if (ends := passed(inputs, output)) is None:
            return
        x, output = ends
        self._left += 1
        self.borders[path] = Border(
            path,
            self._left,
            id(x),
            id(output),
            tuple(x.shape),
            tuple(output.shape),
            self._units(x),
            self._units(output),
        )

    def _units(self, tensor: torch.Tensor) -> Label | None:
        """Return the units of a feature map, whichever dimension its channels lie in."""
        labels = self.ties.labels(tensor)
        lone = [label for label in labels if len(varying(label)) == 1]
        return lone[0].reshape(-1) if len(lone) == 1 else None


def trace_module(
    module: nn.Module,
    resolution: Resolution,
    *,
    in_chans: int | None = None,
    given: ExampleInputs | None = None,
    watch: tuple[Observer, ...] = (),
) -> Trace:
    """Run a module of our own (a copy, on the meta device or not) and follow its channels.

    Args:
        module: The module.
        resolution: Input side, or all sides, in px.
        in_chans: Input channels; read from the module if not given.
        given: What the user gives its forward pass, in place of one image.
        watch: Others who see the run.

    Raises:
        UnscalableNetworkError: If the network gives no tensor.

    Example:
        >>> trace = trace_module(nn.Conv2d(3, 8, 3, device="meta"), 8)
        >>> trace.output_shapes
        ((1, 8, 6, 6),)
    """
    recorder = _Recorder(module)
    ties = recorder.ties
    feed = Feed(None if given is not None else resolution, in_chans=in_chans, given=given)
    inputs = labelled(ties, module, feed)
    for observer in watch:
        observer.follow(ties)
    output = run(
        module, inputs.args, recorder, *watch, keywords=inputs.kwargs, handle=recorder.handle
    )
    results = tensors_in(output)
    if not results:
        raise UnscalableNetworkError(f"{type(module).__name__} returned no tensor.")
    for tensor in results:
        recorder.adopt(tensor, plain=True)
    ties.settle_merged(results)
    features = recorder.scores.settle(ties, results)
    embeddings = recorder.scores.embeddings
    unread = recorder.scores.unread(results)
    let_grow(ties, module, recorder.calls, recorder.untouched)
    plain = not recorder.untouched and not recorder.adapted and not unread
    trains = bool(recorder.untouched or unread) and _follow_training(
        recorder, module, labelled(ties, module, feed, batch=2), unread
    )
    channels = find_channels(ties, _places(recorder), _axes(recorder))
    layers = ((t.path, t.operator, t.flops, t.acts_units) for t in recorder.terms)
    return Trace(
        resolution=resolution,
        tensors=recorder.tensors,
        terms=tuple(recorder.terms),
        borders=recorder.borders,
        calls=recorder.calls,
        output_shapes=tuple(tuple(tensor.shape) for tensor in results),
        features=tuple(
            axis if axis is not None and _scales(ties, channels, tensor) else None
            for axis, tensor in zip(features, results, strict=True)
        ),
        vectors=tuple(is_vector(ties, tensor) for tensor in results),
        opaque=not_understood(ties, channels, recorder.opaque),
        normalized=recorder.normalized,
        grouped=recorder.grouped,
        adapted=recorder.adapted,
        shaped=recorder.shaped,
        compared=recorder.compared,
        reads=recorder.reads,
        channels=channels,
        trains=trains,
        untrained=tuple(recorder.untrained),
        idle=idle_layers(module, recorder.untouched) if recorder.untouched else (),
        lists=list_borders(module, recorder.borders),
        kept=kept_layers(ties, channels, layers),
        embeddings=embeddings,
        script=tuple(recorder.script) if plain else None,
        trained=recorder.trained,
    )


def _scales(ties: Ties, channels: Channels, tensor: torch.Tensor) -> bool:
    return any(channels.scalable(label) for label in ties.labels(tensor))


def labelled(ties: Ties, module: nn.Module, feed: Feed, *, batch: int = 1) -> Inputs:
    """Return inputs, and label the channels of images, whose number stays.

    Without channels an image has no axis of them.

    Example:
        >>> ties = Ties()
        >>> labelled(ties, nn.Conv2d(3, 8, 3), Feed(8)).tensors[0].shape, ties.units
        (torch.Size([1, 3, 8, 8]), 3)
    """
    inputs = feed.inputs(module, batch=batch)
    bare = feed.in_chans == 0
    image = inputs.tensors[0] if feed.given is None else first_image(module, inputs)
    if image is None:
        return inputs
    ties.map_ndim = image.ndim + bare
    axis = 1 if feed.given is None else channel_axis(module, image)
    for tensor in inputs.tensors:
        if tensor.ndim == image.ndim and tensor.shape[axis] > 1 and not bare:
            units = ties.fresh(tensor.shape[axis])
            ties.pin(units)
            ties.set_labels(tensor, (vector(units, axis, tensor.ndim),))
    return inputs


def _follow_training(
    recorder: _Recorder, module: nn.Module, inputs: Inputs, unread: list[torch.Tensor]
) -> bool:
    """Tie the units of what runs, or is put out, in training only, such as a second head.

    Returns:
        Whether something ran that did not run before, or was not read. A network that cannot be
        trained on images alone tells nothing here; its other parameters stay as they are.
    """
    before = dict(recorder.untouched)
    recorder.aside = True
    try:
        output = run(
            module,
            inputs.args,
            recorder,
            keywords=inputs.kwargs,
            handle=recorder.handle,
            training=True,
        )
    except ForwardError:
        names = {id(tensor): name for name, tensor in module.named_parameters()}
        for key in before.keys() - recorder.untouched.keys():
            units = along_dimension(recorder.ties, before[key], 0)
            if before[key].ndim > 1 and units is not None:
                recorder.ties.pin(units)
                recorder.untrained.append(names.get(key, "").rpartition(".")[0])
        for tensor in unread:
            recorder.ties.pin_tensor(tensor)
        return False
    recorder.scores.settle(recorder.ties, tensors_in(output))
    return bool(unread) or len(recorder.untouched) < len(before)


def _label_tensors(ties: Ties, module: nn.Module) -> tuple[TensorAxes, ...]:
    names: dict[int, list[str]] = {}
    tensors: dict[int, torch.Tensor] = {}
    for path, part in walk(module):
        for group in (part._parameters, part._buffers):
            for name, tensor in group.items():
                if tensor is not None:
                    tensors[id(tensor)] = tensor
                    names.setdefault(id(tensor), []).append(f"{path}.{name}".lstrip("."))
    found: list[TensorAxes] = []
    for key, tensor in tensors.items():
        units = tuple(ties.fresh(size) if size > 1 else None for size in tensor.shape)
        labels = tuple(
            vector(own, dim, tensor.ndim) for dim, own in enumerate(units) if own is not None
        )
        ties.set_labels(tensor, labels)
        found.append(
            TensorAxes(
                tuple(names[key]), tuple(tensor.shape), isinstance(tensor, nn.Parameter), units
            )
        )
    return tuple(found)


def _terms(
    ties: Ties, operator: str, found: Sequence[Contraction], path: str, times: int
) -> list[Term]:
    """Write the flops and acts of a call as constants times numbers of units."""
    terms = []
    for one in found:
        outer = _factors(ties, one.outer)
        put_out = outer if one.put_out is None else _factors(ties, one.put_out)
        inner = _factors(ties, one.inner)
        flops, acts = outer[0] * inner[0] * times, put_out[0] * times
        units = (*outer[1], *inner[1])
        terms.append(Term(path, operator, flops, units, acts, tuple(put_out[1])))
    return terms


_Factors = tuple[int, tuple[Label, ...]]


def _factors(ties: Ties, extent: Extent) -> _Factors:
    """Write an extent as a constant times numbers of units."""
    tensor = extent.tensor
    if tensor is None:
        return extent.scale, ()
    chosen = set(range(tensor.ndim) if extent.dims is None else extent.dims)
    constant, units = extent.scale, []
    for label in _restricted(ties.labels(tensor), set(chosen)):
        covered = varying(label)
        if covered <= chosen:  # of several labels along one dimension, one tells its size
            chosen -= covered
            units.append(label.reshape(-1))
    for dim in chosen:
        axes = [distinct(label) for label in ties.merged(tensor) if varying(label) == {dim}]
        if axes and prod(len(own) for own in axes) == tensor.shape[dim]:
            units += axes
        else:
            constant *= tensor.shape[dim]
    return constant, tuple(units)


def _restricted(labels: Labels, dims: set[int]) -> list[Label]:
    """Cut labels to the chosen dimensions, at the first index of the others."""
    found = []
    for label in labels:
        for dim in varying(label) - dims:
            label = label.take([0], axis=dim)
        if varying(label):
            found.append(label)
    return found


def _axes(recorder: _Recorder) -> list[Label]:
    """List the axes of parameters."""
    parameters = [axes for axes in recorder.tensors if axes.is_parameter]
    return [units for axes in parameters for units in axes.units if units is not None]


def _places(recorder: _Recorder) -> list[Label]:
    """List every set of units whose size will be asked for."""
    places = [units for axes in recorder.tensors for units in axes.units if units is not None]
    for term in recorder.terms:
        places += [*term.flops_units, *term.acts_units]
    places += [u for pair in recorder.grouped.values() for u in pair if u is not None]
    places += recorder.normalized.values()
    places += [units for counted in recorder.adapted.values() for units in counted.values()]
    for calls in recorder.shaped.values():
        for call in (call for call in calls if call is not None):
            places += [units for units in call.dims if units is not None]
    places += [u for own in (*recorder.ties.same, *recorder.ties.shared) for u in own]
    places += [units for *ends, _ in recorder.ties.chunked for units in ends]
    places += [units for units, _ in (*recorder.ties.divided, *recorder.ties.dealt)]
    for border in recorder.borders.values():
        places += [u for u in (border.input_units, border.output_units) if u is not None]
    return places

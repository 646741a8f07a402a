"""A plan: everything that turns a base network into a scaled one, as a plain value."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

from convscale.errors import InputError
from convscale.network.channels.activations import Bend
from convscale.network.modules.numbers import Index, Place
from convscale.network.stages.stages import join


@dataclass(frozen=True)
class Repetition:
    """How a stage's repeatable block is made where the stage has none.

    It is a copy of the block `source` with its strides set to 1, attributes and
    parameterless submodules borrowed from the repeated block `model` of another stage. The
    convolutions `padded` get as much padding as keeps the sides of a map, and so do those
    `centred`, transposed ones or of even kernels, whose kernels become odd by a row less.

    Example:
        >>> Repetition("blocks.6.0", None).unstrided
        ()
    """

    source: str
    model: str | None
    unstrided: tuple[str, ...] = ()
    flags: tuple[tuple[str, int | bool], ...] = ()
    borrowed: tuple[str, ...] = ()
    padded: tuple[str, ...] = ()
    centred: tuple[str, ...] = ()


@dataclass(frozen=True)
class DepthEdit:
    """Blocks added to or removed from one stage.

    `added` holds the names of new modules, copies of those of `template` in turn, placed after
    `after`; `removed` the names of modules taken away. In mode `chained` nobody runs the added
    ones but `after`, and others step into the place of removed ones. `paired` are the edits of
    lists that have an entry for every block; `counts` the attributes that hold
    the number of blocks, of which there are `more`, or less. `bend` is what runs before each
    added block, where no module of a block bends.

    Example:
        >>> DepthEdit("layer1", added=("3",), after="2", template=("2",)).removed
        ()
    """

    container: str
    added: tuple[str, ...] = ()
    after: str = ""
    template: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    mode: str = "listed"
    repetition: Repetition | None = None
    paired: tuple[DepthEdit, ...] = ()
    counts: tuple[Place, ...] = ()
    more: int = 0
    bend: Bend | None = None

    @property
    def made(self) -> tuple[str, ...]:
        """The added modules that are made, among those of their blocks that are copies."""
        if self.repetition is None:
            return ()
        period = len(self.template)
        return tuple(
            name
            for position, name in enumerate(self.added)
            if join(self.container, self.template[position % period]) == self.repetition.source
        )


def flat(edits: Iterable[DepthEdit]) -> Iterator[DepthEdit]:
    """Yield edits, and those of lists that have an entry for every block.

    Example:
        >>> own = DepthEdit("scales", added=("3",))
        >>> [edit.container for edit in flat([DepthEdit("blocks", paired=(own,))])]
        ['blocks', 'scales']
    """
    for edit in edits:
        yield edit
        yield from edit.paired


@dataclass(frozen=True)
class Attribute:
    """A new value for an attribute of a module, or for what an index or keys lead to in it.

    Example:
        >>> Attribute("attn", "head_dim", None, 48).value
        48
    """

    module: str
    name: str
    index: Index
    value: int | float


@dataclass(frozen=True)
class Description:
    """A new value for what a module says about itself, inside of an attribute.

    `path` leads from the attribute through keys, indices and attributes to the value.

    Example:
        >>> Description("", ("feature_info", 4, "num_chs"), 3568).path[0]
        'feature_info'
    """

    module: str
    path: tuple[str | int, ...]
    value: int | str | tuple[int, ...] | dict[str, int | str]


@dataclass(frozen=True)
class Plan:
    """The depth edits, then the new shape of every tensor and the attributes that follow.

    `descriptions` are what the network says about itself and no forward pass reads; `statistics`
    the buffers of layers other than norms that the network changes while it trains; `unscaled` the
    weights that an attribute multiplies which follows their fan-in, so that their values need not.

    Example:
        >>> Plan(shapes={"fc.weight": (10, 128)}).as_document()["shapes"]
        {'fc.weight': (10, 128)}
    """

    depth: tuple[DepthEdit, ...] = ()
    shapes: dict[str, tuple[int, ...]] = field(default_factory=dict)
    groups: dict[str, int] = field(default_factory=dict)
    normalized: dict[str, int] = field(default_factory=dict)
    attributes: tuple[Attribute, ...] = ()
    descriptions: tuple[Description, ...] = ()
    statistics: tuple[str, ...] = ()
    unscaled: tuple[str, ...] = ()

    def as_document(self) -> dict[str, Any]:
        """Return the plan as JSON values."""
        return asdict(self)

    @classmethod
    def from_document(cls, document: dict[str, Any]) -> Plan:
        """Read a plan from JSON values.

        Raises:
            InputError: If they are no plan.
        """
        try:
            return cls(
                depth=tuple(_depth_edit(edit) for edit in document["depth"]),
                shapes={str(k): tuple(map(int, v)) for k, v in document["shapes"].items()},
                groups={str(k): int(v) for k, v in document["groups"].items()},
                normalized={str(k): int(v) for k, v in document["normalized"].items()},
                attributes=tuple(_attribute(entry) for entry in document.get("attributes", ())),
                descriptions=tuple(map(_description, document.get("descriptions", ()))),
                statistics=tuple(map(str, document.get("statistics", ()))),
                unscaled=tuple(map(str, document.get("unscaled", ()))),
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise InputError(
                f"The description holds no plan that can be read: {error!r}."
            ) from error


def _attribute(document: dict[str, Any]) -> Attribute:
    index, value = document["index"], document["value"]
    return Attribute(
        module=str(document["module"]),
        name=str(document["name"]),
        index=_index(index),
        value=value if isinstance(value, int) else float(value),
    )


def _place(document: dict[str, Any]) -> Place:
    return Place(str(document["module"]), str(document["attribute"]), _index(document["index"]))


def _index(value: Any) -> Index:
    if isinstance(value, list | tuple):
        return tuple(key if isinstance(key, str) else int(key) for key in value)
    return value if value is None or isinstance(value, str) else int(value)


def _description(document: dict[str, Any]) -> Description:
    value = document["value"]
    return Description(
        module=str(document["module"]),
        path=tuple(key if isinstance(key, int) else str(key) for key in document["path"]),
        value=value if isinstance(value, int | str | dict) else tuple(map(int, value)),
    )


def _bend(document: dict[str, Any] | None) -> Bend | None:
    if document is None:
        return None
    settings = ((str(name), value) for name, value in document["settings"])
    bend = Bend(str(document["function"]), tuple(settings))
    bend.module()
    return bend


def _flag(value: Any) -> int | bool:
    return value if isinstance(value, bool) else int(value)


def _depth_edit(document: dict[str, Any]) -> DepthEdit:
    made = document["repetition"]
    return DepthEdit(
        container=str(document["container"]),
        added=tuple(map(str, document["added"])),
        after=str(document["after"]),
        template=tuple(map(str, document["template"])),
        removed=tuple(map(str, document["removed"])),
        mode=str(document["mode"]),
        repetition=None
        if made is None
        else Repetition(
            source=str(made["source"]),
            model=None if made["model"] is None else str(made["model"]),
            unstrided=tuple(map(str, made["unstrided"])),
            flags=tuple((str(name), _flag(value)) for name, value in made["flags"]),
            borrowed=tuple(map(str, made["borrowed"])),
            padded=tuple(map(str, made.get("padded", ()))),
            centred=tuple(map(str, made.get("centred", ()))),
        ),
        paired=tuple(map(_depth_edit, document.get("paired", ()))),
        counts=tuple(map(_place, document.get("counts", ()))),
        more=int(document.get("more", 0)),
        bend=_bend(document.get("bend")),
    )

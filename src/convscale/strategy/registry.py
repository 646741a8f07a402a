"""The published strategies: each a law or a table, with its rounding, caps and source."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from math import log

from convscale.errors import InputError, UnscalableNetworkError, near_names
from convscale.strategy.rules import Rules
from convscale.strategy.step import Step, step
from convscale.strategy.strategy import Strategy

_NAMED = re.compile(r"(?P<name>[A-Za-z][\w.-]*?)(?:@(?P<entry>[\w.-]+))?")


@dataclass(frozen=True)
class Published:
    """A published strategy: exponents or a table, and what it fixes beside them.

    Where it is a formula, `formula` shares a scale factor s; where it is a table, `entries`
    hold the factors of each of its networks. `elsewhere` names entries that are networks of
    their own and no scaled ones, with where to find them; `raises` the regularisation that
    grows with scale, which is told and not applied.

    Example:
        >>> published("efficientnet-table").entry("b3").own.depth
        1.4
    """

    name: str
    summary: str
    source: str
    raises: str = "nothing"
    rules: Rules = field(default_factory=Rules)
    formula: Strategy | None = None
    entries: tuple[Step, ...] = ()
    elsewhere: tuple[tuple[str, str], ...] = ()

    @property
    def entry_names(self) -> tuple[str, ...]:
        """The names of the entries of a table, in its order."""
        return tuple(found.name.rpartition("@")[2] for found in self.entries)

    def entry(self, name: str) -> Step:
        """Return one entry of a table.

        Raises:
            InputError: If the table has no such entry.
            UnscalableNetworkError: If the entry is a network of its own.
        """
        for known, found in zip(self.entry_names, self.entries, strict=True):
            if known == name.lower():
                return found
        for known, where in self.elsewhere:
            if known == name.lower():
                raise UnscalableNetworkError(
                    f"{self.name}@{known} is no scaled network: it has a list of blocks of its "
                    f"own. Build {where}, or use {self._written()}."
                )
        raise InputError(
            f"Strategy {self.name!r} has no entry {name!r}.{near_names(name, self.entry_names)} "
            f"Write {self._written()}."
        )

    def _written(self) -> str:
        """Say how an entry is written, and which there are."""
        names = self.entry_names
        rest = f" (or {', '.join(names[1:])})" if len(names) > 1 else ""
        return f"{self.name}@{names[0]}{rest}"

    def chosen(self, entry: str | None) -> Strategy:
        """Return the formula, or an entry of the table.

        Raises:
            InputError: If a formula is asked for an entry, or a table for none.
        """
        if self.formula is not None:
            if entry is not None:
                raise InputError(
                    f"Strategy {self.name!r} is a formula and has no entry {entry!r}. "
                    f"Write {self.name}, with a factor or a budget."
                )
            return self.formula
        if entry is None:
            raise InputError(
                f"Strategy {self.name!r} is a table: name one of its entries. "
                f"Write {self._written()}."
            )
        return self.entry(entry)


def formula(name: str, depth: float, width: float, resolution: float, rules: Rules) -> Strategy:
    """Return the strategy that multiplies axes by given factors again and again.

    With factors α, β, γ a step multiplies flops by α·β²·γ², so that e_d = ln α / ln(α·β²·γ²),
    e_w = 2 ln β / ln(α·β²·γ²) and e_r = 2 ln γ / ln(α·β²·γ²). Source: Tan and Le,
    "EfficientNet", arXiv 1905.11946, equation 3.

    Example:
        >>> found = formula("efficientnet", 1.2, 1.1, 1.15, Rules())
        >>> f = found.factors(1.2 * 1.1**2 * 1.15**2)
        >>> round(f.depth, 12), round(f.width, 12), round(f.resolution, 12)
        (1.2, 1.1, 1.15)
    """
    total = log(depth) + 2 * log(width) + 2 * log(resolution)
    shares = (log(depth) / total, 2 * log(width) / total, 2 * log(resolution) / total)
    return Strategy(name, *shares, rules=rules)


def _efficientnet() -> tuple[Published, ...]:
    rules = Rules(rounding="efficientnet")
    source = "Tan, Le, arXiv 1905.11946, and the authors' code"
    rows = {  # width, depth, px
        "b0": (1.0, 1.0, 224),
        "b1": (1.0, 1.1, 240),
        "b2": (1.1, 1.2, 260),
        "b3": (1.2, 1.4, 300),
        "b4": (1.4, 1.8, 380),
        "b5": (1.6, 2.2, 456),
        "b6": (1.8, 2.6, 528),
        "b7": (2.0, 3.1, 600),
        "b8": (2.2, 3.6, 672),
        "l2": (4.3, 5.3, 800),
    }
    second = Rules(rounding="efficientnetv2", max_resolution=512)
    return (
        Published(
            "efficientnet",
            "depth 1.2^φ, width 1.1^φ, resolution 1.15^φ, with φ = ln s / ln 1.92",
            source,
            "dropout .2 to .5",
            rules,
            formula=formula("efficientnet", 1.2, 1.1, 1.15, rules),
        ),
        Published(
            "efficientnet-table",
            "the multipliers of the networks that were shipped, which the formula does not give",
            source,
            "dropout .2 (b0, b1), .3 (b2, b3), .4 (b4, b5), .5 (b6 and larger)",
            rules,
            entries=_steps("efficientnet-table", rows, 224, rules),
        ),
        Published(
            "efficientnetv2",
            "b0 to b3 with EfficientNet's multipliers, widths to the nearest 8; the side is capped",
            "Tan, Le, arXiv 2104.00298, and the authors' code",
            "image size, and augmentation and dropout with it, during training",
            second,
            entries=_steps(
                "efficientnetv2", {n: rows[n] for n in ("b0", "b1", "b2", "b3")}, 224, second
            ),
            elsewhere=tuple(
                (size, f"timm:tf_efficientnetv2_{size}") for size in ("s", "m", "l", "xl")
            ),
        ),
    )


def _steps(
    table: str, rows: Mapping[str, tuple[float, float, float]], side: int, rules: Rules
) -> tuple[Step, ...]:
    """Return the entries of a table of width, depth and px, against a side in px."""
    return tuple(
        step(
            f"{table}@{name}",
            depth=depth,
            width=width,
            resolution=px / side,
            rules=rules,
            side=side if side > 1 else None,
        )
        for name, (width, depth, px) in rows.items()
    )


def _resnet_rs() -> Published:
    base, side = (3, 4, 6, 3), 160
    blocks = {
        50: (3, 4, 6, 3),
        101: (3, 4, 23, 3),
        152: (3, 8, 36, 3),
        200: (3, 24, 36, 3),
        270: (4, 29, 53, 4),
        350: (4, 36, 72, 4),
        420: (4, 44, 87, 4),
    }
    sides = {
        50: (160,),
        101: (160, 192),
        152: (192, 224, 256),
        200: (256,),
        270: (256,),
        350: (256, 320),
        420: (320,),
    }
    entries = tuple(
        step(
            f"resnet-rs@{size}-{px}",
            depth=sum(blocks[size]) / sum(base),
            resolution=px / side,
            stage_depth=tuple(new / old for new, old in zip(blocks[size], base, strict=True)),
            side=side,
        )
        for size, all_px in sides.items()
        for px in all_px
    )
    return Published(
        "resnet-rs",
        "depth where overfitting is possible, else width; resolution slowly; from 50 at 160 px",
        "Bello et al., arXiv 2103.07579; blocks of the stages as in timm",
        "dropout, stochastic depth and augmentation",
        entries=entries,
    )


def _small() -> tuple[Published, ...]:
    tiny = Rules(rounding="tinynet", keep=("stem",), head_at_least=1280)
    rows = {
        "a": (1.0, 1.2, 192),
        "b": (0.75, 1.1, 188),
        "c": (0.54, 0.85, 184),
        "d": (0.54, 0.695, 152),
        "e": (0.51, 0.6, 106),
    }
    mobile = Rules(rounding="efficientnet")
    second = Rules(rounding="efficientnet", head_at_least=1280)
    return (
        Published(
            "tinynet",
            "scaling down: resolution and depth are kept over width",
            "Han et al., arXiv 2010.14819, and timm",
            "nothing",
            tiny,
            entries=_steps("tinynet", rows, 224, tiny),
        ),
        Published(
            "mobilenet",
            "a width multiplier for all layers, and a resolution, as in 0.5 or 0.5-160",
            "Howard et al., arXiv 1704.04861",
            "less of it: small networks overfit less",
            mobile,
            entries=tuple(_mobile(mobile)),
        ),
        Published(
            "mobilenetv2",
            "MobileNet's width multipliers; the head is not made narrower",
            "Sandler et al., arXiv 1801.04381, and timm",
            "nothing",
            second,
            entries=tuple(
                step(f"mobilenetv2@{width:g}", width=width, rules=second)
                for width in (1.4, 1.3, 1.0, 0.75, 0.5, 0.25)
            ),
        ),
    )


def _mobile(rules: Rules) -> Iterable[Step]:
    for width in (1.0, 0.75, 0.5, 0.25):
        yield step(f"mobilenet@{width:g}", width=width, rules=rules)
        for px in (224, 192, 160, 128, 96):
            yield step(
                f"mobilenet@{width:g}-{px}",
                width=width,
                resolution=px / 224,
                rules=rules,
                side=224,
            )


def _yolo() -> Published:
    rules = Rules(rounding="yolo")
    rows = {
        "n": (0.25, 0.33, 1),
        "s": (0.5, 0.33, 1),
        "m": (0.75, 0.67, 1),
        "l": (1.0, 1.0, 1),
        "x": (1.25, 1.33, 1),
    }
    return Published(
        "yolov5",
        "depth and width multiples of size l; widths up to 8, single blocks stay single",
        "the public model files of YOLOv5",
        "augmentation",
        rules,
        entries=_steps("yolov5", rows, 1, rules),
    )


def _convnext() -> Published:
    third = (1.0, 1.0, 3.0, 1.0)
    sizes = {"tiny": 96, "small": 96, "base": 128, "large": 192, "xlarge": 256}
    entries = tuple(
        step(
            f"convnext@{name}",
            depth=1.0 if name == "tiny" else 36 / 18,
            width=width / 96,
            stage_depth=() if name == "tiny" else third,
        )
        for name, width in sizes.items()
    )
    return Published(
        "convnext",
        "from tiny to small the third stage three times as deep, then width only",
        "Liu et al., arXiv 2201.03545",
        "stochastic depth",
        entries=entries,
    )


_ALL = (*_efficientnet(), _resnet_rs(), *_small(), _yolo(), _convnext())
REGISTRY: Mapping[str, Published] = {found.name: found for found in _ALL}


def published(name: str) -> Published:
    """Return a published strategy by its name.

    Raises:
        InputError: If there is none of that name.

    Example:
        >>> published("tinynet").entry_names
        ('a', 'b', 'c', 'd', 'e')
    """
    if name not in REGISTRY:
        raise InputError(
            f"Unknown published strategy {name!r}.{near_names(name, REGISTRY)} "
            f"Use {', '.join(REGISTRY)}."
        )
    return REGISTRY[name]


def published_strategies() -> tuple[Published, ...]:
    """Return all published strategies, in the order in which they are shown.

    Example:
        >>> published_strategies()[0].name
        'efficientnet'
    """
    return tuple(REGISTRY.values())


def is_entry(text: str) -> bool:
    """Tell whether a text is an entry of a published table, which takes no factor.

    Example:
        >>> is_entry("efficientnet-table@b3"), is_entry("efficientnet"), is_entry("dWr@0.6")
        (True, False, False)
    """
    name, _, entry = text.partition("@")
    return name in REGISTRY and entry.lower() in REGISTRY[name].entry_names


def find_published(text: str) -> Strategy | None:
    """Read NAME or NAME@ENTRY of the registry; None where the name is none of it.

    Raises:
        InputError: If the entry is missing, unknown, or one too many.

    Example:
        >>> find_published("yolov5@m").factors(0.67 * 0.75**2).width
        0.75
        >>> find_published("dWr@0.6") is None
        True
    """
    match = _NAMED.fullmatch(text)
    if match is None or match["name"] not in REGISTRY:
        return None
    return REGISTRY[match["name"]].chosen(match["entry"])

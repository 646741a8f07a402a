"""YAML files of the public reference code (pycls), read into descriptions.

What a file leaves out or sets to null has the reference code's default: 10 classes, 224 px in
training and 256 px in test, a stride on the 1×1 convolution of ResNets.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import replace
from difflib import get_close_matches
from typing import Any

from convscale.errors import InputError, near_names
from convscale.families.description import (
    GROUPED,
    AnyNet,
    Description,
    EfficientNet,
    shown,
)
from convscale.families.registry import resnet
from convscale.families.regnet import RegNet

_BLOCKS = {
    "res_bottleneck_block": "bottleneck",
    "res_bottleneck_linear_block": "linear_bottleneck",
    "res_basic_block": "basic",
    "vanilla_block": "vanilla",
}
_STEMS = {
    "simple_stem_in": "simple",
    "res_stem_in": "pooled",
    "res_stem_cifar": "small",
}
_ACTIVATIONS = {"relu": "relu", "swish": "silu", "silu": "silu", "gelu": "gelu"}
_TYPES = ("anynet", "regnet", "effnet", "resnet")
_SHARED = ("MODEL", "TRAIN", "TEST")  # sections that hold more than the network
_OF_TRAINING = ("DC_RATIO", "DROPOUT_RATIO")  # entries beside the network's
_RESNET_DEPTHS = {50: (3, 4, 6, 3), 101: (3, 4, 23, 3), 152: (3, 8, 36, 3)}


class Sections:
    """The entries of a file by section, and what was found wrong with them.

    Example:
        >>> sections = Sections({"MODEL": {"TYPE": "regnet"}})
        >>> sections.text("MODEL", "TYPE", ""), sections.whole("MODEL", "NUM_CLASSES", 10)
        ('regnet', 10)
    """

    def __init__(self, document: Mapping[Any, Any]) -> None:
        self.document = _upper(document)
        self.mistakes: list[str] = _twice(document, "")
        self._asked: dict[str, list[str]] = {}

    def get(self, section: str, name: str, default: Any) -> Any:
        """Return an entry, or its default where the file has none or null."""
        if section not in self._asked and isinstance(self.document.get(section), Mapping):
            self.mistakes += _twice(self.document[section], f"{section}.")
        self._asked.setdefault(section, []).append(name)
        value = self._entries(section).get(name)
        return default if value is None else value

    def _entries(self, section: str) -> Mapping[Any, Any]:
        found = self.document.get(section)
        if found is None:  # absent, or all its entries are
            return {}
        if not isinstance(found, Mapping):
            mistake = f"{section} is {shown(found)}, it must be a table of entries"
            if mistake not in self.mistakes:
                self.mistakes.append(mistake)
            return {}
        return _upper(found)

    def refuse_unknown(self) -> None:
        """Name the entries of the networks' sections that were not asked for.

        What else a file has, and sections that were not read at all, do not matter; of the
        sections that hold more than networks, only what looks like a slip of the pen.
        """
        for section, asked in self._asked.items():
            others = [str(name) for name in self.document if name not in self._asked]
            near = near_names(section, others)
            if near and section not in self.document:
                self.mistakes.append(f"{section} is missing{near.replace(' Did', ', did')}")
            self.mistakes += [
                f"{section}.{name} is no entry of it"
                f"{near_names(str(name), asked).replace(' Did', ', did')}"
                for name in self._entries(section)
                if name not in asked
                and name not in _OF_TRAINING
                and (section not in _SHARED or get_close_matches(str(name), asked, cutoff=0.8))
            ]

    def _checked(self, section: str, name: str, default: Any, fits: bool, rule: str) -> Any:
        value = self.get(section, name, default)
        if fits:
            return value
        self.mistakes.append(f"{section}.{name} is {shown(value)}, it must be {rule}")
        return default

    def whole(self, section: str, name: str, default: int) -> int:
        """Return an integer."""
        value = self.get(section, name, default)
        fits = isinstance(value, int) and not isinstance(value, bool)
        return int(self._checked(section, name, default, fits, "an integer"))

    def real(self, section: str, name: str, default: float) -> float:
        """Return a number."""
        value = self.get(section, name, default)
        fits = isinstance(value, int | float) and not isinstance(value, bool)
        found = self._checked(section, name, default, fits, "a number")
        return found if isinstance(found, int) else float(found)

    def flag(self, section: str, name: str, default: bool) -> bool:
        """Return a truth value."""
        fits = isinstance(self.get(section, name, default), bool)
        return bool(self._checked(section, name, default, fits, "True or False"))

    def text(self, section: str, name: str, default: str) -> str:
        """Return a text."""
        fits = isinstance(self.get(section, name, default), str)
        return str(self._checked(section, name, default, fits, "a text"))

    def choice(self, section: str, name: str, default: str, known: Mapping[str, str]) -> str:
        """Return what one of several texts stands for."""
        value = self.get(section, name, default)
        fits = isinstance(value, str) and value.lower() in known
        found = self._checked(section, name, default, fits, f"one of {', '.join(known)}")
        return known[found.lower()]

    def numbers(self, section: str, name: str, *, needed: bool = True) -> tuple[Any, ...]:
        """Return a list of numbers; empty where the file has none, a mistake if it is needed."""
        value = self.get(section, name, [])
        if isinstance(value, list | tuple) and all(entry is None for entry in value):
            value = []
        if needed and not value and isinstance(value, list):
            self.mistakes.append(f"{section}.{name} is missing")
        fits = isinstance(value, list | tuple) and all(
            isinstance(entry, int | float) and not isinstance(entry, bool) for entry in value
        )
        return tuple(value if fits else self._checked(section, name, [], fits, "a list of numbers"))


def _upper(entries: Mapping[Any, Any]) -> dict[Any, Any]:
    """Return entries whose names are in capitals."""
    return {
        name.upper() if isinstance(name, str) else name: value for name, value in entries.items()
    }


def _twice(entries: Mapping[Any, Any], place: str) -> list[str]:
    """Name the entries that differ from others in capitals only."""
    names = Counter(name.upper() for name in entries if isinstance(name, str))
    return [
        f"{place}{name} stands twice, in capitals and in small letters"
        for name, times in names.items()
        if times > 1
    ]


def is_reference(document: object) -> bool:
    """Tell whether a document has the sections of the reference code.

    Example:
        >>> is_reference({"MODEL": {"TYPE": "regnet"}}), is_reference({"family": "regnet"})
        (True, False)
    """
    return isinstance(document, Mapping) and "MODEL" in _upper(document)


def from_reference(document: Mapping[Any, Any]) -> Description | RegNet:
    """Read the entries of one of the reference code's files.

    Args:
        document: The sections MODEL, TRAIN, TEST and that of the network (ANYNET, REGNET, EN or
            RESNET), in which no unknown entries may stand; others are passed over.

    Raises:
        InputError: If they describe no network; all mistakes are named.

    Example:
        >>> from_reference({
        ...     "MODEL": {"TYPE": "regnet", "NUM_CLASSES": 1000},
        ...     "REGNET": {"DEPTH": 22, "W0": 24, "WA": 24.48, "WM": 2.54, "GROUP_W": 16},
        ... }).anynet().widths
        (32, 64, 160, 384)
    """
    sections = Sections(document)
    kind = sections.get("MODEL", "TYPE", None)
    readers: dict[object, Callable[[Sections], Callable[[], Description | RegNet]]] = dict(
        zip(_TYPES, (_anynet, _regnet, _effnet, _resnet), strict=True)
    )
    name = kind.lower() if isinstance(kind, str) else ""
    if name not in readers:
        came = "missing" if kind is None else shown(kind)
        raise InputError(
            "; ".join((*sections.mistakes, f"MODEL.TYPE is {came}, it must be one of "))
            + f"{', '.join(_TYPES)}."
        )
    make = readers[name](sections)
    sections.refuse_unknown()
    try:
        found = make()
    except InputError as error:
        sections.mistakes += _new_mistakes(error, sections.mistakes)
    if sections.mistakes:
        raise InputError(f"{'; '.join(sections.mistakes)}.")
    return found


def _new_mistakes(error: InputError, known: list[str]) -> list[str]:
    """Return what is wrong with the values, lists left out that are known to be no lists."""
    head, _, rest = error.line.removesuffix(".").partition(": ")
    clauses = [clause for clause in rest.split("; ") if not (known and " is (), " in clause)]
    return [f"{head}: {'; '.join(clauses)}"] if clauses else []


def _border(sections: Sections, section: str) -> dict[str, Any]:
    """Read what is around the stages."""
    train = sections.whole("TRAIN", "IM_SIZE", 224)
    default = "swish" if section == "EN" else "relu"
    return {
        "num_classes": sections.whole("MODEL", "NUM_CLASSES", 10),
        "activation": sections.choice("MODEL", "ACTIVATION_FUN", default, _ACTIVATIONS),
        "resolution": train,
        "test_resolution": sections.whole("TEST", "IM_SIZE", 256),
        "stem_width": sections.whole(section, "STEM_W", 32),
        "head_width": sections.whole(section, "HEAD_W", 1280 if section == "EN" else 0),
    }


def _staged(sections: Sections, section: str) -> dict[str, Any]:
    """Read the kinds of stem and block, and squeeze-and-excitation."""
    se = sections.real(section, "SE_R", 0.25)
    block = sections.choice(section, "BLOCK_TYPE", "res_bottleneck_block", _BLOCKS)
    on = sections.flag(section, "SE_ON", False) and block in GROUPED
    return {
        **_border(sections, section),
        "block": block,
        "stem": sections.choice(section, "STEM_TYPE", "simple_stem_in", _STEMS),
        "se_ratio": se if on else 0.0,
    }


def _anynet(sections: Sections) -> Callable[[], AnyNet]:
    shared = _staged(sections, "ANYNET")
    depths, widths = (sections.numbers("ANYNET", name) for name in ("DEPTHS", "WIDTHS"))
    strides = sections.numbers("ANYNET", "STRIDES")
    ones = (1,) * len(depths)
    multipliers = sections.numbers("ANYNET", "BOT_MULS", needed=False) or ones
    groups = sections.numbers("ANYNET", "GROUP_WS", needed=False) or ones
    if shared["block"] not in GROUPED:
        multipliers, groups = ones, widths
    return lambda: AnyNet(
        depths=depths,
        widths=widths,
        strides=strides,
        bottleneck_multipliers=multipliers,
        group_widths=groups,
        **shared,
    )


def _regnet(sections: Sections) -> Callable[[], RegNet]:
    values = {
        **_staged(sections, "REGNET"),
        "depth": sections.whole("REGNET", "DEPTH", 10),
        "w0": sections.whole("REGNET", "W0", 32),
        "wa": sections.real("REGNET", "WA", 5.0),
        "wm": sections.real("REGNET", "WM", 2.5),
        "group_width": sections.whole("REGNET", "GROUP_W", 16),
        "bottleneck_multiplier": sections.real("REGNET", "BOT_MUL", 1.0),
        "stride": sections.whole("REGNET", "STRIDE", 2),
    }
    return lambda: RegNet(**values)


def _effnet(sections: Sections) -> Callable[[], EfficientNet]:
    values = {
        **_border(sections, "EN"),
        "se_ratio": sections.real("EN", "SE_R", 0.25),
        "depths": sections.numbers("EN", "DEPTHS"),
        "widths": sections.numbers("EN", "WIDTHS"),
        "strides": sections.numbers("EN", "STRIDES"),
        "expansion_ratios": sections.numbers("EN", "EXP_RATIOS"),
        "kernels": sections.numbers("EN", "KERNELS"),
    }
    return lambda: EfficientNet(**values)


def _resnet(sections: Sections) -> Callable[[], AnyNet]:
    border = {**_border(sections, "RESNET"), "stem_width": 64}
    depth = sections.whole("MODEL", "DEPTH", 0)
    transform = sections.text("RESNET", "TRANS_FUN", "basic_transform")
    groups = sections.whole("RESNET", "NUM_GROUPS", 1)
    width = sections.whole("RESNET", "WIDTH_PER_GROUP", 64)
    strided = sections.flag("RESNET", "STRIDE_1X1", True)
    if sections.get("TRAIN", "DATASET", "") == "cifar10":
        if transform != "basic_transform":
            sections.mistakes.append(
                f"RESNET.TRANS_FUN is {shown(transform)}, on cifar10 it must be basic_transform"
            )
        return _small_resnet(sections, depth, border)
    if transform != "bottleneck_transform":
        sections.mistakes.append(
            f"RESNET.TRANS_FUN is {shown(transform)}, on images of this size it must be "
            "bottleneck_transform"
        )
    if depth not in _RESNET_DEPTHS:
        listed = ", ".join(map(str, _RESNET_DEPTHS))
        sections.mistakes.append(f"MODEL.DEPTH is {depth}, it must be one of {listed}")
    net = _RESNET_DEPTHS.get(depth, _RESNET_DEPTHS[50])
    return lambda: replace(
        resnet(net, groups=groups, group_width=width, stride_in_1x1=strided), **border
    )


def _small_resnet(sections: Sections, depth: int, border: dict[str, Any]) -> Callable[[], AnyNet]:
    """Return the ResNet for images of 32 px: three stages of n blocks, depth 6n + 2."""
    if depth < 8 or (depth - 2) % 6:
        sections.mistakes.append(f"MODEL.DEPTH is {depth}, on cifar10 it must be 6n + 2")
    widths, blocks = (16, 32, 64), max(1, (depth - 2) // 6)
    return lambda: AnyNet(
        depths=(blocks,) * 3,
        widths=widths,
        strides=(1, 2, 2),
        bottleneck_multipliers=(1.0,) * 3,
        group_widths=widths,
        block="basic",
        stem="small",
        **{**border, "stem_width": 16},
    )

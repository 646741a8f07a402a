"""Descriptions as plain documents, and as YAML files: read with all mistakes at once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any

import yaml

from convscale.errors import InputError, near_names
from convscale.families.description import (
    AnyNet,
    Description,
    EfficientNet,
    anynet_mistakes,
    efficientnet_mistakes,
    shown,
)
from convscale.families.reference import from_reference, is_reference
from convscale.families.regnet import RegNet, regnet_mistakes
from convscale.reading import read_yaml_file

SUFFIXES = (".yaml", ".yml")
_KINDS: dict[str, type[AnyNet | RegNet | EfficientNet]] = {
    kind.family: kind for kind in (AnyNet, RegNet, EfficientNet)
}
_CHECKS = {
    "anynet": anynet_mistakes,
    "regnet": regnet_mistakes,
    "efficientnet": efficientnet_mistakes,
}


def as_document(description: Description | RegNet) -> dict[str, Any]:
    """Return a description as values that JSON and YAML hold.

    Example:
        >>> from convscale.families.registry import named
        >>> as_document(named("RegNetX-400MF"))["depths"]
        [1, 2, 7, 12]
    """
    document: dict[str, Any] = {"family": description.family}
    for entry in fields(description):
        value = getattr(description, entry.name)
        document[entry.name] = list(value) if isinstance(value, tuple) else value
    return document


def from_document(document: object) -> Description | RegNet:
    """Read a description from plain values.

    Raises:
        InputError: If they describe no network; all mistakes are named.

    Example:
        >>> from convscale.families.registry import named
        >>> from_document(as_document(named("ResNet-50"))) == named("ResNet-50")
        True
        >>> from_document({"family": "regnet", "depht": 12, "w0": 24, "wa": 24.48, "wm": 0.5})
        Traceback (most recent call last):
        convscale.errors.InputError: This is no regnet: depht is no entry of it, did you mean
        depth?; depth is missing; group_width is missing; wm is 0.5, it must be a number above 1.
    """
    if not isinstance(document, Mapping):
        raise InputError(
            f"A description is a table of entries, but {shown(document)} came. "
            f"Write family: and one of {', '.join(_KINDS)} first."
        )
    values: dict[Any, Any] = {name: _value(value) for name, value in document.items()}
    family = values.pop("family", None)
    if not isinstance(family, str) or family not in _KINDS:
        came = "missing" if family is None else shown(family)
        raise InputError(f"The family is {came}; it must be one of {', '.join(_KINDS)}.")
    kind = _KINDS[family]
    mistakes = _mistakes(kind, values)
    if mistakes:
        raise InputError(f"This is no {family}: {'; '.join(mistakes)}.")
    return kind(**values)


def _mistakes(kind: type[AnyNet | RegNet | EfficientNet], values: dict[Any, Any]) -> list[str]:
    known = {entry.name: entry.default is MISSING for entry in fields(kind)}
    found = [
        f"{name} is no entry of it{near_names(str(name), known).replace(' Did', ', did')}"
        for name in values
        if name not in known
    ]
    missing = [name for name, needed in known.items() if needed and name not in values]
    found += [f"{name} is missing" for name in missing]
    wrong = _CHECKS[kind.family]({name: values[name] for name in known if name in values})
    about = tuple(f"{name} is " for name in missing)
    return found + [line for line in wrong if not (about and line.startswith(about))]


def _value(value: object) -> object:
    return tuple(value) if isinstance(value, list) else value


def write_yaml(description: Description | RegNet, path: str | Path) -> None:
    """Write a description to a YAML file, over an older one if need be.

    Raises:
        InputError: If the file cannot be written.

    Example:
        >>> import tempfile
        >>> from convscale.families.registry import named
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     write_yaml(named("ResNet-50"), Path(folder, "net.yaml"))
        ...     read_yaml(Path(folder, "net.yaml")) == named("ResNet-50")
        True
    """
    text = yaml.safe_dump(as_document(description), sort_keys=False, default_flow_style=None)
    try:
        Path(path).write_text(text, encoding="utf-8")
    except OSError as error:
        raise InputError(f"Cannot write {str(path)!r}: {error.strerror or error}.") from error


def read_yaml(path: str | Path) -> Description:
    """Read a description, stage by stage, from a YAML file: ours, or the reference code's.

    Raises:
        InputError: If the file cannot be read or describes no network; all mistakes are named.

    Example:
        >>> read_yaml("missing.yaml")
        Traceback (most recent call last):
        convscale.errors.InputError: missing.yaml cannot be read: No such file or directory.
    """
    try:
        document, repeated = read_yaml_file(Path(path))
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}.") from error
    mistakes = [f"{'; '.join(repeated)}."] if repeated else []
    try:
        read = from_reference if is_reference(document) else from_document
        found = read(document)
        description = found.anynet() if isinstance(found, RegNet) else found
    except InputError as error:
        mistakes.append(error.line)
    if mistakes:
        raise InputError(f"{path}: {' '.join(mistakes)}")
    return description

"""Profiles as JSON: written from values, read with all mistakes told at once; never a pickle."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from convscale.complexity.calls import KINDS
from convscale.errors import InputError
from convscale.files import write_whole
from convscale.prediction.form import Execution, coefficients_of
from convscale.prediction.prediction import OVERHEAD
from convscale.prediction.profile import Band, Doubts, Errors, Excluded, Profile, Seen
from convscale.reading import mistake_of

SCHEMA_VERSION = 1
SUFFIX = ".json"
NAME = r"^[A-Za-z0-9][\w.-]*$"  # of a profile

_Number = Annotated[float, Field(strict=True, allow_inf_nan=False)]
_Positive = Annotated[float, Field(gt=0, strict=True, allow_inf_nan=False)]
_Count = Annotated[int, Field(ge=0, strict=True)]
_Pct = Annotated[float, Field(ge=0, strict=True, allow_inf_nan=False)]
_Text = Annotated[str, Field(min_length=1, strict=True)]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class _Execution(_Part):
    hardware: Literal["gpu", "cpu"]
    layout: Literal["nchw", "nhwc"]
    mode: Literal["eager", "compiled"]
    work: Literal["inference", "training"]
    dtype: Literal["float32", "amp", "float16", "bfloat16"]


class _Seen(_Part):
    batch_sizes: tuple[Annotated[int, Field(ge=1, strict=True)], ...]
    resolutions: tuple[_Positive, ...]
    flops: tuple[_Pct, ...]
    channels: tuple[_Positive, ...]
    kinds: tuple[Literal[KINDS], ...]  # type: ignore[valid-type]


class _Band(_Part):
    coverage: Annotated[float, Field(gt=0, lt=1, strict=True)]
    low: _Positive
    high: _Positive


class _Doubts(_Part):
    typical: _Positive
    classes: Annotated[dict[str, _Pct], Field(min_length=1)]


class _Errors(_Part):
    protocol: _Text
    mape_pct: _Pct
    within_10_pct: Annotated[float, Field(ge=0, le=100, strict=True)]
    spearman: Annotated[float, Field(ge=-1, le=1, strict=True)] | None
    networks: _Count
    groups: _Count
    covered_pct: dict[str, _Pct] = {}
    baselines_mape_pct: dict[str, _Pct] = {}


class _Excluded(_Part):
    network: _Text
    reason: _Text


class _File(_Part):
    schema_version: Literal[1]
    name: Annotated[str, Field(pattern=NAME, strict=True)]
    version: Annotated[int, Field(ge=1, strict=True)] = 1
    execution: _Execution
    conditions: dict[str, str | int | bool | _Number | None] = {}
    range: _Seen
    coefficients: Annotated[dict[str, _Positive], Field(min_length=1)]
    correction: dict[str, Any] | None = None
    intervals: Annotated[tuple[_Band, ...], Field(min_length=1)]
    doubts: _Doubts | None = None
    errors: tuple[_Errors, ...] = ()
    excluded: tuple[_Excluded, ...] = ()


def as_document(profile: Profile) -> dict[str, Any]:
    """Return a profile as plain values, as its file holds them.

    Example:
        >>> seen = Seen((1, 8), (224.0, 224.0), (1e9, 2e9), (8.0, 64.0), ("linear",))
        >>> execution = Execution("cpu", dtype="float32")
        >>> rates = coefficients_of(execution)
        >>> profile = Profile("mine", execution, rates, seen, (Band(0.9, 0.8, 1.2),))
        >>> from_document(as_document(profile)) == profile
        True
    """
    return {
        "schema_version": SCHEMA_VERSION,
        "name": profile.name,
        "version": profile.version,
        "execution": asdict(profile.execution),
        "conditions": dict(profile.conditions),
        "range": _listed(asdict(profile.seen)),
        "coefficients": dict(profile.coefficients),
        "correction": None if profile.correction is None else dict(profile.correction),
        "intervals": [asdict(band) for band in profile.bands],
        **({} if profile.doubts is None else {"doubts": asdict(profile.doubts)}),
        "errors": [asdict(entry) for entry in profile.errors],
        "excluded": [asdict(entry) for entry in profile.excluded],
    }


def from_document(document: object, *, where: str = "The document") -> Profile:
    """Read a profile from plain values.

    Args:
        document: What a file holds.
        where: What is blamed for mistakes.

    Raises:
        InputError: If they describe no profile; all mistakes are named.

    Example:
        >>> from_document({"schema_version": 2})
        Traceback (most recent call last):
        convscale.errors.InputError: The document is a profile of schema version 2; this program
        reads version 1. Fit it again by 'convscale calibrate'.
    """
    if not isinstance(document, dict):
        raise InputError(f"{where} holds no profile but {_shown(document)}.")
    version = document.get("schema_version", SCHEMA_VERSION)
    if version != SCHEMA_VERSION or isinstance(version, bool):
        raise InputError(
            f"{where} is a profile of schema version {_shown(version)}; this program reads "
            f"version {SCHEMA_VERSION}. Fit it again by 'convscale calibrate'."
        )
    try:
        found = _File.model_validate(document)
    except ValidationError as error:
        mistakes = [mistake_of(one) for one in error.errors()]
    else:
        mistakes = list(_contradictions(found))
    if mistakes:
        other = any(mistake.startswith("coefficients.") for mistake in mistakes)
        again = " Fit it again by 'convscale calibrate'." if other else ""  # by another form
        raise InputError(f"{where} is no profile: {'; '.join(mistakes)}.{again}")
    return _profile(found)


def _contradictions(found: _File) -> Iterator[str]:
    """Say what is wrong between values that are right by themselves."""
    for name in ("batch_sizes", "resolutions", "flops", "channels"):
        pair = getattr(found.range, name)
        if len(pair) != 2 or pair[0] > pair[1]:
            yield f"range.{name} must be the least and the most (it is {list(pair)})"
    names = coefficients_of(Execution(**found.execution.model_dump()))
    yield from (
        f"coefficients.{name} is missing" for name in names if name not in found.coefficients
    )
    yield from (
        f"coefficients.{name} is unknown" for name in found.coefficients if name not in names
    )
    classes = {OVERHEAD, *(name.partition(".")[2] for name in names if "." in name)}
    yield from (
        f"doubts.classes.{name} is unknown"
        for name in (found.doubts.classes if found.doubts else ())
        if name not in classes
    )
    for band in found.intervals:
        if band.low > band.high:
            yield f"the interval of coverage {band.coverage:g} ends before it begins"
    for inner, outer in zip(found.intervals, found.intervals[1:], strict=False):
        if inner.coverage >= outer.coverage:
            yield "the coverages of intervals must grow"
        elif inner.low < outer.low or inner.high > outer.high:
            yield (
                f"the interval of coverage {outer.coverage:g} must hold that of {inner.coverage:g}"
            )


def _profile(found: _File) -> Profile:
    own = found.model_dump()
    seen = {name: tuple(value) for name, value in own["range"].items()}
    return Profile(
        name=found.name,
        execution=Execution(**own["execution"]),
        coefficients=own["coefficients"],
        seen=Seen(**seen),
        bands=tuple(Band(**band) for band in own["intervals"]),
        conditions=own["conditions"],
        correction=own["correction"],
        errors=tuple(Errors(**entry) for entry in own["errors"]),
        excluded=tuple(Excluded(**entry) for entry in own["excluded"]),
        version=found.version,
        doubts=None if own["doubts"] is None else Doubts(**own["doubts"]),
    )


def _listed(values: dict[str, Any]) -> dict[str, Any]:
    return {name: list(v) if isinstance(v, tuple) else v for name, v in values.items()}


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 40 else f"{text[:37]}..."


def read_profile(path: str | Path) -> Profile:
    """Read a profile from a JSON file.

    Raises:
        InputError: If the file cannot be read, or holds no profile: all mistakes in one line.

    Example:
        >>> read_profile("missing.json")
        Traceback (most recent call last):
        convscale.errors.InputError: There is no file missing.json. Name a profile, or the JSON
        file of one.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise InputError(
            f"There is no file {path}. Name a profile, or the JSON file of one."
        ) from None
    except UnicodeDecodeError as error:
        raise InputError(f"{path} cannot be read: it is no text in UTF-8.") from error
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}.") from error
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path} holds no JSON: {error}.") from error
    return from_document(document, where=str(path))


def write_profile(profile: Profile, path: str | Path) -> Path:
    """Write a profile to a JSON file, whole or not at all.

    Raises:
        InputError: If it could not be read again, or nothing can be written there.

    Example:
        >>> import tempfile
        >>> seen = Seen((1, 8), (224.0, 224.0), (1e9, 2e9), (8.0, 64.0), ("linear",))
        >>> execution = Execution("cpu", dtype="float32")
        >>> rates = coefficients_of(execution)
        >>> profile = Profile("mine", execution, rates, seen, (Band(0.9, 0.8, 1.2),))
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     read_profile(write_profile(profile, Path(folder, "mine.json"))) == profile
        True
    """
    document = as_document(profile)
    from_document(document, where=f"What would be written to {path}")
    text = json.dumps(document, indent=1, ensure_ascii=False, allow_nan=False)
    return write_whole(Path(path), text + "\n")

"""Strategies of one's own in a YAML file, all of whose mistakes are told at once."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from convscale.errors import ConvscaleError, InputError
from convscale.reading import mistake_of, read_yaml_file
from convscale.strategy.registry import Published, formula
from convscale.strategy.rules import ROUNDINGS, Rules
from convscale.strategy.step import Step, step
from convscale.strategy.strategy import Strategy

_WAYS = ("exponents", "weights", "factors", "table")
_MOST = 2**20  # blocks, channels and sides beyond it are refused wherever they come from
_Factor = Annotated[float, Field(ge=1 / _MOST, le=_MOST, strict=True, allow_inf_nan=False)]
_Share = Annotated[float, Field(ge=0, le=_MOST, strict=True, allow_inf_nan=False)]
_Whole = Annotated[int, Field(ge=1, le=_MOST, strict=True)]
_Text = Annotated[str, Field(min_length=1, strict=True)]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class _Exponents(_Part):
    depth: _Share = 0.0
    width: _Share = 0.0
    resolution: _Share = 0.0
    group_width: _Share | None = None

    @model_validator(mode="after")
    def _follow_the_law(self) -> _Exponents:
        total = self.depth + 2 * self.width + 2 * self.resolution
        if abs(total - 1) > 1e-6:
            raise ValueError(f"depth + 2 width + 2 resolution is {total:g} and must be 1")
        return self


class _Weights(_Part):
    d: _Share = 0.0
    w: _Share = 0.0
    r: _Share = 0.0
    g: _Share | None = None

    @model_validator(mode="after")
    def _share_something(self) -> _Weights:
        if self.d + self.w + self.r <= 0:
            raise ValueError("all weights are 0, and one must be positive")
        return self


class _Factors(_Part):
    depth: _Factor = 1.0
    width: _Factor = 1.0
    resolution: _Factor = 1.0

    @model_validator(mode="after")
    def _grow(self) -> _Factors:
        if min(self.depth, self.width, self.resolution) < 1:
            raise ValueError("the factors of a formula are at least 1; a table may have smaller")
        if self.depth * self.width * self.resolution <= 1:
            raise ValueError("all factors are 1, and one must be larger")
        return self


class _Row(_Part):
    depth: _Factor = 1.0
    width: _Factor = 1.0
    resolution: _Factor | None = None
    px: _Whole | None = None
    stage_depth: Annotated[tuple[_Factor, ...], Field(min_length=1)] | None = None

    @model_validator(mode="after")
    def _say_once(self) -> _Row:
        if self.resolution is not None and self.px is not None:
            raise ValueError("resolution (a factor) and px are both given; write one of them")
        return self


class _File(_Part):
    name: Annotated[str, Field(pattern=r"^[A-Za-z][\w.-]*$", strict=True)]
    summary: _Text = "a strategy from a file"
    source: _Text = "a file"
    raises: _Text = "nothing"
    rounding: Literal[tuple(ROUNDINGS)] = "nearest"  # type: ignore[valid-type]
    keep: tuple[Literal["stem", "head"], ...] = ()
    head_at_least: _Whole | None = None
    max_resolution: _Whole | None = None
    base_resolution: _Whole | None = None
    exponents: _Exponents | None = None
    weights: _Weights | None = None
    factors: _Factors | None = None
    table: Annotated[dict[str, _Row], Field(min_length=1)] | None = None


def read_strategy(path: str | Path) -> Published:
    r"""Read a strategy from a YAML file.

    It names exactly one of `exponents` (powers of s with depth + 2·width + 2·resolution = 1),
    `weights` (of d, w and r), both with a group width where it does not follow width,
    `factors` (of one step, as 1.2, 1.1, 1.15) and `table` (entries with depth, width,
    resolution or px, and stage_depth), and beside it rounding, keep, head_at_least,
    max_resolution, source and raises.

    Args:
        path: The file.

    Raises:
        InputError: If the file cannot be read, or says something wrong: all of it in one line.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     file = Path(folder, "mine.yaml")
        ...     _ = file.write_text("name: mine\nweights: {d: 1, w: 2, r: 1}\n")
        ...     read_strategy(file).formula.width
        0.5
    """
    document, repeated = _document(Path(path))
    mistakes = [*repeated, *_contradictions(document)]
    try:
        found = _File.model_validate(document)
    except ValidationError as error:
        mistakes = [*map(mistake_of, error.errors()), *mistakes]
    if mistakes:
        raise InputError(f"{path} describes no strategy: {'; '.join(mistakes)}.")
    return _published(found)


def _document(path: Path) -> tuple[dict[str, Any], list[str]]:
    """Return the entries of a file, and those that stand twice."""
    try:
        document, repeated = read_yaml_file(path)
    except FileNotFoundError:
        raise InputError(f"There is no file {path}. Name a YAML file with a strategy.") from None
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}.") from error
    if not isinstance(document, dict):
        raise InputError(
            f"{path} holds no mapping. Write name: and one of {', '.join(_WAYS)}, as in "
            "'weights: {d: 1, w: 8, r: 1}'."
        )
    return _with_text_keys(document), repeated


def _with_text_keys(document: Mapping[Any, Any]) -> dict[str, Any]:
    """Return a mapping whose keys, and those of a table in it, are text: entries may be 0.5."""
    found = {str(key): value for key, value in document.items()}
    if isinstance(table := found.get("table"), dict):
        found["table"] = {str(key): value for key, value in table.items()}
    return found


def _contradictions(document: Mapping[str, Any]) -> Iterator[str]:
    """Say what is wrong between the parts of a file, whatever is wrong in them."""
    given = [way for way in _WAYS if document.get(way) is not None]
    if len(given) != 1:
        came = " and ".join(given) or "none"
        yield f"write exactly one of {', '.join(_WAYS)}, {came} came"
    table = document.get("table")
    rows = table.items() if isinstance(table, dict) else ()
    sized = [str(name) for name, row in rows if isinstance(row, dict) and "px" in row]
    if sized and document.get("base_resolution") is None:
        yield f"table.{sized[0]} gives px, so base_resolution (px) is needed"


def _published(found: _File) -> Published:
    rules = Rules(found.rounding, found.keep, found.head_at_least, found.max_resolution)
    try:
        law = _law(found, rules)
    except ConvscaleError as error:  # pragma: no cover - the checks above come first
        raise InputError(f"Strategy {found.name!r}: {error.line}") from error
    return Published(
        found.name,
        found.summary,
        found.source,
        found.raises,
        rules,
        formula=law,
        entries=tuple(_step(found, name, row, rules) for name, row in (found.table or {}).items()),
    )


def _law(found: _File, rules: Rules) -> Strategy | None:
    if found.exponents is not None:
        e = found.exponents
        total = e.depth + 2 * e.width + 2 * e.resolution
        shares = (e.depth / total, 2 * e.width / total, 2 * e.resolution / total)
        own = None if e.group_width is None else 2 * e.group_width / total
        return Strategy(found.name, *shares, group_width=own, rules=rules)
    if found.weights is not None:
        w = found.weights
        total = w.d + w.w + w.r
        own = None if w.g is None else w.g / total
        return Strategy(found.name, w.d / total, w.w / total, w.r / total, own, rules=rules)
    if found.factors is not None:
        f = found.factors
        return formula(found.name, f.depth, f.width, f.resolution, rules)
    return None


def _step(found: _File, name: str, row: _Row, rules: Rules) -> Step:
    resolution = row.resolution or 1.0
    if row.px is not None and found.base_resolution is not None:
        resolution = row.px / found.base_resolution
    depths = row.stage_depth or ()
    return step(
        f"{found.name}@{name}",
        depth=sum(depths) / len(depths) if depths else row.depth,
        width=row.width,
        resolution=resolution,
        rules=rules,
        stage_depth=depths,
        side=None if row.px is None else found.base_resolution,
    )

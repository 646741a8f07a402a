"""What `select` is asked, as it takes it: one option a field."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict

from convscale.prediction.store import ProfileLike
from convscale.quantities import Resolution
from convscale.selection.constraints import Constraint
from convscale.selection.zoo import ZooColumns
from convscale.strategy import Strategy
from convscale.study.trials import Progress

Limit = Constraint | str


class SelectOptions(TypedDict, total=False):
    """The options of `select`, which its docstring explains.

    Example:
        >>> SelectOptions(limits=["flops<=8G"])
        {'limits': ['flops<=8G']}
    """

    table: str | Path | None
    limits: Sequence[Limit]
    error: str | None
    law: bool
    uncertainty: float | None
    profile: ProfileLike | None
    batch_size: int
    confidence: float | None
    cost: str | None
    columns: ZooColumns | None
    dtype: str
    optimizer: str
    precision: str | None
    train_profile: ProfileLike | None
    images: int | None
    epochs: int | None
    devices: int | None
    train_batch_size: int | None
    efficiency: float | None
    power_w: float | None
    strategies: Sequence[str | Strategy] | None
    exponents: bool | None
    candidates: int | None
    factors: tuple[float, float] | None
    resolution: Resolution | None
    rounding: str | None
    num_classes: int | None
    in_chans: int | None
    progress: Progress | None
    measure: int | None
    device: str | None
    threads: int | None
    rounds: int | None
    time_limit_s: float | None


@dataclass(frozen=True)
class Asked:
    """The same, with what is taken where an option is not given.

    Example:
        >>> Asked(limits=["flops<=8G"]).dtype
        'float32'
    """

    table: str | Path | None = None
    limits: Sequence[Limit] = ()
    error: str | None = None
    law: bool = False
    uncertainty: float | None = None
    profile: ProfileLike | None = None
    batch_size: int = 1
    confidence: float | None = None
    cost: str | None = None
    columns: ZooColumns | None = None
    dtype: str = "float32"
    optimizer: str = "sgd"
    precision: str | None = None
    train_profile: ProfileLike | None = None
    images: int | None = None
    epochs: int | None = None
    devices: int | None = None
    train_batch_size: int | None = None
    efficiency: float | None = None
    power_w: float | None = None
    strategies: Sequence[str | Strategy] | None = None
    exponents: bool | None = None
    candidates: int | None = None
    factors: tuple[float, float] | None = None
    resolution: Resolution | None = None
    rounding: str | None = None
    num_classes: int | None = None
    in_chans: int | None = None
    progress: Progress | None = None
    measure: int | None = None
    device: str | None = None
    threads: int | None = None
    rounds: int | None = None
    time_limit_s: float | None = None

"""Whether a batch can be computed in parts by one process as by several."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from convscale.errors import InputError
from convscale.network.modules.copies import meta_copy
from convscale.network.running.execution import Observer, run


def check_parts(parts: int | None, processes: int, kind: str) -> None:
    """Refuse parts that the processes of a run cannot compute.

    Args:
        parts: How many a batch has; None where each process computes its own.
        processes: How many there are.
        kind: The device: cpu, cuda or mps.

    Raises:
        InputError: If neither one process computes all parts, on the CPU, nor each computes one.

    Example:
        >>> check_parts(4, 2, "cpu")
        Traceback (most recent call last):
        convscale.errors.InputError: parts is 4, and there are 2 processes: one computes all, or
        each computes one. Start 1 or 4, or set parts to null.
    """
    if parts is None or parts == processes:
        return
    if processes > 1:
        raise InputError(
            f"parts is {parts}, and there are {processes} processes: one computes all, or each "
            f"computes one. Start 1 or {parts}, or set parts to null."
        )
    if kind != "cpu":
        raise InputError(
            f"One process computes {parts} parts on the cpu alone, and this run is on {kind}. "
            f"Start {parts} processes, or set parts to null."
        )


def refuse_chance(name: str, module: nn.Module, shape: tuple[int, ...], parts: int) -> None:
    """Refuse a network that draws random numbers while it trains: parts would draw others.

    Args:
        name: What the network is called.
        module: The network.
        shape: Of a batch.
        parts: How many a batch has.

    Raises:
        InputError: If it draws.

    Example:
        >>> refuse_chance("a net", nn.Sequential(nn.Dropout(0.5)), (2, 3), parts=2)
        Traceback (most recent call last):
        convscale.errors.InputError: a net draws random numbers while it trains (bernoulli_ in 0),
        and parts is 2. Set parts to null, or give a network without dropout.
    """
    seen = _Chance()
    run(meta_copy(module), (torch.empty(shape, device="meta"),), seen, training=True)
    if seen.drawn:
        raise InputError(
            f"{name} draws random numbers while it trains ({seen.drawn[0]}), and parts is {parts}. "
            "Set parts to null, or give a network without dropout."
        )


class _Chance(Observer):
    """See which operators draw random numbers, and where."""

    def __init__(self) -> None:
        self.drawn: list[str] = []

    def visit(
        self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any, path: str
    ) -> None:
        """See a call of an operator."""
        del args, kwargs, output
        if torch.Tag.nondeterministic_seeded in func.tags:
            self.drawn.append(f"{func._opname} in {path}" if path else func._opname)

"""Record every operator of a forward pass with the bytes that it reads and writes."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import nn

from convscale.complexity.calls import ITEM_BYTES, OperatorCall
from convscale.complexity.counting import check_convention
from convscale.complexity.failing import cannot_run, real_pass, several
from convscale.complexity.recording import Recorder
from convscale.complexity.tally import listen
from convscale.complexity.views import Operators
from convscale.errors import InputError
from convscale.network.channels.products import OwnRule
from convscale.network.modules.copies import full_copy, without_foreign_hooks
from convscale.network.modules.quantised import packed_elements
from convscale.network.running.autocast import Autocast
from convscale.network.running.execution import ForwardError, run
from convscale.network.running.feeding import feed_of
from convscale.network.sources.network import Network
from convscale.quantities import Resolution, check_count


def check_dtype(dtype: str) -> str:
    """Return the name of a dtype whose bytes are known.

    Raises:
        InputError: Otherwise.

    Example:
        >>> check_dtype("bfloat16")
        'bfloat16'
    """
    if dtype not in ITEM_BYTES:
        raise InputError(f"Unknown dtype {dtype!r}. Use {', '.join(ITEM_BYTES)}.")
    return dtype


def record_network(
    network: Network,
    *,
    resolution: Resolution | None = None,
    convention: str = "default",
    dtype: str = "float32",
    batch_size: int = 1,
    rules: Mapping[str, OwnRule] | None = None,
    autocast: bool = False,
) -> Operators:
    """Record the operators of one forward pass of a batch, without memory for weights.

    Args:
        network: The network.
        resolution: Input side, or all sides, in px; the network's own by default.
        convention: The convention of flops and acts.
        dtype: The dtype of every floating tensor, which gives its bytes.
        batch_size: Images in the forward pass.
        rules: Rules for operators, beside those that the network brings.
        autocast: Whether to record the casts too that the network's own code makes under
            autocast, of tensors that are in half precision there.

    Raises:
        InputError: If an argument is wrong, or the network cannot run at the resolution.

    Example:
        >>> from convscale.network import resolve_base
        >>> found = record_network(resolve_base("timm:resnet50"), dtype="float16")
        >>> found.total.flops, found.total.weight_bytes == 2 * (25_557_032 + 53_120)
        (4089184256, True)
    """
    check_convention(convention), check_dtype(dtype)
    check_count(batch_size, what="batch size")
    feed = feed_of(network, resolution)
    module = network.build("meta")
    feed.check_batch(module, batch_size)

    def record(module: nn.Module, casts: Autocast | None = None) -> list[OperatorCall]:
        inputs = feed.inputs(module, batch=batch_size)
        recorder = Recorder(
            module,
            inputs.tensors,
            item_bytes=ITEM_BYTES[dtype],
            convention=convention,
            rules={**network.rules, **(rules or {})},
            autocast=casts,
        )
        handle = listen([recorder])
        run(
            module,
            inputs.args,
            recorder,
            keywords=inputs.kwargs,
            handle=handle,
            autocast=casts,
        )
        return recorder.calls

    notes: tuple[str, ...] = ()
    if autocast and _all_full(module):
        try:
            calls = record(module, Autocast())
        except ForwardError as error:
            calls, notes = _with_fallback(network, module, feed.asked, record)
            notes = notes or (_unseen(error),)
    else:
        calls, notes = _with_fallback(network, module, feed.asked, record)
    return Operators(
        network=network.name,
        resolution=feed.sides(module),
        convention=convention,
        dtype=dtype,
        batch_size=batch_size,
        params=sum(parameter.numel() for parameter in module.parameters())
        + sum(map(packed_elements, module.modules())),
        calls=tuple(calls),
        notes=(*notes, *(several(feed.inputs(module)) if feed.has_own_batch(module) else ())),
    )


def _all_full(module: nn.Module) -> bool:
    """Tell whether all parameters are in the precision from which autocast casts them."""
    return all(parameter.dtype is torch.float32 for parameter in module.parameters())


def _unseen(error: ForwardError) -> str:
    """Say that a network that runs does not run as under autocast."""
    return f"Casts that the network makes under autocast are not seen: {error.reason}."


def _with_fallback(
    network: Network,
    module: nn.Module,
    size: Resolution | None,
    record: Callable[[nn.Module], list[OperatorCall]],
) -> tuple[list[OperatorCall], tuple[str, ...]]:
    """Record on the meta device, or on real tensors where that fails."""
    try:
        return record(module), ()
    except ForwardError as error:
        try:
            with torch.random.fork_rng():  # the user's numbers go on as if nothing had run
                calls = record(without_foreign_hooks(full_copy(network.build("cpu"))))
        except ForwardError as second:
            raise cannot_run(network.name, size, second, module) from second
        return calls, (real_pass(error),)

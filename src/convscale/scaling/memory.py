"""The memory that a network needs, by any of its names; the largest batch that fits."""

from __future__ import annotations

from dataclasses import replace

from convscale.complexity.batches import largest
from convscale.complexity.dryrun import DryRun, check_optimizer, check_precision
from convscale.complexity.memory import Memory, MemoryBudget
from convscale.errors import BudgetError, InputError
from convscale.network.sources.inputs import ExampleInputs
from convscale.network.sources.naming import NetworkLike
from convscale.network.sources.network import Network
from convscale.quantities import Resolution, check_count, check_positive, format_bytes, parse_bytes
from convscale.scaling.resolving import resolve, with_inputs


def memory(
    network: NetworkLike,
    *,
    resolution: Resolution | None = None,
    batch_size: int = 1,
    optimizer: str | None = "sgd",
    precision: str | None = None,
    checkpointing: bool = False,
    limit: int | str | None = None,
    num_classes: int | None = None,
    in_chans: int | None = None,
    example_inputs: ExampleInputs | None = None,
) -> Memory:
    """Predict the peak memory of inference and of a training step; nothing is computed for it.

    Args:
        network: A name, `file.py:factory`, a saved folder, `NAME@STRATEGY:FACTOR`, a
            description of `convscale.families`, or a module, which is not changed.
        resolution: Base input side, or all sides, in px; required for modules.
        batch_size: Images in one forward pass.
        optimizer: sgd (with momentum), adamw, or None for inference alone.
        precision: float32, bfloat16 or float16, the weights too; or mixed: weights in float32
            and automatic casts to bfloat16. By default the dtype of the network's weights.
        checkpointing: Whether each block of a stage is run again in the backward pass.
        limit: Memory in bytes, or as text such as "8GB": the batch size is then the largest
            whose training step, or inference without an optimizer, needs no more.
        num_classes: Classes of the classifier, for names and factories.
        in_chans: Input channels, for names and factories.
        example_inputs: What the forward pass takes, as `count` takes it.

    Returns:
        The bytes at the peaks, what they consist of and where they are.

    Raises:
        InputError: If an argument is wrong, or the network cannot run so.
        BudgetError: If not even the smallest batch is within the limit.

    Example:
        >>> found = memory("resnet18", resolution=64, batch_size=2)
        >>> found.inference.weights_bytes, found.training.gradients_bytes
        (46796608, 46758048)
    """
    bound = None if limit is None else limit_bytes(limit)
    budget = MemoryBudget(bound or 0, batch_size, optimizer, precision, checkpointing)
    check_budget(budget)
    found = resolve(network, resolution=resolution, num_classes=num_classes, in_chans=in_chans)
    found = with_inputs(found, example_inputs, resolution)
    if bound is None:
        return memory_of(found, budget)
    run = _dry_run(found, budget)
    if run.has_own_batch:
        raise InputError(
            "A limit finds the batch size, but tensors were given, which have a batch of their "
            "own. Give sizes, such as --input-size 3x224x224, or leave the limit out."
        )
    batch = _largest(run, optimizer, bound)
    return replace(_memory(run.with_batch(batch), optimizer), limit_bytes=bound)


def memory_of(network: Network, budget: MemoryBudget) -> Memory:
    """Predict the memory of a network as a budget describes it, whatever its limit.

    Example:
        >>> found = memory_of(resolve("resnet18", resolution=64), MemoryBudget(1, batch_size=2))
        >>> found.training.gradients_bytes
        46758048
    """
    return _memory(_dry_run(network, budget), budget.optimizer)


def _dry_run(network: Network, budget: MemoryBudget) -> DryRun:
    return DryRun(
        network,
        batch_size=budget.batch_size,
        precision=budget.precision,
        checkpointing=budget.checkpointing,
    )


def check_budget(budget: MemoryBudget) -> MemoryBudget:
    """Return a budget whose settings exist.

    Raises:
        InputError: Otherwise.

    Example:
        >>> check_budget(MemoryBudget(8_000_000_000)).batch_size
        1
    """
    check_count(budget.batch_size, what="batch size")
    check_optimizer(budget.optimizer)
    check_precision(budget.precision)
    if budget.optimizer is None and budget.checkpointing:
        raise InputError("Checkpointing is for training. Give an optimizer: sgd or adamw.")
    return budget


def budget_of(memory: int | str | MemoryBudget) -> MemoryBudget:
    """Return a budget of memory: of one image and SGD, where only the limit is given.

    Raises:
        InputError: If it is none.

    Example:
        >>> budget_of("8GB").limit_bytes
        8000000000
    """
    if isinstance(memory, MemoryBudget):
        check_positive(memory.limit_bytes, what="memory limit")
        return check_budget(memory)
    return MemoryBudget(limit_bytes(memory))


def limit_bytes(limit: int | str) -> int:
    """Return a limit of memory in bytes.

    Raises:
        InputError: If it is none.

    Example:
        >>> limit_bytes("8GB"), limit_bytes(4096)
        (8000000000, 4096)
    """
    if isinstance(limit, str):
        return parse_bytes(limit, what="memory limit")
    return int(check_positive(limit, what="memory limit"))


def _memory(run: DryRun, optimizer: str | None) -> Memory:
    return Memory(
        network=run.network.name,
        resolution=run.resolution,
        batch_size=run.batch_size,
        precision=run.precision,
        optimizer=optimizer,
        checkpoints=run.checkpoints,
        inference=run.inference(),
        training=None if optimizer is None else run.training(optimizer),
        notes=run.notes(),
        inputs=run.inputs,
    )


def _largest(run: DryRun, optimizer: str | None, limit: int) -> int:
    def peak(batch: int) -> int:
        at = run.with_batch(batch)
        return (at.inference() if optimizer is None else at.training(optimizer)).peak_bytes

    least = 1
    try:
        peak(least)
    except InputError:
        least = 2  # norms over a batch of single values need two images
    batch = largest(peak, limit=limit, least=least)
    if batch is None:
        raise BudgetError(
            f"{run.network.name} needs {format_bytes(peak(least))} at batch size {least}; the "
            f"limit is {format_bytes(limit)}. Give a higher limit, or a smaller network."
        )
    return batch

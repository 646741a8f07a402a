"""The memory of a network as tables for the terminal."""

from __future__ import annotations

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from convscale.complexity.memory import Memory, Peak
from convscale.quantities import format_bytes, format_count
from convscale.report.layout import add_row, noted, table_of, titled, where_run

_NAMES = {
    "weights_bytes": "weights",
    "weight_copies_bytes": "copies of weights",
    "inputs_bytes": "inputs",
    "activations_bytes": "activations",
    "gradients_bytes": "gradients",
    "optimizer_state_bytes": "optimizer state",
}


def memory_table(memory: Memory) -> RenderableType:
    """Show the peaks of inference and of a training step, what they consist of, and where.

    Example:
        >>> from convscale.complexity.memory import Inference, Parts
        >>> from convscale.report.layout import plain_lines
        >>> run = Inference(1 << 20, Peak("forward", "stem", Parts(1 << 19, 0, 0, 1 << 19)))
        >>> plain_lines(memory_table(Memory("net", 224, 8, "float32", None, run)))[-1]
        'Inference peaks at 1.0 MiB in stem.'
    """
    m = memory
    where = where_run(m.resolution, m.inputs)
    title = f"{m.network} {where}, batch size {m.batch_size}, {m.precision}"
    said = [f"Inference peaks at {format_bytes(m.inference.peak_bytes)}{_where(m.inference.peak)}."]
    if m.training is not None:
        how = " with checkpoints" if m.checkpoints else ""
        peak = f"{format_bytes(m.training.peak_bytes)}{_where(m.training.peak)}"
        said.append(f"A training step by {m.optimizer}{how} peaks at {peak}.")
        said += _step(memory)
    if m.limit_bytes is not None:
        said.append(f"It is the largest batch within {format_bytes(m.limit_bytes)}.")
    return Group(titled(title, _parts(memory)), *map(Text, said), *noted(m.notes))


def memory_sentence(memory: Memory) -> str:
    """Say what a scaled network needs, where memory was the target.

    Example:
        >>> from convscale.complexity.memory import Inference, Parts
        >>> run = Inference(1 << 20, Peak("forward", "stem", Parts(1 << 19, 0, 0, 1 << 19)))
        >>> memory_sentence(Memory("net", 224, 8, "float32", None, run))
        'Inference at batch size 8, float32, needs 1.0 MiB.'
    """
    what = "Inference" if memory.training is None else f"A training step by {memory.optimizer}"
    how = f"at batch size {memory.batch_size}, {memory.precision}"
    if memory.checkpoints:
        how += ", with checkpoints"
    return f"{what} {how}, needs {format_bytes(memory.peak_bytes)}."


def _parts(memory: Memory) -> Table:
    peaks = [memory.inference.peak]
    heads = ["at the peak", "inference<", "share<"]
    if memory.training is not None:
        peaks.append(memory.training.peak)
        heads += ["training<", "share<"]
    table = table_of(*heads)
    for field, name in _NAMES.items():
        sizes = [getattr(peak.parts, field) for peak in peaks]
        if any(sizes):
            add_row(table, name, *_cells(sizes, peaks))
    add_row(table, "total", *_cells([peak.total_bytes for peak in peaks], peaks), style="bold")
    return table


def _cells(sizes: list[int], peaks: list[Peak]) -> list[str]:
    cells = []
    for size, peak in zip(sizes, peaks, strict=True):
        cells += [format_bytes(size), f"{size / peak.total_bytes:.1%}"]
    return cells


def _where(peak: Peak) -> str:
    if peak.phase == "optimizer":
        return " in the step of the optimizer"
    place = peak.path or "the network itself"
    return f" in {place}" if peak.phase == "forward" else f" in the backward pass of {place}"


def _step(memory: Memory) -> list[str]:
    training = memory.training
    assert training is not None
    flops = training.flops
    lines = [
        f"Gradients {format_bytes(training.gradients_bytes)}, optimizer state "
        f"{format_bytes(training.optimizer_state_bytes)}, saved for the backward pass "
        f"{format_bytes(training.saved_activations_bytes)}."
    ]
    again = f", {format_count(flops.recomputed)} of blocks run again" if flops.recomputed else ""
    lines.append(
        f"Flops of the step: {format_count(flops.forward)} forward, "
        f"{format_count(flops.backward)} backward{again}."
    )
    return lines

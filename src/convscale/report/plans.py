"""A planned training as a table for the terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Group, RenderableType
from rich.text import Text

from convscale.quantities import format_count, format_figure, format_ms, format_resolution
from convscale.report.layout import add_row, noted, table_of, titled
from convscale.report.memory import memory_sentence

if TYPE_CHECKING:
    from convscale.prediction.plan import TrainingPlan


def plan_table(plan: TrainingPlan) -> RenderableType:
    """Show what a training takes: step, epoch, total, device-hours and energy, with intervals.

    Example:
        >>> from convscale.prediction.form import Execution
        >>> from convscale.prediction.plan import TrainingPlan
        >>> from convscale.prediction.prediction import Prediction
        >>> from convscale.report.layout import plain_lines
        >>> execution = Execution("gpu", "nhwc", "eager", "training", "amp")
        >>> step = Prediction("net", 224, 250, "mine", execution, 400.0, (360.0, 450.0), 0.9)
        >>> plain_lines(plan_table(TrainingPlan(step, 1_000_000, 90, 8)))[2]
        'step 400 ms 360 ms to 450 ms'
    """
    step = plan.step
    at = "" if step.resolution is None else f" at {format_resolution(step.resolution)} px"
    title = f"Training of {step.network}{at} by {step.profile}"
    table = table_of("", "predicted<", f"{100 * step.coverage:g} % interval<")
    rows: list[tuple[str, float]] = [
        ("step", plan.step_ms),
        (f"epoch of {_many(plan.steps_per_epoch, 'step')}", 1e3 * plan.epoch_s),
        (_many(plan.epochs, "epoch"), 1e3 * plan.total_s),
    ]
    for name, value in rows:
        low, high = plan.interval(value)
        add_row(table, name, format_ms(value), f"{format_ms(low)} to {format_ms(high)}")
    amounts = [("device-hours", plan.device_hours), ("energy (kWh)", plan.energy_kwh)]
    for name, amount in amounts:
        if amount is not None:
            low, high = plan.interval(amount)
            add_row(table, name, _figure(amount), f"{_figure(low)} to {_figure(high)}")
    where = "on a device" if plan.devices == 1 else f"on each of {plan.devices} devices"
    each = "" if plan.devices == 1 else " each"
    power = "" if plan.power_w is None else f", {plan.power_w:g} W{each}"
    speed = format_count(plan.images / plan.epoch_s)
    said = [
        f"{format_count(plan.images)} images, {step.batch_size} a step {where}{power}: "
        f"{speed} images a second."
    ]
    if plan.memory is not None:
        said.append(memory_sentence(plan.memory))
    return Group(titled(title, table), *map(Text, said), *noted(plan.notes))


def _many(count: int, what: str) -> str:
    return f"{count:,} {what}{'' if count == 1 else 's'}"


def _figure(value: float) -> str:
    if value < 0.1:
        return f"{value:.3g}"
    return format_figure(value) if value < 1000 else f"{value:,.0f}"

"""What came of an epoch: its row in the table, and whether it is the best so far."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from convscale.training.metrics import Errors
from convscale.training.progress import Progress, Row
from convscale.training.seeding import Order


def epoch_row(
    epoch: int, found: Mapping[str, Errors], *, progress: Progress, order: Order, lr: float
) -> Row:
    """Return the row of an epoch that is over.

    Args:
        epoch: The epoch, counted from 0.
        found: The errors of the weights, and of their average under `ema_`.
        progress: What was trained in it.
        order: The order of the images.
        lr: The learning rate at its end.

    Example:
        >>> order, errors = Order(images=8, batch_size=4, epochs=1, seed=0), Errors(8, 2, 0, 4.0)
        >>> progress = Progress(updates=2, loss_sum=3.0, training_s=2.0)
        >>> row = epoch_row(0, {"": errors}, progress=progress, order=order, lr=0.1)
        >>> row["train_loss"], row["top1_error_pct"], row["images_per_second"]
        (1.5, 25.0, 4.0)
    """
    row: Row = {
        "epoch": epoch + 1,
        "steps": progress.updates,
        "lr": lr,
        "train_loss": progress.loss_sum / order.steps,
        "validation_loss": found[""].loss,
    }
    for kind, errors in found.items():
        row[f"{kind}top1_error_pct"] = errors.top1_error_pct
        row[f"{kind}top5_error_pct"] = errors.top5_error_pct
    spent = progress.training_s
    row["seconds"] = spent
    row["images_per_second"] = order.steps * order.batch_size / spent if spent else None
    row["data_wait_share"] = progress.waiting_s / spent if spent else None
    return row


def better(
    epoch: int, found: Mapping[str, Errors], best: Mapping[str, Any] | None
) -> tuple[str, dict[str, Any]] | None:
    """Return which weights of an epoch have a lower top-1 error than the best, None if none has.

    Example:
        >>> better(2, {"": Errors(8, 2, 0, 4.0)}, {"top1_error_pct": 50.0})[1]["epoch"]
        3
        >>> better(2, {"": Errors(8, 4, 0, 4.0)}, {"top1_error_pct": 50.0})
    """
    kind = min(found, key=lambda name: found[name].top1_error_pct)
    lowest = found[kind].top1_error_pct
    if best is not None and lowest >= best["top1_error_pct"]:
        return None
    said = {"epoch": epoch + 1, "weights": "ema" if kind else "last", "top1_error_pct": lowest}
    return kind, {**said, "top5_error_pct": found[kind].top5_error_pct}

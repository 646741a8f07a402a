"""Runs of training for the terminal: what came of one, its errors, recipes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rich.console import Group, RenderableType
from rich.text import Text

from convscale.quantities import format_bytes, format_count, format_resolution
from convscale.report.durations import format_duration
from convscale.report.layout import add_row, noted, plain_lines, table_of, titled

if TYPE_CHECKING:
    from convscale.training.recipe import Recipe

__all__ = ["errors_table", "plain_lines", "recipes_table", "result_table"]

_NAMES = {"last": "last epoch", "ema": "their average (EMA)", "best": "best epoch"}


def result_table(document: Mapping[str, Any]) -> RenderableType:
    """Show what came of a run.

    Args:
        document: What result.json holds.
    """
    at = format_resolution(document["train_resolution"])
    state = "" if document["finished"] else ", stopped before its end"
    title = (
        f"{document['network']} on {document['data']} at {at} px, "
        f"{document['epochs']} epoch{'' if document['epochs'] == 1 else 's'}{state}"
    )
    errors = {"last": document, "ema": document["ema"], "best": document["best"]}
    table = _errors({kind: found for kind, found in errors.items() if found})
    cost = document["complexity"]
    counts = ", ".join(f"{format_count(cost[m])} {m}" for m in ("flops", "params", "acts"))
    return Group(
        titled(title, table),
        Text(f"{_best(document['best'])}{_speed(document)}"),
        Text(f"The network has {counts} at {format_resolution(cost['resolution'])} px."),
        *noted(document["notes"]),
        *noted(_broken(document["broken_images"])),
    )


def errors_table(document: Mapping[str, Any]) -> RenderableType:
    """Show the errors of each kind of weights of a run.

    Args:
        document: What `convscale eval --json` prints.

    Example:
        >>> found = {"network": "net", "data": "digits", "resolution": 32, "images": 8, "ema": None,
        ...          "top1_error_pct": 25.0, "top5_error_pct": None, "best": None,
        ...          "broken_images": []}
        >>> plain_lines(errors_table(found))[:3]
        ['net on digits at 32 px, 8 images', 'weights top-1 error (%) top-5 error (%)',
        'last epoch 25.00 –']
    """
    errors = {"last": document, "ema": document["ema"], "best": document["best"]}
    at = format_resolution(document["resolution"])
    title = f"{document['network']} on {document['data']} at {at} px, {document['images']} images"
    table = _errors({kind: found for kind, found in errors.items() if found})
    return Group(titled(title, table), *noted(_broken(document["broken_images"])))


def recipes_table(recipes: Mapping[str, Recipe]) -> RenderableType:
    """Show recipes, a line each.

    Example:
        >>> from convscale.training.recipe import Recipe
        >>> plain_lines(recipes_table({"mine": Recipe(epochs=9)}))[2]
        "mine 9 128 0.1 flip-crop a recipe of one's own"
    """
    table = table_of("recipe", "epochs<", "batch size<", "lr<", "augmentation", "for")
    for name, recipe in recipes.items():
        numbers = (str(recipe.epochs), str(recipe.batch_size), f"{recipe.lr:g}")
        add_row(table, name, *numbers, recipe.augment, recipe.summary)
    return titled("Recipes of training", table)


def _errors(errors: Mapping[str, Mapping[str, Any]]) -> Any:
    table = table_of("weights", "top-1 error (%)<", "top-5 error (%)<")
    for kind, found in errors.items():
        cells = [_percent(found.get(f"top{top}_error_pct")) for top in (1, 5)]
        add_row(table, _NAMES[kind], *cells)
    return table


def _percent(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}"


def _best(best: Mapping[str, Any] | None) -> str:
    if best is None:
        return ""
    whose = ", the average's weights" if best["weights"] == "ema" else ""
    return f"Best: epoch {best['epoch']}{whose}. "


def _speed(document: Mapping[str, Any]) -> str:
    parts = [format_duration(document["seconds"])]
    if document["images_per_second"] is not None:
        parts.append(f"{document['images_per_second']:.4g} images a second in training")
    if document["data_wait_share"] is not None:
        parts.append(f"{document['data_wait_share']:.1%} of it waiting for data")
    if document["peak_memory_bytes"] is not None:
        parts.append(f"peak memory {format_bytes(document['peak_memory_bytes'])}")
    return ", ".join(parts) + "."


def _broken(names: Sequence[str]) -> list[str]:
    if not names:
        return []
    if len(names) == 1:
        return [f"The image {names[0]} could not be read and was left out."]
    return [f"{len(names)} images could not be read and were left out; the first is {names[0]}."]

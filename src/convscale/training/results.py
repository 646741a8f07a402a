"""What a run leaves: history.csv, result.json, and a network that can be loaded."""

from __future__ import annotations

import json
import math
import platform
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

from convscale.errors import InputError
from convscale.files import write_whole
from convscale.runtime.devices import open_device
from convscale.scaling.results.storage import DESCRIPTION, description_of
from convscale.training.datasets import Data
from convscale.training.history import write_history
from convscale.training.outcome import TrainResult
from convscale.training.progress import Row
from convscale.training.recipe_files import write_recipe
from convscale.training.transforms import crop_pct, norm

RESULT, RECIPE = "result.json", "recipe.yaml"
# What later commands read of it.
_READ = ("network", "data", "finished", "classes", "evaluation", "variant", "recipe")
_PACKAGES = ("convscale", "torch", "torchvision", "timm", "accelerate")


def result_document(result: TrainResult) -> dict[str, Any]:
    """Return result.json: what came of a run, under which conditions.

    Errors are those of the weights after the last epoch, of their average (`ema`), and of the
    best epoch; seconds are those of all parts of a run that was cut off.
    """
    request, subject, recipe = result.request, result.subject, result.request.recipe
    last = {name: finite(value) for name, value in (result.rows or ({},))[-1].items()}
    return {
        "schema_version": 1,
        "network": subject.name,
        "data": request.data,
        "finished": result.finished,
        "epochs": len(result.rows),
        "steps": result.updates,
        "top1_error_pct": last.get("top1_error_pct"),
        "top5_error_pct": last.get("top5_error_pct"),
        "train_loss": last.get("train_loss"),
        "validation_loss": last.get("validation_loss"),
        "ema": _average(last),
        "best": result.best,
        "seconds": result.seconds,
        "training_seconds": result.training_seconds,
        "images_per_second": result.images_per_second,
        "data_wait_share": _share(result.data_wait_seconds, result.training_seconds),
        "peak_memory_bytes": result.peak_memory_bytes,
        "complexity": {**subject.complexity.as_dict(), "resolution": subject.scaled.resolution},
        "scale": subject.scale,
        "train_resolution": subject.train_resolution,
        "test_resolution": subject.test_resolution,
        "regularisation": {
            "drop_path": max(subject.regularised.drop_paths.values(), default=0.0),
            "dropout": subject.regularised.dropout,
        },
        "peak_lr": recipe.peak_lr,
        "seed": recipe.seed,
        "broken_images": sorted(result.broken),
        "classes": list(result.data.classes),
        "evaluation": _evaluation(result),
        "variant": result.choice.as_document(),
        "conditions": _conditions(result),
        "recipe": recipe.as_document(),
        "notes": list(result.notes),
    }


def write_result(result: TrainResult) -> dict[str, Any]:
    """Write what a run leaves into its folder, each file whole or not at all.

    Returns:
        What result.json holds.

    Raises:
        InputError: If the system refuses.
    """
    document, folder = result_document(result), result.folder
    write_history(folder, result.rows)
    write_whole(folder / RECIPE, write_recipe(result.request.recipe))
    if result.rows:
        write_whole(folder / DESCRIPTION, _as_json(_description(result)))
    write_whole(folder / RESULT, _as_json(document))
    return document


def read_result(folder: Path) -> dict[str, Any]:
    """Read result.json of a run.

    Raises:
        InputError: If there is none, or it is something else.

    Example:
        >>> read_result(Path("no such folder"))
        Traceback (most recent call last):
        convscale.errors.InputError: no such folder holds no result.json. Give the folder of a run
        that convscale train wrote, one epoch or more of it.
    """
    path = folder / RESULT
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError) as error:
        raise InputError(
            f"{folder} holds no {RESULT}. Give the folder of a run that convscale train wrote, one "
            "epoch or more of it."
        ) from error
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or error}.") from error
    except ValueError as error:
        raise InputError(f"{path} is no JSON: {error}.") from error
    if not isinstance(document, dict) or document.get("schema_version") != 1:
        raise InputError(f"{path} is not of schema version 1.")
    missing = [name for name in _READ if name not in document]
    if missing:
        raise InputError(f"{path} lacks {', '.join(missing)}, which every run writes.")
    return document


def result_of(result: TrainResult) -> dict[str, Any] | None:
    """Return result.json of a run that was over before it was started again; None of others.

    It is missing where the process ended between the last checkpoint and its result.

    Raises:
        InputError: If it is something else.
    """
    if not result.again or not (result.folder / RESULT).is_file():
        return None
    document = read_result(result.folder)
    return document if document["finished"] else None


def _as_json(document: Mapping[str, Any]) -> str:
    return json.dumps(document, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def _average(last: Row) -> dict[str, Any] | None:
    if "ema_top1_error_pct" not in last:
        return None
    return {name: last[f"ema_{name}"] for name in ("top1_error_pct", "top5_error_pct")}


def finite(value: float | int | None) -> float | int | None:
    """Return a number, or None for what JSON has no number for.

    Example:
        >>> finite(0.5), finite(float("inf"))
        (0.5, None)
    """
    return value if value is not None and math.isfinite(value) else None


def _share(part: float, whole: float) -> float | None:
    return part / whole if whole else None


def _description(result: TrainResult) -> dict[str, Any]:
    """Return convscale.json: by it the folder is a network, with the weights of its best epoch."""
    subject = result.subject
    return {
        **description_of(subject.scaled),
        "training": False,
        "weights": "best.safetensors",
        "classes": list(result.data.classes),
    }


def _evaluation(result: TrainResult) -> dict[str, Any]:
    """Return how images were shown to the network and judged: the same gives the same errors."""
    recipe, data, subject = result.request.recipe, result.data, result.subject
    mean, std = norm(recipe, data.traits)
    return {
        "resolution": subject.test_resolution,
        "in_chans": subject.in_chans,
        "crop_pct": crop_pct(recipe, data.traits),
        "interpolation": recipe.interpolation,
        "mean": list(mean),
        "std": list(std),
        "batch_size": recipe.batch_size // result.processes,
        "images": len(data.validation.targets),
    }


def _conditions(result: TrainResult) -> dict[str, Any]:
    return {
        "device": result.device,
        "hardware": open_device(result.device.partition(":")[0]).hardware,
        "processes": result.processes,
        "threads": result.threads,
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        **{name: metadata.version(name) for name in _PACKAGES},
    }


def classes_differ(document: Mapping[str, Any], data: Data) -> str | None:
    """Say how the classes of data differ from those that a run was trained on; None if not.

    Example:
        >>> from convscale.training.datasets import read_data
        >>> classes_differ({"classes": ["a"]}, read_data("digits"))
        'it was trained on 1 classes (a) and the data have 10 (0, 1, 2, …)'
    """
    trained, given = list(document["classes"]), list(data.classes)
    if trained == given:
        return None
    told = f"it was trained on {len(trained)} classes ({_few(trained)})"
    return f"{told} and the data have {len(given)} ({_few(given)})"


def _few(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (", …" if len(names) > 3 else "")

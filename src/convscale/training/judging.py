"""Judge the network of a run again: the same images give the same errors."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from convscale.errors import InputError
from convscale.network.modules.copies import meta_copy
from convscale.network.running.execution import ForwardError, run
from convscale.quantities import Resolution, check_resolution, format_resolution, sides
from convscale.runtime.devices import open_device
from convscale.scaling.results.storage import fill, load
from convscale.training.datasets import Data, read_data
from convscale.training.loading import Batched, validation_loader
from convscale.training.metrics import Errors, evaluate
from convscale.training.recipe import Recipe
from convscale.training.results import RESULT, classes_differ, finite, read_result
from convscale.training.variants import Choice, Variant

KINDS = ("last", "ema", "best")  # files of weights, by the name before .safetensors
Report = Callable[[int, int], None]


@dataclass(frozen=True)
class Judged:
    """The errors of each kind of weights of a run: after its last epoch, their average, the best.

    Example:
        >>> Judged("net", "digits", 32, {"last": Errors(8, 2, 0, 4.0)}).as_document()[
        ...     "top1_error_pct"]
        25.0
    """

    network: str
    data: str
    resolution: Resolution
    errors: dict[str, Errors]
    broken: tuple[str, ...] = ()
    conditions: dict[str, Any] = field(default_factory=dict)

    def as_document(self) -> dict[str, Any]:
        """Return the errors under the names that they have in result.json."""
        found = {
            kind: {name: finite(value) for name, value in errors.as_document().items()}
            for kind, errors in self.errors.items()
        }
        last = found.get("last", {})
        return {
            "schema_version": 1,
            "network": self.network,
            "data": self.data,
            "resolution": self.resolution,
            "images": max(errors.images for errors in self.errors.values()),
            "top1_error_pct": last.get("top1_error_pct"),
            "top5_error_pct": last.get("top5_error_pct"),
            "validation_loss": last.get("loss"),
            "ema": found.get("ema"),
            "best": found.get("best"),
            "broken_images": sorted(self.broken),
            "conditions": self.conditions,
        }


def judge(
    folder: str | Path,
    *,
    data: str | None = None,
    base: str | nn.Module | None = None,
    resolution: Resolution | None = None,
    device: str = "cpu",
    workers: int | None = None,
    progress: Report | None = None,
) -> Judged:
    """Judge all weights of a run by images, as the run itself did.

    Args:
        folder: The folder of the run.
        data: Other data with the same classes; by default those of the run.
        base: The base network, for networks that have no name of a library.
        resolution: Input side, or height and width, in px; by default that of the run.
        device: cpu, cuda or mps.
        workers: Processes that load images; by default as many as suit.
        progress: Told how many images are judged, and of how many.

    Raises:
        InputError: If the folder is no run, or the data or the device do not suit.
    """
    path = Path(folder)
    document = read_result(path)
    found = _data_of(document) if data is None else read_data(data)
    differing = classes_differ(document, found)
    if differing is not None:
        raise InputError(f"The network of {path} cannot be judged by {found.name}: {differing}.")
    where = torch.device(open_device(device).name)
    with _as_written(path):
        side = _side(document, resolution)
        chans = int(document["evaluation"]["in_chans"])
        batches = _batches(document, found, side, workers)
        variant = Choice.from_document(document["variant"]).variant
    module = load(path, base=base).module.to(where)
    _check_runs(module, path, side, chans)
    kinds = [kind for kind in KINDS if (path / f"{kind}.safetensors").is_file()]
    seen = _counter(progress, len(kinds) * len(found.validation.targets))
    errors = {}
    for kind in kinds:
        fill(module, path / f"{kind}.safetensors")
        errors[kind] = _judged(module, batches, len(found.classes), where, variant, seen)
    said = {"device": str(where), "threads": torch.get_num_threads(), "variant": str(variant)}
    broken = tuple(batches.broken.found)
    return Judged(document["network"], found.name, side, errors, broken, said)


@contextmanager
def _as_written(folder: Path) -> Iterator[None]:
    """Say that result.json is not as a run writes it, where what is read of it does not fit."""
    try:
        yield
    except InputError:
        raise
    except (KeyError, TypeError, ValueError) as error:
        said = f"it lacks {error}" if isinstance(error, KeyError) else " ".join(str(error).split())
        raise InputError(
            f"{folder / RESULT} is not what a run of this version writes: {said}."
        ) from error


def _data_of(document: dict[str, Any]) -> Data:
    """Return the data of a run; where they are no longer, say how to name others."""
    try:
        return read_data(document["data"])
    except InputError as error:
        raise InputError(
            f"{error.line} The run was trained on them, as seen from where it was started; --data "
            "(data=) tells where they are now."
        ) from error


def _judged(
    module: nn.Module,
    batches: Batched,
    classes: int,
    device: torch.device,
    variant: Variant,
    seen: Callable[[int], None],
) -> Errors:
    module.to(device, memory_format=variant.memory_format)  # type: ignore[call-overload]
    return evaluate(
        module,
        batches,
        classes=classes,
        device=device,
        casting=lambda: variant.context(device.type),
        memory_format=variant.memory_format,
        seen=seen,
    )


def _side(document: dict[str, Any], resolution: Resolution | None) -> Resolution:
    own = document["evaluation"]["resolution"]
    found = resolution if resolution is not None else tuple(own) if isinstance(own, list) else own
    return check_resolution(found, dims=2)


def _batches(
    document: dict[str, Any], data: Data, side: Resolution, workers: int | None
) -> Batched:
    """Return the images, shown as the run showed them."""
    recipe, how = Recipe.model_validate(_tuples(document["recipe"])), document["evaluation"]
    changes = {
        "crop_pct": how["crop_pct"],
        "mean": tuple(how["mean"]),
        "std": tuple(how["std"]),
        "batch_size": how["batch_size"],
        **({} if workers is None else {"workers": workers}),
    }
    as_shown = recipe.model_copy(update=changes)
    return validation_loader(data, as_shown, resolution=side, in_chans=how["in_chans"])


def _tuples(document: dict[str, Any]) -> dict[str, Any]:
    return {name: tuple(v) if isinstance(v, list) else v for name, v in document.items()}


def _check_runs(module: nn.Module, path: Path, side: Resolution, chans: int) -> None:
    copied = meta_copy(module)
    try:
        run(copied, (torch.empty(1, chans, *sides(side), device="meta"),))
    except ForwardError as error:
        at = f"{format_resolution(side)} px"
        raise InputError(f"The network of {path} does not run at {at}: {error.told}.") from error


def _counter(progress: Report | None, total: int) -> Callable[[int], None]:
    done = 0

    def seen(images: int) -> None:
        nonlocal done
        done += images
        if progress is not None:
            progress(done, total)

    return seen

"""What a user asks of a run, and how a run is known again when it goes on."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from convscale.errors import InputError
from convscale.files import write_whole
from convscale.network.sources.naming import NetworkLike
from convscale.quantities import Resolution
from convscale.training.fingerprint import Fingerprint
from convscale.training.recipe import Recipe

RUN = "run.json"
_DIGEST = "images_digest"
_VERSION = 1
# Knobs that change nothing of what a run computes: it may go on with others.
FREE = ("summary", "workers", "checkpoint_seconds", "checkpoint_steps", "broken_limit")


@dataclass(frozen=True)
class TrainRequest:
    """A network, data, a recipe, and the folder of the run.

    Args:
        network: What is trained, as `convscale.count` takes it.
        data: fashion-mnist, digits, or a folder.
        out: The folder of the run; a run in it that was asked for likewise goes on.
        recipe: The recipe.
        resolution: Base input side, or all sides, in px; the network's own by default.
        num_classes: What the user says of the classes: it must be the data's.
        in_chans: Input channels, for names and factories.
        device: cpu, cuda or mps; by default what accelerate finds.

    Example:
        >>> TrainRequest("resnet18", "digits", Path("run")).recipe.epochs
        100
    """

    network: NetworkLike
    data: str
    out: Path
    recipe: Recipe = field(default_factory=Recipe)
    resolution: Resolution | None = None
    num_classes: int | None = None
    in_chans: int | None = None
    device: str | None = None

    def identity(self, network: str, images: int, digest: str) -> dict[str, Any]:
        """Return what another run of the same would have in common with this, as JSON takes it.

        Args:
            network: The resolved name of the network.
            images: How many there are to train on: the order of all follows from it.
            digest: What the images are known by, wherever they are.
        """
        recipe = self.recipe.as_document()
        resolution = self.resolution
        return {
            "network": network,
            "data": self.data,
            "images": images,
            _DIGEST: digest,
            "resolution": list(resolution) if isinstance(resolution, tuple) else resolution,
            "in_chans": self.in_chans,
            **{name: value for name, value in recipe.items() if name not in FREE},
        }


def begin_or_go_on(
    folder: Path, identity: dict[str, Any], images: Fingerprint | None = None
) -> None:
    """Make the folder of a run, or find that the run in it is the one that is asked for.

    Args:
        folder: The folder of the run.
        identity: What the run is known by.
        images: What its images are known by, class by class, to say which have changed.

    Raises:
        InputError: If other things are there, or a run with other settings.

    Example:
        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp(), "run")
        >>> begin_or_go_on(folder, {"network": "timm:resnet18", "lr": 0.1})
        >>> begin_or_go_on(folder, {"network": "timm:resnet18", "lr": 0.2})
        Traceback (most recent call last):
        convscale.errors.InputError: The run in ... has other settings: lr is 0.1 there, not 0.2.
        Ask for the same to go on with it, or write the name of a new folder.
    """
    document = _read(folder)
    if document is None:
        known = {} if images is None else {"images": images.as_document()}
        text = json.dumps({"schema_version": _VERSION, "asked": identity, **known}, indent=1)
        write_whole(folder / RUN, text + "\n")
        return
    told, changed = _told(document, identity, images)
    if told or changed:
        what = " and ".join(["settings"] * bool(told) + ["images"] * bool(changed))
        raise InputError(
            f"The run in {folder} has other {what}: {', '.join([*told, *changed])}. Ask for the "
            "same to go on with it, or write the name of a new folder."
        )


def _told(
    document: Mapping[str, Any], identity: Mapping[str, Any], images: Fingerprint | None
) -> tuple[list[str], list[str]]:
    """Say which settings differ, and which images of the same classes have changed."""
    there, known = document["asked"], document.get("images", {})
    if images is None or there.get(_DIGEST, identity[_DIGEST]) == identity[_DIGEST]:
        return differences(there, identity), []
    if not images.has_classes(known) and there["data"] != identity["data"]:
        return differences(there, identity), []
    of_images = {"images": identity["images"], _DIGEST: identity[_DIGEST]}
    return differences({**there, **of_images}, identity), images.differences(known)


def differences(found: Mapping[str, Any], asked: Mapping[str, Any]) -> list[str]:
    """Say in what a run that was asked for before differs from one that is asked for now.

    The same images may have another name.

    Example:
        >>> differences({"lr": 0.1, "ema": None}, {"lr": 0.1, "ema": 0.9})
        ['ema is null there, not 0.9']
    """
    now = json.loads(json.dumps(asked))
    aside = {"data"} if found.get(_DIGEST, "") == now.get(_DIGEST) else {_DIGEST}
    return [
        f"{name} is {_shown(found.get(name))} there, not {_shown(now.get(name))}"
        for name in sorted((found.keys() | now.keys()) - aside)
        if found.get(name) != now.get(name)
    ]


def _read(folder: Path) -> dict[str, Any] | None:
    """Return run.json of a folder, None where nothing is there."""
    path = folder / RUN
    if not path.is_file():
        if folder.exists() and not folder.is_dir():
            raise InputError(f"{folder} is a file. Write the name of a new folder.")
        if folder.is_dir() and any(not path.name.startswith(".") for path in folder.iterdir()):
            raise InputError(
                f"The folder {folder} exists and holds no run. Write the name of a new one."
            )
        return None
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        known = document["schema_version"] == _VERSION and isinstance(document["asked"], dict)
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or error}.") from error
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"{path} is not what a run writes: {error!r}. Write the name of a new folder."
        ) from error
    if not known:
        raise InputError(f"{path} is not of schema version {_VERSION}.")
    return dict(document)


def _shown(value: object) -> str:
    return "null" if value is None else str(value)


@contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """Keep other runs out of a folder for a while; the lock ends with the process.

    Raises:
        InputError: If another process trains there.

    Example:
        >>> import tempfile
        >>> with alone_in(Path(tempfile.mkdtemp())):
        ...     pass
    """
    import fcntl  # systems other than POSIX lack it

    _read(folder)  # refuses a folder of other things before it writes there
    try:
        folder.mkdir(parents=True, exist_ok=True)
        handle = os.open(folder / ".lock", os.O_RDWR | os.O_CREAT, 0o666)
    except OSError as error:
        raise InputError(f"Cannot write in {folder}: {error.strerror or error}.") from error
    try:
        fcntl.lockf(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(handle)
        raise InputError(
            f"Another process trains in {folder}. Wait for it, or write the name of a new folder."
        ) from error
    try:
        yield
    finally:
        os.close(handle)

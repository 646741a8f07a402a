"""Recipes in YAML files, ours and the user's; all mistakes of one are told at once."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from convscale.errors import InputError, near_names
from convscale.reading import read_yaml_file, read_yaml_value
from convscale.training.recipe import Recipe

NAMES = ("basic", "strong")
_SUFFIXES = (".yaml", ".yml")
# What draws random numbers in every process, so that parts in one would draw others.
_CHANCE = ("mixup", "cutmix", "drop_path", "drop_path_growth", "dropout", "dropout_growth")
# What the same knobs are called elsewhere.
_SYNONYMS = {
    "learning_rate": "lr",
    "base_lr": "lr",
    "bs": "batch_size",
    "batch": "batch_size",
    "wd": "weight_decay",
    "warmup": "warmup_epochs",
    "smoothing": "label_smoothing",
    "opt": "optimizer",
    "aa": "augment",
    "auto_augment": "augment",
    "stochastic_depth": "drop_path",
    "model_ema_decay": "ema",
    "clip_grad": "grad_clip",
    "num_workers": "workers",
    "amp": "precision",
    "hflip": "flip",
    "resolution": "train_resolution",
}


def read_recipe(name: str, settings: Sequence[str] = (), *, epochs: int | None = None) -> Recipe:
    r"""Read a recipe by its name or from a YAML file, with single settings over it.

    Args:
        name: basic, strong, or the path of a YAML file; what it leaves out is as in basic.
        settings: Single knobs, such as lr=0.1.
        epochs: Stretch the recipe to so many; the warm-up in proportion, where it is not set.

    Raises:
        InputError: If there is no such recipe, or something in it is wrong: all in one line.

    Example:
        >>> read_recipe("strong", ["lr=0.2"]).lr
        0.2
        >>> read_recipe("basic", ["learning_rate=1", "epochs=0"])
        Traceback (most recent call last):
        convscale.errors.InputError: Recipe basic with --set is wrong: epochs: input should be
        greater than or equal to 1 (it is 0); learning_rate is unknown (did you mean lr?).
    """
    document, mistakes = _document(name)
    changes, wrong = _changes(settings)
    if epochs is not None and "epochs" in changes:
        wrong.append("epochs is given twice, by --epochs and by --set")
    title = f"Recipe {name}" + (" with --set" if changes or wrong else "")
    recipe = _checked({**document, **changes}, [*mistakes, *wrong], title)
    if epochs is None:
        return recipe
    longer = recipe.lasting(epochs)
    if "warmup_epochs" in changes:
        longer = longer.model_copy(update={"warmup_epochs": recipe.warmup_epochs})
    return _checked(longer.as_document(), [], f"{title} and --epochs")


def write_recipe(recipe: Recipe) -> str:
    r"""Write a recipe as YAML, with what each knob means.

    Example:
        >>> print(write_recipe(Recipe()).splitlines()[1])
        epochs: 100                      # passes over the training images
    """
    lines = []
    for name, field in Recipe.model_fields.items():
        value = recipe.as_document()[name]
        written = yaml.safe_dump(value, default_flow_style=True, width=1000, allow_unicode=True)
        entry = f"{name}: {written.removesuffix(chr(10)).removesuffix(chr(10) + '...')}"
        lines.append(f"{entry:<32} # {field.description}")
    return "\n".join(lines) + "\n"


def _document(name: str) -> tuple[dict[str, Any], list[str]]:
    """Return the entries of a recipe, and those that stand twice."""
    if name in NAMES:
        path = Path(str(resources.files("convscale.training") / "recipes" / f"{name}.yaml"))
    elif name.endswith(_SUFFIXES):
        path = Path(name)
    else:
        raise InputError(
            f"Unknown recipe {name!r}.{near_names(name, NAMES)} Write {' or '.join(NAMES)}, or the "
            "path of a YAML file."
        )
    try:
        document, repeated = read_yaml_file(path)
    except FileNotFoundError:
        raise InputError(f"There is no file {path}. Name a YAML file with a recipe.") from None
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}.") from error
    if not isinstance(document, dict):
        raise InputError(f"{path} holds no mapping. Write knobs and values, as in 'lr: 0.1'.")
    return {str(key): value for key, value in document.items()}, repeated


def _changes(settings: Sequence[str]) -> tuple[dict[str, Any], list[str]]:
    """Read single settings KEY=VALUE, and say which cannot be read."""
    found: dict[str, Any] = {}
    wrong: list[str] = []
    for text in settings:
        name, equals, value = text.partition("=")
        name = name.strip()
        if not equals or not name or not value.strip():
            wrong.append(f"{text!r} is no setting; write KEY=VALUE, as in lr=0.1")
        elif name in found:
            wrong.append(f"{name} is set twice")
        else:
            try:
                found[name] = read_yaml_value(value)
            except InputError as error:
                wrong.append(f"{name}: {error.line.rstrip('.')}")
    return found, wrong


def _checked(document: Mapping[str, Any], mistakes: list[str], title: str) -> Recipe:
    """Return the recipe that a mapping describes, or say everything that is wrong with it."""
    told: list[str] = []
    recipe = None
    try:
        recipe = Recipe.model_validate(_with_tuples(document))
    except ValidationError as error:
        told = list(_mistakes(error, document))
    told += [*mistakes, *_contradictions(document)]
    if told or recipe is None:
        raise InputError(f"{title} is wrong: {'; '.join(told)}.")
    return recipe


def _with_tuples(document: Mapping[str, Any]) -> dict[str, Any]:
    """Return a document in which lists are tuples, as pydantic's strict types want them."""
    return {
        name: tuple(value) if isinstance(value, list) else value for name, value in document.items()
    }


def _mistakes(error: ValidationError, document: Mapping[str, Any]) -> Iterator[str]:
    """Say for each knob what is wrong with it; where it takes several forms, what it takes."""
    by_name: dict[str, list[Mapping[str, Any]]] = {}
    for entry in error.errors():
        by_name.setdefault(str(entry["loc"][0]) if entry["loc"] else "the recipe", []).append(entry)
    for name, entries in by_name.items():
        first, *others = entries
        if first["type"] == "extra_forbidden":
            known = [_SYNONYMS[name]] if name in _SYNONYMS else []
            near = f" Did you mean {known[0]}?" if known else near_names(name, Recipe.model_fields)
            yield f"{name} is unknown" + (f" ({near.strip().replace('D', 'd', 1)})" if near else "")
        elif others or len(first["loc"]) > 1:
            told = ", ".join(map(str, Recipe.model_fields[name].examples or ()))
            yield f"{name}: write a value such as {told} (it is {document[name]!r})"
        else:
            said = str(first["msg"]).removeprefix("Value error, ").rstrip(".")
            yield f"{name}: {said[:1].lower()}{said[1:]} (it is {first['input']!r})"


def _contradictions(document: Mapping[str, Any]) -> Iterator[str]:
    """Say what is wrong between knobs, whatever else is wrong."""
    knobs = {**Recipe().as_document(), **document}
    epochs, warm = knobs["epochs"], knobs["warmup_epochs"]
    if _numbers(epochs, warm) and epochs >= 1 and warm > epochs:
        yield f"warmup_epochs is {warm:g} and epochs is {epochs}; it must not be longer"
    batch, mixed = knobs["batch_size"], (knobs["mixup"], knobs["cutmix"])
    if _numbers(batch, *mixed) and any(mixed) and batch > 0 and batch % 2:
        yield f"batch_size is {batch}; it must be even, since mixup and cutmix pair images"
    yield from _contradictions_of_parts(knobs)


def _contradictions_of_parts(knobs: Mapping[str, Any]) -> Iterator[str]:
    parts, batch = knobs["parts"], knobs["batch_size"]
    if not _numbers(parts) or parts < 2:
        return
    if _numbers(batch) and batch % parts:
        yield f"batch_size is {batch}; it must be a multiple of parts, which is {parts}"
    chance = [name for name in _CHANCE if _numbers(knobs[name]) and knobs[name] > 0]
    if chance:
        yield f"parts is {parts}; it must be null where there is {', '.join(chance)}"


def _numbers(*values: Any) -> bool:
    return all(isinstance(value, int | float) and not isinstance(value, bool) for value in values)

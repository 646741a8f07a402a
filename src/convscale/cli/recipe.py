"""`convscale recipe`: the recipes of training and their knobs."""

from __future__ import annotations

from typing import Annotated

import typer

from convscale.cli import options
from convscale.cli.answer import Answer
from convscale.training.recipe_files import NAMES, read_recipe, write_recipe

Named = Annotated[
    str,
    typer.Argument(metavar="RECIPE", help="basic, strong, or a YAML file.", show_default=False),
]
Settings = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="A single knob, such as lr=0.1; repeatable."),
]


def show(name: Named, set: Settings = None, json: options.Json = False) -> Answer:
    """Show every knob of a recipe as YAML, to be saved as a file of one's own.

    Example:
        >>> show("basic", set=["epochs=9"])[0].splitlines()[1]
        'epochs: 9                        # passes over the training images'
    """
    recipe = read_recipe(name, set or [])
    if json:
        found = {"recipe": name, **recipe.as_document()}
        return {"schema_version": 1, "network": None, **found}
    return [write_recipe(recipe).rstrip("\n")]


def list_recipes(json: options.Json = False) -> Answer:
    """List the recipes that come along.

    Example:
        >>> [entry["recipe"] for entry in list_recipes(json=True)["recipes"]]
        ['basic', 'strong']
    """
    recipes = {name: read_recipe(name) for name in NAMES}
    if json:
        rows = [{"recipe": name, **found.as_document()} for name, found in recipes.items()]
        return {"schema_version": 1, "network": None, "recipes": rows}

    from convscale.report.trained import recipes_table

    return [recipes_table(recipes)]

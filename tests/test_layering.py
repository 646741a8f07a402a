"""The architecture of docs/architecture.md: imports point one way; the numbers need no torch."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "src" / "convscale"

# A module imports only from its own layer and from those before it.
LAYERS = (
    "errors",
    "files",
    "reading",
    "quantities",
    "input_sizes",
    "strategy",
    "complexity.complexity",
    "complexity.calls",
    "complexity.views",
    "complexity.memory",
    "families",
    "network.modules",
    "network.channels",
    "network.sources",
    "network.running",
    "network.resolution",
    "network.tracing",
    "network.stages",
    "network",
    "complexity",
    "prediction",
    "scaling.plans",
    "scaling.widths",
    "scaling.variants",
    "scaling.building",
    "scaling.depths",
    "scaling.search",
    "scaling.results",
    "scaling",
    "runtime",
    "training",
    "selection",
    "study",
    "report",
    "cli",
)
# These hold numbers only: they start at once.
LIGHT = (
    "errors",
    "files",
    "reading",
    "quantities",
    "strategy",
    "complexity.complexity",
    "complexity.calls",
    "complexity.views",
    "complexity.memory",
    "families",
    "prediction",
    "selection",
    "selection.zoo",
    "selection.reasons",
    "training.recipe_files",
    "training.datasets",
)
HEAVY = ("torch", "torchvision", "timm")


def layer_of(module: str) -> str:
    name = module.removeprefix("convscale.")
    found = [layer for layer in LAYERS if name == layer or name.startswith(f"{layer}.")]
    assert found, f"{module} belongs to no layer of docs/architecture.md"
    return max(found, key=len)


def imports(path: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
            # `from convscale.complexity import complexity` names a module too
            found.update(
                f"{node.module}.{alias.name}"
                for alias in node.names
                if (PACKAGE / "/".join([*node.module.split(".")[1:], alias.name]))
                .with_suffix(".py")
                .exists()
            )
    return found


SOURCES = [path for path in sorted(PACKAGE.rglob("*.py")) if path != PACKAGE / "__init__.py"]


def module_name(path: Path) -> str:
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(["convscale", *(part for part in parts if part != "__init__")])


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_module_imports_only_from_the_layers_before_it(path):
    own = LAYERS.index(layer_of(module_name(path)))
    for name in imports(path):
        if name.startswith("convscale.") and name != "convscale.complexity":
            assert LAYERS.index(layer_of(name)) <= own, f"{path} imports {name}"


def test_every_layer_is_named_in_the_architecture_document():
    text = (ROOT / "docs" / "architecture.md").read_text()
    missing = [layer for layer in LAYERS if any(part not in text for part in layer.split("."))]
    assert not missing


@pytest.mark.parametrize("layer", ["network", "scaling"])
def test_the_architecture_document_names_every_module_of_the_core(layer):
    text = (ROOT / "docs" / "architecture.md").read_text()
    modules = [path.name for path in (PACKAGE / layer).rglob("*.py") if path.stem != "__init__"]
    assert modules
    assert not [name for name in modules if f"`{name}`" not in text]


@pytest.mark.parametrize("layer", LIGHT)
def test_the_numbers_side_imports_no_torch(layer):
    code = (
        f"import sys, convscale.{layer}; print([name for name in {HEAVY!r} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_importing_the_package_imports_no_torch():
    code = f"import sys, convscale; print([name for name in {HEAVY!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"

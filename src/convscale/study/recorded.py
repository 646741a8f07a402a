"""The operators of networks at sides, and the families they are of."""

from __future__ import annotations

from typing import TYPE_CHECKING

from convscale.complexity.views import Operators
from convscale.study.timing import Side

if TYPE_CHECKING:
    from convscale.prediction.workload import Workload


def recorded(side: Side) -> tuple[Operators, Workload]:
    """Return the operators of a network at a side, and the same as arrays.

    Raises:
        InputError: If there is no such network, or it does not run.

    Example:
        >>> found, work = recorded(Side("timm:resnet18", 64))
        >>> len(found.calls) == work.operators
        True
    """
    from convscale.complexity.operators import record_network
    from convscale.prediction.predict import ELEMENTS, workload_of
    from convscale.scaling import resolve

    network = resolve(side.network, resolution=side.resolution)
    found = record_network(network, dtype=ELEMENTS, autocast=True)
    return found, workload_of(found)


def family_of(label: str) -> str:
    """Return the name of the timm module that a network is from; of others their own name.

    Example:
        >>> family_of("timm:resnet50"), family_of("torchvision:resnet50")
        ('resnet', 'torchvision:resnet50')
    """
    from timm.models import is_model
    from timm.models._registry import _model_to_module

    name = label.removeprefix("timm:").partition("@")[0].partition(".")[0]
    known = ":" not in name and is_model(name)
    return str(_model_to_module[name]) if known else label

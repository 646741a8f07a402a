"""The families of the literature: exact values, closed forms, scaling by the authors' rule."""

from convscale.families.closed_form import count
from convscale.families.description import AnyNet, Description, EfficientNet
from convscale.families.registry import named, names
from convscale.families.regnet import RegNet
from convscale.families.scaling import scaled, solved

__all__ = [
    "AnyNet",
    "Description",
    "EfficientNet",
    "RegNet",
    "count",
    "named",
    "names",
    "scaled",
    "solved",
]

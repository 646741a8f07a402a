"""The families of the literature: exact values, closed forms, scaling by the authors' rule."""

from convscale.families.candidates import Candidates, read_candidates
from convscale.families.closed_form import count
from convscale.families.description import AnyNet, Description, EfficientNet
from convscale.families.documents import read_yaml, write_yaml
from convscale.families.many import Costs, count_many, count_regnets, count_stages, read_regnets
from convscale.families.memory import inference_bytes
from convscale.families.registry import named, names, regnet
from convscale.families.regnet import RegNet
from convscale.families.sampling import Interval, Sample, Space, sample
from convscale.families.scaled_many import Scalings, scale_many
from convscale.families.scaling import scaled, solved

__all__ = [
    "AnyNet",
    "Candidates",
    "Costs",
    "Description",
    "EfficientNet",
    "Interval",
    "RegNet",
    "Sample",
    "Scalings",
    "Space",
    "count",
    "count_many",
    "count_regnets",
    "count_stages",
    "inference_bytes",
    "named",
    "names",
    "read_candidates",
    "read_regnets",
    "read_yaml",
    "regnet",
    "sample",
    "scale_many",
    "scaled",
    "solved",
    "write_yaml",
]

"""Scale convolutional networks: choose, build, count and measure the right size for a budget.

Everything here is imported when it is first used, so that `import convscale` costs nothing:
torch, torchvision and timm come in only when a network is touched.

Example:
    >>> import convscale as cs
    >>> [strategy.name for strategy in cs.strategies()][:3]
    ['d', 'w', 'r']
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from convscale import families
    from convscale.complexity.complexity import Complexity
    from convscale.complexity.family_memory import step_bytes
    from convscale.complexity.memory import MemoryBudget
    from convscale.errors import (
        BudgetError,
        ConvscaleError,
        InputError,
        UnknownNetworkError,
        UnscalableNetworkError,
    )
    from convscale.network.channels.adapters import Adapter
    from convscale.prediction.plan import TrainingPlan
    from convscale.prediction.prediction import Prediction
    from convscale.prediction.predictions import Predictions, predict_many
    from convscale.prediction.profile import Profile
    from convscale.prediction.profile_file import read_profile
    from convscale.prediction.store import profile_of as profile
    from convscale.prediction.store import profiles, save_profile
    from convscale.runtime import measure
    from convscale.scaling import count, count_conventions, load, operators, predict, scale, stages
    from convscale.scaling.memory import memory
    from convscale.scaling.planning import plan
    from convscale.scaling.resolving import build
    from convscale.strategy import Strategy
    from convscale.strategy import named_strategies as strategies
    from convscale.strategy.fitting import fit_exponents
    from convscale.study import compare, diff
    from convscale.study.correlate import correlate
    from convscale.study.from_table import calibrate
    from convscale.study.laws import laws
    from convscale.study.selecting import select, select_series

    __version__: str

__all__ = [
    "Adapter",
    "BudgetError",
    "Complexity",
    "ConvscaleError",
    "InputError",
    "MemoryBudget",
    "Prediction",
    "Predictions",
    "Profile",
    "Strategy",
    "TrainingPlan",
    "UnknownNetworkError",
    "UnscalableNetworkError",
    "__version__",
    "build",
    "calibrate",
    "compare",
    "correlate",
    "count",
    "count_conventions",
    "diff",
    "families",
    "fit_exponents",
    "laws",
    "load",
    "measure",
    "memory",
    "operators",
    "plan",
    "predict",
    "predict_many",
    "profile",
    "profiles",
    "read_profile",
    "save_profile",
    "scale",
    "select",
    "select_series",
    "stages",
    "step_bytes",
    "strategies",
]

_ORIGIN = {
    "Adapter": "convscale.network.channels.adapters:Adapter",
    "BudgetError": "convscale.errors:BudgetError",
    "Complexity": "convscale.complexity.complexity:Complexity",
    "ConvscaleError": "convscale.errors:ConvscaleError",
    "InputError": "convscale.errors:InputError",
    "MemoryBudget": "convscale.complexity.memory:MemoryBudget",
    "Prediction": "convscale.prediction.prediction:Prediction",
    "Predictions": "convscale.prediction.predictions:Predictions",
    "Profile": "convscale.prediction.profile:Profile",
    "Strategy": "convscale.strategy:Strategy",
    "TrainingPlan": "convscale.prediction.plan:TrainingPlan",
    "UnknownNetworkError": "convscale.errors:UnknownNetworkError",
    "UnscalableNetworkError": "convscale.errors:UnscalableNetworkError",
    "build": "convscale.scaling.resolving:build",
    "calibrate": "convscale.study.from_table:calibrate",
    "compare": "convscale.study:compare",
    "correlate": "convscale.study.correlate:correlate",
    "count": "convscale.scaling:count",
    "count_conventions": "convscale.scaling:count_conventions",
    "diff": "convscale.study:diff",
    "fit_exponents": "convscale.strategy.fitting:fit_exponents",
    "laws": "convscale.study.laws:laws",
    "load": "convscale.scaling:load",
    "measure": "convscale.runtime:measure",
    "operators": "convscale.scaling:operators",
    "memory": "convscale.scaling.memory:memory",
    "plan": "convscale.scaling.planning:plan",
    "predict": "convscale.scaling:predict",
    "predict_many": "convscale.prediction.predictions:predict_many",
    "profile": "convscale.prediction.store:profile_of",
    "profiles": "convscale.prediction.store:profiles",
    "read_profile": "convscale.prediction.profile_file:read_profile",
    "save_profile": "convscale.prediction.store:save_profile",
    "scale": "convscale.scaling:scale",
    "select": "convscale.study.selecting:select",
    "select_series": "convscale.study.selecting:select_series",
    "stages": "convscale.scaling:stages",
    "step_bytes": "convscale.complexity.family_memory:step_bytes",
    "strategies": "convscale.strategy:named_strategies",
}


def __getattr__(name: str) -> object:
    value: object
    if name == "__version__":
        value = importlib.import_module("importlib.metadata").version("convscale")
    elif name == "families":
        value = importlib.import_module("convscale.families")
    elif name in _ORIGIN:
        module, attribute = _ORIGIN[name].split(":")
        value = getattr(importlib.import_module(module), attribute)
    else:
        raise AttributeError(f"module 'convscale' has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})

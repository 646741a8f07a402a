"""What a candidate costs: counted, predicted by a profile, and its memory, by its name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from math import gcd, prod

from convscale.complexity.calls import CONVOLUTIONS, ITEM_BYTES, LINEAR
from convscale.complexity.views import Operators
from convscale.errors import InputError
from convscale.network.sources.network import Network
from convscale.prediction.profile import Profile
from convscale.prediction.schedule import Schedule, Times
from convscale.quantities import Resolution, sides
from convscale.selection.confidence import one_sided
from convscale.study.correction import Correction

COUNTED = frozenset(("flops", "params", "acts", "width_multiple", "download_bytes"))
PREDICTED = frozenset(("latency_ms", "images_per_second"))
REMEMBERED = frozenset(("memory_bytes", "training_memory_bytes"))
TRAINED = frozenset(("training_h", "energy_kwh"))
RECORDED = COUNTED | PREDICTED | TRAINED  # what the operators tell
_AS_PREDICTED = Correction()


@dataclass(frozen=True)
class Conditions:
    """Under what candidates are counted and predicted.

    Args:
        profile: Gives latency and throughput.
        batch_size: Images in a pass, or in a step of training.
        confidence: The probability with which predicted times are kept.
        dtype: Of the weights that are downloaded.
        optimizer: Of the training whose memory is asked for.
        precision: Of the memory.
        schedule: The training whose time and energy are asked for.
        correction: What predicted latencies are taken to be.

    Example:
        >>> Conditions(batch_size=64).confidence
        0.5
    """

    profile: Profile | None = None
    batch_size: int = 1
    confidence: float = 0.5
    dtype: str = "float32"
    optimizer: str = "sgd"
    precision: str | None = None
    schedule: Schedule | None = None
    correction: Correction = _AS_PREDICTED


@dataclass(frozen=True)
class Costs:
    """What a network costs, by quantity; bounds are what predicted times keep.

    Example:
        >>> Costs("timm:resnet18", 224, {"params": 11_689_512.0}).bounds
        {}
    """

    network: str
    resolution: Resolution | None
    values: Mapping[str, float]
    bounds: Mapping[str, float] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def with_values(self, values: Mapping[str, float]) -> Costs:
        """Return the same with other quantities beside."""
        more = {name: float(value) for name, value in values.items()}
        return replace(self, values={**self.values, **more})


def costs_of(
    name: str, resolution: Resolution | None, wanted: frozenset[str], how: Conditions
) -> Costs:
    """Count a network, and predict what is wanted of it.

    Args:
        name: The network's name.
        resolution: Input side in px; the network's own by default.
        wanted: The quantities.
        how: The conditions.

    Raises:
        InputError: If there is no such network, or it does not run.

    Example:
        >>> found = costs_of("resnet18", 64, frozenset(("params", "width_multiple")), Conditions())
        >>> found.network, found.values["params"], found.values["width_multiple"]
        ('timm:resnet18', 11689512.0, 64.0)
    """
    from convscale.scaling import resolve

    return costs_of_network(resolve(name, resolution=resolution), wanted, how)


def costs_of_network(
    network: Network,
    wanted: frozenset[str],
    how: Conditions,
    *,
    recorded: Operators | None = None,
) -> Costs:
    """Count a network that is resolved, and predict what is wanted of it.

    Args:
        network: The network.
        wanted: The quantities.
        how: The conditions.
        recorded: Its operators of one image in elements, where they are known.

    Raises:
        InputError: If it does not run.

    Example:
        >>> from convscale.scaling import resolve
        >>> network = resolve("resnet18", resolution=64)
        >>> costs_of_network(network, frozenset(("acts",)), Conditions()).values["acts"]
        203752.0
    """
    from convscale.complexity.operators import record_network
    from convscale.prediction.predict import ELEMENTS

    own = Costs(network.name, network.resolution, {})
    if wanted & RECORDED:
        found = recorded
        if found is None:
            found = record_network(network, dtype=ELEMENTS, autocast=True)
        own = costs_of_operators(found, wanted, how)
    values = {**own.values}
    values |= {one: _memory(network, one, how) for one in sorted(wanted & REMEMBERED)}
    if network.resolution is not None:
        values["resolution_px"] = side_of(network.resolution)
    return Costs(network.name, network.resolution, values, own.bounds, own.notes)


def costs_of_operators(found: Operators, wanted: frozenset[str], how: Conditions) -> Costs:
    """Count a network by its operators, and predict what is wanted of it.

    Args:
        found: The operators of one image in elements.
        wanted: The quantities; those of memory are not among what is returned.
        how: The conditions.

    Example:
        >>> from convscale.complexity.operators import record_network
        >>> from convscale.scaling import resolve
        >>> found = record_network(resolve("resnet18", resolution=64), dtype="float8")
        >>> costs_of_operators(found, frozenset(), Conditions()).values["acts"]
        203752.0
    """
    values, bounds = _counted(found, how), dict[str, float]()
    notes: tuple[str, ...] = ()
    if wanted & PREDICTED:
        told, upper, notes = _predicted(found, how)
        values, bounds = values | told, bounds | upper
    if wanted & TRAINED:
        told, upper = _trained(found, how)
        values, bounds = values | told, bounds | upper
    return Costs(found.network, found.resolution, values, bounds, notes)


def side_of(resolution: Resolution) -> float:
    """Return an input side in px: of a rectangle, that of the square as large.

    Example:
        >>> side_of(224), side_of((256, 64))
        (224.0, 128.0)
    """
    own = sides(resolution)
    return float(own[0]) if len(set(own)) == 1 else float(prod(own) ** (1 / len(own)))


def _counted(found: Operators, how: Conditions) -> dict[str, float]:
    total = found.total
    return {
        "flops": float(total.flops),
        "params": float(total.params),
        "acts": float(total.acts),
        "width_multiple": float(width_multiple(found)),
        "download_bytes": float(total.params * ITEM_BYTES[how.dtype]),
    }


def width_multiple(found: Operators) -> int:
    """Return the largest number that all widths of feature maps are multiples of.

    Widths are the output channels of convolutions, and of linear layers along maps, where there
    is more than one position: neither the classifier's nor those inside squeeze-and-excitation.

    Example:
        >>> from convscale.complexity.calls import Geometry, OperatorCall
        >>> maps = [Geometry(3, width, rows=64, kernel=(3, 3)) for width in (48, 64)]
        >>> calls = [OperatorCall("a", "aten.convolution", "convolution kxk", geometry=one)
        ...          for one in maps]
        >>> width_multiple(Operators("net", 8, calls=tuple(calls)))
        16
    """
    layers = {*CONVOLUTIONS, LINEAR}
    maps = [
        call.geometry.out_channels
        for call in found.calls
        if call.kind in layers and call.geometry is not None and call.geometry.rows > 1
    ]
    return gcd(*maps) if maps else 1


def _predicted(
    found: Operators, how: Conditions
) -> tuple[dict[str, float], dict[str, float], tuple[str, ...]]:
    from convscale.prediction.predict import predicted, workload_of

    assert how.profile is not None
    side = one_sided(how.profile, how.confidence)
    told = predicted(
        workload_of(found),
        how.profile,
        network=found.network,
        resolution=found.resolution,
        batch_size=how.batch_size,
        coverage=side.coverage,
    )
    by = float(how.correction.ratio(told.latency_ms))
    middle, upper = by * told.latency_ms, by * side.of(told)
    rate = 1e3 * how.batch_size
    return (
        {"latency_ms": middle, "images_per_second": rate / middle},
        {"latency_ms": upper, "images_per_second": rate / upper},
        told.notes,
    )


def _trained(found: Operators, how: Conditions) -> tuple[dict[str, float], dict[str, float]]:
    """Return hours and energy of the training, and those that are kept with the confidence."""
    from convscale.prediction.predict import predicted, workload_of

    assert how.schedule is not None
    plan = how.schedule
    side = one_sided(plan.profile, how.confidence)
    step = predicted(
        workload_of(found),
        plan.profile,
        network=found.network,
        resolution=found.resolution,
        batch_size=plan.batch_size,
        coverage=side.coverage,
    )
    return trained(plan, step.latency_ms), trained(plan, side.of(step))


def trained(plan: Schedule, step_ms: Times) -> dict[str, Times]:
    """Return the hours of a training, and its energy where the power is known.

    Args:
        plan: The training.
        step_ms: The time of a step.
    """
    hours = plan.hours(step_ms)
    known = {} if plan.power_w is None else {"energy_kwh": plan.energy_kwh(hours)}
    return {"training_h": hours, **known}


def _memory(network: Network, name: str, how: Conditions) -> float:
    from convscale.complexity.dryrun import DryRun

    run = DryRun(network, batch_size=how.batch_size, precision=how.precision)
    if name == "training_memory_bytes":
        return float(run.training(how.optimizer).peak_bytes)
    return float(run.inference().peak_bytes)


def notes_on_times(how: Conditions) -> tuple[str, ...]:
    """Say where what is called latency is that of a step of training.

    Example:
        >>> notes_on_times(Conditions())
        ()
    """
    profile = how.profile
    if profile is None or profile.execution.work != "training":
        return ()
    return (f"Latency is that of a step of training: {profile.name} predicts these.",)


def check_can_tell(wanted: frozenset[str], how: Conditions) -> None:
    """Refuse what nothing here computes of a network.

    Raises:
        InputError: If a quantity must come from the table, or needs a profile.

    Example:
        >>> check_can_tell(frozenset(("latency_ms",)), Conditions())
        Traceback (most recent call last):
        convscale.errors.InputError: The latency of the candidates is not known. Give a profile that
        predicts it (--profile), or the column that holds it (--latency-column), or measure the best
        candidates here (--measure 5).
    """
    if wanted & PREDICTED and how.profile is None:
        title = "latency" if "latency_ms" in wanted else "throughput"
        column = "--latency-column" if title == "latency" else "--column throughput=COLUMN"
        raise InputError(
            f"The {title} of the candidates is not known. Give a profile that predicts it "
            f"(--profile), or the column that holds it ({column}), or measure the best candidates "
            "here (--measure 5)."
        )
    for name, title in (("training_h", "training time"), ("energy_kwh", "energy")):
        if name in wanted and how.schedule is None:
            raise InputError(
                f"The {title} of the candidates is not known. Give a profile of training that "
                "predicts it (--train-profile, with --images and --epochs), or the column of a "
                f"table that holds it (--column {name}=COLUMN)."
            )
    if "energy_kwh" in wanted and how.schedule is not None and how.schedule.power_w is None:
        raise InputError(
            "The energy of a training needs the power of a device: --power 300W. Give it, or leave "
            "the energy out."
        )

"""What a choice was asked for, read and checked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack, cast

from convscale.complexity.calls import ITEM_BYTES
from convscale.errors import InputError
from convscale.prediction.store import profile_of
from convscale.quantities import check_count, check_positive
from convscale.selection.confidence import check_confidence, one_sided
from convscale.selection.constraints import Constraint, parse_constraints
from convscale.selection.metrics import metric
from convscale.selection.zoo import ZooColumns, columns_of, read_zoo
from convscale.study.asked import SelectOptions, completed
from convscale.study.costed import Conditions
from convscale.study.finals import Finals
from convscale.study.measured import Borrowed
from convscale.study.schedules import Training, schedule_of, training_of
from convscale.study.space import Space
from convscale.study.table_candidates import TablePlan
from convscale.study.trials import Progress

if TYPE_CHECKING:
    from convscale.network import NetworkLike


@dataclass(frozen=True)
class Request:
    """What was asked for, checked.

    Example:
        >>> requested("resnet50", limits=["flops<=8G"]).limits[0].limit
        8000000000.0
    """

    bases: tuple[NetworkLike, ...]
    table: str | Path | None
    limits: tuple[Constraint, ...]
    columns: ZooColumns
    law: bool
    uncertainty: float | None
    how: Conditions
    cost: str | None
    space: Space
    progress: Progress | None
    finals: Finals | None = None
    borrowed: Borrowed | None = None

    def plan(self, *budgets: Constraint) -> TablePlan:
        """Return what must be known of the table that holds the candidates."""
        assert self.table is not None
        rows = read_zoo(Path(self.table), self.columns)
        limits = (*self.limits, *budgets)
        return TablePlan(rows, limits, self.cost, self.columns, self.law, self.how)


def requested(
    networks: NetworkLike | Sequence[NetworkLike] | None, **options: Unpack[SelectOptions]
) -> Request:
    """Read and check what was asked for.

    Args:
        networks: The networks that are scaled, if any.
        options: As `select` takes them.

    Raises:
        InputError: If a value cannot be used, or what is needed is not known.

    Example:
        >>> requested(["resnet18", "resnet34"], limits=["params<=20M"]).bases
        ('resnet18', 'resnet34')
    """
    ask = completed(options)
    limits = parse_constraints(ask["limits"])
    bases, space = tuple(_networks(networks)), Space(**_given(Space, ask))
    _check_errors(bases, ask)
    how = _conditions(ask)
    if not bases and space != Space():
        raise InputError(
            "Strategies, factors and the like say which scaled versions are candidates. Name the "
            "networks that are scaled, or leave them out."
        )
    return Request(
        bases,
        ask["table"],
        tuple(limits),
        replace(columns_of(ask["columns"]), error=ask["error"]),
        ask["law"],
        ask["uncertainty"],
        how,
        None if ask["cost"] is None else metric(ask["cost"]).name,
        space,
        ask["progress"],
        _finals(ask),
    )


def _given(part: type, ask: SelectOptions) -> dict[str, Any]:
    """Return the options that are fields of a dataclass, those that were given."""
    told = cast("Mapping[str, Any]", ask)
    given = {one.name: told.get(one.name) for one in fields(part)}
    return {
        name: tuple(value) if isinstance(value, list) else value
        for name, value in given.items()
        if value is not None
    }


def _finals(ask: SelectOptions) -> Finals | None:
    """Return how finalists are measured, if they are.

    Raises:
        InputError: If a value cannot be used, or nothing is measured by it.
    """
    given = _given(Finals, ask)
    if ask["measure"] is not None:
        return Finals(ask["measure"], **given)
    if given:
        raise InputError(
            "A device, threads, repeats and a time limit are those of measuring. Say how many "
            "finalists are measured (--measure 5), or leave them out."
        )
    return None


def _networks(networks: NetworkLike | Sequence[NetworkLike] | None) -> list[NetworkLike]:
    if networks is None:
        return []
    if isinstance(networks, list | tuple):
        return list(networks)
    return [cast("NetworkLike", networks)]


def _check_errors(bases: Sequence[object], ask: SelectOptions) -> None:
    """Refuse what does not say what the errors of the candidates are."""
    table, error, law = ask["table"], ask["error"], ask["law"]
    if not isinstance(table, str | Path | None):
        raise InputError(f"The table is {table!r}. Name its file, as in 'models.csv'.")
    if not isinstance(error, str | None):
        raise InputError(
            f"The column of the errors is {error!r}. Write its name, as in 'top1_err'."
        )
    if not bases and table is None:
        raise InputError(
            "Nothing to choose from was given. Name the networks whose scaled versions are "
            "candidates, or a table of networks: --table models.csv."
        )
    if bases and table is None and (error is not None or law):
        raise InputError(
            "Errors are those of a table. Name the one that holds the trials: --table trials.csv."
        )
    if bases and table is not None and not law:
        raise InputError(
            "Networks and a table were given: the errors of the table are those of its own "
            "networks. Fit a law to them for scaled ones by --law, or leave out one of both."
        )
    if error is None and law:
        raise InputError("A law is fitted to errors. Name the column that holds them: --error.")
    if ask["uncertainty"] is not None and law:
        raise InputError("A law tells its own uncertainty. Leave --uncertainty or --law out.")
    if ask["uncertainty"]:
        given = check_positive(ask["uncertainty"], what="uncertainty")
        if error is None and given >= 1:
            raise InputError(
                f"The uncertainty is {given:g}, but without errors it is a share of the flops, "
                f"which stand in for accuracy. Write it below 1, as in 0.05 (5%), or name the "
                "column of the errors that it is of: --error."
            )


def _conditions(ask: SelectOptions) -> Conditions:
    """Return under what candidates are counted and predicted."""
    from convscale.complexity.memory import MemoryBudget
    from convscale.scaling.memory import check_budget

    profile = None if ask["profile"] is None else profile_of(ask["profile"])
    training = _training(ask)
    batch, dtype = check_count(ask["batch_size"], what="batch size"), ask["dtype"]
    check_budget(MemoryBudget(1, batch, ask["optimizer"], ask["precision"]))
    if ask["optimizer"] is None:
        raise InputError("The optimizer is that of a step of training. Write sgd or adamw.")
    if dtype not in ITEM_BYTES:
        raise InputError(f"Unknown dtype {dtype!r}. Use {', '.join(ITEM_BYTES)}.")
    schedule = None if training is None else schedule_of(training)
    confidence = ask["confidence"]
    if confidence is not None and profile is None and schedule is None:
        raise InputError(
            "A confidence is that of predicted times. Give a profile that predicts them, or leave "
            "the confidence out."
        )
    level = check_confidence(0.5 if confidence is None else confidence)
    for one in (profile, None if schedule is None else schedule.profile):
        if one is not None:
            one_sided(one, level)  # refused before networks are counted
    return Conditions(profile, batch, level, dtype, ask["optimizer"], ask["precision"], schedule)


def _training(ask: SelectOptions) -> Training | None:
    """Return the training whose time and energy are limited, if any."""
    return training_of(
        ask["train_profile"],
        ask["images"],
        ask["epochs"],
        devices=ask["devices"],
        batch_size=ask["train_batch_size"],
        efficiency=ask["efficiency"],
        power_w=ask["power_w"],
    )

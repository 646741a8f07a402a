"""The tables and sentences about which metric tells the time."""

from __future__ import annotations

from typing import TYPE_CHECKING

from convscale.report.frames import BASE
from convscale.report.sentences import format_r

if TYPE_CHECKING:
    import pandas as pd

    from convscale.selection.association import Association
    from convscale.selection.correlation import Time
    from convscale.selection.statistics import Estimate
    from convscale.study.runtime_study import RuntimeStudy

TIME_NAMES: dict[Time, str] = {"latency": "wall time", "processor": "processor time"}


def association_frame(study: RuntimeStudy) -> pd.DataFrame:
    """Return a line for each time, scope, predictor and coefficient: r and its interval.

    Example:
        >>> from convscale.study.comparison import Row
        >>> from convscale.study.runtime_study import RuntimeStudy, TimedNetwork
        >>> rows = [Row("net", None, 1.0, 8, flops, 9, 9) for flops in (100, 200, 400)]
        >>> timed = tuple(TimedNetwork(row, wall_s=((row.flops / 1e5,),)) for row in rows)
        >>> frame = association_frame(RuntimeStudy(timed, {}))
        >>> print(*frame.iloc[1])
        latency all networks 3 flops log 1.0 nan nan
    """
    import pandas as pd

    columns = ["time", "scope", "networks", "predictor", "coefficient", "r", "low", "high"]
    lines = [
        (time, scope, found.networks, predictor, name, *_numbers(r))
        for time, scopes in study.associations.items()
        for scope, found in scopes.items()
        for predictor, by_name in found.r.items()
        for name, r in by_name.items()
    ]
    return pd.DataFrame(lines, columns=columns)


def scatter_frame(study: RuntimeStudy) -> pd.DataFrame:
    """Return a line for each network and predictor: the predictor's value and the time used.

    The value of flops + acts is the time in ms that the model fitted over all networks gives.

    Example:
        >>> from convscale.study.comparison import Row
        >>> from convscale.study.runtime_study import RuntimeStudy, TimedNetwork
        >>> rows = [Row("net", None, 1.0, 8, flops, 9, 5) for flops in (100, 200, 400)]
        >>> timed = tuple(TimedNetwork(row, wall_s=((row.flops / 1e5,),)) for row in rows)
        >>> frame = scatter_frame(RuntimeStudy(timed, {}))
        >>> frame[frame["predictor"] == "flops + acts"]["value"].round(9).tolist()
        [1.0, 2.0, 4.0]
    """
    import pandas as pd

    from convscale.selection.association import BOTH, PREDICTORS
    from convscale.study.runtime_study import ALL_NETWORKS

    time = study.time
    found = study.associations.get(time, {}).get(ALL_NETWORKS)
    model = None if found is None else found.model
    lines = []
    for predictor in PREDICTORS:
        for row in study.rows:
            spent = getattr(row, time)
            if spent is None or (predictor == BOTH and model is None):
                continue
            if predictor == BOTH and model is not None:
                value = model.time_ms(flops=row.flops, acts=row.acts)
            else:
                value = float(getattr(row, predictor))
            scaling = (row.network, row.strategy or BASE, row.factor)
            lines.append((*scaling, predictor, value, spent.median, spent.iqr))
    columns = ["network", "strategy", "factor", "predictor", "value", "time_ms", "iqr_ms"]
    return pd.DataFrame(lines, columns=columns)


def _numbers(r: Estimate | None) -> tuple[float, float, float]:
    missing = float("nan")
    if r is None:
        return missing, missing, missing
    return (
        r.value,
        missing if r.low is None else r.low,
        missing if r.high is None else r.high,
    )


def format_estimate(r: Estimate | None) -> str:
    """Write an r and its interval, rounded outwards.

    Example:
        >>> from convscale.selection.statistics import Estimate
        >>> format_estimate(Estimate(0.98765, 0.961, 0.9945)), format_estimate(Estimate(0.5))
        ('0.988 0.96–1.00', '0.500')
    """
    import math

    if r is None or r.low is None or r.high is None:
        return format_r(None if r is None else r.value)
    low, high = math.floor(100 * r.low) / 100, math.ceil(100 * r.high) / 100
    return f"{format_r(r.value)} {low:.2f}–{high:.2f}"


def verdict(found: Association, *, of: str) -> str:
    """Say which predictor tells the time best, and whether its lead is beyond noise.

    Example:
        >>> from convscale.selection.association import Association, Lead
        >>> from convscale.selection.statistics import Estimate
        >>> r = {"acts": {"log": Estimate(0.98, 0.96, 0.99)}, "flops": {"log": Estimate(0.95)}}
        >>> lead = Lead("acts", "flops", Estimate(0.03, 0.01, 0.06))
        >>> print(verdict(Association(48, r, None, lead), of="wall time"))
        Over these 48 networks, acts tell the wall time best (log-log r = 0.980, 95 % interval
        0.960 to 0.990); flops come next, 0.030 lower, which is beyond the noise (0.010 to 0.060).
    """
    if found.lead is None:
        return f"No metric can be told from another over {found.networks} networks."
    best, second, apart = found.lead.best, found.lead.second, found.lead.difference
    r = found.r[best]["log"]
    assert r is not None
    sure = "" if r.low is None else f", 95 % interval {r.low:.3f} to {r.high:.3f}"
    lead = (
        f"Over these {found.networks} networks, {best} tell the {of} best (log-log r = "
        f"{format_r(r.value)}{sure}); {second} come next, {apart.value:.3f} lower"
    )
    if apart.low is None:
        return f"{lead}; they are too few to say whether that is noise."
    judged = "beyond" if found.lead.beyond_noise else "within"
    return f"{lead}, which is {judged} the noise ({apart.low:.3f} to {apart.high:.3f})."


def within_sentence(study: RuntimeStudy) -> str:
    """Name the best predictor within each base network; empty where there is one base.

    Example:
        >>> from convscale.study.runtime_study import RuntimeStudy
        >>> within_sentence(RuntimeStudy((), {}))
        ''
    """
    scopes = study.associations.get(study.time, {})
    named = [
        f"{base}: {found.lead.best}{'' if found.lead.beyond_noise else ' (within the noise)'}"
        for base, found in scopes.items()
        if base in study.bases and found.lead is not None
    ]
    return f"Best within each base: {'; '.join(named)}." if named else ""


def agreement_sentence(study: RuntimeStudy) -> str:
    """Say which time was used, why, and whether the other time says the same.

    Example:
        >>> from convscale.study.runtime_study import RuntimeStudy
        >>> agreement_sentence(RuntimeStudy((), {}))
        'Wall time is used; nothing tells the processor time.'
    """
    from convscale.study.runtime_study import ALL_NETWORKS

    if "processor" not in study.associations:
        return "Wall time is used; nothing tells the processor time."
    used = TIME_NAMES[study.time].capitalize()
    why = f"{study.waited_share:.0%} of the networks waited most of their wall time"
    leads = {t: scopes[ALL_NETWORKS].lead for t, scopes in study.associations.items()}
    best = {time: None if lead is None else lead.best for time, lead in leads.items()}
    other: Time = "latency" if study.time == "processor" else "processor"
    if best["latency"] is None and best["processor"] is None:
        return f"{used} is used: {why}."
    if best["latency"] == best["processor"]:
        said = f"{TIME_NAMES[other].capitalize()} names the same best"
    else:
        said = f"They disagree: {TIME_NAMES[other]} names {best[other]}"
    return f"{used} is used: {why}. {said}; r of both is {format_r(study.agreement)}."


def model_sentence(found: Association, *, of: str) -> str:
    """Say what flops + acts stands for: the fitted model and how far off it is.

    Example:
        >>> from convscale.selection.association import Association, TimeModel
        >>> model = TimeModel(2e-8, 1e-6, 1.5, 0.083)
        >>> print(model_sentence(Association(48, {}, model, None), of="wall time"))
        flops + acts is the fitted wall time: 20 ms a G flops + 1 ms a M acts + 1.5 ms, by least
        squares of the relative errors, no coefficient below 0; it is off by 8.3 % on average.
    """
    model = found.model
    if model is None:
        return ""
    return (
        f"flops + acts is the fitted {of}: {1e9 * model.ms_per_flop:.3g} ms a G flops + "
        f"{1e6 * model.ms_per_act:.3g} ms a M acts + {model.constant_ms:.3g} ms, by least "
        f"squares of the relative errors, no coefficient below 0; it is off by "
        f"{100 * model.mean_error:.1f} % on average."
    )

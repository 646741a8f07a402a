"""Measure more networks than memory holds, in interleaved rounds."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace

from convscale.quantities import format_bytes
from convscale.runtime import Conditions, Failure, Measurement, Setting, Subject, measure_together
from convscale.runtime.memory import available_bytes
from convscale.runtime.rounds import silent
from convscale.study.parking import Parked
from convscale.study.runtime_study import RuntimeStudy, TimedNetwork
from convscale.study.trials import Progress, Trial

# However little time there is, a spread needs this many rounds.
_FEWEST_ROUNDS = 3
# A training step holds the weights, a copy that it trains, their gradients and their momenta
# (adamw: two); and of each activation what backward needs of the convolution, the norm and the
# nonlinearity.
_WEIGHTS_IN_TRAINING, _KEPT_ACTIVATIONS = {"sgd": 4, "adamw": 5}, 3
_FLOAT_BYTES = 4


@dataclass(frozen=True)
class Guest:
    """A network to visit; its module is parked between the visits.

    Example:
        >>> from torch import nn
        >>> from convscale.study.comparison import Row
        >>> row = Row("net", None, 1.0, 8, 100, 10, 5)
        >>> guest = invite(Trial(row, Subject("net", nn.Conv2d(3, 4, 1), 8)))
        >>> visit(guest, Setting(), passes=2, limit_s=5.0).latency_ms.repeats
        2
    """

    trial: Trial
    subject: Subject
    parked: Parked


def invite(trial: Trial, *, seed: int = 0) -> Guest:
    """Park the module of a trial until it is visited; a base network's may be the caller's own.

    Example:
        >>> from torch import nn
        >>> from convscale.study.comparison import Row
        >>> subject = Subject("net", nn.Conv2d(64, 64, 3), 8)
        >>> invite(Trial(Row("net", None, 1.0, 8, 100, 10, 5), subject)).parked.bytes
        147456
    """
    from convscale.network.copies import full_copy

    assert trial.subject is not None
    module = trial.subject.build()
    if trial.row.strategy is None:
        module = full_copy(module)
    return Guest(trial, replace(trial.subject, module=None), Parked(module, seed=seed))


def visit(guest: Guest, setting: Setting, *, passes: int, limit_s: float) -> Measurement | Failure:
    """Give a network its weights, warm it up, time passes, and take the weights back.

    Example:
        >>> from torch import nn
        >>> from convscale.study.comparison import Row
        >>> row = Row("net", None, 1.0, 8, 100, 10, 5)
        >>> guest = invite(Trial(row, Subject("net", nn.Conv2d(3, 4, 9), 8)))
        >>> visit(guest, Setting(), passes=1, limit_s=5.0).failed.startswith("net does not run")
        True
    """
    with guest.parked.in_use() as module:
        subject = replace(guest.subject, module=module)
        [found] = measure_together(
            [subject],
            rounds=passes,
            time_limit_s=limit_s,
            **asdict(setting),
        )
    return found


def lacking_memory(guest: Guest, setting: Setting, available: int | None) -> str | None:
    """Say that a network needs more memory than there is; None where it fits or nothing tells.

    Example:
        >>> from torch import nn
        >>> from convscale.study.comparison import Row
        >>> row = Row("net", None, 1.0, 8, 100, 10, 5)
        >>> guest = invite(Trial(row, Subject("net", nn.Conv2d(64, 64, 3), 8)))
        >>> lacking_memory(guest, Setting(mode="training"), available=100_000)
        'net needs about 576.1 KiB, and 97.7 KiB are available. Use a smaller batch or factor.'
    """
    training = setting.mode == "training"
    batch = setting.batch_size if isinstance(setting.batch_size, int) else 1
    copied = setting.channels_last or setting.compile
    held = _WEIGHTS_IN_TRAINING[setting.optimizer] if training else 1 + copied
    weights = guest.parked.bytes * held
    kept = _KEPT_ACTIVATIONS if training else 1
    need = weights + kept * _FLOAT_BYTES * batch * guest.trial.row.acts
    if available is None or need <= available:
        return None
    return (
        f"{guest.trial.row.label} needs about {format_bytes(need)}, and "
        f"{format_bytes(available)} are available. Use a smaller batch or factor."
    )


def _forget(study: RuntimeStudy) -> None:
    """Keep nothing."""


@dataclass
class Rounds:
    """Rounds of visits over all networks, in a new random order each.

    limit_s bounds the measuring in all, but not before three rounds; keep is given the study
    after every round.

    Example:
        >>> from torch import nn
        >>> from convscale.study.comparison import Row
        >>> row, subject = Row("net", None, 1.0, 8, 9, 9, 9), Subject("net", nn.Conv2d(3, 4, 1), 8)
        >>> guests = [invite(Trial(row, subject)) for _ in "ab"]
        >>> study = RuntimeStudy(tuple(TimedNetwork(guest.trial.row) for guest in guests), {})
        >>> rounds = Rounds(guests, Setting(), rounds=3, passes=2, limit_s=9.0)
        >>> [network.passes for network in rounds.run(study).networks]
        [6, 6]
    """

    guests: Sequence[Guest]
    setting: Setting
    rounds: int
    passes: int
    limit_s: float
    seed: int = 0
    keep: Callable[[RuntimeStudy], None] = _forget
    progress: Progress = silent

    def run(self, study: RuntimeStudy) -> RuntimeStudy:
        """Visit all networks until the rounds are done or the time is over."""
        started = time.monotonic()
        for done in range(study.rounds, self.rounds):
            began = time.monotonic()
            # Each round has an order of its own, also when a study goes on.
            order = random.Random(f"{self.seed}:{done}")
            study = replace(self._round(study, order), rounds=done + 1)
            self.keep(study)
            now = time.monotonic()
            # A round that would end after the time limit is not begun.
            if done + 1 >= _FEWEST_ROUNDS and now - started + (now - began) > self.limit_s:
                break
        return study

    def _round(self, study: RuntimeStudy, order: random.Random) -> RuntimeStudy:
        networks = list(study.networks)
        total = len(networks) * self.rounds
        conditions = study.conditions
        for step, index in enumerate(order.sample(range(len(networks)), len(networks)), start=1):
            if networks[index].failed is None:
                networks[index], seen = self._visit(networks[index], self.guests[index])
                conditions = conditions or _common(seen, len(networks))
            self.progress(len(networks) * study.rounds + step, total)
        return replace(study, networks=tuple(networks), conditions=conditions)

    def _visit(self, network: TimedNetwork, guest: Guest) -> tuple[TimedNetwork, Conditions | None]:
        on_processor = self.setting.device == "cpu"
        lacking = lacking_memory(guest, self.setting, available_bytes() if on_processor else None)
        if lacking is not None:
            return replace(network, failed=lacking), None
        found = visit(guest, self.setting, passes=self.passes, limit_s=self.limit_s)
        if isinstance(found, Failure):
            return replace(network, failed=found.failed), None
        return network.visited(found.wall_s, found.processor_s), found.conditions


def _common(conditions: Conditions | None, networks: int) -> Conditions | None:
    """Return the conditions that hold for all networks, from those of the first visit."""
    if conditions is None:
        return None
    return replace(conditions, interleaved_networks=networks)

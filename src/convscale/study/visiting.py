"""Measure more networks than memory holds, in interleaved rounds."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace

from convscale.quantities import format_bytes
from convscale.runtime import Conditions, Failure, Measurement, Setting, Subject, measure_together
from convscale.runtime.batch import predicted_bytes
from convscale.runtime.memory import available_bytes
from convscale.runtime.rounds import silent
from convscale.study.parking import Parked
from convscale.study.runtime_study import RuntimeStudy, TimedNetwork
from convscale.study.trials import Progress, Trial

# However little time there is, a spread needs this many rounds.
FEWEST_ROUNDS = 3
# A rough upper limit of what a visit takes, below which nothing is predicted: so many times the
# weights, and of each activation so many float32.
_WEIGHTS, _ACTIVATIONS, _FLOAT_BYTES = 8, 16, 4


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
    from convscale.network.modules.copies import full_copy

    assert trial.subject is not None
    module = trial.subject.build()
    if trial.row.strategy is None:
        module = full_copy(module)
    return Guest(trial, replace(trial.subject, module=None), Parked(module, seed=seed))


def visit(
    guest: Guest, setting: Setting, *, passes: int, limit_s: float, isolate: bool = False
) -> Measurement | Failure:
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
            isolate=isolate,
            **asdict(setting),
        )
    return found


def needed_bytes(guest: Guest, setting: Setting) -> int | None:
    """Return the memory that a visit takes, as `memory` predicts it; None where it cannot be.

    What trains, is compiled or laid out otherwise is a copy beside the network.

    Example:
        >>> from torch import nn
        >>> from convscale.study.comparison import Row
        >>> row = Row("net", None, 1.0, 8, 100, 10, 5)
        >>> guest = invite(Trial(row, Subject("net", nn.Conv2d(64, 64, 3, bias=False), 8)))
        >>> one = needed_bytes(guest, Setting())  # weights, input of 8 px, output of 6 px
        >>> one == 4 * (64 * 64 * 9 + 64 * 64 + 64 * 36)
        True
    """
    predicted = predicted_bytes(replace(guest.subject, module=guest.parked.module), setting)
    if predicted is None:
        return None
    copied = setting.mode == "training" or setting.channels_last or setting.compile
    return predicted + (guest.parked.bytes if copied else 0)


def lacking_memory(guest: Guest, needed: int | None, available: int | None) -> str | None:
    """Say that a network needs more memory than there is; None where it fits or nothing tells.

    Example:
        >>> from torch import nn
        >>> from convscale.study.comparison import Row
        >>> row = Row("net", None, 1.0, 8, 100, 10, 5)
        >>> guest = invite(Trial(row, Subject("net", nn.Conv2d(64, 64, 3), 8)))
        >>> lacking_memory(guest, 590_000, available=100_000)
        'net needs about 576.2 KiB, and 97.7 KiB are available. Use a smaller batch or factor.'
    """
    if available is None or needed is None or needed <= available:
        return None
    return (
        f"{guest.trial.row.label} needs about {format_bytes(needed)}, and "
        f"{format_bytes(available)} are available. Use a smaller batch or factor."
    )


def _rough_bytes(guest: Guest, setting: Setting) -> int:
    batch = setting.batch_size if isinstance(setting.batch_size, int) else 1
    activations = batch * guest.trial.row.acts * _FLOAT_BYTES
    return _WEIGHTS * guest.parked.bytes + _ACTIVATIONS * activations


def _forget(study: RuntimeStudy) -> None:
    """Keep nothing."""


@dataclass
class Rounds:
    """Rounds of visits over all networks, in a new random order each.

    A study goes on where it is: a network that has fewer visits than others, since it failed
    before or the study was stopped within a round, has those first. limit_s bounds the measuring
    in all, but not before three rounds; keep is given the study after every visit.

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
    isolate: bool = False
    keep: Callable[[RuntimeStudy], None] = _forget
    progress: Progress = silent
    _needs: dict[int, int | None] = field(default_factory=dict)

    def run(self, study: RuntimeStudy) -> RuntimeStudy:
        """Visit all networks until the rounds are done or the time is over."""
        started = time.monotonic()
        for done in range(self.rounds):
            began = time.monotonic()
            # Each round has an order of its own, also when a study goes on.
            order = random.Random(f"{self.seed}:{done}")
            study = self._round(study, done, order)
            study = replace(study, rounds=max(study.rounds, done + 1))
            self.keep(study)
            now = time.monotonic()
            # A round that would end after the time limit is not begun.
            if done + 1 >= FEWEST_ROUNDS and now - started + (now - began) > self.limit_s:
                break
        return study

    def _round(self, study: RuntimeStudy, done: int, order: random.Random) -> RuntimeStudy:
        count = len(study.networks)
        for step, index in enumerate(order.sample(range(count), count), start=1):
            network = study.networks[index]
            if network.failed is None and len(network.wall_s) <= done:
                study = self._visited(study, index)
                self.keep(study)
            self.progress(count * done + step, count * self.rounds)
        return study

    def _visited(self, study: RuntimeStudy, index: int) -> RuntimeStudy:
        networks = list(study.networks)
        networks[index], seen = self._visit(networks[index], index)
        conditions = study.conditions or _common(seen, len(networks))
        return replace(study, networks=tuple(networks), conditions=conditions)

    def _visit(self, network: TimedNetwork, index: int) -> tuple[TimedNetwork, Conditions | None]:
        guest = self.guests[index]
        lacking = self._lacking(guest, index)
        if lacking is not None:
            return replace(network, failed=lacking), None
        found = visit(
            guest, self.setting, passes=self.passes, limit_s=self.limit_s, isolate=self.isolate
        )
        if isinstance(found, Failure):
            return replace(network, failed=found.failed), None
        return network.visited(found.wall_s, found.processor_s), found.conditions

    def _lacking(self, guest: Guest, index: int) -> str | None:
        """Say that there is no memory for a network; what it takes is predicted once."""
        available = available_bytes() if self.setting.device == "cpu" else None
        if available is None or _rough_bytes(guest, self.setting) <= available:
            return None
        if index not in self._needs:
            self._needs[index] = needed_bytes(guest, self.setting)
        return lacking_memory(guest, self._needs[index], available)


def _common(conditions: Conditions | None, networks: int) -> Conditions | None:
    """Return the conditions that hold for all networks, from those of the first visit."""
    if conditions is None:
        return None
    return replace(conditions, interleaved_networks=networks)

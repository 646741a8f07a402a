"""Visit networks in rounds until the limits are reached, and leave out the ones that fail."""

from __future__ import annotations

import functools
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from convscale.errors import ConvscaleError, InputError
from convscale.runtime.devices import Pass
from convscale.runtime.measurement import Timings
from convscale.runtime.setting import Limits
from convscale.runtime.sitting import Facts
from convscale.runtime.subject import Subject

Progress = Callable[[int, int], None]

# However little time there is, a spread needs this many repeats, and interleaving rounds.
_FEWEST = 3
# Share of the time in which a network may run more than once to warm up.
_WARM_UP = 0.25
# Where the precision decides, the interval is looked at after so many repeats and so long a
# time, and then whenever the repeats have grown by a tenth: each look may end them by luck.
_FEWEST_PRECISE, _SHORTEST_S, _GROWTH = 9, 0.5, 1.1
# Where the precision decides, a visit lasts about this long: to a network alone, to one of many.
_VISIT_ALONE_S, _VISIT_S = 0.05, 0.25
# Others take a network's weights out of the caches, which a pass as short as this notices: a
# visit to it begins with an untimed pass, and times so many that this one hardly counts.
_SHORT_S, _SHORT_PASSES = 0.05, 12
# So many passes show that a network is warm, and are the first two visits to a long one.
_WARM = 2


def silent(done: int, total: int) -> None:
    """Report nothing.

    Example:
        >>> silent(1, 2)
    """


class Guest(Protocol):
    """A network that can be visited: in this process, or in one of its own."""

    subject: Subject
    facts: Facts
    passes: list[Pass]
    last_s: float

    @property
    def peak_memory_bytes(self) -> int | None:
        """The allocator's peak, None where nothing tells it."""

    @property
    def process_memory_bytes(self) -> int | None:
        """The peak of a process of its own, None without one."""

    def warm_up(self, until: float, most: int) -> None:
        """Run until passes get no faster or the time has come; keep at most so many."""

    def visit(self, passes: int = 1, *, untimed: int = 0) -> None:
        """Time passes, after some that are not timed."""

    def joules(self) -> float | None:
        """Return the energy of a pass, None where nothing counts it."""

    def close(self) -> None:
        """Give back what was taken."""


@dataclass
class Stay:
    """A subject's guest, or the reason why there is none any more.

    short is whether a pass has been seen to be so short that it notices what ran before it.

    Example:
        >>> from torch import nn
        >>> stay = Stay(Subject("net", nn.ReLU(), 8))
        >>> stay.attempt(lambda: int("x"))
        Traceback (most recent call last):
        ValueError: invalid literal for int() with base 10: 'x'
        >>> stay.failed is None
        True
    """

    subject: Subject
    guest: Guest | None = None
    failed: str | None = None
    short: bool = False

    def attempt(self, work: Callable[[], object]) -> None:
        """Do something with the guest; an error that users can read is kept, and ends it."""
        try:
            work()
        except ConvscaleError as error:
            self.failed = error.line
            self.close()

    def close(self) -> None:
        """Send the guest home."""
        guest, self.guest = self.guest, None
        if guest is not None:
            guest.close()


@dataclass
class Rounds:
    """The rounds over all guests, and what ended them: precision, time limit or repeats.

    Example:
        >>> rounds = Rounds([], Limits(rounds=3), usable=1, deadline=0.0)
        >>> rounds.run()
        >>> rounds.done, rounds.stopped_by
        (0, 'repeats')
    """

    stays: Sequence[Stay]
    limits: Limits
    usable: int
    deadline: float
    order: random.Random = field(default_factory=random.Random)
    progress: Progress = silent
    done: int = 0
    stopped_by: str = "repeats"
    _steps: int = 0
    _next_look: float = _FEWEST_PRECISE

    @property
    def guests(self) -> list[tuple[Stay, Guest]]:
        """The guests that have not failed."""
        return [(stay, stay.guest) for stay in self.stays if stay.guest is not None]

    @property
    def repeats(self) -> int:
        """The repeats that every guest has."""
        return min((len(guest.passes) for _, guest in self.guests), default=0)

    @property
    def reached(self) -> int:
        """How far they have come towards the most: the rounds of several, else the repeats."""
        return self.done if self._several and self.limits.rounds is not None else self.repeats

    def warm_up(self, started: float) -> None:
        """Warm every guest up; a pass that takes longer than the whole time is a failure.

        Time to compile is none that repeating takes: the deadline moves by it. Of several
        guests each is visited once it is warm, which is the first round.
        """
        until = started + _WARM_UP * self.limits.time_limit_s
        for stay, guest in self.guests:
            stay.attempt(functools.partial(_warm_up, guest, until, self.limits))
            until += guest.facts.compile_s or 0.0
            self.deadline += guest.facts.compile_s or 0.0
            if self._several and stay.failed is None:
                stay.attempt(functools.partial(self._visit_first, stay, guest))
            if stay.failed is None:
                self._step(self._total(self.limits.most))
        self.done += self._several

    def run(self) -> None:
        """Run rounds until all are done, all are precise enough, or the time is over."""
        begun, most = time.monotonic(), self.limits.most
        fewest = planned = min(most, _FEWEST)
        while self.guests and self.reached < most:
            started, before = time.monotonic(), self.reached
            for stay, guest in self.order.sample(self.guests, len(self.guests)):
                if not self._ahead(stay, guest):
                    stay.attempt(functools.partial(self._visit, stay, guest))
                self._step(self._total(planned))
            self.done += 1
            now = time.monotonic()
            if self._precise(now - begun):
                self.stopped_by = "precision"
                break
            # A round that would end after the deadline is not begun.
            rounds = max(0, int((self.deadline - now) / max(now - started, 1e-9)))
            planned = min(most, self.reached + rounds * max(1, self.reached - before))
            enough = min(self.done, self.repeats) if self._several else self.repeats
            if rounds == 0 and fewest <= enough and self.reached < most:
                self.stopped_by = "time limit"
                break
        if self._steps:
            self.progress(self._steps, self._steps)

    @property
    def _several(self) -> bool:
        return len(self.stays) > 1

    def _visit_first(self, stay: Stay, guest: Guest) -> None:
        """Complete the first visit, to which what showed that a guest is warm belongs."""
        passes = self._passes(stay, guest)
        del guest.passes[: -max(passes, _WARM)]
        if len(guest.passes) < passes:
            guest.visit(passes - len(guest.passes))

    def _ahead(self, stay: Stay, guest: Guest) -> bool:
        """Whether a long guest has all that this round is to give it, from its warm-up."""
        counted = self._several and self.limits.rounds is not None
        return counted and not stay.short and len(guest.passes) > self.done

    def _visit(self, stay: Stay, guest: Guest) -> None:
        passes = self._passes(stay, guest)
        guest.visit(passes, untimed=1 if stay.short and self._several else 0)

    def _passes(self, stay: Stay, guest: Guest) -> int:
        """Return how often a guest is timed at a visit."""
        # Once seen, it is not forgotten: a busy spell makes passes long, and nothing short.
        stay.short = stay.short or guest.last_s < _SHORT_S
        fewest = _SHORT_PASSES if stay.short and self._several else 1
        if self.limits.rounds is not None:
            return fewest
        visit_s = _VISIT_S if self._several else _VISIT_ALONE_S
        return max(fewest, min(self.limits.most // 10, int(visit_s / max(guest.last_s, 1e-9))))

    def _precise(self, elapsed_s: float) -> bool:
        """Tell whether every guest's median is known well enough."""
        share = self.limits.precision
        if share is None or self.repeats < self._next_look or elapsed_s < _SHORTEST_S:
            return False
        self._next_look = max(self.repeats + 1, _GROWTH * self.repeats)
        known = (Timings.of(guest.passes, self.usable).precision for _, guest in self.guests)
        return all(off is not None and off <= share for off in known)

    def _total(self, planned: int) -> int:
        if self.limits.rounds is not None:
            return max(self._steps + 1, len(self.stays) * (planned + (not self._several)))
        left_s = max(0.0, self.deadline - time.monotonic())
        each_s = sum(guest.last_s * self._passes(stay, guest) for stay, guest in self.guests)
        return self._steps + 1 + int(left_s / max(each_s, 1e-3)) * len(self.stays)

    def _step(self, total: int) -> None:
        self._steps += 1
        self.progress(self._steps, max(total, self._steps))


def _warm_up(guest: Guest, until: float, limits: Limits) -> None:
    guest.warm_up(until, limits.most)
    if guest.last_s > limits.time_limit_s:
        raise InputError(
            f"One pass of {guest.subject.name} takes {guest.last_s:.3g} s, and the time limit is "
            f"{limits.time_limit_s:g} s. Raise the time limit, or use a smaller batch size."
        )

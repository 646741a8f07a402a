"""Time networks, interleaved in rounds."""

from __future__ import annotations

import functools
import random
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Unpack

from convscale.errors import InputError
from convscale.quantities import Resolution, check_resolution
from convscale.runtime.batch import require_room
from convscale.runtime.conditions import load_average, observe
from convscale.runtime.devices import Device, open_device
from convscale.runtime.isolation import Lodger, lodge
from convscale.runtime.largest import fitted_batch
from convscale.runtime.measurement import Conditions, Failure, Measurement, Outcome, Part
from convscale.runtime.rounds import Guest, Progress, Rounds, Stay, silent
from convscale.runtime.running import backend
from convscale.runtime.seating import seat
from convscale.runtime.setting import MAX, BatchSize, Limits, Setting, SettingOptions
from convscale.runtime.state import process_state
from convscale.runtime.subject import Recipe, Subject

if TYPE_CHECKING:
    from convscale.network.sources.naming import NetworkLike


def measure(
    network: NetworkLike,
    *,
    resolution: Resolution | None = None,
    mode: str = "inference",
    batch_size: BatchSize = 1,
    device: str = "cpu",
    dtype: str | None = None,
    channels_last: bool = False,
    compile: bool = False,
    threads: int | None = None,
    backend: str = "pytorch",
    optimizer: str = "sgd",
    repeats: int | None = None,
    precision: float | None = None,
    time_limit_s: float = 30.0,
    isolate: bool = False,
    energy: bool = False,
    memory_bytes: int | None = None,
    num_classes: int | None = None,
    in_chans: int | None = None,
    progress: Progress | None = None,
) -> Measurement:
    """Measure the time of one network's forward pass, or of one step of its training.

    Args:
        network: A name, a description of `convscale.families`, or a module, whose state is as
            before afterwards.
        resolution: Input side in px, or all sides; by default the network's own.
        mode: inference (a forward pass in evaluation mode), or training (forward, backward and
            optimizer, on a copy).
        batch_size: Images in one pass.
        device: cpu, cuda, cuda:1 or mps.
        dtype: float32, bfloat16 or float16, the latter two under autocast; by default the
            network's own.
        channels_last: Whether weights and input are laid out with the channels last.
        compile: Whether the network is compiled by `torch.compile`.
        threads: Threads of the processor; one by default, which repeats best.
        backend: pytorch or onnxruntime.
        optimizer: sgd (with momentum) or adamw, for training.
        repeats: Timed passes, after the warm-up; by default as many as the precision asks for.
        precision: Share of the median by which the ends of its 95 % interval may lie off; 0.02
            by default where no number of repeats is given.
        time_limit_s: Stop after this time, but not before three timed passes; it begins with
            the warm-up, and compiling takes none of it.
        isolate: Whether it runs in a process of its own, whose crash is an error like others; a
            module must be one that pickle takes.
        energy: Whether the energy of a pass is measured too, in some seconds of further passes.
        memory_bytes: What a batch of size max may take; by default what the machine has left.
        num_classes: Classes of a network made from a name.
        in_chans: Input channels of a network made from a name.
        progress: Called with steps done and steps in all.

    Raises:
        InputError: If a value cannot be used, or the network does not run.

    Example:
        >>> from torch import nn
        >>> tiny = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU())
        >>> measured = measure(tiny, resolution=16, repeats=5)
        >>> measured.latency_ms.repeats, measured.latency_ms.median > 0, tiny.training
        (5, True, True)
    """
    setting = Setting(
        mode, batch_size, device, dtype, channels_last, compile, threads, backend, optimizer
    )
    limits = Limits(repeats, precision, time_limit_s, counted="repeats")
    check_setting(setting)
    if memory_bytes is not None and setting.batch_size != MAX:
        raise InputError("A memory limit is for the batch size max. Ask for it, or leave it out.")
    subject = _subject(
        network, resolution, isolate=isolate, num_classes=num_classes, in_chans=in_chans
    )
    fitted = None
    if setting.batch_size == MAX:
        device_found = open_device(setting.device)
        fitted = fitted_batch(
            subject, device_found, setting, time_limit_s=time_limit_s, memory_bytes=memory_bytes
        )
        setting, isolate = replace(setting, batch_size=fitted.batch_size), True
    host = _Host(setting, limits, isolate=isolate, energy=energy)
    [found] = _measure([subject], host, progress)
    if isinstance(found, Failure):
        raise InputError(found.failed)
    return found if fitted is None else replace(found, notes=(fitted.note, *found.notes))


def _subject(
    network: NetworkLike, resolution: Resolution | None, *, isolate: bool, **options: int | None
) -> Subject:
    """Find the network that is meant, and the resolution it is measured at."""
    from torch import nn

    from convscale.network.running.feeding import known_resolution
    from convscale.scaling import resolve

    if resolution is not None:
        resolution = check_resolution(resolution)
    found = resolve(network, resolution=resolution, **options)
    size = known_resolution(found, None)
    recipe = Recipe(network, resolution, **options) if isinstance(network, str) else None
    module: nn.Module | None
    if isinstance(network, nn.Module):  # a compiled one is not what it was made from
        name, module = f"module:{type(network).__name__}", network
    else:  # where another process builds it by name, this one need not
        name = found.name
        module = None if isolate and recipe is not None else found.build("cpu")
    return Subject(name, module, size, found.in_chans, found.dims or 2, recipe=recipe)


def measure_together(
    subjects: Sequence[Subject],
    *,
    rounds: int | None = None,
    precision: float | None = None,
    time_limit_s: float = 90.0,
    isolate: bool = False,
    progress: Progress | None = None,
    seed: int = 0,
    **setting: Unpack[SettingOptions],
) -> list[Outcome]:
    """Measure several networks interleaved, so that a busy spell hits all of them alike.

    Every subject is warmed up and visited, which is the first round; then each round visits
    each subject once, in a random order. The passes of a short network (under 50 ms) notice
    that its weights left the caches meanwhile: a visit to it is one untimed pass and twelve
    that are timed. One thread is the default because its processor time repeats to a few
    per cent even where others use the machine; several threads wait for the slowest.

    Args:
        subjects: The modules; their state is as before afterwards.
        rounds: Visits to each subject, of one timed pass, or twelve where it is short; by default
            as many as the precision asks for, each of a quarter of a second.
        precision: Share of each median by which the ends of its 95 % interval may lie off; 0.02
            by default where no number of rounds is given.
        time_limit_s: Stop after this time in all, but not before three rounds; it begins with
            the warm-up, and compiling takes none of it.
        isolate: Whether each runs in a process of its own, so that a crash is a `Failure`.
        progress: Called with steps done and steps in all; the latter may shrink when
            the time limit comes into view.
        seed: For the inputs and the order in the rounds.
        setting: The fields of `Setting`: mode, batch_size, device, dtype, threads and so on.

    Returns:
        One outcome a subject, in the order of the subjects: a `Measurement`, or a `Failure` with
        the reason where a network does not run.

    Raises:
        InputError: If a value cannot be used.

    Example:
        >>> from torch import nn
        >>> pair = [Subject(f"conv{w}", nn.Conv2d(3, w, 3), 16) for w in (4, 8)]
        >>> [m.latency_ms.repeats for m in measure_together(pair, rounds=3)]
        [36, 36]
    """
    asked = Setting(**setting)
    limits = Limits(rounds, precision, time_limit_s)
    check_setting(asked)
    if asked.batch_size == MAX:
        raise InputError("The batch size max is for one network. Write a number for several.")
    host = _Host(asked, limits, isolate=isolate, seed=seed)
    return _measure(subjects, host, progress)


def check_setting(setting: Setting) -> Device:
    """Refuse a setting that cannot be used here, before anything is built.

    Raises:
        InputError: If this machine lacks the device, its dtype, or what the backend needs.

    Example:
        >>> check_setting(Setting()).name
        'cpu'
    """
    device = open_device(setting.device)
    backend(setting.backend).check(setting)
    return device


@dataclass(frozen=True)
class _Host:
    """How subjects are brought to where they run, and what is asked of them there."""

    setting: Setting
    limits: Limits
    isolate: bool
    energy: bool = False
    seed: int = 0

    def invite(self, stay: Stay, device: Device) -> None:
        """Make the subject of a stay its guest."""
        limit_s = self.limits.time_limit_s
        if self.isolate:
            stay.guest = lodge(stay.subject, self.setting, time_limit_s=limit_s, seed=self.seed)
        else:
            require_room(stay.subject, device, self.setting, limit_s)
            stay.guest = seat(stay.subject, device, self.setting, seed=self.seed)


def _measure(subjects: Sequence[Subject], host: _Host, progress: Progress | None) -> list[Outcome]:
    setting, limits = host.setting, host.limits
    device = open_device(setting.device)
    with ExitStack() as stack:
        threads = stack.enter_context(process_state(setting.threads or 1, device.name))
        conditions = observe(device, threads=threads, subjects=len(subjects))
        stays = [Stay(subject) for subject in subjects]
        for stay in stays:
            stack.callback(stay.close)
            stay.attempt(functools.partial(host.invite, stay, device))
        started = time.monotonic()
        rounds = Rounds(
            stays,
            limits,
            usable=min(threads, conditions.processors),
            deadline=started + limits.time_limit_s,
            order=random.Random(host.seed),
            progress=progress or silent,
        )
        rounds.warm_up(started)
        rounds.run()
        done = rounds.repeats if len(stays) == 1 else rounds.done
        ended = replace(conditions, rounds=done, load_average_after=load_average())
        return [_outcome(stay, ended, host, rounds) for stay in stays]


def _outcome(stay: Stay, conditions: Conditions, host: _Host, rounds: Rounds) -> Outcome:
    subject, guest, setting = stay.subject, stay.guest, host.setting
    assert isinstance(setting.batch_size, int)
    if guest is None:
        assert stay.failed is not None
        own = replace(conditions, dtype=setting.dtype or "", backend=setting.backend)
        return Failure(
            subject.name, subject.resolution, setting.batch_size, setting.mode, own, stay.failed
        )
    passes = guest.passes
    found = Measurement(
        subject.name,
        subject.resolution,
        setting.batch_size,
        setting.mode,
        _own(conditions, guest, setting),
        wall_s=tuple(timed.wall_s for timed in passes),
        processor_s=tuple(p.processor_s for p in passes if p.processor_s is not None),
        peak_memory_bytes=guest.peak_memory_bytes,
        device_s=tuple(timed.device_s for timed in passes if timed.device_s is not None),
        parts=_parts(guest),
        process_memory_bytes=guest.process_memory_bytes,
        energy_joules_per_image=_joules(guest, setting.batch_size) if host.energy else None,
        stopped_by=rounds.stopped_by,
    )
    notes = list(_notes(found, rounds.limits))
    if host.energy and found.energy_joules_per_image is None:
        notes.append("Energy is not known: neither NVML nor RAPL can be read here.")
    return replace(found, notes=tuple(notes))


def _joules(guest: Guest, batch_size: int) -> float | None:
    joules = guest.joules()
    return None if joules is None else joules / batch_size


def _own(conditions: Conditions, guest: Guest, setting: Setting) -> Conditions:
    """Add to the common conditions what is the network's own."""
    facts = guest.facts
    return replace(
        conditions,
        dtype=facts.dtype,
        memory_format=facts.memory_format,
        autocast=facts.autocast,
        backend=setting.backend,
        compiled=facts.compiled,
        compile_s=facts.compile_s,
        optimizer=facts.optimizer,
        isolated=isinstance(guest, Lodger),
        versions=dict(facts.versions),
    )


def _parts(guest: Guest) -> tuple[Part, ...]:
    names = guest.facts.parts
    if len(names) == 1:
        return ()
    columns = zip(*(timed.parts for timed in guest.passes), strict=True)
    return tuple(
        Part(
            name,
            tuple(part.seconds for part in column),
            tuple(part.processor_s for part in column if part.processor_s is not None),
        )
        for name, column in zip(names, columns, strict=True)
    )


def _notes(found: Measurement, limits: Limits) -> Iterator[str]:
    """Say what makes the repeats fewer or less certain than asked for."""
    repeats, share, rounds = len(found.wall_s), found.precision, found.conditions.rounds
    if limits.rounds is not None and found.stopped_by == "time limit":
        yield f"Stopped after {rounds} of {limits.rounds} repeats: the time limit was reached."
    if limits.precision is not None and (share is None or share > limits.precision):
        known = "not known from so few" if share is None else f"known within {100 * share:.2g} %"
        why = "the time limit" if found.stopped_by == "time limit" else "the number of repeats"
        yield (
            f"Stopped by {why} after {repeats} repeats: the median is {known}, "
            f"not within {100 * limits.precision:.2g} %."
        )
    if found.contended and found.busy_share is not None:
        threads = found.conditions.threads
        ran = "Its thread ran" if threads == 1 else f"Its {threads} threads ran"
        why = "" if threads == 1 else ", or the network uses few threads"
        yield (
            f"{ran} for {100 * found.busy_share:.0f} % of the wall time: the machine is "
            f"shared{why}. Compare processor times."
        )

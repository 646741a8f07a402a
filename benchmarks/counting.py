"""What a count costs, beside a forward pass on the meta device and beside other counters.

`python -m benchmarks.counting` prints two tables. The first has the processor time of every
counter on networks that are built already, in interleaved rounds, over that of a plain forward
pass on the meta device. The second has, each in a fresh process and beyond the imports, the
processor time from a name to the numbers and the memory it took. A line for each limit that is
missed follows, and the exit status is then 1.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import io
import json
import logging
import os
import statistics
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

NETWORKS = "resnet50 efficientnet_b7 regnety_320 convnext_base densenet201 nfnet_f0".split()
# The first from a name to the numbers; the others have a billion parameters and more.
FRESH = ("timm:resnet50", "timm:vit_giant_patch14_224", "timm:resnet50@w:45")

# What must hold: a count over a forward pass; resnet50 by its name; the memory for any network.
MOST_RATIO, MOST_SECONDS, MOST_BYTES = 1.2, 1.0, 100e6
OURS, THEIRS = ("convscale", "convscale, the run alone"), "torch FlopCounterMode"

# A counter: what it found (multiply-adds), None where it finds nothing.
Counter = Callable[[], int | None]


@dataclass(frozen=True)
class Row:
    """The processor time of one counter on one network, over a plain forward pass.

    Example:
        >>> Row("timm:resnet50", "convscale", 13.0, 0.4, 4_089_184_256).ratio
        0.4
    """

    network: str
    counter: str
    cpu_ms: float
    ratio: float
    flops: int | None


@dataclass(frozen=True)
class Fresh:
    """What a count by name took in a fresh process, beyond the imports.

    Example:
        >>> Fresh("timm:resnet50", 25_557_032, 0.06, 9_000_000).params
        25557032
    """

    network: str
    params: int
    cpu_s: float
    peak_bytes: int


def medians(counters: dict[str, Counter], *, repeats: int) -> dict[str, float]:
    """Return the processor time of each (ms): the median of rounds in which all take turns.

    Example:
        >>> list(medians({"nothing": lambda: None}, repeats=3))
        ['nothing']
    """
    spent: dict[str, list[float]] = {name: [] for name in counters}
    gc.collect()
    gc.freeze()  # what the process holds besides is nobody's cost
    for _ in range(repeats):
        for name, work in counters.items():
            start = time.process_time()
            work()
            spent[name].append(time.process_time() - start)
    gc.unfreeze()
    return {name: 1e3 * statistics.median(times) for name, times in spent.items()}


def rows(name: str, *, repeats: int, slow: bool = True) -> list[Row]:
    """Time every counter on one network of timm.

    Args:
        name: The network's name in timm.
        repeats: Rounds; a counter that runs the network on the CPU gets one in five.
        slow: Whether such counters are timed at all.

    Example:
        >>> [row.counter for row in rows("resnet18", repeats=1, slow=False)][:3]
        ['forward pass', 'convscale', 'convscale, the run alone']
    """
    counters = meta_counters(name)
    found = {label: work() for label, work in counters.items()}  # one round warms up
    times = medians(counters, repeats=repeats)
    if slow and (fvcore := fvcore_counter(name)) is not None:
        found["fvcore (CPU)"] = fvcore()
        times |= medians({"fvcore (CPU)": fvcore}, repeats=max(1, repeats // 5))
    plain = times["forward pass"]
    return [
        Row(f"timm:{name}", label, cpu_ms, cpu_ms / plain, found[label])
        for label, cpu_ms in times.items()
    ]


def meta_counters(name: str) -> dict[str, Counter]:
    """Return the counters that run on the meta device, and the forward pass without any."""
    import timm
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    import convscale as cs
    from convscale.complexity.tally import Counting
    from convscale.network.running.execution import run

    side = _side(name)
    with torch.device("meta"):
        module = timm.create_model(name).eval()
        image = torch.zeros(1, 3, side, side)

    def plain() -> None:
        with torch.no_grad():
            module(image)

    def whole() -> int:
        return cs.count(module, resolution=side).flops

    def inner() -> int:
        counting = Counting()
        run(module, (image,), counting)
        return counting.count(module, side).flops

    def theirs() -> int:
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            module(image)
        return int(counter.get_total_flops()) // 2

    counters: dict[str, Counter] = {
        "forward pass": plain,
        OURS[0]: whole,
        OURS[1]: inner,
        THEIRS: theirs,
    }
    with contextlib.suppress(ImportError):
        import torchinfo

        def summary() -> int:
            found = torchinfo.summary(module, input_data=image, verbose=0, device="meta")
            return int(found.total_mult_adds)

        counters["torchinfo"] = summary
    return counters


def fvcore_counter(name: str) -> Counter | None:
    """Return fvcore's count, None where it is not installed.

    It needs a network on the CPU: it traces with PyTorch's older tracer, which the meta device
    fails.
    """
    try:
        from fvcore.nn import FlopCountAnalysis
    except ImportError:
        return None
    import timm
    import torch

    logging.getLogger("fvcore").setLevel(logging.ERROR)
    side = _side(name)
    module, image = timm.create_model(name).eval(), torch.zeros(1, 3, side, side)

    def count() -> int:
        with torch.no_grad():
            analysis = FlopCountAnalysis(module, image)
            analysis.unsupported_ops_warnings(False).uncalled_modules_warnings(False)
            return int(analysis.total())

    return count


def _side(name: str) -> int:
    import timm

    config = timm.get_pretrained_cfg(name)
    assert config is not None, f"timm says nothing of the input of {name}"
    return int(config.input_size[-1])


def in_fresh_process(network: str) -> Fresh:
    """Count a network by name in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.counting", "--in-process", network]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return Fresh(**json.loads(done.stdout))


def in_this_process(network: str) -> Fresh:
    """Count a network by name: the time and the memory beyond what was imported before."""
    import timm  # noqa: F401 - imported before the clock starts
    import torch
    import torchvision  # noqa: F401

    import convscale as cs
    import convscale.scaling

    torch.set_num_threads(1)
    before = _reset_peak()
    start = time.process_time()
    found = cs.count(network)
    spent = time.process_time() - start
    return Fresh(network, found.params, spent, _status("VmHWM") - before)


def _reset_peak() -> int:
    """Let the peak of resident memory begin again; return the memory held now (bytes; Linux)."""
    Path("/proc/self/clear_refs").write_text("5")
    return _status("VmRSS")


def _status(entry: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * int(next(line for line in lines if line.startswith(f"{entry}:")).split()[1])


def print_rows(found: list[Row]) -> None:
    """Print the first table."""
    print(f"{'network':24}{'counter':28}{'cpu ms':>9}{'x forward':>11}{'multiply-adds':>18}")
    for row in found:
        flops = "" if row.flops is None else f"{row.flops:,}"
        print(f"{row.network:24}{row.counter:28}{row.cpu_ms:9.1f}{row.ratio:11.2f}{flops:>18}")


def print_fresh(found: list[Fresh]) -> None:
    """Print the second table."""
    print(f"\n{'by name, beyond imports':34}{'params':>16}{'cpu s':>8}{'peak MB':>9}")
    for row in found:
        print(f"{row.network:34}{row.params:16,}{row.cpu_s:8.2f}{row.peak_bytes / 1e6:9.1f}")


def missed(found: list[Row], fresh: list[Fresh]) -> list[str]:
    """Return a line for each limit that a run misses.

    Example:
        >>> missed([Row("timm:resnet50", "convscale", 13.0, 0.4, 4_089_184_256)], [])
        []
    """
    lines = [
        f"{row.network}: {row.counter} takes {row.ratio:.2f} times the forward pass; the limit is "
        f"{MOST_RATIO}."
        for row in found
        if row.counter in OURS and row.ratio > MOST_RATIO
    ]
    theirs = {row.network: row.flops for row in found if row.counter == THEIRS}
    lines += [
        f"{row.network}: convscale finds {row.flops} flops, {THEIRS} {theirs[row.network]}."
        for row in found
        if row.counter == OURS[0] and row.flops != theirs.get(row.network, row.flops)
    ]
    lines += [
        f"{row.network}: {row.cpu_s:.2f} s of processor time from its name; the limit is "
        f"{MOST_SECONDS:g} s."
        for row in fresh
        if row.network == FRESH[0] and row.cpu_s > MOST_SECONDS
    ]
    return lines + [
        f"{row.network}: {row.peak_bytes / 1e6:.1f} MB beyond the imports; the limit is "
        f"{MOST_BYTES / 1e6:g} MB."
        for row in fresh
        if row.peak_bytes > MOST_BYTES
    ]


def main() -> None:
    """Print both tables, and which limits are missed."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("networks", nargs="*", default=NETWORKS, help="names in timm")
    parser.add_argument("--repeats", type=int, default=25, help="rounds")
    parser.add_argument("--no-fvcore", action="store_true", help="leave out what runs on the CPU")
    parser.add_argument("--in-process", metavar="NETWORK", help="count one network here, in JSON")
    chosen = parser.parse_args()
    warnings.simplefilter("ignore")
    if chosen.in_process:
        print(json.dumps(asdict(in_this_process(chosen.in_process))))
        return
    import torch

    torch.set_num_threads(1)
    print(f"torch {torch.__version__}, one thread, {os.cpu_count()} cores, {chosen.repeats} rounds")
    with contextlib.redirect_stderr(io.StringIO()):
        found = [
            row
            for name in chosen.networks
            for row in rows(name, repeats=chosen.repeats, slow=not chosen.no_fvcore)
        ]
    print_rows(found)
    fresh = [in_fresh_process(name) for name in FRESH]
    print_fresh(fresh)
    lines = missed(found, fresh)
    print("\n" + ("\n".join(lines) or "All limits are kept."))
    raise SystemExit(int(bool(lines)))


if __name__ == "__main__":
    main()

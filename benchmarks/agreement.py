"""Compare counts with PyTorch's counter and with timm's published tables, network by network.

Run by `make agreement`, which writes docs/agreement.md. It can be stopped and started again.
"""

from __future__ import annotations

import csv
import json
import sys
import warnings
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Annotated

import torch
import typer
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.agreement_page import page
from convscale.cli.progress import progress
from convscale.complexity.counting import count_conventions
from convscale.network.running.probing import with_input
from convscale.network.sources.inputs import example_inputs
from convscale.network.sources.network import Network
from convscale.scaling import resolve

ROOT = Path(__file__).parent.parent
SHARED = ROOT.parent / "shared"
LIST = SHARED / "golden" / "timm_conv_architectures.txt"
TABLES = SHARED / "data" / "timm"
_HALF_DIGIT = 0.005  # tables print two decimals


@dataclass(frozen=True)
class Entry:
    """A network to compare: its figures in the published tables, None where it is in none.

    Example:
        >>> Entry("resnet50.a1_in1k", 224, gmacs=4.11, macts=11.11).architecture
        'resnet50'
    """

    model: str
    resolution: int | None = None
    gmacs: float | None = None
    macts: float | None = None

    @property
    def architecture(self) -> str:
        """The name without the tag of the weights."""
        return self.model.split(".")[0]


@dataclass(frozen=True)
class Row:
    """What was counted of a network, and by others.

    `torch_flops` is the figure of PyTorch's counter, 2 a multiply-add; `parameters` the sum over
    the network's parameters.

    Example:
        >>> row = Row("net", 224, 10, 5, 3, 20, 5, 10, 3)
        >>> row.agrees_with_torch
        True
    """

    model: str
    resolution: int
    flops: int
    params: int
    acts: int
    torch_flops: int
    parameters: int
    fvcore_flops: int
    fvcore_acts: int
    gmacs: float | None = None
    macts: float | None = None

    @property
    def agrees_with_torch(self) -> bool:
        """Whether PyTorch's counter gives just twice the flops, and the params are the sum."""
        return self.torch_flops == 2 * self.flops and self.params == self.parameters

    @property
    def agrees_with_table(self) -> bool | None:
        """Whether both figures are those of the tables; None where it is in none.

        Example:
            >>> Row("net", 224, 1, 1, 1, 2, 1, 4_111_512_576, 11_114_984, 4.11, 11.11
            ...     ).agrees_with_table
            True
        """
        if self.gmacs is None or self.macts is None:
            return None
        return near(self.fvcore_flops / 1e9, self.gmacs) and near(
            self.fvcore_acts / 1e6, self.macts
        )


def near(value: float, printed: float) -> bool:
    """Tell whether a value is within 0.5 % of a printed one, or half a unit of its last digit.

    Example:
        >>> near(0.0349, 0.03), near(0.036, 0.03)
        (True, False)
    """
    return abs(value - printed) <= max(0.005 * printed, _HALF_DIGIT) * (1 + 1e-9)


def entries(architectures: Iterable[str], tables: Path) -> list[Entry]:
    """List the architectures: each at the sizes of the tables, and those that are in none."""
    wanted = list(architectures)
    found: dict[tuple[str, int], Entry] = {}
    for path in sorted(tables.glob("benchmark-infer-*-pt240-*.csv")):
        with path.open(newline="") as file:
            for line in csv.DictReader(file):
                if not line["infer_gmacs"]:
                    continue
                entry = Entry(
                    line["model"],
                    int(line["infer_img_size"]),
                    float(line["infer_gmacs"]),
                    float(line["infer_macts"]),
                )
                found.setdefault((entry.architecture, int(line["infer_img_size"])), entry)
    known = [entry for (name, _), entry in found.items() if name in set(wanted)]
    listed = {entry.architecture for entry in known}
    return sorted(
        (*known, *(Entry(name) for name in wanted if name not in listed)),
        key=lambda entry: (entry.model, entry.resolution or 0),
    )


def compare(entry: Entry) -> Row:
    """Count a network of timm, and let PyTorch's counter count it.

    Example:
        >>> compare(Entry("resnet18", 224, 1.82, 2.48)).agrees_with_torch
        True
    """
    network = resolve(f"timm:{entry.model}", resolution=entry.resolution)
    module = network.build("meta")
    build = network.build
    network = replace(network, build=lambda device: module if device == "meta" else build(device))
    counts = count_conventions(network)
    own, as_fvcore = counts["default"], counts["fvcore"]
    assert isinstance(own.resolution, int)
    return Row(
        model=entry.model,
        resolution=own.resolution,
        flops=own.flops,
        params=own.params,
        acts=own.acts,
        torch_flops=torch_flops(network, own.resolution),
        parameters=sum(parameter.numel() for parameter in module.parameters()),
        fvcore_flops=as_fvcore.flops,
        fvcore_acts=as_fvcore.acts,
        gmacs=entry.gmacs,
        macts=entry.macts,
    )


def torch_flops(network: Network, resolution: int) -> int:
    """Return the figure of PyTorch's own counter, on the meta device."""
    network = with_input(network, resolution)
    module = network.build("meta").eval()
    images = example_inputs(module, resolution, in_chans=network.in_chans)
    counter = FlopCounterMode(display=False)
    with torch.no_grad(), torch.device("meta"), counter:
        module(*images)
    return int(counter.get_total_flops())


def read_rows(path: Path) -> list[Row]:
    """Read the rows that were written."""
    lines = path.read_text().splitlines() if path.exists() else []
    return [Row(**json.loads(line)) for line in lines]


def main(
    sample: Annotated[int, typer.Option(min=1, help="Take every n-th network only.")] = 1,
    store: Annotated[Path, typer.Option(help="Where rows are kept.")] = ROOT / "agreement.jsonl",
    output: Annotated[Path, typer.Option(help="The page.")] = ROOT / "docs" / "agreement.md",
) -> None:
    """Compare every convolutional architecture, and write a page on what came of it."""
    if not LIST.exists():
        sys.exit(f"There is no list of architectures at {LIST}.")
    warnings.simplefilter("ignore")
    wanted = entries(LIST.read_text().split(), TABLES)[::sample]
    done = {(row.model, row.resolution) for row in read_rows(store)}
    own = {row.model for row in read_rows(store) if row.gmacs is None}
    left = [
        one for one in wanted if (one.model, one.resolution) not in done and one.model not in own
    ]
    with progress("Comparing counts") as report, store.open("a") as file:
        for number, entry in enumerate(left, start=1):
            file.write(json.dumps(asdict(compare(entry))) + "\n")
            file.flush()
            report(number, len(left))
    rows = read_rows(store)
    output.write_text(page(rows))
    print(f"{len(rows)} rows; the page is {output}.")


if __name__ == "__main__":
    typer.run(main)

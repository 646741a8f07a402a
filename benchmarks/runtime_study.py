"""Measure which metric tells the time here, and write the results into docs/runtime-study.md.

Run by `make runtime-study`. There is a study for each mode and number of threads, each in a file
that is written after every round: the run can be stopped and started again. Each study has a
process of its own, so that it begins with the machine's memory as the others did.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from convscale.report.association import TIME_NAMES, scatter_frame
from convscale.report.correlations import correlations_markdown
from convscale.report.scatter import write_scatter
from convscale.study.runtime_study import ALL_NETWORKS, RuntimeStudy
from convscale.study.study_file import read_study

ROOT = Path(__file__).parent.parent
NETWORKS = ("resnet50", "regnety_040", "efficientnet_b0")
MODES = {"inference": "Inference", "training": "Training step"}
BEGIN, END = "<!-- results -->", "<!-- end of results -->"


@dataclass(frozen=True)
class Part:
    """One study: a mode and a number of threads.

    Example:
        >>> Part("training", 2).name, Part("training", 1).title
        ('training-2', 'Training step, 1 thread')
    """

    mode: str
    threads: int

    @property
    def name(self) -> str:
        """The name of its file and of its figure."""
        return f"{self.mode}-{self.threads}"

    @property
    def title(self) -> str:
        """Its heading."""
        return f"{MODES[self.mode]}, {self.threads} thread{'s' if self.threads > 1 else ''}"


def command(part: Part, options: argparse.Namespace) -> list[str]:
    """Return the command line that measures one study, or goes on with it."""
    given = {
        "--strategies": options.strategies,
        "--factors": options.factors,
        "--mode": part.mode,
        "--threads": part.threads,
        "--rounds": options.rounds,
        "--passes": options.passes,
        "--time-limit": options.time_limit,
        "--out": options.folder / f"{part.name}.json",
    }
    if options.resolution:
        given["--resolution"] = options.resolution
    words = [str(word) for pair in given.items() for word in pair]
    return [sys.executable, "-m", "convscale.cli.main", "correlate", *options.networks, *words]


def section(part: Part, study: RuntimeStudy, image: str) -> str:
    """Write one study's heading, figure, tables and sentences in Markdown.

    Example:
        >>> section(Part("inference", 1), RuntimeStudy((), {}), "a.png").splitlines()[0]
        '### Inference, 1 thread'
    """
    alt = f"Time against flops, params, acts and flops + acts: {part.title}"
    return f"### {part.title}\n\n![{alt}]({image})\n\n{correlations_markdown(study)}"


def draw(study: RuntimeStudy, path: Path) -> None:
    """Draw time against each predictor."""
    by = study.associations[study.time][ALL_NETWORKS].r
    r = {name: None if (one := own["log"]) is None else one.value for name, own in by.items()}
    write_scatter(scatter_frame(study), r, path, time=TIME_NAMES[study.time])


def filled(page: str, results: Sequence[str]) -> str:
    r"""Put results between the two marks of a page.

    Example:
        >>> filled(f"a\n{BEGIN}\nold\n{END}\nz\n", ["new\n"]).splitlines()
        ['a', '<!-- results -->', '', 'new', '', '<!-- end of results -->', 'z']
    """
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n\n{chr(10).join(results)}\n{END}{after}"


def main() -> None:
    """Measure what is not measured yet, then draw and write all that is there."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--networks", nargs="+", default=list(NETWORKS))
    parser.add_argument("--strategies", default="w,d,r,dwr,dWr")
    parser.add_argument("--factors", default="1,2,4,8")
    parser.add_argument("--resolution", default=None)
    parser.add_argument("--modes", nargs="+", default=list(MODES), choices=list(MODES))
    parser.add_argument("--threads", nargs="+", type=int, default=[1, 2])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--passes", type=int, default=3)
    parser.add_argument("--time-limit", type=int, default=3600)
    parser.add_argument("--folder", type=Path, default=ROOT / "build" / "runtime-study")
    parser.add_argument("--page", type=Path, default=ROOT / "docs" / "runtime-study.md")
    options = parser.parse_args()
    results = []
    for part in (Part(mode, threads) for mode in options.modes for threads in options.threads):
        subprocess.run(command(part, options), check=True)
        study = read_study(options.folder / f"{part.name}.json")
        image = options.page.parent / "images" / f"runtime-{part.name}.png"
        draw(study, image)
        results.append(section(part, study, f"images/{image.name}"))
        text = options.page.read_text(encoding="utf-8")
        options.page.write_text(filled(text, results), encoding="utf-8")


if __name__ == "__main__":
    main()

"""Views of a forward pass as files: a table as CSV, a figure as a page or a picture."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from convscale.errors import InputError
from convscale.files import write_whole
from convscale.report.along import along_frame, along_page, title_of
from convscale.report.paper import FORMATS, paper_figure, rendered

if TYPE_CHECKING:
    from convscale.complexity.views import Operators


def write_csv(found: Operators, view: str, path: str | Path) -> Path:
    """Write a view as CSV, one header and a line a part, whole or not at all.

    Args:
        found: The operators.
        view: total, layer, stage, kind or operator.
        path: The file; folders above it are made, and an old file is replaced.

    Raises:
        InputError: If nothing can be written there.

    Example:
        >>> import tempfile
        >>> from convscale.complexity.views import Operators
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = write_csv(Operators("net", 8), "total", Path(folder, "net.csv"))
        ...     path.read_text().partition(",")[0]
        'network'
    """
    text: str = found.frame(view).to_csv(index=False, lineterminator="\n")
    return write_whole(Path(path), text)


def plot_form(path: Path) -> str:
    """Return the form of a plot by the end of its file's name: html, png, svg or pdf.

    Raises:
        InputError: If it is another.

    Example:
        >>> plot_form(Path("net.svg"))
        'svg'
    """
    form = path.suffix.lower().removeprefix(".")
    forms = ("html", *FORMATS)
    if form not in forms:
        ends = ", ".join(f".{name}" for name in forms[:-1])
        raise InputError(
            f"{path.name!r} does not tell the form of the plot. End it in {ends} or .{forms[-1]}."
        )
    return form


def write_plot(found: Operators, path: str | Path) -> Path:
    """Draw where flops, params and acts sit along a network, as a page or a picture.

    Args:
        found: The operators, with stages.
        path: The file, which ends in .html, .png, .svg or .pdf.

    Raises:
        InputError: If it ends otherwise, or nothing can be written there.

    Example:
        >>> import tempfile
        >>> from convscale.complexity.calls import OperatorCall
        >>> from convscale.complexity.views import Operators
        >>> call = OperatorCall("a", "aten.mm", "linear", flops=8, acts=2)
        >>> found = Operators("net", 8, calls=(call,), stages=())
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     write_plot(found, Path(folder, "net.svg")).read_bytes()[:5]
        b'<?xml'
    """
    target = Path(path)
    form = plot_form(target)
    if form == "html":
        return write_whole(target, along_page(found))
    figure = paper_figure(along_frame(found), title_of(found))
    return write_whole(target, rendered(figure, form))

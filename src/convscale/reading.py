"""Files as people write them: an entry that stands twice is named, mistakes are told in words."""

from __future__ import annotations

import csv
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from convscale.errors import InputError

# YAML 1.1 has a number with an exponent only behind a point and before a sign.
_EXPONENT = re.compile(r"[-+]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)[eE][-+]?[0-9]+")
_MARKS = frozenset(("tag:yaml.org,2002:merge", "tag:yaml.org,2002:value"))  # << and =


class _Loader(yaml.SafeLoader):  # type: ignore[misc]
    """Read plain values, and remember entries that stand twice in one table."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.repeated: list[str] = []

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: dict[Any, tuple[str, int]] = {}
        for key in (key for key, _ in node.value if isinstance(key, yaml.ScalarNode)):
            line = key.start_mark.line + 1
            value = key.value if key.tag in _MARKS else self.construct_object(key)
            if value in seen:
                text, first = seen[value]
                twice = f"{key.value} stands twice"
                if text != key.value:  # such as 1 and yes
                    twice = f"{text} and {key.value} are one entry, which stands twice"
                self.repeated.append(f"{twice}, in lines {first} and {line}")
            seen[value] = key.value, line
        found: dict[Any, Any] = super().construct_mapping(node, deep)
        return found


_Loader.add_implicit_resolver("tag:yaml.org,2002:float", _EXPONENT, list("-+.0123456789"))


def read_yaml_file(path: Path) -> tuple[Any, list[str]]:
    r"""Return what a YAML file holds, and the entries that stand twice in a table of it.

    Raises:
        OSError: If the file cannot be opened.
        InputError: If it is no YAML.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     file = Path(folder, "mine.yaml")
        ...     _ = file.write_text("wm: 2.24e0\nwa: 1\nwa: 2\n")
        ...     read_yaml_file(file)
        ({'wm': 2.24, 'wa': 2}, ['wa stands twice, in lines 2 and 3'])
    """
    try:
        loader = _Loader(path.read_text(encoding="utf-8"))
        return loader.get_single_data(), loader.repeated
    except UnicodeDecodeError as error:
        raise InputError(f"{path} cannot be read: it is no text in UTF-8.") from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise InputError(f"{path} is no YAML: {' '.join(str(error).split())}.") from error


def read_yaml_value(text: str) -> Any:
    """Return the value that a piece of YAML is.

    Raises:
        InputError: If it is no YAML.

    Example:
        >>> read_yaml_value("2e-3"), read_yaml_value("[1, 2]"), read_yaml_value("null")
        (0.002, [1, 2], None)
    """
    try:
        return _Loader(text).get_single_data()
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise InputError(f"{text!r} is no YAML: {' '.join(str(error).split())}.") from error


def mistake_of(error: Mapping[str, Any]) -> str:
    """Say where a mistake that pydantic found in a file stands, and what it is.

    Example:
        >>> mistake_of({"loc": ("weights", "d"), "type": "missing", "msg": "", "input": {}})
        'weights.d is missing'
    """
    place = ".".join(map(str, error["loc"])) or "the file"
    if error["type"] == "missing":
        return f"{place} is missing"
    if error["type"] == "extra_forbidden":
        return f"{place} is unknown"
    if error["type"] == "model_type":
        return f"{place} must be a table of entries (it is {error['input']!r})"
    said = str(error["msg"]).removeprefix("Value error, ").rstrip(".")
    came = error["input"]
    value = "" if isinstance(came, dict | list) else f" (it is {came!r})"
    return f"{place}: {said[:1].lower()}{said[1:]}{value}"


def csv_lines(path: Path, what: str) -> tuple[list[str], list[tuple[int, list[str]]]]:
    r"""Read the header of a CSV file, and its other lines that hold anything, with their numbers.

    Args:
        path: The file.
        what: What it is a file of, for errors.

    Raises:
        InputError: If there is none, or it is no CSV file, or it is empty.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = Path(folder) / "a.csv"
        ...     _ = path.write_text("model, ms\n\nresnet18,2\n")
        ...     csv_lines(path, "timings")
        (['model', 'ms'], [(3, ['resnet18', '2'])])
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            lines = csv.reader(file, skipinitialspace=True, strict=True)
            rows = [(lines.line_num, row) for row in lines if any(map(str.strip, row))]
    except FileNotFoundError:
        raise InputError(f"There is no file {path}. Name a CSV file with {what}.") from None
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        said = error.strerror if isinstance(error, OSError) else str(error).rstrip(".")
        raise InputError(f"{path} is no CSV file: {said}.") from error
    if not rows:
        raise InputError(f"{path} is empty. Name a CSV file with {what}.")
    (_, header), *rest = rows
    return [name.strip() for name in header], rest

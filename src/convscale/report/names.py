"""Names of scaled versions in tables, without what all of them have in common."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from rich.text import Text


@dataclass(frozen=True)
class Names:
    """What the names of scaled versions begin and end with; nothing where they differ.

    Example:
        >>> names = Names.of(["net"], ["net", "net@w:2:reference", "net@dWr:4:reference"])
        >>> names.short("net@w:2:reference"), names.short("net")
        ('w:2', 'net')
    """

    lead: str = ""
    end: str = ""

    @classmethod
    def of(cls, bases: Sequence[str], names: Iterable[str]) -> Names:
        """Return what names have in common, if all are of one base.

        Args:
            bases: The networks that were scaled.
            names: The names of candidates.
        """
        if len(bases) != 1:
            return cls()
        lead = f"{bases[0]}@"
        scaled = [name.removeprefix(lead) for name in names if name.startswith(lead)]
        ends = {end for name in scaled if len(parts := name.split(":")) == 3 for end in parts[2:]}
        return cls(lead, f":{ends.pop()}" if len(ends) == 1 else "") if scaled else cls()

    def short(self, name: str) -> str:
        """Return a name without what all have."""
        return name.removeprefix(self.lead).removesuffix(self.end) if self.lead else name

    @property
    def said(self) -> list[Text]:
        """Say what tables leave out of names; nothing where they are whole."""
        told = f"In tables, names stand for {self.lead}NAME{self.end}."
        return [Text(told)] if self.lead else []

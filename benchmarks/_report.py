"""Tables, and the checks of figures against their bounds."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any, Literal


@dataclasses.dataclass(frozen=True)
class Check:
    """A figure and its bound."""

    what: str
    figure: float
    relation: Literal["<=", ">="]
    bound: float

    @property
    def holds(self) -> bool:
        """Whether the figure is within the bound."""
        if self.relation == "<=":
            return self.figure <= self.bound
        return self.figure >= self.bound

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return {**dataclasses.asdict(self), "holds": self.holds}


@dataclasses.dataclass(frozen=True)
class Report:
    """The results of one benchmark: ``rows`` for JSON, ``text`` for the terminal."""

    name: str
    rows: list[dict[str, Any]]
    text: str
    checks: list[Check]

    def show(self) -> None:
        """Print the table and the checks."""
        print(f"\n## {self.name}\n\n{self.text}\n")
        print(checklist(self.checks))

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return {"rows": self.rows, "checks": [check.to_dict() for check in self.checks]}


def checklist(checks: Sequence[Check]) -> str:
    """Return a table with one row for each check."""
    return table(
        ("check", "measured", "bound", "holds"),
        [
            (c.what, f"{c.figure:.2f}", f"{c.relation} {c.bound:g}", "yes" if c.holds else "NO")
            for c in checks
        ],
    )


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table with aligned columns."""
    lines = [list(head), *(list(row) for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(head))]
    lines.insert(1, ["-" * width for width in widths])
    return "\n".join(
        "| " + " | ".join(c.ljust(w) for c, w in zip(line, widths, strict=True)) + " |"
        for line in lines
    )

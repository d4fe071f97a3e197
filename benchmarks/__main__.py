"""Run every benchmark: ``python -m benchmarks [--quick] [--json FILE] [NAME ...]``."""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import platform
import sys
from pathlib import Path

from benchmarks import (
    batches,
    chaos,
    download,
    fleet,
    hostile,
    imports,
    interrupt,
    ledgers,
    memory,
    polling,
    real_shape,
    saturation,
)
from benchmarks._report import checklist

ALL = {
    "saturation": saturation.run,
    "real_shape": real_shape.run,
    "polling": polling.run,
    "memory": memory.run,
    "imports": imports.run,
    "ledgers": ledgers.run,
    "interrupt": interrupt.run,
    "batches": batches.run,
    "fleet": fleet.run,
    "download": download.run,
    "hostile": hostile.run,
    "chaos": chaos.run,
}
_LIBRARIES = (
    "httpx",
    "httpcore",
    "anyio",
    "aiohttp",
    "httpx-aiohttp",
    "asyncpg",
    "fal-client",
    "openai",
    "runwayml",
)


def main() -> None:
    """Run the named benchmarks, print tables, and write JSON if a path is given."""
    if sys.argv[1:2] == ["chaos"]:
        sys.exit(chaos.main(sys.argv[2:]))  # it parses its own arguments
    parser = argparse.ArgumentParser(prog="benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", choices=[*ALL, []], metavar="NAME")
    parser.add_argument("--quick", action="store_true", help="small sizes, one round")
    parser.add_argument("--json", type=Path, help="where to write the figures")
    given = parser.parse_args()
    reports = []
    for name in given.names or ALL:
        report = ALL[name](quick=given.quick)
        report.show()
        reports.append(report)
    checks = [check for report in reports for check in report.checks]
    print(f"\n## all checks\n\n{checklist(checks)}")
    if given.json is not None:
        found = {
            "python": platform.python_version(),
            "libraries": {name: importlib.metadata.version(name) for name in _LIBRARIES},
            "quick": given.quick,
            "reports": {report.name: report.to_dict() for report in reports},
        }
        given.json.write_text(json.dumps(found, indent=2), encoding="utf-8")


if __name__ == "__main__":
    main()

#!/usr/bin/env python3
"""Check the extension as the Slicer Extensions Index does, as far as that needs no network.

    python .ci/check_extension.py             every check, one line each; the exit status is 1 if one fails
    python .ci/check_extension.py --static    without loading the package in the stand-in host of Testing
    python .ci/check_extension.py FOLDER      another checkout

The rules are those of the Index's `scripts/check_description_files.py`, its questions in
`scripts/extension_ai_analysis.py`, the list in its `.github/PULL_REQUEST_TEMPLATE.md`, Slicer's schema of catalog
entries and Slicer's packaging macros (read in August 2026).
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / ".ci"))

from extension_checks import code, descriptions, documentation, package, repository  # noqa: E402
from extension_checks.extension import Check, Extension  # noqa: E402

CHECKS = (*descriptions.CHECKS, *repository.CHECKS, *documentation.CHECKS, *code.CHECKS, *package.CHECKS)
ONLINE = (
    "The repository can be cloned at scm_url, and has the branch scm_revision",
    "The repository has the topic 3d-slicer-extension",
    "The icon and the screenshots can be fetched at their raw addresses, and are served as pictures",
    "The homepage can be opened",
    "The catalog entry validates against the schema fetched from its $schema",
    "PyTorch is in the Index's branch for this Slicer",
    "Wiki, Projects, Discussions, Releases and Packages are hidden where they are not used",
    "Slicer's build packages the extension on Windows, macOS and Linux",
)
SHOWN = 8


def report(mark: str, check: Check, problems: list[str]) -> str:
    """Return the line of a check, with what is wrong and what to do where it failed."""
    if not problems:
        return f"{mark} {check.title}"
    shown = "; ".join(problems[:SHOWN]) + (f"; and {len(problems) - SHOWN} more" if len(problems) > SHOWN else "")
    return f"{mark} {check.title}: {shown}. -> {check.remedy}"


def main(arguments: list[str]) -> int:
    """Run the checks and print their lines."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", nargs="?", type=Path, default=ROOT, help="the checkout (default: this one)")
    parser.add_argument("--static", action="store_true", help="do not load the package")
    chosen = parser.parse_args(arguments)
    if not (chosen.folder / "CMakeLists.txt").is_file():
        print(f"{chosen.folder} has no CMakeLists.txt: name the folder of the extension.", file=sys.stderr)
        return 2
    extension = Extension(chosen.folder)
    skipped = "left out by --static" if chosen.static else package.why_not_loaded()
    passed = failed = 0
    for check in (*CHECKS, *(() if skipped else (package.LOADING,))):
        problems = check.find(extension)
        passed, failed = passed + (not problems), failed + bool(problems)
        print(report("FAIL" if problems else "PASS", check, problems), flush=True)
    if skipped:
        print(f"SKIP {package.LOADING.title}: {skipped}")
    for title in ONLINE:
        print(f"WEB  {title}")
    print(f"{passed} passed, {failed} failed; {len(ONLINE)} need the network and are not checked here")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""Imports of our own modules lead somewhere: the type checker forgives missing modules, for the sake of others'."""

from __future__ import annotations

import ast
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def exists(module: str) -> bool:
    path = ROOT.joinpath(*module.split("."))
    return path.with_suffix(".py").is_file() or (path / "__init__.py").is_file()


def own_modules(path: Path) -> set[str]:
    """Modules of ours that a file imports, in whatever line."""
    found = {
        name
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Import | ast.ImportFrom)
        for name in ([node.module or ""] if isinstance(node, ast.ImportFrom) else [one.name for one in node.names])
    }
    return {name for name in found if name.partition(".")[0] in ("MedalSLib", "tools")}


def test_every_module_of_ours_that_is_imported_exists() -> None:
    files = [
        path for folder in ("MedalS", "MedalSLib", "tools", "Testing", ".ci") for path in (ROOT / folder).rglob("*.py")
    ]
    lost = {f"{path.relative_to(ROOT)}: {name}" for path in files for name in own_modules(path) if not exists(name)}
    assert not lost and len(files) > 300

"""The threat model names for each threat a test that exists."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "Documentation" / "threat-model.md"


def functions_of(name: str) -> list[str]:
    for candidate in (f"test_service_{name}.py", f"{name}.py"):
        path = Path(__file__).parent / candidate
        if path.is_file():
            return re.findall(r"^def test_(\w+)", path.read_text(encoding="utf-8"), re.MULTILINE)
    raise AssertionError(f"no such file of tests: {name}")


def test_every_threat_has_a_test_that_exists() -> None:
    rows = [line.split("|") for line in PAGE.read_text(encoding="utf-8").splitlines() if line.startswith("| ")]
    rows = [row for row in rows if row[3].strip() != "test"]
    assert len(rows) >= 24
    for _, threat, answer, proof, _ in rows:
        assert answer.strip()
        groups = re.findall(r"`(\w+)`: ([^`;]+)", proof)
        assert groups, threat
        for name, listed in groups:
            known = functions_of(name)
            for test in listed.split(","):
                wanted = test.strip()
                if wanted == "all":
                    continue
                start = wanted.removesuffix("…")
                found = start in known if start == wanted else any(one.startswith(start) for one in known)
                assert found, (threat, wanted)

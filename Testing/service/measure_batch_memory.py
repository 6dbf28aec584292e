"""How much memory a long batch takes: `python Testing/service/measure_batch_memory.py [STUDIES] [MODEL]` prints JSON.

Studies of 32 x 32 x 24 voxels are made in a temporary folder and segmented by `run_batch` in this process.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from pathlib import Path

import nibabel as nib
import numpy as np
import psutil

from MedalSLib.service.batch import run_batch
from MedalSLib.service.batch_files import BatchJob, StudyOutcome


def main(count: int = 1000, model: str = "starter") -> None:
    """Write the studies, run the batch, and print resident memory every hundred studies."""
    process = psutil.Process()
    rows: list[dict[str, float]] = []
    with tempfile.TemporaryDirectory() as folder:
        studies = [Path(folder) / "in" / f"case{number:04d}.nii.gz" for number in range(count)]
        studies[0].parent.mkdir()
        for number, path in enumerate(studies):
            array = np.random.default_rng(number).integers(-200, 300, (32, 32, 24), np.int16)
            nib.save(nib.Nifti1Image(array, np.diag([-3.0, -3, 3, 1])), path)
        begun = time.perf_counter()

        def note(_: StudyOutcome, ended: int, total: int) -> None:
            if ended % 100 == 0 or ended in (10, total):
                mib = round(process.memory_info().rss / 2**20, 1)
                rows.append({"studies": ended, "mib": mib, "seconds": round(time.perf_counter() - begun, 1)})
                sys.stderr.write(json.dumps(rows[-1]) + "\n")

        job = BatchJob(("liver", "spleen"), Path(folder) / "out", ".nii.gz", "CT", model, "cpu")
        summary = run_batch(studies, job, on_outcome=note)
    report = {"done": summary.done, "failed": len(summary.failures), "memory": rows}
    sys.stdout.write(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main(*(kind(value) for kind, value in zip((int, str), sys.argv[1:], strict=False)))

"""Sample data for the tutorial: public images of Slicer's own test-data collection, verified by their digests.

Addresses and SHA-256 digests are those that Slicer's SampleData module itself downloads from (its source, 2026-08); the
files are addressed by their digest, so a changed file cannot pass.
"""

from __future__ import annotations

from dataclasses import dataclass

CATEGORY = "Medal S"


@dataclass(frozen=True)
class Sample:
    """A sample image.

    Attributes:
        name: Name that the Sample Data module shows, and by which scripts ask for it.
        fileName: Name of the downloaded file.
        nodeName: Name of the volume.
        sha256: Digest of the file.
    """

    name: str
    fileName: str
    nodeName: str
    sha256: str


SAMPLES = (
    Sample(
        "Medal S CT chest",
        "CT-chest.nrrd",
        "CTChest",
        "4507b664690840abb6cb9af2d919377ffc4ef75b167cb6fd0f747befdb12e38e",
    ),
    Sample(
        "Medal S CT liver",
        "CTLiver.nrrd",
        "CTLiver",
        "e16eae0ae6fefa858c5c11e58f0f1bb81834d81b7102e021571056324ef6f37e",
    ),
)


def registerSamples() -> None:
    """Add the samples to the Sample Data module; nothing is downloaded until the user asks for one."""
    import SampleData
    import slicer

    for sample in SAMPLES:
        SampleData.SampleDataLogic.registerCustomSampleDataSource(
            category=CATEGORY,
            sampleName=sample.name,
            uris=f"{slicer.util.TESTING_DATA_URL}SHA256/{sample.sha256}",
            fileNames=sample.fileName,
            nodeNames=sample.nodeName,
            checksums=f"SHA256:{sample.sha256}",
        )

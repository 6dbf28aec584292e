"""The public repositories that the starter is trained on besides registry packages."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class PublicSource:
    """One public source.

    Attributes:
        folder: Folder of its volumes.
        packed: What the names of its packed volumes begin with; "" for what is held out.
        repository: Repository on GitHub.
        commit: Commit at which it was taken.
        licence: Its licence.
        what: What it holds, in words.
    """

    folder: str
    packed: str
    repository: str
    commit: str
    licence: str
    what: str


PUBLIC_SOURCES = (
    PublicSource("openkbp", "neck_", "ababier/open-kbp", "ce625e6", "MIT", "97 CTs of head and neck"),
    PublicSource("synthseg_heads", "head_[", "BBillot/SynthSeg", "66342c1", "Apache-2.0", "20 label maps of heads"),
    PublicSource(
        "cervical_cord", "cord_", "spinalcordtoolbox/sct_testing_data", "af4c7e8", "MIT", "two MRs of the cervical cord"
    ),
    PublicSource("nuclei", "nuclei_", "kreshuklab/plant-seg", "9d74806", "MIT", "two volumes of nuclei"),
    PublicSource("t1_head", "", "niivue/niivue", "9255c43", "BSD-2-Clause", "one head in MR"),
)

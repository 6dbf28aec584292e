"""Corrections that carry: from a few painted voxels to what the user would have painted had they gone on.

The room in the order of the data:

* `working_box` cuts out what lies within reach of the paint and brings it to a grid of bounded size, so that the cost
  does not grow with the volume.
* `appearance` compares the intensities of what was painted with those around, in units of the local contrast.
* `evidence` gives 25 numbers for each undecided voxel: distances to paint, to what is known and to the border, along
  the image and straight; likeness; the network's probability where there is one.
* `judge` weighs them: a perceptron with two hidden layers, trained on simulated corrections by
  `tools/interactive/train_corrections.py`, gives each voxel's probability of changing as the paint says.
* `random_walker` makes neighbours agree where the image shows no border between them.
* `propagation.propagate_correction` is the one call; everything is a function of its arguments.

Why so, and what was tried instead: `Documentation/decisions`, "Corrections that carry".
"""

from MedalSLib.inference.correction.propagation import CorrectionResult, propagate_correction

__all__ = ["CorrectionResult", "propagate_correction"]

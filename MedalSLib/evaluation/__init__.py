"""Challenge metrics, the interactive track's measure, and the evaluation of whole folders."""

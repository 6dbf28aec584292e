"""What the local engine needs in 3D Slicer's Python: checks before, installation, diagnostics.  Plain Python."""

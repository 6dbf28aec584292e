"""The checks of `check_extension.py`, by subject; nothing here needs the network or a package outside Python itself."""

"""What builds and measures Medal S but is not part of the installed package: run it from a checkout.

- `tools.starter`: packs the starter's training volumes, trains it with the library's trainer, and scores it.
- `tools.benchmarks`: what `medals bench NAME` measures.
"""

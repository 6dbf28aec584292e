"""Benchmarks: how much time and memory one way takes, measured against another in the same run on the same machine.

`commands` lists them by the names that `medals bench` knows; each has a file of its own.  `scenes` makes what they run
on, `measuring` takes seconds and memory, `operations` counts what a network does.
"""

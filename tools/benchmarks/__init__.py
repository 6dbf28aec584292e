"""Benchmarks: how much time and memory one way takes, measured against another in the same run on the same machine.

`arguments` reads the command line of `medals bench`, `commands` lists the benchmarks by name; each has a file of its
own.  `scenes` makes what they run on, `measuring` takes seconds and memory, `operations` counts what a network does.
"""

"""Benchmarks: how much time and memory one way takes, measured against another in the same run on the same machine."""

"""Whether anything that is read, or any argument, ends in a traceback: damaged files and made-up command lines.

- `python -m tools.robustness files` damages a small file of every format that is read, in many ways.
- `python -m tools.robustness options` runs commands with arguments that hypothesis makes up.

A failure is whatever is neither a result nor an expected error (`MedalSError`): an exception of another kind, a killed
process, or words of a library on the terminal.  Exit code 1 if there was one.
"""

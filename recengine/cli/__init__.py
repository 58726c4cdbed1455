"""The command line: what a person can do with the engine without writing Python.

`app` names the commands and turns errors into one line that names the fix; each command is a file
of its own, and what it needs of the rooms below is imported when it runs, so that
``recengine --help`` answers at once. Tables and figures go to standard output, 100 columns wide at
most; progress goes to standard error, so that output can be piped.
`screen` owns how things look, `files` how they are read, `arguments` what they are called.
`demo` is a package: one file for each of its screens, shown in order on real data.
"""

from recengine.cli.app import app, main

__all__ = ["app", "main"]

"""Errors that recengine raises by name.

::

    RecengineError
    ├── BundleError(ValueError)        a saved file is damaged, foreign or of another version
    ├── DeviceError(RuntimeError)      the device asked for is not the device that was given
    ├── FetchError(RuntimeError)       a named data set or model could not be obtained
    ├── ImageError(ValueError)         an image cannot be read
    ├── LogError(ValueError)           an event log is damaged, or lacks what is asked for
    ├── LossError(ValueError)          a compressed model loses more than was allowed
    ├── NotFittedError(RuntimeError)   a model was asked before `fit`
    ├── SoundError(ValueError)         a sound is damaged, empty, silent or not finite
    ├── UnknownItemError(LookupError)  an item id that is not in the catalogue
    ├── UnknownUserError(LookupError)  a user id that is not known, under on_unknown="raise"
    └── DeadlineError(TimeoutError)    `timeout` ran out where no partial answer is defined

Wrong arguments are plain ``ValueError`` or ``TypeError`` and name argument, rule and value.
"""

from __future__ import annotations

import os


class RecengineError(Exception):
    """Root of the errors that recengine defines."""


class BundleError(RecengineError, ValueError):
    """A saved file is damaged, foreign or of another version."""


class DeviceError(RecengineError, RuntimeError):
    """The device asked for is not the device that was given."""


class FetchError(RecengineError, RuntimeError):
    """A named data set or model could not be obtained."""


class ImageError(RecengineError, ValueError):
    """An image cannot be read: damaged, too large, or no image at all."""


class LogError(RecengineError, ValueError):
    """An event log is damaged, or lacks what is asked for.

    Parameters
    ----------
    message : str
    path : path, optional
        The file it is about.
    offset : int, optional
        The byte in that file where the first bad record begins.
    """

    def __init__(
        self,
        message: str,
        path: str | os.PathLike[str] | None = None,
        offset: int | None = None,
    ) -> None:
        super().__init__(message)
        self.path = path
        self.offset = offset


class LossError(RecengineError, ValueError):
    """A compressed model loses more than was allowed; `report` tells what was measured."""

    def __init__(self, message: str, report: object = None) -> None:
        super().__init__(message)
        self.report = report


class NotFittedError(RecengineError, RuntimeError):
    """A model was asked for an answer before `fit`."""


class SoundError(RecengineError, ValueError):
    """A sound cannot be encoded: damaged, empty, silent or not finite."""


class UnknownItemError(RecengineError, LookupError):
    """An item id that is not in the catalogue."""


class UnknownUserError(RecengineError, LookupError):
    """A user id that is not known, under ``on_unknown="raise"``."""


class DeadlineError(RecengineError, TimeoutError):
    """The time allowed ran out where no partial answer is defined."""

"""The errors that the command line tells in one line; whatever else is raised is a defect and shows where."""


class BadInput(ValueError):  # noqa: N818 - it says what happened
    """What a user gave (settings, files, variables) cannot be worked with: exit code 2."""


class Failure(RuntimeError):  # noqa: N818 - it says what happened
    """Good work could not go on (a worker process or a game died): exit code 1."""

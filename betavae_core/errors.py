"""The two errors that are the user's to mend. Both end a command with one line and exit code 2."""


class UsageError(ValueError):
    """A setting breaks an invariant. The message names the invariant, what came, the remedy."""


class DataError(UsageError):
    """A data source cannot be read. The message names the file, the cause, the remedy."""

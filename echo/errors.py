"""The errors that are a user's to mend: one sentence that names the file, line or key."""


class EchoError(Exception):
    """Bad input. The command line prints the message alone and exits with code 2."""


class ConfigError(EchoError):
    """A config or override has a wrong key, type or value."""


class DataError(EchoError):
    """A recording, transcript or data set cannot be used as it is."""

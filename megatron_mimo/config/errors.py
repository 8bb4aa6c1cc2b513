"""The errors that reach a user: they name the cause and the way out, and are shown without a traceback."""


class UserError(Exception):
    """A problem the user can mend. Entry points print its text alone and exit with code 2."""


class ConfigError(UserError):
    """A setting that is unknown, of the wrong type, or impossible in combination with others."""

    def __init__(self, key: str, value: object, way_out: str) -> None:
        super().__init__(f"config error: {key} = {value!r}: {way_out}")
        self.key = key
        self.value = value

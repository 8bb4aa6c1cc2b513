"""The errors that reach a user: they name the cause and the way out, and are shown without a traceback."""


class UserError(Exception):
    """A problem the user can mend. Entry points print only its text and exit with code 2."""


class ConfigError(UserError):
    """A setting that is unknown, of the wrong type, or impossible in combination with others."""

    def __init__(self, key: str, value: object, way_out: str) -> None:
        super().__init__(f"config error: {key} = {value!r}: {way_out}")
        self.key = key
        self.value = value


def require_at_least(minimum: float, section: str, **settings: float | None) -> None:
    """Raise ConfigError for the first of `settings` below `minimum`; None means switched off and passes."""
    for name, value in settings.items():
        if value is not None and value < minimum:
            raise ConfigError(f"{section}.{name}", value, f"must be at least {minimum}")

"""Numbers as people read them in logs and reports."""

import math


def format_count(value: float) -> str:
    """1_234_567 -> "1.23M"; thousands (K), millions (M), billions (B), trillions (T)."""
    for size, letter in ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "K")):
        # 999 950 would otherwise be shown as 1000K.
        if abs(value) >= 0.9995 * size:
            return f"{value / size:.3g}{letter}"
    return f"{value:.3g}" if value % 1 else f"{value:.0f}"


def format_seconds(seconds: float, decimals: int = 0) -> str:
    """93_784 -> "1 d 2 h"; the two largest units, below a minute seconds alone, with so many decimals."""
    if not math.isfinite(seconds):
        return "unknown"
    if round(seconds, decimals) < 60:
        return f"{seconds:.{decimals}f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    if days:
        return f"{days} d {hours} h"
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s"


def format_bytes(size: float) -> str:
    """Binary units: 1_610_612_736 -> "1.5 GiB"."""
    for unit in ("B", "KiB", "MiB"):
        if abs(size) < 1024:
            return f"{size:.4g} {unit}"
        size /= 1024
    return f"{size:.3g} GiB"

"""The files of an RL run's folder that its trace writes and its report reads."""

import json
from pathlib import Path
from typing import Any

METRICS, TIMELINE = "metrics.jsonl", "timeline.json"


def read_rows(path: Path) -> list[dict[str, Any]]:
    """Rows of a metrics file in order; a last line that a crash cut off is left out."""
    rows = []
    with path.open(encoding="utf-8") as file:
        for line in file:
            try:
                rows.append(json.loads(line))
            except json.JSONDecodeError:
                continue
    return rows

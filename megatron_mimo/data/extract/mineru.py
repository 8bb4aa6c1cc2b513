"""Optional reader of PDFs by MinerU's models: scanned pages, formulas as TeX. Wants a GPU and its own installation.

It is called by its documented command line, so it may live in an environment of its own. Not tested with the real
models.
"""

import shutil
import subprocess
import tempfile
from pathlib import Path

from megatron_mimo.config import UserError


def extract_pdf_mineru(
    data: bytes,
    backend: str = "pipeline",
    language: str = "en",
    command: str = "mineru",
    timeout_seconds: float = 600.0,
) -> str:
    """Markdown with TeX of a PDF file, by MinerU. Raises UserError when it is absent, fails or takes too long."""
    program = shutil.which(command)
    if program is None:
        way_out = "pip install 'mineru[core]' on a machine with a GPU and put its `mineru` command on the PATH"
        raise UserError(f"PDF backend mineru is not installed: {way_out}")
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder, "document.pdf"), Path(folder, "out")
        source.write_bytes(data)
        arguments = [program, "-p", str(source), "-o", str(target), "-b", backend, "-l", language]
        try:
            subprocess.run(arguments, check=True, capture_output=True, text=True, timeout=timeout_seconds)
        except subprocess.CalledProcessError as error:
            raise UserError(f"MinerU failed with exit code {error.returncode}: {error.stderr[-500:]}") from error
        except subprocess.TimeoutExpired as error:
            raise UserError(f"MinerU took over {timeout_seconds} s for one file: raise timeout_seconds") from error
        written = sorted(target.rglob("*.md"))
        if not written:
            raise UserError("MinerU wrote no Markdown for this file: run its command on it by hand")
        return written[0].read_text(encoding="utf-8")

"""Web pages that every machine has: the documentation of Python's library, rendered to HTML by pydoc."""

import importlib
import platform
import pydoc
import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from megatron_mimo.data.document import Document
from megatron_mimo.data.pipeline.files import InputFile
from megatron_mimo.data.pipeline.step import Task

MODULES = """
abc argparse array ast asyncio.events asyncio.queues base64 bisect bz2 calendar cmath codecs collections colorsys
concurrent.futures configparser contextlib copy csv dataclasses datetime decimal difflib dis email.message enum errno
fileinput fnmatch fractions functools gettext glob graphlib gzip hashlib heapq hmac html html.parser http.client
http.cookies imaplib importlib.metadata inspect io ipaddress itertools json json.decoder keyword linecache locale
logging logging.handlers lzma mailbox math mimetypes netrc numbers operator os.path pathlib pickle pickletools pkgutil
platform plistlib poplib pprint profile pstats queue quopri random re reprlib sched secrets selectors shelve shlex
shutil signal smtplib socket socketserver sqlite3 ssl stat statistics string struct subprocess tarfile tempfile
textwrap threading timeit tokenize trace traceback types typing unittest unittest.mock urllib.parse urllib.request uuid
warnings wave weakref xml.dom xml.dom.minidom xml.etree.ElementTree xml.sax zipfile zlib
""".split()  # noqa: SIM905
ADDRESS = re.compile(r"0x[0-9a-fA-F]{6,}")
CONTENT_VERSION = 1
"""Raise it with every change after which the same Python gives other pages."""
FILE_LINK = re.compile(r'<a href="file:[^"]*">[^<]*</a>')


@dataclass(kw_only=True)
class PydocReader:
    """A page a module."""

    modules: list[str] = field(default_factory=lambda: list(MODULES))
    source: str = "web"

    def list(self) -> "list[InputFile]":
        return [InputFile(f"pydoc:{name}", name, 0) for name in self.modules]

    def code(self) -> str:
        """This reader's version and the Python that is documented."""
        return f"content {CONTENT_VERSION}, Python {platform.python_version()}"

    def read(self, files: "list[InputFile]", task: Task) -> Iterator[Document]:
        for file in files:
            task.count("read/files")
            try:
                module = importlib.import_module(file.name)
            except ImportError as error:  # left out by some distributions
                task.fault("read", file.path, error)
                continue
            page = pydoc.html.page(file.name, pydoc.html.document(module, file.name))
            # Addresses in memory and places on the disk differ from run to run and from machine to machine.
            text = FILE_LINK.sub("", ADDRESS.sub("0x", page))
            task.count("read/documents")
            yield Document(
                f"pydoc:{file.name}",
                text,
                url=f"https://localhost/{file.name}.html",
                source=self.source,
                metadata={"media_type": "text/html"},
            )

"""A pytest plugin: which file a test process takes next, where there are several processes.

The longest first, so that none works alone at the end; and files that share what a process makes once (the import of
vLLM, see `support.warm_vllm`, or the embedded corpus) by the same process.
"""

from typing import Any

import pytest

VLLM = (
    "tests/integration/test_mtp_plugin.py",
    "tests/integration/test_serve.py",
    "tests/integration/test_serve_features.py",
    "tests/integration/test_evaluate.py",
    "tests/integration/test_task_scores_in_training.py",
    "tests/integration/test_export_vllm.py",
    "tests/unit/serve/test_vllm_drafts.py",
)
CORPUS = (
    "tests/unit/data/test_corpus.py",
    "tests/unit/data/test_content_version.py",
    "tests/unit/data/test_encoder.py",
    "tests/unit/data/test_tokenizer.py",
    "tests/unit/data/chat/test_nano_chat.py",
)
TOGETHER = {file: name for name, files in (("vLLM", VLLM), ("corpus", CORPUS)) for file in files}
LONGEST = (
    "tests/integration/test_rl_run.py",
    *VLLM,
    "tests/integration/test_rollout_engine.py",
    "tests/integration/test_storm.py",
)
"""The longest first; then what else starts processes, then the unit tests. Every run ends with the most expensive."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    places = {file: place for place, file in enumerate(LONGEST)}

    def place(item: pytest.Item) -> tuple[int, bool]:
        file = item.nodeid.split("::")[0]
        return places.get(file, len(LONGEST)), file.startswith("tests/unit/")

    items.sort(key=place)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """As --dist=loadfile and --no-loadscope-reorder, but for the files that stay together."""
    from xdist.scheduler import LoadFileScheduling

    class FileScheduling(LoadFileScheduling):
        def _split_scope(self, nodeid: str) -> str:
            file = super()._split_scope(nodeid)
            return TOGETHER.get(file, file)

    if config.getoption("dist") != "loadfile":
        return None
    config.option.loadscopereorder = False
    return FileScheduling(config, log)

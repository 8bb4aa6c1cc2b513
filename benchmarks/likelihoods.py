"""Log-likelihoods of choices and scores by item: ours beside Transformers' and lm-evaluation-harness'.

    pip install lm-eval==0.4.13
    python benchmarks/likelihoods.py MODEL_DIR BENCHMARKS_DIR [--items 50] [--endpoint]

Three sets of `--items` questions: MMLU from BENCHMARKS_DIR (letters), and questions in the forms of HellaSwag (endings:
the next sentence of a GSM8K question among those of other questions) and ARC (MMLU's options as texts). Each is asked
in vLLM with and without the MTP layers drafting, and with --endpoint through an OpenAI-compatible server of the same
model. `largest difference`: to Transformers, in nats, over all choices. `items equal`: of lm-evaluation-harness' `hf`
backend on the same files, how many problems have the same choice right (plain and per character).
"""

import argparse
import asyncio
import contextlib
import csv
import json
import os
import re
import tempfile
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from megatron_mimo.config.eval import EvalGenerationConfig, TaskConfig
from megatron_mimo.eval.engines import EndpointEngine, Engine, LocalEngine, encode_pair, load_tokenizer
from megatron_mimo.eval.few_shot.form import SHOTS_SEED
from megatron_mimo.eval.few_shot.task import FewShot, compare
from megatron_mimo.eval.huggingface import HuggingFaceScorer
from megatron_mimo.eval.protocol import EvalProblem
from megatron_mimo.eval.registry import find_task
from megatron_mimo.platform.network import free_port
from megatron_mimo.serve.openai_server import running_server

TASKS = {"base_mmlu": "mmlu", "base_hellaswag": "hellaswag", "base_arc_easy": "arc_easy"}
SHOTS = 1
"""A model of 1,024 tokens has no room for five."""


def main() -> None:
    """Print a row for each set of questions and each way to ask."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("data", type=Path)
    parser.add_argument("--items", type=int, default=50)
    parser.add_argument("--endpoint", action="store_true", help="start a server of the model and ask it too")
    parser.add_argument("--no-harness", action="store_true", help="leave lm-evaluation-harness out")
    args = parser.parse_args()
    os.environ |= {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "VLLM_ENABLE_V1_MULTIPROCESSING": "0"}
    with tempfile.TemporaryDirectory() as folder:
        write_questions(args.data, Path(folder), args.items)
        problems = {name: read(name, Path(folder)) for name in TASKS}
        theirs = {name: by_transformers(args.model, problems[name]) for name in TASKS}
        harness = {} if args.no_harness else TASKS
        right = {name: by_harness(args.model, name, Path(folder), SHOTS) for name in harness}
        asyncio.run(show(args, problems, theirs, right))


async def show(args: argparse.Namespace, problems: Any, theirs: Any, right: Any) -> None:
    for way in ["vLLM, drafting", "vLLM, no drafts", *(["endpoint"] if args.endpoint else [])]:
        async with opened(way, args.model) as engine:
            for name in TASKS:
                ours = [await engine.log_likelihoods(problem.pairs) for problem in problems[name]]
                print(line(way, name, problems[name], ours, theirs[name], right.get(name)), flush=True)


@contextlib.asynccontextmanager
async def opened(way: str, model: Path) -> AsyncIterator[Engine]:
    """vLLM in this process, or a server of the model that is ended afterwards."""
    config = EvalGenerationConfig(max_concurrent_requests=8)
    if way != "endpoint":
        drafts = 0 if way.endswith("no drafts") else None
        async with LocalEngine(model, "", replace(config, num_speculative_tokens=drafts)) as engine:
            yield engine
        return
    with contextlib.ExitStack() as stack:
        log = Path(stack.enter_context(tempfile.TemporaryDirectory())) / "log"
        url = stack.enter_context(running_server(model, "127.0.0.1", free_port(), [], log))
        async with EndpointEngine(f"{url}/v1", "", config) as engine:
            yield engine


def line(
    way: str, name: str, problems: Sequence[EvalProblem], ours: Any, theirs: Any, right: dict[str, list[float]] | None
) -> str:
    largest = max(abs(one - other) for a, b in zip(ours, theirs, strict=True) for one, other in zip(a, b, strict=True))
    text = f"{way:16} {name:16} {len(ours):3} items  largest difference {largest:.4f}"
    for kind, metric in (("log_likelihood", "acc"), ("per_character", "acc_norm")):
        if right is None or metric not in right:
            continue
        found = [compare(one, json.dumps(nats), False).details[kind] for one, nats in zip(problems, ours, strict=True)]
        equal = sum(one == other for one, other in zip(found, right[metric], strict=True))
        text += f"  {metric}: {equal} of {len(found)} items equal ({100 * sum(found) / len(found):.1f} %)"
    return text


def read(name: str, folder: Path) -> list[EvalProblem]:
    task = find_task(TaskConfig(task=name, num_shots=SHOTS))
    assert isinstance(task, FewShot)
    return task.load(*task.find(str(folder), None))


def by_transformers(model: Path, problems: Sequence[EvalProblem]) -> list[list[float]]:
    """A forward pass for each choice."""
    scorer, tokenizer = HuggingFaceScorer.load(model), load_tokenizer(model)
    found = []
    for problem in problems:
        pairs = [encode_pair(lambda text: tokenizer.encode(text, add_special_tokens=False), *one)
                 for one in problem.pairs]  # fmt: skip
        found.append([float(scorer(np.array([[*ids, *tokens]]))[0, -len(tokens) :].sum()) for ids, tokens in pairs])
    return found


def by_harness(model: Path, name: str, folder: Path, num_shots: int) -> dict[str, list[float]]:
    """Scores by item of the harness' own task and `hf` backend, on the records of `folder`/hub, in the hub's form."""
    import lm_eval
    from lm_eval.api.task import ConfigurableTask
    from lm_eval.models.huggingface import HFLM
    from lm_eval.tasks._yaml_loader import load_yaml

    places = {
        "base_mmlu": "mmlu/default/mmlu_high_school_physics.yaml",
        "base_hellaswag": "hellaswag/hellaswag.yaml",
        "base_arc_easy": "arc/arc_easy.yaml",
    }
    config = load_yaml(str(Path(lm_eval.__file__).parent / "tasks" / places[name]), resolve_func=True)
    config = {key: value for key, value in config.items() if key not in ("group", "tag", "task_alias", "include")}
    files = {path.stem: str(path) for path in (folder / "hub" / TASKS[name]).glob("*.jsonl")}
    config |= {"task": name, "dataset_path": "json", "dataset_name": None, "dataset_kwargs": {"data_files": files}}
    task = ConfigurableTask(config=config)
    task.set_config("num_fewshot", num_shots)
    task.set_fewshot_seed(SHOTS_SEED)
    backend = HFLM(pretrained=str(model), trust_remote_code=True, batch_size=1, dtype="float32", device="cpu")
    done = lm_eval.evaluate(backend, {name: task}, bootstrap_iters=0, log_samples=True)
    rows = sorted(done["samples"][name], key=lambda row: row["doc_id"])
    return {metric: [float(row[metric]) for row in rows] for metric in ("acc", "acc_norm") if metric in rows[0]}


def write_questions(data: Path, folder: Path, items: int) -> None:
    """The three sets: our files, and under `hub` the same records as the harness' tasks read them."""
    subject = "high_school_physics"
    for split, count in (("dev", 5), ("test", items)):
        rows = list(csv.reader((data / "mmlu" / split / f"{subject}_{split}.csv").open()))[:count]
        target = folder / "mmlu" / split
        target.mkdir(parents=True)
        with (target / f"{subject}_{split}.csv").open("w", newline="") as file:
            csv.writer(file).writerows(rows)
        asked = [{"question": row[0], "choices": row[1:5], "answer": "ABCD".index(row[5])} for row in rows]
        write(folder / "hub" / "mmlu" / f"{split}.jsonl", asked)
    rows = [row for path in sorted((data / "mmlu" / "test").glob("*.csv"))[::3]
            for row in list(csv.reader(path.open()))[:8] if len(row) == 6 and len(" ".join(row)) < 400]  # fmt: skip
    arc = [
        {"question": row[0], "choices": {"text": row[1:5], "label": list("ABCD")}, "answerKey": row[5]} for row in rows
    ]
    for split, part in (("train", arc[items : items + 20]), ("test", arc[:items])):
        for place in (folder / "arc_easy", folder / "hub" / "arc_easy"):
            write(place / f"{split}.jsonl", part)
    texts = [json.loads(line)["question"] for line in (data / "gsm8k_test.jsonl").read_text().splitlines()]
    pairs = [sentences[:2] for text in texts if len(sentences := re.split(r"(?<=[.?]) ", text)) > 1]
    hellaswag = [
        {"activity_label": "Sums", "ctx_a": context, "ctx_b": "", "label": str(i % 4),
         "endings": [pairs[i + 7 * ((place - i) % 4)][1] for place in range(4)]}
        for i, (context, _) in enumerate(pairs[: items + 20])
    ]  # fmt: skip
    for split, part in (("train", hellaswag[items:]), ("validation", hellaswag[:items])):
        for place in (folder / "hellaswag", folder / "hub" / "hellaswag"):
            write(place / f"{split}.jsonl", part)


def write(path: Path, rows: list[dict[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


if __name__ == "__main__":
    main()

"""verl on a CPU for tests: its real configuration, dataloader and TransferQueue around engines that only take time."""

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import transfer_queue as tq
from hydra import compose, initialize_config_module
from omegaconf import DictConfig
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast
from verl.utils.tensordict_utils import list_of_dict_to_tensordict

from support.patience import patience


def write_tokenizer(folder: Path) -> PreTrainedTokenizerFast:
    """Every byte a token."""
    vocabulary = {letter: index for index, letter in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    model = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    model.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    model.decoder = decoders.ByteLevel()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=model, eos_token="<|end|>", pad_token="<|pad|>")
    tokenizer.save_pretrained(folder)
    return tokenizer


def verl_config(*overrides: str) -> DictConfig:
    """verl's own configuration with overrides, as its command line composes it."""
    with initialize_config_module("verl.trainer.config", version_base=None):
        return compose("ppo_trainer", overrides=list(overrides))


class Engines:
    """Stands in for verl's agent loops and weight manager: writes what they write, when `seconds` says so."""

    def __init__(
        self,
        samples_per_prompt: int,
        seconds: Callable[[int], float],
        accuracies: Callable[[int], list[float]],
        fails: Callable[[int], bool] = lambda row: False,
    ) -> None:
        """All three: of a row of the data."""
        self.samples_per_prompt, self.seconds, self.accuracies, self.fails = (
            samples_per_prompt,
            seconds,
            accuracies,
            fails,
        )
        self.launched: list[tuple[str, int]] = []
        """(uid, row) in launch order."""
        self.calls: list[str] = []
        self._abort = threading.Event()
        self._threads: list[threading.Thread] = []

    def generate_sequences(self, batch: Any) -> None:
        for uid, extra in zip(batch["uid"], batch["extra_info"], strict=True):
            row = int(extra["index"])
            self.launched.append((uid, row))
            self._threads.append(threading.Thread(target=self._run, args=(uid, row), daemon=True))
            self._threads[-1].start()

    def _run(self, uid: str, row: int) -> None:
        tq.kv_put(key=uid, partition_id="train", tag={"status": "running"})
        aborted = self._abort.wait(self.seconds(row))
        if self.fails(row):
            tq.kv_put(key=uid, partition_id="train", tag={"status": "failure"})
            return
        fields = []
        for accuracy in self.accuracies(row):
            scores = torch.zeros(3)
            scores[-1] = 0.0 if aborted else accuracy
            extra = {"reward_extra_info": {"acc": float(scores[-1])}}
            fields.append({"rm_scores": scores, "extra_fields": extra, "responses": torch.tensor([row, row, row])})
        keys = [f"{uid}_{session}_0" for session in range(self.samples_per_prompt)]
        tags = [{"status": "success"} for _ in keys]
        tq.kv_batch_put(keys=keys, fields=list_of_dict_to_tensordict(fields), tags=tags, partition_id="train")
        tq.kv_put(key=uid, partition_id="train", tag={"status": "finished"})

    def abort_replicas(self, reject_request: bool = False) -> None:
        self.calls.append("abort")
        self._abort.set()

    def sleep_replicas(self) -> None:
        self.calls.append("sleep")
        assert not any(thread.is_alive() for thread in self._threads), "asleep with requests in flight"

    def update_weights(self, global_steps: int) -> None:
        self.calls.append("update")

    def resume_generation_replicas(self) -> None:
        self.calls.append("resume")
        self._abort.clear()

    def wait(self) -> None:
        deadline = time.monotonic() + patience(30)
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))

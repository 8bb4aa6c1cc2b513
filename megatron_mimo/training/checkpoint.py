"""Checkpoints: megatron-core's `torch_dist` format, complete or absent, checked before they are trusted.

A save goes to `step_N.tmp/` and is renamed once every file is written, hashed and listed, so a killed or full-disk
save leaves the previous checkpoint alone. Loading works from any parallel layout into any other.
"""

import multiprocessing
import queue
import shutil
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from multiprocessing import resource_tracker
from multiprocessing.managers import SyncManager
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from megatron.core import dist_checkpointing, parallel_state
from megatron.core.dist_checkpointing.mapping import ShardedObject
from megatron.core.dist_checkpointing.serialization import (
    get_default_load_sharded_strategy,
    get_default_save_sharded_strategy,
    load_sharded_metadata,
)
from megatron.core.dist_checkpointing.strategies import filesystem_async
from megatron.core.dist_checkpointing.strategies.async_utils import AsyncCallsQueue, AsyncRequest
from megatron.core.dist_checkpointing.strategies.fully_parallel import (
    FullyParallelLoadStrategyWrapper,
    FullyParallelSaveStrategyWrapper,
)
from megatron.core.optimizer import MegatronOptimizer
from megatron.core.tensor_parallel import get_cuda_rng_tracker
from torch.distributed.checkpoint.api import CheckpointException

from megatron_mimo.config import CheckpointConfig, LoRAConfig, ModelConfig, UserError
from megatron_mimo.model.fp8_parameters import in_high_precision, load_weights_exactly
from megatron_mimo.model.gpt import MTPGPTModel
from megatron_mimo.model.initialize import sharded_tensors
from megatron_mimo.platform.files import write_json
from megatron_mimo.platform.signals import signals_deferred
from megatron_mimo.platform.worker_process import end_with_parent
from megatron_mimo.training.checkpoint_files import (
    CHECKSUMS_FILE,
    UNFINISHED,
    Rotation,
    file_hashes,
    newest_checkpoint,
    put_in_place,
    step_folder,
)
from megatron_mimo.training.checkpoint_record import CheckpointRecord, read_record, write_record
from megatron_mimo.training.checkpoint_writers import with_watched_writers
from megatron_mimo.training.module_states import examined_states, is_module_state
from megatron_mimo.training.optimizer import gather_parameters, load_optimizer, requantize
from megatron_mimo.training.state import Progress

FREE_SPACE_MARGIN = 1.05


class Checkpointer:
    """Saves and restores one run's model, optimizer, RNG state and record."""

    def __init__(
        self,
        folder: Path,
        options: CheckpointConfig,
        chunks: list[Any],
        optimizer: MegatronOptimizer,
        record: CheckpointRecord,
    ) -> None:
        """`folder`: of the run's checkpoints. `chunks`: data-parallel wrappers of the model's chunks.

        `record`: what is known of the run before its first step; each checkpoint adds its progress.
        """
        self.folder = folder
        self.options = options
        self.chunks = chunks
        self.optimizer = optimizer
        self.record = replace(record, world_size=dist.get_world_size())
        self._queue = AsyncCallsQueue(persistent=False) if options.asynchronous else None
        self._write_results = None
        self._temporary = self.folder
        self._rotation = Rotation(
            self.folder, options.keep_last, options.keep_every_tokens, options.verify_on_load == "sha256"
        )

    def save(self, progress: Progress, guard_state: dict[str, Any], driver_state: dict[str, Any] | None = None) -> Path:
        """Write the checkpoint of `progress`; raises UserError on a full disk, with earlier checkpoints untouched.

        `driver_state`: JSON values of whoever steers the run, recorded as `driver`.
        """
        self.finish_pending()
        final = self.folder / step_folder(progress.step)
        self._temporary = temporary = final.with_name(final.name + UNFINISHED)
        state = self._state(is_loading=False)
        self._prepare_folder(temporary, state)
        record = replace(self.record, progress=progress, guard=guard_state, driver=driver_state)
        with signals_deferred(), _write_errors(temporary):
            request = _request(state, temporary)
            request.add_finalize_fn(lambda: self._complete(temporary, final, record))
            if self._queue is None:
                request.execute_sync()
            else:
                self._queue.schedule_async_request(request)
        return final

    def save_weights(self, folder: Path, progress: Progress) -> None:
        """Write the weights alone to `folder`, for an export; raises UserError on a full disk. Every rank calls it."""
        self.finish_pending()
        temporary = folder.with_name(folder.name + UNFINISHED)
        state = in_high_precision(self._model_state(self._metadata()))
        self._prepare_folder(temporary, state)
        record = replace(self.record, progress=progress, weights_only=True)
        with signals_deferred(), _write_errors(temporary):
            request = _request(state, temporary)
            request.add_finalize_fn(lambda: self._complete(temporary, folder, record))
            request.execute_sync()

    def poll(self) -> None:
        """Complete a background save that has finished; cheap, called once per step by every rank."""
        if self._queue is not None:
            with _write_errors(self._temporary):
                self._queue.maybe_finalize_async_calls(blocking=False)

    def finish_pending(self) -> None:
        """Wait for a background save."""
        if self._queue is not None:
            with _write_errors(self._temporary):
                self._queue.maybe_finalize_async_calls(blocking=True)

    def latest(self) -> Path | None:
        """The newest checkpoint that is complete and undamaged, see `latest_checkpoint`."""
        return latest_checkpoint(self.folder, self.options)

    def load(self, path: Path) -> CheckpointRecord:
        """Restore everything from `path`; returns what is recorded there.

        Raises UserError when the checkpoint holds another architecture or tokenizer.
        """
        saved = read_record(path)
        self._rotation.is_sound(path)
        check_same_model(path, saved.model, self.record.model)
        check_same_updates(path, saved.lora, self.record.lora)
        if saved.tokenizer_sha256 != self.record.tokenizer_sha256:
            raise UserError(
                f"{path} was trained with another tokenizer (sha256 {saved.tokenizer_sha256[:12]}..., the data has"
                f" {self.record.tokenizer_sha256[:12]}...); use the data it was trained on, or a new output_dir"
            )
        state = self._state(is_loading=True)
        same_layout = (saved.world_size, saved.layout) == (self.record.world_size, self.record.layout)
        if not same_layout:
            del state["rng"]
        loaded = _load_present(state, path)
        for index, chunk in enumerate(self.chunks):
            with examined_states(loaded[f"model{index}"], str(path)):
                chunk.module.load_state_dict(loaded[f"model{index}"], strict=False)
        load_optimizer(self.optimizer, loaded["optimizer"])
        requantize(self.chunks, self.optimizer)
        if same_layout:
            _set_rng_state(loaded["rng"])
        return saved

    def _state(self, is_loading: bool) -> dict[str, Any]:
        metadata = self._metadata()
        models = self._model_state(metadata)
        # The optimizer knows a single chunk's tensors by their own names.
        merged = models if len(models) > 1 else models["model0"]
        optimizer = self.optimizer.sharded_state_dict(merged, is_loading=is_loading, metadata=metadata)
        return {**in_high_precision(models), "optimizer": optimizer, "rng": _sharded_rng_state()}

    def _metadata(self) -> dict[str, Any]:
        return {
            "distrib_optim_sharding_type": "fully_reshardable",
            "dp_cp_group": parallel_state.get_data_parallel_group(with_context_parallel=True),
        }

    def _model_state(self, metadata: dict[str, Any]) -> dict[str, Any]:
        gather_parameters(self.chunks)
        return {
            f"model{index}": chunk.module.sharded_state_dict(metadata=metadata)
            for index, chunk in enumerate(self.chunks)
        }

    def _prepare_folder(self, temporary: Path, state: dict[str, Any]) -> None:
        self._write_results = self._write_results or _results_queue(self.options.asynchronous)
        filesystem_async._results_queue = self._write_results
        needed = torch.tensor(_bytes_to_write(sharded_tensors(state)), dtype=torch.float64)
        dist.all_reduce(needed)
        error: list[str | None] = [None]
        if dist.get_rank() == 0:
            error = [_make_empty(temporary, float(needed) * FREE_SPACE_MARGIN)]
        dist.broadcast_object_list(error, src=0)
        if error[0]:
            raise UserError(error[0])

    def _complete(self, temporary: Path, final: Path, record: CheckpointRecord) -> None:
        """Hash every rank's own files, list them, and give the folder its final name."""
        hashes: list[Any] = [{}] * dist.get_world_size()
        dist.all_gather_object(hashes, _own_hashes(temporary, record))
        error: list[str | None] = [next((part for part in hashes if isinstance(part, str)), None)]
        if dist.get_rank() == 0 and error[0] is None:
            try:
                write_json(temporary / CHECKSUMS_FILE, {k: v for part in hashes for k, v in sorted(part.items())})
                put_in_place(temporary, final)
            except OSError as failure:
                error = [f"{failure}"]
        dist.broadcast_object_list(error, src=0)
        if error[0]:
            raise OSError(error[0])
        if dist.get_rank() == 0 and final.parent == self.folder:
            try:
                self._rotation.after_save(final)
            except (OSError, UserError) as failure:
                print(f"an older checkpoint could not be removed: {failure}", file=sys.stderr, flush=True)


def _request(state: dict[str, Any], temporary: Path) -> AsyncRequest:
    """What is left to do of a save, to be done now or in the background."""
    request = dist_checkpointing.save(state, str(temporary), _saved_by_all_copies(), async_sharded_save=True)
    assert request is not None
    return with_watched_writers(request)


def _own_hashes(folder: Path, record: CheckpointRecord) -> dict[str, Any] | str:
    """Checksums of this rank's files, on rank 0 with the record's; or what went wrong, for every rank to hear."""
    try:
        if dist.get_rank() == 0:
            write_record(folder, record)
        return file_hashes(folder, dist.get_rank(), dist.get_world_size())
    except OSError as failure:
        return f"{failure}"


def latest_checkpoint(folder: Path, options: CheckpointConfig) -> Path | None:
    """The newest checkpoint that is complete and undamaged; damaged ones are named and passed over.

    Every rank calls it. Raises UserError where there are checkpoints and all of them are damaged.
    """
    answer: list[str | UserError | None] = [None]
    if dist.get_rank() == 0:
        try:
            found = newest_checkpoint(folder, options.verify_on_load == "sha256")
            answer = [str(found) if found else None]
        except UserError as error:
            answer = [error]
    dist.broadcast_object_list(answer, src=0)
    if isinstance(answer[0], UserError):
        raise answer[0]
    return Path(answer[0]) if answer[0] else None


def load_weights(path: Path, chunks: list[MTPGPTModel], wanted: Callable[[str], bool]) -> None:
    """Load those weights of a checkpoint, saved in any layout, whose names in the model are `wanted`."""
    metadata = {"dp_cp_group": parallel_state.get_data_parallel_group(with_context_parallel=True)}
    states = {}
    for index, chunk in enumerate(chunks):
        shards = chunk.sharded_state_dict(metadata=metadata)
        states[f"model{index}"] = {name: shard for name, shard in shards.items() if wanted(name)}
    loaded = _load_present(states, path)
    for index, chunk in enumerate(chunks):
        with examined_states(loaded[f"model{index}"], str(path)):
            load_weights_exactly(chunk, loaded[f"model{index}"])


def _load_present(state: dict[str, Any], path: Path) -> Any:
    """What `state` asks for of the checkpoint; module states that it does not have are left out.

    Torch layers and imported checkpoints have none where Transformer Engine's layers do. Raises UserError where a
    weight is missing.
    """
    stored = {shard.key for shard in load_sharded_metadata(str(path)).values()}
    weights = set()
    for part in state.values():
        if not isinstance(part, dict):
            continue
        absent = {name: shard.key for name, shard in part.items() if getattr(shard, "key", None) not in {*stored, None}}
        weights |= {key for name, key in absent.items() if not is_module_state(name)}
        for name in absent:
            del part[name]
    if weights:
        raise UserError(
            f"{path} lacks {len(weights)} of the model's weights, the first is {min(weights)}: it holds another"
            " architecture, or was not written by this program"
        )
    strategy = FullyParallelLoadStrategyWrapper(get_default_load_sharded_strategy(str(path)), _copies_group())
    loaded: Any = dist_checkpointing.load(state, str(path), strategy)
    return loaded


def _saved_by_all_copies() -> FullyParallelSaveStrategyWrapper:
    """Each data-parallel rank writes its share of what all of them hold, and reads it on a load."""
    return FullyParallelSaveStrategyWrapper(get_default_save_sharded_strategy(), _copies_group())


def _copies_group() -> Any:
    """The ranks that hold the same parameters."""
    return parallel_state.get_data_parallel_group(with_context_parallel=True)


def check_same_model(path: Path, saved: ModelConfig, model: ModelConfig) -> None:
    """Raise UserError naming every model setting in which the checkpoint differs."""
    has, wanted = asdict(saved), asdict(model)
    differences = [
        f"  model.{key}: checkpoint {has[key]!r}, configuration {wanted[key]!r}"
        for key in sorted(wanted)
        if has[key] != wanted[key]
    ]
    if differences:
        raise UserError(
            f"{path} holds another architecture:\n" + "\n".join(differences) + "\n"
            "Set these keys as in the checkpoint, or choose a new output_dir."
        )


def check_same_updates(path: Path, saved: LoRAConfig | None, lora: LoRAConfig | None) -> None:
    """Raise UserError where a run would continue with other low-rank updates than the checkpoint holds, or none."""
    has, wanted = (None if of is None else _shape_of_updates(of) for of in (saved, lora))
    if has != wanted:
        holds, asked = ("no low-rank updates" if of is None else f"low-rank updates ({of})" for of in (has, wanted))
        raise UserError(
            f"{path} holds {holds}, the configuration (lora) asks for {asked}: set lora as in the checkpoint, or choose"
            " a new output_dir"
        )


def _shape_of_updates(lora: LoRAConfig) -> str:
    """Of what decides which tensors there are."""
    return f"rank {lora.rank}, {', '.join(sorted(lora.targets))}{'' if lora.mtp_layers else ', no MTP layers'}"


@contextmanager
def _write_errors(temporary: Path) -> Iterator[None]:
    """Turns a failed write, on whichever rank, into a UserError and removes the unfinished folder.

    Another rank that died during the save is no failed write: that error is raised on, and the ranks are started again.
    """
    try:
        yield
    except (OSError, CheckpointException) as error:
        if isinstance(error, ConnectionError):
            raise
        # megatron-core tells the failures to one rank, and the others that there were some.
        failures = error.failures.values() if isinstance(error, CheckpointException) else [(error, None)]
        reason = next(iter(failures), ("another rank says why", None))[0]
        if temporary.name.endswith(UNFINISHED):
            shutil.rmtree(temporary, ignore_errors=True)
        raise UserError(
            f"the checkpoint {temporary} could not be written: {reason}\n"
            "Earlier checkpoints are untouched. Free some space or mend the file system, then run the command again."
        ) from error


def _results_queue(asynchronous: bool) -> Any:
    """Queue in which megatron-core's writers report results.

    Its own belongs to a process that takes seconds to start and stays behind when the rank is killed. A save within
    this process needs no other process, and one in the background gets a process that ends with the rank.
    """
    if not asynchronous:
        return queue.SimpleQueue()
    manager = SyncManager(ctx=multiprocessing.get_context("spawn"))
    # It unblocks the stop signals when it starts; a spawn that had to start it would give a process that hears them.
    resource_tracker.ensure_running()
    with signals_deferred():
        manager.start(end_with_parent)
    return manager.Queue()


def _make_empty(temporary: Path, needed_bytes: float) -> str | None:
    """Create an empty folder if the disk has room; returns what is wrong otherwise."""
    try:
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir(parents=True)
    except OSError as error:
        return f"cannot create the checkpoint folder {temporary}: {error.strerror}; choose another output_dir"
    free = shutil.disk_usage(temporary).free
    if free >= needed_bytes:
        return None
    temporary.rmdir()
    return (
        f"no room for the checkpoint {temporary}: it needs {needed_bytes / 2**20:.1f} MiB, the disk has"
        f" {free / 2**20:.1f} MiB free.\nEarlier checkpoints are untouched. Free some space, lower"
        " checkpoint.keep_last, or move output_dir; then run the command again."
    )


def _bytes_to_write(tensors: Iterable[Any]) -> int:
    return sum(
        tensor.data.numel() * tensor.data.element_size()
        for tensor in tensors
        if tensor.data is not None and not any(_as_tuple(tensor.replica_id))
    )


def _as_tuple(replica_id: Any) -> tuple:
    return replica_id if isinstance(replica_id, tuple) else (replica_id,)


def _sharded_rng_state() -> ShardedObject:
    """This rank's RNG states; they are restored only into the same layout."""
    state = {"torch": torch.get_rng_state(), "tracker": _rng_tracker().get_states()}
    return ShardedObject("rng_state", state, (dist.get_world_size(),), (dist.get_rank(),))


def _set_rng_state(state: dict[str, Any]) -> None:
    """Leaves the tracker as it is where the states are those of another kind of device, which have another size."""
    torch.set_rng_state(state["torch"])
    present = _rng_tracker().get_states()
    if {name: len(value) for name, value in present.items()} == {
        n: len(value) for n, value in state["tracker"].items()
    }:
        _rng_tracker().set_states(state["tracker"])


def _rng_tracker() -> Any:
    return get_cuda_rng_tracker()

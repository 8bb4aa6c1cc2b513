"""Every layout both ways, bit for bit, against megatron-core's own sharding and its own loader.

A rank at a time is started in this process on a process group that moves nothing; torch's planner and reader, which
need no messages, load the imported checkpoint into it as `dist_checkpointing.load` would.
"""

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from safetensors.torch import load_file
from torch.distributed.checkpoint import FileSystemReader

from megatron_mimo.config import ModelConfig, ParallelConfig, PrecisionConfig, UserError
from megatron_mimo.convert import huggingface, mimo, ops
from megatron_mimo.convert.export import export_checkpoint
from megatron_mimo.convert.hf_import import import_checkpoint
from megatron_mimo.convert.megatron import TorchDistCheckpoint
from megatron_mimo.convert.megatron_writer import Chunk, write_chunks, write_metadata
from megatron_mimo.convert.parallel import MergedRanks, Place, rank_weights
from megatron_mimo.training.checkpoint_record import write_record

MODEL = ModelConfig(
    num_layers=4,
    hidden_size=32,
    ffn_hidden_size=48,
    num_attention_heads=8,
    num_query_groups=4,
    kv_channels=8,
    vocab_size=384,
)
TORCH_BACKEND_NAMES = {
    "input_layernorm.weight": "self_attention.linear_qkv.layer_norm_weight",
    "pre_mlp_layernorm.weight": "mlp.linear_fc1.layer_norm_weight",
}
"""Modules of the torch backend whose checkpoint names are those of Transformer Engine's fused layers."""
LAYOUTS = [(tensor, pipeline, None) for tensor in (1, 2, 4) for pipeline in (1, 2)] + [(2, 2, 2)]


@dataclasses.dataclass
class Case:
    """One model as a Hugging Face folder and as the checkpoint imported from it."""

    model: ModelConfig
    weights: dict[str, torch.Tensor]
    checkpoint: Path


@pytest.fixture(scope="module", params=[0, 1, 3])
def case(request, tokenizer_folder, tmp_path_factory) -> Case:
    folder = tmp_path_factory.mktemp("case")
    model = dataclasses.replace(MODEL, mtp_num_layers=request.param)
    generator = torch.Generator().manual_seed(request.param)
    shapes = mimo.hugging_face_shapes(model)
    weights = {name: torch.randn(shape, generator=generator).bfloat16() for name, shape in shapes.items()}
    settings: Any = {"rotary_base": 10_000, "seq_length": 64, "max_shard_bytes": 30_000}
    tokenizer = huggingface.check_tokenizer(tokenizer_folder, model)
    huggingface.write_hugging_face(folder / "model", model, weights.items(), tokenizer=tokenizer, **settings)
    import_checkpoint(folder / "model", folder / "step_00000000", max_shard_bytes=30_000)
    return Case(model, weights, folder / "step_00000000")


@pytest.fixture(scope="module")
def megatron():
    """megatron-core on the CPU, imported late: the conversion does without it."""
    from megatron_mimo.platform import cpu

    cpu.install()
    from megatron_mimo.model import build

    return build


def ranks(parallel: ParallelConfig) -> Iterator[tuple[int, int]]:
    """Start every (tensor rank, pipeline rank) in turn."""
    from megatron.core import parallel_state, tensor_parallel
    from torch.testing._internal.distributed.fake_pg import FakeStore

    tensor, pipeline = parallel.tensor_model_parallel_size, parallel.pipeline_model_parallel_size
    for rank in range(tensor * pipeline):
        dist.init_process_group("fake", store=FakeStore(), rank=rank, world_size=tensor * pipeline)
        parallel_state.initialize_model_parallel(
            tensor, pipeline, parallel.virtual_pipeline_model_parallel_size, create_gloo_process_groups=False
        )
        tensor_parallel.model_parallel_cuda_manual_seed(1)
        try:
            yield rank % tensor, rank // tensor
        finally:
            parallel_state.destroy_model_parallel()
            dist.destroy_process_group()


def sharded_state(chunk: Any) -> dict[str, Any]:
    """megatron-core's own description of the shards of a chunk."""
    from megatron.core import parallel_state

    group = parallel_state.get_data_parallel_group(with_context_parallel=True)
    return chunk.sharded_state_dict(metadata={"dp_cp_group": group})


def load_as_megatron_does(chunk: Any, checkpoint: Path) -> None:
    """dist_checkpointing's load of one rank: megatron-core's preparation and planner, torch's reader."""
    from megatron.core.dist_checkpointing.core import maybe_load_config
    from megatron.core.dist_checkpointing.mapping import ShardedTensor, apply_factory_merges
    from megatron.core.dist_checkpointing.state_dict_utils import load_preprocess
    from megatron.core.dist_checkpointing.strategies import torch as strategies

    config = maybe_load_config(str(checkpoint))
    assert config is not None
    assert (config.sharded_backend, config.common_backend) == ("torch_dist", "torch")
    sharded, _, factories = load_preprocess(sharded_state(chunk))
    flat, flat_mapping, renamed = strategies._replace_state_dict_keys_with_sharded_keys(sharded)
    state: dict[str, Any] = strategies.mcore_to_pyt_state_dict(flat, True)
    tensors = [part for parts in flat.values() for part in parts if isinstance(part, ShardedTensor)]
    planner = strategies.MCoreLoadPlanner(shapes_validation_sharded_tensors=tensors)
    reader = FileSystemReader(checkpoint)
    metadata = reader.read_metadata()
    planner.set_up_planner(state, metadata, is_coordinator=True)
    reader.set_up_storage_reader(metadata, is_coordinator=True)
    plan = planner.finish_plan(planner.create_global_plan([planner.create_local_plan()])[0])
    reader.read_data(plan, planner).wait()
    loaded = {key: strategies._unwrap_pyt_sharded_tensor(value) for key, value in state.items()}
    loaded = strategies._replace_sharded_keys_with_state_dict_keys(loaded, flat_mapping, renamed)
    chunk.load_state_dict(apply_factory_merges(loaded, factories), strict=True)


def checkpoint_name(name: str) -> str:
    for module, stored in TORCH_BACKEND_NAMES.items():
        if name.endswith("." + module):
            return name.removesuffix(module) + stored
    return name


def stored_chunks(chunk: Any) -> Iterator[tuple[Chunk, torch.Tensor]]:
    """What this rank would write, as megatron-core cuts it."""
    from megatron_mimo.model.initialize import sharded_tensors

    for shard in sharded_tensors(sharded_state(chunk)):
        if not any(shard.replica_id if isinstance(shard.replica_id, tuple) else (shard.replica_id,)):
            sizes = [1] * shard.prepend_axis_num + list(shard.local_shape)
            dtype = str(shard.dtype).removeprefix("torch.")
            yield Chunk(shard.key, list(shard.global_shape), list(shard.global_offset), sizes, dtype), shard.data


@pytest.mark.parametrize(("tensor", "pipeline", "virtual"), LAYOUTS)
def test_every_layout_both_ways(megatron, case: Case, tmp_path: Path, tensor: int, pipeline: int, virtual) -> None:
    parallel = ParallelConfig(
        tensor_model_parallel_size=tensor,
        pipeline_model_parallel_size=pipeline,
        virtual_pipeline_model_parallel_size=virtual,
    )
    imported, operations = TorchDistCheckpoint(case.checkpoint), mimo.mimo_ops(case.model)
    saved, shards = tmp_path / "step_00000001", {}
    saved.mkdir()
    files = {}
    for tensor_rank, pipeline_rank in ranks(parallel):
        chunks = megatron.build_model(case.model, parallel, PrecisionConfig(dtype="bf16"), 64, 10_000)
        for stage, chunk in enumerate(chunks):
            load_as_megatron_does(chunk, case.checkpoint)
            where = {"tensor_rank": tensor_rank, "pipeline_rank": pipeline_rank, "virtual_stage": stage}
            expected = dict(rank_weights(operations, imported.read, case.model, parallel, **where))
            state = {checkpoint_name(key): t for key, t in chunk.state_dict().items() if torch.is_tensor(t)}
            assert state.keys() == expected.keys()
            assert [key for key in state if not torch.equal(state[key], expected[key])] == []
            shards |= {(tensor_rank, Place(pipeline_rank, stage, key)): value for key, value in state.items()}
        name = f"__{tensor_rank + tensor * pipeline_rank}_0.distcp"
        files[name] = write_chunks(saved / name, (pair for chunk in chunks for pair in stored_chunks(chunk)))
    write_metadata(saved, files)
    write_record(saved, imported.record)

    export_checkpoint(saved, tmp_path / "model")
    exported = {k: t for path in (tmp_path / "model").glob("*.safetensors") for k, t in load_file(path).items()}
    merged = MergedRanks(operations, case.model, parallel, lambda rank, place: shards[rank, place])
    for result in (exported, dict(ops.to_hugging_face(operations, merged.read))):
        assert result.keys() == case.weights.keys()
        assert [name for name in result if not torch.equal(result[name], case.weights[name])] == []


def test_a_layout_that_does_not_divide_is_named() -> None:
    operations = {op.megatron[0]: op for op in mimo.mimo_ops(MODEL)}
    name = "decoder.layers.0.mlp.linear_fc1.weight"
    with pytest.raises(UserError, match=r"linear_fc1.weight \[48, 32\] cannot be shared out evenly over 5"):
        operations[name].split(torch.zeros(96, 32), 5)

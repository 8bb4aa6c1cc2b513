"""Communication volumes against the collectives that the built model really issues, and closed forms."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any, Literal

import pytest
import torch
import torch.distributed as dist
from torch.utils._python_dispatch import TorchDispatchMode

from megatron_mimo.config import ModelConfig, ParallelConfig, PrecisionConfig
from megatron_mimo.plan import communication
from megatron_mimo.plan.hardware import GPUS, find_gpu
from megatron_mimo.plan.workload import Workload

H100 = GPUS["h100"]
SMALL = ModelConfig(
    num_layers=4,
    hidden_size=128,
    ffn_hidden_size=320,
    num_attention_heads=8,
    num_query_groups=2,
    kv_channels=16,
    vocab_size=512,
    mtp_num_layers=1,
)


def workload(world_size: int, backend: Literal["torch", "transformer_engine"] = "torch", **parallel: Any) -> Workload:
    return Workload(
        model=SMALL,
        parallel=ParallelConfig(**parallel),
        precision=PrecisionConfig(dtype="fp32", backend="torch"),
        backend=backend,
        seq_length=64,
        micro_batch_size=2,
        global_batch_size=8,
        world_size=world_size,
    )


@pytest.fixture
def two_tensor_parallel_ranks() -> Iterator[None]:
    """Rank 0 of two tensor-parallel ranks in this process alone; collectives move nothing but can be counted."""
    import megatron.core.tensor_parallel.random  # noqa: F401
    from megatron.core import parallel_state, tensor_parallel
    from torch.testing._internal.distributed.fake_pg import FakeStore

    from megatron_mimo.platform import cpu

    cpu.install()
    dist.init_process_group("fake", store=FakeStore(), rank=0, world_size=2)
    parallel_state.initialize_model_parallel(2, create_gloo_process_groups=False)
    tensor_parallel.model_parallel_cuda_manual_seed(1)
    yield
    parallel_state.destroy_model_parallel()
    dist.destroy_process_group()


class SentBytes(TorchDispatchMode):
    """Adds up what ring collectives over `ranks` ranks would send."""

    def __init__(self, ranks: int) -> None:
        super().__init__()
        self.share = (ranks - 1) / ranks
        self.total = 0.0

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        name = str(func)
        if name.startswith("c10d._allgather_base_"):
            self.total += args[0].nbytes * self.share
        elif name.startswith("c10d._reduce_scatter_base_"):
            self.total += args[1].nbytes * self.share
        elif name.startswith("c10d.allgather_"):
            self.total += sum(tensor.nbytes for tensor in args[0][0]) * self.share
        elif name.startswith("c10d.allreduce_"):
            self.total += 2 * sum(tensor.nbytes for tensor in args[0]) * self.share
        elif name.startswith("c10d."):
            raise AssertionError(f"a collective that is not counted: {name}")
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("recompute", ["none", "full"])
@pytest.mark.parametrize("sequence_parallel", [True, False])
def test_tensor_parallel_volume_is_what_the_model_sends(
    two_tensor_parallel_ranks, sequence_parallel: bool, recompute: str
) -> None:
    from megatron_mimo.model.build import build_model

    work = workload(2, tensor_model_parallel_size=2, sequence_parallel=sequence_parallel, recompute=recompute)
    (chunk,) = build_model(SMALL, work.parallel, work.precision, work.seq_length, 10000)
    shape = (work.micro_batch_size, work.seq_length)
    tokens, positions = torch.zeros(shape, dtype=torch.long), torch.arange(64).expand(shape).contiguous()
    labels = torch.zeros(2, *shape, dtype=torch.long)
    with SentBytes(2) as sent:
        chunk(tokens, positions, None, labels).sum().backward()
    predicted = communication.tensor_parallel_traffic(work, H100, 0)
    assert predicted.sent_bytes / work.num_microbatches == pytest.approx(sent.total, rel=0.003)
    assert 0 < predicted.exposed_seconds < predicted.seconds


def test_one_rank_sends_nothing() -> None:
    work = workload(1)
    kinds = [
        communication.tensor_parallel_traffic(work, H100, 0),
        communication.context_parallel_traffic(work, H100, 0, 1.0),
        communication.pipeline_traffic(work, H100),
        communication.data_parallel_traffic(work, H100, 0, 1.0),
    ]
    assert [kind.sent_bytes for kind in kinds] == [0, 0, 0, 0]
    assert [kind.exposed_seconds for kind in kinds] == [0, 0, 0, 0]


def test_data_parallel_moves_gradients_once_and_weights_once() -> None:
    """ZeRO stage 1 (arXiv:1910.02054, section 7): reduce-scatter of gradients and all-gather of parameters."""
    work = workload(4)
    parameters = sum(size for size in _parameter_sizes())
    traffic = communication.data_parallel_traffic(work, H100, 0, overlap_seconds=0.0)
    assert traffic.sent_bytes == pytest.approx(parameters * 3 / 4 * (4 + 4))
    assert traffic.exposed_seconds == traffic.seconds
    hidden = communication.data_parallel_traffic(work, H100, 0, overlap_seconds=10.0)
    assert hidden.exposed_seconds == pytest.approx(traffic.seconds / SMALL.num_layers)


def _parameter_sizes() -> list[int]:
    """Every tensor of SMALL, written out: embedding, head, norm, 4 layers, and the MTP layer's own."""
    layer = [128 * 192, 192, 128 * 128, 2 * 128 * 320, 128 * 320, 128, 128]
    return [512 * 128, 512 * 128, 128, *(4 * layer), 256 * 128, 128, 128, 128, *layer]


def test_pipeline_sends_a_hidden_state_both_ways() -> None:
    traffic = communication.pipeline_traffic(workload(2, pipeline_model_parallel_size=2), H100)
    embeddings = 4 * 512 * 128
    assert traffic.sent_bytes == 2 * 4 * (64 * 2 * 128 * 4) + embeddings


def test_context_parallel_ring_hides_behind_attention_and_gather_does_not() -> None:
    """Keys and values of 3 other ranks, 16 tokens x 2 sequences x 2 groups x 16 x 2 in fp32, for 5 layers."""
    key_value = 3 * 16 * 2 * (2 * 2 * 16) * 4 * 5 * 4
    gather = communication.context_parallel_traffic(workload(4, context_parallel_size=4), H100, 0, 1.0)
    assert gather.sent_bytes == 2 * key_value and gather.exposed_seconds == gather.seconds
    ring_work = workload(4, "transformer_engine", context_parallel_size=4)
    ring = communication.context_parallel_traffic(ring_work, H100, 0, 1.0)
    assert ring.sent_bytes == 3 * key_value and ring.exposed_seconds == 0
    assert communication.context_parallel_traffic(ring_work, H100, 0, 0.0).exposed_seconds == ring.seconds
    documents = replace(ring_work, intra_document_attention=True)
    assert communication.context_parallel_traffic(documents, H100, 0, 1.0) == gather
    repeated = replace(documents, parallel=replace(documents.parallel, recompute="selective"))
    assert communication.context_parallel_traffic(repeated, H100, 0, 1.0).sent_bytes == 3 * key_value


def test_rings_over_nodes_share_the_ports_of_their_members() -> None:
    assert H100.group_bytes_per_second(8, stride=1) == pytest.approx(0.8 * 450e9)
    assert H100.group_bytes_per_second(256, stride=2) == pytest.approx(0.8 * 4 * 50e9)
    assert H100.group_bytes_per_second(64, stride=8) == pytest.approx(0.8 * 50e9)
    assert GPUS["h800"].group_bytes_per_second(64, stride=1) == pytest.approx(0.8 * 200e9)


def test_unknown_gpu_is_named_with_the_known_ones() -> None:
    with pytest.raises(Exception, match=r"'v100': is not known; choose one of h100.*b200"):
        find_gpu("v100")

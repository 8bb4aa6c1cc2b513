"""The memory model against megatron-core's own tensors, documented bytes per parameter, and the paper's formulas."""

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any, Literal

import pytest
import torch
import torch.distributed as dist

from megatron_mimo.config import ModelConfig, ParallelConfig, PrecisionConfig
from megatron_mimo.model.packed_documents import choose_document_attention, pack_documents
from megatron_mimo.plan import activations, memory
from megatron_mimo.plan.workload import Variant, Workload
from support.models import MIMO_7B

SMALL = ModelConfig(
    num_layers=4,
    hidden_size=128,
    ffn_hidden_size=320,
    num_attention_heads=8,
    num_query_groups=2,
    kv_channels=24,
    vocab_size=512,
    mtp_num_layers=1,
)


def workload(
    model: ModelConfig = MIMO_7B, world_size: int = 512, dtype: Literal["bf16", "fp32"] = "bf16", **changes
) -> Workload:
    names = {field.name for field in dataclasses.fields(ParallelConfig)}
    parallel = ParallelConfig(**{key: changes.pop(key) for key in list(changes) if key in names})
    settings: dict[str, Any] = {
        "backend": "transformer_engine",
        "seq_length": 8192,
        "micro_batch_size": 1,
        "global_batch_size": 2560,
        "precision": PrecisionConfig(dtype=dtype),
    }
    return Workload(model=model, parallel=parallel, world_size=world_size, **(settings | changes))


@pytest.fixture(scope="module")
def build():
    """megatron-core's builder, on the CPU."""
    import megatron_mimo.model.build as build
    from megatron_mimo.platform import cpu

    cpu.install()
    return build


def test_mimo_7b_closed_form_is_the_built_model(build) -> None:
    assert memory.model_parameters(MIMO_7B) == (7_622_619_136, 210_790_400)
    assert sum(memory.model_parameters(MIMO_7B)) == 7_833_409_536
    built = build.count_parameters(MIMO_7B)
    assert (built.main, built.mtp) == memory.model_parameters(MIMO_7B)


@pytest.fixture
def fake_ranks() -> Iterator[Callable[[int, int, ParallelConfig], None]]:
    """Start rank r of w in this process alone, with a process group that moves nothing."""
    from megatron.core import parallel_state
    from torch.testing._internal.distributed.fake_pg import FakeStore

    def start(rank: int, world_size: int, parallel: ParallelConfig) -> None:
        dist.init_process_group("fake", store=FakeStore(), rank=rank, world_size=world_size)
        parallel_state.initialize_model_parallel(
            parallel.tensor_model_parallel_size,
            parallel.pipeline_model_parallel_size,
            create_gloo_process_groups=False,
        )

    yield start
    parallel_state.destroy_model_parallel()
    dist.destroy_process_group()


@pytest.mark.parametrize("pipeline_rank", [0, 1])
def test_rank_parameters_are_those_of_the_built_chunk(build, fake_ranks, pipeline_rank: int) -> None:
    work = workload(
        SMALL,
        world_size=4,
        tensor_model_parallel_size=2,
        pipeline_model_parallel_size=2,
    )
    fake_ranks(2 * pipeline_rank, 4, work.parallel)
    with torch.device("meta"):
        config = build.transformer_config(SMALL, work.parallel, PrecisionConfig(dtype="bf16", backend="torch"), "torch")
        config.use_cpu_initialization = True
        chunk = build.build_model_chunk(SMALL, config, "torch", 64, 10000, None)
    counted = sum(parameter.numel() for parameter in chunk.parameters())
    assert memory.rank_parameters(work, pipeline_rank) == counted


def _kept_by_autograd(build, model: ModelConfig, work: Workload) -> int:
    """Bytes of all storages that one forward pass of the built model saves for backward, weights left out."""
    from megatron.core import tensor_parallel

    s, b, heads = work.seq_length, work.micro_batch_size, 1 + model.mtp_num_layers
    with build.single_process_group():
        tensor_parallel.model_parallel_cuda_manual_seed(1)
        (chunk,) = build.build_model(model, work.parallel, work.precision, s, 10000)
        weights = {parameter.untyped_storage().data_ptr() for parameter in chunk.parameters()}
        kept: dict[int, torch.Tensor] = {}

        def keep(tensor: torch.Tensor) -> torch.Tensor:
            address = tensor.untyped_storage().data_ptr()
            if address not in weights:
                kept[address] = tensor
            return tensor

        tokens = torch.randint(0, model.vocab_size, (b, s))
        labels = torch.randint(0, model.vocab_size, (heads, b, s))
        positions = torch.arange(s).expand(b, s).contiguous()
        mask, packed = None, None
        if work.document_attention == "mask":
            mask = torch.ones(b, 1, s, s, dtype=torch.bool).tril()
        elif work.document_attention == "packed":
            packed = pack_documents([row * s for row in range(b + 1)], [(0, b * s)], num_rows=b)
            tokens, labels, positions = tokens.view(1, -1), labels.view(heads, 1, -1), positions.view(1, -1)
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            losses = chunk(tokens, positions, mask, labels, packed)
        assert losses.requires_grad
    return sum(tensor.untyped_storage().nbytes() for tensor in kept.values())


@pytest.mark.parametrize("recompute", ["none", "selective", "full"])
@pytest.mark.parametrize(
    ("dtype", "seq_length", "masked", "mtp_num_layers"),
    [
        ("fp32", 128, False, 0),
        ("fp32", 128, True, 1),
        ("bf16", 128, False, 2),
        ("bf16", 128, True, 1),
        ("bf16", 2176, False, 1),
        ("bf16", 2176, True, 2),
    ],
)
def test_activations_of_the_torch_backend_are_what_autograd_keeps(
    build, recompute, dtype, seq_length: int, masked: bool, mtp_num_layers: int
) -> None:
    model = dataclasses.replace(SMALL, num_layers=2, mtp_num_layers=mtp_num_layers)
    work = workload(
        model,
        world_size=1,
        backend="torch",
        precision=PrecisionConfig(dtype=dtype, backend="torch"),
        seq_length=seq_length,
        micro_batch_size=2,
        global_batch_size=2,
        recompute=recompute,
        intra_document_attention=masked,
        device="cpu",
    )
    heads = (1 + mtp_num_layers) * sum(activations.head_tensors(work).values())
    predicted = memory.kept_bytes(work, 0) + heads
    if recompute != "none":
        # Checkpointing keeps inputs that are not activations: mask and rotary angles.
        predicted += activations.input_bytes(work)
    assert predicted == pytest.approx(_kept_by_autograd(build, model, work), rel=0.01)


@pytest.mark.parametrize("dtype", ["fp32", "bf16"])
def test_kept_tensors_of_chunked_heads_are_what_autograd_keeps(build, dtype) -> None:
    work = workload(
        SMALL,
        world_size=1,
        backend="torch",
        precision=PrecisionConfig(dtype=dtype, backend="torch", cross_entropy="chunked"),
        seq_length=128,
        micro_batch_size=2,
        global_batch_size=2,
        device="cpu",
    )
    heads = 2 * sum(activations.head_tensors(work).values())
    assert memory.kept_bytes(work, 0) + heads == pytest.approx(_kept_by_autograd(build, SMALL, work), rel=0.005)


def test_layer_is_the_papers_34_sbh_without_dropout_masks() -> None:
    """Korthikanti et al., equation 1: 34 sbh + 5 as^2b, of which 2 sbh are dropout masks; a fused core keeps no square.

    SwiGLU of width 8h/3 keeps as much as their GELU of width 4h.
    """
    h = 3 * 128
    model = ModelConfig(
        num_layers=1,
        hidden_size=h,
        ffn_hidden_size=8 * h // 3,
        num_attention_heads=6,
        num_query_groups=6,
        kv_channels=64,
        vocab_size=128,
    )
    work = workload(model, world_size=1, seq_length=64, micro_batch_size=2, global_batch_size=2)
    statistics = 64 * 2 * 4 * (2 + 6)
    assert activations.layer_bytes(work, "none") - statistics == 32 * 64 * 2 * h


def test_tensor_and_sequence_parallelism_divide_a_layer() -> None:
    """Korthikanti et al., equations 2 and 4: without SP 10 of the 34 sbh stay whole (8 without dropout)."""
    whole = activations.layer_bytes(workload(), "none")
    cut = activations.layer_bytes(workload(tensor_model_parallel_size=4, sequence_parallel=True), "none")
    assert cut == pytest.approx(whole / 4)
    uncut_norms = activations.layer_bytes(workload(tensor_model_parallel_size=4), "none")
    norms = 8192 * (8 * 4096 + 2 * 4)
    assert uncut_norms == pytest.approx((whole - norms) / 4 + norms)


@pytest.mark.parametrize(("dtype", "own", "shared"), [("bf16", 6, 12), ("fp32", 8, 8)])
def test_bytes_a_parameter_of_the_distributed_optimizer(dtype, own: int, shared: int) -> None:
    work = workload(dtype=dtype, tensor_model_parallel_size=2, context_parallel_size=2)
    estimate = memory.estimate_memory(work, 0)
    state = estimate.weights + estimate.gradients + estimate.optimizer
    assert state / estimate.parameters == pytest.approx(own + shared / 256)


def test_host_memory_at_a_save_is_the_ranks_share() -> None:
    """14 bytes per parameter (bf16 weight, master copy, two moments) over the copies of the model."""
    estimate = memory.estimate_memory(workload(tensor_model_parallel_size=2, context_parallel_size=2), 0)
    assert estimate.host == pytest.approx(14 * estimate.parameters / 256)


def test_what_formats_save() -> None:
    """bf16 gradients 2 bytes per parameter; the decoder's FP8 matrices without bf16 copies 2; an offloaded optimizer
    its own."""
    fp8: dict[str, Any] = {"dtype": "bf16", "fp8_recipe": "tensorwise"}
    plain = memory.estimate_memory(workload(precision=PrecisionConfig(**fp8)), 0)
    half = Variant(optimizer_offload_ratio=0.5)
    changes = {
        "gradients": (fp8 | {"gradient_dtype": "bf16"}, Variant(), 2 * plain.parameters),
        "weights": (fp8 | {"fp8_parameters": True}, Variant(), 2 * 36 * memory.layer_parameters(MIMO_7B)),
        "optimizer": (fp8, half, 0.5 * plain.optimizer),
    }
    for part, (formats, variant, saved) in changes.items():
        estimate = memory.estimate_memory(workload(precision=PrecisionConfig(**formats), variant=variant), 0)
        assert getattr(plain, part) - getattr(estimate, part) == pytest.approx(saved)
        assert plain.total - estimate.total == pytest.approx(saved)
    offloaded = memory.estimate_memory(workload(precision=PrecisionConfig(**fp8), variant=half), 0)
    assert offloaded.host - plain.host == pytest.approx(0.5 * plain.optimizer)


def test_fused_loss_keeps_bf16_in_place_of_fp32() -> None:
    kinds: list[Any] = ["whole", "fused"]
    whole, fused = (
        memory.estimate_memory(workload(recompute="full", precision=PrecisionConfig(cross_entropy=kind)), 0)
        for kind in kinds
    )
    assert whole.total - fused.total >= 2 * 8192 * 151680 * 2


def test_some_layers_recomputed_are_between_none_and_all() -> None:
    """Each of 36 layers that is recomputed saves what it keeps, less its input; MTP layers follow only with all."""
    none = memory.kept_bytes(workload(), 0)
    work = workload(recompute="full", recompute_num_layers=12)
    saved = activations.layer_bytes(work, "none") - activations.hidden_bytes(work)
    assert none - memory.kept_bytes(work, 0) == pytest.approx(12 * saved)
    every = workload(recompute="full")
    mtp = activations.mtp_layer_bytes(work, "none") - activations.mtp_layer_bytes(work, "full")
    assert none - memory.kept_bytes(every, 0) == pytest.approx(36 * saved + mtp)


def test_draft_steps_of_a_recursive_layer_are_counted() -> None:
    """K steps keep what K MTP layers keep, and of step k the keys and the mask's columns of the k - 1 steps before."""
    recursive = dataclasses.replace(MIMO_7B, mtp_recursive_steps=3)
    three = dataclasses.replace(MIMO_7B, mtp_num_layers=3)
    settings: dict[str, Any] = {"backend": "torch", "seq_length": 1024}
    one, other = (memory.kept_bytes(workload(model, **settings), 0) for model in (recursive, three))
    assert one - other == 3 * 2 * (2 * 8 * 128 * 1024 + 1024**2)
    long = workload(recursive, **(settings | {"seq_length": 4096}), intra_document_attention=True)
    assert long.document_attention == "mask"
    # The parameters of one layer, not of three.
    assert memory.model_parameters(recursive) == memory.model_parameters(MIMO_7B)


def test_layers_in_flight() -> None:
    """1F1B keeps P - p micro-batches; the interleaved schedule L(1 + (P-1)/(PV)) layers on rank 0 (the paper)."""
    plain = workload(pipeline_model_parallel_size=4)
    assert [memory.layers_in_flight(plain, rank) for rank in range(4)] == [
        36,
        27,
        18,
        9,
    ]
    interleaved = workload(pipeline_model_parallel_size=4, virtual_pipeline_model_parallel_size=3)
    assert memory.layers_in_flight(interleaved, 0) == 36 * (1 + 3 / 12)
    few = workload(pipeline_model_parallel_size=4, global_batch_size=2 * 128)
    assert memory.layers_in_flight(few, 0) == 2 * 9


def test_recomputation_and_context_parallelism_save_memory() -> None:
    totals = [memory.peak_memory(workload(recompute=choice)).total for choice in ("none", "selective", "full")]
    assert totals[0] > totals[1] > totals[2]
    assert memory.peak_memory(workload(context_parallel_size=2)).total < totals[0]


def test_two_heads_are_the_last_ranks_largest_activation() -> None:
    """At 8k each head keeps 8192 x 151 680 fp32 softmax entries: 4.97 GB, twice."""
    estimate = memory.estimate_memory(workload(recompute="full"), 0)
    assert estimate.phase == "head"
    assert estimate.logits == pytest.approx(2 * (8192 * 151680 * 4 + 8192 * 4096 * 2))


def test_chunked_heads_are_no_longer_the_peak_at_32k() -> None:
    """Whole heads take 40 GB of softmaxes; chunked ones keep their inputs, and a slab of 10 bytes an entry in bf16."""
    precision = PrecisionConfig(cross_entropy="chunked", cross_entropy_chunk_vocab=4096)
    settings: dict[str, Any] = {"recompute": "full", "seq_length": 32768}
    whole = memory.peak_memory(workload(**settings))
    settings["precision"] = precision
    chunked = memory.peak_memory(workload(**settings))
    assert whole.logits == pytest.approx(2 * 32768 * (151680 * 4 + 4096 * 2))
    assert (whole.phase, chunked.phase) == ("head", "layer")
    assert whole.total - chunked.total > 30e9


@pytest.mark.parametrize("backend", ["torch", "transformer_engine"])
@pytest.mark.parametrize(("seq_length", "micro_batch_size"), [(2048, 1), (2048, 2), (4096, 1), (4096, 2)])
@pytest.mark.parametrize("intra_document", [True, False])
def test_documents_are_kept_apart_as_training_does_it(backend, seq_length, micro_batch_size, intra_document) -> None:
    work = workload(
        backend=backend,
        seq_length=seq_length,
        micro_batch_size=micro_batch_size,
        intra_document_attention=intra_document,
    )
    apart = "packed" if (backend, seq_length) != ("torch", 2048) else "mask"
    assert work.document_attention == (apart if intra_document else "ignore")
    assert choose_document_attention(intra_document, backend, seq_length) == work.document_attention

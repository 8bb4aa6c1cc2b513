"""GPUs to plan for: capacity, peak rates and links from the makers' public data, and the efficiency assumed of them."""

from dataclasses import dataclass

from megatron_mimo.config import ConfigError

GPUS_PER_NODE = 8

USABLE_MEMORY_RATIO = 0.95
"""Share of the data sheet's capacity left for tensors; the rest goes to the CUDA context, NCCL buffers and allocator
fragmentation. Data sheets count decimal gigabytes of capacities that are really binary (a driver reports 79.6 GiB for
"80 GB"), so the true margin is about 8 GiB on an H100."""

LINK_EFFICIENCY_RATIO = 0.8
"""Share of a link's nominal rate that large NCCL transfers reach. DeepSeek-V3 (arXiv:2412.19437, section 3.2.2) names
160 GB/s of the 200 GB/s NVLink of an H800: the same ratio."""

DEFAULT_MFU = 0.45
"""Share of the peak rate, of the number format each product runs in, that training without exposed communication,
bubbles and recomputation reaches. Published end-to-end figures around it: Megatron-Bridge 25.11, Llama3-8B, FP8, 8k,
8 H100: 14 451 tokens/s/GPU (744 TFLOP/s, causal attention counted half; 0.45 predicts 14 600); torchtitan,
Llama3.1-8B, bf16 with compile: 6 667 tokens/s/GPU, which is 0.35."""


@dataclass(frozen=True, kw_only=True)
class GPU:
    """One GPU of an eight-GPU NVLink node with one network port a GPU. Rates are dense, without structured sparsity."""

    name: str
    memory_bytes: float
    bf16_tflops: float
    fp8_tflops: float | None
    nvlink_bytes_per_second: float
    """One direction."""
    network_bytes_per_second: float
    """One direction, of one GPU's port."""
    source: str

    @property
    def usable_memory_bytes(self) -> float:
        return self.memory_bytes * USABLE_MEMORY_RATIO

    def group_bytes_per_second(self, size: int, stride: int) -> float:
        """Rate, a GPU and direction, of a ring over `size` ranks that lie `stride` ranks apart.

        Inside a node it is NVLink's. Across nodes a ring enters and leaves each node once for all its members there,
        so that their network ports serve it together, up to NVLink's rate.
        """
        if size * stride <= GPUS_PER_NODE:
            return self.nvlink_bytes_per_second * LINK_EFFICIENCY_RATIO
        members_per_node = max(1, GPUS_PER_NODE // stride)
        rate = min(self.nvlink_bytes_per_second, self.network_bytes_per_second * members_per_node)
        return rate * LINK_EFFICIENCY_RATIO

    def link_bytes_per_second(self, span: int) -> float:
        """Rate between two neighbours, one direction, of a chain that spans `span` ranks."""
        inside = span <= GPUS_PER_NODE
        return (self.nvlink_bytes_per_second if inside else self.network_bytes_per_second) * LINK_EFFICIENCY_RATIO


GPUS = {
    "h100": GPU(
        name="NVIDIA H100 SXM",
        memory_bytes=80e9,
        bf16_tflops=989.5,
        fp8_tflops=1979.0,
        nvlink_bytes_per_second=450e9,
        network_bytes_per_second=50e9,
        source="NVIDIA H100 data sheet (sparse rates halved); DGX H100: 8 ports of 400 Gb/s",
    ),
    "h200": GPU(
        name="NVIDIA H200 SXM",
        memory_bytes=141e9,
        bf16_tflops=989.5,
        fp8_tflops=1979.0,
        nvlink_bytes_per_second=450e9,
        network_bytes_per_second=50e9,
        source="NVIDIA H200 data sheet (sparse rates halved); DGX H200: 8 ports of 400 Gb/s",
    ),
    "h800": GPU(
        name="NVIDIA H800 SXM",
        memory_bytes=80e9,
        bf16_tflops=989.5,
        fp8_tflops=1979.0,
        nvlink_bytes_per_second=200e9,
        network_bytes_per_second=50e9,
        source="H100 with NVLink cut to 400 GB/s both ways, 8 ports of 400 Gb/s: DeepSeek, arXiv:2505.09343",
    ),
    "a100": GPU(
        name="NVIDIA A100 SXM 80GB",
        memory_bytes=80e9,
        bf16_tflops=312.0,
        fp8_tflops=None,
        nvlink_bytes_per_second=300e9,
        network_bytes_per_second=25e9,
        source="NVIDIA A100 data sheet; DGX A100: 8 ports of 200 Gb/s",
    ),
    "b200": GPU(
        name="NVIDIA B200 SXM",
        memory_bytes=180e9,
        bf16_tflops=2250.0,
        fp8_tflops=4500.0,
        nvlink_bytes_per_second=900e9,
        network_bytes_per_second=50e9,
        source="NVIDIA HGX B200 data sheet (sparse rates halved); DGX B200: 8 ports of 400 Gb/s",
    ),
}


def find_gpu(name: str) -> GPU:
    """The GPU called `name`; raises ConfigError that lists the known ones."""
    if name.lower() not in GPUS:
        raise ConfigError("--gpu", name, f"is not known; choose one of {', '.join(GPUS)}")
    return GPUS[name.lower()]

"""GPUs to plan for: capacity, peak rates and links from the makers' public data, and the efficiency assumed of them."""

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from megatron_mimo.config import ConfigError
from megatron_mimo.config.load import from_tree, read_yaml

GIB = 2**30
GPUS_PER_NODE = 8

USABLE_MEMORY_RATIO = 0.95
"""Share of the capacity left for tensors; the rest goes to the CUDA context, NCCL and library buffers and to
fragmentation: 4 GiB of an 80 GB card."""

LINK_EFFICIENCY_RATIO = 0.8
"""Share of a link's nominal rate that large NCCL transfers reach. DeepSeek-V3 (arXiv:2412.19437, section 3.2.2) names
160 GB/s of the 200 GB/s NVLink of an H800: the same ratio."""

DEFAULT_MFU = 0.5
"""Share of the bf16 peak that training without exposed communication, bubbles and recomputation reaches. Published
figures around it, each less its losses: Llama3.1-70B in bf16 on 64 H100 (NVIDIA DGX Cloud benchmarking 24.09) 0.57,
torchtitan's Llama3.1-8B in bf16 with compile 0.35. tests/unit/model/test_published_runs.py has the others."""

FP8_EFFICIENCY_RATIO = 0.85
"""FP8 products reach a smaller share of their peak than bf16 ones: quantizing takes time, and they end sooner. Chosen
by one published row, Megatron-Bridge 25.11's Llama3-8B in FP8 on 8 H100 (14 451 tokens/s/GPU), which it therefore
predicts to 0.1 %; tests/unit/model/test_published_runs.py says what it is worth on the others."""


@dataclass(frozen=True, kw_only=True)
class GPU:
    """One GPU of a node with one network port per GPU. Rates are dense, without structured sparsity."""

    name: str
    memory_bytes: float
    """What torch reports as the total. Data sheets count in binary gigabytes, and the driver keeps about 1 %: "80 GB"
    are 79.2 GiB."""
    bf16_tflops: float
    fp8_tflops: float | None
    nvlink_bytes_per_second: float
    """One direction; of PCIe where a GPU has no NVLink."""
    network_bytes_per_second: float
    """One direction, of one GPU's port."""
    source: str
    nvlink_gpus: int = GPUS_PER_NODE
    """GPUs that these links join."""

    @property
    def usable_memory_bytes(self) -> float:
        return self.memory_bytes * USABLE_MEMORY_RATIO

    def group_bytes_per_second(self, size: int, stride: int) -> float:
        """Rate, a GPU and direction, of a ring over `size` ranks that lie `stride` ranks apart.

        Inside a node it is NVLink's. Across nodes a ring enters and leaves each node once for all its members there,
        so that their network ports serve it together, up to NVLink's rate.
        """
        if size * stride <= self.nvlink_gpus:
            return self.nvlink_bytes_per_second * LINK_EFFICIENCY_RATIO
        members_per_node = max(1, self.nvlink_gpus // stride)
        rate = min(self.nvlink_bytes_per_second, self.network_bytes_per_second * members_per_node)
        return rate * LINK_EFFICIENCY_RATIO

    def link_bytes_per_second(self, span: int) -> float:
        """Rate between two neighbours, one direction, of a chain that spans `span` ranks."""
        inside = span <= self.nvlink_gpus
        return (self.nvlink_bytes_per_second if inside else self.network_bytes_per_second) * LINK_EFFICIENCY_RATIO


GPUS = {
    "h100": GPU(
        name="NVIDIA H100 SXM",
        memory_bytes=79.2 * GIB,
        bf16_tflops=989.5,
        fp8_tflops=1979.0,
        nvlink_bytes_per_second=450e9,
        network_bytes_per_second=50e9,
        source="NVIDIA H100 data sheet (sparse rates halved); DGX H100: 8 ports of 400 Gb/s",
    ),
    "h200": GPU(
        name="NVIDIA H200 SXM",
        memory_bytes=139.8 * GIB,
        bf16_tflops=989.5,
        fp8_tflops=1979.0,
        nvlink_bytes_per_second=450e9,
        network_bytes_per_second=50e9,
        source="NVIDIA H200 data sheet (sparse rates halved); DGX H200: 8 ports of 400 Gb/s",
    ),
    "h800": GPU(
        name="NVIDIA H800 SXM",
        memory_bytes=79.2 * GIB,
        bf16_tflops=989.5,
        fp8_tflops=1979.0,
        nvlink_bytes_per_second=200e9,
        network_bytes_per_second=50e9,
        source="H100 with NVLink cut to 400 GB/s both ways, 8 ports of 400 Gb/s: DeepSeek, arXiv:2505.09343",
    ),
    "a100": GPU(
        name="NVIDIA A100 SXM 80GB",
        memory_bytes=79.2 * GIB,
        bf16_tflops=312.0,
        fp8_tflops=None,
        nvlink_bytes_per_second=300e9,
        network_bytes_per_second=25e9,
        source="NVIDIA A100 data sheet; DGX A100: 8 ports of 200 Gb/s",
    ),
    "b200": GPU(
        name="NVIDIA B200 SXM",
        memory_bytes=178.3 * GIB,
        bf16_tflops=2250.0,
        fp8_tflops=4500.0,
        nvlink_bytes_per_second=900e9,
        network_bytes_per_second=50e9,
        source="NVIDIA HGX B200 data sheet (sparse rates halved); DGX B200: 8 ports of 400 Gb/s",
    ),
    "h20": GPU(
        name="NVIDIA H20 SXM 96GB",
        memory_bytes=95.0 * GIB,
        bf16_tflops=148.0,
        fp8_tflops=296.0,
        nvlink_bytes_per_second=450e9,
        network_bytes_per_second=50e9,
        source="vendors' tables of the H20 (148 / 296 TFLOP/s dense, NVLink 900 GB/s both ways); 8 ports of 400 Gb/s"
        " assumed",
    ),
    "a800": GPU(
        name="NVIDIA A800 SXM 80GB",
        memory_bytes=79.2 * GIB,
        bf16_tflops=312.0,
        fp8_tflops=None,
        nvlink_bytes_per_second=200e9,
        network_bytes_per_second=25e9,
        source="A100 with NVLink cut to 400 GB/s both ways; 8 ports of 200 Gb/s assumed",
    ),
    "l40s": GPU(
        name="NVIDIA L40S 48GB",
        memory_bytes=44.4 * GIB,
        bf16_tflops=362.05,
        fp8_tflops=733.0,
        nvlink_bytes_per_second=32e9,
        network_bytes_per_second=25e9,
        source="NVIDIA L40S data sheet; PCIe 4.0 x16 in place of NVLink, ECC takes a sixteenth of the memory; a port of"
        " 200 Gb/s assumed",
    ),
    "rtx4090": GPU(
        name="NVIDIA GeForce RTX 4090",
        memory_bytes=23.6 * GIB,
        bf16_tflops=165.2,
        fp8_tflops=330.3,
        nvlink_bytes_per_second=32e9,
        network_bytes_per_second=12.5e9,
        source="NVIDIA Ada architecture paper (sums in fp32); PCIe 4.0 x16 in place of NVLink, without peer-to-peer"
        " copies it is slower; a port of 100 Gb/s assumed",
    ),
    "gb200": GPU(
        name="NVIDIA GB200 NVL72",
        memory_bytes=184.1 * GIB,
        bf16_tflops=2500.0,
        fp8_tflops=5000.0,
        nvlink_bytes_per_second=900e9,
        network_bytes_per_second=50e9,
        source="NVIDIA GB200 NVL72 data sheet (sparse rates halved, 186 GB, less 1 %); NVLink joins 72 GPUs",
        nvlink_gpus=72,
    ),
    "b300": GPU(
        name="NVIDIA B300 SXM",
        memory_bytes=267.3 * GIB,
        bf16_tflops=2250.0,
        fp8_tflops=4500.0,
        nvlink_bytes_per_second=900e9,
        network_bytes_per_second=100e9,
        source="tables of HGX B300 (sparse rates halved, 270 GB, less 1 %); 8 ports of 800 Gb/s",
    ),
}

ALIASES = {"4090": "rtx4090"}


@dataclass(kw_only=True)
class Device:
    """A GPU in the user's own figures."""

    memory_gib: float
    """What torch reports as the total (`torch.cuda.get_device_properties(0).total_memory`)."""
    bf16_tflops: float
    """Dense."""
    link_gb_per_second: float
    """Between GPUs of a node, one direction."""
    network_gb_per_second: float
    """Of a GPU's network port, one direction."""
    fp8_tflops: float | None = None
    gpus_per_node: int = GPUS_PER_NODE
    name: str = "GPU of one's own"

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, int | float) and value <= 0:
                raise ConfigError(field.name, value, "must be above 0")

    def gpu(self, source: str) -> GPU:
        """The device as the planner takes it."""
        return GPU(
            name=self.name,
            memory_bytes=self.memory_gib * GIB,
            bf16_tflops=self.bf16_tflops,
            fp8_tflops=self.fp8_tflops,
            nvlink_bytes_per_second=self.link_gb_per_second * 1e9,
            network_bytes_per_second=self.network_gb_per_second * 1e9,
            source=source,
            nvlink_gpus=self.gpus_per_node,
        )


def find_gpu(name: str) -> GPU:
    """The GPU called `name`, or one described as `key=value,...` or in a YAML file of the same keys (see `Device`).

    Raises UserError that lists what is known.
    """
    known = ALIASES.get(name.lower(), name.lower())
    if known in GPUS:
        return GPUS[known]
    if "=" in name:
        return from_tree(Device, _figures(name), source="--gpu").gpu("figures given on the command line")
    if name.endswith((".yaml", ".yml")):
        return from_tree(Device, read_yaml(Path(name)), source=name).gpu(f"figures given in {name}")
    keys = ", ".join(field.name for field in fields(Device))
    raise ConfigError(
        "--gpu",
        name,
        f"is not known; choose one of {', '.join(GPUS)}, or give its figures as key=value,key=value or as a YAML file"
        f" with the keys {keys}",
    )


def _figures(text: str) -> dict[str, Any]:
    """`memory_gib=96,bf16_tflops=148` -> numbers by key; a name stays text."""
    figures: dict[str, Any] = {}
    for part in text.split(","):
        key, _, value = part.partition("=")
        try:
            figures[key.strip()] = int(value) if value.strip().isdecimal() else float(value)
        except ValueError:
            figures[key.strip()] = value.strip()
    return figures

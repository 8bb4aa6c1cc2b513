"""Logits of the megatron-core model with the reference model's weights, in the layout given as JSON (argument 1)."""

import json
import sys
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file


def main(job: dict[str, Any], results_path: Path) -> None:
    import torch.distributed as dist
    from megatron.core import parallel_state
    from megatron.core.pipeline_parallel import get_forward_backward_func
    from megatron.core.tensor_parallel import gather_from_tensor_model_parallel_region

    from megatron_mimo.config import ModelConfig, ParallelConfig, PrecisionConfig
    from megatron_mimo.model.build import build_model
    from megatron_mimo.model.initialize import sharded_tensors
    from megatron_mimo.platform import cpu
    from megatron_mimo.training.batch import make_batch
    from megatron_mimo.training.distributed import initialize_parallel_groups, seed_everything

    torch.set_num_threads(1)
    cpu.install()
    dist.init_process_group("gloo")
    initialize_parallel_groups(ParallelConfig(**job["parallel"]))
    seed_everything(0)
    model = ModelConfig(**job["model"])
    inputs, weights = load_file(job["inputs"]), load_file(job["weights"])
    rows = inputs["rows"]
    s = rows.shape[1] - 1
    (chunk,) = build_model(
        model, ParallelConfig(**job["parallel"]), PrecisionConfig(dtype="fp32"), s, job["rotary_base"]
    )
    metadata = {"dp_cp_group": parallel_state.get_data_parallel_group(with_context_parallel=True)}
    for shard in sharded_tensors(chunk.sharded_state_dict(metadata=metadata)):
        stacked, name = shard.prepend_axis_num, shard.key
        if stacked:
            name = name.replace("decoder.layers.", f"decoder.layers.{shard.global_offset[0]}.")
        cut = zip(shard.global_offset[stacked:], shard.local_shape, strict=True)
        shard.data.detach().copy_(weights[name][tuple(slice(o, o + n) for o, n in cut)])
    batch = make_batch(
        {"tokens": rows, "source": torch.zeros(rows.shape[0], dtype=torch.long)},
        model.mtp_num_layers,
        job["eod"],
        "mask",
    )

    def forward_step(_: Any, module: Any) -> Any:
        output = module(batch.tokens, batch.position_ids, batch.attention_mask, batch.labels, return_logits=True)
        return output, lambda logits, non_loss_data: gather_from_tensor_model_parallel_region(logits)

    chunk.eval()
    with torch.no_grad():
        collected = get_forward_backward_func()(
            forward_step_func=forward_step,
            data_iterator=iter([]),
            model=[chunk],
            num_microbatches=1,
            micro_batch_size=rows.shape[0],
            seq_length=s,
            forward_only=True,
            collect_non_loss_data=True,
        )
    if collected and parallel_state.get_tensor_model_parallel_rank() == 0:
        save_file({"logits": collected[0].contiguous()}, results_path)
    dist.barrier()


if __name__ == "__main__":
    main(json.loads(sys.argv[1]), Path(sys.argv[2]))

"""The tasks of a stage as Ray tasks: on a cluster, or on a Ray started here. The folder must be shared."""

from collections.abc import Iterator, Sequence
from typing import Any

from megatron_mimo.config import UserError
from megatron_mimo.data.pipeline.config import PipelineConfig, RayConfig
from megatron_mimo.data.pipeline.local import TaskRunner
from megatron_mimo.data.pipeline.outcome import StepOutcome


class RayExecutor:
    """Ray schedules; retries are the pipeline's own, so that its counts and messages are the same everywhere."""

    def __init__(self, config: PipelineConfig, options: RayConfig) -> None:
        try:
            import ray
        except ImportError as error:
            raise UserError("executor.ray needs Ray: pip install ray") from error
        self.ray, self.started_here = ray, not ray.is_initialized()
        if self.started_here:
            _start(options)
        self.config = ray.put(config)
        self.remote = ray.remote(num_cpus=options.cpus_per_task, max_retries=0)(_run)

    def run(self, stage: str, indices: Sequence[int]) -> Iterator[StepOutcome]:
        """Run these tasks of a stage; their outcomes as they come."""
        waiting: dict[Any, int] = {self.remote.remote(self.config, stage, index): index for index in indices}
        while waiting:
            (done,), _ = self.ray.wait(list(waiting), num_returns=1)
            index = waiting.pop(done)
            try:
                yield self.ray.get(done)
            except self.ray.exceptions.RayError as error:
                yield StepOutcome(index, "died", f"{type(error).__name__}: {str(error).splitlines()[0]}")

    def close(self) -> None:
        """Stop a Ray that was started here."""
        if self.started_here:
            self.ray.shutdown()


def _start(options: RayConfig) -> None:
    import ray

    try:
        ray.init(
            address=options.address,
            num_cpus=options.num_cpus if options.address is None else None,
            include_dashboard=False,
            log_to_driver=False,
            runtime_env={"env_vars": {"OMP_NUM_THREADS": "1"}},
        )
    except Exception as error:  # Ray has no class of its own for what goes wrong at its start
        raise UserError(f"Ray did not start: {error}\nRun the command again, or correct executor.ray") from error


def _run(config: PipelineConfig, stage: str, index: int) -> StepOutcome:
    return TaskRunner(config).run(stage, index)

"""Judges each step before its update is applied: accept it, leave it out, go back to a checkpoint, or stop.

Every rank must call `judge` with the same globally reduced loss and gradient norm (reduced over data and context
parallel ranks, sent to all pipeline stages). The verdict is a function of those numbers and of the state alone, so all
ranks decide alike without a message of their own; ranks that saw different numbers would part and hang.
"""

import math
import statistics
from collections import deque
from typing import Any, Literal

from megatron_mimo.config import GuardConfig, UserError

Verdict = Literal["ok", "skip", "rollback", "stop"]


class TrainingStopped(UserError):
    """The guard ended the run; the last checkpoint is intact."""


class LossGuard:
    """Non-finite numbers and loss spikes, by the policies of GuardConfig.

    A loss is a spike above mean + `spike_deviations` standard deviations of the last `spike_window_steps` accepted
    losses; until the window is full none is. Steps that were left out never enter the window.

    The data order is deterministic: after a rollback a fault of the hardware is gone, a fault of the data comes again.
    A step that is bad a second time is therefore skipped instead of rolled back once more.
    """

    def __init__(self, config: GuardConfig) -> None:
        self.config = config
        self.reason = ""
        """Why the last verdict was not "ok", for the log and for TrainingStopped."""
        self._losses: deque[float] = deque(maxlen=config.spike_window_steps)
        self._judged_steps = 0
        self._consecutive_events = 0
        self._rolled_back_steps: set[int] = set()
        self._rollback_target: int | None = None
        self._rollbacks = 0

    def judge(self, loss: float, grad_norm: float) -> Verdict:
        """Verdict on one step from its global loss (nats per token) and gradient norm before clipping."""
        self._judged_steps += 1
        policy, self.reason = self._policy(loss, grad_norm)
        if policy == "ok":
            self._consecutive_events = 0
            self._losses.append(loss)
            return "ok"
        self._consecutive_events += 1
        if policy == "rollback" and self._judged_steps in self._rolled_back_steps:
            self.reason += "; it came again after a rollback, so the step is skipped"
            policy = "skip"
        return self._limited(policy)

    def rolled_back(self, state: dict[str, Any]) -> None:
        """Take the state saved with the checkpoint that was restored; what led to the rollback is remembered."""
        self._rolled_back_steps.add(self._judged_steps)
        self.load_state_dict(state)
        same = self._rollback_target == self._judged_steps
        self._rollbacks = self._rollbacks + 1 if same else 1
        self._rollback_target = self._judged_steps

    def start_stage(self) -> None:
        """Forget past losses: another mixture or sequence length moves the loss, which is no spike."""
        self._losses.clear()

    def state_dict(self) -> dict[str, Any]:
        """What a resumed run needs to judge as this one would; plain numbers, fit for JSON."""
        return {
            "losses": list(self._losses),
            "judged_steps": self._judged_steps,
            "consecutive_events": self._consecutive_events,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from `state_dict()`; a smaller window keeps the newest losses."""
        self._losses = deque(state["losses"], maxlen=self.config.spike_window_steps)
        self._judged_steps = state["judged_steps"]
        self._consecutive_events = state["consecutive_events"]

    def _policy(self, loss: float, grad_norm: float) -> tuple[Verdict, str]:
        if not (math.isfinite(loss) and math.isfinite(grad_norm)):
            return self.config.on_non_finite, f"not finite: loss {loss}, gradient norm {grad_norm}"
        limit = self._spike_limit()
        if self.config.on_spike != "ignore" and loss > limit:
            deviations, window = self.config.spike_deviations, self.config.spike_window_steps
            reason = (
                f"loss spike: {loss:.4f} is above {limit:.4f}, {deviations:g} deviations over the last {window} steps"
            )
            return self.config.on_spike, reason
        return "ok", ""

    def _spike_limit(self) -> float:
        if len(self._losses) < self.config.spike_window_steps:
            return math.inf
        return statistics.fmean(self._losses) + self.config.spike_deviations * statistics.pstdev(self._losses)

    def _limited(self, policy: Verdict) -> Verdict:
        """The policy, or "stop" once bad steps or rollbacks repeat too often."""
        limit = self.config.max_consecutive_events
        if policy == "stop":
            return "stop"
        if self._consecutive_events >= limit:
            repeated = f"{self._consecutive_events} bad steps in a row"
        elif policy == "rollback" and self._rollbacks >= limit:
            repeated = f"{self._rollbacks} rollbacks to the same checkpoint"
        else:
            return policy
        self.reason += (
            f"; {repeated} reach guard.max_consecutive_events={limit}."
            " Resume from the last checkpoint with a lower learning rate, or look at the data of these steps"
        )
        return "stop"

"""A storm over tiny runs: random faults, after which each run must end on the curve of one that nothing disturbed.

`Storm(...).blow(faults)` starts runs one after the other and disturbs them. Every fault comes from a seed, so that a
storm can be repeated as far as the machine's timing allows. What is asserted:

- a run that was disturbed in one layout ends on the undisturbed curve bit for bit, after a change of layout to 1e-5;
- a start that does not finish says why, in a message, or was killed by the storm;
- a start never leaves fewer sound checkpoints (up to `keep_last`) or an older newest one than it found;
- where all are damaged the run stops, and begins anew only by the command of its message.
"""

import contextlib
import json
import os
import random
import resource
import shutil
import signal
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil

from megatron_mimo.training.checkpoint_files import damage, step_folders
from megatron_mimo.training.checkpoint_record import read_record
from support.launch import Ranks, ranks
from support.patience import patience
from support.tiny import tiny_tree, write_run

STEPS, KEEP_LAST, PROCESSES = 24, 2, 2
PROGRAM = ("-m", "megatron_mimo.pretrain")
LAYOUTS: tuple[tuple[int, dict[str, Any]], ...] = (
    (2, {"tensor_model_parallel_size": 2, "sequence_parallel": True}),
    (1, {}),
    (2, {"pipeline_model_parallel_size": 2}),
)
"""Beside two data-parallel ranks: processes, and what is cut."""
TOLERANCE = 1e-5
NEWEST_SHARE = 0.7
"""Of the damages that the newest checkpoint gets; the others are dealt to all of them."""
TIMED = {"step_seconds", "tokens_per_second", "tflops_per_gpu", "memory_bytes"}
LIVE = ("kill", "lost node", "SIGTERM", "SIGINT", "SIGUSR1", "full disk", "second launch")
"""Faults of a run that is under way: "kill" is of one process, whichever it is, "lost node" of all of them."""
OFFLINE = ("flip", "cut", "remove")
"""Faults of a checkpoint's files, mostly the newest one's, between two starts."""
KINDS = (*LIVE, *OFFLINE, "layout")
CRASHES = ("kill", "lost node")
FULL_DISK_BYTES = 100_000
"""What a file may grow to on the disk that is full: logs fit, checkpoints do not."""


class Storm:
    """`folder`: for the runs. `data`: of `support.tiny.make_tiny_data`. `say` gets a line for every fault."""

    def __init__(self, folder: Path, data: Path, seed: int, say: Callable[[str], object] = print) -> None:
        self.folder, self.data, self.say = folder, data, say
        self.random = random.Random(seed)
        self.faults: Counter[str] = Counter()
        self.runs = 0
        self.crossed_layout = False
        self.has_struck = False
        """Whether the last start was disturbed before it came to its end."""
        self._expected = self._undisturbed()
        self._begin_run()

    def blow(self, faults: int, kinds: tuple[str, ...] = KINDS) -> None:
        """Disturb until there were so many faults, each kind as often as another; then let the last run end."""
        hand: list[str] = []
        while sum(self.faults.values()) < faults:
            hand = hand or self.random.sample(kinds, len(kinds))
            self._disturb(hand.pop())
        while self._start(None):
            pass
        self._check_curve()

    def _disturb(self, kind: str) -> None:
        """One fault of this kind, and the start that meets it; a run that ended undisturbed is followed by another."""
        if kind in OFFLINE:
            if not self._damage(kind):
                self._start("SIGTERM")  # so that there is something to damage
                if not self._damage(kind):
                    return
            self.faults[kind] += 1
            goes_on = self._start(self.random.choice(("SIGTERM", None)))
        elif kind == "layout":
            self.crossed_layout = True
            self.faults[kind] += 1
            goes_on = self._start("SIGTERM", *self.random.choice(LAYOUTS))
        else:
            goes_on = self._start(kind)
            self.faults[kind] += int(self.has_struck)
        if not goes_on:
            self._check_curve()
            self._begin_run()

    def _begin_run(self) -> None:
        self.runs += 1
        self.crossed_layout = False
        self.run = self.folder / f"run{self.runs}"
        # Of each run some settings differ that must not matter.
        self.settings = {"asynchronous": self.random.random() < 0.5, "num_workers": self.random.choice((0, 1))}

    def _start(self, fault: str | None, processes: int = PROCESSES, parallel: dict[str, Any] | None = None) -> bool:
        """Go on with the run, disturbed by `fault` at some step; whether it has not come to its end."""
        config = str(write_run(self.run, self._tree(parallel or {})))
        before, first = self._sound(), self._logged_steps()
        at_step = first + self.random.randint(1, 6)
        with Ranks(processes, *PROGRAM, config) as started:
            done = False
            while started.poll() is None and not done:
                done = fault is not None and self._logged_steps() >= at_step and self._strike(started, fault)
                time.sleep(0.02)
            code = started.wait(timeout=patience(180))
            said = started.stdout + started.stderr
        after = self._sound()
        self.say(
            f"run {self.runs} ({self._described(processes, parallel)}): {fault if done else 'undisturbed'} from step"
            f" {first}, exit code {code}; sound checkpoints {before} -> {after}"
        )
        self.has_struck = done
        if code == 2 and "none of the" in said and not before:
            self._begin_anew(said)
            return True
        assert code in self._codes_of(fault if done else None), f"exit code {code} after {fault}:\n{said[-4000:]}"
        assert "Traceback" not in said or fault in CRASHES, said[-4000:]
        assert code != 2 or fault != "full disk" or "could not be written" in said, said[-4000:]
        assert len(after) >= min(KEEP_LAST, len(before)), f"good checkpoints were deleted: {before} -> {after}"
        assert not before or max(after) >= max(before), f"the newest good one was deleted: {before} -> {after}"
        return code != 0

    @staticmethod
    def _codes_of(fault: str | None) -> tuple[int, ...]:
        """Exit codes of the first rank that ended not well; 0 where the run was through before it noticed."""
        if fault in CRASHES:
            return (0, 1, 2, -signal.SIGKILL, -signal.SIGTERM, -signal.SIGABRT, 85)
        if fault == "full disk":
            return (0, 2)
        return (0, 85) if fault in ("SIGTERM", "SIGINT", "SIGUSR1") else (0,)

    def _strike(self, started: Ranks, fault: str) -> bool:
        """Do it; False where there is nothing to do it to."""
        alive = [process for process in started.descendants() if process.is_running()]
        if not alive:
            return False
        if fault in CRASHES:
            for process in alive if fault == "lost node" else [self.random.choice(alive)]:
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.kill()
        elif fault == "full disk":
            for process in alive:
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.rlimit(psutil.RLIMIT_FSIZE, (FULL_DISK_BYTES, resource.RLIM_INFINITY))
        elif fault == "second launch":
            self._launch_again(started)
        else:
            # To every process, as Slurm and terminals do, or to the ranks alone.
            number = signal.Signals[fault]
            ranks_alone = [rank.pid for rank in started.ranks if rank.exitcode is None and rank.pid is not None]
            targets = [process.pid for process in alive] if self.random.random() < 0.5 else ranks_alone
            for process in targets:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(process, number)
        return True

    def _launch_again(self, started: Ranks) -> None:
        """While the first run stands still, so that it cannot be through before the second comes."""
        started.send_signal(signal.SIGSTOP)
        is_held = (self.run / "run" / "run.lock").exists()
        try:
            second = ranks(PROCESSES, *PROGRAM, str(self.run / "pretrain.yaml"))
        finally:
            started.send_signal(signal.SIGCONT)
        if is_held:
            assert second.returncode == 2 and "is held by process" in second.stderr, second.stderr[-3000:]

    def _damage(self, kind: str) -> bool:
        """Damage a file of a checkpoint; False where there is none."""
        folders = step_folders(self.run / "run" / "checkpoints")
        if not folders:
            return False
        folder = folders[-1] if self.random.random() < NEWEST_SHARE else self.random.choice(folders)
        files = sorted(path for path in folder.iterdir() if path.stat().st_size)
        if not files:
            return False
        file = self.random.choice(files)
        content = bytearray(file.read_bytes())
        if kind == "remove":
            file.unlink()
        elif kind == "cut":
            file.write_bytes(content[: self.random.randrange(len(content))])
        else:
            content[self.random.randrange(len(content))] ^= 1 << self.random.randrange(8)
            file.write_bytes(content)
        self.say(f"run {self.runs}: {kind} {file.relative_to(self.run)}")
        return True

    def _begin_anew(self, said: str) -> None:
        """By the command that the message gives."""
        folder = self.run / "run" / "checkpoints"
        assert f"mv {folder} {folder}.damaged" in said, said[-3000:]
        shutil.rmtree(folder.with_name("checkpoints.damaged"), ignore_errors=True)
        folder.rename(folder.with_name("checkpoints.damaged"))

    def _sound(self) -> list[int]:
        """Steps of the checkpoints that are sound to the last byte."""
        folders = step_folders(self.run / "run" / "checkpoints")
        return [read_record(path).progress.step for path in folders if damage(path, hash_files=True) is None]

    def _tree(self, parallel: dict[str, Any]) -> dict[str, Any]:
        tree = tiny_tree(self.data, self.run / "run", STEPS)
        tree["model"]["num_layers"] = 2
        tree["data"]["num_workers"] = self.settings["num_workers"]
        asynchronous = self.settings["asynchronous"]
        checkpoint = {"every_steps": 2, "keep_last": KEEP_LAST, "asynchronous": asynchronous, "save_at_end": True}
        guard = {"hang_timeout_seconds": patience(300)}
        return tree | {"checkpoint": checkpoint, "parallel": parallel, "evaluation": {"sequences": 0}, "guard": guard}

    def _undisturbed(self) -> list[dict[str, Any]]:
        self.run, self.settings = self.folder / "undisturbed", {"asynchronous": False, "num_workers": 0}
        done = ranks(PROCESSES, *PROGRAM, str(write_run(self.run, self._tree({}))))
        assert done.returncode == 0, done.stderr[-3000:]
        return self._curve()

    def _logged_steps(self) -> int:
        return max((line["step"] for line in self._curve()), default=0)

    def _curve(self) -> list[dict[str, Any]]:
        """Lines of metrics.jsonl without what a clock or the machine decides; a line that is being written is none."""
        path, lines = self.run / "run" / "metrics.jsonl", []
        for text in path.read_text().splitlines() if path.exists() else ():
            with contextlib.suppress(ValueError):
                lines.append({key: value for key, value in json.loads(text).items() if key not in TIMED})
        return [line for line in lines if line["kind"] == "step"]

    def _check_curve(self) -> None:
        found = self._curve()
        if not self.crossed_layout:
            assert found == self._expected, f"run {self.runs} left the undisturbed curve"
            return
        assert [line["step"] for line in found] == [line["step"] for line in self._expected]
        for line, other in zip(found, self._expected, strict=True):
            assert abs(line["loss"] - other["loss"]) < TOLERANCE * other["loss"], line
            assert line["source_tokens"] == other["source_tokens"], line

    def _described(self, processes: int, parallel: dict[str, Any] | None) -> str:
        cut = ", ".join(f"{key}={value}" for key, value in (parallel or {}).items())
        saved = "in the background" if self.settings["asynchronous"] else "between steps"
        workers = self.settings["num_workers"]
        return f"{processes} processes{', ' if cut else ''}{cut}, saved {saved}, {workers} loader processes a rank"

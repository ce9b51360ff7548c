"""What an experiment leaves behind, read back and checked once.

With n tasks, I constraints with limits ``d``, and K episodes per task, an agent's log holds

    regret      R_k = sum_{j<=k} (V_r(optimum) - V_r(w_j))     cumulative, exact, (n, T) at T recorded episodes k
    cost        V_c(w_k)                                       of the mixture w_k in force, (n, T, I)
    reward      V_r(w_k)                                       (n, T)
    weight      1 - w_k[0]                                     share of play that is not the safe policy, (n, T)

and ``summary.json`` holds per-task totals. An episode violates when ``V_c(w_k) > d`` for some constraint.

Layout of a run directory::

    summary.json    figure1.npz    curves/<agent, every character but letters, digits, "._-" replaced by "-">.npz
"""

from __future__ import annotations

import json
import re
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from surefoot.arrays import FloatArray, as_floats, check_integer, check_real, freeze
from surefoot.errors import InvalidInput
from surefoot.json_reading import read_object, required

__all__ = [
    "AgentRecord",
    "Curves",
    "Landscape",
    "Summary",
    "check_kind",
    "curve_path",
    "read_curves",
    "read_landscape",
    "read_summary",
]

SCHEMA = 1


@dataclass(frozen=True, eq=False)
class AgentRecord:
    """Totals of one agent over the n tasks.

    Attributes:
        name: as on the command line, ``safe-pce:theory``.
        regret: (n,) cumulative regret after each checkpoint's number of episodes.
        max_cost: (n, I) largest expected cost of any mixture it deployed.
        violating_episodes: (n,) episodes whose mixture exceeded a limit.
        final_weight: (n,) weight on anything but the safe policy at the end.
        seconds: wall-clock time of the agent over all tasks.
        notes: what the agent itself has to say about its guarantee.
    """

    name: str
    regret: Mapping[int, FloatArray]
    max_cost: FloatArray
    violating_episodes: FloatArray
    final_weight: FloatArray
    seconds: float
    notes: tuple[str, ...] = ()

    @property
    def last_checkpoint(self) -> int:
        """Episodes behind ``final_regret``."""
        return max(self.regret)

    @property
    def final_regret(self) -> FloatArray:
        """(n,) regret at the last checkpoint."""
        return self.regret[self.last_checkpoint]

    @property
    def tasks_violated(self) -> int:
        """Tasks on which at least one episode violated."""
        return int(np.count_nonzero(self.violating_episodes))


@dataclass(frozen=True, eq=False)
class Summary:
    """``summary.json``, checked.

    Attributes:
        experiment: its name.
        seed: the seed everything was drawn from.
        episodes: K, per task.
        cost_limits: (I,) ``d``.
        tasks: one mapping of named numbers per task.
        training: what the training phase reports, certificate included.
        agents: in the order of the file.
        assumptions: what was found out about the assumptions that the guarantees rest on.
        assumptions_hold: whether nothing was found against them; ``None`` where nobody looked.
        published: mean regret at the end of the runs in the literature, by agent.
        judged: ``episodes`` and ``largest_half_width_cost`` of the estimates that stand for exact values; empty where values are exact.
    """

    experiment: str
    seed: int
    episodes: int
    cost_limits: FloatArray
    tasks: tuple[Mapping[str, Any], ...]
    training: Mapping[str, Any]
    agents: tuple[AgentRecord, ...]
    assumptions: tuple[str, ...]
    assumptions_hold: bool | None
    published: Mapping[str, float]
    judged: Mapping[str, float]

    @property
    def task_keys(self) -> list[str]:
        """(n,) the same for repeats of one task, which are entries of their own."""
        return [json.dumps(task, sort_keys=True) for task in self.tasks]

    @property
    def distinct_tasks(self) -> int:
        """How many of the tasks differ."""
        return len(set(self.task_keys))

    @classmethod
    def of(cls, raw: Mapping[str, Any]) -> Summary:
        """The checked form of a parsed ``summary.json``.

        Raises:
            InvalidInput: another schema, a key missing, or an array of the wrong shape.
        """
        if raw.get("schema") != SCHEMA:
            raise InvalidInput(
                f"summary.schema must be {SCHEMA}, got {raw.get('schema')!r}; use the matching version",
                code="SF-RECORD-SCHEMA",
            )
        limits = as_floats("summary.cost_limits", _get(raw, "cost_limits", "summary"), (None,))
        tasks = tuple(_get(raw, "tasks", "summary"))
        agents = _get(raw, "agents", "summary").items()
        for name, entries in (("tasks", tasks), ("agents", agents)):
            if not entries:
                raise InvalidInput(
                    f"summary.{name} must not be empty, got none; run the experiment with at least one",
                    code="SF-RECORD-FIELD",
                )
        return cls(
            experiment=str(_get(raw, "experiment", "summary")),
            seed=check_integer("summary.seed", _get(raw, "seed", "summary"), low=0),
            episodes=check_integer("summary.episodes", _get(raw, "episodes", "summary"), low=1),
            cost_limits=limits,
            tasks=tasks,
            training=dict(raw.get("training", {})),
            agents=tuple(_agent(name, record, len(tasks), limits.size) for name, record in agents),
            assumptions=_sentences(raw.get("assumptions", ())),
            assumptions_hold=_holds(raw.get("assumptions", ())),
            published=_numbers("published", raw),
            judged=_numbers("judged", raw),
        )


@dataclass(frozen=True, eq=False)
class Curves:
    """One agent over time: ``episodes`` (T,), ``regret`` (n, T), ``cost`` (n, T, I), ``reward``, ``weight`` (n, T)."""

    episodes: FloatArray
    regret: FloatArray
    cost: FloatArray
    reward: FloatArray
    weight: FloatArray


@dataclass(frozen=True, eq=False)
class Landscape:
    """What Figure 1 shows of a gridworld family.

    Attributes:
        noise: (n,) increasing.
        optimal_value, optimal_cost: (n,) of the best feasible policy; NaN where no policy is feasible.
        safe_value, safe_cost: (n,) of the safe policy, in the task of that noise.
        policy_noise: (k,) noises of the policies drawn.
        policy: (k, S, A) with state ``width y + x`` and actions right, up, left, down.
        width, height: of the grid.
        hazard: (m, 2) cells that cost, as x, y.
        goal: (2,) x, y.
    """

    noise: FloatArray
    optimal_value: FloatArray
    optimal_cost: FloatArray
    safe_value: FloatArray
    safe_cost: FloatArray
    policy_noise: FloatArray
    policy: FloatArray
    width: int
    height: int
    hazard: FloatArray
    goal: FloatArray


def read_summary(directory: Path | str) -> Summary:
    """``summary.json`` of a run.

    Raises:
        InvalidInput: missing, not JSON, or not a summary.
    """
    return Summary.of(
        read_object(Path(directory) / "summary.json", remedy="name a directory that a finished experiment wrote")
    )


def check_kind(raw: Mapping[str, Any], experiment: str, *, remedy: str) -> None:
    """Refuse what that experiment does not write.

    Raises:
        InvalidInput: it is another experiment's, or of another schema.
    """
    found = (raw.get("experiment"), raw.get("schema"))
    if found != (experiment, SCHEMA):
        raise InvalidInput(
            f"summary must be a {experiment} run of schema {SCHEMA}, got {found[0]!r} of schema {found[1]!r}; {remedy}",
            code="SF-RECORD-SCHEMA",
        )


def curve_path(directory: Path | str, agent: str) -> Path:
    """Where the curves of ``agent`` lie; no name leads out of the directory."""
    return Path(directory) / "curves" / (re.sub(r"[^A-Za-z0-9._-]", "-", agent) + ".npz")


def read_curves(directory: Path | str, agent: str, *, tasks: int, constraints: int) -> Curves:
    """The curves of one agent on ``tasks`` tasks.

    Raises:
        InvalidInput: missing, damaged, or of the wrong shape.
    """
    path = curve_path(directory, agent)
    arrays = _read_arrays(path, ["episodes", "regret", "cost", "reward", "weight"])
    length = arrays["episodes"].size
    flat, deep = (tasks, length), (tasks, length, constraints)
    shapes = {"episodes": (length,), "regret": flat, "cost": deep, "reward": flat, "weight": flat}
    if length == 0:
        raise InvalidInput(
            f"{path}:episodes must hold at least one entry, got none; record the run again", code="SF-RECORD-FIELD"
        )
    return Curves(**{name: as_floats(f"{path.name}:{name}", arrays[name], shape) for name, shape in shapes.items()})


def read_landscape(directory: Path | str) -> Landscape:
    """``figure1.npz`` of a run.

    Raises:
        InvalidInput: missing, damaged, or of the wrong shape.
    """
    names = ["noise", "optimal_value", "optimal_cost", "safe_value", "safe_cost"]
    path = Path(directory) / "figure1.npz"
    arrays = _read_arrays(path, [*names, "policy_noise", "policy", "width", "height", "hazard", "goal"])
    noise = as_floats("figure1.npz:noise", arrays["noise"], (None,))
    # An optimum that does not exist is NaN on purpose, so these are checked for shape alone.
    lines = {name: freeze(np.asarray(arrays[name], dtype=np.float64)) for name in names}
    for name, line in lines.items():
        if line.shape != noise.shape:
            raise InvalidInput(
                f"figure1.npz:{name} must have shape {noise.shape}, got {line.shape}; record it again",
                code="SF-RECORD-FIELD",
            )
    width, height = int(arrays["width"]), int(arrays["height"])
    kinds = as_floats("figure1.npz:policy_noise", arrays["policy_noise"], (None,))
    return Landscape(
        **lines,
        policy_noise=kinds,
        policy=as_floats("figure1.npz:policy", arrays["policy"], (kinds.size, width * height, 4)),
        width=width,
        height=height,
        hazard=as_floats("figure1.npz:hazard", arrays["hazard"], (None, 2)),
        goal=as_floats("figure1.npz:goal", arrays["goal"], (2,)),
    )


def _read_arrays(path: Path, names: Sequence[str]) -> dict[str, Any]:
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            return {name: archive[name] for name in names}
    except FileNotFoundError as error:
        raise InvalidInput(
            f"{path} is missing; name a directory that a finished experiment wrote", code="SF-RECORD-MISSING"
        ) from error
    except KeyError as error:
        raise InvalidInput(
            f"{path} lacks an array: {error.args[0]}; record the run again", code="SF-RECORD-FIELD"
        ) from error
    except (ValueError, OSError, EOFError, zipfile.BadZipFile) as error:
        raise InvalidInput(
            f"{path} must be an npz archive of plain arrays, got {error}; record the run again",
            code="SF-RECORD-UNREADABLE",
        ) from error


def _agent(name: str, raw: Mapping[str, Any], tasks: int, constraints: int) -> AgentRecord:
    where = f"summary.agents[{name!r}]"

    def per_task(key: str, value: Any) -> FloatArray:
        return as_floats(f"{where}.{key}", value, (tasks,))

    checkpoints = _get(raw, "regret", where).items()
    regret = {_checkpoint(f"{where}.regret", k): per_task(f"regret[{k}]", values) for k, values in checkpoints}
    if not regret:
        raise InvalidInput(
            f"{where}.regret must hold at least one checkpoint, got none; record the run again", code="SF-RECORD-FIELD"
        )
    return AgentRecord(
        name=name,
        regret=regret,
        max_cost=_max_cost(f"{where}.max_cost", _get(raw, "max_cost", where), tasks, constraints),
        violating_episodes=per_task("violating_episodes", _get(raw, "violating_episodes", where)),
        final_weight=per_task("final_candidate_weight", _get(raw, "final_candidate_weight", where)),
        seconds=check_real(f"{where}.seconds", _get(raw, "seconds", where)),
        notes=_sentences(raw.get("notes", ())),
    )


def _max_cost(name: str, value: Any, tasks: int, constraints: int) -> FloatArray:
    """(n, I); one number per task will do where there is one constraint."""
    if constraints == 1 and np.ndim(value) == 1:
        return as_floats(name, value, (tasks,)).reshape(tasks, 1)
    return as_floats(name, value, (tasks, constraints))


def _checkpoint(name: str, key: str) -> int:
    """A number of episodes; keys of JSON are text."""
    if not key.isdecimal():
        raise InvalidInput(
            f"{name} must have numbers of episodes as keys, got {key!r}; record the run again", code="SF-RECORD-FIELD"
        )
    return int(key)


def _numbers(name: str, raw: Mapping[str, Any]) -> dict[str, float]:
    """An entry of named numbers, which may be missing."""
    return {key: check_real(f"summary.{name}[{key!r}]", value) for key, value in raw.get(name, {}).items()}


def _get(raw: Mapping[str, Any], key: str, where: str) -> Any:
    return required(raw, key, where=where, remedy="record the run again")


def _sentences(value: Any) -> tuple[str, ...]:
    """Of a sentence, several, or ``{"holds": ..., "statement": sentence or several}``."""
    if isinstance(value, Mapping):
        return _sentences(value.get("statement", ()))
    return (value,) if isinstance(value, str) else tuple(str(sentence) for sentence in value)


def _holds(value: Any) -> bool | None:
    if isinstance(value, Mapping):
        return bool(value["holds"]) if "holds" in value else None
    return False if _sentences(value) else None  # a bare sentence is a warning

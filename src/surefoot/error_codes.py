"""Every code that an error of the library may carry, with its cause and its remedy.

A code reads ``SF-AREA-RULE``. It names the rule that was broken and not the place where it was noticed, so that a rule (an array has another shape
than it must have, say) has the same code everywhere; the message names the place, the value and what to do. Programs compare codes; they stay when
messages are worded anew. A code that is an area alone is the one of the class: no error of the library carries it, errors of code that is built on
the library may.

``python -m surefoot.error_codes`` prints the list as a page.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

from surefoot.errors import (
    AgentBroken,
    AssumptionError,
    ClusterError,
    ConflictError,
    InfeasibleError,
    InvalidInput,
    InvalidReport,
    JournalError,
    JournalUnavailable,
    LedgerError,
    MissingExtra,
    OutputExists,
    PausedError,
    PolicySetError,
    ReplayError,
    SettingsMismatch,
    SimulationError,
    SolverError,
    SurefootError,
)

__all__ = ["AREAS", "CATALOGUE", "Code", "page"]


class Code(NamedTuple):
    """What a code means.

    Attributes:
        errors: classes of the errors that carry it; none where it is an answer of the HTTP service only.
        cause: what was found.
        remedy: what to do about it.
    """

    errors: tuple[type[SurefootError], ...]
    cause: str
    remedy: str


AREAS: Mapping[str, str] = MappingProxyType(
    {
        "ERROR": "Anything raised on purpose",
        "ARGUMENT": "Arguments of functions and options of commands",
        "FAMILY": "Task families",
        "POLICY": "Policies and controllers",
        "SOLVER": "Solvers",
        "LEDGER": "Error probabilities",
        "SIMULATION": "Environments and policies that run in them",
        "TRAINING": "Training",
        "CLUSTER": "Workers in other processes and on other machines",
        "ASSUMPTION": "Assumptions that the guarantee rests on",
        "POLICYSET": "Policy sets and their files",
        "REPORT": "Reports about episodes",
        "CONFLICT": "What contradicts an earlier request",
        "AGENT": "Agents",
        "DEPLOYMENT": "Deployments",
        "SETTINGS": "Settings of a deployment",
        "JOURNAL": "Journals",
        "ANCHOR": "Anchors of journals",
        "REPLAY": "Replaying a journal",
        "SERVICE": "Starting the HTTP service",
        "HTTP": "Requests to the HTTP service",
        "RECORD": "Files that experiments wrote",
        "OUTPUT": "Files and folders to be written",
        "EXTRA": "Optional dependencies",
    }
)
"""What each area is about, in the order of the page."""

HEAD = """# Errors

Every error that surefoot raises on purpose is a `surefoot.SurefootError` and has a code:

```python
import surefoot as sf

try:
    sf.Criterion(discount=2.0, cost_limits=[1.0], reward_bounds=(0.0, 1.0), cost_bounds=[1.0])
except sf.SurefootError as error:
    print(error.code)  # SF-ARGUMENT-RANGE
    print(error)  # which argument, which rule, which value, what to do
```

A code names the rule that was broken. It stays when the message is worded anew, so programs compare codes; the message is for people. The command
line prints the code before the message, with `--json` under `code`, and so does the HTTP service in the body of every error. The same rule has the
same code wherever it is broken. A code that is an area alone, like `SF-ARGUMENT`, is the one of the class: errors of the library have a more precise
one, errors that your own code raises need not.

This page is made by `python -m surefoot.error_codes`.
"""

CATALOGUE: Mapping[str, Code] = MappingProxyType(
    {
        "SF-ERROR": Code((SurefootError,), "A rule without a code of its own was broken.", "Read the message."),
        # ARGUMENT
        "SF-ARGUMENT": Code(
            (InvalidInput,), "An argument breaks a rule without a code of its own.", "Read the message."
        ),
        "SF-ARGUMENT-TYPE": Code(
            (InvalidInput,), "An argument is of another type than it must be.", "Convert it, as the message says."
        ),
        "SF-ARGUMENT-SHAPE": Code(
            (InvalidInput,),
            "An array has another shape, or other axes, than it must have.",
            "Check the order of the axes and the number of entries along each.",
        ),
        "SF-ARGUMENT-LENGTH": Code(
            (InvalidInput,),
            "A list does not hold one entry for each thing that it describes.",
            "Give as many entries as the message says.",
        ),
        "SF-ARGUMENT-FINITE": Code((InvalidInput,), "A number is NaN or infinite.", "Remove or repair that entry."),
        "SF-ARGUMENT-RANGE": Code(
            (InvalidInput,), "A number lies outside its range.", "Choose one inside; check sign and unit."
        ),
        "SF-ARGUMENT-SIMPLEX": Code(
            (InvalidInput,), "Probabilities or weights are negative, or do not sum to 1.", "Normalise them."
        ),
        "SF-ARGUMENT-ORDER": Code(
            (InvalidInput,),
            "Numbers that must increase do not, or a lower end is above its upper end.",
            "Sort or swap them.",
        ),
        "SF-ARGUMENT-CHOICE": Code(
            (InvalidInput,),
            "A name or value is none of those that there are.",
            "Choose one from the list in the message.",
        ),
        "SF-ARGUMENT-DISTINCT": Code(
            (InvalidInput,), "A name or entry stands in a list twice.", "List everything once."
        ),
        "SF-ARGUMENT-EMPTY": Code(
            (InvalidInput,),
            "Something that must hold an entry holds none.",
            "Give at least one, or as many as the message says.",
        ),
        "SF-ARGUMENT-TEXT": Code(
            (InvalidInput,),
            "A text is empty, too long, or holds characters that cannot be printed.",
            "Shorten or clean it.",
        ),
        "SF-ARGUMENT-SYNTAX": Code(
            (InvalidInput,),
            "A text is not written in the form that is understood.",
            "Write it like the example in the message.",
        ),
        "SF-ARGUMENT-KEYS": Code(
            (InvalidInput,),
            "A mapping lacks a key, or has one that is not known.",
            "Give exactly the keys in the message.",
        ),
        "SF-ARGUMENT-MISSING": Code((InvalidInput,), "An argument that is needed here was not given.", "Give it."),
        "SF-ARGUMENT-COMBINATION": Code(
            (InvalidInput,),
            "Arguments that are each allowed do not go together.",
            "Give both or neither, or drop one, as the message says.",
        ),
        "SF-ARGUMENT-MISMATCH": Code(
            (InvalidInput,),
            "Two objects do not belong together: they were made for different tasks, policies or environments.",
            "Use objects that were made for each other.",
        ),
        # FAMILY
        "SF-FAMILY-SAMPLE": Code(
            (InvalidInput,),
            "A family drew, or lists, parameters of the wrong shape or outside of its support.",
            "Mend `sample`, or widen the support.",
        ),
        "SF-FAMILY-RANDOM": Code(
            (SimulationError,),
            "A family draws other tasks for the same seed.",
            "Draw from the generator that `sample` is given, and from nothing else.",
        ),
        "SF-FAMILY-RESET": Code(
            (SimulationError,),
            "Parameters change nothing, or are drawn in `reset`, or a seed decides nothing.",
            "Build the environment from the parameters that `make` is given, and draw from the seed of `reset`.",
        ),
        "SF-FAMILY-BOUNDS": Code(
            (InvalidInput,), "Declared bounds are empty or reach beyond what the criterion implies.", "Narrow them."
        ),
        "SF-FAMILY-CRITERION": Code(
            (InvalidInput,),
            "A task of the family disagrees with the family's criterion.",
            "Make `criterion` and `cmdp()` agree.",
        ),
        "SF-FAMILY-SIZES": Code(
            (InvalidInput,),
            "Tasks differ in their number of states, actions or constraints.",
            "Give all tasks of a family the same sizes.",
        ),
        # POLICY
        "SF-POLICY-KIND": Code(
            (InvalidInput, PolicySetError),
            "Something that is used as a policy is none, or not of the kind that is needed here.",
            "Pass a table, a function or an object with `predict`, as the message says.",
        ),
        "SF-POLICY-INSTANCE": Code(
            (InvalidInput,),
            "A policy cannot give every episode an instance of its own.",
            "Give it a method `for_episode()`.",
        ),
        "SF-POLICY-MODEL": Code(
            (InvalidInput,),
            "What is to be exported is no model of Stable-Baselines3.",
            "Pass the model, not its policy.",
        ),
        "SF-POLICY-ACTOR": Code(
            (InvalidInput,), "A model has no actor.", "Export a model of PPO, A2C, TRPO, SAC, TD3 or DDPG."
        ),
        "SF-POLICY-RECURRENT": Code((InvalidInput,), "A network has a memory.", "Train it with MlpPolicy."),
        "SF-POLICY-NETWORK": Code(
            (InvalidInput,),
            "A network has layers, activations or inputs that cannot be turned into arrays.",
            "Train it with MlpPolicy, with tanh or ReLU.",
        ),
        "SF-POLICY-ACTIONS": Code(
            (InvalidInput,), "The action space cannot be turned into arrays.", "Change the space in a wrapper."
        ),
        "SF-POLICY-REGISTRATION": Code(
            (InvalidInput,),
            "A controller or its name cannot be registered.",
            "Choose a new name, and a class as the message describes it.",
        ),
        "SF-POLICY-UNREGISTERED": Code(
            (InvalidInput, PolicySetError),
            "A controller's kind or name is not registered in this process.",
            "Register it before, or import the module that does (`surefoot --import MODULE`).",
        ),
        # SOLVER
        "SF-SOLVER-INFEASIBLE": Code(
            (InfeasibleError,), "No policy meets the cost limits.", "Raise the limit or change the task."
        ),
        "SF-SOLVER-UNCERTIFIED": Code(
            (SolverError,),
            "The solver stopped without an answer that the certificate accepts.",
            "Move the limits a little, or merge states that are hardly told apart.",
        ),
        # LEDGER
        "SF-LEDGER": Code(
            (LedgerError,), "An error probability was spent in a way that is not allowed.", "Read the message."
        ),
        "SF-LEDGER-OVERSPENT": Code(
            (LedgerError,), "More of an error probability was spent than there is.", "Spend less, or set out with more."
        ),
        "SF-LEDGER-TWICE": Code(
            (LedgerError,),
            "Two parts of an error probability have the same name.",
            "Spend each part once, under its own name.",
        ),
        # SIMULATION
        "SF-SIMULATION": Code(
            (SimulationError,),
            "An environment or a policy in it broke a rule without a code of its own.",
            "Read the message.",
        ),
        "SF-SIMULATION-RAISED": Code(
            (SimulationError,),
            "An environment, a policy or a function of the family raised an exception.",
            "Run it alone with the parameters in the message.",
        ),
        "SF-SIMULATION-TYPE": Code(
            (SimulationError,),
            "Something that an environment or policy returned is of the wrong type.",
            "Convert it where it is made.",
        ),
        "SF-SIMULATION-SHAPE": Code(
            (SimulationError,),
            "An array that an environment or policy returned has the wrong shape.",
            "Mend what makes it.",
        ),
        "SF-SIMULATION-FINITE": Code(
            (SimulationError,), "A number that was simulated is NaN or infinite.", "Mend what computes it."
        ),
        "SF-SIMULATION-RANGE": Code(
            (SimulationError,),
            "A reward, cost, action or signal left its declared range.",
            "Widen the range, or mend what computes it.",
        ),
        "SF-SIMULATION-API": Code(
            (SimulationError,),
            "An environment does not follow the interface of Gymnasium.",
            "Return what Gymnasium's documentation says.",
        ),
        "SF-SIMULATION-POLICY": Code(
            (SimulationError,),
            "A policy cannot be asked for an action.",
            "Give it `predict(observation)`, or make it callable.",
        ),
        "SF-SIMULATION-COST": Code(
            (SimulationError,),
            "A step does not say what it costs.",
            'Put the cost into `info["cost"]`, or give the family `cost=`.',
        ),
        "SF-SIMULATION-END": Code(
            (SimulationError,),
            "An episode was cut before its horizon, or ended early where no reward of 0 is allowed.",
            "Make the environment's time limit and reward range agree with the criterion.",
        ),
        "SF-SIMULATION-CHECK": Code(
            (SimulationError,),
            "The check of a family found problems.",
            "Mend what the message lists, the first one first.",
        ),
        "SF-SIMULATION-MEMORY": Code(
            (SimulationError,),
            "A policy acts differently alone, beside other episodes, or rebuilt from a file.",
            "Let actions depend on the observations of the episode alone; `reset()` or `for_episode()` help.",
        ),
        "SF-SIMULATION-FAILURES": Code(
            (SimulationError,),
            "A larger share of simulated episodes failed than is allowed.",
            "Mend the simulator, or raise `failed_share`.",
        ),
        # TRAINING
        "SF-TRAINING-BUDGET": Code(
            (InvalidInput,),
            "The number of episodes cannot show a margin, whatever is simulated.",
            "Raise `max_episodes` as the message says, or declare tighter bounds.",
        ),
        "SF-TRAINING-HOPELESS": Code(
            (InvalidInput,),
            "No number of episodes can show a margin.",
            "Declare tighter bounds, raise the limits, or state a smaller margin.",
        ),
        "SF-TRAINING-HOLDOUT": Code(
            (InvalidInput,),
            "The hold-out is too small to show `p_max`, even if it finds no task outside the cells.",
            "Raise `holdout` or `p_max`.",
        ),
        "SF-TRAINING-COVER": Code(
            (InvalidInput,),
            "A cover of this radius needs more tasks than are allowed.",
            "Raise `delta`, the radius or `max_tasks`, or give the number of cells.",
        ),
        "SF-TRAINING-FOLDER": Code(
            (InvalidInput,), "The folder for checkpoints holds something else.", "Name a new or empty folder."
        ),
        "SF-TRAINING-RESUMED": Code(
            (InvalidInput,),
            "The checkpoint belongs to a training that was called otherwise.",
            "Call it as it was called, or name another folder.",
        ),
        # CLUSTER
        "SF-CLUSTER": Code((ClusterError,), "A cluster failed.", "See the message."),
        "SF-CLUSTER-UNREACHABLE": Code(
            (ClusterError,), "No scheduler answers at the address.", "Start one, and check the address."
        ),
        "SF-CLUSTER-EMPTY": Code((ClusterError,), "The cluster has no worker.", "Start workers."),
        "SF-CLUSTER-LOST": Code(
            (ClusterError,),
            "Workers died again and again with the call that the message names.",
            "Look into their logs; give each worker more memory, or run fewer on a machine.",
        ),
        "SF-CLUSTER-VERSION": Code(
            (ClusterError,),
            "A worker has another version of the library, of NumPy or of Python.",
            "Install the same versions everywhere.",
        ),
        # ASSUMPTION
        "SF-ASSUMPTION": Code((AssumptionError,), "An assumption does not hold.", "Read the message."),
        "SF-ASSUMPTION-INFEASIBLE": Code(
            (AssumptionError,),
            "The safe policy exceeds a limit in a task of the family, or is not strictly feasible in any.",
            "Bring another safe policy, raise the limits, or narrow the family.",
        ),
        "SF-ASSUMPTION-MARGIN": Code(
            (AssumptionError,),
            "The safe policy keeps too small a margin below the limit.",
            "Bring a safer policy, raise the limit, or state a margin that you can justify.",
        ),
        "SF-ASSUMPTION-ROWS": Code(
            (AssumptionError,),
            "A registered trust level gives the planner no rows, or rows of another shape.",
            "Let its rows() return upper bounds of shape (H, J, I) with H at least 1.",
        ),
        "SF-ASSUMPTION-WIDEST": Code(
            (AssumptionError,),
            "The safe policy keeps no margin in the widest cell.",
            "Raise `max_episodes`, narrow the widths, use more cells, or bring a safer policy.",
        ),
        "SF-ASSUMPTION-UNIT": Code(
            (AssumptionError,), "The stated margin is larger than the limit, which no cost allows.", "Check the unit."
        ),
        "SF-ASSUMPTION-COVERAGE": Code(
            (AssumptionError,),
            "The hold-out does not show that few enough tasks lie in no cell.",
            "Train with more cells or a larger hold-out, or deploy with `trust='envelope'`.",
        ),
        "SF-ASSUMPTION-SPENT": Code(
            (AssumptionError,),
            "`delta_coverage` is below what the simulated episodes of the hold-out have spent.",
            "State at least what training set out with, or use `trust='envelope'`.",
        ),
        "SF-ASSUMPTION-BELIEF": Code(
            (AssumptionError,),
            "The policy set has no belief for the evidence that the deployment uses.",
            "Learn one with surefoot.learn_belief, or train with cells=None.",
        ),
        "SF-ASSUMPTION-REHEARSAL": Code(
            (AssumptionError,),
            "The policy set was not rehearsed, or what was certified is less than what is asked for.",
            "Rehearse it with surefoot.rehearse.",
        ),
        "SF-TRAINING-CHANGED": Code(
            (InvalidInput,),
            "The configuration changed while it was rehearsed.",
            "Let make(seed) give the same agent every time, and leave the policy set alone.",
        ),
        "SF-ASSUMPTION-CELLS": Code(
            (AssumptionError,),
            "No number of cells is likely to pass the hold-out.",
            "Use more training tasks, or raise `p_max` or `holdout`.",
        ),
        # POLICYSET
        "SF-POLICYSET": Code(
            (PolicySetError,), "A policy set breaks a rule without a code of its own.", "Read the message."
        ),
        "SF-POLICYSET-FIELD": Code(
            (InvalidInput, PolicySetError),
            "A field of a policy set breaks a rule; the message names both.",
            "Build the policy set again.",
        ),
        "SF-POLICYSET-PATH": Code(
            (InvalidInput, PolicySetError),
            "The path of a policy set is no text that can name a file.",
            "Pass a string or a Path; `os.fsdecode` converts.",
        ),
        "SF-POLICYSET-READ": Code((PolicySetError,), "The file cannot be read.", "Check its name and rights."),
        "SF-POLICYSET-FILE": Code((PolicySetError,), "The path names a folder or a device.", "Name the file itself."),
        "SF-POLICYSET-WRITE": Code(
            (PolicySetError,), "The file cannot be written.", "Choose a folder that exists and is writeable."
        ),
        "SF-POLICYSET-ARCHIVE": Code(
            (PolicySetError,),
            "The file is no zip archive, or a member of it cannot be read.",
            "It is damaged, cut short or something else: copy it again.",
        ),
        "SF-POLICYSET-LIMIT": Code(
            (PolicySetError,),
            "The file or a member of it is larger or smaller than any policy set.",
            "It is damaged or something else: copy it again.",
        ),
        "SF-POLICYSET-END": Code(
            (PolicySetError,),
            "The file does not end as a plain zip archive does.",
            "It is damaged or was edited: copy it again.",
        ),
        "SF-POLICYSET-MEMBER-MISSING": Code(
            (PolicySetError,), "A member is missing.", "The file is damaged: copy it again."
        ),
        "SF-POLICYSET-MEMBER-TWICE": Code((PolicySetError,), "A member is there twice.", "Build the policy set again."),
        "SF-POLICYSET-MEMBER-EXTRA": Code(
            (PolicySetError,), "There is a member that the manifest does not name.", "Build the policy set again."
        ),
        "SF-POLICYSET-COMPRESSED": Code(
            (PolicySetError,),
            "A member is compressed or encrypted.",
            "Build the policy set again; do not pack it anew.",
        ),
        "SF-POLICYSET-LAYOUT": Code(
            (PolicySetError,),
            "A member does not lie where, or is not as long as, the table of contents says.",
            "The file is damaged or was edited: copy it again.",
        ),
        "SF-POLICYSET-DIGEST": Code(
            (PolicySetError,),
            "A part of the file does not match its checksum.",
            "It is damaged or was edited: copy it again.",
        ),
        "SF-POLICYSET-JSON": Code(
            (PolicySetError,), "The manifest is no JSON object in UTF-8.", "Build the policy set again."
        ),
        "SF-POLICYSET-FORMAT": Code(
            (PolicySetError,),
            "The manifest names another format, or does not keep to its schema version.",
            "Build the policy set again.",
        ),
        "SF-POLICYSET-ARRAY": Code(
            (PolicySetError,),
            "The manifest does not describe an array as it must: its name, type, shape or size.",
            "Build the policy set again.",
        ),
        "SF-POLICYSET-REFERENCE": Code(
            (PolicySetError,),
            "An array of the file is used twice, never, or where another type is needed.",
            "Build the policy set again.",
        ),
        "SF-POLICYSET-VERSION": Code(
            (PolicySetError,),
            "A later version of the library wrote the file.",
            "Upgrade with `pip install --upgrade surefoot`.",
        ),
        "SF-POLICYSET-SIZE": Code(
            (InvalidInput,),
            "A policy set is too large for a file.",
            "Train with fewer cells, policies or initial states.",
        ),
        # REPORT
        "SF-REPORT": Code((InvalidReport,), "A report breaks a rule without a code of its own.", "Read the message."),
        "SF-REPORT-ID": Code(
            (InvalidReport,),
            "The ids of a report are no whole numbers, or there are none.",
            "Use the ids that `ask()` returned.",
        ),
        "SF-REPORT-UNKNOWN": Code(
            (InvalidReport,), "The episode was never asked for.", "Use the ids that `ask()` returned."
        ),
        "SF-REPORT-UNCHECKED": Code(
            (InvalidReport,),
            "A report reached the agent that no tracker had checked.",
            "Let `EpisodeTracker.check` make it.",
        ),
        "SF-REPORT-DISTINCT": Code(
            (InvalidReport,), "An episode stands twice in one report.", "Tell every episode once."
        ),
        "SF-REPORT-CLOSED": Code(
            (InvalidReport,), "The episode was told or declared lost before.", "Tell every episode once."
        ),
        "SF-REPORT-TYPE": Code(
            (InvalidReport,),
            "A field of a report does not hold numbers, or not whole ones where it must.",
            "Convert it before reporting.",
        ),
        "SF-REPORT-SHAPE": Code(
            (InvalidReport,),
            "A field of a report has the wrong shape.",
            "Report one value per episode, and per constraint for costs.",
        ),
        "SF-REPORT-FINITE": Code(
            (InvalidReport,),
            "A reported number is NaN or infinite.",
            "Report what happened; until then the episode counts as lost.",
        ),
        "SF-REPORT-RANGE": Code(
            (InvalidReport,),
            "A reported number lies outside its declared range.",
            "Check its unit; if it is true, the declared range was wrong.",
        ),
        "SF-REPORT-TRANSITIONS": Code(
            (InvalidReport,),
            "Transitions are not rows (s, a, s', count) of whole numbers within their ranges.",
            "Count states and actions from 0.",
        ),
        "SF-REPORT-STATE": Code(
            (InvalidReport,), "The initial states are not one possible state for each episode.", "Count states from 0."
        ),
        "SF-REPORT-FILE": Code(
            (InvalidReport,),
            "A file of logged episodes cannot be read as a table of numbers with a header, or could be read in two ways.",
            "Save it as CSV in UTF-8 with one row per episode; say which decimal sign it has.",
        ),
        "SF-REPORT-ROW": Code(
            (InvalidReport,),
            "Rows of a file of logged episodes hold empty cells, or what is no possible number.",
            "Mend the cells that the message names; fill a missing episode in at its worst, never leave it out.",
        ),
        "SF-REPORT-SIGNALS": Code(
            (InvalidReport,),
            "Signals that the deployment needs are missing, or unknown ones are there.",
            "Report all that were declared.",
        ),
        # CONFLICT
        "SF-CONFLICT": Code(
            (ConflictError,),
            "A request contradicts what was recorded before.",
            "Read the message; what was recorded stands.",
        ),
        "SF-CONFLICT-TOLD": Code(
            (ConflictError,),
            "The episode was told before, with other values or in another group.",
            "The first report stands.",
        ),
        "SF-CONFLICT-STANDS": Code(
            (ConflictError,), "An episode that was told is declared lost.", "Its report stands."
        ),
        "SF-CONFLICT-LOST": Code((ConflictError,), "The episode was declared lost before.", "What is lost stays lost."),
        "SF-CONFLICT-REQUEST": Code(
            (ConflictError,), "A request key was used for another request.", "Use a new key for each request."
        ),
        "SF-CONFLICT-NO-PLAN": Code((ConflictError,), "No plan waits for approval.", "See the status."),
        "SF-CONFLICT-PLAN": Code(
            (ConflictError,),
            "Another plan waits for approval than the one that was named.",
            "See the status, and approve what it shows.",
        ),
        "SF-CONFLICT-DEGRADED": Code(
            (ConflictError,), "The deployment is degraded and makes no plans.", "Recover it first."
        ),
        "SF-CONFLICT-HISTORY": Code(
            (ConflictError,),
            "Logged episodes were given after the first episode was asked, or, under trust='rehearsed', more of them than were rehearsed.",
            "Give them before the first ask; rehearse with history=.",
        ),
        "SF-CONFLICT-SUCCEEDED": Code(
            (ConflictError,),
            "Another deployment goes on after this one already, or the name of the next is that of a deployment that exists.",
            "Use the one that is named, or choose another name.",
        ),
        "SF-CONFLICT-SOUND": Code(
            (ConflictError,), "There is nothing to recover, for the deployment is not degraded.", "See the status."
        ),
        # AGENT
        "SF-AGENT-BROKEN": Code(
            (AgentBroken,),
            "The agent was left half changed by something unforeseen.",
            "Make a new one and tell it the same reports, or use a Deployment.",
        ),
        "SF-AGENT-MARGIN": Code(
            (InvalidInput,),
            "The agent has no schedule without a positive margin of the safe policy.",
            "Keep playing the safe policy.",
        ),
        "SF-AGENT-UNCALIBRATED": Code(
            (InvalidInput,),
            "The agent's constant was not calibrated on this family.",
            "Find it with `surefoot calibrate`, and give it in the agent's name.",
        ),
        # DEPLOYMENT
        "SF-DEPLOYMENT-PAUSED": Code(
            (PausedError,), "The deployment is paused and hands out no episodes.", "Resume it."
        ),
        "SF-DEPLOYMENT-SUCCEEDED": Code(
            (PausedError,), "The deployment has ended, and another one goes on after it.", "Ask the one that is named."
        ),
        "SF-DEPLOYMENT-UNKNOWN": Code(
            (InvalidInput,),
            "The database holds no deployment of this name.",
            "Open it first (`surefoot deploy open`), or check the name.",
        ),
        "SF-DEPLOYMENT-POLICYSET": Code(
            (InvalidInput,),
            "The policy set was too large for the journal and has to be brought along.",
            "Load the file and pass it.",
        ),
        "SF-DEPLOYMENT-CLOSED": Code((InvalidInput,), "The deployment was closed.", "Open it again."),
        # SETTINGS
        "SF-SETTINGS": Code(
            (SettingsMismatch,), "A deployment was reopened otherwise than it was opened.", "Read the message."
        ),
        "SF-SETTINGS-POLICYSET": Code(
            (SettingsMismatch,),
            "The deployment was opened with another policy set.",
            "Bring that file, or open a deployment of another name.",
        ),
        "SF-SETTINGS-VERSION": Code(
            (SettingsMismatch,),
            "The deployment was opened with a version that this one does not continue.",
            "Install the version in the message to continue it.",
        ),
        "SF-SETTINGS-CHANGED": Code(
            (SettingsMismatch,),
            "A setting differs from the one that the deployment was opened with.",
            "Leave it out, or open a deployment of another name.",
        ),
        # JOURNAL
        "SF-JOURNAL": Code((JournalError,), "A journal cannot be trusted.", "Read the message."),
        "SF-JOURNAL-URL": Code(
            (InvalidInput,),
            "What names the database is neither a URL nor a path.",
            "Write it like plant.db or postgresql://host/name.",
        ),
        "SF-JOURNAL-PATH": Code(
            (InvalidInput,),
            "The path names no file that a journal can live in.",
            "Name a file in a folder that is there.",
        ),
        "SF-JOURNAL-BACKEND": Code(
            (InvalidInput,), "The URL names a database that is not supported.", "Use SQLite or PostgreSQL."
        ),
        "SF-JOURNAL-MEMORY": Code(
            (InvalidInput,), "The URL names a database in memory, which survives nothing.", "Give a path."
        ),
        "SF-JOURNAL-UNSOUND": Code(
            (JournalError,), "The database is damaged or is no journal.", "Restore it from a copy."
        ),
        "SF-JOURNAL-CUT": Code(
            (JournalError,),
            "Events that were acknowledged are no longer there.",
            "Restore the journal; the message says what else can be done.",
        ),
        "SF-JOURNAL-EDITED": Code(
            (JournalError,), "An event does not match its digest.", "Restore the journal from a copy."
        ),
        "SF-JOURNAL-GAP": Code(
            (JournalError,), "An event does not follow the one before.", "Restore the journal from a copy."
        ),
        "SF-JOURNAL-INDEX": Code(
            (JournalError,), "An event is indexed otherwise than it says.", "Restore the journal from a copy."
        ),
        "SF-JOURNAL-OBJECT": Code(
            (JournalError,),
            "The database holds a view or a trigger that is no part of a journal.",
            "It was edited: restore the journal from a copy.",
        ),
        "SF-JOURNAL-EVENT": Code(
            (JournalError,), "An event does not hold what its kind can hold.", "Restore the journal from a copy."
        ),
        "SF-JOURNAL-FORMAT": Code(
            (JournalError,),
            "The journal is in a format that this version does not read.",
            "Use the version of surefoot that wrote it, or a later one.",
        ),
        "SF-JOURNAL-SETTINGS": Code(
            (JournalError,),
            "The settings that the journal records cannot be used.",
            "Restore the journal, or use the version that wrote it.",
        ),
        "SF-JOURNAL-FINITE": Code(
            (JournalError,),
            "An event would hold NaN or infinity, and was not recorded.",
            "Report the defect; nothing was recorded.",
        ),
        "SF-JOURNAL-REPLACED": Code(
            (JournalError,),
            "The database was replaced, moved or deleted while it was in use.",
            "Restore it, or open it again if that was meant.",
        ),
        "SF-JOURNAL-FORK": Code(
            (JournalError,),
            "The deployment is used by a process that was forked from the one that opened it.",
            "Open it again in the new process.",
        ),
        "SF-JOURNAL-DISK": Code((JournalError,), "The disk does not keep what was written.", "Use another disk."),
        "SF-JOURNAL-UNAVAILABLE": Code(
            (JournalUnavailable,),
            "The database cannot be reached, read or written.",
            "Mend that and repeat the operation; every operation may be repeated.",
        ),
        "SF-JOURNAL-BUSY": Code((JournalUnavailable,), "Others keep the journal busy.", "Try again."),
        "SF-JOURNAL-LOG": Code(
            (JournalUnavailable,), "The file system does not support a write-ahead log.", "Use a local disk."
        ),
        "SF-JOURNAL-STOP": Code(
            (JournalUnavailable,),
            "Stop requests beside the journal cannot be read, written or removed.",
            "Mend the rights of that folder or table.",
        ),
        # ANCHOR
        "SF-ANCHOR-URL": Code(
            (InvalidInput,),
            "The anchor is neither a path nor a file:// URL.",
            "Mount the place as a folder and give its path.",
        ),
        "SF-ANCHOR-DAMAGED": Code((JournalError,), "The anchor does not match its checksum.", "Restore or delete it."),
        "SF-ANCHOR-CONTENTS": Code(
            (JournalError,), "The file holds something else than an anchor.", "Name another file."
        ),
        "SF-ANCHOR-OTHER": Code((JournalError,), "The anchor was written for another journal.", "Name another file."),
        "SF-ANCHOR-TAKEN": Code(
            (JournalError,),
            "The anchor of a new deployment remembers another one.",
            "Name another file, or restore the journal.",
        ),
        "SF-ANCHOR-UNAVAILABLE": Code(
            (JournalUnavailable,), "The anchor cannot be read or written.", "Mend that, or leave the anchor out."
        ),
        # REPLAY
        "SF-REPLAY": Code((ReplayError,), "A journal cannot be replayed.", "Read the message."),
        "SF-REPLAY-DIVERGED": Code(
            (ReplayError,),
            "Recomputing an event leads to something else than was recorded.",
            "Run verify, compare the library's version, or restore the journal.",
        ),
        "SF-REPLAY-FAILED": Code(
            (ReplayError,), "The consequences of an event cannot be computed.", "See the status and recover."
        ),
        "SF-REPLAY-ORDER": Code(
            (ReplayError,), "An event stands where it cannot stand.", "Restore the journal from a copy."
        ),
        # SERVICE
        "SF-SERVICE-OPEN": Code(
            (InvalidInput,),
            "Without a token only the loopback may be served.",
            "Set a token, or serve on the loopback.",
        ),
        "SF-SERVICE-ADDRESS": Code(
            (InvalidInput,), "The address is taken, or is none of this machine.", "Choose another host or port."
        ),
        "SF-SERVICE-TOKEN": Code(
            (InvalidInput,),
            "A token is too short, too long, or holds other than printable ASCII characters.",
            "Make one as the message shows.",
        ),
        "SF-SERVICE-TOKEN-LINE": Code(
            (InvalidInput,),
            "A line of the token file is not written as it must be.",
            "Write ROLE NAME TOKEN, separated by spaces.",
        ),
        "SF-SERVICE-TOKEN-READ": Code((InvalidInput,), "The token file cannot be read.", "Name another file."),
        "SF-SERVICE-TOKEN-FILE": Code(
            (InvalidInput,), "The token file is too large, or is no plain file.", "Name another file."
        ),
        "SF-SERVICE-TOKEN-RIGHTS": Code(
            (InvalidInput,),
            "The token file can be read by others, or belongs to somebody else.",
            "Run `chmod 600` on a file of your own.",
        ),
        # HTTP
        "SF-HTTP-REQUEST": Code((), "The request cannot be understood.", "Send HTTP as its rules say."),
        "SF-HTTP-ADDRESS": Code(
            (), "There is no such address, or nothing of that number.", "Take an address from `/openapi.json`."
        ),
        "SF-HTTP-METHOD": Code((), "The address does not take this method.", "Use the one in `/openapi.json`."),
        "SF-HTTP-HOST": Code(
            (),
            "Without a token only the loopback is served, and the request names another host.",
            "Use localhost, or set a token.",
        ),
        "SF-HTTP-TOKEN": Code(
            (), "The token is missing or wrong.", "Send `Authorization: Bearer` with the service's token."
        ),
        "SF-HTTP-ROLE": Code((), "The bearer of the token may not do this.", "Use the token of a role that may."),
        "SF-HTTP-KEY": Code(
            (),
            "The idempotency key is missing, or is not UTF-8.",
            "Send a new key with every request, and the same one to repeat it.",
        ),
        "SF-HTTP-TYPE": Code((), "The body is not said to be JSON.", "Set `Content-Type: application/json`."),
        "SF-HTTP-JSON": Code((), "The body is no JSON, or holds a key twice.", "Mend it."),
        "SF-HTTP-BODY": Code((), "The body is no object.", "Put it in braces."),
        "SF-HTTP-UNKNOWN": Code((), "The body holds a field that is not known.", "Check its spelling."),
        "SF-HTTP-MISSING": Code((), "The body lacks a field.", "Add it."),
        "SF-HTTP-LARGE": Code((), "The body is too large.", "Report fewer episodes at once."),
        "SF-HTTP-SLOW": Code((), "The request took too long to arrive.", "Send it at once."),
        "SF-HTTP-DISCONNECTED": Code(
            (), "The client went away before its body was complete.", "Send the request again."
        ),
        "SF-HTTP-RATE": Code((), "Requests come too fast.", "Wait as long as `Retry-After` says."),
        "SF-HTTP-BUSY": Code((), "Too much is asked at once.", "Repeat the request as it was, after `Retry-After`."),
        "SF-HTTP-INTERNAL": Code((), "The service failed.", "Look into its log, and try again."),
        # RECORD
        "SF-RECORD-MISSING": Code(
            (InvalidInput,),
            "A file that a finished experiment writes is missing.",
            "Name the directory of a finished experiment.",
        ),
        "SF-RECORD-UNREADABLE": Code(
            (InvalidInput,), "A file is not in the format that it must be in.", "Make it again."
        ),
        "SF-RECORD-SCHEMA": Code(
            (InvalidInput,), "A file is of another kind or version.", "Make it again with this version."
        ),
        "SF-RECORD-FIELD": Code(
            (InvalidInput,), "A field of a file is missing, empty, or of the wrong shape.", "Make the file again."
        ),
        # OUTPUT
        "SF-OUTPUT-EXISTS": Code(
            (OutputExists,), "What is to be written exists already and is never overwritten.", "Choose another name."
        ),
        "SF-OUTPUT-WRITE": Code((InvalidInput,), "The file cannot be written.", "Choose another place."),
        # EXTRA
        "SF-EXTRA-MISSING": Code(
            (MissingExtra,), "An optional dependency is not installed.", "Install the extra that the message names."
        ),
    }
)
"""Every code, by area."""


def page() -> str:
    """The page ``docs/errors.md``, in Markdown."""
    lines = [HEAD]
    for area, title in AREAS.items():
        lines += [f"## {title}", "", "| code | error | cause | remedy |", "|---|---|---|---|"]
        for code, (errors, cause, remedy) in CATALOGUE.items():
            if code.split("-")[1] == area:
                lines.append(
                    f"| `{code}` | {', '.join(f'`{e.__name__}`' for e in errors) or 'HTTP'} | {cause} | {remedy} |"
                )
        lines.append("")
    return "\n".join(lines).rstrip() + "\n"


if __name__ == "__main__":
    sys.stdout.write(page())

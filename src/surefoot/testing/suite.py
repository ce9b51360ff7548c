"""What all conformance suites share.

A suite is a class whose ``test_*`` methods check one rule each of a part that a user brings. Whoever inherits it says how the part is made:

    class TestMine(surefoot.testing.TaskFamilySuite):
        def make(self):
            return MyFamily()

pytest collects the rules of ``TestMine``; ``unittest`` does too, if ``unittest.TestCase`` is inherited as well. Nothing here imports either. A
broken rule is an :class:`AssertionError` whose message says name, rule, value and remedy. It is raised, never asserted, so that rules also hold
under ``python -O``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NoReturn

__all__ = ["Suite", "broken_rules", "refused", "require"]


class Suite:
    """Base of all suites.

    A test method starts from a part of its own: ``make`` must return a fresh one whenever it is called.
    """


def require(condition: bool, message: str) -> None:
    """Nothing, or an error.

    Raises:
        AssertionError: the condition does not hold; ``message`` says name, rule, value and remedy.
    """
    if not condition:
        _fail(message)


def refused(call: Callable[[], Any], error: type[Exception], what: str) -> None:
    """Whether a call is refused as it should be.

    Args:
        call: what must not be done.
        error: what must be raised.
        what: names the call in the message.

    Raises:
        AssertionError: nothing was raised, or another error.
    """
    try:
        call()
    except error:
        return
    except Exception as other:
        _fail(f"{what} must be refused with {error.__name__}, got {type(other).__name__}: {other}; raise that error")
    _fail(f"{what} must be refused with {error.__name__}, got no error; check what is reported before anything changes")


def broken_rules(suite: type[Suite]) -> dict[str, Exception]:
    """Run a suite without a test runner.

    Args:
        suite: a class that inherits one of the suites and says how its part is made.

    Returns:
        The error of every rule that is broken, by the name of its method, in the order of the methods; empty where all rules hold.
    """
    found: dict[str, Exception] = {}
    for name in sorted(name for name in dir(suite) if name.startswith("test_")):
        try:
            getattr(suite(), name)()
        except Exception as error:
            found[name] = error
    return found


def _fail(message: str) -> NoReturn:
    raise AssertionError(message)

"""What can go wrong between a question and its answer. None of it is ever a "yes", and none of it a "no"."""

from typing import Optional

from sifleet.models.problem import Problem


class SifleetError(Exception):
    """There is no answer: whatever was asked is unknown. Everything this package raises on its way is one."""


class Unavailable(SifleetError):
    """Nobody answered: the coordinator is down, starting, too slow, or not to be reached from here.

    A dashboard shows what it asked for as unknown then, never as missing. After a change was asked for, it may have
    happened all the same.
    """


class UnexpectedAnswer(SifleetError):
    """Something answered that is no coordinator, or one whose words this version does not know."""


class BadArgument(SifleetError, ValueError):
    """The address, the token or the certificates cannot be used; the message says which, and what to write."""


class ApiError(SifleetError):
    """The coordinator says why not. Decide by :attr:`code`, show :attr:`message` and :attr:`hint` to people."""

    def __init__(self, problem: Problem) -> None:
        """Keep what the coordinator said."""
        super().__init__(f"{problem.detail or problem.title} [{problem.code}]")
        self.problem = problem

    @property
    def code(self) -> str:
        """The stable code, such as ``unknown_image``."""
        return self.problem.code

    @property
    def status(self) -> int:
        """The HTTP status."""
        return self.problem.status

    @property
    def message(self) -> str:
        """What happened, with names."""
        return self.problem.detail or self.problem.title

    @property
    def hint(self) -> Optional[str]:
        """What to do about it."""
        return self.problem.hint

    @property
    def candidates(self) -> tuple[str, ...]:
        """Names that were perhaps meant."""
        return self.problem.candidates


class NotFound(ApiError):
    """Nobody ever heard of it: an image that no node holds, a partition that no source names (404)."""


class NotAllowed(ApiError):
    """The token is wrong or its role does not do (401, 403)."""


class TooManyRequests(ApiError):
    """Too often, or too much at once (429)."""

    def __init__(self, problem: Problem, retry_after: Optional[float] = None) -> None:
        """Keep what the coordinator said, and when to ask again."""
        super().__init__(problem)
        self.retry_after = retry_after
        """After how many seconds to ask again, if the coordinator said so."""


class NotReady(ApiError, Unavailable):
    """The coordinator starts, stops or is overloaded (503): ask again in a moment."""


def of_problem(problem: Problem, retry_after: Optional[float]) -> ApiError:
    """Choose the class by which callers tell refusals apart."""
    if problem.status in (401, 403):
        return NotAllowed(problem)
    if problem.status == 404:
        return NotFound(problem)
    if problem.status == 429:
        return TooManyRequests(problem, retry_after)
    if problem.status in (502, 503, 504):
        return NotReady(problem)
    return ApiError(problem)

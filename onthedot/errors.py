"""Every error that Onthedot raises on purpose.

OnthedotError
├── InvalidInput            what was sent cannot be accepted; names each field
│   └── InvalidSettings     an ONTHEDOT_* variable is wrong
├── NotFound                nothing has this id or name
├── Conflict                the request does not fit the present state
│   ├── TaskExists          the id is taken
│   ├── VersionMismatch     If-Match named another version
│   ├── CountMismatch       a change of many tasks named another number of them
│   └── KeyReused           an Idempotency-Key came again with another request
├── NotAllowed
│   ├── Unauthenticated     no key or session, or one that is not valid
│   └── Forbidden           a request that this caller may not make
└── Unavailable
    ├── DatabaseUnavailable Postgres does not answer
    │   └── DatabaseBusy    it answers, but others hold what was wanted
    └── EngineUnavailable   Temporal, or every worker, does not answer
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class FieldError:
    """One field that cannot be accepted.

    ``field`` is a dotted path as the client wrote it (``schedule.cron``), ``value`` what was
    given, ``problem`` what is wrong with it and ``remedy`` what would do.
    """

    field: str
    value: Any
    problem: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.field} = {self.value!r}: {self.problem}. {self.remedy}"


class OnthedotError(Exception):
    """Something went wrong in Onthedot."""

    def __init__(self, message: str | None = None) -> None:
        super().__init__(message or type(self).__doc__)


class InvalidInput(OnthedotError):
    """The request cannot be accepted as it is."""

    def __init__(self, *fields: FieldError) -> None:
        self.fields = fields
        super().__init__("; ".join(map(str, fields)) or None)

    @classmethod
    def raise_if_any(cls, fields: Iterable[FieldError]) -> None:
        """Raise with all of ``fields``, or return when there are none."""
        if found := tuple(fields):
            raise cls(*found)


class InvalidSettings(InvalidInput):
    """A setting is wrong."""


class NotFound(OnthedotError):
    """Nothing has this id or name."""


class Conflict(OnthedotError):
    """The request does not fit the present state."""

    def __init__(self, message: str | None = None, *fields: FieldError) -> None:
        self.fields = fields
        super().__init__(message)


class TaskExists(Conflict):
    """A task with this id exists already."""


class VersionMismatch(Conflict):
    """It has been changed since the version that was named."""


class CountMismatch(Conflict):
    """The filter finds another number of tasks than was named."""

    def __init__(self, message: str, count: int, sample: Sequence[str]) -> None:
        self.count, self.sample = count, list(sample)
        super().__init__(message)


class KeyReused(Conflict):
    """This Idempotency-Key was used for another request."""


class NotAllowed(OnthedotError):
    """The caller may not do this."""


class Unauthenticated(NotAllowed):
    """An API key or a signed-in session is needed."""


class Forbidden(NotAllowed):
    """This request is not accepted from here."""


class Unavailable(OnthedotError):
    """A part that is needed does not answer."""


class DatabaseUnavailable(Unavailable):
    """Postgres does not answer."""


class DatabaseBusy(DatabaseUnavailable):
    """Others hold in Postgres what was wanted: try again."""


class EngineUnavailable(Unavailable):
    """Temporal does not answer, or no worker does."""

"""What an error of the engine's client means for those who asked."""

import pytest
from temporalio.service import RPCError, RPCStatusCode

from onthedot.engine import translate
from onthedot.errors import EngineUnavailable


@pytest.mark.parametrize(
    "status",
    [
        RPCStatusCode.UNAVAILABLE,
        RPCStatusCode.DEADLINE_EXCEEDED,
        RPCStatusCode.CANCELLED,
        RPCStatusCode.RESOURCE_EXHAUSTED,
        RPCStatusCode.UNKNOWN,  # as the SDK says where the connection broke off
        RPCStatusCode.INTERNAL,
    ],
)
def test_an_engine_that_does_not_answer_may_be_asked_again(status: RPCStatusCode) -> None:
    translated = translate(RPCError("transport error", status, b""))
    assert isinstance(translated, EngineUnavailable)
    assert "transport error" in str(translated)


@pytest.mark.parametrize(
    "status",
    [RPCStatusCode.INVALID_ARGUMENT, RPCStatusCode.NOT_FOUND, RPCStatusCode.PERMISSION_DENIED],
)
def test_what_the_engine_refuses_stays_what_it_is(status: RPCStatusCode) -> None:
    refused = RPCError("no", status, b"")
    assert translate(refused) is refused

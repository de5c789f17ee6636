"""How workflow code is run: in the SDK's sandbox, with our own modules shared by all workflows."""

from temporalio.worker import WorkflowRunner
from temporalio.worker.workflow_sandbox import SandboxedWorkflowRunner, SandboxRestrictions

#: These keep no state at module level; loading them anew for each task would cost memory and time.
_SHARED = ("onthedot", "activities", "workflows", "pydantic", "pydantic_core", "psycopg", "aiohttp")


def workflow_runner() -> WorkflowRunner:
    return SandboxedWorkflowRunner(
        restrictions=SandboxRestrictions.default.with_passthrough_modules(*_SHARED)
    )

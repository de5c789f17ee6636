"""Which workflows there are, and how their code is run."""

from temporalio.worker import UnsandboxedWorkflowRunner, WorkflowRunner

from workflows import wait_for
from workflows.backlog import BacklogWorkflow
from workflows.limit import LimitWorkflow
from workflows.single_run import RunWorkflow
from workflows.task import TaskWorkflow
from workflows.upkeep import UpkeepWorkflow

wait_for.use_everywhere()
MAIN_WORKFLOWS: tuple[type, ...] = (TaskWorkflow, RunWorkflow, LimitWorkflow)
UPKEEP_WORKFLOWS: tuple[type, ...] = (UpkeepWorkflow, BacklogWorkflow)
WORKFLOWS = MAIN_WORKFLOWS + UPKEEP_WORKFLOWS


def workflow_runner() -> WorkflowRunner:
    """Without the SDK's sandbox: that workflows are deterministic is held by recorded histories.

    The sandbox cost a quarter of the workers' CPU a firing, and guards little once a project's own
    modules are shared by all workflows, as thousands of them need.
    """
    return UnsandboxedWorkflowRunner()

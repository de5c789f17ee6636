"""How workflow code is run."""

from temporalio.worker import UnsandboxedWorkflowRunner, WorkflowRunner


def workflow_runner() -> WorkflowRunner:
    """Without the SDK's sandbox: that workflows are deterministic is held by recorded histories.

    The sandbox cost a quarter of the workers' CPU a firing, and guards little once a project's own
    modules are shared by all workflows, as thousands of them need.
    """
    return UnsandboxedWorkflowRunner()

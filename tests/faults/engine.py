"""What the engine has on record of tasks."""

from temporalio.client import Client

from onthedot.engine import run_workflow_id, workflow_id
from tests.faults.cluster import Cluster


async def histories(cluster: Cluster, task_id: str) -> int:
    """How many a task has had: each time it continues as new begins another."""
    client = await Client.connect(cluster.settings.temporal)
    return (await client.count_workflows(f"WorkflowId = '{workflow_id(task_id)}'")).count


async def runs_apart(cluster: Cluster, task_id: str) -> int:
    """How many of its runs a workflow of its own has made."""
    client = await Client.connect(cluster.settings.temporal)
    query = f"WorkflowId STARTS_WITH '{run_workflow_id(task_id)}.'"
    return (await client.count_workflows(query)).count

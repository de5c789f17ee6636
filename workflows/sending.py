"""How workflows send word to each other: by local activities, until it has been sent."""

from datetime import timedelta

from temporalio.common import RetryPolicy

SENT_WITHIN = timedelta(seconds=4)
UNTIL_SENT = RetryPolicy(
    initial_interval=timedelta(milliseconds=200), maximum_interval=timedelta(seconds=10)
)

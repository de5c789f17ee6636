"""The durable workflows: one for each task, and one that keeps the installation in order."""

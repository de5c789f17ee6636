"""Postgres: the pool, the migrations, and the typed functions that run our SQL."""

#!/bin/bash
# Runs once, when the volume of Postgres is empty: a role and a database for Onthedot, and a role
# for Temporal, which creates its own two databases.
set -euo pipefail

psql --set=ON_ERROR_STOP=1 --username="$POSTGRES_USER" --dbname=postgres \
	--set=onthedot_password="$ONTHEDOT_DB_PASSWORD" \
	--set=temporal_password="$TEMPORAL_DB_PASSWORD" <<'SQL'
CREATE ROLE onthedot LOGIN PASSWORD :'onthedot_password';
CREATE DATABASE onthedot OWNER onthedot;
CREATE ROLE temporal LOGIN CREATEDB PASSWORD :'temporal_password';
SQL

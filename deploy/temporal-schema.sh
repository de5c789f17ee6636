#!/bin/sh
# Creates Temporal's two databases and brings their schemas up to this image's version. It may run
# again and again: that is also how an upgrade of Temporal gets its schema changes. Where and as
# whom is in SQL_HOST, SQL_PORT, SQL_USER, SQL_PASSWORD and SQL_PLUGIN.
set -eu

schemas=${TEMPORAL_SCHEMAS:-/etc/temporal/schema/postgresql/v12}

# What it is, its database.
bring_up_to_date() {
	temporal-sql-tool --db "$2" create-database
	# Leaves a version that is there alone.
	temporal-sql-tool --db "$2" setup-schema --version 0.0
	temporal-sql-tool --db "$2" update-schema --schema-dir "$schemas/$1/versioned"
}

bring_up_to_date temporal temporal
bring_up_to_date visibility temporal_visibility

#!/bin/sh
# Creates the namespace and our search attributes, and ends when both can be used. It may run again
# and again. Where is in TEMPORAL_ADDRESS, which one in TEMPORAL_NAMESPACE.
set -eu

keep=${TEMPORAL_RETENTION:-7d}

# Runs a command until it succeeds; gives up after two minutes.
eventually() {
	tries=60
	until "$@" >/dev/null 2>&1; do
		tries=$((tries - 1))
		if [ "$tries" -le 0 ]; then
			echo "Gave up on: $*" >&2
			"$@"
			return 1
		fi
		sleep 2
	done
}

is_known() {
	temporal operator search-attribute list | grep -qw "$1"
}

# Name, type.
ensure_attribute() {
	is_known "$1" || eventually temporal operator search-attribute create --name "$1" --type "$2"
	eventually is_known "$1"
}

echo "Waiting for Temporal at $TEMPORAL_ADDRESS"
eventually temporal operator cluster health

if ! temporal operator namespace describe --namespace "$TEMPORAL_NAMESPACE" >/dev/null 2>&1; then
	temporal operator namespace create --namespace "$TEMPORAL_NAMESPACE" --retention "$keep"
fi
# Each host of the cluster learns of a new namespace within ten seconds or so.
eventually temporal operator search-attribute list

ensure_attribute OnthedotState Keyword
ensure_attribute OnthedotAction Keyword
ensure_attribute OnthedotQueue Keyword
ensure_attribute OnthedotTags KeywordList
echo "Namespace $TEMPORAL_NAMESPACE is ready"

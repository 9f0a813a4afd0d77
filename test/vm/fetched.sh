#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
#
# fetched.sh THING ARG...: the path that fetch.sh prints for THING when it has these
# arguments.
set -eu

thing=$1
shift
found=$("$(dirname "$0")/fetch.sh" "$@")
echo "$found" | awk -v t="$thing" '$1 == t {print $2; n = 1} END {exit !n}'

#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# reproducible.sh is read by scripts whose files are the same for a commit wherever
# they are made. It is for Linux, and what the user has set does not count.
# SOURCE_DATE_EPOCH is the time that the files get: the commit's, which a source
# without git has on its own files.
#
# A .git further up is another project's.
SOURCE_DATE_EPOCH=$([ -e .git ] && git log -1 --format=%ct 2>/dev/null) ||
	SOURCE_DATE_EPOCH=$(stat -c %Y go.mod)
export SOURCE_DATE_EPOCH LC_ALL=C TZ=UTC
export GOOS=linux GOAMD64=v1 GOARM64=v8.0 GOEXPERIMENT='' GOFLAGS=-buildvcs=false
umask 022

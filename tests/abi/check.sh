#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# check.sh [--update] ABI-PROGRAM: the structs and constants are those of abi.expected. Since a
# release, lines may be added there, and those that are there stay as they are.
set -eu
update=
if [ "$1" = --update ]; then
	update=1
	shift
fi
expected=$(dirname "$0")/abi.expected
if [ -n "$update" ]; then
	"$1" | sed '1i # SPDX-License-Identifier: Apache-2.0' >"$expected"
fi
"$1" | sed '1i # SPDX-License-Identifier: Apache-2.0' | diff -u "$expected" - || {
	echo "the binary interface is not what abi.expected says (see check.sh)"
	exit 1
}

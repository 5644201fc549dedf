#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# check.sh ABI-PROGRAM HEADERS-FOLDER: the structs and constants are those of abi.expected. What is
# new is appended there; what is there stays as it is.
set -eu
expected=$(dirname "$0")/abi.expected
"$1" | sed '1i # SPDX-License-Identifier: Apache-2.0' | diff -u "$expected" - || {
	echo "the binary interface is not what abi.expected says (see check.sh)"
	exit 1
}
sed -n 's/^struct \(hvmi_[a-z_]*\) {.*/\1/p' "$2"/*.h | while read -r tag; do
	grep -q "^struct $tag " "$expected" || {
		echo "struct $tag is not in abi.c"
		exit 1
	}
done
grep -ohE '^#define HVMI_[A-Z0-9_]+ ([0-9]+u|UINT64_MAX)' "$2"/*.h | cut -d' ' -f2 |
while read -r name; do
	grep -q "^$name " "$expected" || {
		echo "$name is not in abi.c"
		exit 1
	}
done

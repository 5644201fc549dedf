#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# usage: on-guest.sh GUEST PROGRAM [ARGUMENT...]: run it with the guest's raw image for IMAGE, and the
# guest's folder in the environment.
set -eu
folder=$("$(dirname "$0")/guest.py" make "$1")
shift
for argument; do
	shift
	[ "$argument" = IMAGE ] && argument=$folder/ram.raw
	set -- "$@" "$argument"
done
HVMI_TEST_GUEST=$folder exec "$@"

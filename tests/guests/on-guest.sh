#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# usage: on-guest.sh GUEST PROGRAM [ARGUMENT...]: run it with the guest's raw image for IMAGE.
set -eu
folder=$("$(dirname "$0")/guest.py" make "$1")
shift
for argument; do
	shift
	[ "$argument" = IMAGE ] && argument=$folder/ram.raw
	set -- "$@" "$argument"
done
exec "$@"

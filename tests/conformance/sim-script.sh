#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# sim-script.sh CODE: prints the script (hvmi-sim(5)) of a machine whose vCPUs serve a mailbox at 0x10000.
# CODE is guest/code.S as a flat binary. guest/mailbox.h has the layout.
set -eu
bytes=$(wc -c <"$1")
magic=$(printf 'hvmi-probe-001\n\0' | od -An -v -tx1)
echo "arch x86
ram 0 640K
ram 1M 3M
ram 5M 64K
absent 0x507000 0x1000
bytes 0x10000$(echo $magic | sed 's/^/ /')
u32 0x10010 0x13 2 1 $bytes
u64 0x10020 0x11000 0x13000 0x15000 0x20000 0x8000 0x30000
load 0x11000 $1
load 0x13000 $1
load 0x15000 $1
u64 0x5000 0x6003
u64 0x6000 0x7003
u64 0x7000 0x83 0x200083 0x400083
u64 0x100000 0x1122334455667788"
for vcpu in 0 1; do
	echo "vcpu $vcpu cr0 0x80050033
vcpu $vcpu cr3 0x5000
vcpu $vcpu cr4 0x406b0
vcpu $vcpu xcr0 7
vcpu $vcpu cs.rights 0xa09b
vcpu $vcpu efer 0xd01
vcpu $vcpu sysenter_esp 0xfffffe0000003000
vcpu $vcpu gdtr.base 0xfffffe0000001000
vcpu $vcpu gdtr.limit 0x7f
vcpu $vcpu idtr.base 0xfffffe0000000000
vcpu $vcpu idtr.limit 0xfff
vcpu $vcpu ldtr.selector 0
vcpu $vcpu tr.selector 0x40"
done
echo "probe 0x10000"

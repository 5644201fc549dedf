# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=sh
xl info | sed -n 's/^\(xen_version\|virt_caps\|xen_caps\|free_memory\) *: /# \1: /p'
xl dmesg | grep -E 'VMX|SVM|HVM|HAP|altp2m' | sed 's/^/# /'
check "dom0 is the control domain" grep control_d /proc/xen/capabilities
check "the guest is up" guest_says guest "GUEST: up"
check "the guest ticks" guest_alive guest

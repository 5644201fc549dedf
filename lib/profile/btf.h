/* SPDX-License-Identifier: Apache-2.0 */
/* BTF, the kernel's compact type format: Documentation/bpf/btf.rst, include/uapi/linux/btf.h. */
#ifndef HVMI_LIB_BTF_H
#define HVMI_LIB_BTF_H

#include "profile/profile.h"

/* Most bytes of a BTF blob that are believed. */
#define BTF_BYTES_MAX (64u * 1024 * 1024)
/* Bytes that btf_probe() wants to see, where the guest has them. */
#define BTF_PROBE_BYTES 64u

/*
 * Judge a header: `len` bytes (at most BTF_PROBE_BYTES are looked at) that may start a blob.
 * Returns 0 and the length of the whole blob, header to the last section's end, or -EBADMSG.
 */
int btf_probe(const void *bytes, size_t len, uint64_t *blob_len_ret);

/*
 * Parse a whole blob into an empty type graph and freeze it. Validates everything before it is believed:
 * -EBADMSG with a sentence. `blob` is from malloc() and the loader's from now on, whatever comes of it:
 * its strings stay, as the graph's names.
 */
int btf_load(void *blob, size_t len, struct types *ret, struct hvmi_error *err);

#endif

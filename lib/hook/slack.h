/* SPDX-License-Identifier: Apache-2.0 */
/* Room for code in a kernel. */
#ifndef HVMI_LIB_SLACK_H
#define HVMI_LIB_SLACK_H

#include "os/os.h"

/* What padding consists of: zeros and INT3. */
bool slack_is_padding(const uint8_t *bytes, size_t len);

/*
 * Padding behind the last byte of the kernel image's executable memory, up to the end of its page: no
 * symbol is in it, it begins at a multiple of 16, 16 bytes or more behind what is used. -ENOTSUP: there is
 * none of `len` bytes; *largest_ret: the most that there is.
 */
int slack_find(struct hvmi_os *os, struct hvmi_space *space, size_t len, uint64_t *gva_ret,
	       size_t *largest_ret);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/* Inside the instruction layer. */
#ifndef HVMI_LIB_INSN_H
#define HVMI_LIB_INSN_H

#include <hvmi/insn.h>

#include "util/util.h"

/*
 * One decoder: 0, or -EBADMSG: no instruction; -EOVERFLOW: it goes on behind `len`; -ENOMEM. ret has
 * gva, mode, and zeros. `len` is 1 to HVMI_INSN_BYTES.
 */
struct insn_decoder {
	int (*decode)(struct hvmi_insn *ret, const uint8_t *bytes, size_t len);
	int (*text)(const struct hvmi_insn *insn, char *buf, size_t size);
	const char *missing;	/* the library to build with, if the functions are NULL */
};
extern const struct insn_decoder insn_decoder_x86, insn_decoder_arm64;

/* The mode's decoder. -EINVAL: no such mode; -ENOTSUP: it was not built. */
int insn_decoder_find(uint32_t mode, uint64_t gva, const struct insn_decoder **ret,
		      struct hvmi_error *err);

/* Copies what a caller gives as an instruction. -EINVAL: it is none. */
int insn_copy(struct hvmi_insn *to, const struct hvmi_insn *from, struct hvmi_error *err);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/* Range headers, which LiME and AVML share. */
#ifndef HVMI_BACKENDS_DUMP_LIME_H
#define HVMI_BACKENDS_DUMP_LIME_H

#include "image.h"

#define LIME_MAGIC 0x4c694d45u
#define AVML_MAGIC 0x4c4d5641u
#define LIME_HEADER_BYTES 32u

struct lime_header {
	bool compressed;	/* a block of AVML's version 2 */
	uint64_t gpa, len;
};

int lime_header(const struct dump_parse *parse, uint64_t offset, struct lime_header *ret);
/* Whether nothing but padding follows. */
bool lime_at_end(const struct dump_parse *parse, uint64_t offset);

#endif

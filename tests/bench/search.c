/* SPDX-License-Identifier: Apache-2.0 */
/* Searches of all memory. */
#include "bench.h"

#define SOUGHT 16u

static int ignore(void *context, uint32_t pattern, uint64_t address)
{
	(void)context;
	(void)pattern;
	(void)address;
	return 0;
}

static void search(void *context)
{
	const struct image *image = context;
	static const char *const words[SOUGHT] = {
		"Linux version ", "BOOT_IMAGE=", "VMCOREINFO", "swapper/0", "/bin/bash", "root:x:0:0",
		"-----BEGIN", "SSH-2.0-", "HTTP/1.1", "PATH=/usr", "\177ELF\2\1\1", "\x9f\xeb\1\0",
		"systemd-journald", "password", "\x0f\x05\x48\x3d", "module_layout",
	};
	struct hvmi_pattern patterns[SOUGHT];
	for (uint32_t i = 0; i < SOUGHT; i++)
		patterns[i] = (struct hvmi_pattern){ .bytes = words[i],
						     .len = (uint32_t)__builtin_strlen(words[i]) };
	/* The one with a NUL in it. */
	patterns[11].len = 4;
	struct hvmi_search s = { .size = sizeof(s), .patterns = patterns, .pattern_count = SOUGHT,
				 .found = ignore };
	hvmi_search(image->vm, &s, NULL, NULL);
}

/* Nothing but loads of the bytes that the search looks at. */
static void touch_all(void *context)
{
	const struct image *image = context;
	uint64_t sums[8] = { 0 };
	struct hvmi_range data;
	for (uint64_t gpa = 0; hvmi_vm_next_data(image->vm, gpa, &data) == 0;
	     gpa = data.gpa + data.len)
		for (uint64_t at = data.gpa; at + 64 <= data.gpa + data.len; at += 64)
			for (uint32_t i = 0; i < 8; i++)
				sums[i] += raw_load(image->bytes, at + 8 * i);
	for (uint32_t i = 0; i < 8; i++)
		sink(sums[i]);
}

void bench_search(struct image *image)
{
	compare("scan_16", search, touch_all, image, 1, "loading the same memory");
}

/* SPDX-License-Identifier: Apache-2.0 */
#include "hook/slack.h"

/* Runs of the image that are looked at; more is no image. */
#define RUNS_MAX 4096u
#define DISTANCE 16u

static bool is_padding(uint8_t byte)
{
	return byte == 0 || byte == 0xcc;
}

bool slack_is_padding(const uint8_t *bytes, size_t len)
{
	for (size_t i = 0; i < len; i++)
		if (!is_padding(bytes[i]))
			return false;
	return true;
}

/* Padding at the end of a page that ends executable memory; 0: none. */
static uint64_t padding_from(const struct hvmi_os *os, struct hvmi_space *space, uint64_t end)
{
	uint8_t page[FRAME_SIZE];
	struct hvmi_symbol symbol = { .size = sizeof(symbol) };
	if (hvmi_space_read(space, end - FRAME_SIZE, page, FRAME_SIZE, NULL))
		return 0;
	size_t used = FRAME_SIZE;
	while (used > 0 && is_padding(page[used - 1]))
		used--;
	/* A page that is all padding may be there for something else. */
	uint64_t from = (end - FRAME_SIZE + used + 2 * DISTANCE - 1) & ~(uint64_t)(DISTANCE - 1);
	if (used == 0 || from >= end)
		return 0;
	/* Marks of the linker's stand where the used part ends. */
	if (hvmi_profile_symbol_at(os->profile, end - 1, &symbol, NULL) == 0 && symbol.gva > from)
		return 0;
	return from;
}

int slack_find(struct hvmi_os *os, struct hvmi_space *space, size_t len, uint64_t *gva_ret,
	       size_t *largest_ret)
{
	const uint64_t last = os->info.kernel_gva + os->info.kernel_len - 1;
	uint64_t cursor = os->info.kernel_gva;
	struct hvmi_mapping run = { .size = sizeof(run) };
	int rc = 0;
	*largest_ret = 0;
	for (uint32_t i = 0; i < RUNS_MAX && cursor <= last && cursor != UINT64_MAX; i++) {
		rc = hvmi_space_next_mapping(space, &cursor, last, &run);
		if (rc != 1)
			break;
		if (!(run.rights & HVMI_RIGHT_EXECUTE) || run.rights & HVMI_RIGHT_USER)
			continue;
		uint64_t end = run.gva + run.len, from = padding_from(os, space, end);
		if (!from)
			continue;
		*largest_ret = MAX(*largest_ret, (size_t)(end - from));
		if (end - from < len)
			continue;
		*gva_ret = from;
		return 0;
	}
	return rc < 0 && rc != -EOVERFLOW ? rc : -ENOTSUP;
}

/* SPDX-License-Identifier: Apache-2.0 */
#include "os/linux/kallsyms.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Where the builder of the corpus has its tables. */
#define GPA 0x5100000ull
#define GVA 0xffffffff93200000ull
#define STEXT 0xffffffff93000000ull
#define FINDS 8u

/* The input as memory; of a guest that runs, if its last bytes say so. */
struct memory {
	struct bytes_source bytes;
	uint32_t reads, change_at, change_byte;
};

static int memory_read(void *context, uint64_t address, void *buf, size_t len)
{
	struct memory *memory = context;
	int ret = bytes_source_read(&memory->bytes, address, buf, len);

	if (++memory->reads == memory->change_at && ret == 0 && len > 0)
		((uint8_t *)buf)[memory->change_byte % len] ^= 0x81;
	return ret;
}

static void try_table(const struct source *source, uint64_t token_table)
{
	static const struct kallsyms_hints hints[] = {
		{ 0 },
		{ .have_shift = true, .shift = GVA - GPA,
		  .image_gva = STEXT, .image_len = 16 * MIB },
		{ .stext_gva = STEXT },
		{ .stext_gva = STEXT + 0x1000000 },
	};
	struct kallsyms found;

	if (kallsyms_locate(source, token_table, &found) < 0)
		return;
	for (uint32_t i = 0; i < ARRAY_SIZE(hints); i++) {
		struct symbols symbols = { 0 };
		struct hvmi_error err;
		uint64_t gva;
		if (kallsyms_load(source, &found, &hints[i], &symbols, &err) == 0)
			symbols_find(&symbols, "_stext", &gva);
		symbols_deinit(&symbols);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct memory memory = { .bytes = { data, size, GPA } };
	struct source source = { memory_read, &memory };
	size_t at = 0;

	if (size < 4)
		return 0;
	memory.change_at = data[size - 1];
	memory.change_byte = load_le16(data + size - 3);
	for (uint32_t i = 0; i < FINDS && kallsyms_scan(data, size, &at) == 0; i++, at++)
		try_table(&source, GPA + at);
	/* And without the scan, which looks at the tokens first. */
	try_table(&source, GPA + load_le16(data));
	return 0;
}

/* SPDX-License-Identifier: Apache-2.0 */
#include "os/linux/vmcoreinfo.h"

static const char first_key[] = "OSRELEASE=";
#define FIRST_KEY_LEN (sizeof(first_key) - 1)
/* An ELF note header and "VMCOREINFO\0\0". */
#define NOTE_HEADER_LEN 24u

int vmcoreinfo_probe(const void *page, size_t len, size_t *offset_ret)
{
	const uint8_t *bytes = page;
	if (len >= FIRST_KEY_LEN && memcmp(bytes, first_key, FIRST_KEY_LEN) == 0) {
		*offset_ret = 0;
		return 0;
	}
	if (len >= NOTE_HEADER_LEN + FIRST_KEY_LEN && memcmp(bytes + 12, "VMCOREINFO", 11) == 0 &&
	    memcmp(bytes + NOTE_HEADER_LEN, first_key, FIRST_KEY_LEN) == 0) {
		*offset_ret = NOTE_HEADER_LEN;
		return 0;
	}
	return -ENOENT;
}

/* A number up to the end of its line: decimal with a sign, or hexadecimal without a prefix. */
static bool parse_number(const char *text, const char *end, unsigned base, uint64_t *ret)
{
	bool negative = base == 10 && text < end && *text == '-';
	uint64_t value = 0;
	const char *digit = text + negative;
	if (digit == end)
		return false;
	for (; digit < end; digit++) {
		unsigned d = *digit >= '0' && *digit <= '9' ? (unsigned)(*digit - '0') :
			     *digit >= 'a' && *digit <= 'f' ? (unsigned)(*digit - 'a' + 10) : 16;
		if (d >= base || __builtin_mul_overflow(value, base, &value) ||
		    __builtin_add_overflow(value, d, &value))
			return false;
	}
	*ret = negative ? 0 - value : value;
	return true;
}

static void take_line(const char *line, const char *end, struct vmcoreinfo *info)
{
	static const struct {
		const char *key;
		unsigned base;
		size_t value, have;
	} numbers[] = {
#define NUMBER(text, number_base, field)                                                           \
	{ text, number_base, offsetof(struct vmcoreinfo, field),                                   \
	  offsetof(struct vmcoreinfo, have_##field) }
		NUMBER("SYMBOL(_stext)", 16, stext),
		NUMBER("SYMBOL(swapper_pg_dir)", 16, root),
		NUMBER("NUMBER(phys_base)", 10, phys_base),
		NUMBER("KERNELOFFSET", 16, slide),
#undef NUMBER
	};
	const char *equals = memchr(line, '=', (size_t)(end - line));
	if (!equals)
		return;
	size_t key_len = (size_t)(equals - line);
	for (size_t i = 0; i < ARRAY_SIZE(numbers); i++)
		if (strlen(numbers[i].key) == key_len && !memcmp(line, numbers[i].key, key_len)) {
			uint64_t value;
			if (!parse_number(equals + 1, end, numbers[i].base, &value))
				return;
			memcpy((char *)info + numbers[i].value, &value, sizeof(value));
			*(bool *)((char *)info + numbers[i].have) = true;
			return;
		}
	static const char l5[] = "NUMBER(pgtable_l5_enabled)";
	if (key_len == sizeof(l5) - 1 && !memcmp(line, l5, key_len) && end - equals == 2) {
		info->levels = equals[1] == '1' ? 5 : 4;
		info->have_levels = true;
	}
}

int vmcoreinfo_parse(const void *bytes, size_t len, struct vmcoreinfo *ret)
{
	const char *text = bytes, *end = text + strnlen(text, MIN(len, VMCOREINFO_BYTES_MAX));
	if ((size_t)(end - text) < FIRST_KEY_LEN || memcmp(text, first_key, FIRST_KEY_LEN) != 0)
		return -EBADMSG;
	struct vmcoreinfo info = { 0 };
	for (const char *line = text; line < end;) {
		const char *newline = memchr(line, '\n', (size_t)(end - line));
		const char *line_end = newline ? newline : end;
		if (line == text) {
			size_t n = MIN((size_t)(line_end - line) - FIRST_KEY_LEN,
				       sizeof(info.release) - 1);
			memcpy(info.release, line + FIRST_KEY_LEN, n);
		} else {
			take_line(line, line_end, &info);
		}
		line = newline ? newline + 1 : end;
	}
	*ret = info;
	return 0;
}

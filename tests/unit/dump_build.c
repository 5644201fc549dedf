/* SPDX-License-Identifier: Apache-2.0 */
#include "dump_build.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#ifdef HVMI_HAVE_SNAPPY
#include <snappy-c.h>
#endif
#ifdef HVMI_HAVE_ZLIB
#include <zlib.h>
#endif
#ifdef HVMI_HAVE_ZSTD
#include <zstd.h>
#endif

void blob_put(struct blob *blob, const void *bytes, size_t len)
{
	if (len > blob->capacity - blob->len) {
		blob->capacity = (blob->len + len) * 2;
		blob->bytes = realloc(blob->bytes, blob->capacity);
		ck_assert_ptr_nonnull(blob->bytes);
	}
	if (bytes && len)
		memcpy(blob->bytes + blob->len, bytes, len);
	else if (len)
		memset(blob->bytes + blob->len, 0, len);
	blob->len += len;
}

void blob_zeros(struct blob *blob, size_t len)
{
	blob_put(blob, NULL, len);
}

void blob_set(struct blob *blob, size_t offset, uint64_t value, size_t bytes)
{
	ck_assert_uint_le(offset + bytes, blob->len);
	for (size_t i = 0; i < bytes; i++)
		blob->bytes[offset + i] = (uint8_t)(value >> 8 * i);
}

void blob_number(struct blob *blob, uint64_t value, size_t bytes)
{
	blob_zeros(blob, bytes);
	blob_set(blob, blob->len - bytes, value, bytes);
}

void blob_align(struct blob *blob, size_t to)
{
	blob_zeros(blob, (to - blob->len % to) % to);
}

uint8_t memory_at(uint64_t gpa)
{
	/* Every other page compresses well. */
	if (gpa / PAGE % 2)
		return (uint8_t)(gpa / PAGE);
	uint64_t x = (gpa + 1) * 0x9e3779b97f4a7c15ull;
	return (uint8_t)((x ^ x >> 29) * 0xbf58476d1ce4e5b9ull >> 56);
}

void blob_memory(struct blob *blob, uint64_t gpa, size_t len)
{
	blob_zeros(blob, len);
	for (size_t i = 0; i < len; i++)
		blob->bytes[blob->len - len + i] = memory_at(gpa + i);
}

void blob_free(struct blob *blob)
{
	free(blob->bytes);
	*blob = (struct blob){ 0 };
}

void put_note(struct blob *blob, const char *name, uint32_t counted, uint32_t type,
	      const void *desc, size_t len)
{
	blob_number(blob, counted, 4);
	blob_number(blob, len, 4);
	blob_number(blob, type, 4);
	blob_put(blob, name, strlen(name) + 1);
	blob_align(blob, 4);
	blob_put(blob, desc, len);
	blob_align(blob, 4);
}

static void put_segment(struct blob *blob, bool narrow, uint32_t type, uint64_t offset,
			uint64_t gva, uint64_t gpa, uint64_t len)
{
	size_t n = narrow ? 4 : 8;
	blob_number(blob, type, 4);
	if (!narrow)
		blob_number(blob, 4, 4);	/* p_flags */
	blob_number(blob, offset, n);
	blob_number(blob, gva, n);
	blob_number(blob, gpa, n);
	blob_number(blob, len, n);
	blob_number(blob, len, n);
	if (narrow)
		blob_number(blob, 4, 4);
	blob_number(blob, 0, n);
}

void put_core(struct blob *blob, const struct core *core)
{
	size_t n = core->narrow ? 4 : 8, header = core->narrow ? 52 : 64;
	size_t section = core->narrow ? 40 : 64, segment = core->narrow ? 32 : 56;
	size_t count = core->load_count + (core->notes != NULL);
	size_t segments_at = header + (core->extended ? section : 0);
	blob_put(blob, "\177ELF", 4);
	blob_number(blob, core->narrow ? 1 : 2, 1);
	blob_number(blob, 1, 1);
	blob_number(blob, 1, 1);
	blob_zeros(blob, 9);
	blob_number(blob, core->type ? core->type : 4, 2);
	blob_number(blob, core->machine ? core->machine : 62, 2);
	blob_number(blob, 1, 4);
	blob_number(blob, 0, n);
	blob_number(blob, segments_at, n);
	blob_number(blob, core->extended ? header : 0, n);
	blob_number(blob, 0, 4);
	blob_number(blob, header, 2);
	blob_number(blob, segment, 2);
	blob_number(blob, core->extended ? 0xffff : count, 2);
	blob_number(blob, section, 2);
	blob_number(blob, core->extended, 2);
	blob_number(blob, 0, 2);
	if (core->extended) {
		blob_zeros(blob, section);
		blob_set(blob, header + (core->narrow ? 28 : 44), count, 4);
	}
	size_t notes_at = segments_at + count * segment;
	size_t at = notes_at + (core->notes ? core->notes->len : 0) + core->odd;
	if (core->notes)
		put_segment(blob, core->narrow, 4, notes_at, 0, 0, core->notes->len);
	for (size_t i = 0; i < core->load_count; i++) {
		const struct load *load = &core->loads[i];
		put_segment(blob, core->narrow, 1, load->offset ? load->offset : at, load->gva,
			    load->gpa, load->len);
		at += load->offset ? 0 : load->len - load->absent;
	}
	if (core->notes)
		blob_put(blob, core->notes->bytes, core->notes->len);
	blob_zeros(blob, core->odd);
	for (size_t i = 0; i < core->load_count; i++)
		if (!core->loads[i].offset)
			blob_memory(blob, core->loads[i].gpa,
				    core->loads[i].len - core->loads[i].absent);
}

/* The order of sections is that of tools/libs/ctrl/xc_core.c. */
void put_xen_core(struct blob *blob, const struct xen_core *core)
{
	static const char strings[] = "\0.shstrtab\0.note.Xen\0.xen_prstatus\0.xen_pages\0.xen_pfn\0"
				      ".xen_p2m";
	static const uint32_t names[] = { 0, 1, 11, 21, 35, 46, 55 };
	static const uint32_t types[] = { 0, 3, 7, 1, 1, 1 };
	struct blob notes = { 0 };
	uint64_t header[4] = { core->pv ? 0xf00febed : 0xf00febee, core->vcpus, core->pages, PAGE };
	uint64_t version = 1;
	put_note(&notes, "Xen", 4, 0x2000000, NULL, 0);
	put_note(&notes, "Xen", 4, 0x2000001, header, sizeof(header));
	put_note(&notes, "Xen", 4, 0x2000003, &version, sizeof(version));
	uint64_t lens[6] = { 0, sizeof(strings), notes.len, core->context_len * core->vcpus,
			     core->pages * PAGE, core->pages * (core->pv ? 16 : 8) };
	uint64_t offsets[6] = { 0 };
	offsets[2] = 64 + 6 * 64;
	offsets[3] = offsets[2] + lens[2];
	offsets[4] = (offsets[3] + lens[3] + PAGE - 1) / PAGE * PAGE;
	offsets[5] = offsets[4] + lens[4];
	offsets[1] = offsets[5] + lens[5];
	blob_put(blob, "\177ELF\2\1\1\0\0\0\0\0\0\0\0\0", 16);
	blob_number(blob, 4, 2);
	blob_number(blob, 62, 2);
	blob_number(blob, 1, 4);
	blob_zeros(blob, 16);
	blob_number(blob, 64, 8);
	blob_number(blob, 0, 4);
	blob_number(blob, 64, 2);
	blob_number(blob, 56, 2);
	blob_number(blob, 0, 2);
	blob_number(blob, 64, 2);
	blob_number(blob, 6, 2);
	blob_number(blob, 1, 2);
	for (size_t i = 0; i < 6; i++) {
		blob_number(blob, names[i == 5 && core->pv ? 6 : i], 4);
		blob_number(blob, types[i], 4);
		blob_zeros(blob, 16);
		blob_number(blob, offsets[i], 8);
		blob_number(blob, lens[i], 8);
		blob_zeros(blob, 24);
	}
	blob_put(blob, notes.bytes, notes.len);
	blob_put(blob, core->contexts, lens[3]);
	blob_align(blob, PAGE);
	for (size_t i = 0; i < core->pages; i++)
		blob_memory(blob, core->pfns[i] * PAGE, PAGE);
	for (size_t i = 0; i < core->pages; i++) {
		blob_number(blob, core->pfns[i], 8);
		if (core->pv)
			blob_number(blob, core->pfns[i] + 0x123456, 8);
	}
	blob_put(blob, strings, sizeof(strings));
	blob_free(&notes);
}

static void put_range_header(struct blob *blob, uint32_t magic, uint32_t version, uint64_t gpa,
			     size_t len)
{
	blob_number(blob, magic, 4);
	blob_number(blob, version, 4);
	blob_number(blob, gpa, 8);
	blob_number(blob, gpa + len - 1, 8);
	blob_number(blob, 0, 8);
}

void put_lime(struct blob *blob, uint64_t gpa, size_t len)
{
	put_range_header(blob, 0x4c694d45, 1, gpa, len);
	blob_memory(blob, gpa, len);
}

/* Bit by bit, so that it shares nothing with what is tested. */
static uint32_t slow_masked_crc(const uint8_t *bytes, size_t len)
{
	uint32_t crc = ~0u;
	for (size_t i = 0; i < len; i++) {
		crc ^= bytes[i];
		for (int bit = 0; bit < 8; bit++)
			crc = crc >> 1 ^ (crc & 1 ? 0x82f63b78u : 0);
	}
	crc = ~crc;
	return (crc >> 15 | crc << 17) + 0xa282ead8u;
}

static size_t pack(const uint8_t *bytes, size_t len, uint8_t *packed, size_t size)
{
#ifdef HVMI_HAVE_SNAPPY
	ck_assert_int_eq(snappy_compress((const char *)bytes, len, (char *)packed, &size),
			 SNAPPY_OK);
	return size;
#else
	(void)bytes;
	(void)len;
	(void)packed;
	ck_abort_msg("built without snappy");
	return size;
#endif
}

static void put_chunk(struct blob *blob, uint64_t gpa, size_t len, bool stored)
{
	static uint8_t plain[65536], packed[80000];
	size_t size = len;
	for (size_t i = 0; i < len; i++)
		plain[i] = memory_at(gpa + i);
	if (!stored)
		size = pack(plain, len, packed, sizeof(packed));
	blob_number(blob, stored, 1);
	blob_number(blob, size + 4, 3);
	blob_number(blob, slow_masked_crc(plain, len), 4);
	blob_put(blob, stored ? plain : packed, size);
}

void put_avml(struct blob *blob, uint64_t gpa, size_t len, const struct chunks *chunks)
{
	static const struct chunks usual = { 0 };
	if (!chunks)
		chunks = &usual;
	put_range_header(blob, 0x4c4d5641, 2, gpa, len);
	size_t start = blob->len;
	blob_put(blob, "\xff\6\0\0sNaPpY", 10);
	for (size_t done = 0, n; done < len; done += n) {
		n = chunks->plain ? chunks->plain : 65536;
		n = n < len - done ? n : len - done;
		put_chunk(blob, gpa + done, n, chunks->stored);
		if (chunks->skippable)
			blob_put(blob, "\xfe\3\0\0abc\x80\0\0\0", 11);
	}
	blob_number(blob, blob->len - start, 8);
}

static void put_bitmap(struct blob *blob, const struct kdump *kdump, bool (*in)(uint64_t pfn))
{
	size_t at = blob->len;
	blob_zeros(blob, (kdump->frames + 8 * PAGE - 1) / (8 * PAGE) * PAGE);
	for (uint64_t pfn = 0; pfn < kdump->frames; pfn++)
		if (in(pfn))
			blob->bytes[at + pfn / 8] |= (uint8_t)(1 << pfn % 8);
}

static void put_kdump_headers(struct blob *blob, const struct kdump *kdump)
{
	size_t fields = kdump->narrow ? 416 : 428, sub = PAGE;
	size_t bitmap = (kdump->frames + 8 * PAGE - 1) / (8 * PAGE);
	blob_put(blob, "KDUMP   ", 8);
	blob_number(blob, 6, 4);
	blob_zeros(blob, 2 * PAGE - 12);
	memcpy(blob->bytes + 12, "Linux", 5);
	memcpy(blob->bytes + 12 + 4 * 65, kdump->narrow ? "i686" : "x86_64", 4 + 2 * !kdump->narrow);
	blob_set(blob, fields, PAGE, 4);
	blob_set(blob, fields + 4, 3, 4);	/* the sub-header's block and what follows */
	blob_set(blob, fields + 8, 2 * bitmap, 4);
	blob_set(blob, fields + 12, kdump->frames, 4);
	blob_set(blob, fields + 32, 1, 4);
	size_t notes = kdump->notes ? kdump->notes->len : 0;
	size_t info = kdump->vmcoreinfo ? strlen(kdump->vmcoreinfo) : 0;
	ck_assert_uint_le(notes + info, 2 * PAGE);
	if (notes) {
		blob_set(blob, sub + (kdump->narrow ? 32 : 48), blob->len, 8);
		blob_set(blob, sub + (kdump->narrow ? 40 : 56), notes, kdump->narrow ? 4 : 8);
		blob_put(blob, kdump->notes->bytes, notes);
	}
	if (info) {
		blob_set(blob, sub + (kdump->narrow ? 20 : 32), blob->len, 8);
		blob_set(blob, sub + (kdump->narrow ? 28 : 40), info, kdump->narrow ? 4 : 8);
		blob_put(blob, kdump->vmcoreinfo, info);
	}
	blob_set(blob, sub + (kdump->narrow ? 72 : 96), kdump->frames, 8);
	blob_zeros(blob, 4 * PAGE - blob->len);
}

/* Nothing but literals, or one byte and a copy of it: LZO1X as lzo.rst of Linux has it. */
static size_t pack_lzo(const uint8_t *page, uint8_t *packed)
{
	uint8_t *to = packed;
	bool constant = memcmp(page, page + 1, PAGE - 1) == 0;
	if (constant) {
		*to++ = 17 + 5;
		memcpy(to, page, 5);
		to += 5;
		*to++ = 32;		/* 2 + 31 + 15 * 255 + 233 = 4096 - 5 */
	} else {
		*to++ = 0;		/* 3 + 15 + 15 * 255 + 253 = 4096 */
	}
	memset(to, 0, 15);
	to += 15;
	*to++ = constant ? 233 : 253;
	memcpy(to, constant ? (const uint8_t *)"\0\0" : page, constant ? 2 : PAGE);
	to += constant ? 2 : PAGE;
	memcpy(to, "\x11\0\0", 3);
	return (size_t)(to + 3 - packed);
}

/* Of those methods that are here, one that depends on the page. Returns its flag. */
static uint32_t pack_page(uint64_t pfn, const uint8_t *page, uint8_t *packed, size_t *len_ret)
{
	switch (pfn % 5) {
	case 1:
		*len_ret = pack_lzo(page, packed);
		return 2;
#ifdef HVMI_HAVE_SNAPPY
	case 2:
		*len_ret = pack(page, PAGE, packed, 2 * PAGE);
		return 4;
#endif
#ifdef HVMI_HAVE_ZLIB
	case 3: {
		uLongf len = 2 * PAGE;
		ck_assert_int_eq(compress(packed, &len, page, PAGE), Z_OK);
		*len_ret = len;
		return 1;
	}
#endif
#ifdef HVMI_HAVE_ZSTD
	case 4:
		*len_ret = ZSTD_compress(packed, 2 * PAGE, page, PAGE, 1);
		ck_assert_int_eq(ZSTD_isError(*len_ret), 0);
		return 0x20;
#endif
	default:
		memcpy(packed, page, PAGE);
		*len_ret = PAGE;
		return 0;
	}
}

void put_kdump(struct blob *blob, const struct kdump *kdump)
{
	put_kdump_headers(blob, kdump);
	put_bitmap(blob, kdump, kdump->ram);
	put_bitmap(blob, kdump, kdump->dumped);
	uint64_t dumped = 0;
	for (uint64_t pfn = 0; pfn < kdump->frames; pfn++)
		dumped += kdump->dumped(pfn);
	size_t descriptor = blob->len;
	blob_zeros(blob, dumped * 24);
	size_t zeros = blob->len;
	if (kdump->zeros)
		blob_zeros(blob, PAGE);
	for (uint64_t pfn = 0; pfn < kdump->frames; pfn++) {
		uint8_t plain[PAGE], packed[2 * PAGE];
		size_t len = PAGE, at = blob->len;
		uint32_t flags = 0;
		if (!kdump->dumped(pfn))
			continue;
		for (size_t i = 0; i < PAGE; i++)
			plain[i] = memory_at(pfn * PAGE + i);
		if (kdump->zeros && pfn % 16 == 0) {
			at = zeros;
		} else if (kdump->compressed) {
			flags = pack_page(pfn, plain, packed, &len);
			blob_put(blob, packed, len);
		} else {
			blob_put(blob, plain, len);
		}
		blob_set(blob, descriptor, at, 8);
		blob_set(blob, descriptor + 8, len, 4);
		blob_set(blob, descriptor + 12, flags, 4);
		descriptor += 24;
	}
}

static void put_be64(struct blob *blob, uint64_t value)
{
	blob_number(blob, __builtin_bswap64(value), 8);
}

static void put_record(struct blob *blob, const struct blob *ordered, size_t at, size_t len)
{
	put_be64(blob, at);
	put_be64(blob, len);
	blob_put(blob, ordered->bytes + at, len);
}

void put_flat(struct blob *blob, const struct blob *ordered)
{
	size_t step = 3000, count = (ordered->len + step - 1) / step;
	blob_put(blob, "makedumpfile\0\0\0\0", 16);
	put_be64(blob, 1);
	put_be64(blob, 1);
	blob_align(blob, PAGE);
	/* Something else at first, over the bounds of records: what comes later holds. */
	put_be64(blob, 2000);
	put_be64(blob, 9000);
	blob_memory(blob, 0, 9000);
	/* The last first: writers go back to what they left out. */
	for (size_t i = count; i-- > 0;)
		put_record(blob, ordered, i * step,
			   ordered->len - i * step < step ? ordered->len - i * step : step);
	/* And once more in the midst of others. */
	put_record(blob, ordered, 100, 10);
	put_record(blob, ordered, 5900, 200);
	put_be64(blob, UINT64_MAX);
	put_be64(blob, UINT64_MAX);
}

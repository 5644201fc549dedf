/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Crash dumps that Windows and its debuggers write: a header of one page (32 bits) or two, then which
 * pages follow, then the pages. Layouts: DUMP_HEADER32 and DUMP_HEADER64 of the Windows SDK's
 * metadata; the three ways to say which pages, as known of dbgeng:
 *   full (1)             runs in the header
 *   kernel (2)           "SDMP" "DUMP", a bitmap with 32-bit counters
 *   bitmap (5, 6, 7)     "FDMP" or "SDMP", "DUMP", a bitmap with 64-bit counters; since 8
 *   ranges (8, 9, 10)    0x40 "RDMP" "DUMP", runs; of debuggers since 10
 * CONTEXT records are those of winnt.h.
 */
#include "crash_cpu.h"

#include <inttypes.h>
#include <stdio.h>

#define HEADER32_BYTES 0x1000u
#define HEADER64_BYTES 0x2000u
#define RUNS_BYTES 700u			/* of the runs in the header */
#define FILLER 0x45474150u		/* "PAGE": what nobody has filled in */
#define BITS_MAX (1ull << 32)		/* 16 TiB */
#define MACHINE_X86 0x14cu
#define MACHINE_X64 0x8664u
#define MACHINE_ARM64 0xaa64u

enum {
	TYPE_FULL = 1, TYPE_KERNEL = 2, TYPE_HEADER = 3, TYPE_SMALL = 4, TYPE_BITMAP = 5,
	TYPE_BITMAP_KERNEL = 6, TYPE_AUTOMATIC = 7, TYPE_RANGES_KERNEL = 8,
	TYPE_RANGES_KERNEL_USER = 9, TYPE_RANGES_FULL = 10
};

/* Where the fields are that the two headers share; all of `word` bytes, but for the counters. */
struct layout {
	uint32_t bytes, word;
	uint16_t root, modules, processes, machine, processors, bug, parameters, debugger, runs,
		context, type;
};
static const struct layout layout32 = {
	HEADER32_BYTES, 4, 0x10, 0x18, 0x1c, 0x20, 0x24, 0x28, 0x2c, 0x60, 0x64, 0x320, 0xf88
};
static const struct layout layout64 = {
	HEADER64_BYTES, 8, 0x10, 0x20, 0x28, 0x30, 0x34, 0x38, 0x40, 0x80, 0x88, 0x348, 0xf98
};
#define HEADER32_PAE 0x5cu

struct crash {
	const struct dump_parse *parse;
	struct dump_image *image;
	const struct layout *at;
	uint8_t header[HEADER64_BYTES];
	uint64_t offset;	/* of the next page in the file */
	uint64_t lost;		/* pages that the file is too short for */
};

static uint64_t word(const struct crash *c, uint32_t offset)
{
	return c->at->word == 8 ? load_le64(c->header + offset) : load_le32(c->header + offset);
}

/* The next `count` pages of the file are those from `pfn` on. */
static int add_pages(struct crash *c, uint64_t pfn, uint64_t count)
{
	uint64_t size = c->parse->input.size;
	uint64_t here = c->offset < size ? (size - c->offset) / PAGE_BYTES : 0;

	if (pfn > UINT64_MAX / PAGE_BYTES || count > UINT64_MAX / PAGE_BYTES - pfn)
		return parse_error(c->parse, -EBADMSG, "the dump tells of page 0x%" PRIx64
				   ", which no machine has", pfn);
	if (count > here)
		c->lost += MIN(count - here, UINT64_MAX - c->lost);
	here = MIN(here, count);
	int rc = parse_add(c->parse, c->image, pfn * PAGE_BYTES, here * PAGE_BYTES, c->offset);
	c->offset += here * PAGE_BYTES;
	return rc;
}

static int read_full(struct crash *c)
{
	uint32_t word_bytes = c->at->word, count = load_le32(c->header + c->at->runs);
	const uint8_t *run = c->header + c->at->runs + 2 * word_bytes;

	if (count == FILLER || count == 0 || count > (RUNS_BYTES - 2 * word_bytes) / (2 * word_bytes))
		return parse_error(c->parse, -EBADMSG, "the dump tells of %u runs of memory: its "
				   "header is damaged", count);
	c->offset = c->at->bytes;
	for (uint32_t i = 0; i < count; i++, run += 2 * word_bytes) {
		int rc = word_bytes == 8 ? add_pages(c, load_le64(run), load_le64(run + 8)) :
					   add_pages(c, load_le32(run), load_le32(run + 4));
		if (rc)
			return rc;
	}
	return 0;
}

/* Pages follow in the order of the bits that are set. */
static int read_bits(struct crash *c, uint64_t bitmap, uint64_t bits, uint64_t first)
{
	uint8_t bytes[PAGE_BYTES];
	uint64_t start = 0, run = 0;

	/* What is not in the file cannot keep us busy. */
	if (bits > BITS_MAX || bitmap > c->parse->input.size || (bits + 7) / 8 > c->parse->input.size - bitmap)
		return parse_error(c->parse, -EBADMSG, "the dump's bitmap of %" PRIu64 " pages lies "
				   "behind the end of the file, or is too large", bits);
	c->offset = first;
	for (uint64_t pfn = 0; pfn < bits; pfn++) {
		if (pfn % (sizeof(bytes) * 8) == 0) {
			size_t len = (size_t)MIN(sizeof(bytes), (bits - pfn + 7) / 8);
			int rc = parse_read(c->parse, bitmap + pfn / 8, bytes, len, "the bitmap");
			if (rc)
				return rc;
		}
		uint64_t bit = pfn % (sizeof(bytes) * 8);
		if (bit % 8 == 0 && run == 0 && bytes[bit / 8] == 0) {
			pfn += 7;
			continue;
		}
		if (bytes[bit / 8] >> bit % 8 & 1) {
			if (run++ == 0)
				start = pfn;
		} else if (run) {
			int rc = add_pages(c, start, run);
			if (rc)
				return rc;
			run = 0;
		}
	}
	return run ? add_pages(c, start, run) : 0;
}

static bool is_word(const uint8_t *at, const char *word4)
{
	return memcmp(at, word4, 4) == 0;
}

static int damaged(const struct crash *c, const char *what)
{
	return parse_error(c->parse, -EBADMSG, "the dump's %s is damaged", what);
}

static int read_kernel(struct crash *c)
{
	uint8_t head[0x28];

	int rc = parse_read(c->parse, c->at->bytes, head, sizeof(head), "the summary of pages");
	if (rc)
		return rc;
	if (!is_word(head, "SDMP") || !is_word(head + 4, "DUMP"))
		return damaged(c, "summary of pages");
	return read_bits(c, c->at->bytes + (c->at->word == 8 ? 0x28u : 0x20u),
			 load_le32(head + 0x10), load_le32(head + 0x0c));
}

static int read_bitmap(struct crash *c)
{
	uint8_t head[0x38];

	int rc = parse_read(c->parse, c->at->bytes, head, sizeof(head), "the bitmap's header");
	if (rc)
		return rc;
	if ((!is_word(head, "SDMP") && !is_word(head, "FDMP")) || !is_word(head + 4, "DUMP"))
		return damaged(c, "bitmap header");
	return read_bits(c, c->at->bytes + 0x38u, load_le64(head + 0x30), load_le64(head + 0x20));
}

static int read_ranges(struct crash *c)
{
	uint8_t head[0x30], range[16];

	int rc = parse_read(c->parse, c->at->bytes, head, sizeof(head), "the header of ranges");
	if (rc)
		return rc;
	uint64_t first = load_le64(head + 0x18);
	if (load_le32(head) != 0x40 || !is_word(head + 4, "RDMP") || !is_word(head + 8, "DUMP") ||
	    first > c->parse->input.size)
		return damaged(c, "header of ranges");
	c->offset = first;
	for (uint64_t at = c->at->bytes + sizeof(head); at + sizeof(range) <= first;
	     at += sizeof(range)) {
		rc = parse_read(c->parse, at, range, sizeof(range), "a range of pages");
		if (rc)
			return rc;
		/* Page 0 is never dumped: the end. */
		if (load_le64(range) == 0)
			break;
		rc = add_pages(c, load_le64(range), load_le64(range + 8));
		if (rc)
			return rc;
	}
	return 0;
}

static const struct {
	uint32_t type;
	const char *name;
	int (*read)(struct crash *c);
} types[] = {
	{ TYPE_FULL, "full", read_full },
	{ TYPE_KERNEL, "kernel", read_kernel },
	{ TYPE_BITMAP, "bitmap", read_bitmap },
	{ TYPE_BITMAP_KERNEL, "kernel bitmap", read_bitmap },
	{ TYPE_AUTOMATIC, "automatic", read_bitmap },
	{ TYPE_RANGES_KERNEL, "kernel ranges", read_ranges },
	{ TYPE_RANGES_KERNEL_USER, "kernel and user", read_ranges },
	{ TYPE_RANGES_FULL, "complete ranges", read_ranges },
};

static int read_pages(struct crash *c, const char **name_ret)
{
	uint32_t type = load_le32(c->header + c->at->type);

	/* Before 2000 there was but one. */
	if (type == FILLER)
		type = TYPE_FULL;
	if (type == TYPE_HEADER || type == TYPE_SMALL)
		return parse_error(c->parse, -ENOTSUP, "this is a small dump of Windows, which holds "
				   "next to no memory: have it write a kernel or complete dump");
	for (size_t i = 0; i < ARRAY_SIZE(types); i++) {
		if (types[i].type != type)
			continue;
		*name_ret = types[i].name;
		return types[i].read(c);
	}
	return parse_error(c->parse, -ENOTSUP, "this is a crash dump of type %u, which is not known",
			   type);
}

/* What the recogniser of the operating system may ask for. */
static int make_note(struct crash *c)
{
	char text[1024];
	int len = snprintf(text, sizeof(text),
			   "KdDebuggerDataBlock=0x%" PRIx64 "\nPsLoadedModuleList=0x%" PRIx64
			   "\nPsActiveProcessHead=0x%" PRIx64 "\nDirectoryTableBase=0x%" PRIx64
			   "\nMachineImageType=0x%x\nMajorVersion=%u\nMinorVersion=%u\n"
			   "NumberProcessors=%u\nBugCheckCode=0x%x\n",
			   word(c, c->at->debugger), word(c, c->at->modules),
			   word(c, c->at->processes), word(c, c->at->root),
			   load_le32(c->header + c->at->machine), load_le32(c->header + 8),
			   load_le32(c->header + 12), load_le32(c->header + c->at->processors),
			   load_le32(c->header + c->at->bug));
	for (uint32_t i = 0; i < 4; i++)
		len += snprintf(text + len, sizeof(text) - (size_t)len,
				"BugCheckParameter%u=0x%" PRIx64 "\n", i + 1,
				word(c, c->at->parameters + i * c->at->word));
	if (c->at->word == 4)
		len += snprintf(text + len, sizeof(text) - (size_t)len, "PaeEnabled=%u\n",
				c->header[HEADER32_PAE] == 1);
	c->image->windows = malloc((size_t)len);
	if (!c->image->windows)
		return parse_error(c->parse, -ENOMEM, "out of memory");
	memcpy(c->image->windows, text, (size_t)len);
	c->image->windows_len = (size_t)len;
	return 0;
}

static bool same(const struct dump_vcpu *a, const struct dump_vcpu *b, uint32_t id)
{
	return vcpu_knows(a, id) && vcpu_knows(b, id) && a->value[id] == b->value[id];
}

/*
 * Which processor the header's context is of: the one that was at the same place, else the first of
 * which none was saved. NULL: it is of none.
 */
static struct dump_vcpu *find_crashed(struct dump_image *image, const struct dump_vcpu *crashed)
{
	for (uint32_t i = 0; i < image->vcpu_count; i++)
		if (same(&image->vcpus[i], crashed, HVMI_X86_RIP) &&
		    same(&image->vcpus[i], crashed, HVMI_X86_RSP))
			return &image->vcpus[i];
	for (uint32_t i = 0; i < image->vcpu_count; i++)
		if (!vcpu_knows(&image->vcpus[i], HVMI_X86_RIP))
			return &image->vcpus[i];
	return NULL;
}

/* Of the processor that crashed from the header, of the others from memory. */
static int read_registers(struct crash *c, uint32_t machine)
{
	const uint8_t *context = c->header + c->at->context;
	bool wide = machine == MACHINE_X64;
	struct dump_vcpu header = { 0 };
	uint32_t processors = load_le32(c->header + c->at->processors);

	if (machine != MACHINE_X86 && machine != MACHINE_X64)
		return 0;
	/* Where no context was saved there is filler, or nothing. */
	uint32_t flags = load_le32(context + (wide ? 0x30 : 0));
	if (flags != FILLER && flags != 0)
		vcpu_from_context(&header, context, wide);
	vcpu_set(&header, HVMI_X86_CR3, word(c, c->at->root));
	int rc = c->at->word != (wide ? 8u : 4u) ? -ENOENT :
		crash_processors(c->parse, c->image, &(struct crash_state){
			.root = word(c, c->at->root), .debugger = word(c, c->at->debugger),
			.processors = processors == FILLER ? 1 : processors, .wide = wide,
			.pae = c->header[HEADER32_PAE] == 1 });
	if (rc && rc != -ENOENT)
		return rc;
	struct dump_vcpu *vcpu = rc ? image_vcpu(c->image, 0) : find_crashed(c->image, &header);
	if (!vcpu)
		return rc ? parse_error(c->parse, -ENOMEM, "out of memory") : 0;
	for (uint32_t id = 0; id < HVMI_REGISTER_END; id++)
		if (vcpu_knows(&header, id))
			vcpu_set(vcpu, id, header.value[id]);
	return 0;
}

int crash_parse(const struct dump_parse *parse, struct dump_image *image)
{
	struct crash c = { .parse = parse, .image = image };
	uint8_t magic[8];
	const char *name = "";

	int rc = parse_read(parse, 0, magic, sizeof(magic), "the header");
	if (rc)
		return rc;
	bool wide = memcmp(magic, "PAGEDU64", 8) == 0;
	if (!wide && memcmp(magic, "PAGEDUMP", 8) != 0)
		return parse_error(parse, -EBADMSG, "this is no crash dump of Windows");
	c.at = wide ? &layout64 : &layout32;
	rc = parse_read(parse, 0, c.header, c.at->bytes, "the header");
	if (rc)
		return rc;
	uint32_t machine = load_le32(c.header + c.at->machine);
	image->arch = machine == MACHINE_ARM64 ? HVMI_ARCH_ARM64 :
		      machine == MACHINE_X86 || machine == MACHINE_X64 ? HVMI_ARCH_X86 :
									 HVMI_ARCH_UNKNOWN;
	rc = read_pages(&c, &name);
	if (!rc)
		rc = make_note(&c);
	if (!rc)
		rc = parse_settle(parse, image);
	if (!rc)
		rc = read_registers(&c, machine);
	if (rc)
		return rc;
	snprintf(image->format, sizeof(image->format), "Windows crash dump (%s, %s)", name,
		 machine == MACHINE_X64	  ? "x64" :
		 machine == MACHINE_ARM64 ? "arm64" :
		 machine != MACHINE_X86	  ? "?" :
		 c.header[HEADER32_PAE] == 1 ? "x86 PAE" : "x86");
	if (c.lost)
		parse_warn(parse, "the file was cut short: %" PRIu64 " pages of memory are absent",
			   c.lost);
	return 0;
}

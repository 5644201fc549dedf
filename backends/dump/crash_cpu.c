/* SPDX-License-Identifier: Apache-2.0 */
#include "crash_cpu.h"

/* KDDEBUGGER_DATA64: wdbgexts.h of the Windows SDK. What follows BLOCK_SHORT came after XP. */
#define BLOCK_BYTES 0x340u
#define BLOCK_SHORT 0x220u
#define BLOCK_STATE 0x2f4u
#define BLOCK_POINTER 0x33au		/* since 7 */
#define BLOCK_TAG 0x4742444bu		/* "KDBG" */
#define TAG_AT 0x10u
#define SIZE_AT 0x14u
#define PROCESSORS_AT 0x218u		/* KiProcessorBlock */
#define CONTEXT_AT 0x2bcu		/* OffsetPrcbProcStateContext */
#define NUMBER_AT 0x2beu		/* OffsetPrcbNumber */
#define SPECIAL_AT 0x2f2u		/* OffsetPrcbProcStateSpecialReg */
#define POINTER_AT 0x338u		/* OffsetPrcbContext */
/* KPRCB of XP for x86, whose block does not tell. */
#define XP_NUMBER 0x10u
#define XP_CONTEXT 0x1cu
#define XP_SPECIAL (XP_CONTEXT + 0x2ccu)

#define CONTEXT64_BYTES 0x100u
#define CONTEXT32_BYTES 0xccu
#define CONTEXT64_FLAGS 0x30u
#define CONTEXT64_SAVED 0x100000u	/* CONTEXT_AMD64 */
#define CONTEXT32_SAVED 0x10000u	/* CONTEXT_i386 */
/* CR0.PG and CR0.PE: no Windows runs without. */
#define CR0_RUNNING 0x80000001u

#define ENTRY_PRESENT 1u
#define ENTRY_LARGE 0x80u
#define ENTRY_ADDRESS 0x000ffffffffff000ull
#define KERNEL32 0x80000000u

/* Memory of the machine, before there is a machine that could read it. */
struct memory {
	const struct dump_parse *parse;
	const struct dump_image *image;
	uint64_t root;
	bool wide;
	uint32_t levels;	/* 2: without PAE */
};

/* Where the kernel saved what a processor was doing, from its KPRCB on; pointer 0: nowhere else. */
struct places {
	uint64_t processors;
	uint32_t number, context, special, pointer;
};

static int read_physical(const struct memory *m, uint64_t gpa, void *buf, size_t len)
{
	const struct dump_piece *piece = layout_find(&m->image->layout, gpa);
	if (!piece || len > piece->len - (gpa - piece->gpa))
		return -EFAULT;
	return input_read(&m->parse->input, piece->offset + (gpa - piece->gpa), buf, len);
}

/* SDM volume 3, 4.3 to 4.5. What is not present was paged out, or never there. */
static int translate(const struct memory *m, uint64_t gva, uint64_t *ret)
{
	uint32_t bytes = m->levels == 2 ? 4 : 8, bits = m->levels == 2 ? 10 : 9;
	uint64_t table = m->root & (m->levels == 3 ? 0xffffffe0u : ENTRY_ADDRESS), entry;
	for (uint32_t level = m->levels; level-- > 0; table = entry & ENTRY_ADDRESS) {
		uint32_t shift = 12 + bits * level;
		uint64_t index = gva >> shift & ((1u << bits) - 1), within = (1ull << shift) - 1;
		uint8_t raw[8] = { 0 };
		int rc = read_physical(m, table + index * bytes, raw, bytes);
		if (rc)
			return rc;
		entry = load_le64(raw);
		if (!(entry & ENTRY_PRESENT))
			return -EFAULT;
		bool may_be_large = level == 1 || (level == 2 && m->levels >= 4);
		if (level && !(may_be_large && entry & ENTRY_LARGE))
			continue;
		*ret = (entry & ENTRY_ADDRESS & ~within) | (gva & within);
		/* Bits 13 to 20 of a page of 4 MiB are the upper ones of its address. */
		if (level && m->levels == 2)
			*ret |= (entry >> 13 & 0xff) << 32;
		return 0;
	}
	return -EFAULT;
}

static bool is_kernel(const struct memory *m, uint64_t gva)
{
	if (!m->wide)
		return gva >= KERNEL32 && gva <= UINT32_MAX;
	return gva >> (m->levels == 5 ? 56 : 47) == (m->levels == 5 ? 0xff : 0x1ffff);
}

static int read_virtual(const struct memory *m, uint64_t gva, void *buf, size_t len)
{
	uint8_t *to = buf;
	uint64_t gpa;
	for (size_t n; len; gva += n, to += n, len -= n) {
		n = MIN(len, PAGE_BYTES - gva % PAGE_BYTES);
		int rc = is_kernel(m, gva) ? translate(m, gva, &gpa) : -EFAULT;
		if (!rc)
			rc = read_physical(m, gpa, to, n);
		if (rc)
			return rc;
	}
	return 0;
}

static uint64_t pointer(const struct memory *m, const uint8_t *at)
{
	/* Those of 32 bits are sign-extended in the block, or not. */
	return m->wide ? load_le64(at) : load_le32(at);
}

static int read_pointer(const struct memory *m, uint64_t gva, uint64_t *ret)
{
	uint8_t raw[8];
	int rc = read_virtual(m, gva, raw, m->wide ? 8 : 4);
	if (!rc)
		*ret = pointer(m, raw);
	return rc;
}

static int read_block(const struct memory *m, uint64_t gva, struct places *ret)
{
	uint8_t block[BLOCK_BYTES] = { 0 };
	int rc = read_virtual(m, gva, block, BLOCK_SHORT);
	if (rc)
		return rc;
	uint32_t size = MIN(load_le32(block + SIZE_AT), BLOCK_BYTES);
	if (load_le32(block + TAG_AT) != BLOCK_TAG || size < BLOCK_SHORT)
		return -ENOENT;
	rc = read_virtual(m, gva, block, size);
	if (rc)
		return rc;
	struct places places = { pointer(m, block + PROCESSORS_AT), XP_NUMBER, XP_CONTEXT,
				 XP_SPECIAL, 0 };
	if (size >= BLOCK_STATE) {
		places.number = load_le16(block + NUMBER_AT);
		places.context = load_le16(block + CONTEXT_AT);
		places.special = load_le16(block + SPECIAL_AT);
	} else if (m->wide) {
		return -ENOENT;
	}
	if (size >= BLOCK_POINTER)
		places.pointer = load_le16(block + POINTER_AT);
	*ret = places;
	return 0;
}

static bool take_context(const struct memory *m, uint64_t gva, struct dump_vcpu *vcpu)
{
	uint8_t context[CONTEXT64_BYTES];
	if (read_virtual(m, gva, context, m->wide ? CONTEXT64_BYTES : CONTEXT32_BYTES) ||
	    !(m->wide ? load_le32(context + CONTEXT64_FLAGS) & CONTEXT64_SAVED :
			load_le32(context) & CONTEXT32_SAVED))
		return false;
	vcpu_from_context(vcpu, context, m->wide);
	return true;
}

/* Windows for x86 has its KPCR below FS; contexts tell the selector alone. */
static void find_fs(const struct memory *m, struct dump_vcpu *vcpu)
{
	uint8_t d[8];
	uint32_t selector = (uint32_t)vcpu->value[HVMI_X86_FS_SELECTOR];
	if (m->wide || !vcpu_knows(vcpu, HVMI_X86_FS_SELECTOR) ||
	    !vcpu_knows(vcpu, HVMI_X86_GDTR_BASE) || selector & 4 || selector < 8 ||
	    read_virtual(m, vcpu->value[HVMI_X86_GDTR_BASE] + (selector & ~7u), d, sizeof(d)))
		return;
	/* Present, and data: SDM volume 3, 3.4.5. */
	if ((d[5] & 0x98) == 0x90)
		vcpu_set(vcpu, HVMI_X86_FS_BASE, load_le16(d + 2) | (uint32_t)d[4] << 16 |
						 (uint32_t)d[7] << 24);
}

static void read_processor(const struct memory *m, const struct places *places, uint32_t index,
			   struct dump_vcpu *vcpu)
{
	uint64_t prcb, elsewhere;
	uint8_t number, special[SPECIAL64_BYTES];
	if (read_pointer(m, places->processors + index * (m->wide ? 8ull : 4ull), &prcb) ||
	    read_virtual(m, prcb + places->number, &number, 1) || number != (uint8_t)index)
		return;
	if (read_virtual(m, prcb + places->special, special,
			 m->wide ? SPECIAL64_BYTES : SPECIAL32_BYTES) == 0 &&
	    (load_le32(special) & CR0_RUNNING) == CR0_RUNNING)
		vcpu_from_special(vcpu, special, m->wide);
	if (!places->pointer || read_pointer(m, prcb + places->pointer, &elsewhere) ||
	    !take_context(m, elsewhere, vcpu))
		take_context(m, prcb + places->context, vcpu);
	find_fs(m, vcpu);
}

int crash_processors(const struct dump_parse *parse, struct dump_image *image,
		     const struct crash_state *state)
{
	struct memory m = { parse, image, state->root, state->wide,
			    state->wide ? 4 : state->pae ? 3 : 2 };
	struct places places;
	int rc = read_block(&m, state->debugger, &places);
	if (rc && m.wide) {
		m.levels = 5;
		rc = read_block(&m, state->debugger, &places);
	}
	if (rc)
		return -ENOENT;
	uint32_t count = MIN(state->processors, DUMP_VCPUS_MAX);
	for (uint32_t i = 0; i < count; i++) {
		struct dump_vcpu vcpu = { 0 };
		read_processor(&m, &places, i, &vcpu);
		/* None is made for those that the header merely claims. */
		bool known = false;
		for (size_t word = 0; word < ARRAY_SIZE(vcpu.known); word++)
			known = known || vcpu.known[word];
		if (!known)
			continue;
		struct dump_vcpu *to = image_vcpu(image, i);
		if (!to)
			return parse_error(parse, -ENOMEM, "out of memory");
		*to = vcpu;
	}
	return image->vcpu_count ? 0 : -ENOENT;
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Suspended states and snapshots of VMware (.vmss, .vmsn): groups of tags, which say how memory and
 * registers were. Memory itself is in the file, or in a .vmem file beside it. There is no published
 * specification; the layout is that which Volatility's documentation of _VMWARE_HEADER, _VMWARE_GROUP
 * and _VMWARE_TAG tells:
 *   header   magic, 4 bytes, number of groups (4)
 *   group    name (64), offset of its tags (8), 8 bytes
 *   tag      flags (1), length of its name (1), name, indices of 4 bytes, data
 * The low 6 bits of the flags are the length of the data, the high 2 the number of indices. Lengths
 * 62 and 63 stand for long data, of which 63 is compressed: two lengths, of 4 bytes in version 0 and
 * 8 since, the length of padding (2), the padding, the data.
 */
#include "image.h"

#include <inttypes.h>
#include <stdio.h>

#define HEADER_BYTES 12u
#define GROUP_BYTES 80u
#define GROUPS_MAX 1024u
#define TAGS_MAX 1000000u	/* in all groups */
#define INDICES_MAX 3u
#define LONG_DATA 62u
#define REGIONS_MAX 1024u

struct tag {
	char name[256];
	uint32_t index_count, indices[INDICES_MAX];
	bool compressed;
	uint64_t data, len;	/* where it is in the file */
};

struct region {
	uint64_t gfn, frame, count;	/* guest frame, frame of the memory, frames */
};

struct vmware {
	const struct dump_parse *parse;
	struct dump_image *image;
	uint32_t length_bytes;
	uint32_t tags_left;
	uint64_t region_count;
	struct region regions[REGIONS_MAX];
	bool has_memory, compressed;	/* in this file: */
	uint64_t memory, memory_len;
};

static int damaged(const struct vmware *v, uint64_t offset)
{
	return parse_error(v->parse, -EBADMSG, "the state of VMware is damaged at offset %" PRIu64,
			   offset);
}

static int take_number(const struct vmware *v, uint64_t *offset, uint32_t bytes, uint64_t *ret)
{
	uint8_t raw[8] = { 0 };

	if (input_read(&v->parse->input, *offset, raw, bytes))
		return damaged(v, *offset);
	*offset += bytes;
	*ret = load_le64(raw);
	return 0;
}

static int take_long(const struct vmware *v, uint64_t *offset, struct tag *tag)
{
	uint64_t unpacked, padding;

	int rc = take_number(v, offset, v->length_bytes, &tag->len);
	if (!rc)
		rc = take_number(v, offset, v->length_bytes, &unpacked);
	if (!rc)
		rc = take_number(v, offset, 2, &padding);
	if (rc)
		return rc;
	*offset += padding;
	return 0;
}

/* 1: a tag, and *offset is behind it; 0: the last. */
static int take_tag(struct vmware *v, uint64_t *offset, struct tag *ret)
{
	uint8_t head[2], indices[4 * INDICES_MAX];
	struct tag tag = { 0 };
	uint64_t start = *offset, size = v->parse->input.size;

	if (input_read(&v->parse->input, *offset, head, sizeof(head)))
		return damaged(v, start);
	if (head[0] == 0 && head[1] == 0)
		return 0;
	if (v->tags_left-- == 0)
		return parse_error(v->parse, -EBADMSG, "the state of VMware has more than %u tags",
				   TAGS_MAX);
	tag.index_count = head[0] >> 6;
	if (input_read(&v->parse->input, start + 2, tag.name, head[1]) ||
	    input_read(&v->parse->input, start + 2 + head[1], indices, 4 * tag.index_count))
		return damaged(v, start);
	for (uint32_t i = 0; i < tag.index_count; i++)
		tag.indices[i] = load_le32(indices + 4 * i);
	*offset = start + 2 + head[1] + 4 * tag.index_count;
	tag.len = head[0] & 0x3f;
	if (tag.len >= LONG_DATA) {
		tag.compressed = tag.len > LONG_DATA;
		int rc = take_long(v, offset, &tag);
		if (rc)
			return rc;
	}
	tag.data = *offset;
	if (tag.data > size || tag.len > size - tag.data)
		return damaged(v, start);
	*offset += tag.len;
	*ret = tag;
	return 1;
}

static bool is(const struct tag *tag, const char *name, uint32_t index_count)
{
	return strcmp(tag->name, name) == 0 && tag->index_count == index_count;
}

static uint64_t number_of(const struct vmware *v, const struct tag *tag)
{
	uint8_t raw[8] = { 0 };
	input_read(&v->parse->input, tag->data, raw, (size_t)MIN(tag->len, sizeof(raw)));
	return load_le64(raw);
}

static int take_memory(struct vmware *v, const struct tag *tag)
{
	if (is(tag, "regionsCount", 0)) {
		v->region_count = number_of(v, tag);
		if (v->region_count > REGIONS_MAX)
			return damaged(v, tag->data);
	} else if (is(tag, "Memory", 2) && tag->len > 0) {
		v->has_memory = true;
		v->compressed = tag->compressed;
		v->memory = tag->data;
		v->memory_len = tag->len;
	} else if (tag->index_count == 1 && tag->indices[0] < REGIONS_MAX) {
		struct region *region = &v->regions[tag->indices[0]];
		uint64_t value = number_of(v, tag);
		if (is(tag, "regionPPN", 1))
			region->gfn = value;
		else if (is(tag, "regionPageNum", 1))
			region->frame = value;
		else if (is(tag, "regionSize", 1))
			region->count = value;
	}
	return 0;
}

static int take_register(struct vmware *v, const struct tag *tag)
{
	static const uint32_t control[] = { HVMI_X86_CR0, 0, HVMI_X86_CR2, HVMI_X86_CR3, HVMI_X86_CR4 };
	uint32_t id = 0;

	if (tag->len != 8 && tag->len != 4)
		return 0;
	if ((is(tag, "CR64", 2) || is(tag, "CR", 2)) && tag->indices[1] < ARRAY_SIZE(control))
		id = control[tag->indices[1]];
	else if (is(tag, "rip", 1))
		id = HVMI_X86_RIP;
	if (id == 0)
		return 0;
	struct dump_vcpu *vcpu = image_vcpu(v->image, tag->indices[0]);
	if (!vcpu)
		return parse_error(v->parse, tag->indices[0] < DUMP_VCPUS_MAX ? -ENOMEM : -EBADMSG,
				   "vCPU %u is one too many", tag->indices[0]);
	/* The wide one tells the same and more. */
	if (tag->len == 8 || !vcpu_knows(vcpu, id))
		vcpu_set(vcpu, id, number_of(v, tag));
	return 0;
}

static int read_group(struct vmware *v, uint64_t offset, int (*take)(struct vmware *v,
								     const struct tag *tag))
{
	struct tag tag;
	int rc;

	while ((rc = take_tag(v, &offset, &tag)) == 1) {
		rc = take(v, &tag);
		if (rc)
			return rc;
	}
	return rc;
}

static int read_groups(struct vmware *v)
{
	uint8_t header[HEADER_BYTES], group[GROUP_BYTES];

	int rc = parse_read(v->parse, 0, header, sizeof(header), "the header");
	if (rc)
		return rc;
	v->length_bytes = load_le32(header) & 15 ? 8 : 4;
	v->tags_left = TAGS_MAX;
	uint32_t count = load_le32(header + 8);
	if (count > GROUPS_MAX)
		return damaged(v, 8);
	for (uint32_t i = 0; i < count; i++) {
		rc = parse_read(v->parse, HEADER_BYTES + (uint64_t)i * GROUP_BYTES, group,
				sizeof(group), "a group");
		if (rc)
			return rc;
		uint64_t tags = load_le64(group + 64);
		if (strncmp((char *)group, "memory", 64) == 0)
			rc = read_group(v, tags, take_memory);
		else if (strncmp((char *)group, "cpu", 64) == 0)
			rc = read_group(v, tags, take_register);
		if (rc)
			return rc;
	}
	return 0;
}

/* Frames of the memory that begins at `start` of a file of `size` bytes. */
static int add_regions(struct vmware *v, uint64_t start, uint64_t size)
{
	uint64_t here = (size - start) / PAGE_BYTES;

	if (v->region_count == 0)
		return parse_add(v->parse, v->image, 0, here * PAGE_BYTES, start);
	for (uint64_t i = 0; i < v->region_count; i++) {
		const struct region *r = &v->regions[i];
		uint64_t count = r->frame < here ? MIN(r->count, here - r->frame) : 0;
		if (r->count > UINT64_MAX / PAGE_BYTES ||
		    r->gfn > UINT64_MAX / PAGE_BYTES - r->count)
			return parse_error(v->parse, -EBADMSG, "region %" PRIu64 " of the state of "
					   "VMware makes no sense", i);
		if (count < r->count)
			parse_warn(v->parse, "the memory was cut short: 0x%" PRIx64 " pages from 0x%"
				   PRIx64 " on are absent", r->count - count,
				   (r->gfn + count) * PAGE_BYTES);
		int rc = parse_add(v->parse, v->image, r->gfn * PAGE_BYTES, count * PAGE_BYTES,
				   start + r->frame * PAGE_BYTES);
		if (rc)
			return rc;
	}
	return 0;
}

int vmware_parse(const struct dump_parse *parse, uint64_t beside, struct dump_image *image,
		 bool *beside_ret)
{
	struct vmware *v = calloc(1, sizeof(*v));

	if (!v)
		return parse_error(parse, -ENOMEM, "out of memory");
	v->parse = parse;
	v->image = image;
	int rc = read_groups(v);
	/* A file beside it is what the state was written with; a short tag is not the memory. */
	bool inside = v->has_memory && beside == 0;
	if (!rc && inside && v->compressed)
		rc = parse_error(parse, -ENOTSUP, "the memory in this state of VMware is compressed");
	else if (!rc && !inside && beside == 0)
		rc = parse_error(parse, -ENOENT, "the memory of this state of VMware is in a .vmem "
				 "file, which is not beside it: say memory=FILE");
	if (!rc)
		rc = inside ? add_regions(v, v->memory, v->memory + v->memory_len) :
			      add_regions(v, 0, beside);
	free(v);
	if (rc)
		return rc;
	image->arch = HVMI_ARCH_X86;
	snprintf(image->format, sizeof(image->format), "VMware state%s", inside ? "" : " and memory");
	*beside_ret = !inside;
	return parse_settle(parse, image);
}

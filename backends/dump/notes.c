/* SPDX-License-Identifier: Apache-2.0 */
/* Notes of ELF cores and of kdump-compressed images: registers and VMCOREINFO. */
#include "vcpu.h"

#include <inttypes.h>
#include <stdio.h>

#define NT_PRSTATUS 1
#define NT_VBOXCORE 0xb00
#define NT_VBOXCPU 0xb01

#define NOTES_MAX 65536u
/* Of those whose content matters. */
#define DESC_MAX 1024u

struct note {
	uint32_t type;
	char name[16];
	uint64_t offset;	/* of the descriptor */
	uint32_t len;		/* of the descriptor */
};

static bool is(const struct note *note, const char *name, uint32_t type)
{
	return note->type == type && strcmp(note->name, name) == 0;
}

static int take_vmcoreinfo(const struct dump_parse *parse, const struct note *note,
			   struct dump_image *image)
{
	if (image->vmcoreinfo || note->len == 0)
		return 0;
	return vmcoreinfo_read(parse, note->offset, note->len, image);
}

int vmcoreinfo_read(const struct dump_parse *parse, uint64_t offset, uint64_t len,
		    struct dump_image *image)
{
	if (len > DUMP_VMCOREINFO_MAX) {
		parse_warn(parse, "a VMCOREINFO note of %" PRIu64 " bytes is too long and left "
			   "out", len);
		return 0;
	}
	uint8_t *bytes = malloc(len);
	if (!bytes)
		return parse_error(parse, -ENOMEM, "out of memory");
	if (input_read(&parse->input, offset, bytes, len)) {
		free(bytes);
		parse_warn(parse, "the VMCOREINFO note cannot be read and is left out");
		return 0;
	}
	free(image->vmcoreinfo);
	image->vmcoreinfo = bytes;
	image->vmcoreinfo_len = len;
	return 0;
}

static void take_vbox_core(const struct dump_parse *parse, const uint8_t *desc, size_t len,
			   struct dump_notes *notes)
{
	if (len < 8 || load_le32(desc) != VBOX_CORE_MAGIC)
		return;
	notes->vbox_version = load_le32(desc + 4);
	if (!vbox_known(notes->vbox_version))
		parse_warn(parse, "the registers are in VirtualBox's version 0x%x, which is not "
			   "known: they are left out", notes->vbox_version);
}

/* Notes of vCPUs. */
static int take_registers(const struct dump_parse *parse, const struct note *note,
			  struct dump_image *image)
{
	struct dump_notes *notes = &image->notes;
	bool prstatus = is(note, "CORE", NT_PRSTATUS) && prstatus_known(note->len);
	bool qemu = is(note, "QEMU", 0) && note->len >= QEMU_STATE_BYTES;
	bool vbox = is(note, "VBCPU", NT_VBOXCPU) && note->len >= VBOX_CPU_BYTES;
	bool vbox_core = is(note, "VBCORE", NT_VBOXCORE);
	if (!prstatus && !qemu && !vbox && !vbox_core)
		return 0;
	uint8_t desc[DESC_MAX];
	size_t len = MIN(note->len, sizeof(desc));
	/* Cut short here is cut short behind, too: what came before stays good. */
	if (input_read(&parse->input, note->offset, desc, len))
		return 0;
	if (qemu || vbox_core)
		snprintf(image->format, sizeof(image->format), "ELF core (%s)",
			 qemu ? "QEMU" : "VirtualBox");
	if (vbox_core) {
		take_vbox_core(parse, desc, len, notes);
		return 0;
	}
	if (vbox && !vbox_known(notes->vbox_version))
		return 0;
	uint32_t index = prstatus ? notes->prstatus++ : qemu ? notes->qemu++ : notes->vbox++;
	struct dump_vcpu *vcpu = image_vcpu(image, index);
	if (!vcpu && index < DUMP_VCPUS_MAX)
		return parse_error(parse, -ENOMEM, "out of memory");
	if (!vcpu) {
		if (index == DUMP_VCPUS_MAX)
			parse_warn(parse, "only the first %u vCPUs are used", DUMP_VCPUS_MAX);
		return 0;
	}
	if (prstatus)
		vcpu_from_prstatus(vcpu, desc, len);
	else if (qemu)
		vcpu_from_qemu(vcpu, desc, len);
	else
		vcpu_from_vbox(vcpu, desc, notes->vbox_version);
	return 0;
}

/* 0 at the end or where the notes make no sense any more. */
static int next_note(const struct dump_parse *parse, uint64_t *at, uint64_t end, struct note *ret)
{
	uint8_t raw[12];
	uint64_t left = end - *at;
	if (left < sizeof(raw) || input_read(&parse->input, *at, raw, sizeof(raw)))
		return 0;
	uint32_t name_len = load_le32(raw), len = load_le32(raw + 4);
	/* VirtualBox says 8, but all its lengths are such that this makes no difference. */
	uint64_t name_room = ((uint64_t)name_len + 3) & ~3ull, room = ((uint64_t)len + 3) & ~3ull;
	left -= sizeof(raw);
	if (name_room > left || len > left - name_room)
		return 0;
	*ret = (struct note){ .type = load_le32(raw + 8), .len = len,
			      .offset = *at + sizeof(raw) + name_room };
	/* Longer names are none of ours. VirtualBox does not count the NUL. */
	size_t name_here = MIN(name_len, sizeof(ret->name) - 1);
	if (input_read(&parse->input, *at + sizeof(raw), ret->name, name_here))
		return 0;
	*at = MIN(end, ret->offset + room);
	return 1;
}

int notes_parse(const struct dump_parse *parse, uint64_t offset, uint64_t len,
		struct dump_image *image)
{
	struct note note;
	uint64_t size = parse->input.size;
	if (offset >= size)
		return 0;
	uint64_t at = offset, end = offset + MIN(len, size - offset);
	while (image->notes.seen < NOTES_MAX && next_note(parse, &at, end, &note)) {
		image->notes.seen++;
		int rc = is(&note, "VMCOREINFO", 0) ? take_vmcoreinfo(parse, &note, image) :
			 take_registers(parse, &note, image);
		if (rc)
			return rc;
	}
	return 0;
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the readers of formats share. A reader turns the headers of a file into a struct dump_image:
 * which guest-physical addresses lie where in the file, registers and notes. Everything in a file
 * may have been written by an attacker.
 */
#ifndef HVMI_BACKENDS_DUMP_IMAGE_H
#define HVMI_BACKENDS_DUMP_IMAGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <hvmi/backend.h>

#define MIN(a, b) ((a) < (b) ? (a) : (b))
#define MAX(a, b) ((a) > (b) ? (a) : (b))
#define ARRAY_SIZE(a) (sizeof(a) / sizeof((a)[0]))

#define PAGE_BYTES 4096u

static inline uint16_t load_le16(const void *p)
{
	const uint8_t *b = p;
	return (uint16_t)(b[0] | b[1] << 8);
}

static inline uint32_t load_le32(const void *p)
{
	const uint8_t *b = p;
	return b[0] | (uint32_t)b[1] << 8 | (uint32_t)b[2] << 16 | (uint32_t)b[3] << 24;
}

static inline uint64_t load_le64(const void *p)
{
	const uint8_t *b = p;
	return load_le32(b) | (uint64_t)load_le32(b + 4) << 32;
}

/*
 * The bytes of a file. read() copies all of [offset, offset + len), which lies below `size`, or
 * fails; any thread. Never a mapping: that may raise SIGBUS in a parser.
 */
struct dump_input {
	int (*read)(void *context, uint64_t offset, void *buf, size_t len);
	void *context;
	uint64_t size;
};

/* -EFAULT: reaches beyond the end of the file. */
static inline int input_read(const struct dump_input *input, uint64_t offset, void *buf, size_t len)
{
	if (offset > input->size || len > input->size - offset)
		return -EFAULT;
	return input->read(input->context, offset, buf, len);
}

/* [gpa, gpa + len) lies at `offset` of the file. */
struct dump_piece {
	uint64_t gpa, len, offset;
};

/*
 * The map of guest-physical memory. Pieces are added in any order and may overlap; settling sorts,
 * merges and cuts them.
 */
struct dump_layout {
	struct dump_piece *pieces;
	size_t count, capacity;
	uint64_t added;		/* that could not be joined to the one before */
	uint64_t overlap;	/* bytes that were there twice */
};

/* Pieces that may be added, so that a hostile file cannot keep us busy. */
#define LAYOUT_ADDED_MAX (16u << 20)

/* -EBADMSG: the addresses wrap; -EOVERFLOW: too many pieces; -ENOMEM. Length 0 is ignored. */
int layout_add(struct dump_layout *layout, uint64_t gpa, uint64_t len, uint64_t offset);
/* Ascending and disjoint afterwards. -EOVERFLOW: more than HVMI_RANGES_MAX. */
int layout_settle(struct dump_layout *layout);
/* The piece that holds gpa, or NULL; in a settled layout. */
const struct dump_piece *layout_find(const struct dump_layout *layout, uint64_t gpa);
void layout_deinit(struct dump_layout *layout);

/* Registers that a file tells of one vCPU. */
struct dump_vcpu {
	uint64_t value[HVMI_REGISTER_END];
	uint64_t known[(HVMI_REGISTER_END + 63) / 64];
};

static inline void vcpu_set(struct dump_vcpu *vcpu, uint32_t id, uint64_t value)
{
	vcpu->value[id] = value;
	vcpu->known[id / 64] |= 1ull << id % 64;
}

static inline bool vcpu_knows(const struct dump_vcpu *vcpu, uint32_t id)
{
	return vcpu->known[id / 64] >> id % 64 & 1;
}

#define DUMP_VCPUS_MAX 4096u
/* The kernel's is below 4 KiB, but it has grown before. */
#define DUMP_VMCOREINFO_MAX (1u << 20)

/* Notes so far. Those of vCPUs come in the order of vCPUs, each kind by itself. */
struct dump_notes {
	uint32_t seen, prstatus, qemu, vbox;
	uint32_t vbox_version;
};

/* What is known of an image once its headers are read. */
struct dump_image {
	char format[48];
	uint32_t arch;		/* enum hvmi_arch */
	struct dump_layout layout;
	struct dump_vcpu *vcpus;
	uint32_t vcpu_count;
	uint8_t *vmcoreinfo;	/* NULL: there is none */
	size_t vmcoreinfo_len;
	char *windows;		/* text, not ended by a NUL; NULL: there is none */
	size_t windows_len;
	struct dump_notes notes;
};

void image_deinit(struct dump_image *image);
/* vCPU number `index`, made on first use; NULL: too many, or out of memory. */
struct dump_vcpu *image_vcpu(struct dump_image *image, uint32_t index);

/* What a reader works with. */
struct dump_parse {
	struct dump_input input;
	const char *name;			/* of the file, for messages */
	const struct hvmi_backend_host *host;	/* for its log */
	struct hvmi_error *err;
};

/* Fills parse->err with "NAME: ..." and returns code. */
int parse_error(const struct dump_parse *parse, int code, const char *format, ...)
	HVMI_PRINTF(3, 4);
void parse_warn(const struct dump_parse *parse, const char *format, ...) HVMI_PRINTF(2, 3);
/* input_read() for headers, whose absence is an error: `what` names them in the sentence. */
int parse_read(const struct dump_parse *parse, uint64_t offset, void *buf, size_t len,
	       const char *what);
/* layout_add() and layout_settle() with sentences. Settling an empty layout is an error. */
int parse_add(const struct dump_parse *parse, struct dump_image *image, uint64_t gpa, uint64_t len,
	      uint64_t offset);
int parse_settle(const struct dump_parse *parse, struct dump_image *image);

enum dump_kind {
	DUMP_UNKNOWN,	/* nothing that is known: raw, if it is forced or nothing else */
	DUMP_RAW,
	DUMP_ELF,
	DUMP_LIME,
	DUMP_AVML,
	DUMP_KDUMP,
	DUMP_KDUMP_FLAT,	/* in makedumpfile's form for pipes */
	DUMP_CRASH,		/* Windows' */
	DUMP_VMWARE,
};

/*
 * Which kind the content is. What is clearly something else than a memory image is an error that
 * says what it is and what to do.
 */
int sniff(const struct dump_parse *parse, enum dump_kind *ret);
/* A kind by its name in `format=`, or DUMP_UNKNOWN. */
enum dump_kind sniff_kind(const char *name);

struct dump_hole {
	uint64_t start, len;
};

/* Holes of `hole=`, in any order; they are sorted. */
int raw_parse(const struct dump_parse *parse, uint64_t base, struct dump_hole *holes,
	      size_t hole_count, struct dump_image *image);
int elf_parse(const struct dump_parse *parse, struct dump_image *image);
int lime_parse(const struct dump_parse *parse, struct dump_image *image);
int crash_parse(const struct dump_parse *parse, struct dump_image *image);
/*
 * `beside` is the length of the file that holds the memory, 0: there is none. *beside_ret: the layout's
 * offsets are of that file, and not of the one that was parsed.
 */
int vmware_parse(const struct dump_parse *parse, uint64_t beside, struct dump_image *image,
		 bool *beside_ret);

/* Reads the ELF notes in [offset, offset + len) of the file. */
int notes_parse(const struct dump_parse *parse, uint64_t offset, uint64_t len,
		struct dump_image *image);
/* Takes VMCOREINFO text from the file; what cannot be had is left out with a warning. */
int vmcoreinfo_read(const struct dump_parse *parse, uint64_t offset, uint64_t len,
		    struct dump_image *image);

/* Kinds whose memory is not simply bytes of the file. */
struct dump_decoder {
	/* As struct hvmi_backend's. `piece` holds gpa. */
	int (*read)(void *state, const struct dump_piece *piece, uint64_t gpa, void *buf,
		    size_t len);
	int (*next_data)(void *state, const struct dump_piece *piece, uint64_t gpa,
			 struct hvmi_range *ret);	/* may be NULL */
	void (*close)(void *state);
};

/*
 * Open an AVML image of version 2; its layout's offsets are those of the stream that all its blocks
 * make when they are decompressed. On success *state_ret is closed by its decoder.
 */
int avml_open(const struct dump_parse *parse, struct dump_image *image,
	      const struct dump_decoder **decoder_ret, void **state_ret);
/* Open a kdump-compressed image. On success *state_ret is closed by its decoder. */
int kdump_open(const struct dump_parse *parse, struct dump_image *image,
	       const struct dump_decoder **decoder_ret, void **state_ret);

struct dump_flat;
/* Read a flattened file as if it were in order: *input_ret is good until flat_close(). */
int flat_open(const struct dump_parse *parse, struct dump_flat **ret,
	      struct dump_input *input_ret);
void flat_close(struct dump_flat *flat);	/* NULL is allowed */

#endif

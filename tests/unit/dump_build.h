/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Writers of memory images for tests, and what every test of the dump backend needs. Memory holds
 * bytes that depend on their guest-physical address alone, so that any byte can be checked.
 */
#ifndef HVMI_TESTS_DUMP_BUILD_H
#define HVMI_TESTS_DUMP_BUILD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <hvmi/hvmi.h>

#define PAGE 4096u

struct blob {
	uint8_t *bytes;
	size_t len, capacity;
};

void blob_put(struct blob *blob, const void *bytes, size_t len);
void blob_zeros(struct blob *blob, size_t len);
/* A number of that many bytes, little-endian. */
void blob_number(struct blob *blob, uint64_t value, size_t bytes);
void blob_set(struct blob *blob, size_t offset, uint64_t value, size_t bytes);
void blob_align(struct blob *blob, size_t to);
/* What memory holds at [gpa, gpa + len). */
void blob_memory(struct blob *blob, uint64_t gpa, size_t len);
void blob_free(struct blob *blob);

uint8_t memory_at(uint64_t gpa);

/* An ELF note. `counted` is what its header says of the name's length. */
void put_note(struct blob *blob, const char *name, uint32_t counted, uint32_t type,
	      const void *desc, size_t len);

struct load {
	uint64_t gva, gpa, len;
	uint64_t offset;	/* 0: memory of its own */
	uint64_t absent;	/* of len, how many bytes are not in the file */
};

/* An ELF core. */
struct core {
	bool narrow;		/* 32 bits */
	uint16_t machine;	/* 0: x86-64 */
	uint16_t type;		/* 0: a core */
	bool extended;		/* the number of segments is in the first section */
	const struct blob *notes;
	const struct load *loads;
	size_t load_count;
	size_t odd;		/* bytes before the memory, so that it is not aligned */
};
void put_core(struct blob *blob, const struct core *core);

/* A Xen core; a pfn of UINT64_MAX is a page that was not there. */
struct xen_core {
	bool pv;
	const uint64_t *pfns;
	size_t pages;
	const void *contexts;
	size_t context_len, vcpus;
};
void put_xen_core(struct blob *blob, const struct xen_core *core);

void put_lime(struct blob *blob, uint64_t gpa, size_t len);

/* How a block of AVML is cut into chunks. */
struct chunks {
	size_t plain;		/* bytes in each, 0: 65536 */
	bool stored;		/* not compressed */
	bool skippable;		/* with others between them */
};
void put_avml(struct blob *blob, uint64_t gpa, size_t len, const struct chunks *chunks);

/* A kdump-compressed image of page frames [0, frames). */
struct kdump {
	bool narrow;
	uint64_t frames;
	bool (*ram)(uint64_t pfn);
	bool (*dumped)(uint64_t pfn);
	const struct blob *notes;
	const char *vmcoreinfo;
	bool compressed;	/* in every way that there is, page by page */
	bool zeros;		/* those of frames that are multiples of 16, in one place */
};
void put_kdump(struct blob *blob, const struct kdump *kdump);
/* The same, flattened: records in an odd order. */
void put_flat(struct blob *blob, const struct blob *ordered);

/* A descriptor of a nameless file that holds the blob, and its target string. */
int image_file(const struct blob *blob);
const char *image_target(int fd, const char *options);

/* Opens; warnings that were logged are in log_text. Fails the test if that fails. */
struct hvmi_vm *image_open(const struct blob *blob, const char *options);
/* Expects that opening fails with that code and a sentence with that text in it. */
void image_refused(const struct blob *blob, const char *options, int code, const char *text);
extern char log_text[4096];

/* Every byte of [gpa, gpa + len), through reads of several sizes and through a pointer. */
void check_memory(struct hvmi_vm *vm, uint64_t gpa, uint64_t len);
/* No byte of it can be read. */
void check_absent(struct hvmi_vm *vm, uint64_t gpa, uint64_t len);
void check_range(struct hvmi_vm *vm, uint32_t index, uint64_t gpa, uint64_t len);
void check_register(struct hvmi_vm *vm, uint32_t vcpu, uint32_t id, uint64_t value);
void check_no_register(struct hvmi_vm *vm, uint32_t vcpu, uint32_t id);
void check_format(struct hvmi_vm *vm, const char *format);

#endif

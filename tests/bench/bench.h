/* SPDX-License-Identifier: Apache-2.0 */
/* What the parts of hvmi-bench share. They see the public headers only. */
#ifndef HVMI_BENCH_H
#define HVMI_BENCH_H

#include <stdbool.h>
#include <stdint.h>

#include <hvmi/backend.h>
#include <hvmi/hvmi.h>

#define RUNS 15
#define KIB 1024ull
#define MIB (1024ull * KIB)
#define PAGE 4096ull

/* A raw image: guest-physical address = offset in the file. */
struct image {
	const char *path;
	const uint8_t *bytes;
	uint64_t len;
	struct hvmi_vm *vm, *running;	/* the same as a machine at rest, and as one that runs */
	struct hvmi_os *os;
	struct hvmi_space_config kernel;
	uint64_t direct_map;		/* where the kernel maps all memory, 0: unknown */
};

double now_ns(void);
double median(double *values, uint32_t count);
_Noreturn void fail(const char *what, const struct hvmi_error *err);

/* One line of the result; per: how many operations a run has. */
void report(const char *name, const double ns[RUNS], const double base[RUNS], double per,
	    const char *baseline);

void report_kib(const char *name, uint64_t kib, const char *what);

/* Run both by turns and report. */
typedef void (*bench_fn)(void *context);
void compare(const char *name, bench_fn run, bench_fn baseline, void *context, double per,
	     const char *what);

/* Keeps a value from being optimised away. */
static inline void sink(uint64_t value)
{
	__asm__ volatile("" : : "r"(value));
}

/* backend: NULL: by the target. These end the program when they fail. */
struct hvmi_vm *open_image(const char *target, const struct hvmi_backend *backend);
struct hvmi_space *space_of(struct hvmi_vm *vm, const struct hvmi_space_config *config,
			    uint32_t flags);

/* A machine that says it runs, over bytes that nobody changes. */
const struct hvmi_backend *running_backend(void);

/* The walk that the figures are compared with: 4-level, nothing checked. */
static inline uint64_t raw_load(const uint8_t *bytes, uint64_t at)
{
	uint64_t value;
	__builtin_memcpy(&value, bytes + at, sizeof(value));
	return value;
}

static inline uint64_t raw_walk(const uint8_t *bytes, uint64_t root, uint64_t gva)
{
	const uint64_t address = 0x000ffffffffff000;
	uint64_t e = raw_load(bytes, (root & address) + (gva >> 39 & 511) * 8);
	e = raw_load(bytes, (e & address) + (gva >> 30 & 511) * 8);
	if (e & 0x80)
		return (e & address & ~0x3fffffffull) | (gva & 0x3fffffff);
	e = raw_load(bytes, (e & address) + (gva >> 21 & 511) * 8);
	if (e & 0x80)
		return (e & address & ~0x1fffffull) | (gva & 0x1fffff);
	e = raw_load(bytes, (e & address) + (gva >> 12 & 511) * 8);
	return (e & address) | (gva & 0xfff);
}

void bench_reads(struct image *image);
uint32_t list_processes(struct hvmi_os *os);
void bench_lists(struct image *image);
void bench_search(struct image *image);
void bench_parallel(struct image *image);
void bench_handles(void);
void bench_insn(void);
void bench_hooks(void);
void bench_attach(const char *target);
void bench_memory(const char *target);

#endif

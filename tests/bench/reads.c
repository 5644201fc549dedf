/* SPDX-License-Identifier: Apache-2.0 */
/* Reads and translations of virtual addresses. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "bench.h"

#define READS 65536u

struct reads {
	const uint8_t *bytes;
	uint64_t root;
	struct hvmi_space *space;
	uint64_t gvas[READS];
	uint8_t *buf;
};

/* A machine that runs, as far as it says. */

struct running {
	uint8_t *bytes;
	uint64_t len;
};

static int running_open(const struct hvmi_target *target, const struct hvmi_backend_host *host,
			void **ret, struct hvmi_error *err)
{
	(void)host;
	struct running *r = calloc(1, sizeof(*r));
	FILE *f = fopen(hvmi_target_what(target), "rbe");
	if (!r || !f || fseek(f, 0, SEEK_END) != 0)
		return hvmi_error_set(err, -EIO, HVMI_NO_ADDRESS, "the image cannot be opened");
	r->len = (uint64_t)ftell(f);
	r->bytes = mmap(NULL, r->len, PROT_READ, MAP_SHARED, fileno(f), 0);
	fclose(f);
	if (r->bytes == MAP_FAILED)
		return hvmi_error_set(err, -EIO, HVMI_NO_ADDRESS, "the image cannot be mapped");
	*ret = r;
	return 0;
}

static void running_close(void *machine)
{
	struct running *r = machine;
	munmap(r->bytes, r->len);
	free(r);
}

static int running_describe(void *machine, struct hvmi_machine *ret)
{
	(void)machine;
	ret->arch = HVMI_ARCH_X86;
	ret->ranges = 1;
	return 0;
}

static int running_range(void *machine, uint32_t index, struct hvmi_range *ret)
{
	(void)index;
	*ret = (struct hvmi_range){ .gpa = 0, .len = ((struct running *)machine)->len };
	return 0;
}

static int running_read(void *machine, uint64_t gpa, void *buf, size_t len)
{
	memcpy(buf, ((struct running *)machine)->bytes + gpa, len);
	return 0;
}

static int running_map(void *machine, uint32_t index, const void **ret)
{
	(void)index;
	*ret = ((struct running *)machine)->bytes;
	return 0;
}

const struct hvmi_backend *running_backend(void)
{
	static const struct hvmi_backend backend = {
		.size = sizeof(backend), .scheme = "running", .open = running_open,
		.close = running_close, .describe = running_describe, .range = running_range,
		.read = running_read, .map = running_map,
	};
	return &backend;
}

static uint64_t state = 88172645463325252ull;
static uint64_t draw(uint64_t below)
{
	state ^= state << 13;
	state ^= state >> 7;
	state ^= state << 17;
	return state % below;
}

static void read8(void *context)
{
	struct reads *r = context;
	uint64_t sum = 0;
	for (uint32_t i = 0; i < READS; i++) {
		uint64_t value = 0;
		hvmi_space_read(r->space, r->gvas[i], &value, sizeof(value), NULL);
		sum += value;
	}
	sink(sum);
}

static void read8_raw(void *context)
{
	struct reads *r = context;
	uint64_t sum = 0;
	for (uint32_t i = 0; i < READS; i++)
		sum += raw_load(r->bytes, raw_walk(r->bytes, r->root, r->gvas[i]));
	sink(sum);
}

static void translate(void *context)
{
	struct reads *r = context;
	uint64_t sum = 0;
	for (uint32_t i = 0; i < READS; i++) {
		uint64_t gpa = 0;
		hvmi_space_translate(r->space, r->gvas[i], &gpa);
		sum += gpa;
	}
	sink(sum);
}

static void translate_raw(void *context)
{
	struct reads *r = context;
	uint64_t sum = 0;
	for (uint32_t i = 0; i < READS; i++)
		sum += raw_walk(r->bytes, r->root, r->gvas[i]);
	sink(sum);
}

/* Each 4 KiB of the area, one after the other. */
static void copy_4k(void *context)
{
	struct reads *r = context;
	for (uint64_t done = 0; done < 64 * MIB; done += PAGE)
		hvmi_space_read(r->space, r->gvas[0] + done, r->buf, PAGE, NULL);
	sink(r->buf[0]);
}

static void copy_4k_raw(void *context)
{
	struct reads *r = context;
	const uint8_t *from = r->bytes + raw_walk(r->bytes, r->root, r->gvas[0]);
	for (uint64_t done = 0; done < 64 * MIB; done += PAGE) {
		memcpy(r->buf, from + done, PAGE);
		__asm__ volatile("" : : "r"(r->buf) : "memory");
	}
}

/* Addresses that nobody looked at lately, and translations that nobody remembers. */

#define SCATTERED 1000u

/* Out of the processor's caches: the bytes at gva and the last entry on the way there. */
static void make_cold(const struct image *image, struct hvmi_space *space, uint64_t gva)
{
	struct hvmi_walk walk = { .size = sizeof(walk) };
	if (hvmi_space_walk(space, gva, &walk, NULL))
		return;
#ifdef __x86_64__
	__builtin_ia32_clflush(image->bytes + walk.gpa);
	__builtin_ia32_clflush(image->bytes + walk.entries[walk.entry_count - 1].gpa);
#endif
}

static void scatter(struct image *image, struct reads *r)
{
	static struct hvmi_io items[SCATTERED];
	static uint64_t values[SCATTERED];
	double ns[RUNS], base[RUNS];
	for (int i = -1; i < RUNS; i++)
		for (int scalar = 0; scalar < 2; scalar++) {
			struct hvmi_space *space = space_of(image->vm, &image->kernel, 0);
			uint64_t word;
			for (uint32_t k = 0; k < SCATTERED; k++)
				items[k] = (struct hvmi_io){
					.space = space, .buf = &values[k], .len = 8,
					.address = image->direct_map + 256 * MIB +
						   (draw(64 * MIB) & ~7ull) };
			hvmi_space_read(space, r->gvas[0], &word, 8, NULL);
			for (uint32_t k = 0; k < SCATTERED; k++)
				make_cold(image, space, items[k].address);
			double start = now_ns();
			if (scalar)
				for (uint32_t k = 0; k < SCATTERED; k++)
					hvmi_space_read(space, items[k].address, items[k].buf, 8, NULL);
			else
				hvmi_read_v(image->vm, items, SCATTERED);
			double stop = now_ns();
			if (i >= 0)
				(scalar ? base : ns)[i] = stop - start;
			hvmi_space_destroy(space);
		}
	report("scatter_1000_cold", ns, base, 1, "hvmi_space_read() one after the other");
}

/* Pages of 4 KiB that lie one after the other in the kernel's space. */
static bool find_small_pages(struct hvmi_space *space, uint64_t count, uint64_t *gva_ret)
{
	struct hvmi_mapping m = { .size = sizeof(m) };
	uint64_t cursor = 0xffff800000000000, start = 0, end = 0;
	while (hvmi_space_next_mapping(space, &cursor, UINT64_MAX, &m) == 1) {
		struct hvmi_walk walk = { .size = sizeof(walk) };
		if (hvmi_space_walk(space, m.gva, &walk, NULL) || walk.page_size != PAGE ||
		    hvmi_space_walk(space, m.gva + m.len - 1, &walk, NULL) || walk.page_size != PAGE) {
			end = 0;
			continue;
		}
		if (m.gva != end)
			start = m.gva;
		end = m.gva + m.len;
		if (end - start >= count * PAGE) {
			*gva_ret = start;
			return true;
		}
	}
	return false;
}

static void choose(struct reads *r, uint64_t gva, uint64_t len)
{
	for (uint32_t i = 0; i < READS; i++)
		r->gvas[i] = gva + (draw(len) & ~7ull);
}

void bench_reads(struct image *image)
{
	struct reads *r = calloc(1, sizeof(*r));
	uint64_t small;
	r->buf = malloc(PAGE);
	r->bytes = image->bytes;
	r->root = image->kernel.root;
	struct hvmi_space *still = space_of(image->vm, &image->kernel, 0);
	struct hvmi_space *live = space_of(image->running, &image->kernel, 0);
	struct hvmi_space *uncached = space_of(image->vm, &image->kernel, HVMI_SPACE_UNCACHED);
	if (image->kernel.paging == HVMI_PAGING_X86_4LEVEL &&
	    find_small_pages(still, MIB / PAGE, &small)) {
		choose(r, small, MIB);
		r->space = still;
		compare("read8_va_1mib", read8, read8_raw, r, READS, "an inlined walk and a load");
		r->space = live;
		compare("read8_va_1mib_validated", read8, read8_raw, r, READS, "the same");
		r->space = uncached;
		compare("read8_va_1mib_uncached", read8, read8_raw, r, READS, "the same");
		compare("walk_uncached", translate, translate_raw, r, READS, "an inlined walk");
		r->space = still;
		compare("translate_1mib", translate, translate_raw, r, READS, "an inlined walk");
	} else {
		fprintf(stderr, "hvmi-bench: no 4-level kernel with 1 MiB of small pages\n");
	}
	if (image->direct_map && image->len >= 512 * MIB) {
		/* The second half of RAM: the first has the kernel's own pages in it. */
		choose(r, image->direct_map + 256 * MIB, 256 * MIB);
		r->space = still;
		compare("read8_va_256mib", read8, read8_raw, r, READS, "an inlined walk and a load");
		r->space = live;
		compare("read8_va_256mib_validated", read8, read8_raw, r, READS, "the same");
		r->gvas[0] = image->direct_map + 256 * MIB;
		r->space = still;
		scatter(image, r);
		compare("copy_4k", copy_4k, copy_4k_raw, r, 64 * MIB / PAGE, "memcpy");
	}
	hvmi_space_destroy(still);
	hvmi_space_destroy(live);
	hvmi_space_destroy(uncached);
	free(r->buf);
	free(r);
}

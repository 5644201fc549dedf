/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Page tables, every bit of them hostile. The input is what the space is like, an address, how far
 * to look from there, and a list of entries that are set in a small RAM; see struct parameters and
 * struct record. Walk, translation, mappings and reads must agree with each other.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <hvmi/space.h>

#include "machine.h"
#include "util/util.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* The last table lies in RAM by half. */
#define RAM 0x4800u
/* Runs that are looked at; log2 of the bytes that are searched for them. */
#define RUNS_MAX 100
#define REACH_MAX 32

struct parameters {
	uint8_t paging;		/* modulo 5; bit 7: a machine without map() */
	uint8_t flags;		/* HVMI_SPACE_* */
	uint8_t physical_bits;	/* 0, or modulo 21 above 32 */
	uint8_t reach;
	uint8_t root[4];
	uint8_t gva[8];
};

struct record {
	/* Modulo the slots of 8 bytes. Bit 15: all that follow in the page, 14: by 4 KiB more. */
	uint8_t slot[2];
	uint8_t value[8];
};

static void check(bool good, const char *what)
{
	if (!good) {
		fprintf(stderr, "%s\n", what);
		abort();
	}
}

static uint8_t ram[RAM];

static void fill_ram(struct hvmi_vm *vm, const uint8_t *data, size_t size)
{
	memset(ram, 0, sizeof(ram));
	for (; size >= sizeof(struct record);
	     data += sizeof(struct record), size -= sizeof(struct record)) {
		const struct record *record = (const void *)data;
		uint32_t slot = load_le16(record->slot);
		uint64_t value = load_le64(record->value);
		bool fill = slot & 0x8000, step = slot & 0x4000;
		slot = slot % 0x4000 % (RAM / 8);
		do {
			memcpy(ram + 8 * slot, &value, 8);
			value += step ? 4096 : 0;
		} while (fill && ++slot % 512 && slot < RAM / 8);
	}
	check(hvmi_vm_write(vm, 0, ram, sizeof(ram), NULL) == 0, "RAM is written");
}

struct place {
	bool mapped;
	uint64_t gpa;
	uint32_t rights;
};

static struct place look(struct hvmi_space *space, uint64_t gva)
{
	struct hvmi_walk walk = { .size = sizeof(walk) };
	uint64_t gpa = 0;
	int rc = hvmi_space_walk(space, gva, &walk, NULL);
	check(rc == 0 || rc == -EFAULT, "a walk ends well or in a fault");
	check(hvmi_space_translate(space, gva, &gpa) == rc, "walk and translation end alike");
	check(walk.entry_count <= 5, "no more than five levels");
	for (uint32_t i = 0; i < walk.entry_count; i++) {
		const struct hvmi_walk_entry *e = &walk.entries[i];
		uint64_t value = 0;
		if (i + 1 == walk.entry_count && walk.fault == HVMI_FAULT_NO_MEMORY) {
			check(e->gpa + 8 > RAM, "only what is outside of RAM is no memory");
			break;
		}
		check(e->gpa < RAM, "entries come from RAM");
		memcpy(&value, ram + e->gpa, e->value >> 32 || e->gpa % 8 == 0 ? 8 : 4);
		check((uint32_t)value == (uint32_t)e->value, "entries are those in RAM");
	}
	if (rc) {
		check(walk.fault != HVMI_FAULT_NONE, "a fault is told");
		check(walk.gpa == HVMI_NO_ADDRESS, "and there is no address");
		return (struct place){ .mapped = false };
	}
	check(walk.gpa == gpa, "walk and translation give the same address");
	check(walk.page_size && !(walk.page_size & (walk.page_size - 1)), "pages are powers of 2");
	check((gpa ^ gva) % walk.page_size == 0, "offsets in pages stay");
	return (struct place){ .mapped = true, .gpa = gpa, .rights = walk.rights };
}

static void check_mappings(struct hvmi_space *space, uint64_t first, uint64_t last)
{
	uint64_t cursor = first;
	for (int i = 0; i < RUNS_MAX; i++) {
		struct hvmi_mapping m = { .size = sizeof(m) };
		uint64_t before = cursor;
		int rc = hvmi_space_next_mapping(space, &cursor, last, &m);
		check(rc == 0 || rc == 1 || rc == -EOVERFLOW, "mappings end well");
		if (rc != 1)
			return;
		check(cursor > before && m.gva >= before && m.len && m.len - 1 <= last - m.gva,
		      "runs are in order and within bounds");
		uint64_t end = m.gva + m.len - 1;
		struct place head = look(space, m.gva), tail = look(space, end);
		check(head.mapped && head.gpa == m.gpa && head.rights == m.rights, "heads agree");
		check(tail.mapped && tail.gpa == m.gpa + m.len - 1 && tail.rights == m.rights,
		      "tails agree");
		if (m.gva > before)
			check(!look(space, m.gva - 1).mapped, "nothing mapped is left out");
		if (end < last) {
			struct place next = look(space, end + 1);
			check(!next.mapped || next.gpa != m.gpa + m.len || next.rights != m.rights,
			      "runs are as long as they can be");
		}
	}
}

static void check_reads(struct hvmi_space *space, uint64_t gva)
{
	static uint8_t buf[3 * 4096];
	size_t done = 0, len = 0;
	int rc = hvmi_space_read(space, gva, buf, sizeof(buf), &done);
	check(rc == 0 ? done == sizeof(buf) : rc == -EFAULT && done < sizeof(buf),
	      "reads tell how far they came");
	if (done) {
		struct place last = look(space, gva + done - 1);
		check(last.mapped && last.gpa < RAM && ram[last.gpa] == buf[done - 1],
		      "what is read is what is mapped");
	}
	char string[64];
	rc = hvmi_space_read_string(space, gva, string, sizeof(string), &len);
	check(strlen(string) == len && len < sizeof(string), "strings are terminated");
	check(memcmp(string, buf, MIN(len, done)) == 0 && len <= done, "strings are what is there");
	const void *host;
	if (hvmi_space_map(space, gva, 8192, &host) == 0) {
		check(done >= 8192 && memcmp(host, buf, 8192) == 0, "mappings show what is read");
		hvmi_vm_unmap(hvmi_space_vm(space), host, 8192);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct hvmi_vm *machines[2];
	if (!machines[0]) {
		machines[0] = machine_open(HVMI_OPEN_WRITE, "ram 0 %u\n", RAM);
		machines[1] = machine_open(HVMI_OPEN_WRITE, "ram 0 %u\nnomap\n", RAM);
	}
	if (size < sizeof(struct parameters))
		return 0;
	const struct parameters *p = (const void *)data;
	struct hvmi_vm *vm = machines[p->paging >> 7];
	fill_ram(vm, data + sizeof(*p), size - sizeof(*p));
	struct hvmi_space_config config = {
		.size = sizeof(config), .root = load_le32(p->root), .paging = p->paging % 128 % 5,
		.flags = p->flags & (HVMI_SPACE_PSE | HVMI_SPACE_NX),
		.physical_bits = p->physical_bits ? 32 + p->physical_bits % 21 : 0 };
	struct hvmi_space *space;
	check(hvmi_space_create(vm, &config, &space, NULL) == 0, "the configuration is good");
	uint64_t gva = load_le64(p->gva), reach = (1ull << p->reach % (REACH_MAX + 1)) - 1;
	look(space, gva);
	check_reads(space, gva);
	check_mappings(space, gva, gva > UINT64_MAX - reach ? UINT64_MAX : gva + reach);
	hvmi_space_destroy(space);
	return 0;
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Images of one pause of one real guest must tell the same. HVMI_TEST_GUEST is a folder that
 * tests/guests/guest.py filled; without it there is nothing to compare.
 */
#include "suite.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "dump_build.h"

static const char *folder;

static struct hvmi_vm *open_guest(const char *name)
{
	char path[1024];
	struct hvmi_vm *vm;
	struct hvmi_error err;
	snprintf(path, sizeof(path), "%s/%s", folder, name);
	if (access(path, R_OK))
		return NULL;
	if (hvmi_open(path, NULL, &vm, &err))
		ck_abort_msg("%s", err.text);
	return vm;
}

/* Bytes that both have must be equal. What lies below 1 MiB may be device memory in one of them. */
static uint64_t compare_memory(struct hvmi_vm *a, struct hvmi_vm *b)
{
	static uint8_t x[1 << 20], y[1 << 20];
	struct hvmi_range range;
	uint64_t same = 0;
	for (uint32_t i = 0; hvmi_vm_range(a, i, &range) == 0; i++)
		for (uint64_t at = 0; at < range.len; at += sizeof(x)) {
			uint64_t gpa = range.gpa + at, left = range.len - at;
			size_t n = left < sizeof(x) ? left : sizeof(x), got_x, got_y;
			hvmi_vm_read(a, gpa, x, n, &got_x);
			hvmi_vm_read(b, gpa, y, n, &got_y);
			size_t both = got_x < got_y ? got_x : got_y;
			same += both;
			if (memcmp(x, y, both) == 0)
				continue;
			for (size_t j = 0; j < both; j++)
				if (x[j] != y[j] && (gpa + j < 0xa0000 || gpa + j >= 0x100000))
					ck_abort_msg("0x%lx differs", gpa + j);
		}
	return same;
}

static void compare_registers(struct hvmi_vm *a, struct hvmi_vm *b)
{
	struct hvmi_vm_info x = { .size = sizeof(x) }, y = { .size = sizeof(y) };
	ck_assert_int_eq(hvmi_vm_get_info(a, &x), 0);
	ck_assert_int_eq(hvmi_vm_get_info(b, &y), 0);
	ck_assert_uint_eq(x.vcpus, y.vcpus);
	for (uint32_t vcpu = 0; vcpu < x.vcpus; vcpu++)
		for (uint32_t id = 0; id <= HVMI_REGISTER_END; id++) {
			uint64_t left = 0, right = 0;
			ck_assert_int_eq(hvmi_vm_register(a, vcpu, id, &left),
					 hvmi_vm_register(b, vcpu, id, &right));
			ck_assert_msg(left == right, "vCPU %u %s differs", vcpu,
				      hvmi_register_name(id));
		}
}

/* "RAX=...": of `info registers`; hexadecimal, the first word behind the equals sign. */
static void check_text(struct hvmi_vm *vm, uint32_t vcpu, const char *text, const char *name,
		       uint32_t id)
{
	const char *at = strstr(text, name);
	ck_assert_msg(at != NULL, "no %s", name);
	check_register(vm, vcpu, id, strtoull(at + strlen(name), NULL, 16));
}

START_TEST(registers)
{
	static const struct {
		const char *name;
		uint32_t id;
	} names[] = {
		{ "RAX=", HVMI_X86_RAX }, { "RBX=", HVMI_X86_RBX }, { "RCX=", HVMI_X86_RCX },
		{ "RDX=", HVMI_X86_RDX }, { "RSI=", HVMI_X86_RSI }, { "RDI=", HVMI_X86_RDI },
		{ "RBP=", HVMI_X86_RBP }, { "RSP=", HVMI_X86_RSP }, { "R8 =", HVMI_X86_R8 },
		{ "R9 =", HVMI_X86_R9 }, { "R10=", HVMI_X86_R10 }, { "R11=", HVMI_X86_R11 },
		{ "R12=", HVMI_X86_R12 }, { "R13=", HVMI_X86_R13 }, { "R14=", HVMI_X86_R14 },
		{ "R15=", HVMI_X86_R15 }, { "RIP=", HVMI_X86_RIP }, { "RFL=", HVMI_X86_RFLAGS },
		{ "CR0=", HVMI_X86_CR0 }, { "CR2=", HVMI_X86_CR2 }, { "CR3=", HVMI_X86_CR3 },
		{ "CR4=", HVMI_X86_CR4 }, { "CS =", HVMI_X86_CS_SELECTOR },
		{ "SS =", HVMI_X86_SS_SELECTOR }, { "TR =", HVMI_X86_TR_SELECTOR },
		{ "GDT=", HVMI_X86_GDTR_BASE }, { "IDT=", HVMI_X86_IDTR_BASE },
		{ "FS =0000 ", HVMI_X86_FS_BASE }, { "GS =0000 ", HVMI_X86_GS_BASE },
	};
	static char text[1 << 20];
	char path[1024];
	snprintf(path, sizeof(path), "%s/registers.txt", folder);
	FILE *f = fopen(path, "r");
	struct hvmi_vm *vm = open_guest("guest.elf");
	if (f && vm) {
		text[fread(text, 1, sizeof(text) - 1, f)] = '\0';
		uint32_t vcpu = 0;
		for (char *at = strstr(text, "CPU#"), *next; at; at = next, vcpu++) {
			next = strstr(at + 1, "CPU#");
			for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
				check_text(vm, vcpu, at, names[i].name, names[i].id);
		}
		ck_assert_uint_gt(vcpu, 0);
	}
	if (f)
		fclose(f);
	hvmi_close(vm);
}
END_TEST

START_TEST(formats)
{
	static const char *const names[] = {
		"ram.raw", "guest-paging.elf", "guest.kdump-zlib", "guest.kdump-lzo",
		"guest.kdump-snappy", "guest.kdump-zlib-raw", "guest.kdump-lzo-raw",
		"guest.kdump-snappy-raw",
	};
	struct hvmi_vm *elf = open_guest("guest.elf");
	static char note[65536], other[65536];
	size_t note_len = 0, other_len = 0;
	ck_assert_msg(elf != NULL, "there is no guest.elf");
	hvmi_vm_note(elf, "VMCOREINFO", note, sizeof(note), &note_len);
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		struct hvmi_vm *vm = open_guest(names[i]);
		if (!vm)
			continue;
		uint64_t same = compare_memory(elf, vm);
		printf("%s: %lu bytes are the same\n", names[i], same);
		ck_assert_uint_gt(same, 100 << 20);
		if (strcmp(names[i], "ram.raw") != 0) {
			compare_registers(elf, vm);
			hvmi_vm_note(vm, "VMCOREINFO", other, sizeof(other), &other_len);
			ck_assert_uint_eq(note_len, other_len);
			ck_assert_int_eq(memcmp(note, other, note_len), 0);
		}
		hvmi_close(vm);
	}
	hvmi_close(elf);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("dump_guest");
	TCase *tcase = tcase_create("dump_guest");
	folder = getenv("HVMI_TEST_GUEST");
	if (!folder) {
		printf("HVMI_TEST_GUEST names no guest: nothing to compare\n");
		suite_add_tcase(suite, tcase);
	} else {
		tcase_add_test(tcase, registers);
		tcase_add_test(tcase, formats);
		suite_add_tcase(suite, tcase);
	}
	return run_suite(suite);
}

/* SPDX-License-Identifier: Apache-2.0 */
/* The table of mechanisms in docs/hooks.md is what the library says. `test_hook_plan --print` prints it. */
#include "suite.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "hook_table.h"
#include "probe_machine.h"

static struct hvmi_error err;
static const uint32_t *has;

static int capability(void *machine, uint32_t asked, struct hvmi_error *error)
{
	(void)machine;
	for (const uint32_t *h = has; *h; h++)
		if (*h == asked)
			return 0;
	return hvmi_error_set(error, -ENOTSUP, HVMI_NO_ADDRESS, "this machine does not do '%s'",
			      hvmi_capability_name(asked));
}

/* Printing is no test. */
#define MUST(condition)                                                                            \
	do {                                                                                       \
		if (!(condition)) {                                                                \
			fprintf(stderr, "%s: %s\n", #condition, err.text);                         \
			abort();                                                                   \
		}                                                                                  \
	} while (0)

static struct hvmi_vm *machine(const struct column *column, unsigned vcpus)
{
	static struct hvmi_backend backend;
	struct hvmi_open_options options = { .size = sizeof(options), .flags = HVMI_OPEN_WRITE,
					     .backend = &backend };
	struct hvmi_vm *vm;
	char script[256];
	backend = *hvmi_backend_sim();
	backend.capability = capability;
	has = column->has;
	snprintf(script, sizeof(script), "%svcpu %u\n", PROBE_SCRIPT, vcpus - 1);
	MUST(machine_try(script, strlen(script), &options, &vm, &err) == 0);
	return vm;
}

/* A cell: the mechanism, how it is got over, and what it lacks. */
static void cell(struct hvmi_vm *vm, struct hvmi_space *space, const struct row *row, char *buf,
		 size_t size)
{
	struct hvmi_hook_request r = row->request;
	struct hvmi_hook_plan plan = { .size = sizeof(plan) };
	r.space = row->space ? space : NULL;
	int rc = hvmi_hook_plan_request(vm, &r, &plan, &err);
	if (rc) {
		MUST(rc == -ENOTSUP);
		MUST(strlen(err.text) > 20);
		snprintf(buf, size, "-");
		return;
	}
	bool plain = plan.step_over == HVMI_STEP_OVER_ANSWER;
	snprintf(buf, size, "%s%s%s%s%s", hvmi_hook_mechanism_name(plan.mechanism), plain ? "" : ", ",
		 plain ? "" : hvmi_step_over_name(plan.step_over),
		 plan.flags & HVMI_PLAN_STEALTH ? "" : " (visible)",
		 plan.flags & HVMI_PLAN_AFTER ? " (after it)" : "");
	/* What it says of stealth holds when it is asked for. */
	r.flags = HVMI_HOOK_STEALTH;
	int wanted = plan.flags & HVMI_PLAN_STEALTH ? 0 : -ENOTSUP;
	MUST(hvmi_hook_plan_request(vm, &r, &plan, &err) == wanted);
}

static void make_table(char *table, size_t size)
{
	struct hvmi_vm *vms[COLUMNS];
	size_t len = (size_t)snprintf(table, size, "| hook |");
	for (size_t c = 0; c < COLUMNS; c++)
		len += (size_t)snprintf(table + len, size - len, " %s |", columns[c].name);
	len += (size_t)snprintf(table + len, size - len, "\n|---|");
	for (size_t c = 0; c < COLUMNS; c++)
		len += (size_t)snprintf(table + len, size - len, "---|");
	len += (size_t)snprintf(table + len, size - len, "\n");
	for (size_t r = 0; r < ROWS; r++) {
		len += (size_t)snprintf(table + len, size - len, "| %s |", rows[r].name);
		for (size_t c = 0; c < COLUMNS; c++) {
			const struct hvmi_space_config config = { .size = sizeof(config) };
			struct hvmi_space *space;
			char text[128];
			vms[c] = machine(&columns[c], 2);
			MUST(hvmi_space_create(vms[c], &config, &space, &err) == 0);
			cell(vms[c], space, &rows[r], text, sizeof(text));
			hvmi_space_destroy(space);
			hvmi_close(vms[c]);
			len += (size_t)snprintf(table + len, size - len, " %s |", text);
		}
		len += (size_t)snprintf(table + len, size - len, "\n");
	}
	MUST(len < size);
}

START_TEST(table)
{
	static char wanted[65536], page[262144];
	FILE *file = fopen(HOOKS_MD, "r");
	ck_assert_ptr_nonnull(file);
	size_t len = fread(page, 1, sizeof(page) - 1, file);
	fclose(file);
	ck_assert_uint_lt(len, sizeof(page) - 1);
	make_table(wanted, sizeof(wanted));
	ck_assert_msg(strstr(page, wanted) != NULL,
		      "docs/hooks.md does not have this table:\n%s", wanted);
}
END_TEST

START_TEST(names)
{
	ck_assert_str_eq(hvmi_hook_mechanism_name(HVMI_MECHANISM_EVENT), "event");
	ck_assert_ptr_null(hvmi_hook_mechanism_name(0));
	ck_assert_ptr_null(hvmi_hook_mechanism_name(HVMI_MECHANISM_END));
	ck_assert_str_eq(hvmi_step_over_name(HVMI_STEP_OVER_FAST), "fast step");
	ck_assert_ptr_null(hvmi_step_over_name(HVMI_STEP_OVER_END));
	ck_assert_str_eq(hvmi_hook_kind_name(HVMI_HOOK_PROCESS_SWITCH), "process switch");
	ck_assert_ptr_null(hvmi_hook_kind_name(0));
	for (uint32_t i = 1; i < HVMI_HOOK_KIND_END; i++)
		ck_assert_ptr_nonnull(hvmi_hook_kind_name(i));
	for (uint32_t i = 1; i < HVMI_MECHANISM_END; i++)
		ck_assert_ptr_nonnull(hvmi_hook_mechanism_name(i));
	for (uint32_t i = 1; i < HVMI_STEP_OVER_END; i++)
		ck_assert_ptr_nonnull(hvmi_step_over_name(i));
}
END_TEST

int main(int argc, char **argv)
{
	static char text[65536];
	if (argc == 2 && strcmp(argv[1], "--print") == 0) {
		make_table(text, sizeof(text));
		fputs(text, stdout);
		return 0;
	}
	Suite *suite = suite_create("hook_plan");
	TCase *tests = tcase_create("hook_plan");
	tcase_add_test(tests, table);
	tcase_add_test(tests, names);
	suite_add_tcase(suite, tests);
	return run_suite(suite);
}

/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HVMI_TESTS_SUITE_H
#define HVMI_TESTS_SUITE_H

#include <check.h>
#include <stdlib.h>

/*
 * Check ends what takes longer than 4 s, which a busy machine may need. What hangs is named by it all
 * the same, before ctest ends the program.
 */
__attribute__((constructor)) static void set_default_timeout(void)
{
	setenv("CK_DEFAULT_TIMEOUT", "600", 0);
}

/* Run and free a suite; what main() returns. */
static inline int run_suite(Suite *suite)
{
	SRunner *runner = srunner_create(suite);
	srunner_run_all(runner, CK_ENV);
	int failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed != 0;
}

#endif

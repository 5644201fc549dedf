/* SPDX-License-Identifier: Apache-2.0 */
/* How the suite's helpers end a program that is no suite. */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "../conformance/suite.h"

void fail(const char *format, ...)
{
	va_list args;
	va_start(args, format);
	vprintf(format, args);
	va_end(args);
	printf("\n");
	exit(1);
}

void skip(const char *format, ...)
{
	va_list args;
	va_start(args, format);
	vprintf(format, args);
	va_end(args);
	printf("\n");
	exit(77);
}

// SPDX-License-Identifier: Apache-2.0
/* A 32-bit process that needs no 32-bit library: pause() for ever. */

static volatile unsigned char data[3 * 4096] = { 1 };

void _start(void)
{
	data[2 * 4096] = 2;
	for (;;)
		__asm__ volatile("int $0x80" : : "a"(29) : "memory");
}

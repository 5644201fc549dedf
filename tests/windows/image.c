/* SPDX-License-Identifier: Apache-2.0 */
/* A library with all that images have; check_pe.py compiles it, for x64 with frames of many kinds. */
#define EXPORT __declspec(dllexport)
#define IMPORT __declspec(dllimport)

IMPORT int other_named(int);
IMPORT int other_numbered(int);
IMPORT int second_module(void);
int _fltused;
static volatile int sink;

void *memset(void *to, int value, __SIZE_TYPE__ len)
{
	for (volatile char *at = to; len--; at++)
		*at = (char)value;
	return to;
}

EXPORT int exported_data = 7;

static int leaf(int x)
{
	return x + 1;
}

EXPORT int small_frame(int x)
{
	sink = x;
	return leaf(x) + other_named(x) + other_numbered(x);
}

EXPORT int large_frame(int x)
{
	volatile char buffer[3000];
	buffer[x] = (char)x;
	return buffer[x / 2] + small_frame(x) + second_module();
}

EXPORT int moving_frame(int n)
{
	volatile int *block = __builtin_alloca((unsigned)n);
	block[0] = n;
	return block[0] + small_frame(block[1]);
}

EXPORT int many_registers(int a, int b, int c, int d)
{
	int e = small_frame(a), f = small_frame(b), g = small_frame(c), h = small_frame(d);
	int i = small_frame(e + f), j = small_frame(g + h);
	return a + b + c + d + e * f + g * h + i * j;
}

EXPORT double floats(double a, double b)
{
	double c = small_frame((int)a), d = small_frame((int)b);
	return a * b + c * d;
}

int only_numbered(void)
{
	return 3;
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A 32-bit program of a guest, without a libc: as many system calls as its first argument says, by the way that the
 * kernel's vDSO has for this processor (AT_SYSINFO). Its exit status tells which that is.
 */
typedef unsigned int word;

enum { EXIT = 1, OPEN = 5, GETPPID = 64, MMAP2 = 192 };
enum { BY_INT80 = 10, BY_SYSENTER, BY_SYSCALL };	/* exit status */
enum { AT_SYSINFO = 32 };

static word vsyscall;
static const volatile char path[] = "/no/such/narrow";

static word call(word number, word a, word b, word c, word d, word e, word f)
{
	/* ESI, EDI and EBP, which is the compiler's too. */
	const word rest[4] = { d, e, f, vsyscall };
	word result, from = (word)rest;
	__asm__ volatile("push %%ebp\n\tpush 12(%%esi)\n\tmov 8(%%esi), %%ebp\n\tmov 4(%%esi), %%edi\n\t"
			 "mov (%%esi), %%esi\n\tcall *(%%esp)\n\tadd $4, %%esp\n\tpop %%ebp"
			 : "=a"(result), "+S"(from)
			 : "0"(number), "b"(a), "c"(b), "d"(c)
			 : "memory", "edi");
	return result;
}

__attribute__((used, noreturn)) static void run(word *stack)
{
	word argc = stack[0], way = BY_INT80, calls = 0;
	const char *text = argc > 1 ? (const char *)stack[2] : "";
	word *aux = stack + 1 + argc + 1;
	while (*aux++)
		;
	for (; aux[0]; aux += 2)
		if (aux[0] == AT_SYSINFO)
			vsyscall = aux[1];
	const unsigned char *code = (const unsigned char *)vsyscall;
	for (int i = 0; i < 16 && way == BY_INT80; i++)
		if (code[i] == 0x0f && (code[i + 1] == 0x34 || code[i + 1] == 0x05))
			way = code[i + 1] == 0x34 ? BY_SYSENTER : BY_SYSCALL;
	for (; *text; text++)
		calls = 10 * calls + (word)(*text - '0');
	/* What nobody has touched is not in memory. */
	(void)path[0];
	for (word i = 0; i < calls; i++) {
		call(GETPPID, 0, 0, 0, 0, 0, 0);
		if (i % 2 == 0)
			call(OPEN, (word)path, 1, 0, 0, 0, 0);
		/* Anonymous and private, of no descriptor, and an offset that means nothing. */
		if (i % 8 == 0)
			call(MMAP2, 0, 4096, 3, 0x22, (word)-1, i);
	}
	call(EXIT, way, 0, 0, 0, 0, 0);
	for (;;)
		;
}

__asm__(".globl _start\n_start:\n\tmov %esp, %eax\n\tpush %eax\n\tcall run");

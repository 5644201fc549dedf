/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the suite has the guest execute. Position-independent, and simple enough for the vCPUs of the
 * sim backend. mailbox.h lists the places.
 */
#include "mailbox.h"

#define FUNCTION(name) .balign 16; probe_##name: endbr64
#define PLACE(name) probe_##name:

	.text
	.balign 4096
	.globl probe_code
probe_code:
#define X(name) .long probe_##name - probe_code;
	PROBE_PLACES(X)
#undef X

/* Returns its argument plus 6. */
FUNCTION(steps)
	mov %rdi, %rax
PLACE(steps_1)
	nop
PLACE(steps_2)
	add $2, %rax
PLACE(steps_3)
	add $4, %rax
PLACE(steps_4)
	ret

/* The workers': writes, reads back, returns one more. */
FUNCTION(work)
	mov %rsi, (%rdi)
	mov (%rdi), %rax
	add $1, %rax
	ret

	/* Those that touch memory do it with their first instruction. */
	.balign 16
PLACE(read)
	mov (%rdi), %rax
PLACE(read_next)
	ret

	.balign 16
PLACE(write)
	mov %rsi, (%rdi)
PLACE(write_next)
	ret

	.balign 16
PLACE(add)
	add %rsi, (%rdi)
PLACE(add_next)
	ret

/* To, from, bytes. */
FUNCTION(copy)
	mov %rdx, %rcx
PLACE(copy_insn)
	rep movsb
PLACE(copy_next)
	ret

	.balign 16
PLACE(int3)
	int3
PLACE(int3_next)
	mov %rdi, %rax
	ret

/* Leaf, subleaf, where to put EAX, EBX, ECX, EDX. */
FUNCTION(cpuid)
	push %rbx
	mov %rdx, %r8
	mov %edi, %eax
	mov %esi, %ecx
PLACE(cpuid_insn)
	cpuid
PLACE(cpuid_next)
	mov %eax, (%r8)
	mov %ebx, 4(%r8)
	mov %ecx, 8(%r8)
	mov %edx, 12(%r8)
	pop %rbx
	ret

	.balign 16
PLACE(icebp)
	.byte 0xf1
PLACE(icebp_next)
	mov %rdi, %rax
	ret

/* A single step of its own: the trap comes after the first instruction behind popf. */
FUNCTION(trap)
	pushfq
	pop %rax
	mov %rax, %rdx
	or $0x100, %rax
	push %rax
	popfq
	nop
PLACE(trap_next)
	push %rdx
	popfq
	mov %rdi, %rax
	ret

/* Adds one to the number at its first argument, as often as its second says. */
FUNCTION(loop)
	addq $1, (%rdi)
	dec %rsi
	jnz probe_loop
	ret

/* HVMOP_guest_request_vm_event: public/hvm/hvm_op.h of Xen. */
FUNCTION(request_intel)
	mov $34, %eax
	mov $24, %edi
	mov $0, %esi
	vmcall
	ret

FUNCTION(request_amd)
	mov $34, %eax
	mov $24, %edi
	mov $0, %esi
	vmmcall
	ret

/* Flip the bits of the argument and flip them back. Returns what was there before and between. */
#define TOGGLE(cr)                                                                                 \
	mov %cr, %rax; mov %rax, %rcx; xor %rdi, %rcx;                                             \
	probe_##cr##_insn: mov %rcx, %cr; mov %cr, %rdx; mov %rax, %cr; ret

FUNCTION(cr0)
	TOGGLE(cr0)
FUNCTION(cr3)
	TOGGLE(cr3)
FUNCTION(cr4)
	TOGGLE(cr4)

/* The low half of XCR0. */
FUNCTION(xcr0)
	mov $0, %ecx
	xgetbv
	mov %rdx, %r9
	mov %rax, %r8
	xor %rdi, %rax
PLACE(xcr0_insn)
	xsetbv
	xgetbv
	mov %rax, %r10
	mov %r8, %rax
	mov %r9, %rdx
	xsetbv
	mov %r10, %rdx
	ret

/* The same for the low half of an MSR: its number, the bits. */
FUNCTION(msr)
	mov %rdi, %rcx
	rdmsr
	mov %rdx, %r9
	mov %rax, %r8
	xor %rsi, %rax
PLACE(msr_insn)
	wrmsr
	rdmsr
	shl $32, %rdx
	or %rax, %rdx
	mov %rdx, %r10
	mov %r9, %rdx
	mov %r8, %rax
	wrmsr
	mov %r9, %rdx
	shl $32, %rdx
	mov %r8, %rax
	or %rdx, %rax
	mov %r10, %rdx
	ret

/* Store it, load it again. */
FUNCTION(idt)
	sidt (%rdi)
	lidt (%rdi)
	ret
FUNCTION(gdt)
	sgdt (%rdi)
	lgdt (%rdi)
	ret
FUNCTION(ldt)
	sldt %eax
	lldt %ax
	ret
/* A task register in use cannot be loaded. */
FUNCTION(tr)
	str %eax
	ret

/* Port, byte. Returns what came back. */
FUNCTION(io)
	mov %rdi, %rdx
	mov %rsi, %rax
PLACE(io_out)
	out %al, (%dx)
PLACE(io_in)
	in (%dx), %al
PLACE(io_next)
	ret

/* A struct probe_remap: on to its last number. */
FUNCTION(remap)
	mov 16(%rdi), %rax
	mov (%rdi), %rsi
1:	mov %eax, %r9d
	and $3, %r9d
	inc %rax
	mov %eax, %ecx
	and $3, %ecx
	mov 32(%rdi,%rcx,8), %r8
	mov %rax, (%r8)
	mov %rax, %r10
	shr $2, %r10
	mov %r10, %r11
	and $7, %r11d
	shl $9, %r11
	shr $3, %r10
	and $0x7ff, %r10d
	shl $52, %r10
	or %r11, %r10
	or 64(%rdi,%rcx,8), %r10
	mov %r10, (%rsi)
	mov 8(%rdi), %r8
	invlpg (%r8)
	mov %rax, 16(%rdi)
	mov 32(%rdi,%r9,8), %r8
	movq $-1, (%r8)
	cmp 24(%rdi), %rax
	jb 1b
	ret

/* Memory for code of others. */
	.balign 16
PLACE(spare)
	.fill 256, 1, 0xcc

	.globl probe_code_end
probe_code_end:
	.section .note.GNU-stack, "", @progbits

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a guest of the tests has for a kernel: an image with the names, sections and exports by which
 * a Windows kernel is known. It never runs; the builder fills its data in.
 */
typedef unsigned long long u64;
typedef unsigned int u32;

#define EXPORT __declspec(dllexport)
#define IN(name) __attribute__((section(name), used))

/* Exported by every release that the builder knows. */
EXPORT void *PsInitialSystemProcess[1] IN(".data") = { 0 };
EXPORT void *PsProcessType[1] IN(".data") = { 0 };
EXPORT void *PsThreadType[1] IN(".data") = { 0 };
EXPORT void *IoFileObjectType[1] IN(".data") = { 0 };
EXPORT void *IoDriverObjectType[1] IN(".data") = { 0 };
EXPORT void *HalDispatchTable[32] IN(".data") = { 0 };
EXPORT u32 NtBuildNumber IN(".data") = 1;
#ifdef EXPORT_MODULES
EXPORT
#endif
void *PsLoadedModuleList[2] IN(".data") = { 0 };
#ifdef _M_IX86
EXPORT
#endif
void *KeServiceDescriptorTable[8] IN(".data") = { 0 };

#define HIDDEN(name, count) void *name[count] IN(".data") = { 0 };
#include "symbols.def"
#undef HIDDEN

char NtBuildLab[96] IN(".rdata") = "?";
/* Nothing is below a megabyte. */
char padding[1 << 20] IN("PAGEDATA") = { 0 };

#ifdef _M_ARM64
#define HALT "brk #0"
#else
#define HALT "hlt"
#endif
#define ENTRY(name, part) void IN(part) name(void) { __asm__ volatile("nop; nop; nop; " HALT); }
ENTRY(KiSystemStartup, "INIT")
ENTRY(KiSystemCall64, ".text")
ENTRY(KiPageFault, ".text")
ENTRY(KiFastCallEntry, ".text")
ENTRY(KiSystemCall64Shadow, "KVASCODE")
ENTRY(KiPageFaultShadow, "KVASCODE")
ENTRY(PspNotify, "PAGE")
ENTRY(KdpTrap, "PAGEKD")
ENTRY(NtService, ".text")

/* Who adds a callback and who takes it away use the same array, themselves or by what they call. */
static int PspSetCreateProcessNotifyRoutine(void *function, int remove)
{
	for (u32 i = 0; i < 64; i++)
		if ((PspCreateProcessNotifyRoutine[i] == function) == remove)
			return PspNotifyEnableMask[0] != 0;
	return -1;
}
EXPORT int PsSetCreateProcessNotifyRoutine(void *function, int remove)
{
	return PspSetCreateProcessNotifyRoutine(function, remove);
}
EXPORT int PsSetCreateProcessNotifyRoutineEx(void *function, int remove)
{
	return PspSetCreateProcessNotifyRoutine(function, remove);
}
EXPORT int PsSetCreateThreadNotifyRoutine(void *function)
{
	PspCreateThreadNotifyRoutine[PspNotifyEnableMask[0] != 0] = function;
	return 0;
}
EXPORT int PsRemoveCreateThreadNotifyRoutine(void *function)
{
	void **array = PspCreateThreadNotifyRoutine;
	while (*array != function)
		array++;
	*array = 0;
	return 0;
}
static int PspSetImageNotifyRoutine(void *function)
{
	PspLoadImageNotifyRoutine[PspNotifyEnableMask[0] != 0] = function;
	return 0;
}
EXPORT int PsSetLoadImageNotifyRoutine(void *function)
{
	return PspSetImageNotifyRoutine(function);
}
EXPORT int PsRemoveLoadImageNotifyRoutine(void *function)
{
	return PspLoadImageNotifyRoutine[0] == function;
}
/* Until 2003 those of the registry are in an array, too. */
EXPORT int CmRegisterCallback(void *function)
{
	CmpCallBackVector[PspNotifyEnableMask[0] != 0] = function;
	return 0;
}
EXPORT int CmUnRegisterCallback(void *function)
{
	return CmpCallBackVector[0] == function;
}

#ifdef _M_X64
void IN(".text") KiSystemServiceRepeat(void)
{
	__asm__ volatile("leaq KeServiceDescriptorTable(%rip), %r10;"
			 "leaq KeServiceDescriptorTableShadow(%rip), %r11;" HALT);
}
#endif

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

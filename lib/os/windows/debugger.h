/* SPDX-License-Identifier: Apache-2.0 */
/* What Windows has ready for its debuggers: the header of a crash dump, and KDDEBUGGER_DATA64. */
#ifndef HVMI_LIB_WINDOWS_DEBUGGER_H
#define HVMI_LIB_WINDOWS_DEBUGGER_H

#include "os/windows/windows.h"

/* The header of a crash dump; 0 what it does not say. It was in the file, so it may lie. */
struct windows_header {
	uint32_t machine;		/* WINDOWS_MACHINE_* */
	bool pae;
	uint64_t root;			/* DirectoryTableBase */
	uint64_t modules, processes;	/* PsLoadedModuleList, PsActiveProcessHead */
	uint64_t debugger;		/* KdDebuggerDataBlock */
};
/* -ENOENT: the machine is no crash dump. */
int windows_header_read(struct hvmi_vm *vm, struct windows_header *ret);

/*
 * Add the symbols that the header and KDDEBUGGER_DATA64 tell, as far as what is there agrees. The
 * latter is encoded in a kernel that runs since 8, and plain in a dump that Windows wrote.
 */
void windows_debugger_read(struct hvmi_os *os, struct hvmi_space *space);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/* Finding what only symbols lead to in a kernel whose symbols nobody has. */
#ifndef HVMI_LIB_WINDOWS_SEARCH_H
#define HVMI_LIB_WINDOWS_SEARCH_H

#include "os/windows/windows.h"

struct search_module {
	uint64_t start, end;
};

struct search {
	struct hvmi_os *os;
	struct windows_os *data;
	struct hvmi_space *space;
	const struct windows_image *image;
	struct search_module *modules;
	uint32_t module_count;
	uint32_t pointer_bytes;
};

/* Whether an address is in a section of the kernel's image that has all of `with`, none of `without`. */
bool search_in_section(const struct search *s, uint64_t gva, uint32_t with, uint32_t without);
/* Whether an address is in a loaded module, the kernel being one. */
bool search_in_module(const struct search *s, uint64_t gva);
/* A pointer of the guest; 0 where there is none. */
uint64_t search_pointer(const struct search *s, uint64_t gva);
/* Whether a symbol is unknown. */
bool search_wants(const struct search *s, const char *symbol);
/* Make an address a symbol, and say why. */
void search_add(const struct search *s, const char *symbol, uint64_t gva, const char *source);

/* By the code that uses them: arrays of callbacks, tables of services. */
void search_code(const struct search *s);

/*
 * Look for heads of hives and callbacks, arrays of callbacks, tables of services and unloaded drivers
 * as far as they are unknown, and add what is certain to the symbols. What could be two things is
 * neither. When the modules are known.
 */
void windows_search(struct hvmi_os *os, struct hvmi_space *space);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/* What the hvmi-* tools share: options, opening, errors, exit codes, JSON. */
#ifndef TOOL_H
#define TOOL_H

#include <getopt.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <hvmi/hvmi.h>

/* The man pages document these: scripts rely on them. */
enum tool_exit {
	TOOL_OK = 0,
	TOOL_PARTIAL = 1,	/* not found, not mapped, or only a part of it could be had */
	TOOL_USAGE = 2,
	TOOL_TARGET = 3,	/* the target cannot be opened */
	TOOL_OS = 4,		/* no operating system was recognised */
	TOOL_INTERNAL = 5	/* out of memory, or input or output fails */
};

struct tool {
	const char *usage;
	char **operands;
	int operand_count;
	bool json, verbose, force_profile;
	bool pause;			/* set by tools that have the option */
	bool guestless;			/* set by tools that look into no guest */
	bool write;			/* set by tools that change the guest, before it is opened */
	const char *profile, *symbol_path;	/* of the guest's kernel, or NULL */
	bool in_list, had_item;		/* of a JSON array */
	enum tool_exit status;
	struct hvmi_vm *vm;
	struct hvmi_os *os;
	struct hvmi_error err;		/* for the call at hand */
};

/* Options. `usage` is what --help prints first; lines about the common options are added. */
void tool_begin(struct tool *tool, const char *usage, int argc, char **argv);
/* The next option of the tool's own, -1 at the end; the common ones are dealt with. */
int tool_option(struct tool *tool, const struct option *own);
/* After the options: what is left must be `min` to `max` words. */
void tool_operands(struct tool *tool, int min, int max);
uint64_t tool_number(const char *what, const char *text, uint64_t max);

/* Whether the guest is Windows: what only it has is not printed for others. */
bool tool_windows(const struct tool *tool);

/* The lines of --help about it. */
#define TOOL_PAUSE_USAGE "      --pause         stop the machine meanwhile\n"

/* Opening the first operand, and closing everything. */
struct hvmi_open_options tool_open_options(const struct tool *tool);
void tool_open(struct tool *tool);
void tool_open_os(struct tool *tool);
/* hvmi_os_attach() of what is open, with the options that were given. */
int tool_attach(struct tool *tool);
/*
 * With --pause: stop the machine until tool_resume() or the program's end. What is printed meanwhile is
 * kept, so that a slow reader does not hold it up, and signals that would end the program wait. false:
 * it cannot be stopped, which was told.
 */
bool tool_pause(struct tool *tool);
void tool_resume(struct tool *tool);
/* Closes, sees that the output arrived, and returns the exit code. */
int tool_end(struct tool *tool);

/* Errors: one line on stderr. tool_die() ends the program; the others remember the exit code. */
void tool_die(enum tool_exit code, const char *format, ...)
	__attribute__((format(printf, 2, 3), noreturn));
void tool_error(struct tool *tool, enum tool_exit code, const char *format, ...)
	__attribute__((format(printf, 3, 4)));
/* A call of the library failed with `rc`; tool->err says how. */
void tool_failed(struct tool *tool, int rc);
/* The exit code for an error of the library after opening. */
enum tool_exit tool_code(int rc);

/* A place in guest memory. */
struct tool_place {
	struct hvmi_space *space;	/* NULL: guest-physical; destroyed by the caller */
	uint64_t address;
};
/* NUMBER, SYMBOL or SYMBOL+NUMBER; false: there is no such symbol, which was told. */
bool tool_address(struct tool *tool, const char *text, uint64_t *ret);
/* gpa:ADDRESS, kernel:ADDRESS, PID:ADDRESS, or a bare address in `fallback`; false as above. */
bool tool_place(struct tool *tool, const char *text, const char *fallback,
		struct tool_place *ret);

/* Guest text, escaped; freed by the caller. */
char *tool_escape(const void *bytes, size_t len);
const char *tool_rights(uint32_t rights, char buf[5]);
const char *tool_size(uint64_t bytes, char buf[32]);

/* JSON. Values are never NULL: without memory the program ends. */
json_t *tool_json_hex(uint64_t address);
/* A number; above 2^63 - 1, where jansson has none, its decimal digits as a string. */
json_t *tool_json_number(uint64_t number);
json_t *tool_json_text(const void *bytes, size_t len);
/* `{"key": value, ...}` until a NULL key; takes the references. */
json_t *tool_json_object(const char *key, ...) __attribute__((sentinel));
void tool_json_set(json_t *object, const char *key, json_t *value);
void tool_json_append(json_t *array, json_t *value);
/* Print one value, or one of a list, and drop it. */
void tool_print(struct tool *tool, json_t *value);
/* What tool_print() prints from here on are the elements of one array. */
void tool_list(struct tool *tool);

#endif

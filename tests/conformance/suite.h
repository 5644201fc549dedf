/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One suite for every backend: what a machine can do is asked, never guessed from its name. A test is a
 * function that returns when it is good; failing and skipping leave it by longjmp(), and whatever it
 * left behind in the guest is put back before the next one.
 */
#ifndef HVMI_CONFORMANCE_SUITE_H
#define HVMI_CONFORMANCE_SUITE_H

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include <hvmi/hvmi.h>

#include "guest/mailbox.h"

#define PAGE 4096u

struct options {
	const char *target;
	const char *second;	/* another machine, or NULL */
	const char *mailbox;	/* where it is, or NULL: in the process of that name */
	const char *module_dir;
	const char *place;	/* the journals' folder, of one that is to be killed */
	unsigned cycles;
	int timeout_ms;
	bool verbose;
	bool no_int3;		/* int3s are not told, though the machine says so */
};
extern struct options options;

/* A machine, and the probe in it, if there is one. */
struct machine {
	const char *target;
	struct hvmi_vm *vm;
	struct hvmi_vm_info info;
	struct hvmi_os *os;
	struct hvmi_space *space;	/* the probe's; NULL: there is no probe */
	struct hvmi_events *events;
	char no_probe[HVMI_ERROR_TEXT];	/* why not */
	uint64_t mailbox;		/* gva */
	struct probe_mailbox box;	/* as it was at the beginning */
	uint32_t offsets[PLACE_COUNT];
	uint8_t code[PROBE_CODE_BYTES];
	uint64_t number;		/* of the last command */
	uint64_t foreign;		/* events of others that were passed on */
	unsigned pauses;
};

/* The machine of --second only in the tests that ask for it. */
extern struct machine machine;

struct test {
	const char *name;
	void (*run)(void);
};
extern const struct test memory_tests[], event_tests[], access_tests[], processor_tests[], hook_tests[],
	place_tests[], detach_tests[];

/* Place hooks and detours, and take them away, for ever. */
void place_until_killed(void);

/* End the test. */
void fail(const char *format, ...) __attribute__((format(printf, 1, 2), noreturn));
void skip(const char *format, ...) __attribute__((format(printf, 1, 2), noreturn));
/* A line beside the results. */
void remark(const char *format, ...) __attribute__((format(printf, 1, 2)));

#define CHECK(condition)                                                                           \
	do {                                                                                       \
		if (!(condition))                                                                  \
			fail("%s:%d: %s", __func__, __LINE__, #condition);                         \
	} while (0)
/* Both as numbers. */
#define SAME(actual, expected)                                                                     \
	do {                                                                                       \
		unsigned long long a_ = (unsigned long long)(actual);                              \
		unsigned long long e_ = (unsigned long long)(expected);                            \
		if (a_ != e_)                                                                      \
			fail("%s:%d: %s is 0x%llx, not 0x%llx (%s)", __func__, __LINE__, #actual,  \
			     a_, e_, #expected);                                                   \
	} while (0)
/* A call of the library that has to succeed; `error` is what it fills. */
#define GOOD(call)                                                                                 \
	do {                                                                                       \
		int r_ = (call);                                                                   \
		if (r_)                                                                            \
			fail("%s:%d: %s: %s: %s", __func__, __LINE__, #call, hvmi_error_name(r_),  \
			     error.text);                                                          \
	} while (0)
extern struct hvmi_error error;

/* machine.c: opening and closing. */
int machine_open(struct machine *m, const char *target, uint32_t flags);
void machine_close(struct machine *m);
/* Events closed, not paused, the probe idle, its pages as they were. 0, or -1 if it is not well. */
int machine_settle(struct machine *m);

/* What a test needs; skips it. */
void need(uint32_t capability);
void need_event(uint32_t kind);
void need_probe(uint32_t features);
void need_running(void);

/* probe.c: what the guest is told to do. */
uint64_t user_place(enum probe_place place);
uint64_t exec_place(enum probe_place place);
/* In the kernel; skips without the module. */
uint64_t kernel_place(enum probe_place place);
uint64_t data_page(unsigned index);
uint64_t gpa_of(uint64_t gva);
void guest_read(uint64_t gva, void *buf, size_t len);
void guest_write(uint64_t gva, const void *buf, size_t len);
/* An address space that has the module's code and data; to be destroyed. */
struct hvmi_space *kernel_space(void);
struct probe_mailbox mailbox_now(void);
uint32_t last_vcpu(void);
/* Have it call a function: in the process, or in the kernel if that is where it is. */
void start_call(uint32_t vcpu, uint64_t function, uint64_t a, uint64_t b, uint64_t c);
void start_command(uint32_t op, uint32_t vcpu, uint64_t function, uint64_t a, uint64_t b, uint64_t c);
bool call_done(void);
/* Wait for its result. */
struct probe_result end_call(void);
/* The same, while events of others are passed on; one at the function itself fails. */
struct probe_result end_call_passing(uint64_t function);
/* Both, without events. */
struct probe_result guest_call(uint32_t vcpu, uint64_t function, uint64_t a, uint64_t b, uint64_t c);

/* Events. */
void open_events(void);
struct hvmi_event_request request_of(uint32_t kind);
void request(const struct hvmi_event_request *request);
#define ANYWHERE UINT64_MAX
/* The next event of a kind whose vCPU is within 64 bytes of an address; others are passed on. */
struct hvmi_event expect(uint32_t kind, uint64_t where);
void no_event(void);
void answer(const struct hvmi_event *event, uint32_t flags);
void answer_with(const struct hvmi_event *event, const struct hvmi_answer *answer);
/* As if nobody had asked for it. */
void pass_on(struct machine *m, const struct hvmi_event *event);
uint64_t event_register(const struct hvmi_event *event, uint32_t id);
bool event_at(const struct hvmi_event *event, uint64_t where);
/* Go on there, with RAX changed too if it is given. */
void answer_at(const struct hvmi_event *event, uint32_t flags, uint64_t rip, const uint64_t *rax);
/*
 * Have the probe call a function at a place of PROBE_EXEC, or of the kernel, and stop before it, in
 * whatever way the machine can; nothing needs to be requested for it.
 */
struct hvmi_event stop_at(uint32_t vcpu, uint64_t function, uint64_t a, uint64_t b);
struct hvmi_event stop_before(uint32_t vcpu, enum probe_place place, uint64_t a, uint64_t b);
/* A vCPU of the probe that waits, no matter where; it goes on without meeting anything again. */
struct hvmi_event stop_anywhere(uint32_t vcpu);
/* Ends its call, and judges the result: `kind` is that of the event it stopped at. */
void end_anywhere(uint32_t kind);
int64_t now_ms(void);
void nap_ms(int ms);

#endif

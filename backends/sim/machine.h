/* SPDX-License-Identifier: Apache-2.0 */
/* What a script makes and the methods serve. */
#ifndef HVMI_BACKEND_SIM_MACHINE_H
#define HVMI_BACKEND_SIM_MACHINE_H

#include <stdbool.h>

#include <hvmi/backend.h>

#define SIM_PAGE 4096u
#define SIM_CHUNK 8192u
#define SIM_VCPUS_MAX 4096u
#define SIM_RANGES_MAX 16384u
/* Bytes of a script or a note that are believed. */
#define SIM_FILE_MAX (64u * 1024 * 1024)

/* Every method that can be made to fail. */
#define SIM_METHODS(X)                                                                             \
	X(open) X(describe) X(range) X(read) X(write) X(map) X(next_data) X(note)                  \
	X(get_register) X(set_register) X(pause) X(resume) X(map_pages) X(unmap_pages)             \
	X(get_registers) X(set_registers)                                                          \
	X(capability) X(inject) X(events_open) X(event_request) X(event_cancel) X(event_next)      \
	X(event_answer) X(view_create) X(view_destroy) X(view_switch) X(view_set_rights)           \
	X(view_get_rights) X(view_remap) X(page_create) X(page_destroy)

enum sim_method {
#define X(name) SIM_METHOD_##name,
	SIM_METHODS(X)
#undef X
	SIM_METHOD_COUNT
};

struct sim_range {
	struct hvmi_range at;
	uint8_t *bytes;
	int fd;			/* of the file behind bytes, or -1 */
	uint64_t *written;	/* a bit for each page that may hold something other than zeros */
	uint64_t *written_chunks;	/* and one for each SIM_CHUNK pages */
};

struct sim_vcpu {
	uint64_t values[HVMI_REGISTER_END];
	bool known[HVMI_REGISTER_END];
};

struct sim_note {
	char *name;
	uint8_t *bytes;
	size_t len;
};

/* Calls number first to first + count - 1 of a method fail. */
struct sim_failure {
	enum sim_method method;
	uint64_t first;
	uint64_t count;
	int error;
};

struct sim {
	const struct hvmi_backend_host *host;
	uint32_t arch;
	bool is_static;
	bool nomap;
	bool chunks;		/* mapped piecemeal only */
	bool paused;
	size_t range_count;
	struct sim_range *ranges;
	size_t absent_count;
	struct hvmi_range *absent;
	size_t vcpu_count;
	struct sim_vcpu *vcpus;
	size_t note_count;
	struct sim_note *notes;
	size_t failure_count;
	struct sim_failure *failures;
	uint64_t calls[SIM_METHOD_COUNT];
	uint64_t generation;	/* what map_generation says */
	uint64_t mapped_pages, mapped_peak;	/* by map_pages: now, and at most so far */
	uint64_t lacks[(HVMI_CAN_EVENT + HVMI_EVENT_KIND_END) / 64 + 1];	/* capabilities, by bit */
	struct sim_probe *probe;	/* NULL: the vCPUs do nothing */
};

/* Run a script; on failure what it made stays in @p sim. */
int sim_script_run(struct sim *sim, const char *path, struct hvmi_error *err);

int sim_range_add(struct sim *sim, uint64_t gpa, uint64_t len);

/* The host's bytes at gpa and how many follow in the range; NULL: no RAM there. */
uint8_t *sim_ram(struct sim *sim, uint64_t gpa, uint64_t *len_ret);

/* Tell that [gpa, gpa + len), which lies in one range, was written to. */
void sim_written(struct sim *sim, uint64_t gpa, uint64_t len);

static inline bool sim_overlap(const struct hvmi_range *a, uint64_t gpa, uint64_t len)
{
	return gpa < a->gpa + a->len && a->gpa < gpa + len;
}

#endif

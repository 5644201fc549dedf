/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "probe.h"
#include "sim.h"

/* Counts a call. Any thread: reads run concurrently. */
static int sim_call(struct sim *sim, enum sim_method method)
{
	uint64_t n = __atomic_add_fetch(&sim->calls[method], 1, __ATOMIC_RELAXED);
	for (size_t i = 0; i < sim->failure_count; i++) {
		const struct sim_failure *f = &sim->failures[i];
		if (f->method == method && n >= f->first && n - f->first < f->count)
			return f->error;
	}
	return 0;
}

/* What mmap() can ever give; keeps sizes from wrapping. */
#define RANGE_MAX (1ull << 47)

static uint64_t range_pages(uint64_t len)
{
	return len / SIM_PAGE + (len % SIM_PAGE != 0);
}

static uint64_t words(uint64_t bits)
{
	return bits / 64 + 1;
}

/* One mapping holds the bytes and behind them the bits of `written` and `written_chunks`. */
static size_t range_mapping(uint64_t len)
{
	uint64_t pages = range_pages(len);
	return pages * SIM_PAGE + (words(pages) + words(pages / SIM_CHUNK)) * sizeof(uint64_t);
}

int sim_range_add(struct sim *sim, uint64_t gpa, uint64_t len)
{
	if (sim->range_count == SIM_RANGES_MAX)
		return -EOVERFLOW;
	if (len > RANGE_MAX)
		return -ENOMEM;
	struct sim_range *ranges = realloc(sim->ranges,
					   (sim->range_count + 1) * sizeof(*ranges));
	if (!ranges)
		return -ENOMEM;
	sim->ranges = ranges;
	/* Nothing of it is there until it is touched, whatever its size. */
	int fd = -1, flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
	if (sim->chunks) {
		fd = memfd_create("sim", MFD_CLOEXEC);
		if (fd < 0)
			return -ENOMEM;
		flags = MAP_SHARED | MAP_NORESERVE;
	}
	uint8_t *bytes = MAP_FAILED;
	if (fd < 0 || ftruncate(fd, (off_t)range_mapping(len)) == 0)
		bytes = mmap(NULL, range_mapping(len), PROT_READ | PROT_WRITE, flags, fd, 0);
	if (bytes == MAP_FAILED) {
		if (fd >= 0)
			close(fd);
		return -ENOMEM;
	}
	uint64_t *written = (uint64_t *)(void *)(bytes + range_pages(len) * SIM_PAGE);
	ranges[sim->range_count++] = (struct sim_range){
		.at = { .gpa = gpa, .len = len },
		.bytes = bytes,
		.fd = fd,
		.written = written,
		.written_chunks = written + words(range_pages(len)),
	};
	return 0;
}

static struct sim_range *find_range(struct sim *sim, uint64_t gpa)
{
	for (size_t i = 0; i < sim->range_count; i++) {
		struct sim_range *range = &sim->ranges[i];
		if (gpa >= range->at.gpa && gpa - range->at.gpa < range->at.len)
			return range;
	}
	return NULL;
}

uint8_t *sim_ram(struct sim *sim, uint64_t gpa, uint64_t *len_ret)
{
	struct sim_range *range = find_range(sim, gpa);
	if (!range)
		return NULL;
	*len_ret = range->at.len - (gpa - range->at.gpa);
	return range->bytes + (gpa - range->at.gpa);
}

static bool bit(const uint64_t *bits, uint64_t index)
{
	return __atomic_load_n(&bits[index / 64], __ATOMIC_RELAXED) >> index % 64 & 1;
}

/* The first one at or after index that is set, a word at a look; `end` if there is none before it. */
static uint64_t next_bit(const uint64_t *bits, uint64_t index, uint64_t end)
{
	while (index < end) {
		uint64_t word = __atomic_load_n(&bits[index / 64], __ATOMIC_RELAXED) >> index % 64;
		if (word) {
			index += (uint64_t)__builtin_ctzll(word);
			break;
		}
		index = (index / 64 + 1) * 64;
	}
	return index < end ? index : end;
}

static void set_bit(uint64_t *bits, uint64_t index)
{
	__atomic_fetch_or(&bits[index / 64], 1ull << index % 64, __ATOMIC_RELAXED);
}

void sim_written(struct sim *sim, uint64_t gpa, uint64_t len)
{
	struct sim_range *range = find_range(sim, gpa);
	uint64_t first = (gpa - range->at.gpa) / SIM_PAGE;
	uint64_t last = (gpa - range->at.gpa + len - 1) / SIM_PAGE;
	if (!len)
		return;
	for (uint64_t page = first; page <= last; page++) {
		set_bit(range->written, page);
		set_bit(range->written_chunks, page / SIM_CHUNK);
	}
}

static void sim_close(void *machine)
{
	struct sim *sim = machine;
	if (sim->paused)
		sim->host->log(sim->host, HVMI_LOG_WARNING, "sim: closed while paused");
	if (sim->mapped_pages)
		sim->host->log(sim->host, HVMI_LOG_WARNING, "sim: closed with %llu pages mapped",
			       (unsigned long long)sim->mapped_pages);
	probe_free(sim);
	for (size_t i = 0; i < sim->range_count; i++) {
		munmap(sim->ranges[i].bytes, range_mapping(sim->ranges[i].at.len));
		if (sim->ranges[i].fd >= 0)
			close(sim->ranges[i].fd);
	}
	for (size_t i = 0; i < sim->note_count; i++) {
		free(sim->notes[i].name);
		free(sim->notes[i].bytes);
	}
	free(sim->ranges);
	free(sim->absent);
	free(sim->vcpus);
	free(sim->notes);
	free(sim->failures);
	free(sim);
}

static int sim_open(const struct hvmi_target *target, const struct hvmi_backend_host *host,
		    void **ret, struct hvmi_error *err)
{
	struct sim *sim = calloc(1, sizeof(*sim));
	int r;
	if (!sim)
		return hvmi_error_set(err, -ENOMEM, HVMI_NO_ADDRESS, "sim: out of memory");
	sim->host = host;
	r = sim_script_run(sim, hvmi_target_what(target), err);
	if (r == 0 && probe_start(sim))
		r = hvmi_error_set(err, -ENOMEM, HVMI_NO_ADDRESS, "sim: out of memory");
	if (r == 0) {
		r = sim_call(sim, SIM_METHOD_open);
		if (r)
			hvmi_error_set(err, r, HVMI_NO_ADDRESS, "sim: the script makes open fail");
	}
	if (r) {
		sim_close(sim);
		return r;
	}
	*ret = sim;
	return 0;
}

static int sim_describe(void *machine, struct hvmi_machine *ret)
{
	struct sim *sim = machine;
	int r = sim_call(sim, SIM_METHOD_describe);
	if (r)
		return r;
	ret->arch = sim->arch;
	ret->flags = sim->is_static ? HVMI_VM_STATIC : 0;
	ret->vcpus = (uint32_t)sim->vcpu_count;
	ret->ranges = (uint32_t)sim->range_count;
	snprintf(ret->format, sizeof(ret->format), "script");
	return 0;
}

static int sim_range(void *machine, uint32_t index, struct hvmi_range *ret)
{
	struct sim *sim = machine;
	int r = sim_call(sim, SIM_METHOD_range);
	if (r)
		return r;
	*ret = sim->ranges[index].at;
	return 0;
}

/* [gpa, gpa + len), which must lie in one range, with no page of it absent. */
static int sim_bytes(struct sim *sim, uint64_t gpa, size_t len, uint8_t **ret)
{
	uint64_t left;
	uint8_t *bytes = sim_ram(sim, gpa, &left);
	if (!bytes || len > left)
		return -EFAULT;
	for (size_t i = 0; i < sim->absent_count; i++) {
		if (sim_overlap(&sim->absent[i], gpa, len))
			return -EFAULT;
	}
	*ret = bytes;
	return 0;
}

static int sim_read(void *machine, uint64_t gpa, void *buf, size_t len)
{
	struct sim *sim = machine;
	uint8_t *bytes;
	int r = sim_call(sim, SIM_METHOD_read);
	if (r == 0)
		r = sim_bytes(sim, gpa, len, &bytes);
	if (r == 0)
		memcpy(buf, bytes, len);
	return r;
}

static int sim_write(void *machine, uint64_t gpa, const void *buf, size_t len)
{
	struct sim *sim = machine;
	uint8_t *bytes;
	int r = sim_call(sim, SIM_METHOD_write);
	if (r == 0)
		r = sim_bytes(sim, gpa, len, &bytes);
	if (r)
		return r;
	memcpy(bytes, buf, len);
	sim_written(sim, gpa, len);
	sim->host->log(sim->host, HVMI_LOG_DEBUG, "sim: write 0x%llx %zu",
		       (unsigned long long)gpa, len);
	probe_run(sim);
	return 0;
}

static int sim_map(void *machine, uint32_t index, const void **ret)
{
	struct sim *sim = machine;
	const struct sim_range *range = &sim->ranges[index];
	int r = sim_call(sim, SIM_METHOD_map);
	if (r)
		return r;
	if (sim->nomap || sim->chunks)
		return -ENOTSUP;
	/* A pointer cannot say which of its pages are absent. */
	for (size_t i = 0; i < sim->absent_count; i++) {
		if (sim_overlap(&sim->absent[i], range->at.gpa, range->at.len))
			return -ENOTSUP;
	}
	*ret = range->bytes;
	return 0;
}

static bool is_absent(const struct sim *sim, uint64_t gpa)
{
	for (size_t i = 0; i < sim->absent_count; i++) {
		if (sim_overlap(&sim->absent[i], gpa, SIM_PAGE))
			return true;
	}
	return false;
}

/* A mapping of its own for each call: what is used after it was given back, or is absent, faults. */
static int sim_map_pages(void *machine, uint64_t gpa, uint32_t pages, const void **ret,
			 int32_t *status)
{
	struct sim *sim = machine;
	const struct sim_range *range = find_range(sim, gpa);
	if (!sim->chunks)
		return -ENOTSUP;
	int r = sim_call(sim, SIM_METHOD_map_pages);
	if (r)
		return r;
	bool writable = sim->host->flags & HVMI_OPEN_WRITE;
	size_t len = (size_t)pages * SIM_PAGE;
	uint8_t *host = mmap(NULL, len, PROT_READ | (writable ? PROT_WRITE : 0), MAP_SHARED,
			     range->fd, (off_t)(gpa - range->at.gpa));
	if (host == MAP_FAILED)
		return -ENOMEM;
	for (uint32_t i = 0; i < pages; i++) {
		status[i] = is_absent(sim, gpa + (uint64_t)i * SIM_PAGE) ? -EFAULT : 0;
		if (status[i])
			mprotect(host + (size_t)i * SIM_PAGE, SIM_PAGE, PROT_NONE);
	}
	/* Nobody tells when something is written through it. */
	if (writable)
		sim_written(sim, gpa, len);
	uint64_t now = __atomic_add_fetch(&sim->mapped_pages, pages, __ATOMIC_RELAXED);
	uint64_t peak = __atomic_load_n(&sim->mapped_peak, __ATOMIC_RELAXED);
	while (now > peak && !__atomic_compare_exchange_n(&sim->mapped_peak, &peak, now, true,
							  __ATOMIC_RELAXED, __ATOMIC_RELAXED))
		;
	*ret = host;
	return 0;
}

static void sim_unmap_pages(void *machine, const void *mapping, uint32_t pages)
{
	struct sim *sim = machine;
	__atomic_add_fetch(&sim->calls[SIM_METHOD_unmap_pages], 1, __ATOMIC_RELAXED);
	__atomic_sub_fetch(&sim->mapped_pages, pages, __ATOMIC_RELAXED);
	munmap((void *)(uintptr_t)mapping, (size_t)pages * SIM_PAGE);
}

static uint64_t sim_map_generation(void *machine)
{
	struct sim *sim = machine;
	return __atomic_load_n(&sim->generation, __ATOMIC_RELAXED);
}

static int sim_next_data(void *machine, uint32_t index, uint64_t gpa, struct hvmi_range *ret)
{
	struct sim *sim = machine;
	const struct sim_range *range = &sim->ranges[index];
	uint64_t pages = range_pages(range->at.len);
	uint64_t offset = gpa > range->at.gpa ? gpa - range->at.gpa : 0;
	uint64_t first = offset / SIM_PAGE, end, start;
	int r = sim_call(sim, SIM_METHOD_next_data);
	if (r)
		return r;
	/* A machine may have many TiB that nobody wrote to. */
	while (first < pages && !bit(range->written, first)) {
		uint64_t chunk = next_bit(range->written_chunks, first / SIM_CHUNK,
					  (pages + SIM_CHUNK - 1) / SIM_CHUNK);
		if (chunk * SIM_CHUNK > first)
			first = chunk * SIM_CHUNK;
		end = (chunk + 1) * SIM_CHUNK;
		first = next_bit(range->written, first, end < pages ? end : pages);
	}
	if (first >= pages)
		return -ENOENT;
	for (end = first + 1; end < pages && bit(range->written, end); end++)
		;
	start = first * SIM_PAGE > offset ? first * SIM_PAGE : offset;
	end = end * SIM_PAGE < range->at.len ? end * SIM_PAGE : range->at.len;
	*ret = (struct hvmi_range){ .gpa = range->at.gpa + start, .len = end - start };
	return 0;
}

static int sim_note(void *machine, const char *name, void *buf, size_t size, size_t *len_ret)
{
	struct sim *sim = machine;
	int r = sim_call(sim, SIM_METHOD_note);
	if (r)
		return r;
	for (size_t i = 0; i < sim->note_count; i++) {
		const struct sim_note *note = &sim->notes[i];
		if (strcmp(note->name, name) != 0)
			continue;
		*len_ret = note->len;
		if (size < note->len)
			return -EOVERFLOW;
		if (note->len)
			memcpy(buf, note->bytes, note->len);
		return 0;
	}
	return -ENOENT;
}

static int sim_get_register(void *machine, uint32_t vcpu, uint32_t id, uint64_t *ret)
{
	struct sim *sim = machine;
	int r = sim_call(sim, SIM_METHOD_get_register);
	if (r)
		return r;
	if (id >= HVMI_REGISTER_END || !sim->vcpus[vcpu].known[id])
		return -ENOTSUP;
	*ret = sim->vcpus[vcpu].values[id];
	return 0;
}

static int sim_set_register(void *machine, uint32_t vcpu, uint32_t id, uint64_t value)
{
	struct sim *sim = machine;
	int r = sim_call(sim, SIM_METHOD_set_register);
	if (r)
		return r;
	if (id >= HVMI_REGISTER_END || !sim->vcpus[vcpu].known[id])
		return -ENOTSUP;
	sim->vcpus[vcpu].values[id] = value;
	sim->host->log(sim->host, HVMI_LOG_DEBUG, "sim: vcpu %u %s 0x%llx", vcpu,
		       hvmi_register_name(id), (unsigned long long)value);
	return 0;
}

/* Count a call; where the script has it fail, that is told. */
static int try(void *machine, enum sim_method method, const char *name, struct hvmi_error *err)
{
	int r = sim_call(machine, method);
	return r ? hvmi_error_set(err, r, HVMI_NO_ADDRESS, "sim: the script makes %s fail", name) : 0;
}

static int sim_get_registers(void *machine, uint32_t vcpu, struct hvmi_registers *ret,
			     struct hvmi_error *err)
{
	struct sim *sim = machine;
	int r = try(sim, SIM_METHOD_get_registers, "get_registers", err);
	if (r == 0)
		probe_snapshot(&sim->vcpus[vcpu], ret);
	return r;
}

static int sim_set_registers(void *machine, uint32_t vcpu, const struct hvmi_registers *values,
			     struct hvmi_error *err)
{
	struct sim *sim = machine;
	int r = try(sim, SIM_METHOD_set_registers, "set_registers", err);
	if (r)
		return r;
	for (uint32_t id = 0; id < HVMI_REGISTERS_MAX; id++)
		if (hvmi_registers_known(values, id) &&
		    (id >= HVMI_REGISTER_END || !sim->vcpus[vcpu].known[id]))
			return hvmi_error_set(err, -ENOTSUP, HVMI_NO_ADDRESS,
					      "sim: the script gives vCPU %u no register %u", vcpu,
					      id);
	for (uint32_t id = 0; id < HVMI_REGISTER_END; id++)
		if (hvmi_registers_known(values, id))
			sim->vcpus[vcpu].values[id] = values->values[id];
	return 0;
}

/* Every method of the probe behind one that may fail: its parameters, and how they are called. */
#define PROBE_METHODS(X)                                                                           \
	X(capability, (void *m, uint32_t a, struct hvmi_error *err), (m, a, err))                  \
	X(inject, (void *m, uint32_t a, const struct hvmi_injection *b, struct hvmi_error *err),   \
	  (m, a, b, err))                                                                          \
	X(events_open, (void *m, uint32_t a, int *b, struct hvmi_error *err), (m, a, b, err))      \
	X(event_request,                                                                           \
	  (void *m, const struct hvmi_event_request *a, struct hvmi_error *err), (m, a, err))      \
	X(event_cancel,                                                                            \
	  (void *m, const struct hvmi_event_request *a, struct hvmi_error *err), (m, a, err))      \
	X(event_next,                                                                              \
	  (void *m, struct hvmi_event *a, struct hvmi_registers *b, struct hvmi_error *err),       \
	  (m, a, b, err))                                                                          \
	X(event_answer,                                                                            \
	  (void *m, const struct hvmi_event *a, const struct hvmi_answer *b,                       \
	   struct hvmi_error *err), (m, a, b, err))                                                \
	X(view_create, (void *m, uint32_t a, uint32_t *b, struct hvmi_error *err), (m, a, b, err)) \
	X(view_destroy, (void *m, uint32_t a, struct hvmi_error *err), (m, a, err))                \
	X(view_switch, (void *m, uint32_t a, struct hvmi_error *err), (m, a, err))                 \
	X(view_set_rights,                                                                         \
	  (void *m, uint32_t a, uint64_t b, uint64_t c, uint32_t d, struct hvmi_error *err),       \
	  (m, a, b, c, d, err))                                                                    \
	X(view_get_rights,                                                                         \
	  (void *m, uint32_t a, uint64_t b, uint32_t *c, struct hvmi_error *err),                  \
	  (m, a, b, c, err))                                                                       \
	X(view_remap,                                                                              \
	  (void *m, uint32_t a, uint64_t b, uint64_t c, struct hvmi_error *err),                   \
	  (m, a, b, c, err))                                                                       \
	X(page_create, (void *m, uint64_t *a, void **b, struct hvmi_error *err), (m, a, b, err))   \
	X(page_destroy, (void *m, uint64_t a, struct hvmi_error *err), (m, a, err))
#define X(name, parameters, arguments)                                                             \
	static int sim_##name parameters                                                           \
	{                                                                                          \
		int r = try(m, SIM_METHOD_##name, #name, err);                                     \
		return r ? r : probe_##name arguments;                                             \
	}
PROBE_METHODS(X)
#undef X

static int set_paused(struct sim *sim, enum sim_method method, bool paused, struct hvmi_error *err)
{
	const char *name = paused ? "pause" : "resume";
	int r = try(sim, method, name, err);
	if (r)
		return r;
	if (sim->paused == paused)
		return hvmi_error_set(err, -EINVAL, HVMI_NO_ADDRESS, "sim: %s of a machine that %s",
				      name, paused ? "is paused" : "runs");
	sim->paused = paused;
	sim->host->log(sim->host, HVMI_LOG_DEBUG, "sim: %s", name);
	probe_run(sim);
	return 0;
}

static int sim_pause(void *machine, struct hvmi_error *err)
{
	return set_paused(machine, SIM_METHOD_pause, true, err);
}

static int sim_resume(void *machine, struct hvmi_error *err)
{
	return set_paused(machine, SIM_METHOD_resume, false, err);
}

const struct hvmi_backend *hvmi_backend_sim(void)
{
	static const struct hvmi_backend backend = {
		.size = sizeof(backend),
		.scheme = "sim",
		.open = sim_open,
		.close = sim_close,
		.describe = sim_describe,
		.range = sim_range,
		.read = sim_read,
		.write = sim_write,
		.map = sim_map,
		.next_data = sim_next_data,
		.note = sim_note,
		.get_register = sim_get_register,
		.set_register = sim_set_register,
		.pause = sim_pause,
		.resume = sim_resume,
		.map_pages = sim_map_pages,
		.unmap_pages = sim_unmap_pages,
		.map_generation = sim_map_generation,
		.get_registers = sim_get_registers,
		.set_registers = sim_set_registers,
		.events_close = probe_events_close,
#define X(name, parameters, arguments) .name = sim_##name,
		PROBE_METHODS(X)
#undef X
	};

	return &backend;
}

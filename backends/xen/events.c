/* SPDX-License-Identifier: Apache-2.0 */
#include "ring.h"

#include <ctype.h>
#include <dirent.h>
#include <poll.h>
#include <unistd.h>

/* How often a ring that vCPUs still wait for is tried to be taken down, a millisecond apart. */
#define CLOSE_TRIES 1000

/* Another program in this domain that can receive events and has memory of guests mapped. */
static bool rival(char *name, size_t size)
{
	DIR *proc = opendir("/proc");
	bool found = false;
	for (struct dirent *entry; proc && !found && (entry = readdir(proc));) {
		char path[300], line[512];
		if (!isdigit((unsigned char)*entry->d_name) || atoi(entry->d_name) == getpid())
			continue;
		snprintf(path, sizeof(path), "/proc/%s/comm", entry->d_name);
		FILE *f = fopen(path, "re");
		if (!f || !fgets(line, sizeof(line), f)) {
			if (f)
				fclose(f);
			continue;
		}
		fclose(f);
		line[strcspn(line, "\n")] = '\0';
		/* These map guests' memory for other reasons. */
		if (!strncmp(line, "qemu", 4) || !strncmp(line, "xenconsoled", 11) ||
		    !strncmp(line, "xenstored", 9) || !strncmp(line, "oxenstored", 10))
			continue;
		snprintf(name, size, "%.64s, process %.16s", line, entry->d_name);
		snprintf(path, sizeof(path), "/proc/%s/maps", entry->d_name);
		f = fopen(path, "re");
		while (f && !found && fgets(line, sizeof(line), f))
			found = strstr(line, "xen/privcmd");
		if (f)
			fclose(f);
	}
	if (proc)
		closedir(proc);
	return found;
}

static int ring_held(const struct xen *xen, const char *by, struct hvmi_error *err)
{
	return hvmi_error_set(err, -EBUSY, HVMI_NO_ADDRESS,
			      "another program holds the events of domain %u (%s): end it, or open "
			      "with HVMI_EVENTS_TAKE_OVER", xen->domain.id, by);
}

static int open_ring(struct xen *xen, struct xen_events *events, uint32_t flags,
		     struct hvmi_error *err)
{
	char name[128];
	bool force = flags & HVMI_EVENTS_TAKE_OVER;
	if (xen_holder_take_ring(xen->holder) && !force)
		return ring_held(xen, "one that uses libhvmi", err);
	int rc = xen_ring_open(xen, events);
	if (rc == -EBUSY) {
		if (!force && rival(name, sizeof(name))) {
			/* Else it would be taken for ours when this program dies. */
			xen_holder_drop_ring(xen->holder);
			return ring_held(xen, name, err);
		}
		xen->host->log(xen->host, HVMI_LOG_WARNING,
			       "domain %u: the ring of a program that %s is taken", xen->domain.id,
			       force ? "is to be replaced" : "died");
		xen_ring_recover(xen);
		rc = xen_ring_open(xen, events);
	}
	if (rc)
		xen_holder_drop_ring(xen->holder);
	if (rc == -ENOTSUP)
		return hvmi_error_set(err, -ENOTSUP, HVMI_NO_ADDRESS,
				      "domain %u cannot have events: they need hardware-assisted "
				      "paging (hap=1), and exclude memory sharing, paging and live "
				      "migration", xen->domain.id);
	return rc ? xen_failed(xen, err, "its events cannot be had") : 0;
}

static void events_free(struct xen_events *events)
{
	free(events->requests);
	free(events->vcpus);
	free(events->restricted);
	free(events->pages);
	free(events);
}

int xen_events_open(void *machine, uint32_t flags, int *fd_ret, struct hvmi_error *err)
{
	struct xen *xen = machine;
	const struct xen_libs *libs = &xen->libs;
	if (!xen->domain.hvm)
		return hvmi_error_set(err, -ENOTSUP, HVMI_NO_ADDRESS,
				      "domain %u is a PV guest, which has no events: give it "
				      "type=\"pvh\" or \"hvm\"", xen->domain.id);
	int version = libs->xc_vm_event_get_version(libs->xch);
	uint32_t slot = version < 0 ? 0 : abi_request_size((uint32_t)version);
	if (!slot)
		return hvmi_error_set(err, -ENOTSUP, HVMI_NO_ADDRESS,
				      "the events of Xen %u.%u have interface version %d, and this "
				      "build knows %u to %u", libs->major, libs->minor, version,
				      ABI_VERSION_MIN, ABI_VERSION_MAX);
	struct xen_events *events = calloc(1, sizeof(*events));
	if (!events)
		return hvmi_error_set(err, -ENOMEM, HVMI_NO_ADDRESS, "out of memory");
	*events = (struct xen_events){ .version = (uint32_t)version, .slot = slot,
				       .local_port = -1, .poll_fd = -1,
				       .frames = xen->max_gfn + 1 };
	events->vcpus = calloc(xen->domain.vcpus ? xen->domain.vcpus : 1, sizeof(*events->vcpus));
	int rc = events->vcpus ? 0 : hvmi_error_set(err, -ENOMEM, HVMI_NO_ADDRESS, "out of memory");
	if (!rc && libs->xc_domain_pause(libs->xch, xen->domain.id) < 0) {
		rc = xen_failed(xen, err, "it cannot be paused");
	} else if (!rc) {
		rc = open_ring(xen, events, flags, err);
		libs->xc_domain_unpause(libs->xch, xen->domain.id);
	}
	if (rc) {
		events_free(events);
		return rc;
	}
	xen->events = events;
	*fd_ret = events->poll_fd;
	return 0;
}

/* What a request turns on and off at the hypervisor. Reads errno on failure. */
static int monitor(struct xen *xen, const struct hvmi_event_request *r, bool on)
{
	const struct xen_libs *libs = &xen->libs;
	xc_interface *xch = libs->xch;
	uint32_t id = xen->domain.id;
	bool sync = !(r->flags & HVMI_REQUEST_ASYNC);
	bool changes = r->flags & HVMI_REQUEST_ON_CHANGE;
	static const uint16_t indexes[][2] = { { HVMI_X86_CR0, 0 }, { HVMI_X86_CR3, 1 },
					       { HVMI_X86_CR4, 2 }, { HVMI_X86_XCR0, 3 } };
	switch (r->kind) {
	case HVMI_EVENT_BREAKPOINT:
		return libs->xc_monitor_software_breakpoint(xch, id, on);
	case HVMI_EVENT_REGISTER:
		for (size_t i = 0; i < sizeof(indexes) / sizeof(*indexes); i++)
			if (indexes[i][0] == r->reg)
				return libs->xc_monitor_write_ctrlreg(xch, id, indexes[i][1], on,
								      sync, r->ignored, changes);
		return -1;
	case HVMI_EVENT_MSR:
		return libs->xc_monitor_mov_to_msr(xch, id, (uint32_t)r->msr, on, changes);
	case HVMI_EVENT_CPUID:
		return libs->xc_monitor_cpuid(xch, id, on);
	case HVMI_EVENT_DEBUG:
		return libs->xc_monitor_debug_exceptions(xch, id, on, sync);
	case HVMI_EVENT_DESCRIPTOR:
		return libs->xc_monitor_descriptor_access(xch, id, on);
	case HVMI_EVENT_GUEST_REQUEST:
		return libs->xc_monitor_guest_request(xch, id, on, sync,
						      r->flags & HVMI_REQUEST_USER);
	case HVMI_EVENT_UNIMPLEMENTED:
		return libs->xc_monitor_emul_unimplemented(xch, id, on);
	case HVMI_EVENT_EXIT:
		return libs->xc_monitor_vmexit(xch, id, on, sync);
	case HVMI_EVENT_IO:
		return libs->xc_monitor_io(xch, id, on);
	default:	/* ACCESS comes with rights */
		return 0;
	}
}

/* Steps are events only while the monitor is on; which vCPUs are stepped is another matter. */
static int step_monitor(struct xen *xen)
{
	const struct xen_libs *libs = &xen->libs;
	if (xen->events->step_monitor)
		return 0;
	if (libs->xc_monitor_singlestep(libs->xch, xen->domain.id, true) < 0)
		return -1;
	xen->events->step_monitor = true;
	return 0;
}

static int step_off(struct xen *xen, uint32_t vcpu)
{
	const struct xen_libs *libs = &xen->libs;
	for (uint32_t i = 0; i < xen->domain.vcpus; i++) {
		if (vcpu != HVMI_ALL_VCPUS && i != vcpu)
			continue;
		if (libs->xc_domain_debug_control(libs->xch, xen->domain.id,
						  XEN_DOMCTL_DEBUG_OP_SINGLE_STEP_OFF, i) < 0)
			return -1;
		xen->events->vcpus[i].stepping = false;
	}
	return 0;
}

/* Set it while nothing runs: what a vCPU is intercepted for is looked at when it begins to run. */
static int monitor_paused(struct xen *xen, const struct hvmi_event_request *r, bool on)
{
	const struct xen_libs *libs = &xen->libs;
	if (libs->xc_domain_pause(libs->xch, xen->domain.id) < 0)
		return -1;
	/* A request for steps allows them; an answer begins them. */
	int rc = r->kind != HVMI_EVENT_STEP ? monitor(xen, r, on) : on ? 0 : step_off(xen, r->vcpu);
	int error = errno;
	libs->xc_domain_unpause(libs->xch, xen->domain.id);
	errno = error;
	return rc;
}

/* Since 4.14 Xen heeds denials only of those who say that they know what they do. */
static int allow_denials(struct xen *xen)
{
	const struct xen_libs *libs = &xen->libs;
	if (xen->events->denies || !xen_since(libs, 4, 14))
		return 0;
	struct xen_domctl domctl = { .cmd = XEN_DOMCTL_monitor_op, .domain = (domid_t)xen->domain.id };
	domctl.u.monitor_op.op = XEN_DOMCTL_MONITOR_OP_CONTROL_REGISTERS;
	/* The library of the running release puts its interface version there. */
	if (libs->xc_domctl(libs->xch, &domctl) < 0)
		return -1;
	xen->events->denies = true;
	return 0;
}

int xen_event_request(void *machine, const struct hvmi_event_request *request,
		      struct hvmi_error *err)
{
	struct xen *xen = machine;
	struct xen_events *events = xen->events;
	struct hvmi_event_request *requests =
		realloc(events->requests, (events->request_count + 1) * sizeof(*requests));
	if (!requests)
		return hvmi_error_set(err, -ENOMEM, HVMI_NO_ADDRESS, "out of memory");
	events->requests = requests;
	int rc = request->flags & HVMI_REQUEST_MAY_DENY ? allow_denials(xen) : 0;
	if (!rc && request->kind == HVMI_EVENT_STEP)
		rc = step_monitor(xen);
	if (!rc)
		rc = monitor_paused(xen, request, true);
	if (rc)
		return xen_failed(xen, err, "these events cannot be had");
	requests[events->request_count++] = *request;
	return 0;
}

int xen_event_cancel(void *machine, const struct hvmi_event_request *request,
		     struct hvmi_error *err)
{
	struct xen *xen = machine;
	struct xen_events *events = xen->events;
	int rc = monitor_paused(xen, request, false);
	if (rc)
		return xen_failed(xen, err, "these events cannot be ended");
	for (size_t i = 0; i < events->request_count; i++)
		if (memcmp(&events->requests[i], request, sizeof(*request)) == 0) {
			events->requests[i] = events->requests[--events->request_count];
			break;
		}
	return 0;
}

/* Answer a request as if nobody had asked for it. */
static void go_on(struct xen *xen, const uint8_t *request)
{
	const struct hvmi_answer nothing = { .size = sizeof(nothing) };
	uint8_t response[ABI_REQUEST_MAX];
	abi_response(xen->events->version, request, &nothing, 0, response, NULL);
	xen_ring_give(xen, xen->events, response);
}

/* One event from the ring: 1, 0 if it is empty. What is not for the caller is answered here. */
static int take(struct xen *xen, struct hvmi_event *event, struct hvmi_registers *registers)
{
	struct xen_events *events = xen->events;
	uint8_t request[ABI_REQUEST_MAX];
	struct abi_head head;
	while (xen_ring_take(events, request)) {
		abi_head(request, &head);
		if (head.version != events->version || head.vcpu >= xen->domain.vcpus)
			continue;
		const struct hvmi_event blank = *event;
		if (abi_event(events->version, request, event, registers) ||
		    (event->kind == HVMI_EVENT_ACCESS && !xen_view_expected(xen, event))) {
			go_on(xen, request);
			*event = blank;
			memset(registers->known, 0, sizeof(registers->known));
			continue;
		}
		if (!(event->flags & HVMI_EVENT_WAITS)) {
			/* Its slot is free only when it is answered. */
			go_on(xen, request);
			return 1;
		}
		struct xen_vcpu *vcpu = &events->vcpus[head.vcpu];
		memcpy(vcpu->request, request, events->slot);
		vcpu->waits = true;
		return 1;
	}
	return 0;
}

/* The channel has rung: whatever comes from here on rings again. */
static bool acknowledge(struct xen *xen)
{
	const struct xen_libs *libs = &xen->libs;
	xenevtchn_port_or_error_t port = libs->xenevtchn_pending(xen->events->channel);
	if (port < 0)
		return false;
	libs->xenevtchn_unmask(xen->events->channel, (evtchn_port_t)port);
	return true;
}

static int still_there(struct xen *xen, struct hvmi_error *err)
{
	const struct xen_libs *libs = &xen->libs;
	bool told = false;
	char **news;
	while (xen->events->store && (news = libs->xs_check_watch(xen->events->store))) {
		told = true;
		free(news);
	}
	if (told && xen_domain_alive(xen) == -ESRCH)
		return hvmi_error_set(err, -ESRCH, HVMI_NO_ADDRESS,
				      "domain %u is gone, or is being destroyed", xen->domain.id);
	return 0;
}

int xen_event_next(void *machine, struct hvmi_event *event, struct hvmi_registers *registers,
		   struct hvmi_error *err)
{
	struct xen *xen = machine;
	/* The descriptor stays readable until the ring is empty. */
	if (take(xen, event, registers))
		return 1;
	if (acknowledge(xen))
		return take(xen, event, registers);
	return still_there(xen, err);
}

/* What is not part of the response: done while the vCPU waits. */
static int prepare(struct xen *xen, const struct hvmi_event *event,
		   const struct hvmi_answer *answer, struct hvmi_error *err)
{
	uint32_t f = answer->flags;
	if (f & (HVMI_ANSWER_STEP | HVMI_ANSWER_FAST_STEP) && step_monitor(xen) < 0)
		return xen_failed(xen, err, "it cannot be stepped");
	if (f & (HVMI_ANSWER_VIEW | HVMI_ANSWER_FAST_STEP) &&
	    (answer->view >= XEN_VIEWS || (answer->view && !xen->events->views[answer->view])))
		return hvmi_error_set(err, -ENOENT, HVMI_NO_ADDRESS, "there is no view %u",
				      answer->view);
	if (f & HVMI_ANSWER_INJECT)
		return xen_inject(xen, event->vcpu, answer->injection, err);
	if (f & HVMI_ANSWER_REINJECT) {
		bool int3 = event->kind == HVMI_EVENT_BREAKPOINT;
		struct hvmi_injection own = {
			.size = sizeof(own), .vector = int3 ? 3 : 1,
			.type = event->type ? event->type : int3 ? 6 : 3,
			.error_code = HVMI_NO_ERROR_CODE, .insn_length = event->insn_length,
		};
		/* DR6 of the guest is set from what is pending: Intel SDM volume 3, 25.4.2. */
		if (!int3)
			own.cr2 = event->pending_debug;
		return xen_inject(xen, event->vcpu, &own, err);
	}
	return 0;
}

int xen_event_answer(void *machine, const struct hvmi_event *event,
		     const struct hvmi_answer *answer, struct hvmi_error *err)
{
	struct xen *xen = machine;
	struct xen_events *events = xen->events;
	struct xen_vcpu *vcpu = &events->vcpus[event->vcpu];
	uint8_t response[ABI_REQUEST_MAX];
	int rc = abi_response(events->version, vcpu->request, answer, vcpu->stepping, response, err);
	if (!rc)
		rc = prepare(xen, event, answer, err);
	if (rc)
		return rc;
	if (answer->flags & (HVMI_ANSWER_STEP | HVMI_ANSWER_STEP_OFF))
		vcpu->stepping = answer->flags & HVMI_ANSWER_STEP;
	vcpu->waits = false;
	xen_ring_give(xen, events, response);
	return 0;
}

/* Answer all that waits and all that comes. */
static void drain(struct xen *xen)
{
	struct xen_events *events = xen->events;
	uint8_t request[ABI_REQUEST_MAX];
	for (uint32_t i = 0; i < xen->domain.vcpus; i++) {
		if (events->vcpus[i].waits)
			go_on(xen, events->vcpus[i].request);
		events->vcpus[i].waits = false;
	}
	acknowledge(xen);
	while (xen_ring_take(events, request))
		go_on(xen, request);
}

/*
 * The order matters: rights go while the ring is there, and a vCPU that was answered must have run
 * before the ring goes, because Xen carries out what it did only then.
 */
void xen_events_close(void *machine)
{
	struct xen *xen = machine;
	struct xen_events *events = xen->events;
	const struct xen_libs *libs = &xen->libs;
	xc_interface *xch = libs->xch;
	uint32_t id = xen->domain.id;
	bool any = events->request_count || events->views_on || events->step_monitor ||
		   events->restricted;
	libs->xc_domain_pause(xch, id);
	for (size_t i = 0; i < events->request_count; i++)
		if (events->requests[i].kind != HVMI_EVENT_STEP)
			monitor(xen, &events->requests[i], false);
	for (uint32_t i = 0; i < xen->domain.vcpus && events->step_monitor; i++)
		libs->xc_domain_debug_control(xch, id, XEN_DOMCTL_DEBUG_OP_SINGLE_STEP_OFF, i);
	xen_views_release(xen, events);
	drain(xen);
	for (int i = 0; i < CLOSE_TRIES && any && xen_domain_alive(xen) == 0; i++) {
		libs->xc_domain_unpause(xch, id);
		usleep(1000);
		drain(xen);
		libs->xc_domain_pause(xch, id);
		drain(xen);
		if (i >= 2 && libs->xc_monitor_disable(xch, id) == 0)
			break;
	}
	if (events->step_monitor)
		for (uint32_t i = 0; i < xen->domain.vcpus; i++)
			libs->xc_domain_debug_control(xch, id, XEN_DOMCTL_DEBUG_OP_SINGLE_STEP_OFF, i);
	xen_ring_close(xen, events);
	xen_pages_release(xen, events);
	libs->xc_domain_unpause(xch, id);
	xen_holder_drop_ring(xen->holder);
	xen->events = NULL;
	events_free(events);
}

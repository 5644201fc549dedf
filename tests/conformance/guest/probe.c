/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include <cpuid.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/io.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/utsname.h>
#include <time.h>
#include <ucontext.h>
#include <unistd.h>

#include "probe.h"

struct pair {
	uint64_t rax, rdx;
};
typedef struct pair (*function_fn)(uint64_t, uint64_t, uint64_t, uint64_t, uint64_t, uint64_t);

extern const unsigned char probe_code[], probe_code_end[];

static volatile struct probe_mailbox *const mailbox = (void *)PROBE_MAILBOX;
static int module = -1;
static sigjmp_buf give_up;
static volatile sig_atomic_t in_call;
static volatile unsigned segv_in_call;

/* Pages at their own address, there from now on. */
static void place(uintptr_t address, size_t len, const void *bytes, size_t bytes_len, int rights)
{
	void *at = mmap((void *)address, len, PROT_READ | PROT_WRITE,
			MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE | MAP_POPULATE, -1, 0);
	if (at != (void *)address) {
		perror("GUEST: mmap");
		_exit(1);
	}
	memset(at, 0, len);
	memcpy(at, bytes, bytes_len);
	if (mprotect(at, len, rights) || mlock(at, len))
		perror("GUEST: mprotect");
}

static bool pin(unsigned vcpu)
{
	cpu_set_t set;
	CPU_ZERO(&set);
	CPU_SET(vcpu, &set);
	return sched_setaffinity(0, sizeof(set), &set) == 0;
}

static void on_signal(int number, siginfo_t *info, void *context)
{
	ucontext_t *user = context;
	if (number == SIGTRAP) {
		mailbox->sigtraps++;
		user->uc_mcontext.gregs[REG_EFL] &= ~0x100ll;
		return;
	}
	if (number == SIGSEGV) {
		mailbox->fault = (uintptr_t)info->si_addr;
		mailbox->sigsegvs++;
		/* One that somebody made up does not come again. */
		if (++segv_in_call < 4)
			return;
	}
	if (in_call)
		siglongjmp(give_up, number);
	_exit(number);
}

static int call(const struct probe_command *c, uint64_t values[8])
{
	const uint64_t *a = c->args;
	segv_in_call = 0;
	int number = sigsetjmp(give_up, 1);
	if (number == 0) {
		in_call = 1;
		struct pair r = ((function_fn)(uintptr_t)c->function)(a[0], a[1], a[2], a[3], a[4],
								      a[5]);
		values[0] = r.rax;
		values[1] = r.rdx;
	}
	in_call = 0;
	return number == 0 ? 0 : number == SIGILL ? -ENOSYS : -EFAULT;
}

static int kcall(uint32_t op, const struct probe_command *c, uint64_t values[8])
{
	struct probe_kcall k = { .op = op };
	if (module < 0)
		return -ENODEV;
	if (c) {
		k.function = c->function;
		memcpy(k.args, c->args, sizeof(k.args));
	}
	if (ioctl(module, 0x4801, &k))
		return -errno;
	memcpy(values, k.values, sizeof(k.values));
	return 0;
}

static int carry_out(const struct probe_command *c, uint64_t values[8])
{
	if (c->vcpu >= mailbox->vcpus || !pin(c->vcpu))
		return -EINVAL;
	switch (c->op) {
	case PROBE_CALL:
		return call(c, values);
	case PROBE_KCALL:
		return kcall(PROBE_KCALL, c, values);
	case PROBE_CHECK:
		kcall(PROBE_CHECK, NULL, values);
		check_run((struct probe_mailbox *)mailbox, values);
		return 0;
	case PROBE_SAY:
		say();
		return 0;
	default:
		return -ENOSYS;
	}
}

static void *worker(void *context)
{
	uintptr_t vcpu = (uintptr_t)context;
	function_fn work = (function_fn)(uintptr_t)
		(PROBE_CODE + ((const uint32_t *)PROBE_CODE)[PLACE_work]);
	const struct timespec nap = { .tv_nsec = 4000000 };
	if (!pin(vcpu))
		return NULL;
	for (uint64_t n = 1;; n++) {
		struct pair r = work(PROBE_WORK + vcpu * 4096, n, 0, 0, 0, 0);
		if (r.rax != n + 1)
			mailbox->work_errors++;
		mailbox->work[vcpu] = n;
		nanosleep(&nap, NULL);
	}
}

/* Whoever only has the console sees from this that the guest lives. */
static void *ticker(void *context)
{
	(void)context;
	for (unsigned n = 1;; n++) {
		printf("GUEST: tick %u\n", n);
		sleep(2);
	}
	return NULL;
}

static void start_thread(void *(*run)(void *), uintptr_t context)
{
	pthread_attr_t attributes;
	pthread_t thread;
	pthread_attr_init(&attributes);
	pthread_attr_setstacksize(&attributes, 65536);
	if (pthread_create(&thread, &attributes, run, (void *)context))
		perror("GUEST: thread");
}

static void start_workers(void)
{
	for (uintptr_t vcpu = 0; vcpu < mailbox->vcpus; vcpu++)
		start_thread(worker, vcpu);
	mailbox->features |= PROBE_WORKERS;
}

static void describe_processor(void)
{
	unsigned a, b, c, d;
	char vendor[13] = "", hypervisor[13] = "";
	__cpuid(0, a, b, c, d);
	memcpy(vendor, &b, 4);
	memcpy(vendor + 4, &d, 4);
	memcpy(vendor + 8, &c, 4);
	if (strcmp(vendor, "AuthenticAMD") == 0)
		mailbox->features |= PROBE_AMD;
	for (unsigned leaf = 0x40000000; leaf < 0x40010000; leaf += 0x100) {
		__cpuid(leaf, a, b, c, d);
		memcpy(hypervisor, &b, 4);
		memcpy(hypervisor + 4, &c, 4);
		memcpy(hypervisor + 8, &d, 4);
		if (strcmp(hypervisor, "XenVMMXenVMM") == 0)
			mailbox->features |= PROBE_ON_XEN;
	}
}

static void describe(void)
{
	uint64_t values[8];
	long vcpus = sysconf(_SC_NPROCESSORS_ONLN);
	mailbox->vcpus = vcpus < PROBE_VCPUS_MAX ? (uint32_t)vcpus : PROBE_VCPUS_MAX;
	mailbox->pid = getpid();
	mailbox->code_bytes = (uint32_t)(probe_code_end - probe_code);
	mailbox->code = PROBE_CODE;
	mailbox->exec = PROBE_EXEC;
	mailbox->data = PROBE_DATA;
	mailbox->data_bytes = PROBE_DATA_BYTES;
	mailbox->features = PROBE_SIGNALS | PROBE_CHECKS;
	describe_processor();
	module = open("/proc/hvmi-probe", O_RDWR | O_CLOEXEC);
	if (kcall(0, NULL, values) == 0) {
		mailbox->features |= PROBE_KERNEL | PROBE_REMAPS;
		mailbox->kcode = values[0];
		mailbox->kdata = values[1];
	}
}

void probe_run(void)
{
	size_t code = (size_t)(probe_code_end - probe_code);
	place(PROBE_MAILBOX, 4096, "", 0, PROT_READ | PROT_WRITE);
	place(PROBE_CODE, PROBE_CODE_BYTES, probe_code, code, PROT_READ | PROT_EXEC);
	place(PROBE_EXEC, PROBE_CODE_BYTES, probe_code, code, PROT_READ | PROT_WRITE | PROT_EXEC);
	place(PROBE_DATA, PROBE_DATA_BYTES, "", 0, PROT_READ | PROT_WRITE);
	place(PROBE_WORK, 4096 * PROBE_VCPUS_MAX, "", 0, PROT_READ | PROT_WRITE);
	describe();
	static const int signals[] = { SIGTRAP, SIGSEGV, SIGILL, SIGBUS };
	struct sigaction action = { .sa_sigaction = on_signal, .sa_flags = SA_SIGINFO };
	for (size_t i = 0; i < sizeof(signals) / sizeof(*signals); i++)
		sigaction(signals[i], &action, NULL);
	if (ioperm(PROBE_PORT, 1, 1))
		perror("GUEST: ioperm");
	start_workers();
	check_begin();
	memcpy((void *)mailbox->magic, PROBE_MAGIC, sizeof(mailbox->magic));
	say();
	struct utsname name;
	uname(&name);
	printf("GUEST: up %s, features 0x%x, %u vCPUs\n", name.release, mailbox->features,
	       mailbox->vcpus);
	start_thread(ticker, 0);
	/* Waking up is dear in an emulator: seldom, unless there was something not long ago. */
	for (unsigned idle = 0;; idle++) {
		uint64_t number = mailbox->command.number;
		if (number == mailbox->result.number) {
			const struct timespec nap = { .tv_nsec = idle < 500 ? 500000 : 8000000 };
			nanosleep(&nap, NULL);
			continue;
		}
		struct probe_command command = mailbox->command;
		uint64_t values[8] = { 0 };
		int status = carry_out(&command, values);
		memcpy((void *)mailbox->result.values, values, sizeof(values));
		mailbox->result.status = status;
		__atomic_store_n(&mailbox->result.number, number, __ATOMIC_SEQ_CST);
		idle = 0;
	}
}

_Static_assert(sizeof(struct probe_mailbox) <= 4096, "one page");
_Static_assert(sizeof(PROBE_MAGIC) == 16, "the magic's size");
_Static_assert(__builtin_offsetof(struct probe_mailbox, command) == 80, "documented");

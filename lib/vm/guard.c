/* SPDX-License-Identifier: Apache-2.0 */
#include "vm/guard.h"

#include <pthread.h>
#include <signal.h>
#include <sys/mman.h>
#include <unistd.h>

/* Nodes are reused, never freed: the handler may look at any of them at any time. */
_Atomic(bool) guard_lost;
static _Atomic(struct guard *) guards;
static struct guard *free_guards;
static pthread_mutex_t guards_lock = PTHREAD_MUTEX_INITIALIZER;
static struct sigaction previous;
static uintptr_t page_mask;

/* Everything that shares a page with what was replaced is lost too. */
static void mark_lost(uintptr_t from, uintptr_t end)
{
	for (struct guard *g = atomic_load(&guards); g; g = g->next) {
		uintptr_t base = atomic_load(&g->base);
		if (!base || base >= end || atomic_load(&g->end) <= from)
			continue;
		uintptr_t at = MAX(base, from), lost = atomic_load(&g->lost_from);
		while (at < lost && !atomic_compare_exchange_weak(&g->lost_from, &lost, at))
			;
	}
}

static bool replace_lost(uintptr_t address)
{
	for (struct guard *g = atomic_load(&guards); g; g = g->next) {
		uintptr_t base = atomic_load(&g->base), end = atomic_load(&g->end);
		if (!base || address < base || address >= end)
			continue;
		/*
		 * Down to the end, not just one page: what vanished is the tail of a file, and a
		 * mapping for every lost page would run into the kernel's limit of mappings.
		 */
		uintptr_t from = address & page_mask;
		end = (end + ~page_mask) & page_mask;
		/* First, so that no thread takes the zeros for real. */
		atomic_store(&guard_lost, true);
		mark_lost(from, end);
		if (mmap((void *)from, end - from, PROT_READ,
			 MAP_FIXED | MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1,
			 0) == MAP_FAILED)
			return false;
		return true;
	}
	return false;
}

static void on_sigbus(int signal, siginfo_t *info, void *context)
{
	int saved = errno;
	bool ours = info->si_code > 0 && replace_lost((uintptr_t)info->si_addr);
	errno = saved;
	if (ours)
		return;
	if (previous.sa_flags & SA_SIGINFO) {
		previous.sa_sigaction(signal, info, context);
	} else if (previous.sa_handler != SIG_DFL && previous.sa_handler != SIG_IGN) {
		previous.sa_handler(signal);
	} else {
		/* The access is repeated and meets the default action. */
		struct sigaction action = { .sa_handler = SIG_DFL };
		sigaction(signal, &action, NULL);
	}
}

static bool install_handler(void)
{
	static bool installed;
	if (installed)
		return true;
	page_mask = ~((uintptr_t)sysconf(_SC_PAGESIZE) - 1);
	struct sigaction action = { .sa_sigaction = on_sigbus, .sa_flags = SA_SIGINFO | SA_ONSTACK };
	sigemptyset(&action.sa_mask);
	installed = sigaction(SIGBUS, NULL, &previous) == 0 &&
		    sigaction(SIGBUS, &action, NULL) == 0;
	return installed;
}

struct guard *guard_add(const void *base, size_t len)
{
	pthread_mutex_lock(&guards_lock);
	struct guard *g = NULL;
	if (!install_handler())
		goto out;
	g = free_guards;
	if (g) {
		free_guards = g->next_free;
	} else {
		g = calloc(1, sizeof(*g));
		if (!g)
			goto out;
		g->next = atomic_load(&guards);
		atomic_store(&guards, g);
	}
	atomic_store(&g->lost_from, UINTPTR_MAX);
	atomic_store(&g->end, (uintptr_t)base + len);
	atomic_store(&g->base, (uintptr_t)base);
out:
	pthread_mutex_unlock(&guards_lock);
	return g;
}

void guard_remove(struct guard *guard)
{
	if (!guard)
		return;
	pthread_mutex_lock(&guards_lock);
	atomic_store(&guard->base, 0);
	guard->next_free = free_guards;
	free_guards = guard;
	pthread_mutex_unlock(&guards_lock);
}

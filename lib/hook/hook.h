/* SPDX-License-Identifier: Apache-2.0 */
/* Inside the hooks of a machine. */
#ifndef HVMI_LIB_HOOK_H
#define HVMI_LIB_HOOK_H

#include <hvmi/hook.h>

#include "vm/events.h"

#define INT3 0xcc
/* Of CR3 what is address: no PCID, nor the bit that keeps translations. */
static inline uint64_t root_of(uint64_t cr3, uint32_t paging)
{
	return cr3 & (paging == HVMI_PAGING_X86_PAE ? 0xffffffe0ull : 0x000ffffffffff000ull);
}
/* Pages of page tables that are watched at most. */
#define HOOK_TABLES_MAX 4096u
/* Events that one call of dispatch takes. */
#define DISPATCH_MAX 1024

/* What a machine can do, asked once: asking may cost hypercalls. */
enum ability {
	CAN_BREAKPOINTS = 1 << 0,
	CAN_INT3 = 1 << 1,
	CAN_VIEWS = 1 << 2,	/* with other frames, and pages for them */
	CAN_ACCESS = 1 << 3,
	CAN_STEP = 1 << 4,
	CAN_FAST_STEP = 1 << 5,
	CAN_EMULATE = 1 << 6,
	CAN_EMULATE_DATA = 1 << 7,
	CAN_WATCHPOINTS = 1 << 8,
	CAN_SET_REGISTERS = 1 << 9,
	CAN_INJECT = 1 << 10,
	CAN_DENY = 1 << 11,
	CAN_DEBUG = 1 << 12,
	CAN_UNIMPLEMENTED = 1 << 13,
	CAN_DECODE = 1 << 14,	/* the library, not the machine */
	HAS_ONE_VCPU = 1 << 15
};
uint32_t plan_abilities(struct hvmi_vm *vm);

/* The best mechanism; the request is checked. Address and space count only as far as they are given. */
int plan_make(struct hvmi_vm *vm, uint32_t abilities, const struct hvmi_hook_request *request,
	      struct hvmi_hook_plan *ret, struct hvmi_error *err);

/* Where something is in a machine: what hooks of the same kind and address share. */
enum place_type { PLACE_INT3, PLACE_PAGE, PLACE_WATCHPOINT, PLACE_EVENT, PLACE_TYPES };

struct place {
	uint64_t key;		/* gpa, gpa of the page, gva, place_event_key() */
	struct hot *first;	/* hooks, in the order they were added; PAGE: see parts */
	uint8_t type;
	bool placed;
	bool hidden;		/* INT3: in the page's copy */
	bool cloaked;		/* INT3: in the guest's memory, where it does not see it */
	bool away;		/* INT3 in the guest's memory: it is not there for a while */
	uint8_t original;	/* INT3 */
	struct place *page;	/* of a hidden or cloaked int3 */
	uint64_t patch;		/* INT3: in the journal, or 0 */
	uint8_t step_over;	/* INT3, PAGE: enum hvmi_step_over */
	uint32_t lifters;	/* INT3, PAGE: vCPUs that are getting over it while it is away */
	/* PAGE. */
	struct ref *parts, **last;	/* of hooks, in the order they were added */
	uint32_t counts[3];	/* refs that want read, write, execute */
	uint32_t rights;	/* that it has, but while it is lifted: */
	uint32_t lifted_rights;
	uint32_t int3s;		/* hidden or cloaked */
	uint64_t copy_gpa;
	uint8_t *copy;		/* NULL: none */
	uint64_t *marks;	/* a bit for each byte with such an int3; NULL: none */
	struct watch *watches;	/* entries of page tables in it that hooks depend on */
	uint32_t watch_count;
	/* EVENT, WATCHPOINT: what was asked of the machine. */
	struct hvmi_event_request request;
	struct place *next_spare;
};

/* A hook, or a part of it, at a place. */
struct ref {
	struct ref *next;	/* PAGE */
	struct hvmi_hook *hook;
	struct place *place;	/* NULL: a breakpoint, or nowhere */
	uint64_t gva;		/* PAGE: of the part in this page */
	struct trail *trail;	/* of the walk that led here; NULL: it does not follow */
};

enum hook_state { HOOK_PENDING, HOOK_LIVE, HOOK_LEAVING, HOOK_DEAD };

/* A copy of a user's space, shared. */
struct hook_space {
	struct hook_space *next;
	struct hvmi_space *space;
	struct hvmi_space_config config;
	uint64_t root;		/* root_of() */
	uint32_t users;
	uint64_t witness;	/* an entry of the root that lives as long as the space; 0: not known yet */
};

/*
 * What most events need of a hook. It is a line of the cache, side by side with those of other hooks, and such
 * events touch nothing else of a hook.
 */
struct hot {
	struct hot *next;	/* at the same breakpoint or place */
	struct hvmi_hook *hook;
	struct hook_space *space;	/* NULL: gpa */
	hvmi_hook_fn callback;
	void *context;
	uint64_t hits, ticks;
	uint8_t kind, state;
	uint16_t flags;
	uint32_t access;
};
_Static_assert(sizeof(struct hot) <= 64, "one line");

struct hvmi_hook {
	struct hot *hot;
	struct ref one;		/* where there is only one */
	uint64_t address;	/* gva or gpa */
	uint64_t serial;
	uint64_t called_at;	/* ACCESS: id of the last event it was called for */
	uint64_t last;		/* inclusive */
	uint64_t other_root;
	uint64_t filtered, refused;
	struct ref *refs;	/* &one, or allocated */
	uint64_t ref_count;
	struct hvmi_hooks *hooks;
	struct hvmi_hook *next, *previous;	/* of the live ones */
	struct hvmi_hook_plan plan;
	struct hvmi_hook_request request;
	uint64_t gpa;
	uint64_t moves;
	struct hvmi_hook *next_told;	/* that it moved */
	bool told_due;
	uint8_t follows;	/* HVMI_HOOK_STATE_FIXED, _FOLLOWS or _GONE */
};

/* By the library; breakpoints and watchpoints by address follow by themselves. */
static inline bool hook_is_moved(const struct hvmi_hook *hook)
{
	return hook->plan.mechanism == HVMI_MECHANISM_PAGE ||
	       hook->plan.mechanism == HVMI_MECHANISM_INT3 ||
	       hook->plan.mechanism == HVMI_MECHANISM_HIDDEN_INT3 ||
	       hook->plan.mechanism == HVMI_MECHANISM_CLOAKED_INT3;
}

struct table {
	struct slot {
		uint64_t key;
		void *value;	/* NULL: free */
	} *slots;
	size_t count, room;	/* room: 0 or a power of 2 */
};
void *table_find(const struct table *table, uint64_t key);
/* Room for one more, so that table_add() cannot fail. */
int table_reserve(struct table *table);
void table_add(struct table *table, uint64_t key, void *value);
/* Another value for a key that is there. */
void table_set(struct table *table, uint64_t key, void *value);
void table_remove(struct table *table, uint64_t key);

/* Objects of one size, side by side: what is looked up all the time should share few pages. */
struct pool {
	size_t size;
	void *chunks, *spare;	/* lists by their first word */
	uint8_t *fresh;
	size_t left;		/* objects at fresh */
};

/* Places that are away for one instruction at most: of its pages, if it touches more, those come one by one. */
#define LIFTED_MAX 48u

/* What is between a vCPU's events. */
struct vcpu_turn {
	bool over;		/* single-stepped in view 0, over something of ours */
	uint32_t back;		/* the view it came from */
	struct place *lifted[LIFTED_MAX];	/* what is away for the step */
	uint32_t lifted_count;
	uint64_t lifted_at;	/* rip */
	bool trap_flag;		/* for that step we set RFLAGS.TF */
	bool wrote;		/* to pages that have copies */
	bool tables;		/* to watched page tables: */
	struct place *table;	/* this one; NULL: any */
	struct place *emulated;	/* a page that it is to get over by emulation */
	uint32_t steps;		/* left, for: */
	struct hvmi_hook *stepper;
};

struct queued {
	struct queued *next;
	struct hvmi_event event;
	struct hvmi_registers *registers;	/* of one that does not wait */
};

#define CPU_SPACES 16

/* Requests of a kind that several places share. */
enum shared { SHARED_STEP, SHARED_ACCESS, SHARED_INT3, SHARED_DEBUG, SHARED_UNIMPLEMENTED, SHARED_COUNT };

struct hvmi_hooks {
	struct hvmi_vm *vm;
	struct hvmi_events *events;	/* NULL: closed */
	struct hvmi_hooks_options options;
	uint32_t abilities;
	int fd, wake;		/* an epoll of the events' and an eventfd: something is queued */
	struct pool hot_pool, hook_pool, place_pool;
	struct table tables[PLACE_TYPES];	/* struct place by its key */
	struct table breakpoints;	/* which are nothing but their hooks: the first struct hot by gva */
	struct hvmi_hook *live;
	uint64_t hook_count, place_count, watchpoint_count, page_ref_count, cloak_count, serial;
	uint32_t shared[SHARED_COUNT];
	uint32_t view;		/* HVMI_VIEW_HOST: none */
	struct vcpu_turn *vcpus;
	struct hook_space *spaces;
	struct cpu_space {
		struct hvmi_space_config config;
		struct hvmi_space *space;
	} cpu_spaces[CPU_SPACES];
	uint32_t next_cpu_space;
	struct queued *first, **last;
	/* Transaction. */
	bool begun, committing;
	struct hvmi_hook **adds, **removes;
	size_t add_count, add_room, remove_count, remove_room;
	/* While callbacks run. */
	uint32_t depth;
	bool free_later;
	struct turn *turn;
	struct hvmi_hook *graveyard;
	struct place *spare_places;
	struct hvmi_hook *told;	/* those that moved, to be told */
	struct trail *stale;	/* walks that are to be made anew */
	uint64_t table_count, walks;
	struct hvmi_verdict verdict;
	struct hvmi_registers verdict_registers, merged_registers;
	uint8_t verdict_data[HVMI_ANSWER_DATA_MAX], merged_data[HVMI_ANSWER_DATA_MAX];
	uint64_t begun_ns, begun_ticks;
	uint64_t events_taken, hits, filtered, others;
};

/* One event that is being dealt with. */
struct turn {
	struct hvmi_hooks *hooks;
	const struct hvmi_event *event;
	struct vcpu_turn *vcpu;
	uint64_t serial;	/* hooks that came later are not called */
	uint64_t rip;
	bool rip_known;
	bool writes;		/* a hook was called for a write to memory */
	bool wrote;		/* the instruction writes to a page that has a copy */
	bool tables;		/* ... to page tables that are watched: */
	struct place *table;	/* this one; NULL: any */
	uint8_t step_over;	/* how it is going to be executed */
	int insn_rc;		/* 1: not decoded yet */
	struct hvmi_insn insn;
	struct hvmi_error insn_err;
	struct hvmi_hook *winner;	/* whose action it is; NULL: nobody's */
	struct hvmi_hook *first;	/* that was called */
	struct hvmi_hook *stepper;
	/* Verdicts together; its registers are hooks->merged_registers. */
	uint32_t action, flags, steps, view, data_len;
	struct hvmi_injection injection;
};

/* Zeroed, at a cache line; NULL: no memory. */
void *pool_get(struct pool *pool);
void pool_put(struct pool *pool, void *object);
void pool_free(struct pool *pool);

/* request.c: a hook in state PENDING. */
int hook_create(struct hvmi_hooks *hooks, const struct hvmi_hook_request *request,
		struct hvmi_hook **ret, struct hvmi_error *err);
void hook_free(struct hvmi_hook *hook);
/* The copied request, checked. */
int request_take(struct hvmi_hook_request *to, const struct hvmi_hook_request *from,
		 struct hvmi_error *err);

/* place.c: put a hook into the machine and take it out; all or nothing. */
int hook_place(struct hvmi_hook *hook, struct hvmi_error *err);
int hook_unplace(struct hvmi_hook *hook, struct hvmi_error *err);
/* Everything goes, whatever fails. */
void places_clear(struct hvmi_hooks *hooks);
/* Places that went while callbacks ran. */
void places_reap(struct hvmi_hooks *hooks);
uint64_t place_event_key(uint32_t kind, uint64_t which);
/* Put a part of a hook to where its memory is, RAM or not, and take it away; an INT3 or a PAGE. */
int ref_place(struct ref *ref, uint64_t gpa, struct hvmi_error *err);
int ref_unplace(struct ref *ref, struct hvmi_error *err);
/* A page of page tables: writes to it are told. */
int page_watch(struct hvmi_hooks *hooks, uint64_t gpa, struct place **ret, struct hvmi_error *err);
void page_unwatch(struct hvmi_hooks *hooks, struct place *page);
static inline struct place *place_find(const struct hvmi_hooks *hooks, enum place_type type,
				       uint64_t key)
{
	return table_find(&hooks->tables[type], key);
}
/* The watchpoint that has an address in its range. */
struct place *place_watchpoint_at(const struct hvmi_hooks *hooks, uint64_t gva);

/* page.c: what places are in the machine. */
int shared_need(struct hvmi_hooks *hooks, enum shared what, struct hvmi_error *err);
int shared_release(struct hvmi_hooks *hooks, enum shared what, struct hvmi_error *err);
int view_need(struct hvmi_hooks *hooks, struct hvmi_error *err);
/* The first byte with an int3 at or behind one in a page with marks; FRAME_SIZE: none. */
uint32_t next_mark(const struct place *page, uint32_t at);
/* Rights and copy as its counts say. */
int page_update(struct hvmi_hooks *hooks, struct place *page, struct hvmi_error *err);
/* The guest wrote to a page that has a copy: copy again, patch again. */
void page_resync(struct hvmi_hooks *hooks, struct place *page);
void pages_resync(struct hvmi_hooks *hooks);
int int3_put(struct hvmi_hooks *hooks, struct place *place, struct hvmi_error *err);
int int3_take(struct hvmi_hooks *hooks, struct place *place, struct hvmi_error *err);
/*
 * Have a place be away, and put it back. A page has other rights meanwhile, and its cloaked int3s are not
 * in it; at no moment does somebody see them, or get past them.
 */
int place_lift(struct hvmi_hooks *hooks, struct place *place, uint32_t rights, struct hvmi_error *err);
int place_return(struct hvmi_hooks *hooks, struct place *place, struct hvmi_error *err);
/* Whether somebody has to wait until its int3s are back. */
static inline bool page_forbids(const struct place *page, uint32_t access)
{
	return page->lifters && page->marks && access & ~page->lifted_rights;
}

/* cpu.c: what a vCPU sees. */
/* The space that it is in; ours, for a while. */
int cpu_space(struct turn *turn, struct hvmi_space **ret, struct hvmi_error *err);
/* Bytes at gpa or gva as they are without us. */
int clean_read(struct hvmi_hooks *hooks, struct hvmi_space *space, uint64_t gva, void *buf, size_t len,
	       size_t *done_ret);
int turn_insn(struct turn *turn, const struct hvmi_insn **ret, struct hvmi_error *err);
/* Whether the instruction has bytes in a page. */
bool turn_lies_in(struct turn *turn, const struct place *page);
/* Whether an address of a hook is that of a vCPU: see HVMI_HOOK_ONLY_SPACE. */
bool hook_reached(struct turn *turn, const struct hot *hot, bool by_gva);

/* follow.c: hooks of virtual addresses go where their addresses go. */
/* How a vCPU gets over a write to page tables; 0: they cannot be watched. */
uint8_t follow_step_over(uint32_t abilities);
/* Watch what a walk used for a part of a hook. */
int follow_begin(struct ref *ref, const struct hvmi_walk *walk, struct hvmi_error *err);
void follow_end(struct ref *ref);
/* Whether all of the hook is in the machine. */
uint32_t follow_state(const struct hvmi_hook *hook);
/* The instruction at hand may write to a watched page of tables; NULL: to any. */
void follow_note(struct turn *turn, struct place *table);
/* Have the answer to an event be followed by a look at the tables. */
void follow_prepare(struct turn *turn, struct hvmi_answer *answer);
/* The write has been carried out: hooks whose translation it changed move. */
void follow_look(struct hvmi_hooks *hooks, struct vcpu_turn *v);
/* Call those that want to know. */
void follow_tell(struct turn *turn);

/* dispatch.c */
/* What the clock of callbacks says, in ns; it begins when hooks are opened. */
void hooks_start_clock(struct hvmi_hooks *hooks);
uint64_t hooks_ns(const struct hvmi_hooks *hooks, uint64_t ticks);
int dispatch_event(struct hvmi_hooks *hooks, const struct hvmi_event *event, struct hvmi_error *err);
/* Call one hook, and take its verdict. @p told has what its kind fills. */
void call_hook(struct turn *turn, struct hot *hot, struct hvmi_hook_event *told);
/* The same without a verdict. */
void tell_hook(struct turn *turn, struct hot *hot, struct hvmi_hook_event *told);
/* Whether it is to be called at all. One that leaves does so when its transaction is committed. */
static inline bool hook_awake(const struct turn *turn, const struct hot *hot)
{
	return (hot->state == HOOK_LIVE || hot->state == HOOK_LEAVING) &&
	       (turn->hooks->serial == turn->serial || hot->hook->serial <= turn->serial);
}
/* All EXECUTE hooks at an int3 of ours. */
void call_int3(struct turn *turn, struct place *place, uint64_t gva);

/* access.c: call all whose bytes the instruction is going to touch. */
void call_accesses(struct turn *turn, bool faulted);
/* Where an address that the instruction touches is. */
bool access_gpa(struct turn *turn, uint64_t gva, uint64_t *ret);
/* Of a string instruction the first @p most bytes or so that it touches; of others all. */
struct hvmi_insn_access access_begin(const struct turn *turn, const struct hvmi_insn_access *all,
				     uint64_t most);

/* cloak.c */
/* Bytes of an answer's data that the library makes. */
#define CLEAN_MAX 64u
/* Have the instruction that is going to be emulated not see cloaked int3s, nor write over them. */
void cloak_prepare(struct turn *turn, struct hvmi_answer *answer, uint8_t clean[CLEAN_MAX]);

/* verdict.c */
void verdict_merge(struct turn *turn, struct hvmi_hook *hook, const struct hvmi_verdict *verdict);
/* Answer; @p place: an INT3 or PAGE that the vCPU has to get over, or NULL. */
int verdict_carry_out(struct turn *turn, struct place *place, struct hvmi_error *err);
/* As if nobody had asked. */
int pass_on(struct turn *turn, struct hvmi_error *err);

/* step.c */
/* An int3 of ours at the instruction. */
struct place *place_at(struct turn *turn);
/* How the vCPU gets over a place; @p clean is room for what the answer points to. */
int step_over(struct turn *turn, struct place *place, struct hvmi_answer *answer,
	      uint8_t clean[CLEAN_MAX], struct hvmi_error *err);
/* A place is away from now on, until the vCPU has done its step. */
int step_lift(struct turn *turn, struct place *place, uint32_t rights, struct hvmi_error *err);
bool step_has_lifted(const struct vcpu_turn *vcpu, const struct place *place);
/* The vCPU needs none of what is away for it any more. */
void step_put_back(struct hvmi_hooks *hooks, struct vcpu_turn *vcpu);
/* A vCPU has come to what it is not to get past: is what it waits for over? */
void step_meet(struct turn *turn, const struct place *page);
int step_event(struct turn *turn, struct hvmi_error *err);
/* Whether a debug exception is the end of a step of ours; then it is answered. */
bool step_by_trap_flag(struct turn *turn, int *rc_ret, struct hvmi_error *err);
/* An instruction that was to be emulated cannot be. */
int step_unimplemented(struct turn *turn, struct hvmi_error *err);
/* Forget what a vCPU is in the middle of; its places are gone or go. */
void step_forget(struct hvmi_hooks *hooks, uint32_t vcpu);

/* hooks.c: take what the machine has told, without dispatching it. */
int events_drain(struct hvmi_hooks *hooks, struct hvmi_error *err);

#endif

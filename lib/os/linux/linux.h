/* SPDX-License-Identifier: Apache-2.0 */
/* Inside the Linux recogniser. */
#ifndef HVMI_LIB_LINUX_H
#define HVMI_LIB_LINUX_H

#include "os/linux/kallsyms.h"
#include "os/linux/vmcoreinfo.h"
#include "os/list.h"
#include "os/os.h"
#include "os/scan.h"
#include "os/window.h"

/* Where x86-64 Linux maps its image: Documentation/arch/x86/x86_64/mm.rst. */
#define LINUX_IMAGE_FIRST 0xffffffff80000000ull
#define LINUX_IMAGE_LAST 0xffffffffbfffffffull
/* The kernel's half of the space. */
#define LINUX_KERNEL_FIRST 0xff00000000000000ull
/* CONFIG_PHYSICAL_START, where an image is linked to be loaded. */
#define LINUX_PHYSICAL_START 0x1000000ull

/* A run of the image with equal rights, from the image's start. */
struct image_run {
	uint64_t offset, len;
	uint32_t rights;
};
/* Freed parts of an image make small runs of it: 148 have been seen. */
#define IMAGE_RUNS_MAX 512u

/* The kernel image as some page-table root maps it. */
struct linux_image {
	uint64_t root;
	uint32_t paging;	/* enum hvmi_paging */
	uint64_t gva, gpa, len;
	uint32_t run_count;
	struct image_run runs[IMAGE_RUNS_MAX];
};

/* -ENOENT: no kernel image is mapped where Linux has it. */
int image_probe(struct hvmi_vm *vm, uint64_t root, uint32_t paging, struct linux_image *ret);

/* How a candidate was come by. */
struct image_candidate {
	const struct linux_image *image;
	const char *how;
	uint64_t at;	/* guest-physical address of what led to it, or HVMI_NO_ADDRESS */
};
/* Return 0 to go on with the next candidate, anything else to end. */
typedef int (*image_candidate_fn)(void *context, const struct image_candidate *candidate);

/*
 * Show what may be kernel images, likeliest first: what the vCPUs' CR3 map, what the page tables
 * in the first MiB map (the kernel keeps a root there for starting processors), what any page of
 * RAM maps if it is taken for a root. Returns what the callback ended with, or -ENOENT.
 */
int image_search(struct hvmi_vm *vm, image_candidate_fn candidate, void *context);

/* The paging mode that a vCPU's CR4 says, for a kernel in long mode. */
int vcpu_paging(struct hvmi_vm *vm, uint32_t vcpu, uint32_t *ret);

/*
 * scan_memory() over the image's runs in the order in which tables are likely: read-only data, other
 * data, code. A kernel without strict memory rights has all in the last class.
 */
int image_scan(struct hvmi_vm *vm, const struct linux_image *image, size_t overlap,
	       scan_window_fn window, void *context);

/* Fill os->profile->types from BTF and note the fact; without BTF they stay empty. */
void linux_load_types(struct hvmi_os *os);
/* BTF without symbols: the first blob in the image that is consistent. 0 or -ENOENT. */
int linux_search_types(struct hvmi_os *os, uint64_t *gpa_ret, uint64_t *len_ret);

/* Members of kernel structures by the names below; each is looked up once, when attaching. */
enum linux_member {
#define MEMBER(id, type, paths) LINUX_##id,
#include "os/linux/members.def"
#undef MEMBER
	LINUX_MEMBER_COUNT
};

struct linux_os {
	struct linux_image image;
	uint64_t shift;			/* gva - gpa of the image */
	struct kallsyms kallsyms;
	struct vmcoreinfo vmcoreinfo;	/* release is "" if there is none */
	uint64_t init_task;		/* 0: unknown */
	uint64_t modules;		/* head of the list, 0: unknown */
	uint32_t version;		/* major << 8 | minor, 0: unknown */
	struct hvmi_member members[LINUX_MEMBER_COUNT];	/* hop_count 0: this kernel lacks it */
	struct window_plan task;	/* of members, what linux_task_read() needs */
};

static inline const struct linux_os *linux_data(const struct hvmi_os *os)
{
	return os->data;
}

static inline bool linux_has(const struct hvmi_os *os, enum linux_member member)
{
	return linux_data(os)->members[member].hop_count != 0;
}

/* Look all members up; one that this kernel lacks keeps hop_count 0. */
void linux_members_find(const struct hvmi_profile *profile,
			struct hvmi_member members[LINUX_MEMBER_COUNT]);

/* Plan how a task is read, when the members are known. */
void linux_task_plan(struct linux_os *data);

/* -ENOENT: this kernel lacks the member; else as hvmi_member_read(). */
int linux_read(const struct hvmi_os *os, struct hvmi_space *space, enum linux_member member,
	       uint64_t object, uint64_t *ret);
/* The address of a member; errors as linux_read(). */
int linux_address(const struct hvmi_os *os, struct hvmi_space *space, enum linux_member member,
		  uint64_t object, uint64_t *ret);
/* The guest-virtual address of an object from that of a member in it. */
uint64_t linux_container(const struct hvmi_os *os, enum linux_member member, uint64_t address);

/* Say which of `members` this kernel lacks: -ENOTSUP with a sentence, or 0. */
int linux_require(const struct hvmi_os *os, const char *what, const enum linux_member *members,
		  size_t count, struct hvmi_error *err);

/* init_task by what it must look like, for kernels without its symbol. */
int linux_find_init_task(const struct hvmi_os *os, struct hvmi_space *space, uint64_t *ret);

/* A task as it is there now; what cannot be read is not valid. */
void linux_task_read(const struct hvmi_os *os, struct hvmi_space *space, uint64_t object,
		     struct hvmi_task *ret);

/* The page-table root of task->object as it is there now, into task->root and valid. */
void linux_task_root(const struct hvmi_os *os, struct hvmi_space *space, struct hvmi_task *task);

/* Of a running machine. */
/* task_settle() */
void linux_task_settle(const struct hvmi_os *os, struct hvmi_space *space, uint64_t object,
		       uint64_t *wait_ns, struct hvmi_task *ret);
/*
 * The mm of a task that was listed before, which may be 0. -ENOENT: the task has ended, and its
 * memory may be another's; -EFAULT: it cannot be read.
 */
int linux_task_mm(const struct hvmi_os *os, struct hvmi_space *space, const struct hvmi_task *task,
		  uint64_t *ret, struct hvmi_error *err);
/* Whether somebody is changing regions or paths: -EBUSY. */
int linux_regions_rest(const struct hvmi_os *os, struct hvmi_space *space, uint64_t mm,
		       struct hvmi_error *err);

/* Kernel's list of tasks, modules, regions: the methods of struct os_ops. */
int linux_task_begin(struct hvmi_os *os, uint32_t flags, struct task_reuse *reuse, void **state_ret,
		     struct hvmi_error *err);
int linux_task_next(void *state, struct hvmi_task *ret, struct hvmi_error *err);
void linux_task_end(void *state);
int linux_task_strings(struct hvmi_os *os, const struct hvmi_task *task, int which, char *buf,
		       size_t size, size_t *len_ret, struct hvmi_error *err);
int linux_stacks(struct hvmi_os *os, int (*each)(void *context, const struct os_stack *stack),
		 void *context, struct hvmi_error *err);
int linux_module_begin(struct hvmi_os *os, uint32_t flags, void **state_ret,
		       struct hvmi_error *err);
int linux_module_next(void *state, struct hvmi_module *ret, struct hvmi_error *err);
void linux_module_end(void *state);
int linux_region_begin(struct hvmi_os *os, const struct hvmi_task *task, uint32_t flags,
		       void **state_ret, struct hvmi_error *err);
int linux_region_next(void *state, struct hvmi_region *ret, struct hvmi_error *err);
void linux_region_end(void *state);

#endif

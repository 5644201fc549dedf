/* SPDX-License-Identifier: Apache-2.0 */
#include "space/cache.h"

struct translation {
	uint64_t gpa;
	uint32_t shift;		/* log2 of the page size */
	uint32_t fault;		/* enum hvmi_fault */
	uint64_t rights;	/* as rights_combine() makes them */
};

/*
 * What an entry that is not present means to Windows: the frame of a table or page that is in memory
 * all the same, or -EFAULT and why not.
 */
static int software_entry(struct hvmi_space *space, uint32_t index, uint64_t entry,
			  struct walk_record *record, uint64_t *frame_ret, uint32_t *fault_ret);
/* Its protection in the form of an entry. */
static uint64_t software_rights(uint64_t entry);

/* The walk, 4.3 to 4.5. The size of entries as a constant makes it a third faster. */
static inline __attribute__((always_inline)) int
walk_entries(struct hvmi_space *space, uint32_t entry_shift, uint64_t gva, struct translation *ret,
	     struct walk_record *record)
{
	uint64_t linear, table = space->root;
	ret->rights = RIGHTS_ALL;
	ret->fault = HVMI_FAULT_NONE;
	record->count = 0;
	if (!space_linear(space, gva, &linear)) {
		ret->fault = HVMI_FAULT_NON_CANONICAL;
		return -EFAULT;
	}
	for (uint32_t i = 0; i < space->level_count; i++) {
		const struct space_level *level = &space->levels[i];
		uint64_t index = linear >> level->shift & level->index_mask;
		uint64_t at = table + (index << entry_shift), entry = 0;
		int rc = space_entry_read(space, entry_shift, at, &entry);
		record->gpas[i] = at;
		record->values[i] = entry;
		record->count = i + 1;
		if (rc) {
			ret->fault = HVMI_FAULT_NO_MEMORY;
			return rc;
		}
		enum entry_kind kind = entry_kind(level, entry);
		uint64_t above = ret->rights;
		ret->rights = rights_combine(ret->rights, level, entry);
		if (kind == ENTRY_KIND_TABLE) {
			table = entry & space->table_mask;
			continue;
		}
		if (kind == ENTRY_KIND_PAGE) {
			ret->shift = level->shift;
			ret->gpa = entry_page(level, entry) |
				   (linear & ((1ull << level->shift) - 1));
			return 0;
		}
		ret->fault = kind == ENTRY_KIND_ABSENT ? HVMI_FAULT_NOT_PRESENT :
							 HVMI_FAULT_RESERVED;
		if (kind == ENTRY_KIND_ABSENT && entry && space->config.flags & HVMI_SPACE_WINDOWS) {
			uint64_t frame;
			rc = software_entry(space, i, entry, record, &frame, &ret->fault);
			if (rc)
				return rc;
			ret->fault = HVMI_FAULT_NONE;
			table = frame;
			if (level->shift > 12) {
				ret->rights = above;
				continue;
			}
			ret->rights = rights_combine(above, level, software_rights(entry));
			ret->shift = level->shift;
			ret->gpa = frame | (linear & (FRAME_SIZE - 1));
			return 0;
		}
		/* Zeros may be all that is left of a file that was cut short. */
		return entry ? -EFAULT : space_entry_lost(space, at);
	}
	/* Only a space without tables comes here. */
	ret->shift = space->address_bits;
	ret->gpa = linear;
	return 0;
}

static int walk(struct hvmi_space *space, uint64_t gva, struct translation *ret,
		struct walk_record *record)
{
	return space->entry_shift == 3 ? walk_entries(space, 3, gva, ret, record) :
					 walk_entries(space, 2, gva, ret, record);
}

/*
 * MMPTE_SOFTWARE, MMPTE_TRANSITION, MMPTE_PROTOTYPE, MMPTE_SUBSECTION: bits 5 to 9 protection, 10
 * prototype, 11 transition.
 */
#define SOFTWARE_PROTOTYPE (1ull << 10)
#define SOFTWARE_TRANSITION (1ull << 11)
#define SOFTWARE_FRAME 0x0000fffffffff000ull
#define SOFTWARE_FRAME_32 0xfffff000ull

static uint64_t software_rights(uint64_t entry)
{
	uint64_t access = entry >> 5 & 7;	/* MM_PROTECTION_MASK */
	return ENTRY_PRESENT | ENTRY_USER | (access >= 4 ? ENTRY_WRITE : 0) |
	       (access & 2 ? 0 : ENTRY_NX);
}

/*
 * Since the mitigation of L1TF, bits above physical memory are inverted in what is not present: a
 * frame that is no RAM may be one without them.
 */
static bool software_frame(const struct hvmi_space *space, uint64_t entry, uint64_t *ret)
{
	const struct hvmi_vm *vm = space->vm;
	uint64_t frame = entry & (space->entry_shift == 2 ? SOFTWARE_FRAME_32 : SOFTWARE_FRAME);
	if (!vm->range_count)
		return false;
	if (!vm_range_of(vm, frame)) {
		const struct vm_range *last = &vm->ranges[vm->range_count - 1];
		uint64_t max = last->gpa + last->len - 1;
		frame &= UINT64_MAX >> __builtin_clzll(max | 1);
		if (!vm_range_of(vm, frame))
			return false;
	}
	*ret = frame;
	return true;
}

/* Where a prototype PTE is, if this mode's entries tell. */
static bool prototype_address(const struct hvmi_space *space, uint64_t entry, uint64_t *ret)
{
	if (space->entry_shift == 2)
		return false;
	*ret = space->sign_extended ? (uint64_t)((int64_t)entry >> 16) : entry >> 32;
	/* All ones: what it is only the VAD tells. */
	return *ret >> 4 != (space->sign_extended ? UINT64_MAX >> 4 : UINT32_MAX >> 4) &&
	       *ret % 8 == 0 && *ret;
}

static __attribute__((noinline, cold)) int
software_entry(struct hvmi_space *space, uint32_t index, uint64_t entry, struct walk_record *record,
	       uint64_t *frame_ret, uint32_t *fault_ret)
{
	uint64_t gva;
	if (entry & SOFTWARE_PROTOTYPE) {
		*fault_ret = HVMI_FAULT_FILE;
		/* Without room for the proof, what changes in a running guest would not be seen. */
		if (space->levels[index].shift > 12 || record->count == SPACE_LEVELS_MAX ||
		    !prototype_address(space, entry, &gva))
			return -EFAULT;
		/* Prototypes are in memory of the kernel that is mapped as usual. */
		struct hvmi_space plain = *space;
		struct walk_record unused;
		struct translation t;
		plain.config.flags &= ~HVMI_SPACE_WINDOWS;
		if (walk(&plain, gva, &t, &unused) ||
		    space_entry_read(&plain, space->entry_shift, t.gpa, &entry))
			return -EFAULT;
		record->gpas[record->count] = t.gpa;
		record->values[record->count++] = entry;
		if (entry & ENTRY_PRESENT)
			return software_frame(space, entry, frame_ret) ? 0 : -EFAULT;
		if (entry & SOFTWARE_PROTOTYPE)
			return -EFAULT;
	}
	if (entry & SOFTWARE_TRANSITION && software_frame(space, entry, frame_ret))
		return 0;
	*fault_ret = entry & SOFTWARE_TRANSITION ? HVMI_FAULT_NOT_PRESENT :
		     (space->entry_shift == 2 ? entry >> 12 : entry >> 32) ? HVMI_FAULT_PAGE_FILE :
									     HVMI_FAULT_ZERO;
	return -EFAULT;
}

int space_begin(struct hvmi_space *space, uint64_t gva, struct space_use *use)
{
	struct space_cache *cache = space->cache;
	struct cached at;
	use->still = atomic_load_explicit(&space->vm->still, memory_order_acquire);
	if (cache && cache->still != use->still)
		cache_turn(cache, use->still);
	if (cache && cache_find(cache, gva, &at) &&
	    (use->still || cache_holds(space, at.set, at.way))) {
		use->cached = true;
		use->set = at.set;
		use->way = at.way;
		use->gpa = cache->gpas[at.set][at.way] + at.offset;
		use->left = at.left;
		return 0;
	}
	struct translation t;
	use->cached = false;
	/* Where nothing is going to be checked, nobody needs the record. */
	if (space->direct && use->still && space_quick_walk(space, gva, &use->gpa, &use->shift)) {
		use->left = (1ull << use->shift) - (use->gpa & ((1ull << use->shift) - 1));
		return 0;
	}
	int rc = walk(space, gva, &t, &use->record);
	if (rc)
		return rc;
	use->shift = t.shift;
	use->gpa = t.gpa;
	use->left = (1ull << t.shift) - (t.gpa & ((1ull << t.shift) - 1));
	return 0;
}

bool space_end(struct hvmi_space *space, uint64_t gva, const struct space_use *use)
{
	bool holds;
	fence_loads();
	if (use->still && atomic_load_explicit(&space->vm->still, memory_order_relaxed) == use->still)
		holds = true;
	else if (use->still)
		return false;	/* what it was made from is not remembered */
	else
		holds = use->cached ? cache_holds(space, use->set, use->way) :
				      record_holds(space, &use->record);
	if (holds && !use->cached)
		cache_fill(space, use->still, gva, use->gpa, use->shift, &use->record);
	return holds;
}

int space_resolve(struct hvmi_space *space, uint64_t gva, uint64_t *gpa_ret, uint64_t *left_ret)
{
	struct space_use use;
	int rc = space_begin(space, gva, &use);
	if (rc)
		return rc;
	if (!use.cached)
		cache_fill(space, use.still, gva, use.gpa, use.shift, &use.record);
	*gpa_ret = use.gpa;
	*left_ret = use.left;
	return 0;
}

HVMI_API int hvmi_space_translate(struct hvmi_space *space, uint64_t gva, uint64_t *gpa_ret)
{
	uint64_t left;
	uint32_t shift;
	if (space->direct && space->config.flags & HVMI_SPACE_UNCACHED &&
	    atomic_load_explicit(&space->vm->still, memory_order_acquire) &&
	    space_quick_walk(space, gva, gpa_ret, &shift))
		return 0;
	return space_resolve(space, gva, gpa_ret, &left);
}

static int walk_error(const struct hvmi_walk *walk, int rc, struct hvmi_error *err)
{
	static const char *const names[] = { "prototype PTE", "PTE", "PDE", "PDPTE", "PML4E", "PML5E" };
	unsigned long long gva = walk->gva;
	if (walk->fault == HVMI_FAULT_NON_CANONICAL)
		return hvmi_error_set(err, rc, gva, "0x%llx is no address of this paging mode",
				      gva);
	const struct hvmi_walk_entry *e = &walk->entries[walk->entry_count - 1];
	if (walk->fault == HVMI_FAULT_NO_MEMORY)
		return hvmi_error_set(err, rc, gva,
				      "0x%llx is not mapped: its %s is at guest-physical 0x%llx, "
				      "where memory cannot be read (%s)", gva, names[e->level],
				      (unsigned long long)e->gpa, hvmi_error_name(rc));
	static const char *const reasons[] = {
		[HVMI_FAULT_NOT_PRESENT] = "is not present",
		[HVMI_FAULT_RESERVED] = "has a reserved bit set",
		[HVMI_FAULT_PAGE_FILE] = "says that it is in the page file",
		[HVMI_FAULT_FILE] = "says that it is a part of a file that is not in memory",
		[HVMI_FAULT_ZERO] = "says that it has no memory yet: it reads as zeros",
	};
	const char *reason = reasons[walk->fault];
	return hvmi_error_set(err, rc, gva,
			      "0x%llx is not mapped: its %s at guest-physical 0x%llx, 0x%llx, %s",
			      gva, names[e->level], (unsigned long long)e->gpa,
			      (unsigned long long)e->value, reason);
}

HVMI_API int hvmi_space_walk(struct hvmi_space *space, uint64_t gva, struct hvmi_walk *ret,
			     struct hvmi_error *err)
{
	struct hvmi_walk trace = { .gva = gva, .gpa = HVMI_NO_ADDRESS };
	struct walk_record record;
	struct translation t;
	int rc = walk(space, gva, &t, &record);
	trace.entry_count = record.count;
	for (uint32_t i = 0; i < record.count; i++)
		trace.entries[i] = (struct hvmi_walk_entry){ .gpa = record.gpas[i],
							     .value = record.values[i],
							     .level = space->level_count - i };
	if (rc == 0) {
		trace.gpa = t.gpa;
		trace.page_size = 1ull << t.shift;
		trace.rights = rights_public(t.rights);
	} else {
		trace.fault = t.fault;
		if (trace.entry_count)
			trace.fault_level = trace.entries[trace.entry_count - 1].level;
		walk_error(&trace, rc, err);
	}
	if ((rc == 0 || rc == -EFAULT) && result_copy(ret, &trace, sizeof(trace)))
		return hvmi_error_set(err, -EINVAL, gva, "hvmi_walk.size is not set");
	return rc;
}

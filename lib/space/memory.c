/* SPDX-License-Identifier: Apache-2.0 */
#include "space/cache.h"

/* How much of a string is copied at once: most are short. */
#define STRING_STEP 256u

/* The common case of a read: the translation is in the cache, all of it is in one page. */
struct hit {
	const uint8_t *from;
	const struct cache_proof *proof;
	uint64_t still;
};

static inline __attribute__((always_inline)) bool find_hit(struct hvmi_space *space, uint64_t gva,
							    size_t len, struct hit *hit)
{
	struct space_cache *cache = space->cache;
	struct cached at;
	if (__builtin_expect(!cache, 0))
		return false;
	hit->still = atomic_load_explicit(&space->vm->still, memory_order_acquire);
	if (hit->still != cache->still || !cache_find(cache, gva, &at) || len > at.left)
		return false;
	const uint8_t *host = cache->sets[at.set].hosts[at.way];
	hit->proof = &cache->proofs[at.set][at.way];
	if (!host)
		return false;
	hit->from = host + at.offset;
	return true;
}

/* Was the copy good? */
static inline bool hit_holds(const struct hvmi_space *space, const struct hit *hit)
{
	bool holds;
	if (hit->still) {
		fence_loads();
		holds = atomic_load_explicit(&space->vm->still, memory_order_relaxed) == hit->still;
	} else {
		holds = !hit->proof->by_gpa && proof_holds(space, hit->proof);
	}
	return holds && !atomic_load_explicit(&guard_lost, memory_order_relaxed);
}

static inline __attribute__((always_inline)) void copy_hit(const struct hit *hit, void *buf, size_t len,
							   const struct space_piece *pieces,
							   uint32_t count)
{
	if (!pieces)
		memcpy(buf, hit->from, len);
	for (uint32_t i = 0; i < count; i++)
		memcpy((uint8_t *)buf + pieces[i].at, hit->from + pieces[i].from, pieces[i].len);
}

/* All of it, or the pieces; false: nothing was read. */
static inline __attribute__((always_inline)) bool read_hit(struct hvmi_space *space, uint64_t gva,
							   void *buf, size_t len,
							   const struct space_piece *pieces,
							   uint32_t count)
{
	struct hit hit;
	if (!find_hit(space, gva, len, &hit))
		return false;
	struct physmap *map = space->cache->map;
	if (!map) {
		copy_hit(&hit, buf, len, pieces, count);
		return hit_holds(space, &hit);
	}
	_Atomic(uint32_t) *inside = physmap_enter(map);
	bool holds = hit.proof->sequence == atomic_load(&map->sequence);
	if (holds) {
		copy_hit(&hit, buf, len, pieces, count);
		holds = hit_holds(space, &hit);
	}
	physmap_exit(inside);
	return holds;
}

bool space_read_pieces(struct hvmi_space *space, uint64_t object, size_t len,
		       const struct space_piece *pieces, uint32_t count, uint8_t *buf)
{
	return read_hit(space, object, buf, len, pieces, count);
}

/* Exactly one of to and from is given. Up to the end of the page at most. */
static int transfer_page(struct hvmi_space *space, uint64_t gva, void *to, const void *from,
			 size_t len, size_t *done_ret)
{
	for (int i = 0; i < SPACE_TRIES; i++) {
		struct space_use use;
		int rc = space_begin(space, gva, &use);
		if (rc)
			return rc;
		size_t n = MIN(len, use.left);
		rc = to ? hvmi_vm_read(space->vm, use.gpa, to, n, done_ret) :
			  hvmi_vm_write(space->vm, use.gpa, from, n, done_ret);
		/* What was written cannot be taken back; that it was true just before has to do. */
		if (space_end(space, gva, &use) || from)
			return rc;
	}
	*done_ret = 0;
	return -EBUSY;
}

static int transfer(struct hvmi_space *space, uint64_t gva, void *to, const void *from, size_t len,
		    size_t *done_ret)
{
	size_t done = 0;
	int rc = 0;
	while (done < len && !rc) {
		uint64_t at;
		size_t moved = 0;
		if (__builtin_add_overflow(gva, done, &at)) {
			rc = -EFAULT;
			break;
		}
		rc = transfer_page(space, at, to ? (char *)to + done : NULL,
				   from ? (const char *)from + done : NULL, len - done, &moved);
		done += moved;
	}
	if (done_ret)
		*done_ret = done;
	return rc;
}

static __attribute__((noinline)) int read_any(struct hvmi_space *space, uint64_t gva, void *buf,
					      size_t len, size_t *done_ret)
{
	if (!read_hit(space, gva, buf, len, NULL, 0))
		return transfer(space, gva, buf, NULL, len, done_ret);
	if (done_ret)
		*done_ret = len;
	return 0;
}

/* Numbers are most of what is read. Nothing is called on their way, so no register has to be saved. */
HVMI_API int hvmi_space_read(struct hvmi_space *space, uint64_t gva, void *buf, size_t len,
			     size_t *done_ret)
{
	struct hit hit;
	if ((len != 8 && len != 4) || !find_hit(space, gva, len, &hit) || space->cache->map)
		return read_any(space, gva, buf, len, done_ret);
	if (len == 8)
		memcpy(buf, hit.from, 8);
	else
		memcpy(buf, hit.from, 4);
	if (__builtin_expect(!hit_holds(space, &hit), 0))
		return read_any(space, gva, buf, len, done_ret);
	if (done_ret)
		*done_ret = len;
	return 0;
}

HVMI_API int hvmi_space_write(struct hvmi_space *space, uint64_t gva, const void *buf, size_t len,
			      size_t *done_ret)
{
	/* Whether writing is allowed does not hang on what is mapped. */
	int rc = hvmi_vm_write(space->vm, 0, buf, 0, NULL);
	if (rc) {
		if (done_ret)
			*done_ret = 0;
		return rc;
	}
	return transfer(space, gva, NULL, buf, len, done_ret);
}

HVMI_API int hvmi_space_read_string(struct hvmi_space *space, uint64_t gva, char *buf, size_t size,
				    size_t *len_ret)
{
	if (!buf || size == 0)
		return -EINVAL;
	size_t len = 0;
	int rc = -EOVERFLOW;
	while (len < size) {
		uint64_t at;
		if (__builtin_add_overflow(gva, len, &at)) {
			rc = -EFAULT;
			break;
		}
		size_t moved, n = MIN(size - len, STRING_STEP - at % STRING_STEP);
		int read_rc = hvmi_space_read(space, at, buf + len, n, &moved);
		const char *end = memchr(buf + len, 0, moved);
		if (end) {
			len = (size_t)(end - buf);
			rc = 0;
			break;
		}
		len += moved;
		if (read_rc) {
			rc = read_rc;
			break;
		}
	}
	len = MIN(len, size - 1);
	buf[len] = '\0';
	if (len_ret)
		*len_ret = len;
	return rc;
}

HVMI_API int hvmi_space_map(struct hvmi_space *space, uint64_t gva, size_t len, const void **ret)
{
	uint64_t first, left;
	int rc = space_resolve(space, gva, &first, &left);
	if (rc)
		return rc;
	/* Nothing can be mapped that is larger than RAM, so do not look at its pages. */
	if (len > space->vm->ram)
		return -EFAULT;
	for (uint64_t done = left; done < len; done += left) {
		uint64_t at, gpa;
		if (__builtin_add_overflow(gva, done, &at))
			return -EFAULT;
		rc = space_resolve(space, at, &gpa, &left);
		if (rc)
			return rc;
		if (gpa != first + done)
			return -ENOTSUP;
	}
	return hvmi_vm_map(space->vm, first, len, ret);
}

/* SPDX-License-Identifier: Apache-2.0 */
/* Routines that drivers asked the kernel to call. */
#include <hvmi/windows.h>

#include "os/windows/windows.h"

#define CALLBACKS_BOUND 4096u
#define ARRAY_COUNT_OLD 8u		/* of those that have 64 since Vista */

/* Arrays of _EX_FAST_REF to { EX_RUNDOWN_REF; Function; Context }, or lists of records. */
struct kind {
	enum hvmi_callback_kind kind;
	const char *symbol, *what;
	uint32_t count;			/* of an array; 0: it is a list */
	uint32_t first_major, last_major;
	/* Of records in lists, for 64 and 32 bits; 0: there is none. */
	uint8_t function[2], context[2], text[2], component[2];
};

/*
 * Registry: { LIST_ENTRY; ULONG[2]; LARGE_INTEGER Cookie; PVOID Context, Function; UNICODE_STRING
 * Altitude }. KBUGCHECK_CALLBACK_RECORD and KBUGCHECK_REASON_CALLBACK_RECORD: wdm.h.
 */
static const struct kind kinds[] = {
	{ HVMI_CALLBACK_PROCESS, "PspCreateProcessNotifyRoutine", "process callbacks", 64, 5, 99, { 0 },
	  { 0 }, { 0 }, { 0 } },
	{ HVMI_CALLBACK_THREAD, "PspCreateThreadNotifyRoutine", "thread callbacks", 64, 5, 99, { 0 },
	  { 0 }, { 0 }, { 0 } },
	{ HVMI_CALLBACK_IMAGE, "PspLoadImageNotifyRoutine", "image callbacks", 64, 5, 99, { 0 }, { 0 },
	  { 0 }, { 0 } },
	{ HVMI_CALLBACK_REGISTRY, "CmpCallBackVector", "registry callbacks", 100, 5, 5, { 0 }, { 0 },
	  { 0 }, { 0 } },
	{ HVMI_CALLBACK_REGISTRY, "CallbackListHead", "registry callbacks", 0, 6, 99, { 0x28, 0x1c },
	  { 0x20, 0x18 }, { 0x30, 0x20 }, { 0 } },
	{ HVMI_CALLBACK_BUGCHECK, "KeBugCheckCallbackListHead", "bug-check callbacks", 0, 5, 99,
	  { 0x10, 0x08 }, { 0x18, 0x0c }, { 0 }, { 0x28, 0x14 } },
	{ HVMI_CALLBACK_BUGCHECK_REASON, "KeBugCheckReasonCallbackListHead",
	  "bug-check reason callbacks", 0, 5, 99, { 0x10, 0x08 }, { 0 }, { 0 }, { 0x18, 0x0c } },
};

struct hvmi_callback_iter {
	struct hvmi_os *os;
	struct hvmi_space *space;
	uint32_t next_kind;		/* index in kinds */
	const struct kind *kind;	/* whose list or array is being read; NULL: none */
	uint64_t array;
	uint32_t index;
	struct list_walk walk;
	int damage;
	struct hvmi_error damage_text;
};

static bool kind_place(const struct hvmi_os *os, const struct kind *kind, uint64_t *ret)
{
	uint32_t major = windows_data(os)->id.major;
	return major >= kind->first_major && major <= kind->last_major &&
	       symbols_find(&os->profile->symbols, kind->symbol, ret) == 0;
}

HVMI_API int hvmi_callback_known(const struct hvmi_os *os, uint32_t kind)
{
	uint64_t gva;
	if (windows_only(os, NULL))
		return 0;
	for (size_t i = 0; i < ARRAY_SIZE(kinds); i++)
		if (kinds[i].kind == kind && kind_place(os, &kinds[i], &gva))
			return 1;
	return 0;
}

HVMI_API int hvmi_callback_iter_create(struct hvmi_os *os, struct hvmi_callback_iter **ret,
				       struct hvmi_error *err)
{
	uint32_t known = 0;
	uint64_t gva;
	int rc = windows_only(os, err);
	if (rc)
		return rc;
	for (size_t i = 0; i < ARRAY_SIZE(kinds); i++)
		known += kind_place(os, &kinds[i], &gva);
	if (!known)
		return windows_symbol(os, "callbacks", kinds[0].symbol, &gva, err);
	struct hvmi_callback_iter *iter = calloc(1, sizeof(*iter));
	if (!iter)
		return hvmi_error_set(err, -ENOMEM, HVMI_NO_ADDRESS, "out of memory");
	iter->os = os;
	rc = hvmi_os_kernel_space(os, &iter->space, err);
	if (rc) {
		free(iter);
		return rc;
	}
	*ret = iter;
	return 0;
}

HVMI_API void hvmi_callback_iter_destroy(struct hvmi_callback_iter *iter)
{
	if (!iter)
		return;
	hvmi_space_destroy(iter->space);
	free(iter);
}

/* The next entry of an array: 1, or 0 at its end. */
static int next_of_array(struct hvmi_callback_iter *iter, struct hvmi_callback *callback)
{
	const struct hvmi_os *os = iter->os;
	uint32_t n = windows_data(os)->pointer_bytes;
	uint32_t count = iter->kind->count;
	if (windows_data(os)->id.major < 6 && iter->kind->last_major > 5)
		count = ARRAY_COUNT_OLD;
	while (iter->index < count) {
		uint64_t block, function;
		if (windows_pointer_at(os, iter->space, iter->array + iter->index++ * n, &block)) {
			if (!iter->damage)
				iter->damage = hvmi_error_set(&iter->damage_text, -EFAULT, iter->array,
							      "the %s are not all in memory",
							      iter->kind->what);
			continue;
		}
		block = windows_fast_ref(os, block);
		/* Some of these arrays were shorter: what is behind leads to no routine. */
		if (!windows_is_kernel(os, block) ||
		    windows_pointer_at(os, iter->space, block + n, &function) ||
		    !windows_is_kernel(os, function))
			continue;
		callback->object = block;
		callback->function = function;
		windows_pointer_at(os, iter->space, block + 2 * n, &callback->context);
		return 1;
	}
	return 0;
}

static void read_record(struct hvmi_callback_iter *iter, uint64_t record,
			struct hvmi_callback *callback)
{
	const struct hvmi_os *os = iter->os;
	const struct kind *kind = iter->kind;
	uint32_t n = windows_data(os)->pointer_bytes, i = n == 8 ? 0 : 1;
	uint64_t text;
	char raw[32];
	callback->object = record;
	windows_pointer_at(os, iter->space, record + kind->function[i], &callback->function);
	if (kind->context[i])
		windows_pointer_at(os, iter->space, record + kind->context[i], &callback->context);
	if (kind->text[i] && windows_string(iter->space, record + kind->text[i], n, callback->detail,
					    sizeof(callback->detail), NULL))
		callback->detail[0] = '\0';
	if (kind->component[i] &&
	    windows_pointer_at(os, iter->space, record + kind->component[i], &text) == 0) {
		size_t len = 0;
		hvmi_space_read_string(iter->space, text, raw, sizeof(raw), &len);
		windows_latin1((const uint8_t *)raw, len, callback->detail, sizeof(callback->detail));
	}
}

HVMI_API int hvmi_callback_next(struct hvmi_callback_iter *iter, struct hvmi_callback *ret,
				struct hvmi_error *err)
{
	for (;;) {
		struct hvmi_callback callback = { .kind = iter->kind ? iter->kind->kind : 0 };
		int rc = 0;
		uint64_t link, place;
		if (iter->kind && !iter->kind->count) {
			struct hvmi_error text;
			rc = list_next(&iter->walk, &link, iter->kind->what, &text);
			if (rc == 1)
				read_record(iter, link, &callback);
			else if (rc && !iter->damage) {
				iter->damage = rc;
				iter->damage_text = text;
			}
		} else if (iter->kind) {
			rc = next_of_array(iter, &callback);
		}
		if (rc == 1) {
			if (result_copy(ret, &callback, sizeof(callback)))
				return hvmi_error_set(err, -EINVAL, HVMI_NO_ADDRESS,
						      "hvmi_callback.size is not set");
			return 1;
		}
		iter->kind = NULL;
		if (iter->next_kind == ARRAY_SIZE(kinds))
			break;
		const struct kind *kind = &kinds[iter->next_kind++];
		if (!kind_place(iter->os, kind, &place))
			continue;
		iter->kind = kind;
		iter->array = place;
		iter->index = 0;
		list_begin(&iter->walk, iter->space, place, windows_data(iter->os)->pointer_bytes,
			   CALLBACKS_BOUND);
	}
	int damage = iter->damage;
	iter->damage = 0;
	if (damage && err)
		*err = iter->damage_text;
	return damage;
}

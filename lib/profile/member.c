/* SPDX-License-Identifier: Apache-2.0 */
#include "profile/profile.h"

static bool is_member(const struct hvmi_member *member)
{
	return member->size >= sizeof(*member) && member->hop_count >= 1 &&
	       member->hop_count <= HVMI_PATH_HOPS &&
	       (member->pointer_bytes == 8 || member->pointer_bytes == 4);
}

static uint64_t pointer_mask(const struct hvmi_member *member)
{
	return member->pointer_bytes == 4 ? UINT32_MAX : UINT64_MAX;
}

/* Goes on behind hop `hop`, which led to `at`. *at_ret is also set on failure: what could not be read. */
static int follow_from(const struct hvmi_member *member, struct hvmi_space *space, uint32_t hop,
		       uint64_t at, uint64_t *at_ret)
{
	uint64_t mask = pointer_mask(member);

	for (uint32_t i = hop + 1; i < member->hop_count; i++) {
		uint8_t pointer[8] = {0};
		*at_ret = at & mask;
		int err = hvmi_space_read(space, at & mask, pointer, member->pointer_bytes, NULL);
		if (err < 0)
			return err;
		at = load_le64(pointer) + member->hops[i];
	}
	*at_ret = at & mask;
	return 0;
}

static int follow_hops(const struct hvmi_member *member, struct hvmi_space *space,
		       uint64_t object, uint64_t *at_ret)
{
	return follow_from(member, space, 0, object + member->hops[0], at_ret);
}

static bool is_number(const struct hvmi_member *member)
{
	if (member->kind != HVMI_TYPE_INTEGER && member->kind != HVMI_TYPE_ENUM &&
	    member->kind != HVMI_TYPE_POINTER)
		return false;
	if (member->bit_size)
		return member->bit_size <= 64 && member->bit_offset < 128;
	return member->bytes >= 1 && member->bytes <= 8;
}

struct number_place {
	uint32_t bits, first;	/* first: of the bytes' bits */
	uint32_t bytes, skip;	/* which hold it, behind what is skipped */
};

static struct number_place number_place(const struct hvmi_member *member)
{
	uint32_t bits = member->bit_size ? member->bit_size : (uint32_t)member->bytes * 8;
	uint32_t offset = member->bit_size ? member->bit_offset : 0, first = offset % 8;
	return (struct number_place){.bits = bits, .first = first, .bytes = (first + bits + 7) / 8,
				     .skip = offset / 8};
}

static uint64_t number_of(const struct hvmi_member *member, const struct number_place *place,
			  const uint8_t bytes[9])
{
	uint64_t value = load_le64(bytes) >> place->first;
	if (place->first)
		value |= (uint64_t)bytes[8] << (64 - place->first);
	value <<= 64 - place->bits;
	return member->flags & HVMI_TYPE_SIGNED ? (uint64_t)((int64_t)value >> (64 - place->bits))
						: value >> (64 - place->bits);
}

/* Reads the bytes that hold the number, and no others: behind them may be nothing. */
static int read_number(const struct hvmi_member *member, struct hvmi_space *space, uint64_t at,
		       uint64_t *ret)
{
	struct number_place place = number_place(member);
	uint8_t bytes[9] = {0};

	int err = hvmi_space_read(space, at + place.skip, bytes, place.bytes, NULL);
	if (err == 0)
		*ret = number_of(member, &place, bytes);
	return err;
}

int member_read_copied(const struct hvmi_member *member, struct hvmi_space *space,
		       const uint8_t *copy, uint64_t *ret)
{
	uint8_t bytes[9] = {0};
	uint64_t at;

	if (!is_member(member) || !is_number(member))
		return -EINVAL;
	if (member->hop_count == 1) {
		struct number_place place = number_place(member);
		memcpy(bytes, copy + place.skip, place.bytes);
		*ret = number_of(member, &place, bytes);
		return 0;
	}
	memcpy(bytes, copy, member->pointer_bytes);
	int err = follow_from(member, space, 1, load_le64(bytes) + member->hops[1], &at);
	return err < 0 ? err : read_number(member, space, at, ret);
}

HVMI_API int hvmi_member_address(const struct hvmi_member *member, struct hvmi_space *space,
				 uint64_t object, uint64_t *gva_ret)
{
	uint64_t at;

	if (!member || !space || !gva_ret || !is_member(member))
		return -EINVAL;
	int err = follow_hops(member, space, object, &at);
	if (err == 0)
		*gva_ret = at;
	return err;
}

HVMI_API int hvmi_member_read(const struct hvmi_member *member, struct hvmi_space *space,
			      uint64_t object, uint64_t *ret)
{
	uint64_t at;

	if (!member || !space || !ret || !is_member(member) || !is_number(member))
		return -EINVAL;
	int err = follow_hops(member, space, object, &at);
	return err < 0 ? err : read_number(member, space, at, ret);
}

HVMI_API int hvmi_profile_read(const struct hvmi_profile *profile, struct hvmi_space *space,
			       uint64_t object, const char *type, const char *path, uint64_t *ret,
			       struct hvmi_error *err)
{
	struct hvmi_member member = {.size = sizeof(member)};
	uint64_t at = object;

	if (!space || !ret)
		return hvmi_error_set(err, -EINVAL, HVMI_NO_ADDRESS,
				      "a space and a place for the number are needed");
	int status = hvmi_profile_member(profile, type, path, &member, err);
	if (status < 0)
		return status;
	if (!is_number(&member)) {
		char text[SPELLING_TEXT];
		types_spell(&profile->types, member.type, text, sizeof(text));
		return hvmi_error_set(err, -EINVAL, HVMI_NO_ADDRESS,
				      "'%s' of %s is no number of at most 8 bytes but %s", path,
				      type, text);
	}
	status = follow_hops(&member, space, object, &at);
	if (status == 0)
		status = read_number(&member, space, at, ret);
	if (status < 0)
		return hvmi_error_set(err, status, at,
				      "cannot read '%s' of the %s at 0x%llx: %s at 0x%llx", path,
				      type, (unsigned long long)object,
				      status == -EFAULT ? "nothing is mapped" : "memory fails",
				      (unsigned long long)at);
	return 0;
}

/* SPDX-License-Identifier: Apache-2.0 */
#include "profile/profile.h"

struct hvmi_profile *profile_create(void)
{
	struct hvmi_profile *profile = calloc(1, sizeof(*profile));
	if (profile)
		profile->pointer_bytes = 8;
	return profile;
}

void profile_destroy(struct hvmi_profile *profile)
{
	if (!profile)
		return;
	symbols_deinit(&profile->symbols);
	types_deinit(&profile->types);
	free(profile);
}

int hvmi_profile_symbol(const struct hvmi_profile *profile, const char *name, uint64_t *gva_ret,
			struct hvmi_error *err)
{
	if (!profile || !name || !gva_ret)
		return hvmi_error_set(err, -EINVAL, HVMI_NO_ADDRESS,
				      "a profile, a name and a place for the address are needed");
	if (symbols_find(&profile->symbols, name, gva_ret) == 0)
		return 0;
	if (profile->symbols.count == 0)
		return hvmi_error_set(err, -ENOENT, HVMI_NO_ADDRESS,
				      "symbol '%s': the symbols of this kernel are not known", name);
	return hvmi_error_set(err, -ENOENT, HVMI_NO_ADDRESS, "the kernel has no symbol '%s'", name);
}

int hvmi_profile_symbol_at(const struct hvmi_profile *profile, uint64_t gva,
			   struct hvmi_symbol *ret, uint64_t *offset_ret)
{
	struct hvmi_symbol symbol;
	uint32_t index;

	if (!profile || !ret)
		return -EINVAL;
	int err = symbols_at(&profile->symbols, gva, &index);
	if (err < 0)
		return err;
	symbols_get(&profile->symbols, index, &symbol);
	err = result_copy(ret, &symbol, sizeof(symbol));
	if (err == 0 && offset_ret)
		*offset_ret = gva - symbol.gva;
	return err;
}

int hvmi_profile_next_symbol(const struct hvmi_profile *profile, uint32_t *cursor,
			     struct hvmi_symbol *ret)
{
	struct hvmi_symbol symbol;

	if (!profile || !cursor || !ret)
		return -EINVAL;
	if (*cursor >= profile->symbols.count)
		return 0;
	symbols_get(&profile->symbols, *cursor, &symbol);
	int err = result_copy(ret, &symbol, sizeof(symbol));
	if (err < 0)
		return err;
	++*cursor;
	return 1;
}

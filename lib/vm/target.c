/* SPDX-License-Identifier: Apache-2.0 */
#include "vm/vm.h"

#define TARGET_MAX (64 * KIB)

static bool scheme_char(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-';
}

/* Ends the part at `text` in place, doubled commas made single; returns where the next begins. */
static char *split_part(char *text)
{
	char *to = text;
	for (; *text; text++) {
		if (*text == ',') {
			if (text[1] != ',') {
				*to = '\0';
				return text + 1;
			}
			text++;
		}
		*to++ = *text;
	}
	*to = '\0';
	return NULL;
}

int target_parse(const char *text, struct hvmi_target **ret, struct hvmi_error *err)
{
	size_t len = strlen(text);
	if (len == 0 || len > TARGET_MAX)
		return hvmi_error_set(err, -EINVAL, HVMI_NO_ADDRESS,
				      len ? "the target is longer than 64 KiB" :
					    "the target is empty: give a file, or SCHEME:WHAT");
	size_t scheme_len = 0;
	while (scheme_char(text[scheme_len]))
		scheme_len++;
	if (text[scheme_len] != ':' || scheme_len == 0)
		scheme_len = 0;

	size_t commas = 0;
	for (const char *c = text; *c; c++)
		commas += *c == ',';
	static const char fallback[] = "dump";
	struct hvmi_target *t = calloc(1, sizeof(*t));
	char *copy = malloc(sizeof(fallback) + len + 1);
	struct target_option *options = calloc(commas + 1, sizeof(*options));
	if (!t || !copy || !options) {
		free(t);
		free(copy);
		free(options);
		return hvmi_error_set(err, -ENOMEM, HVMI_NO_ADDRESS, "out of memory");
	}
	t->scheme = copy;
	t->options = options;
	if (scheme_len) {
		memcpy(copy, text, len + 1);
		copy[scheme_len] = '\0';
		t->what = copy + scheme_len + 1;
	} else {
		memcpy(copy, fallback, sizeof(fallback));
		t->what = memcpy(copy + sizeof(fallback), text, len + 1);
	}
	for (char *part = split_part(t->what), *next; part; part = next) {
		next = split_part(part);
		char *equals = strchr(part, '=');
		if (!equals || equals == part) {
			hvmi_error_set(err, -EINVAL, HVMI_NO_ADDRESS,
				       "'%s' in the target is no option: write option=value, and "
				       "double a comma that belongs to the name", part);
			target_free(t);
			return -EINVAL;
		}
		*equals = '\0';
		t->options[t->option_count++] =
			(struct target_option){ .name = part, .value = equals + 1 };
	}
	*ret = t;
	return 0;
}

void target_free(struct hvmi_target *target)
{
	if (!target)
		return;
	free(target->scheme);
	free(target->options);
	free(target);
}

HVMI_API const char *hvmi_target_what(const struct hvmi_target *target)
{
	return target->what;
}

HVMI_API const char *hvmi_target_option_next(const struct hvmi_target *target, const char *name,
					     size_t *cursor)
{
	while (*cursor < target->option_count) {
		struct target_option *option = &target->options[(*cursor)++];
		if (strcmp(option->name, name) == 0) {
			option->asked = true;
			return option->value;
		}
	}
	return NULL;
}

HVMI_API const char *hvmi_target_option(const struct hvmi_target *target, const char *name)
{
	size_t cursor = 0;
	return hvmi_target_option_next(target, name, &cursor);
}

HVMI_API int hvmi_parse_u64(const char *text, uint64_t *ret)
{
	bool hex = text[0] == '0' && (text[1] == 'x' || text[1] == 'X');
	const char *c = hex ? text + 2 : text;
	uint64_t value = 0;
	size_t digits = 0;
	for (;; c++, digits++) {
		unsigned digit = *c >= '0' && *c <= '9' ? (unsigned)(*c - '0') :
				 hex && *c >= 'a' && *c <= 'f' ? (unsigned)(*c - 'a' + 10) :
				 hex && *c >= 'A' && *c <= 'F' ? (unsigned)(*c - 'A' + 10) : 16;
		if (digit == 16)
			break;
		if (__builtin_mul_overflow(value, hex ? 16 : 10, &value) ||
		    __builtin_add_overflow(value, digit, &value))
			return -EOVERFLOW;
	}
	if (digits == 0)
		return -EINVAL;
	unsigned shift = 0;
	if (*c) {
		static const char suffixes[] = "KMGT";
		const char *suffix = strchr(suffixes, *c);
		if (!suffix || c[1])
			return -EINVAL;
		shift = 10 * (unsigned)(suffix - suffixes + 1);
	}
	if (value > UINT64_MAX >> shift)
		return -EOVERFLOW;
	*ret = value << shift;
	return 0;
}

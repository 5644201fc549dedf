/* SPDX-License-Identifier: Apache-2.0 */
#include <strings.h>

#include "tool.h"

static const char usage[] =
	"Usage: hvmi-registry TARGET [HIVE [KEY]] [--json]\n"
	"List hives of the registry of a Windows guest, or the subkeys and values of a key.\n"
	"\n"
	"HIVE is the end of its file's path, such as SYSTEM, or the address of its _CMHIVE.\n"
	"\n";

#define DATA_SHOWN 64u

static json_t *text_json(const char *text)
{
	return *text ? tool_json_text(text, strlen(text)) : json_null();
}

static void print_hive(struct tool *tool, const struct hvmi_hive *hive)
{
	if (tool->json) {
		tool_print(tool, tool_json_object(
			"path", text_json(hive->path), "mount", text_json(hive->mount),
			"root", hive->root == UINT32_MAX ? json_null() : tool_json_hex(hive->root),
			"object", tool_json_hex(hive->object), NULL));
		return;
	}
	char *path = tool_escape(hive->path, strlen(hive->path));
	char *mount = tool_escape(hive->mount, strlen(hive->mount));
	printf("%016" PRIx64 " %s%s%s\n", hive->object, *path ? path : "?", *mount ? " at " : "", mount);
	free(path);
	free(mount);
}

static bool is_wanted(const struct hvmi_hive *hive, const char *wanted)
{
	uint64_t address;
	if (hvmi_parse_u64(wanted, &address) == 0)
		return hive->object == address;
	size_t len = strlen(wanted), path = strlen(hive->path);
	return path >= len && strcasecmp(hive->path + path - len, wanted) == 0 &&
	       (path == len || hive->path[path - len - 1] == '\\');
}

/* As text, if that is what it is. */
static json_t *data_json(const struct hvmi_value *value)
{
	if (!value->data)
		return json_null();
	char *hex = malloc(2 * (size_t)value->bytes + 1);
	if (!hex)
		tool_die(TOOL_INTERNAL, "out of memory");
	hex[0] = '\0';
	for (uint32_t i = 0; i < value->bytes; i++)
		snprintf(hex + 2 * i, 3, "%02x", value->data[i]);
	json_t *json = json_string(hex);
	free(hex);
	return json;
}

static void print_data(const struct hvmi_value *value)
{
	uint32_t shown = value->bytes < DATA_SHOWN ? value->bytes : DATA_SHOWN;
	if (!value->data) {
		printf("not in memory");
	} else if (value->type == 1 || value->type == 2 || value->type == 7) {
		/* UTF-16: what is ASCII as it is, the rest as dots. */
		for (uint32_t i = 0; i + 1 < value->bytes && i < 4 * DATA_SHOWN; i += 2) {
			unsigned c = value->data[i] | value->data[i + 1] << 8;
			if (c || (value->type == 7 && i + 4 < value->bytes))
				putchar(c >= ' ' && c <= '~' ? (int)c : c ? '.' : '|');
		}
	} else if (value->type == 4 && value->bytes == 4) {
		printf("0x%02x%02x%02x%02x", value->data[3], value->data[2], value->data[1],
		       value->data[0]);
	} else {
		for (uint32_t i = 0; i < shown; i++)
			printf("%02x%s", value->data[i], i + 1 < shown ? " " : "");
		if (shown < value->bytes)
			printf(" ...");
	}
}

static json_t *list_subkeys(struct tool *tool, const struct hvmi_key *key)
{
	struct hvmi_key_iter *iter = NULL;
	struct hvmi_key sub = { .size = sizeof(sub) };
	json_t *array = tool->json ? json_array() : NULL;
	int rc = hvmi_key_iter_create(tool->os, key, &iter, &tool->err);
	if (!rc)
		while ((rc = hvmi_key_next(iter, &sub, &tool->err)) == 1) {
			if (array) {
				tool_json_append(array, tool_json_object(
					"name", tool_json_text(sub.name, strlen(sub.name)),
					"subkeys", tool_json_number(sub.subkeys),
					"values", tool_json_number(sub.values),
					"written_ns", tool_json_number(sub.written_ns), NULL));
				continue;
			}
			char *name = tool_escape(sub.name, strlen(sub.name));
			printf("%s\\\n", name);
			free(name);
		}
	if (rc < 0)
		tool_failed(tool, rc);
	hvmi_key_iter_destroy(iter);
	return array;
}

static json_t *list_values(struct tool *tool, const struct hvmi_key *key)
{
	struct hvmi_value_iter *iter = NULL;
	struct hvmi_value value = { .size = sizeof(value) };
	json_t *array = tool->json ? json_array() : NULL;
	int rc = hvmi_value_iter_create(tool->os, key, &iter, &tool->err);
	if (!rc)
		while ((rc = hvmi_value_next(iter, &value, &tool->err)) == 1) {
			if (array) {
				tool_json_append(array, tool_json_object(
					"name", tool_json_text(value.name, strlen(value.name)),
					"type", tool_json_number(value.type),
					"size", tool_json_number(value.bytes),
					"data", data_json(&value), NULL));
				continue;
			}
			char *name = tool_escape(value.name, strlen(value.name));
			printf("%s (%" PRIu32 ") = ", *name ? name : "(default)", value.type);
			free(name);
			print_data(&value);
			putchar('\n');
		}
	if (rc < 0)
		tool_failed(tool, rc);
	hvmi_value_iter_destroy(iter);
	return array;
}

static void show_key(struct tool *tool, const struct hvmi_hive *hive, const char *path)
{
	struct hvmi_key key = { .size = sizeof(key) };
	int rc = hvmi_key_find(tool->os, hive, path, &key, &tool->err);
	if (rc) {
		tool_failed(tool, rc);
		return;
	}
	json_t *subkeys = list_subkeys(tool, &key), *values = list_values(tool, &key);
	if (tool->json)
		tool_print(tool, tool_json_object(
			"name", tool_json_text(key.name, strlen(key.name)),
			"written_ns", tool_json_number(key.written_ns), "keys", subkeys,
			"values", values, NULL));
}

int main(int argc, char **argv)
{
	struct tool tool;
	tool_begin(&tool, usage, argc, argv);
	while (tool_option(&tool, NULL) != -1)
		;
	tool_operands(&tool, 1, 3);
	const char *wanted = tool.operand_count > 1 ? tool.operands[1] : NULL;
	tool_open_os(&tool);
	tool_list(&tool);

	struct hvmi_hive_iter *iter = NULL;
	struct hvmi_hive hive = { .size = sizeof(hive) };
	bool found = false;
	int rc = hvmi_hive_iter_create(tool.os, &iter, &tool.err);
	if (!rc)
		while ((rc = hvmi_hive_next(iter, &hive, &tool.err)) == 1) {
			if (!wanted) {
				print_hive(&tool, &hive);
			} else if (is_wanted(&hive, wanted)) {
				found = true;
				show_key(&tool, &hive, tool.operand_count > 2 ? tool.operands[2] : "");
				break;
			}
		}
	if (rc < 0)
		tool_failed(&tool, rc);
	else if (wanted && !found)
		tool_error(&tool, TOOL_PARTIAL, "there is no hive %s", wanted);
	hvmi_hive_iter_destroy(iter);
	return tool_end(&tool);
}

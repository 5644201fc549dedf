/* SPDX-License-Identifier: Apache-2.0 */
#include <inttypes.h>
#include <stdio.h>

#include <hvmi/windows.h>

#include "os/windows/windows.h"

#define SUB_AUTHORITIES_MAX 15u		/* SID_MAX_SUB_AUTHORITIES */
#define PRIVILEGES_MAX 64u
#define PRIVILEGE_BYTES 12u		/* LUID_AND_ATTRIBUTES */
#define PRIVILEGE_ENABLED 2u

/* [MS-DTYP] 2.4.2 */
static int sid_text(struct hvmi_space *space, uint64_t gva, char text[HVMI_SID_TEXT],
		    uint32_t *last_ret)
{
	uint8_t sid[8 + 4 * SUB_AUTHORITIES_MAX];
	int rc = hvmi_space_read(space, gva, sid, 8, NULL);
	if (rc)
		return rc;
	if (sid[0] != 1 || sid[1] > SUB_AUTHORITIES_MAX)
		return -EBADMSG;
	rc = hvmi_space_read(space, gva + 8, sid + 8, 4u * sid[1], NULL);
	if (rc)
		return rc;
	uint64_t authority = 0;
	for (size_t i = 2; i < 8; i++)
		authority = authority << 8 | sid[i];
	int len = snprintf(text, HVMI_SID_TEXT, "S-1-%" PRIu64, authority);
	for (size_t i = 0; i < sid[1]; i++)
		len += snprintf(text + len, HVMI_SID_TEXT - (size_t)len, "-%" PRIu32,
				load_le32(sid + 8 + 4 * i));
	*last_ret = sid[1] ? load_le32(sid + 8 + 4 * (sid[1] - 1)) : 0;
	return 0;
}

/* Until 2003 a list with the state of each; since Vista two masks. */
static void read_privileges(const struct hvmi_os *os, struct hvmi_space *space,
			    struct hvmi_token *token)
{
	uint64_t list, count;
	if (!windows_has(os, WINDOWS_TOKEN_PRIVILEGES))
		return;
	if (!windows_has(os, WINDOWS_TOKEN_PRIVILEGE_COUNT)) {
		uint64_t at = token->object + windows_offset(os, WINDOWS_TOKEN_PRIVILEGES);
		windows_read(os, space, WINDOWS_PRIVILEGES_PRESENT, at, &token->present);
		windows_read(os, space, WINDOWS_PRIVILEGES_ENABLED, at, &token->enabled);
		return;
	}
	if (windows_read(os, space, WINDOWS_TOKEN_PRIVILEGE_COUNT, token->object, &count) ||
	    windows_read_pointer(os, space, WINDOWS_TOKEN_PRIVILEGES, token->object, &list))
		return;
	for (uint64_t i = 0; i < MIN(count, PRIVILEGES_MAX); i++) {
		uint8_t entry[PRIVILEGE_BYTES];
		if (hvmi_space_read(space, list + i * sizeof(entry), entry, sizeof(entry), NULL))
			return;
		uint32_t luid = load_le32(entry);
		if (luid >= 64)
			continue;
		token->present |= UINT64_C(1) << luid;
		if (load_le32(entry + 8) & PRIVILEGE_ENABLED)
			token->enabled |= UINT64_C(1) << luid;
	}
}

static int read_token(const struct hvmi_os *os, struct hvmi_space *space, uint64_t process,
		      struct hvmi_token *token)
{
	uint64_t value, groups, sid, count;
	uint32_t last, n = windows_data(os)->pointer_bytes;
	char label[HVMI_SID_TEXT];
	int rc = windows_read_pointer(os, space, WINDOWS_PROCESS_TOKEN, process, &token->object);
	token->object = windows_fast_ref(os, token->object);
	if (!rc && !windows_is_kernel(os, token->object))
		rc = -EFAULT;
	if (!rc)
		rc = windows_read_pointer(os, space, WINDOWS_TOKEN_GROUPS, token->object, &groups);
	if (!rc)
		rc = windows_pointer_at(os, space, groups, &sid);
	if (!rc)
		rc = sid_text(space, sid, token->user, &last);
	if (rc)
		return rc;
	if (windows_read(os, space, WINDOWS_TOKEN_SESSION, token->object, &value) == 0)
		token->session = (uint32_t)value;
	if (windows_read(os, space, WINDOWS_TOKEN_INTEGRITY, token->object, &value) == 0 &&
	    windows_read(os, space, WINDOWS_TOKEN_GROUP_COUNT, token->object, &count) == 0 &&
	    value < count && windows_pointer_at(os, space, groups + value * 2 * n, &sid) == 0 &&
	    sid_text(space, sid, label, &last) == 0 && strncmp(label, "S-1-16-", 7) == 0)
		token->integrity = last;
	read_privileges(os, space, token);
	return 0;
}

HVMI_API int hvmi_token_read(struct hvmi_os *os, const struct hvmi_task *task,
			     struct hvmi_token *ret, struct hvmi_error *err)
{
	static const enum windows_member needed[] = { WINDOWS_PROCESS_TOKEN, WINDOWS_TOKEN_GROUPS };
	struct hvmi_token token = { 0 };
	struct hvmi_space *space;
	struct hvmi_task t;
	int rc = windows_only(os, err);
	if (!rc)
		rc = windows_require(os, "tokens", needed, ARRAY_SIZE(needed), err);
	if (rc)
		return rc;
	if (!task || options_copy(&t, sizeof(t), task))
		return hvmi_error_set(err, -EINVAL, HVMI_NO_ADDRESS,
				      "the task is not one that this library gave");
	rc = hvmi_os_kernel_space(os, &space, err);
	if (rc)
		return rc;
	rc = read_token(os, space, windows_task_process(os, space, &t), &token);
	hvmi_space_destroy(space);
	if (rc)
		return hvmi_error_set(err, rc, t.object, "the token of process %d cannot be read",
				      (int)t.tgid);
	if (result_copy(ret, &token, sizeof(token)))
		return hvmi_error_set(err, -EINVAL, HVMI_NO_ADDRESS, "hvmi_token.size is not set");
	return 0;
}

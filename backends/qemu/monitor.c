/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>
#include <string.h>

#include "monitor.h"

int monitor_gone(const struct monitor *m, struct hvmi_error *err)
{
	return hvmi_error_set(err, -ESRCH, HVMI_NO_ADDRESS,
			      "%s is gone: QEMU ended or closed its monitor", m->name);
}

void monitor_close(struct monitor *m)
{
	if (m->ops)
		m->ops->close(m->transport);
	m->ops = NULL;
}

static int out_of_memory(struct hvmi_error *err)
{
	return hvmi_error_set(err, -ENOMEM, HVMI_NO_ADDRESS, "out of memory");
}

static int malformed(const struct monitor *m, const char *name, struct hvmi_error *err)
{
	return hvmi_error_set(err, -EBADMSG, HVMI_NO_ADDRESS,
			      "%s answers '%s' with what is no QMP answer", m->name, name);
}

static int read_answer(const struct monitor *m, const char *name, const char *text, json_t **ret,
		       struct hvmi_error *err)
{
	json_t *answer = json_loads(text, 0, NULL);
	json_t *value = json_object_get(answer, "return"), *error = json_object_get(answer, "error");
	int rc = 0;
	if (value) {
		if (ret)
			*ret = json_incref(value);
	} else if (error) {
		const char *kind = json_string_value(json_object_get(error, "class"));
		const char *reason = json_string_value(json_object_get(error, "desc"));
		bool unknown = kind && !strcmp(kind, "CommandNotFound");
		rc = hvmi_error_set(err, unknown ? -ENOTSUP : -EIO, HVMI_NO_ADDRESS,
				    "QEMU of %s refuses '%s': %s", m->name, name,
				    reason ? reason : "it does not say why");
	} else {
		rc = malformed(m, name, err);
	}
	json_decref(answer);
	return rc;
}

static int command(struct monitor *m, const char *name, json_t *arguments, int fd, json_t **ret,
		   struct hvmi_error *err)
{
	if (m->gone) {
		json_decref(arguments);
		return monitor_gone(m, err);
	}
	json_t *request = json_pack("{s:s}", "execute", name);
	if (arguments && json_object_set_new(request, "arguments", arguments)) {
		json_decref(request);
		return out_of_memory(err);
	}
	char *text = json_dumps(request, JSON_COMPACT), *answer = NULL;
	json_decref(request);
	if (!text)
		return out_of_memory(err);
	int timeout_ms = m->late ? MONITOR_LATE_MS : MONITOR_TIMEOUT_MS;
	int rc = m->ops->execute(m->transport, text, fd, timeout_ms, &answer, err);
	free(text);
	m->late = rc == -ETIMEDOUT;
	if (rc == -ESRCH)
		m->gone = true;
	if (rc)
		return rc;
	rc = read_answer(m, name, answer, ret, err);
	free(answer);
	return rc;
}

int monitor_command(struct monitor *m, const char *name, json_t *arguments, json_t **ret,
		    struct hvmi_error *err)
{
	return command(m, name, arguments, -1, ret, err);
}

int monitor_command_fd(struct monitor *m, const char *name, json_t *arguments, int fd,
		       struct hvmi_error *err)
{
	return command(m, name, arguments, fd, NULL, err);
}

int monitor_hmp(struct monitor *m, int64_t cpu, const char *line, char **text_ret,
		struct hvmi_error *err)
{
	json_t *arguments = json_pack("{s:s}", "command-line", line), *result = NULL;
	if (cpu >= 0)
		json_object_set_new(arguments, "cpu-index", json_integer(cpu));
	int rc = monitor_command(m, "human-monitor-command", arguments, &result, err);
	if (rc)
		return rc;
	const char *text = json_string_value(result);
	char *copy = text ? strdup(text) : NULL;
	json_decref(result);
	if (!copy)
		return text ? out_of_memory(err) : malformed(m, line, err);
	*text_ret = copy;
	return 0;
}

int monitor_status(struct monitor *m, enum monitor_status *ret, struct hvmi_error *err)
{
	json_t *status;
	int rc = monitor_command(m, "query-status", NULL, &status, err);
	if (rc)
		return rc;
	const json_t *running = json_object_get(status, "running");
	const char *name = json_string_value(json_object_get(status, "status"));
	rc = json_is_boolean(running) && name ? 0 : malformed(m, "query-status", err);
	if (!rc)
		*ret = json_is_true(running) ? MONITOR_RUNS :
		       !strcmp(name, "debug") ? MONITOR_TRAPPED : MONITOR_STANDS;
	json_decref(status);
	return rc;
}

int monitor_drain(struct monitor *m)
{
	if (m->gone)
		return -ESRCH;
	uint32_t saw = 0;
	int rc = m->ops->drain(m->transport, &saw);
	m->saw = saw ? saw : m->saw;
	if (rc == -ESRCH)
		m->gone = true;
	return rc;
}
